//! A partition as its journal sees it.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::base::ids::{Offset, PartitionKey};
use crate::base::limits::PAGE_BYTES;
use crate::log::commit::space::Pins;
use crate::log::journal::entry::{BATCH_HEADER_BYTES, ITEM_BYTES};
use crate::log::partition::Partition;
use crate::log::segment::Place;

/// A batch that goes to its segment before the journal names it.
#[derive(Clone, Debug)]
pub(crate) struct Bypassed {
    pub place: Place,
    pub head: [u8; BATCH_HEADER_BYTES],
    pub last_offset: Offset,
    pub len: u32,
}

/// Bytes of the ring that a partition's pointers may need: a page for the rest of its last page,
/// one for an entry of its own, and for each batch its header and a line of the list.
const POINTER_FIRST_BYTES: u64 = 3 * PAGE_BYTES as u64;
const POINTER_BYTES: u64 = (BATCH_HEADER_BYTES + ITEM_BYTES) as u64;

/// What so many batches of one partition may need of the ring.
pub(crate) fn pointer_bytes(batches: usize) -> u64 {
    match batches {
        0 => 0,
        n => POINTER_FIRST_BYTES + n as u64 * POINTER_BYTES,
    }
}

/// See the module.
pub(crate) struct Slot {
    pub partition: Rc<Partition>,
    pub key: PartitionKey,
    pub generation: u32,
    /// The topic asks for the broker's time.
    pub append_time: bool,
    /// Entries that hold bytes of it which are in no segment.
    pub pins: Pins,
    /// Below it every byte is durable in its segments.
    pub synced: Place,
    /// Number of the newest group that it is in, its line there, and its bytes.
    pub group: u64,
    pub line: usize,
    pub group_bytes: usize,
    /// An entry says that it is deleted: a table that frees that entry must say so too.
    pub dropping: bool,
    /// Its state is not in the table yet.
    pub changed: bool,
    /// The table says something of it.
    pub tabled: bool,
    /// The table says all that the entries up to here did to it.
    pub tabled_through: u64,
    /// Files or names of it wait for a flush.
    pub dirty: bool,
    /// Its files are being flushed.
    pub flushing: bool,
    /// Has enough whole pages to drain, and no drain took it on since.
    pub queued: bool,
    /// Stands in the queue of those, or did when another drain took it on.
    pub in_ready: bool,
    /// What the directory keeps for it.
    pub claimed: u64,
    /// End of the tail that was carried last, and how often it was.
    pub carried: (Place, u32),
    /// Batches on the way past the journal; a task takes them while there are any.
    pub bypass: VecDeque<Bypassed>,
    pub bypassing: bool,
}

impl Slot {
    pub fn new(partition: Rc<Partition>, generation: u32, append_time: bool) -> Slot {
        let end = partition.end_place();
        Slot {
            key: partition.key(),
            partition,
            generation,
            append_time,
            pins: Pins::default(),
            synced: end,
            group: 0,
            line: 0,
            group_bytes: 0,
            dropping: false,
            changed: false,
            tabled: false,
            tabled_through: 0,
            dirty: false,
            flushing: false,
            queued: false,
            in_ready: false,
            claimed: 0,
            carried: (end, 0),
            bypass: VecDeque::new(),
            bypassing: false,
        }
    }

    /// Its line in the group that fills, if it has one.
    pub fn line_in(&self, group: u64) -> Option<usize> {
        (self.group == group).then_some(self.line)
    }
}
