//! The demo publisher: twenty years of the S&P 500, four trading days a second, for ever.
//!
//! A push server with nothing to push shows nothing. `encke serve --demo` therefore publishes real quotes to one
//! channel, and the first page draws them. The quotes are embedded, so that the demo needs no file and no network;
//! `src/web/DATA.md` says where they come from.
//!
//! The demo is a publisher like any other: it runs on a thread of its own, knows neither hub nor reactor, and
//! hands each message to a closure. Nothing in it is on the data path.

use std::iter::{Cycle, Skip};
use std::str::Lines;
use std::thread;
use std::time::Duration;

/// The channel the demo publishes to and the first page subscribes to.
pub const CHANNEL: &str = "demo/ticks";

/// The Content-Type of what [`Ticks`] yields.
pub const CONTENT_TYPE: &str = "application/json";

/// Time between two ticks: fast enough to look alive, slow enough for the eye to follow.
const PERIOD: Duration = Duration::from_millis(250);

const QUOTES: &str = include_str!("web/sp500.csv");

/// Publishes a tick every quarter of a second until `publish` returns false. Blocks: give it a thread of its own.
pub fn run(publish: impl FnMut(String) -> bool) {
    pace(Ticks::new(), PERIOD, publish);
}

fn pace(ticks: impl Iterator<Item = String>, period: Duration, mut publish: impl FnMut(String) -> bool) {
    for tick in ticks {
        if !publish(tick) {
            return;
        }
        thread::sleep(period);
    }
}

/// The quotes as JSON messages, oldest first, starting again after the last: it never ends.
#[derive(Clone, Debug)]
pub struct Ticks {
    rows: Cycle<Skip<Lines<'static>>>,
}

impl Ticks {
    /// Starts at the first trading day.
    pub fn new() -> Self {
        // The first line names the columns.
        Self { rows: QUOTES.lines().skip(1).cycle() }
    }
}

impl Default for Ticks {
    fn default() -> Self {
        Self::new()
    }
}

impl Iterator for Ticks {
    type Item = String;

    // A malformed row would end the ticks rather than panic; the tests prove that the file has none.
    fn next(&mut self) -> Option<String> {
        self.rows.next().and_then(message)
    }
}

/// One row as a message; `None` if a column is missing or too many. The numbers of the file are JSON numbers
/// already, so they are copied as they stand and nothing is rounded on the way.
fn message(row: &str) -> Option<String> {
    let mut columns = row.split(',');
    let mut column = || columns.next();
    let (date, open, high, low, close, volume) =
        (column()?, column()?, column()?, column()?, column()?, column()?);
    if column().is_some() {
        return None;
    }
    Some(format!(
        r#"{{"symbol":"S&P 500","date":"{date}","open":{open},"high":{high},"low":{low},"close":{close},"volume":{volume}}}"#
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Quote {
        symbol: String,
        date: String,
        open: f64,
        high: f64,
        low: f64,
        close: f64,
        volume: u64,
    }

    fn parse(message: &str) -> Quote {
        serde_json::from_str(message).unwrap_or_else(|e| panic!("{e} in {message}"))
    }

    fn rows() -> usize {
        QUOTES.lines().count() - 1
    }

    fn is_date(text: &str) -> bool {
        text.len() == 10
            && text.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            })
    }

    #[test]
    fn every_row_is_a_plausible_quote_and_days_ascend() {
        let mut before = String::new();
        for row in QUOTES.lines().skip(1) {
            let quote = parse(&message(row).unwrap_or_else(|| panic!("malformed row {row}")));
            assert_eq!(quote.symbol, "S&P 500");
            assert!(is_date(&quote.date), "{row}");
            assert!(quote.date > before, "{row} does not follow {before}");
            assert!(0.0 < quote.low && quote.low <= quote.high, "{row}");
            assert!((quote.low..=quote.high).contains(&quote.open), "{row}");
            assert!((quote.low..=quote.high).contains(&quote.close), "{row}");
            assert!(quote.volume > 0, "{row}");
            before = quote.date;
        }
        assert_eq!(rows(), 5105);
    }

    #[test]
    fn the_file_has_the_columns_the_messages_name() {
        assert_eq!(QUOTES.lines().next(), Some("date,open,high,low,close,volume"));
    }

    #[test]
    fn the_first_message_is_the_documented_one() {
        assert_eq!(
            Ticks::new().next().as_deref(),
            Some(
                r#"{"symbol":"S&P 500","date":"2000-01-03","open":1469.25,"high":1478.00,"low":1438.36,"close":1455.22,"volume":931800000}"#
            )
        );
    }

    #[test]
    fn after_the_last_day_comes_the_first_again() {
        let mut ticks = Ticks::new().skip(rows() - 1);
        assert_eq!(parse(&ticks.next().unwrap()).date, "2020-04-17");
        assert_eq!(ticks.next(), Ticks::new().next());
    }

    #[test]
    fn a_row_of_the_wrong_width_is_no_message() {
        for row in ["", "2000-01-03", "2000-01-03,1,2,0,1", "2000-01-03,1,2,0,1,5,6"] {
            assert_eq!(message(row), None, "{row:?}");
        }
    }

    #[test]
    fn publishing_goes_in_order_and_stops_when_told() {
        let mut seen = Vec::new();
        pace(Ticks::new(), Duration::ZERO, |tick| {
            seen.push(tick);
            seen.len() < 5
        });
        assert_eq!(seen, Ticks::new().take(5).collect::<Vec<_>>());
    }
}
