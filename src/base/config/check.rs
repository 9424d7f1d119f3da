//! Whether a text is a value of a kind; the message says what is allowed.

use super::property::{INT_MAX, Kind, LONG_MAX};
use super::spec::{Size, parse_cores, parse_ports, parse_size};

/// Checks a value as it stands in a file, spaces around it cut.
pub(super) fn check(kind: &Kind, text: &str) -> Result<(), String> {
    let text = text.trim();
    match *kind {
        Kind::Boolean => parse_boolean(text)
            .map(drop)
            .ok_or_else(|| "expected true or false".to_owned()),
        Kind::Short(min, max) | Kind::Int(min, max) | Kind::Long(min, max) => {
            whole(text, min, max).map(drop)
        }
        Kind::Double(min, max) => match text.parse::<f64>() {
            Ok(n) if n >= min && n <= max => Ok(()),
            _ => Err(format!("expected a number from {min} to {max}")),
        },
        Kind::Text => Ok(()),
        Kind::Choice(words) if words.contains(&text) => Ok(()),
        Kind::Choice(words) => Err(format!("expected {}", one_of(words))),
        Kind::List(words) => {
            let unknown = (!words.is_empty())
                .then(|| list(text).find(|item| !words.contains(item)))
                .flatten();
            match unknown {
                Some(item) => Err(format!("{item:?} is not {}", one_of(words))),
                None => Ok(()),
            }
        }
        Kind::Throttled => {
            let number = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
            let pair = |item: &str| {
                item.split_once(':')
                    .is_some_and(|(partition, broker)| number(partition) && number(broker))
            };
            if text == "*" || list(text).all(pair) {
                Ok(())
            } else {
                Err("expected *, or partition:broker separated by commas".to_owned())
            }
        }
        Kind::Size { min, max } => match parse_size(text)? {
            Size::Bytes(n) if n < min || n > max => {
                Err(format!("expected auto, or from {min} to {max} bytes"))
            }
            _ => Ok(()),
        },
        Kind::Cores => parse_cores(text).map(drop),
        Kind::Ports => parse_ports(text).map(drop),
        Kind::Level { special, min, max } => match text.parse::<i64>() {
            Ok(n) if n == special || (n >= min && n <= max) => Ok(()),
            _ => Err(format!(
                "expected {special} or a whole number from {min} to {max}"
            )),
        },
    }
}

/// `true` and `false` in any case, as Kafka reads them.
pub(super) fn parse_boolean(text: &str) -> Option<bool> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// The items of a list; an empty text has none.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

fn whole(text: &str, min: i64, max: i64) -> Result<i64, String> {
    match text.parse::<i64>() {
        Ok(n) if n >= min && n <= max => Ok(n),
        _ if max == LONG_MAX || max == INT_MAX => {
            Err(format!("expected a whole number of at least {min}"))
        }
        _ => Err(format!("expected a whole number from {min} to {max}")),
    }
}

fn one_of(words: &[&str]) -> String {
    match words {
        [only] => format!("{only:?}"),
        [rest @ .., last] => format!("{} or {last}", rest.join(", ")),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_bounds_are_refused_with_the_bounds() {
        assert!(check(&Kind::Int(1, INT_MAX), "1").is_ok());
        let err = check(&Kind::Int(1, INT_MAX), "0").unwrap_err();
        assert_eq!(err, "expected a whole number of at least 1");
        assert!(check(&Kind::Int(1, INT_MAX), "2147483648").is_err());
        assert!(check(&Kind::Short(-1, 5), "1.0").is_err());
        assert!(check(&Kind::Double(0.0, 1.0), "NaN").is_err());
        assert!(check(&Kind::Double(0.0, 1.0), "0.25").is_ok());
        let level = Kind::Level {
            special: -1,
            min: 1,
            max: 9,
        };
        assert!(check(&level, "-1").is_ok() && check(&level, "9").is_ok());
        assert!(check(&level, "0").is_err() && check(&level, "10").is_err());
        assert!(check(&Kind::Throttled, "0:1,2:3").is_ok());
        assert!(check(&Kind::Throttled, "*").is_ok());
        assert!(check(&Kind::Throttled, "0:x").is_err());
        assert!(check(&Kind::Boolean, "TRUE").is_ok());
        assert!(check(&Kind::Boolean, "yes").is_err());
    }

    #[test]
    fn lists_allow_only_their_words() {
        let kind = Kind::List(&["compact", "delete"]);
        assert!(check(&kind, "").is_ok());
        assert!(check(&kind, "compact, delete").is_ok());
        let err = check(&kind, "compact,drop").unwrap_err();
        assert_eq!(err, "\"drop\" is not compact or delete");
    }
}
