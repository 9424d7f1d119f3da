#!/usr/bin/env bash
# Corelane, built by run.sh. A peer is a script with these commands:
#   about                       name and version
#   takes                       which loads of `corelane bench` it can answer
#   prepare CLASS DIR PORT      once, before the first start in a new directory
#   run CLASS DIR PORT          the broker in the foreground, on the cores that it is started on
# CLASS is flushed (an ack comes after the flush) or acked (before it). With LITTLE_MEMORY in its
# environment a broker keeps no records in memory of its own, where it does that.
set -euo pipefail
: "${CORELANE:?the binary}"
case $1 in
    about) "$CORELANE" --version ;;
    takes) echo "produce consume e2e backlog mixed ping" ;;
    prepare) mkdir -p "$3/data" ;;
    run)
        policy=group
        [[ $2 == flushed ]] || policy=interval
        memory=auto
        [[ -z ${LITTLE_MEMORY-} ]] || memory=64MiB
        exec "$CORELANE" serve --listen "127.0.0.1:$4" --data "$3/data" --cores 1 \
            --override corelane.flush.policy=$policy --override corelane.memory.bytes=$memory
        ;;
esac
