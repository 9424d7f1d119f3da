//! How a partition comes to life: new, or as a clean stop or a recovery left it.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::rc::Rc;

use crate::base::ids::Offset;
use crate::log::aside::set_aside;
use crate::log::epochs::LeaderEpochs;
use crate::log::format::names::{self, Kind};
use crate::log::format::partition_metadata;
use crate::log::partition::Partition;
use crate::log::partition::context::{PartitionContext, PartitionSpec};
use crate::log::partition::error::LogError;
use crate::log::partition::facts::{PartitionFacts, SegmentFacts};
use crate::log::partition::observers::Observers;
use crate::log::partition::segment::Segment;
use crate::log::partition::state::State;
use crate::log::producers::ProducerStates;
use crate::ring::Ring;
use crate::ring::driver::OpenOptions;
use crate::ring::sync::Event;

impl Partition {
    /// A partition that is new: makes its directory and `partition.metadata`. Neither is durable
    /// until the directories that [`Partition::take_dirty`] names are flushed.
    ///
    /// # Errors
    /// The operating system's.
    pub fn create(
        context: &Rc<PartitionContext>,
        spec: PartitionSpec,
    ) -> Result<Rc<Partition>, LogError> {
        let ring = &context.ring;
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| LogError::Io { path, source }
        };
        clear_way(ring, &spec).map_err(io(&spec.dir))?;
        ring.create_dir_all(&spec.dir).map_err(io(&spec.dir))?;
        let path = spec.dir.join(partition_metadata::FILE_NAME);
        let options = OpenOptions {
            write: true,
            create: true,
            truncate: true,
            ..OpenOptions::default()
        };
        ring.open(&path, options)
            .and_then(|file| file.write_now(&partition_metadata::encode(spec.key.topic), 0))
            .map_err(io(&path))?;
        let facts = PartitionFacts::empty(Offset(0), ring.wall().0);
        let partition = Partition::assemble(context, spec, VecDeque::new(), &facts);
        let mut state = partition.state.borrow_mut();
        let jitter = ring.random();
        state.segments = VecDeque::from([Segment::begin(Offset(0), ring.wall().0, jitter)]);
        state.new_names = true;
        state.new_metadata = true;
        drop(state);
        Ok(partition)
    }

    /// A partition whose bytes are all in its files: `facts` as a clean stop or a recovery left
    /// them. Lists the directory, reads nothing.
    ///
    /// # Errors
    /// The operating system's, or a segment's file that is missing or of another length.
    pub fn open(
        context: &Rc<PartitionContext>,
        spec: PartitionSpec,
        facts: &PartitionFacts,
    ) -> Result<Rc<Partition>, LogError> {
        let ring = &context.ring;
        let active = *facts.active();
        let mut older: Vec<(Offset, u64)> = Vec::new();
        let mut active_len = None;
        let entries = ring.read_dir(&spec.dir).map_err(|source| LogError::Io {
            path: spec.dir.clone(),
            source,
        })?;
        for entry in entries {
            if let Some((base, Kind::Log)) = names::parse_file(&entry.name) {
                match base.cmp(&active.base) {
                    std::cmp::Ordering::Less => older.push((base, entry.len)),
                    std::cmp::Ordering::Equal => active_len = Some(entry.len),
                    std::cmp::Ordering::Greater => {}
                }
            }
        }
        if active_len.unwrap_or(0) != active.len {
            return Err(LogError::Damaged {
                path: names::file(&spec.dir, active.base, Kind::Log),
                what: match active_len {
                    Some(len) => format!(
                        "{len} bytes are there, {} were recorded: someone else wrote here, or the disk lost it. Put the file back as it was, or delete the topic",
                        active.len
                    ),
                    None => format!("missing, {} bytes were recorded", active.len),
                },
            });
        }
        check_sealed(&spec.dir, facts, &older)?;
        let mut segments = VecDeque::with_capacity(older.len() + 1);
        for (i, (base, len)) in older.iter().enumerate() {
            let end = older.get(i + 1).map_or(active.base, |(next, _)| *next);
            let sealed = SegmentFacts {
                base: *base,
                len: *len,
                end,
                largest: None,
                first_timestamp: None,
                created: active.created,
                last_batch: None,
            };
            segments.push_back(Segment::open(&sealed, 0));
        }
        let mut last = Segment::open(&active, ring.random());
        last.on_disk = active_len.is_some();
        segments.push_back(last);
        Ok(Partition::assemble(context, spec, segments, facts))
    }

    fn assemble(
        context: &Rc<PartitionContext>,
        spec: PartitionSpec,
        segments: VecDeque<Segment>,
        facts: &PartitionFacts,
    ) -> Rc<Partition> {
        let mut producers = ProducerStates::default();
        for (id, producer) in &facts.producers {
            producers.insert(*id, producer.clone());
        }
        let end = facts.end();
        Rc::new_cyclic(|this| Partition {
            id: context.id(),
            context: context.clone(),
            key: spec.key,
            topic: spec.topic,
            dir: RefCell::new(spec.dir),
            log_start: Cell::new(facts.log_start),
            log_end: Cell::new(end),
            written_end: Cell::new(end),
            durable_end: Cell::new(end),
            leader_epoch: Cell::new(spec.leader_epoch),
            undrained: Cell::new(0),
            undrained_of_all: OnceCell::new(),
            unreserved: Cell::new(0),
            busy: Cell::new(false),
            idle: Event::new(),
            gone: Cell::new(false),
            rotten: Cell::new(None),
            durable_moved: Event::new(),
            observers: Observers::default(),
            this: this.clone(),
            state: RefCell::new(State {
                segments,
                epochs: LeaderEpochs::from_starts(facts.epochs.clone()),
                producers,
                config: spec.config,
                leader_epoch: spec.leader_epoch,
                log_start: facts.log_start,
                durable: facts.end_place(),
                durable_end: end,
                next: None,
                cuts: 0,
                new_names: false,
                new_metadata: false,
            }),
        })
    }
}

