//! Reads the schema files that describe Kafka's messages. Part of the build script.
//!
//! A file holds messages, each a line `message NameRequest [versions LOW..HIGH]` followed by its
//! fields, indented by two spaces for each level. Without `versions` a message has the versions
//! that `apis.schema` says are served. A field is
//!
//! ```text
//!   name  type[?[VERSIONS]] [@TAG] [= DEFAULT] [VERSIONS]  [; what it means]
//! ```
//!
//! - `type`: `bool i8 i16 i32 i64 uuid string bytes records`, `[type]` for an array, or the name
//!   of a struct, whose fields follow one level deeper. A struct that is named without fields is
//!   one that stands elsewhere in the files.
//! - `?`: may be null, in the versions behind it or in all.
//! - `@TAG`: travels as a tagged field (KIP-482), only when it differs from its default.
//! - `VERSIONS`: `3..`, `..12`, `8..10`; none means all of the message's.
//! - `#` begins a comment.

use std::collections::BTreeMap;

/// Versions from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Versions {
    pub low: i16,
    pub high: i16,
}

impl Versions {
    pub const ALL: Versions = Versions {
        low: 0,
        high: i16::MAX,
    };

    fn parse(text: &str) -> Option<Versions> {
        let (low, high) = text.split_once("..")?;
        let bound = |text: &str, open| match text {
            "" => Some(open),
            text => text.parse().ok(),
        };
        Some(Versions {
            low: bound(low, 0)?,
            high: bound(high, i16::MAX)?,
        })
    }
}

pub struct Api {
    pub key: i16,
    pub name: String,
    pub serve: Option<Versions>,
    pub advertise: Option<Versions>,
    pub flexible: Option<i16>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    Primitive(&'static str),
    Struct(String),
    Array(Box<Type>),
}

pub struct Field {
    pub name: String,
    pub kind: Type,
    pub null: Option<Versions>,
    pub tag: Option<u32>,
    pub default: Option<String>,
    pub versions: Versions,
    pub meaning: Option<String>,
}

pub struct Struct {
    pub name: String,
    pub fields: Vec<Field>,
}

pub struct Message {
    pub name: String,
    pub versions: Option<Versions>,
}

/// All that the files say.
#[derive(Default)]
pub struct Schema {
    pub apis: Vec<Api>,
    pub messages: Vec<Message>,
    pub structs: BTreeMap<String, Struct>,
}

const PRIMITIVES: [&str; 9] = [
    "bool", "i8", "i16", "i32", "i64", "uuid", "string", "bytes", "records",
];

impl Schema {
    /// Adds the lines of `apis.schema`.
    pub fn read_apis(&mut self, text: &str) -> Result<(), String> {
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or("").trim();
            if line.is_empty() {
                continue;
            }
            let bad = || format!("line {}: {line:?} is no API", number + 1);
            let mut words = line.split_whitespace();
            let mut api = Api {
                key: words.next().and_then(|w| w.parse().ok()).ok_or_else(bad)?,
                name: words.next().ok_or_else(bad)?.to_string(),
                serve: None,
                advertise: None,
                flexible: None,
            };
            while let Some(word) = words.next() {
                let value = words.next().ok_or_else(bad)?;
                match word {
                    "serve" => api.serve = Some(Versions::parse(value).ok_or_else(bad)?),
                    "advertise" => api.advertise = Some(Versions::parse(value).ok_or_else(bad)?),
                    "flexible" => api.flexible = Some(value.parse().map_err(|_| bad())?),
                    _ => return Err(bad()),
                }
            }
            self.apis.push(api);
        }
        Ok(())
    }

