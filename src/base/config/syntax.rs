//! The syntax of Java properties files.

/// A property as it stands in a file, escapes resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Number of the line where it begins, counted from 1.
    pub line: usize,
    /// Name.
    pub key: String,
    /// Value, without the spaces before it.
    pub value: String,
}

/// A line that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct SyntaxError {
    /// Number of the line, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

/// Reads a properties file: comments by `#` and `!`, `=`, `:` or space between key and value,
/// lines continued by an odd number of backslashes, escapes `\t \n \r \f \uXXXX`, any other
/// escaped character standing for itself. Source: java.util.Properties.
pub fn parse_properties(text: &str) -> Result<Vec<Line>, SyntaxError> {
    let mut out = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, first)) = lines.next() {
        let mut logical = trim_start(first.trim_end_matches('\r')).to_owned();
        if logical.is_empty() || logical.starts_with(['#', '!']) {
            continue;
        }
        while continues(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(trim_start(next.trim_end_matches('\r'))),
                None => break,
            }
        }
        let (key, value) = split(&logical);
        let unescape = |s| {
            unescape(s).map_err(|reason| SyntaxError {
                line: at + 1,
                reason,
            })
        };
        out.push(Line {
            line: at + 1,
            key: unescape(key)?,
            value: unescape(value)?,
        });
    }
    Ok(out)
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

fn trim_start(s: &str) -> &str {
    s.trim_start_matches(is_space)
}

fn continues(line: &str) -> bool {
    line.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1
}

/// Key and value, both still escaped.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line
        .char_indices()
        .find(|(_, c)| {
            let ends = !escaped && (is_space(*c) || matches!(c, '=' | ':'));
            escaped = !escaped && *c == '\\';
            ends
        })
        .map_or(line.len(), |(at, _)| at);
    let (key, rest) = line.split_at(end);
    let rest = trim_start(rest);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, trim_start(value))
}

fn unescape(text: &str) -> Result<String, String> {
    if !text.contains('\\') {
        return Ok(text.to_owned());
    }
    // \u names UTF-16 units, of which two may make one character
    let mut units = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let plain = match c {
            '\\' => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\x0c',
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).collect();
                    let unit = u16::from_str_radix(&digits, 16)
                        .ok()
                        .filter(|_| digits.len() == 4 && !digits.starts_with('+'))
                        .ok_or_else(|| format!("\\u{digits} is not \\u and four hex digits"))?;
                    units.push(unit);
                    continue;
                }
                Some(other) => other,
                None => break,
            },
            c => c,
        };
        units.extend_from_slice(plain.encode_utf16(&mut [0; 2]));
    }
    String::from_utf16(&units).map_err(|_| "half a character by \\u".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(usize, String, String)> {
        parse_properties(text)
            .unwrap()
            .into_iter()
            .map(|l| (l.line, l.key, l.value))
            .collect()
    }

    fn one(text: &str) -> (String, String) {
        let (_, key, value) = pairs(text).remove(0);
        (key, value)
    }

    fn s(a: &str, b: &str) -> (String, String) {
        (a.to_owned(), b.to_owned())
    }

    #[test]
    fn properties_read_as_java_reads_them() {
        assert_eq!(one("a=b"), s("a", "b"));
        assert_eq!(one("  a : b "), s("a", "b "));
        assert_eq!(one("a b=c"), s("a", "b=c"));
        assert_eq!(one("a"), s("a", ""));
        assert_eq!(one("a\\=b=c"), s("a=b", "c"));
        assert_eq!(one("a\\ b c"), s("a b", "c"));
        assert_eq!(one("k=\\u00e9\\t\\q\\\\"), s("k", "é\tq\\"));
        assert_eq!(one("k=\\ud83d\\ude00"), s("k", "😀"));
        assert_eq!(
            one("listeners=PLAINTEXT://:9092"),
            s("listeners", "PLAINTEXT://:9092")
        );
        assert_eq!(one("a = = b"), s("a", "= b"));
        assert_eq!(one("a=b\r\n"), s("a", "b"));
    }

    #[test]
    fn comments_blank_lines_and_continuations() {
        let text = "# x\n\n ! y\na=1,\\\n   2,\\\n\t3\nb=c\\\\\n#d\ne=f\\";
        let want = [
            (4, "a".to_owned(), "1,2,3".to_owned()),
            (7, "b".to_owned(), "c\\".to_owned()),
            (9, "e".to_owned(), "f".to_owned()),
        ];
        assert_eq!(pairs(text), want);
    }

    #[test]
    fn bad_escapes_name_their_line() {
        assert_eq!(parse_properties("a=b\nc=\\u12").unwrap_err().line, 2);
        assert!(parse_properties("c=\\u+123").is_err());
        assert!(parse_properties("c=\\ud83d").is_err());
    }
}