/// Sealed segments are as long as the last clean stop saw them. Those below the log's start may be
/// gone.
fn check_sealed(
    dir: &Path,
    facts: &PartitionFacts,
    found: &[(Offset, u64)],
) -> Result<(), LogError> {
    let ends = facts.sealed.iter().skip(1).map(|(next, _)| *next);
    let ends = ends.chain([facts.active().base]);
    for ((base, recorded), end) in facts.sealed.iter().zip(ends) {
        let len = found.binary_search_by_key(base, |(base, _)| *base);
        let what = match len.map(|i| found[i].1) {
            Ok(len) if len == *recorded => continue,
            Err(_) if end <= facts.log_start => continue,
            Ok(len) => format!("{len} bytes are there, {recorded} were recorded"),
            Err(_) => format!("missing, {recorded} bytes were recorded"),
        };
        return Err(LogError::Damaged {
            path: names::file(dir, *base, Kind::Log),
            what: format!("{what}: someone else wrote here, or the disk lost it"),
        });
    }
    Ok(())
}

/// Sets a directory aside that bears a new partition's name and holds files: of a partition that a
/// power cut made unknown, or somebody else's. Its segments must not pass for the new one's.
fn clear_way(ring: &Ring, spec: &PartitionSpec) -> io::Result<()> {
    if !ring.exists(&spec.dir) {
        return Ok(());
    }
    let entries = ring.read_dir(&spec.dir)?;
    if entries
        .iter()
        .all(|entry| entry.name == partition_metadata::FILE_NAME)
    {
        return Ok(());
    }
    let (topic, partition) = (&spec.topic, spec.key.partition);
    let to = set_aside(ring, &spec.dir, topic, partition, names::stray_dir)?;
    tracing::warn!(
        partition = %spec.key, from = %spec.dir.display(), to = %to.display(),
        "a new partition's directory held files that no journal knows: set aside"
    );
    Ok(())
}
