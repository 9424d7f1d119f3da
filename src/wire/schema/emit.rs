//! Writes Rust from what the schema files say. Part of the build script.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::parse::{Field, Message, Schema, Struct, Type, Versions, struct_name};

/// The rows of `wire::api::ApiKey`, for its macro.
pub fn apis(schema: &Schema) -> String {
    let mut out = String::from("apis! {\n");
    for api in &schema.apis {
        let range = |v: Option<Versions>| match v {
            Some(v) => format!("Some(({}, {}))", v.low, v.high),
            None => "None".to_string(),
        };
        let flexible = api.flexible.map_or("i16::MAX".into(), |v| v.to_string());
        let (serve, advertise) = (range(api.serve), range(api.advertise.or(api.serve)));
        let (key, name) = (api.key, &api.name);
        put(
            &mut out,
            &format!("    {key} {name} {serve}, {advertise}, {flexible},\n"),
        );
    }
    out.push_str("}\n");
    out
}

/// The structs of all messages with their decoders and encoders.
pub fn messages(schema: &Schema) -> String {
    let borrowing = borrowing(schema);
    let mut out = String::new();
    for owner in schema.structs.values() {
        let message = schema.messages.iter().find(|m| m.name == owner.name);
        let code = Emit {
            schema,
            borrowing: &borrowing,
            owner,
            message,
        };
        out.push_str(&code.all());
    }
    out.push_str("#[cfg(test)]\nmacro_rules! each_message {\n    ($run:ident) => {\n");
    for message in &schema.messages {
        put(&mut out, &format!("        $run!({});\n", message.name));
    }
    out.push_str("    };\n}\n#[cfg(test)]\npub(crate) use each_message;\n");
    out
}

fn put(out: &mut String, text: &str) {
    write!(out, "{text}").expect("a string takes all");
}

