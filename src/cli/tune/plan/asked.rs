//! Numbers as they are given: rates, sizes, factors, times.

use crate::base::config::{Size, parse_size};

/// Records as they are produced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    RecordsPerS(f64),
    /// Before compression.
    BytesPerS(f64),
}

/// Reads `50000`, `50000/s` or `200MB/s`.
pub fn rate(text: &str) -> Result<Rate, String> {
    const WANT: &str = "records a second as in 50000/s, or bytes as in 200MB/s";
    let text = text.trim().trim_end_matches("/s");
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("KB", 1e3)];
    let found = units
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (number, factor) = found.map_or((text, None), |(number, factor)| (number, Some(factor)));
    match number.trim().parse::<f64>() {
        Ok(n) if n > 0.0 && n.is_finite() => Ok(match factor {
            Some(factor) => Rate::BytesPerS(n * factor),
            None => Rate::RecordsPerS(n),
        }),
        _ => Err(WANT.into()),
    }
}

/// A number in bounds.
fn number(text: &str, least: f64, most: f64) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(n) if n >= least && n <= most => Ok(n),
        _ => Err(format!("a number from {least} to {most}")),
    }
}

pub fn factor(text: &str) -> Result<f64, String> {
    number(text, 1.0, 1000.0)
}

/// Reads `1024` or `1KiB`.
pub fn bytes(text: &str) -> Result<u64, String> {
    match parse_size(text) {
        Ok(Size::Bytes(bytes)) if (1..=1 << 30).contains(&bytes) => Ok(bytes),
        _ => Err("bytes from 1 to 1GiB, as in 1024 or 1KiB".into()),
    }
}

/// Reads `7`, `7d` or `12h`.
pub fn days(text: &str) -> Result<f64, String> {
    let (text, of_a_day) = match text.strip_suffix('h') {
        Some(hours) => (hours, 24.0),
        None => (text.strip_suffix('d').unwrap_or(text), 1.0),
    };
    number(text, 0.001 * of_a_day, 36_500.0 * of_a_day).map(|n| n / of_a_day)
}

pub fn seconds(text: &str) -> Result<f64, String> {
    number(text, 0.1, 86_400.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_units() {
        assert_eq!(rate("50000"), Ok(Rate::RecordsPerS(50_000.0)));
        assert_eq!(rate("50000/s"), Ok(Rate::RecordsPerS(50_000.0)));
        assert_eq!(rate("1.5GB/s"), Ok(Rate::BytesPerS(1.5e9)));
        for nonsense in ["", "0", "-1", "NaN", "inf", "fast", "MB/s", "1 TB/s"] {
            assert!(rate(nonsense).is_err(), "{nonsense}");
        }
        assert!(factor("0.5").is_err() && factor("NaN").is_err());
    }

    #[test]
    fn sizes_and_times_may_have_units() {
        assert_eq!((bytes("1024"), bytes("1KiB")), (Ok(1024), Ok(1024)));
        for nonsense in ["", "0", "auto", "2GiB", "1.5KiB", "KiB", "-1"] {
            assert!(bytes(nonsense).is_err(), "{nonsense}");
        }
        assert_eq!(
            (days("7"), days("7d"), days("12h")),
            (Ok(7.0), Ok(7.0), Ok(0.5))
        );
        for nonsense in ["", "0", "-3", "d", "h", "0h", "7w", "7dh", "NaN"] {
            assert!(days(nonsense).is_err(), "{nonsense}");
        }
    }
}
