#!/bin/sh
# Gives the interrupts of network cards their cores: /usr/local/lib/corelane/irq.sh
# corelane.service runs it as root before the broker. Numbers of interrupts change from boot to boot, so they are
# looked up by the card. Stop irqbalance, or ban it from the shards' cores: it moves them again.

# A card and its cores: "2-3", cores without a shard, for all its interrupts; or "0 1 2 3", the shards' own, for one
# each in turn.
spread() {
    nic=$1
    shift
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
}

spread @nic@ @cores@
exit 0
