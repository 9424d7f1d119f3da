#!/usr/bin/env bash
# The least that a broker can do, benches/floor: a request's bytes are summed, written once and in
# a row, flushed where it is asked for, and answered. Nothing can be read from it. Its commands: see
# corelane.sh.
set -euo pipefail
: "${CORELANE:?the binary, beside which the floor is}"
case $1 in
    about) echo "floor: receive, sum, write, flush, answer" ;;
    takes) echo "produce ping" ;;
    prepare) mkdir -p "$3" ;;
    run)
        flush=
        [[ $2 == flushed ]] || flush=--no-flush
        exec "$(dirname "$CORELANE")/corelane-floor" kafka --listen "127.0.0.1:$4" \
            --file "$3/ring" $flush
        ;;
esac
