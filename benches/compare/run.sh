#!/usr/bin/env bash
# Corelane beside other brokers: the same loads, the same disk, the same cores, in turn.
#
#   benches/compare/run.sh [--quick|--full] [options]
#
#   --quick             one round of short runs, some minutes (the default)
#   --full              five rounds, two hours
#   --rounds N          so many rounds
#   --seconds S         measured in each run
#   --only PATTERN      only the loads whose names have it, a regular expression
#   --peers A,B         scripts of benches/compare/peers, as floor [corelane,kafka]
#   --broker-cores LIST cores of the brokers [0]; Corelane gets one shard on the first
#   --load-core N       core of the load [1]
#   --dir DIR           a directory on the disk to measure [a fresh ext4 image on a loop device]
#   --image-gib N       size of that image, which lies in ${TMPDIR:-/tmp} [12, with --full 32]
#   --out DIR           results [benches/results/<date>-kafka]
#
# Needs root for the image and to set the congestion control (cubic, put back at the end).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

dir= gib= full= congestion= image= loop= mount=
passed=()
while (($#)); do
    case $1 in
        -h | --help) sed -n '2,19s/^# \{0,1\}//p' benches/compare/run.sh; exit 0 ;;
        --dir) dir=$2; shift ;;
        --image-gib) gib=$2; shift ;;
        --full) full=yes; passed+=("$1") ;;
        *) passed+=("$1") ;;
    esac
    shift
done

clean() {
    # each step, whatever became of the others
    set +e
    [[ -z $congestion ]] || echo "$congestion" >/proc/sys/net/ipv4/tcp_congestion_control
    [[ -z $mount ]] || { umount "$mount" || umount -l "$mount"; rmdir "$mount"; }
    [[ -z $loop ]] || losetup -d "$loop"
    [[ -z $image ]] || rm -f "$image"
}
trap clean EXIT
trap 'exit 130' INT TERM

tests/run --install --only clients >/dev/null || echo "some peers may be missing" >&2
cargo build --release --quiet
target=$(cargo metadata --format-version 1 --no-deps | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
export CORELANE=$target/release/corelane KAFKA_JARS=$PWD/tests/.cache/jars

if [[ -z $dir ]]; then
    # what one run writes at most, and the topic of the one before, which is deleted meanwhile
    gib=${gib:-$([[ $full ]] && echo 32 || echo 12)}
    image=$(mktemp "${TMPDIR:-/tmp}/corelane-compare.XXXXXX")
    # written, so that no run pays for the first use of its blocks
    dd if=/dev/zero of="$image" bs=4M count=$((gib * 256)) status=none
    loop=$(losetup --direct-io=on --show -f "$image")
    mkfs.ext4 -q -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 "$loop"
    mount=$(mktemp -d)
    mount "$loop" "$mount"
    dir=$mount
fi
if [[ -w /proc/sys/net/ipv4/tcp_congestion_control ]]; then
    congestion=$(</proc/sys/net/ipv4/tcp_congestion_control)
    echo cubic >/proc/sys/net/ipv4/tcp_congestion_control
fi
python3 benches/compare/compare.py --dir "$dir" ${passed[@]+"${passed[@]}"}
