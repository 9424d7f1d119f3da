//! Values of ours that are more than a number: cores, lanes, ports, sizes.

use std::fmt;

/// Which cores the shards run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// Every core that the process may use.
    All,
    /// The first so many of them.
    Count(usize),
    /// These, by the kernel's numbers, without repetition.
    List(Vec<usize>),
}

/// How shards are shown to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneMode {
    /// As nodes on one port, to clients that are known to cope.
    Auto,
    /// As nodes with a port each, to all clients.
    Ports,
    /// Not at all: the machine is one node.
    Off,
}

/// Ports of the lanes on one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The listener's name; `None` where there is only one listener.
    pub listener: Option<String>,
    /// Port of lane 0.
    pub first: u16,
    /// Last port of the range.
    pub last: u16,
}

/// What is shown of the shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lanes {
    /// `corelane.lanes`
    pub mode: LaneMode,
    /// `corelane.lanes.max`; `None` shows all.
    pub max: Option<usize>,
    /// `corelane.lanes.ports`, for [`LaneMode::Ports`].
    pub ports: Vec<PortRange>,
}

/// A number of bytes, or what fits the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Decided at start.
    Auto,
    /// As configured.
    Bytes(u64),
}

impl fmt::Display for LaneMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LaneMode::Auto => "auto",
            LaneMode::Ports => "ports",
            LaneMode::Off => "off",
        })
    }
}

/// More cores than any machine has: keeps a typing error from reserving memory.
const CORES_MAX: usize = 4096;

/// Reads `all`, `4` or `0,2-5`. A single number is a count; one core by its number is `3,` or
/// `3-3`.
pub(super) fn parse_cores(text: &str) -> Result<Cores, String> {
    const WANT: &str = "expected all, a number of cores, or a list such as 0,2-5";
    let text = text.trim();
    if text == "all" {
        return Ok(Cores::All);
    }
    let core = |s: &str| {
        s.trim()
            .parse::<usize>()
            .ok()
            .filter(|n| *n < CORES_MAX)
            .ok_or_else(|| WANT.to_owned())
    };
    if !text.contains([',', '-']) {
        return match core(text)? {
            0 => Err("at least one core is needed".to_owned()),
            n => Ok(Cores::Count(n)),
        };
    }
    let mut list = Vec::new();
    // a comma at the end makes a list of one
    for part in text.strip_suffix(',').unwrap_or(text).split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (core(first)?, core(last)?),
            None => (core(part)?, core(part)?),
        };
        if first > last {
            return Err(format!("{part} counts down"));
        }
        for n in first..=last {
            if list.contains(&n) {
                return Err(format!("core {n} stands twice"));
            }
            list.push(n);
        }
    }
    Ok(Cores::List(list))
}

/// Reads `9192-9199` or `NAME:9192-9199,OTHER:9292-9299`.
pub(super) fn parse_ports(text: &str) -> Result<Vec<PortRange>, String> {
    let mut ranges = Vec::new();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (listener, ports) = match part.rsplit_once(':') {
            Some((name, ports)) => (Some(name.trim().to_owned()), ports),
            None => (None, part),
        };
        let range = ports.split_once('-').and_then(|(first, last)| {
            let first: u16 = first.trim().parse().ok()?;
            let last: u16 = last.trim().parse().ok()?;
            (first > 0 && first <= last).then_some((first, last))
        });
        let Some((first, last)) = range else {
            return Err(format!(
                "{part} is not a range of ports such as 9192-9199, or NAME:9192-9199"
            ));
        };
        ranges.push(PortRange {
            listener,
            first,
            last,
        });
    }
    Ok(ranges)
}

/// Reads `auto`, `65536`, `64KiB`, `16MiB`, `1GiB`; the `B` and a space before the unit are free.
///
/// # Errors
/// What was expected instead.
pub fn parse_size(text: &str) -> Result<Size, String> {
    let text = text.trim();
    if text == "auto" {
        return Ok(Size::Auto);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "KiB" | "Ki" | "K" | "k" => 10,
        "MiB" | "Mi" | "M" => 20,
        "GiB" | "Gi" | "G" => 30,
        "TiB" | "Ti" | "T" => 40,
        _ => u32::MAX,
    };
    number
        .parse::<u64>()
        .ok()
        .filter(|_| shift != u32::MAX)
        .and_then(|n| n.checked_mul(1u64 << shift.min(40)))
        .map(Size::Bytes)
        .ok_or_else(|| "expected auto, or a number of bytes such as 65536 or 64MiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_a_count_or_a_list() {
        assert_eq!(parse_cores("all"), Ok(Cores::All));
        assert_eq!(parse_cores("3"), Ok(Cores::Count(3)));
        assert_eq!(parse_cores("3-3"), Ok(Cores::List(vec![3])));
        assert_eq!(parse_cores("0,"), Ok(Cores::List(vec![0])));
        assert_eq!(parse_cores("0, 2-4"), Ok(Cores::List(vec![0, 2, 3, 4])));
        for bad in [
            "0",
            "",
            "x",
            ",",
            "1,,",
            "1,1",
            "4-2",
            "1-",
            "0-99999999999",
            "-1",
        ] {
            assert!(parse_cores(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_are_ranges_by_listener() {
        let one = parse_ports("9192-9199").unwrap();
        assert_eq!((one[0].first, one[0].last), (9192, 9199));
        assert_eq!(one[0].listener, None);
        let two = parse_ports("A:1-2, B:3-3").unwrap();
        assert_eq!(two[1].listener.as_deref(), Some("B"));
        for bad in ["9192", "0-5", "5-4", "1-70000", "A:x"] {
            assert!(parse_ports(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_take_units() {
        assert_eq!(parse_size("auto"), Ok(Size::Auto));
        assert_eq!(parse_size("4096"), Ok(Size::Bytes(4096)));
        assert_eq!(parse_size("16MiB"), Ok(Size::Bytes(16 << 20)));
        assert_eq!(parse_size("2 GiB"), Ok(Size::Bytes(2 << 30)));
        for bad in [
            "",
            "MiB",
            "1MB",
            "-1",
            "99999999999999999999",
            "9999999999TiB",
        ] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
