//! What a walk finds.

use std::fmt;

/// A thing in a file: a batch, an entry of a journal, an entry of an index.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What it is.
    pub kind: &'static str,
    /// What it says, in order.
    pub fields: Vec<(&'static str, Value)>,
    /// What is wrong with it.
    pub problem: Option<String>,
    /// Inside of the thing before it: records in a batch, items in an entry.
    pub nested: bool,
}

/// A value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number with a sign.
    Number(i64),
    /// A number without.
    Unsigned(u64),
    /// A checksum.
    Crc(u32),
    /// A truth value.
    Bool(bool),
    /// A word or a name.
    Text(String),
    /// A key or a value of a record.
    Bytes(Option<Vec<u8>>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Number(n) => n.fmt(f),
            Value::Unsigned(n) => n.fmt(f),
            Value::Crc(crc) => write!(f, "{crc:08x}"),
            Value::Bool(b) => b.fmt(f),
            Value::Text(text) => f.write_str(text),
            Value::Bytes(None) => f.write_str("null"),
            Value::Bytes(Some(bytes)) => write!(f, "{:?}", String::from_utf8_lossy(bytes)),
        }
    }
}

macro_rules! from {
    ($($kind:ty: $variant:ident $convert:expr,)*) => {
        $(impl From<$kind> for Value {
            fn from(value: $kind) -> Value {
                Value::$variant($convert(value))
            }
        })*
    };
}

from! {
    i64: Number std::convert::identity,
    i32: Number i64::from,
    i16: Number i64::from,
    u64: Unsigned std::convert::identity,
    u32: Unsigned u64::from,
    bool: Bool std::convert::identity,
    String: Text std::convert::identity,
    &str: Text str::to_owned,
}

impl Line {
    /// A thing of that kind.
    pub fn new(kind: &'static str) -> Line {
        Line {
            kind,
            fields: Vec::new(),
            problem: None,
            nested: false,
        }
    }

    /// Adds a field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Line {
        self.fields.push((name, value.into()));
        self
    }

    /// Puts it inside of what came before.
    #[must_use]
    pub fn nested(mut self) -> Line {
        self.nested = true;
        self
    }

    /// Says what is wrong with it.
    #[must_use]
    pub fn wrong(mut self, problem: impl fmt::Display) -> Line {
        self.problem = Some(problem.to_string());
        self
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nested {
            f.write_str("  ")?;
        }
        f.write_str(self.kind)?;
        for (name, value) in &self.fields {
            write!(f, " {name}={value}")?;
        }
        match &self.problem {
            Some(problem) => write!(f, "  PROBLEM: {problem}"),
            None => Ok(()),
        }
    }
}
