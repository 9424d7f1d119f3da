//! Lanes: shards shown to a client as nodes.
//!
//! Lane 0 carries the machine's node id, lane n that id plus n times a million. Lane ids exist only
//! in answers that are being encoded and in requests that are being decoded; nothing behind that
//! line knows them.

use crate::base::ids::{NodeId, PartitionId, ShardId};
use crate::broker::placement::Placement;

/// Distance of the ids of two neighbouring lanes. Machines have node ids below it.
pub const LANE_STRIDE: i32 = 1_000_000;

/// The id under which a shard of a machine is shown.
pub fn node(machine: NodeId, lane: ShardId) -> NodeId {
    NodeId(machine.0 + i32::from(lane.0) * LANE_STRIDE)
}

/// The machine behind an id that a client names: lanes fold into it.
pub fn machine(shown: NodeId) -> NodeId {
    if shown.0 < 0 {
        shown
    } else {
        NodeId(shown.0 % LANE_STRIDE)
    }
}

/// What one client is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneView {
    /// Lanes in the answer; 1 means the machine as one node.
    pub lanes: u16,
    /// The port of lane 0 where each lane has its own (lane n listens on this plus n).
    pub first_port: Option<u16>,
}

impl LaneView {
    /// The machine as one node.
    pub const ONE_NODE: LaneView = LaneView {
        lanes: 1,
        first_port: None,
    };

    /// The node that this client is told leads a partition of the topic with this ordinal. With
    /// fewer lanes shown than there are shards the rest fold onto those shown; what arrives there
    /// is forwarded.
    pub fn leader(
        &self,
        machine: NodeId,
        placement: &Placement,
        ordinal: u64,
        partition: PartitionId,
    ) -> NodeId {
        let owner = placement.owner(ordinal, partition);
        node(machine, ShardId(owner.0 % self.lanes))
    }

    /// The nodes that this client is shown, with each one's port where the listener's is `port`.
    pub fn nodes(&self, machine: NodeId, port: u16) -> impl Iterator<Item = (NodeId, u16)> + use<> {
        let first = self.first_port;
        (0..self.lanes).map(move |n| (node(machine, ShardId(n)), first.map_or(port, |p| p + n)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lane_ids_fold_back_to_the_machine() {
        for lane in [0, 1, 63] {
            assert_eq!(machine(node(NodeId(7), ShardId(lane))), NodeId(7));
        }
        assert_eq!(machine(NodeId(-1)), NodeId(-1), "no id stays no id");
    }

    #[test]
    fn a_client_without_lanes_sees_one_leader() {
        let placement = Placement::new(4);
        for p in 0..8 {
            let leader = LaneView::ONE_NODE.leader(NodeId(3), &placement, 5, PartitionId(p));
            assert_eq!(leader, NodeId(3));
        }
    }

    #[test]
    fn lanes_have_their_own_port_only_where_they_were_given_one() {
        let shared = LaneView {
            lanes: 2,
            first_port: None,
        };
        assert_eq!(
            shared.nodes(NodeId(1), 9092).collect::<Vec<_>>(),
            [(NodeId(1), 9092), (NodeId(1_000_001), 9092)]
        );
        let own = LaneView {
            lanes: 2,
            first_port: Some(9100),
        };
        assert_eq!(
            own.nodes(NodeId(1), 9092).collect::<Vec<_>>(),
            [(NodeId(1), 9100), (NodeId(1_000_001), 9101)]
        );
    }
}
