#!/usr/bin/env bash
# Draws where a broker's time goes under a load: a flame graph of all that the machine did for it,
# kernel workers included, without the load itself and other programs.
#
#   flamegraphs/record.sh WORKLOAD... [options]
#
#   unbatched     one record of 100 B a request, 64 connections, flushed
#   batched       64 KiB batches, 16 partitions, flushed
#   fetch-memory  1 MiB at a time, of what the broker has in memory
#   fetch-cold    1 MiB at a time, from the disk
#   partitions    1000 partitions, 20,000 records/s, linger 5 ms, flushed
#   all           all of them
#
#   --seconds S       recorded [6]
#   --frequency HZ    samples a second and core [1499]
#   --off-cpu         where threads wait: by time where the kernel has the tracepoint
#                     sched:sched_switch, else how often they went to sleep there
#   --broker-core N   core of the broker [0]
#   --load-core N     core of the load [1]
#   --dir DIR         a directory on the disk to measure [a new one in ${TMPDIR:-/tmp}]
#   --out DIR         where <date>-WORKLOAD.svg goes [flamegraphs]
#   --folded          and <date>-WORKLOAD.folded, the stacks as text
#
# Needs perf (apt install linux-perf) and root, or kernel.perf_event_paranoid of -1. Installs inferno
# with cargo if it is missing. Samples the clock where the machine counts no cycles (most virtual
# ones); the picture's title says what was sampled.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly ALL=(unbatched batched fetch-memory fetch-cold partitions)
readonly PORT=19392
workloads=() seconds=6 frequency=1499 off_cpu= folded= broker_core=0 load_core=1 dir= out=flamegraphs

die() { echo "record.sh: $*" >&2; exit "${2:-1}"; }
wrong() { echo "record.sh: $*, see --help" >&2; exit 2; }

while (($#)); do
    case $1 in
        -h | --help) sed -n '2,27s/^# \{0,1\}//p' "$0"; exit 0 ;;
        --off-cpu) off_cpu=yes ;;
        --folded) folded=yes ;;
        --seconds | --frequency | --broker-core | --load-core | --dir | --out)
            (($# > 1)) || wrong "$1 wants a value"
            name=${1#--}
            printf -v "${name//-/_}" %s "$2"
            shift
            ;;
        all) workloads+=("${ALL[@]}") ;;
        -*) wrong "unknown option $1" ;;
        *)
            [[ " ${ALL[*]} " == *" $1 "* ]] || wrong "unknown workload $1"
            workloads+=("$1")
            ;;
    esac
    shift
done
((${#workloads[@]})) || wrong "which workload?"
command -v perf >/dev/null || die "perf is missing: apt install linux-perf"
if ! command -v inferno-flamegraph >/dev/null; then
    echo "installing inferno" >&2
    cargo install --quiet --locked inferno
    PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
fi

work=$(mktemp -d "${dir:-${TMPDIR:-/tmp}}/corelane-profile.XXXXXX")
broker= load=
clean() {
    set +e
    for pid in $load $broker; do kill "$pid" && wait "$pid"; done 2>/dev/null
    rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM

# with the symbols that release builds have, and frames that perf can walk
export RUSTFLAGS="${RUSTFLAGS:-} -C force-frame-pointers=yes"
target=${CARGO_TARGET_DIR:-target}/profile
cargo build --release --quiet --bin corelane --target-dir "$target"
corelane=$target/release/corelane

# Whether perf can sample this event.
has() { perf record -q -a -e "$1" -o "$work/probe" -- true 2>/dev/null; }

if [[ $off_cpu ]]; then
    if has sched:sched_switch; then
        event=sched:sched_switch sampling=(-e sched:sched_switch)
    else
        event=context-switches sampling=(-e context-switches -c 1)
    fi
else
    event=cpu-clock
    if has cycles; then event=cycles; fi
    sampling=(-e "$event" -F "$frequency")
fi

# $1 is the workload: what the broker is told beside its defaults, and what the load is.
settings_of() {
    # so little memory that nothing of what is read is in it; segments are written past the page cache
    [[ $1 != fetch-cold ]] || echo --override corelane.memory.bytes=64MiB
}
load_of() {
    local long=$((seconds + 6))
    case $1 in
        unbatched) echo produce --record-bytes 100 --batch-bytes 1 --partitions 64 --producers 64 \
            --depth 1 --duration $long ;;
        batched) echo produce --partitions 16 --producers 16 --duration $long ;;
        fetch-memory) echo mixed --partitions 1 --fill 100000 --rate 1000 --duration $long ;;
        fetch-cold) echo consume --partitions 4 --consumers 4 --fill 6000000 ;;
        partitions) echo produce --batch-bytes 16384 --partitions 1000 --producers 16 --rate 20000 \
            --linger-ms 5 --duration $long ;;
    esac
}

# Waits until the file has this line; fails if the process ends first.
await() {
    until grep -q "$2" "$1" 2>/dev/null; do
        kill -0 "$3" 2>/dev/null || die "it ended early: $(tail -n 5 "$1")"
        sleep 0.05
    done
}

record() {
    local workload=$1 name
    name=$(date +%F)-$workload${off_cpu:+-off-cpu}
    rm -rf "$work/data"
    # shellcheck disable=SC2046 # words
    taskset -c "$broker_core" "$corelane" serve --listen 127.0.0.1:$PORT --data "$work/data" --cores 1 \
        $(settings_of "$workload") >"$work/broker.log" 2>&1 &
    broker=$!
    await "$work/broker.log" serves: $broker
    # shellcheck disable=SC2046
    "$corelane" bench $(load_of "$workload") --bootstrap 127.0.0.1:$PORT --core "$load_core" \
        --no-ceiling --color never >"$work/load.log" 2>&1 &
    load=$!
    # its first line a second says that it is under way
    await "$work/load.log" '^ *1 s' $load
    perf record -q -a -g "${sampling[@]}" -o "$work/perf.data" -- sleep "$seconds"
    kill $load 2>/dev/null || true
    wait $load 2>/dev/null || true
    kill $broker && wait $broker
    perf script -i "$work/perf.data" -F comm,pid,tid,time,event,ip,sym,dso 2>/dev/null >"$work/script"
    # the broker with its workers, and the kernel
    inferno-collapse-perf --pid <"$work/script" 2>/dev/null |
        grep -E "^([^;]*-$broker|(kworker|ksoftirqd|jbd2|loop|kswapd|kcompactd)[^;]*);" |
        sed -E 's/^(kworker)[^;]*/\1/; s/^(iou-wrk)[^;]*/\1/; s/^([^;]*[^;0-9-])-[0-9]+;/\1;/' >"$work/folded"
    [[ -s $work/folded ]] || die "perf saw nothing of the broker"
    mkdir -p "$out"
    inferno-flamegraph --title "$workload, sampled: $event, $(uname -r)" --hash \
        --subtitle "$(load_of "$workload")" <"$work/folded" >"$out/$name.svg"
    [[ -z $folded ]] || cp "$work/folded" "$out/$name.folded"
    echo "$out/$name.svg"
    # the ten places where most samples end; all that wait end in the scheduler
    [[ $off_cpu ]] || awk '{ n = $NF; sub(/ [0-9]+$/, ""); k = split($0, frames, ";"); self[frames[k]] += n; all += n }
        END { for (frame in self) printf "%6.2f %%  %s\n", 100 * self[frame] / all, frame }' "$work/folded" |
        sort -rn | sed -n 1,10p
    broker= load=
}

for workload in "${workloads[@]}"; do record "$workload"; done
