//! Numbers with the unit that suits them.

/// Units of a kind, each so many of the one before it.
const KINDS: [(&[&str], f64); 3] = [
    (&["B/s", "kB/s", "MB/s", "GB/s"], 1000.0),
    (&["MB", "GB", "TB", "PB"], 1000.0),
    (&["MiB", "GiB", "TiB"], 1024.0),
];

/// A value in the unit in which it has one to three digits before the point, where there is one.
pub fn shown(value: f64, unit: &str) -> String {
    let (value, unit) = scaled(value, unit);
    let number = match value {
        v if v == v.trunc() => format!("{v:.0}"),
        v if v >= 100.0 => format!("{v:.0}"),
        v => format!("{v:.2}"),
    };
    format!("{number} {unit}").trim_end().to_owned()
}

fn scaled(value: f64, unit: &str) -> (f64, &str) {
    let kind = KINDS.iter().find_map(|(units, step)| {
        let at = units.iter().position(|known| *known == unit)?;
        Some((units, *step, at))
    });
    let Some((units, step, mut at)) = kind else {
        return (value, unit);
    };
    let mut value = value;
    while value >= step && at + 1 < units.len() {
        value /= step;
        at += 1;
    }
    while value > 0.0 && value < 1.0 && at > 0 {
        value *= step;
        at -= 1;
    }
    (value, units[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(shown(3.0, ""), "3");
        assert_eq!(shown(123.4, "MB/s"), "123 MB/s");
        assert_eq!(shown(1.239, "GiB"), "1.24 GiB");
    }

    #[test]
    fn units_follow_the_value() {
        assert_eq!(shown(0.001, "MB/s"), "1 kB/s");
        assert_eq!(shown(0.000_512, "MB/s"), "512 B/s");
        assert_eq!(shown(1234.5, "MB/s"), "1.23 GB/s");
        assert_eq!(shown(0.0005, "TB"), "500 MB");
        assert_eq!(shown(512.0, "MiB"), "512 MiB");
        assert_eq!(shown(2048.0, "MiB"), "2 GiB");
        assert_eq!(shown(0.0, "MB/s"), "0 MB/s");
    }
}
