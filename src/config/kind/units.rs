//! Times and sizes: numbers that may have a unit behind them.

use std::ops::RangeInclusive;

use super::{Describe, Given, Kind, quote};

/// What may follow a number, in any case, and how much it stands for.
type Units = &'static [(&'static str, u64)];

/// The number in front of a unit, times what the unit stands for; a number alone is itself.
fn with_unit(text: &str, units: Units) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = (text[..digits].parse::<u64>().ok()?, text[digits..].trim_start());
    if unit.is_empty() {
        return Some(number);
    }
    let (_, factor) = units.iter().find(|(name, _)| unit.eq_ignore_ascii_case(name))?;
    number.checked_mul(*factor)
}

/// A time: a plain number of the unit that is in the setting's name, or one with its unit.
pub enum Time {
    /// In seconds.
    Seconds(RangeInclusive<u64>),
    /// In milliseconds.
    Millis(RangeInclusive<u64>),
}

const TIME_UNITS: Units =
    &[("ms", 1), ("s", 1000), ("m", 60_000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl Time {
    /// What is allowed, how many milliseconds one of it has, and its name.
    const fn parts(&self) -> (&RangeInclusive<u64>, u64, &'static str) {
        match self {
            Self::Seconds(range) => (range, 1000, "seconds"),
            Self::Millis(range) => (range, 1, "milliseconds"),
        }
    }
}

/// A time of any unit, in milliseconds; a number alone is seconds.
pub fn milliseconds(text: &str) -> Option<u64> {
    let text = text.trim();
    match text.parse::<u64>() {
        Ok(seconds) => seconds.checked_mul(1000),
        Err(_) => with_unit(text, TIME_UNITS),
    }
}

impl Describe for Time {
    fn allowed(&self) -> String {
        let (range, _, unit) = self.parts();
        format!(
            "a time from {} to {} {unit}, as a number or as 500ms, 15s, 2m, 1h, 1d",
            range.start(),
            range.end()
        )
    }

    fn placeholder(&self) -> &'static str {
        "TIME"
    }
}

impl Kind<u64> for Time {
    fn read(&self, given: Given<'_>) -> Option<u64> {
        let (range, factor, _) = self.parts();
        let number = match given.integer() {
            Some(number) => number,
            None => {
                let millis = with_unit(given.text()?, TIME_UNITS)?;
                millis.is_multiple_of(factor).then_some(millis / factor)?
            }
        };
        range.contains(&number).then_some(number)
    }

    fn show(&self, value: &u64) -> String {
        value.to_string()
    }
}

/// A size in bytes: a plain number, or one with `KiB`, `MiB` or `GiB`. `KB` and `K` are the same as `KiB`, 1024 bytes,
/// as they are for nginx, Redis and PostgreSQL.
pub struct Bytes(pub RangeInclusive<u64>);

const BYTE_UNITS: Units = &[
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1 << 30),
    ("MB", 1 << 20),
    ("KB", 1 << 10),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
    ("B", 1),
];

impl Bytes {
    fn print(bytes: u64) -> String {
        match BYTE_UNITS.iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor)) {
            Some((name, factor)) if *factor > 1 => format!("{}{name}", bytes / factor),
            _ => bytes.to_string(),
        }
    }
}

impl Describe for Bytes {
    fn allowed(&self) -> String {
        let (least, most) = (Self::print(*self.0.start()), Self::print(*self.0.end()));
        format!("a size from {least} to {most}, in bytes or as 512KiB, 64KB, 1MiB, 2GiB")
    }

    fn placeholder(&self) -> &'static str {
        "SIZE"
    }
}

impl Kind<usize> for Bytes {
    fn read(&self, given: Given<'_>) -> Option<usize> {
        let bytes = given.integer().or_else(|| with_unit(given.text()?, BYTE_UNITS))?;
        usize::try_from(bytes).ok().filter(|_| self.0.contains(&bytes))
    }

    fn show(&self, value: &usize) -> String {
        let printed = Self::print(*value as u64);
        if printed.ends_with('B') { quote(&printed) } else { printed }
    }
}
