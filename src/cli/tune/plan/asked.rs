//! Numbers as they are given: rates, factors, times.

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

pub fn days(text: &str) -> Result<f64, String> {
    number(text, 0.001, 36_500.0)
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
        assert!(days("0").is_err() && days("-3").is_err());
    }
}