/// The structs that hold a string, bytes, records or an array, and so borrow from the frame.
fn borrowing(schema: &Schema) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    loop {
        let before = found.len();
        for owner in schema.structs.values() {
            let borrows = owner.fields.iter().any(|f| match &f.kind {
                Type::Array(_) => true,
                Type::Primitive(p) => matches!(*p, "string" | "bytes" | "records"),
                Type::Struct(name) => found.contains(name),
            });
            if borrows {
                found.insert(owner.name.clone());
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

struct Emit<'a> {
    schema: &'a Schema,
    borrowing: &'a BTreeSet<String>,
    owner: &'a Struct,
    message: Option<&'a Message>,
}

impl Emit<'_> {
    fn all(&self) -> String {
        let name = &self.owner.name;
        let lifetime = self.lifetime(name);
        let mut out = format!("/// {}\n", self.doc());
        out.push_str("#[derive(Clone, Debug, PartialEq)]\n");
        put(&mut out, &format!("pub struct {name}{lifetime} {{\n"));
        for field in &self.owner.fields {
            let kind = self.field_type(field);
            put(&mut out, &format!("    /// {}\n", field_doc(field)));
            put(&mut out, &format!("    pub {}: {kind},\n", field.name));
        }
        out.push_str("}\n\n");

        put(
            &mut out,
            &format!("impl{lifetime} Default for {name}{lifetime} {{\n"),
        );
        put(
            &mut out,
            &format!("    fn default() -> Self {{\n        {name} {{\n"),
        );
        for field in &self.owner.fields {
            let value = default_of(field);
            put(&mut out, &format!("            {}: {value},\n", field.name));
        }
        out.push_str("        }\n    }\n}\n\n");

        put(
            &mut out,
            &format!("impl<'a> Wire<'a> for {name}{lifetime} {{\n"),
        );
        out.push_str(&self.parse());
        out.push_str(&self.walk(
            "fn length(&self, v: i16, flex: bool) -> usize {\n        let mut n = 0;\n",
            "n += self.{f}.length{as}(v, flex{null});",
            "n += tag_length({tag}, self.{f}.length{as}(v, flex{null}));",
            "n += uvarint_length(tags);",
            "n += 1;",
            "        n\n",
        ));
        out.push_str(&self.put());
        out.push_str("}\n\n");
        if self.is_nullable() {
            out.push_str(&self.nullable());
        }

        if let Some(message) = self.message {
            let api = self.schema.api_of(&message.name).expect("checked");
            let versions = message.versions.or(api.serve).expect("checked");
            put(
                &mut out,
                &format!("impl<'a> Message<'a> for {name}{lifetime} {{\n"),
            );
            put(
                &mut out,
                &format!("    const API: ApiKey = ApiKey::{};\n", api.name),
            );
            let response = message.name.ends_with("Response");
            put(
                &mut out,
                &format!("    const RESPONSE: bool = {response};\n"),
            );
            put(
                &mut out,
                &format!(
                    "    const VERSIONS: (i16, i16) = ({}, {});\n",
                    versions.low, versions.high
                ),
            );
            out.push_str("}\n\n");
        }
        out.push_str(&self.random());
        out
    }

    fn doc(&self) -> String {
        match self.message {
            None => "Part of a message.".to_string(),
            Some(message) => {
                let api = self.schema.api_of(&message.name).expect("checked");
                let v = message.versions.or(api.serve).expect("checked");
                let side = match message.name.ends_with("Response") {
                    true => "The answer to",
                    false => "A request of",
                };
                format!("{side} {}, versions {} to {}.", api.name, v.low, v.high)
            }
        }
    }

    /// Whether some field of this type may be null.
    fn is_nullable(&self) -> bool {
        let mut fields = self.schema.structs.values().flat_map(|s| &s.fields);
        fields.any(|f| {
            f.null.is_some() && matches!(&f.kind, Type::Struct(name) if *name == self.owner.name)
        })
    }

    /// A byte stands before a struct that may be null: -1 for null, else 1.
    fn nullable(&self) -> String {
        let name = &self.owner.name;
        let kind = format!("Option<{name}{}>", self.lifetime(name));
        format!(
            "impl<'a> Wire<'a> for {kind} {{
    fn parse(r: &mut Reader<'a>, v: i16, flex: bool) -> Result<Self, DecodeError> {{
        match i8::parse(r, v, flex)? {{
            ..0 => Ok(None),
            0.. => {name}::parse(r, v, flex).map(Some),
        }}
    }}

    fn length(&self, v: i16, flex: bool) -> usize {{
        1 + self.as_ref().map_or(0, |m| m.length(v, flex))
    }}

    fn put(&self, w: &mut Writer<'_>, v: i16, flex: bool) {{
        i8::put(if self.is_some() {{ &1 }} else {{ &-1 }}, w, v, flex);
        if let Some(m) = self {{
            m.put(w, v, flex);
        }}
    }}
}}

impl<'a> Nullable<'a> for {kind} {{
    fn is_null(&self) -> bool {{
        self.is_none()
    }}

    fn empty() -> Self {{
        Some({name}::default())
    }}
}}

