#!/bin/sh
# Sets for a Corelane broker what neither sysctl nor udev keeps over a boot: the clock and the idle states of
# its cores, huge pages. corelane.service runs it as root before the broker: /usr/local/lib/corelane/boot.sh
# `corelane tune apply` writes a line for each setting that is worse on the machine.

# What is not there after a boot is no reason to go without a broker.
put() {
    if [ -w "$1" ]; then
        printf '%s\n' "$2" > "$1"
    else
        echo "corelane: $1 can't be set to $2" >&2
    fi
}

put @path@ @value@
exit 0
