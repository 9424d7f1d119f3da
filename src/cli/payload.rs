//! Keys and values as text or JSON.

use serde_json::{Value, json};

/// Bytes in JSON: text where they are UTF-8, else an object with their hexadecimal digits.
pub fn to_json(bytes: Option<&[u8]>) -> Value {
    match bytes {
        None => Value::Null,
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => json!(text),
            Err(_) => json!({ "hex": hex(bytes) }),
        },
    }
}

/// The reverse of [`to_json`]; other JSON stands for its own text.
pub fn from_json(value: &Value) -> Result<Option<Vec<u8>>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone().into_bytes())),
        Value::Object(fields) if fields.len() == 1 && fields.contains_key("hex") => {
            let digits = fields["hex"].as_str().and_then(unhex);
            digits
                .map(Some)
                .ok_or("hex is no even run of digits".into())
        }
        other => Ok(Some(other.to_string().into_bytes())),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).ok();
    (0..text.len()).step_by(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_from_json() {
        for bytes in [None, Some(b"".as_slice()), Some(b"text"), Some(&[0xff, 0])] {
            let back = from_json(&to_json(bytes)).unwrap();
            assert_eq!(back.as_deref(), bytes);
        }
        assert_eq!(from_json(&json!({"a": 1})).unwrap().unwrap(), b"{\"a\":1}");
        assert!(from_json(&json!({"hex": "f"})).is_err());
    }
}
