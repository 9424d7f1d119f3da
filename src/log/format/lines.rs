//! Text files of the shape "version, count, so many lines".

use crate::log::format::FormatError;

/// The lines after version 0 and the count, each with its number (from 1).
pub(super) fn counted(bytes: &[u8]) -> Result<Vec<(usize, &str)>, FormatError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|e| FormatError::at(e.valid_up_to(), "no text in UTF-8"))?;
    let mut lines = text.lines().enumerate().map(|(i, line)| (i + 1, line));
    let mut number = |what: &'static str| -> Result<i64, FormatError> {
        let (line, text) = lines
            .next()
            .ok_or_else(|| FormatError::line(1, format!("{what} is missing")))?;
        text.trim()
            .parse()
            .map_err(|_| FormatError::line(line, format!("{what} is no number")))
    };
    let version = number("the version")?;
    if version != 0 {
        return Err(FormatError::Version {
            got: version,
            newest: 0,
        });
    }
    let count = number("the count")?;
    let rest: Vec<(usize, &str)> = lines.filter(|(_, line)| !line.trim().is_empty()).collect();
    if usize::try_from(count) != Ok(rest.len()) {
        return Err(FormatError::line(
            2,
            format!("{count} entries are announced, {} are there", rest.len()),
        ));
    }
    Ok(rest)
}

/// The first lines of such a file.
pub(super) fn head(count: usize) -> String {
    format!("0\n{count}\n")
}