"
        )
    }

    fn lifetime(&self, name: &str) -> &'static str {
        if self.borrowing.contains(name) {
            "<'a>"
        } else {
            ""
        }
    }

    fn rust_type(&self, kind: &Type) -> String {
        match kind {
            Type::Primitive("string") => "&'a str".into(),
            Type::Primitive("bytes") => "&'a [u8]".into(),
            Type::Primitive("records") => "Records<'a>".into(),
            Type::Primitive("uuid") => "Uuid".into(),
            Type::Primitive(p) => p.to_string(),
            Type::Struct(name) => format!("{name}{}", self.lifetime(name)),
            Type::Array(inner) => format!("Array<'a, {}>", self.rust_type(inner)),
        }
    }

    fn field_type(&self, field: &Field) -> String {
        let kind = self.rust_type(&field.kind);
        let knows_null = matches!(&field.kind, Type::Array(_) | Type::Primitive("records"));
        match field.null.is_some() && !knows_null {
            true => format!("Option<{kind}>"),
            false => kind,
        }
    }

    fn parse(&self) -> String {
        let mut out = String::new();
        out.push_str(
            "    fn parse(r: &mut Reader<'a>, v: i16, flex: bool) -> Result<Self, DecodeError> {\n",
        );
        out.push_str("        let mut m = Self::default();\n");
        let read = |field: &Field| {
            let call = match null_argument(field) {
                Some(null) => format!("Nullable::parse_as(r, v, flex, {null})"),
                None => "Wire::parse(r, v, flex)".to_string(),
            };
            format!("m.{0} = at(\"{0}\", {call})?;", field.name)
        };
        for field in self.owner.fields.iter().filter(|f| f.tag.is_none()) {
            let line = guarded(field, &read(field));
            put(&mut out, &format!("        {line}\n"));
        }
        let tagged = || self.owner.fields.iter().filter(|f| f.tag.is_some());
        if tagged().next().is_none() {
            out.push_str("        if flex {\n            r.tags(|_, _| Ok(false))?;\n        }\n");
        } else {
            out.push_str(
                "        if flex {\n            r.tags(|tag, r| {\n                match tag {\n",
            );
            for field in tagged() {
                let tag = field.tag.expect("filtered");
                let guard = condition(field.versions).map_or(String::new(), |c| format!(" if {c}"));
                let line = read(field);
                put(
                    &mut out,
                    &format!("                    {tag}{guard} => {{ {line} }}\n"),
                );
            }
            out.push_str(
                "                    _ => return Ok(false),\n                }\n                Ok(true)\n",
            );
            out.push_str("            })?;\n        }\n");
        }
        out.push_str("        Ok(m)\n    }\n\n");
        out
    }

    fn put(&self) -> String {
        let mut out = self.walk(
            "fn put(&self, w: &mut Writer<'_>, v: i16, flex: bool) {\n",
            "self.{f}.put{as}(w, v, flex{null});",
            "w.uvarint({tag}); w.uvarint(self.{f}.length{as}(v, flex{null}) as u32); self.{f}.put{as}(w, v, flex{null});",
            "w.uvarint(tags);",
            "w.uvarint(0);",
            "",
        );
        out.pop();
        out
    }

    /// A function over all fields: plain ones in order, then the count of tags, then the tagged
    /// ones in the order of their tags.
    fn walk(
        &self,
        head: &str,
        plain: &str,
        tagged: &str,
        tags: &str,
        no: &str,
        end: &str,
    ) -> String {
        let mut out = format!("    {head}");
        let fill = |text: &str, field: &Field| {
            let null = null_argument(field);
            text.replace("{f}", &field.name)
                .replace("{as}", if null.is_some() { "_as" } else { "" })
                .replace("{null}", &null.map_or(String::new(), |n| format!(", {n}")))
                .replace("{tag}", &field.tag.unwrap_or(0).to_string())
        };
        for field in self.owner.fields.iter().filter(|f| f.tag.is_none()) {
            let line = guarded(field, &fill(plain, field));
            put(&mut out, &format!("        {line}\n"));
        }
        let mut with_tag: Vec<&Field> = self
            .owner
            .fields
            .iter()
            .filter(|f| f.tag.is_some())
            .collect();
        with_tag.sort_by_key(|f| f.tag);
        if with_tag.is_empty() {
            put(
                &mut out,
                &format!("        if flex {{\n            {no}\n        }}\n"),
            );
        } else {
            out.push_str("        if flex {\n            let mut tags = 0;\n");
            for field in &with_tag {
                let is_set = is_set(field);
                put(
                    &mut out,
                    &format!("            if {is_set} {{ tags += 1; }}\n"),
                );
            }
            put(&mut out, &format!("            {tags}\n"));
            for field in &with_tag {
                let (is_set, line) = (is_set(field), fill(tagged, field));
                put(&mut out, &format!("            if {is_set} {{ {line} }}\n"));
            }
            out.push_str("        }\n");
        }
        put(&mut out, &format!("{end}    }}\n\n"));
        out
    }

    fn random(&self) -> String {
        let name = &self.owner.name;
        let lifetime = self.lifetime(name).replace("'a", "'static");
        let mut out = format!("#[cfg(test)]\nimpl Random for {name}{lifetime} {{\n");
        out.push_str("    fn random(g: &mut Gen, v: i16) -> Self {\n");
        out.push_str("        let mut m = Self::default();\n");
        for field in &self.owner.fields {
            let call = match null_argument(field) {
                Some(null) => format!("RandomNull::random_as(g, v, {null})"),
                None => "Random::random(g, v)".to_string(),
            };
            let line = guarded(field, &format!("m.{} = {call};", field.name));
            put(&mut out, &format!("        {line}\n"));
        }
        out.push_str("        m\n    }\n}\n\n");
        out
    }
}

