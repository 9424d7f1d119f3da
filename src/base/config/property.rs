//! What the table says of one property.

/// The type of a value, with what it may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `true` or `false`, in any case.
    Boolean,
    /// A whole number of 16 bits, bounds included.
    Short(i64, i64),
    /// A whole number of 32 bits, bounds included.
    Int(i64, i64),
    /// A whole number of 64 bits, bounds included.
    Long(i64, i64),
    /// A number, bounds included.
    Double(f64, f64),
    /// Any text.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Texts separated by commas; where words are given, each must be one of them.
    List(&'static [&'static str]),
    /// Replicas to throttle: `*`, or `partition:broker` separated by commas.
    Throttled,
    /// Bytes: a number, with `KiB`, `MiB` or `GiB` behind it or not, or `auto`.
    Size {
        /// Smallest number of bytes.
        min: u64,
        /// Largest number of bytes.
        max: u64,
    },
    /// `all`, a number of cores, or a list of cores such as `0,2-5`.
    Cores,
    /// Port ranges, one for each listener: `9192-9199` or `PLAINTEXT:9192-9199,OTHER:9292-9299`.
    Ports,
    /// The level of a codec: one value by itself, or a range.
    Level {
        /// Allowed besides the range.
        special: i64,
        /// Lowest level.
        min: i64,
        /// Highest level.
        max: i64,
    },
}

/// Whom a property is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The broker.
    Broker,
    /// The broker; topics that set the named property have their own value.
    TopicDefault(&'static str),
    /// Only topics have it.
    Topic,
}

/// When a new value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// At the next start.
    Restart,
    /// At run time, for each broker.
    PerBroker,
    /// At run time, for the whole cluster (or the topic).
    ClusterWide,
}

/// What this broker does with a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is obeyed.
    Served,
    /// Checked and kept, but what it steers is not built yet.
    Later,
    /// Accepted and without effect, for the reason given.
    Void(&'static str),
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Property {
    /// Name in `server.properties`, or the topic's name of it where only topics have it.
    pub name: &'static str,
    /// Type and bounds.
    pub kind: Kind,
    /// The text that stands for a value that is not set; `None` is Kafka's null.
    pub default: Option<&'static str>,
    /// Whom it is about.
    pub scope: Scope,
    /// When a change takes effect.
    pub change: Change,
    /// Whether it is obeyed.
    pub status: Status,
    /// The same setting in coarser units, with the factor to this one's unit: used where this one
    /// is not set.
    pub coarser: &'static [(&'static str, i64)],
    /// The default that topics see where neither this nor a coarser one is set and `default` is
    /// null.
    pub topic_default: Option<&'static str>,
    /// What it means.
    pub doc: &'static str,
}

/// The largest `i32` and `i64`, which Kafka's defaults use for "no limit".
pub(super) const INT_MAX: i64 = i32::MAX as i64;
pub(super) const LONG_MAX: i64 = i64::MAX;

/// A property of the broker.
pub(super) const fn broker(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> Property {
    Property {
        name,
        kind,
        default: Some(default),
        scope: Scope::Broker,
        change: Change::Restart,
        status: Status::Served,
        coarser: &[],
        topic_default: None,
        doc,
    }
}

/// A property of the broker that is null unless set.
pub(super) const fn optional(name: &'static str, kind: Kind, doc: &'static str) -> Property {
    Property {
        default: None,
        ..broker(name, kind, "", doc)
    }
}

/// The broker's default of a topic's property.
pub(super) const fn topic_default(
    name: &'static str,
    topic: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> Property {
    Property {
        scope: Scope::TopicDefault(topic),
        change: Change::ClusterWide,
        ..broker(name, kind, default, doc)
    }
}

/// A property that only topics have.
pub(super) const fn topic_only(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> Property {
    Property {
        scope: Scope::Topic,
        change: Change::ClusterWide,
        status: Status::Later,
        ..broker(name, kind, default, doc)
    }
}

impl Property {
    pub(super) const fn per_broker(self) -> Property {
        Property {
            change: Change::PerBroker,
            ..self
        }
    }

    pub(super) const fn cluster_wide(self) -> Property {
        Property {
            change: Change::ClusterWide,
            ..self
        }
    }

    pub(super) const fn later(self) -> Property {
        Property {
            status: Status::Later,
            ..self
        }
    }

    pub(super) const fn void(self, why: &'static str) -> Property {
        Property {
            status: Status::Void(why),
            ..self
        }
    }

    pub(super) const fn or_coarser(
        self,
        coarser: &'static [(&'static str, i64)],
        topic_default: Option<&'static str>,
    ) -> Property {
        Property {
            default: None,
            coarser,
            topic_default,
            ..self
        }
    }

    /// The name that topics use, if topics can set it.
    pub fn topic_name(&self) -> Option<&'static str> {
        match self.scope {
            Scope::Broker => None,
            Scope::TopicDefault(name) => Some(name),
            Scope::Topic => Some(self.name),
        }
    }

    /// True for what Kafka does not have.
    pub fn is_ours(&self) -> bool {
        self.name.starts_with("corelane.")
    }
}
