#!/bin/sh
# Gives the interrupts of network cards their cores: /usr/local/lib/corelane/irq.sh
# corelane.service runs it as root before the broker. Numbers of interrupts change from boot to boot, so they are
# looked up by the card. Stop irqbalance, or ban it from the shards' cores: it moves them again.

# The cards.
NICS="@nics@"
# Cores without a shard, as in "2-3": all interrupts go to these. Or a list, as in "0 1 2 3", with a shard on
# every core: one each in turn.
CORES="@cores@"

set -- $CORES
for nic in $NICS; do
    device=/sys/class/net/$nic/device
    # a virtio device stands below the PCI device that has the interrupts
    for dir in "$device/msi_irqs" "$device/../msi_irqs"; do
        [ -d "$dir" ] || continue
        for irq in $(ls "$dir" | sort -n); do
            file=/proc/irq/$irq/smp_affinity_list
            [ -e "$file" ] || continue
            echo "$1" 2>/dev/null > "$file" || echo "corelane: interrupt $irq of $nic can't be moved" >&2
            first=$1
            shift
            set -- "$@" "$first"
        done
        break
    done
done
exit 0
