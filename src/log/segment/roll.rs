//! When a segment is full. A decision, nothing else.

use crate::base::config::TopicConfig;
use crate::base::ids::Offset;

/// Why the next batch begins a new segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollReason {
    /// `segment.bytes`, or positions would not fit an index.
    Size,
    /// `segment.ms`
    Age,
    /// `segment.index.bytes`
    Index,
    /// Offsets would not fit an index.
    Offset,
}

/// What the decision looks at.
#[derive(Clone, Copy, Debug)]
pub struct RollInput {
    /// Base offset of the segment.
    pub base: Offset,
    /// Its length.
    pub len: u64,
    /// Newest timestamp of its first batch; where there is none, age counts from its making.
    pub first_timestamp: Option<i64>,
    /// When it was made, in ms.
    pub created: i64,
    /// A random number of the segment, so that rolls do not align (`segment.jitter.ms`).
    pub jitter: u64,
    /// Its index has no room for an entry.
    pub index_full: bool,
    /// Bytes of the next batch.
    pub batch_len: u32,
    /// Its newest timestamp.
    pub batch_timestamp: i64,
    /// Its last offset.
    pub batch_last_offset: Offset,
    /// The wall clock, in ms.
    pub now: i64,
}

/// Whether the segment is full for that batch. An empty one never is.
pub fn roll_reason(input: &RollInput, config: &TopicConfig) -> Option<RollReason> {
    if input.len == 0 {
        return None;
    }
    let after = input.len + u64::from(input.batch_len);
    if after > config.segment_bytes || after > i32::MAX as u64 {
        return Some(RollReason::Size);
    }
    let waited = match input.first_timestamp {
        Some(first) if first >= 0 && input.batch_timestamp >= 0 => {
            input.batch_timestamp.saturating_sub(first)
        }
        _ => input.now.saturating_sub(input.created),
    };
    let jitter_max = config.segment_jitter_ms.min(config.segment_ms);
    let jitter = match jitter_max {
        0 => 0,
        max => input.jitter % max,
    };
    if u64::try_from(waited).is_ok_and(|waited| waited > config.segment_ms - jitter) {
        return Some(RollReason::Age);
    }
    if input.index_full {
        return Some(RollReason::Index);
    }
    (input.batch_last_offset.0 - input.base.0 > i64::from(i32::MAX)).then_some(RollReason::Offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input() -> RollInput {
        RollInput {
            base: Offset(0),
            len: 900,
            first_timestamp: Some(10_000),
            created: 10_000,
            jitter: 0,
            index_full: false,
            batch_len: 100,
            batch_timestamp: 11_000,
            batch_last_offset: Offset(5),
            now: 11_000,
        }
    }

    fn config() -> TopicConfig {
        TopicConfig {
            segment_bytes: 1000,
            segment_ms: 1000,
            ..TopicConfig::default()
        }
    }

    #[test]
    fn a_segment_takes_exactly_its_bytes_and_its_time() {
        assert_eq!(roll_reason(&input(), &config()), None);
        let larger = RollInput {
            batch_len: 101,
            ..input()
        };
        assert_eq!(roll_reason(&larger, &config()), Some(RollReason::Size));
        let later = RollInput {
            batch_timestamp: 11_001,
            ..input()
        };
        assert_eq!(roll_reason(&later, &config()), Some(RollReason::Age));
    }

    #[test]
    fn an_empty_segment_is_never_full() {
        let empty = RollInput {
            len: 0,
            batch_len: 5000,
            index_full: true,
            batch_timestamp: i64::MAX,
            ..input()
        };
        assert_eq!(roll_reason(&empty, &config()), None);
    }

    #[test]
    fn without_timestamps_age_counts_from_the_making() {
        let plain = RollInput {
            first_timestamp: None,
            now: 11_001,
            ..input()
        };
        assert_eq!(roll_reason(&plain, &config()), Some(RollReason::Age));
    }

    #[test]
    fn jitter_only_makes_it_earlier() {
        let config = TopicConfig {
            segment_jitter_ms: 500,
            ..config()
        };
        let early = |jitter| {
            let input = RollInput {
                jitter,
                batch_timestamp: 10_600,
                ..input()
            };
            roll_reason(&input, &config)
        };
        assert_eq!(early(100), None);
        assert_eq!(early(450), Some(RollReason::Age));
    }

    #[test]
    fn a_full_index_and_far_offsets_begin_a_new_segment() {
        let full = RollInput {
            index_full: true,
            ..input()
        };
        assert_eq!(roll_reason(&full, &config()), Some(RollReason::Index));
        let far = RollInput {
            batch_last_offset: Offset(i64::from(i32::MAX) + 1),
            ..input()
        };
        assert_eq!(roll_reason(&far, &config()), Some(RollReason::Offset));
    }
}