    /// Adds the messages of another schema file.
    pub fn read_messages(&mut self, text: &str) -> Result<(), String> {
        // structs that are open, outermost first, each with the indentation of its fields
        let mut open: Vec<Struct> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let code = line.split('#').next().unwrap_or("").trim_end();
            if code.trim().is_empty() {
                continue;
            }
            let at = |problem: &str| format!("line {}: {problem}: {code:?}", number + 1);
            let indent = code.len() - code.trim_start().len();
            if indent % 2 != 0 {
                return Err(at("indented by an odd number of spaces"));
            }
            while open.len() > indent / 2 {
                self.close(open.pop().expect("it is not empty"))
                    .map_err(|e| at(&e))?;
            }
            if indent == 0 {
                let mut words = code.split_whitespace();
                let (Some("message"), Some(name)) = (words.next(), words.next()) else {
                    return Err(at("a message was expected"));
                };
                let versions = match (words.next(), words.next()) {
                    (None, _) => None,
                    (Some("versions"), Some(v)) => {
                        Some(Versions::parse(v).ok_or_else(|| at("bad versions"))?)
                    }
                    _ => return Err(at("versions were expected")),
                };
                self.messages.push(Message {
                    name: name.to_string(),
                    versions,
                });
                open.push(Struct {
                    name: name.to_string(),
                    fields: Vec::new(),
                });
                continue;
            }
            if open.len() + 1 < indent / 2 {
                return Err(at("indented too far"));
            }
            if open.len() < indent / 2 {
                // fields of the struct that the field before this one names
                let parent = open.last().and_then(|s| s.fields.last());
                let name = parent.and_then(|f| struct_name(&f.kind));
                open.push(Struct {
                    name: name.ok_or_else(|| at("fields of nothing"))?.to_string(),
                    fields: Vec::new(),
                });
            }
            let field = read_field(code).ok_or_else(|| at("not a field"))?;
            match open.last_mut() {
                Some(owner) => owner.fields.push(field),
                None => return Err(at("a field of nothing")),
            }
        }
        while let Some(last) = open.pop() {
            self.close(last)?;
        }
        Ok(())
    }

    fn close(&mut self, done: Struct) -> Result<(), String> {
        if self.structs.contains_key(&done.name) {
            return Err(format!("{} is there twice", done.name));
        }
        self.structs.insert(done.name.clone(), done);
        Ok(())
    }

    /// The API that a message belongs to.
    pub fn api_of(&self, message: &str) -> Option<&Api> {
        let name = message
            .strip_suffix("Request")
            .or_else(|| message.strip_suffix("Response"))?;
        self.apis.iter().find(|api| api.name == name)
    }

    /// Checks what no single line shows.
    pub fn check(&self) -> Result<(), String> {
        for message in &self.messages {
            let api = self.api_of(&message.name);
            let api = api.ok_or_else(|| format!("{} belongs to no API", message.name))?;
            if message.versions.is_none() && api.serve.is_none() {
                return Err(format!("{} has no versions", message.name));
            }
        }
        for owner in self.structs.values() {
            for field in &owner.fields {
                if let Some(name) = struct_name(&field.kind)
                    && !self.structs.contains_key(name)
                {
                    return Err(format!("{}.{}: no struct {name}", owner.name, field.name));
                }
            }
        }
        Ok(())
    }
}

/// The struct that a type is made of.
pub fn struct_name(kind: &Type) -> Option<&str> {
    match kind {
        Type::Primitive(_) => None,
        Type::Struct(name) => Some(name),
        Type::Array(inner) => struct_name(inner),
    }
}

fn read_type(text: &str) -> Option<Type> {
    if let Some(inner) = text.strip_prefix('[') {
        return Some(Type::Array(Box::new(read_type(inner.strip_suffix(']')?)?)));
    }
    if let Some(primitive) = PRIMITIVES.iter().find(|p| **p == text) {
        return Some(Type::Primitive(primitive));
    }
    text.starts_with(|c: char| c.is_ascii_uppercase())
        .then(|| Type::Struct(text.to_string()))
}

fn read_field(code: &str) -> Option<Field> {
    let (code, meaning) = match code.split_once(';') {
        Some((code, meaning)) => (code, Some(meaning.trim().to_string())),
        None => (code, None),
    };
    let mut words = code.split_whitespace().peekable();
    let name = words.next()?.to_string();
    let spelled = words.next()?;
    let (kind, null) = match spelled.split_once('?') {
        None => (spelled, None),
        Some((kind, "")) => (kind, Some(Versions::ALL)),
        Some((kind, versions)) => (kind, Some(Versions::parse(versions)?)),
    };
    let mut field = Field {
        name,
        kind: read_type(kind)?,
        null,
        tag: None,
        default: None,
        versions: Versions::ALL,
        meaning,
    };
    while let Some(word) = words.next() {
        if let Some(tag) = word.strip_prefix('@') {
            field.tag = Some(tag.parse().ok()?);
        } else if word == "=" {
            field.default = Some(words.next()?.to_string());
        } else {
            field.versions = Versions::parse(word)?;
        }
    }
    Some(field)
}