/// When a field is there, as Rust; `None`: always.
fn condition(versions: Versions) -> Option<String> {
    match (versions.low, versions.high) {
        (0, i16::MAX) => None,
        (low, i16::MAX) => Some(format!("v >= {low}")),
        (0, high) => Some(format!("v <= {high}")),
        (low, high) => Some(format!("({low}..={high}).contains(&v)")),
    }
}

fn guarded(field: &Field, line: &str) -> String {
    match condition(field.versions) {
        Some(condition) => format!("if {condition} {{ {line} }}"),
        None => line.to_string(),
    }
}

/// For types that have a null: the expression that says whether null is allowed.
fn null_argument(field: &Field) -> Option<String> {
    let knows_null = matches!(&field.kind, Type::Array(_) | Type::Primitive("records"));
    match field.null {
        Some(versions) => Some(condition(versions).unwrap_or("true".into())),
        None if knows_null => Some("false".into()),
        None => None,
    }
}

fn default_of(field: &Field) -> String {
    if let Some(default) = &field.default {
        return match &field.kind {
            Type::Primitive("string") => format!("{default:?}"),
            _ => default.clone(),
        };
    }
    match &field.kind {
        Type::Array(_) if field.null.is_some() => "Array::Null".into(),
        Type::Array(_) => "Array::EMPTY".into(),
        Type::Primitive("records") => "Records::Null".into(),
        _ if field.null.is_some() => "None".into(),
        Type::Struct(name) => format!("{name}::default()"),
        Type::Primitive("bool") => "false".into(),
        Type::Primitive("string") => "\"\"".into(),
        Type::Primitive("bytes") => "&[]".into(),
        Type::Primitive("uuid") => "Uuid::ZERO".into(),
        Type::Primitive(_) => "0".into(),
    }
}

/// Whether a tagged field is written: it is there and differs from its default.
fn is_set(field: &Field) -> String {
    let name = &field.name;
    let differs = match &field.kind {
        Type::Array(_) if field.null.is_some() => format!("!self.{name}.is_null()"),
        Type::Array(_) => format!("!self.{name}.is_empty()"),
        Type::Primitive("bool") if field.default.is_none() => format!("self.{name}"),
        _ => format!("self.{name} != {}", default_of(field)),
    };
    match condition(field.versions) {
        Some(condition) => format!("{condition} && {differs}"),
        None => differs,
    }
}

fn field_doc(field: &Field) -> String {
    let mut doc = match &field.meaning {
        Some(meaning) => {
            let mut letters = meaning.chars();
            let first = letters.next().map(|c| c.to_uppercase().to_string());
            format!("{}{}. ", first.unwrap_or_default(), letters.as_str())
        }
        None => String::new(),
    };
    let range = |v: Versions| match (v.low, v.high) {
        (0, i16::MAX) => "All versions".to_string(),
        (low, i16::MAX) => format!("From version {low}"),
        (0, high) => format!("Up to version {high}"),
        (low, high) => format!("Versions {low} to {high}"),
    };
    doc.push_str(&range(field.versions));
    if let Some(tag) = field.tag {
        doc.push_str(&format!(", tag {tag}"));
    }
    match field.null {
        Some(Versions::ALL) => doc.push_str(", may be null"),
        Some(versions) => {
            let range = range(versions).to_lowercase();
            doc.push_str(&format!(", may be null {range}"));
        }
        None => {}
    }
    if let Some(default) = &field.default {
        doc.push_str(&format!(", default {default}"));
    }
    if let Some(name) = struct_name(&field.kind) {
        doc.push_str(&format!("; see [`{name}`]"));
    }
    doc.push('.');
    doc
}
