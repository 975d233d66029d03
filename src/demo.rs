//! The demo publisher: fourteen years of the S&P 500, four trading days a second, ten years of five stocks, and a market
//! that is simulated around them (`quotes`), for ever.
//!
//! A push server with nothing to push shows nothing. `encke serve --demo` therefore publishes real quotes, and the
//! pages draw them: the index on one channel, each stock on a channel of its own. The quotes are embedded, so that the demo needs no file and no network;
//! `src/web/DATA.md` says where they come from.
//!
//! The demo is a publisher like any other: it runs on a thread of its own, knows neither hub nor reactor, and
//! hands each message to a closure. Nothing in it is on the data path.

pub mod quotes;

use std::iter::{Cycle, Skip};
use std::str::Lines;
use std::thread;
use std::time::{Duration, SystemTime};

/// The channel of the index, which the first page subscribes to.
pub const CHANNEL: &str = "demo/ticks";

/// The stocks, and the channel of each.
const STOCKS: [(&str, &str); 5] = [
    ("AAPL", "demo/stocks/AAPL"),
    ("AMZN", "demo/stocks/AMZN"),
    ("GOOG", "demo/stocks/GOOG"),
    ("IBM", "demo/stocks/IBM"),
    ("MSFT", "demo/stocks/MSFT"),
];

/// The Content-Type of what [`Ticks`] yields.
pub const CONTENT_TYPE: &str = "application/json";

/// Time between two steps of the market.
const STEP: Duration = Duration::from_millis(50);

/// Steps from one tick to the next, a quarter of a second: fast enough to look alive, slow enough for the eye to follow.
const STEPS_A_TICK: usize = 5;

const QUOTES: &str = include_str!("web/sp500.csv");

const PRICES: &str = include_str!("web/stocks.csv");

/// Publishes a day of the index and a price of one stock every quarter of a second, and quotes all the time, until
/// `publish`, which takes channel, key and message, returns false. Blocks: give it a thread of its own. With a history that
/// `lasts`, what is published goes on with the clock, not with the first day after each start.
pub fn run(lasts: bool, mut publish: impl FnMut(&'static str, Option<&str>, String) -> bool) {
    let mut market = quotes::Market::new(QUOTES);
    let passed = if lasts { ticks_by(since_1970()) } else { 0 };
    let days = QUOTES.lines().skip(1).count().max(1);
    let prices = PRICES.lines().skip(1).count().max(1);
    let mut ticks = Ticks::new().skip(passed % days).zip(stocks().skip(passed % prices));
    // What lasts has bars of the life before.
    let past = if lasts { Vec::new() } else { market.past(since_1970().as_millis() as u64) };
    if !past.into_iter().all(|(channel, bar)| publish(channel, None, bar)) {
        return;
    }
    pace(1usize.., STEP, |step| {
        if step % STEPS_A_TICK == 0
            && let Some((tick, (channel, price))) = ticks.next()
            && !(publish(CHANNEL, None, stamped(tick)) && publish(channel, None, stamped(price)))
        {
            return false;
        }
        if step % quotes::STEPS_A_BAR == 0 {
            let bars = market.bars(since_1970().as_millis() as u64);
            if !bars.into_iter().all(|(channel, bar)| publish(channel, None, bar)) {
                return false;
            }
        }
        market.step().into_iter().all(|(symbol, quote)| publish(quotes::CHANNEL, Some(&symbol), quote))
    });
}

/// How many ticks fit into that time.
const fn ticks_by(time: Duration) -> usize {
    (time.as_millis() / (STEP.as_millis() * STEPS_A_TICK as u128)) as usize
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The message with the time of its publication, from which a page on the same machine knows how long it took.
fn stamped(mut message: String) -> String {
    message.pop();
    message + &format!(r#","at":{}}}"#, since_1970().as_millis())
}

fn pace<T>(ticks: impl Iterator<Item = T>, period: Duration, mut publish: impl FnMut(T) -> bool) {
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

/// The prices of the stocks as channel and JSON message, month by month, starting again after the last.
fn stocks() -> impl Iterator<Item = (&'static str, String)> {
    // As above.
    PRICES.lines().skip(1).cycle().map_while(price)
}

/// One row of the stocks; `None` if it is malformed or of a stock that has no channel.
fn price(row: &str) -> Option<(&'static str, String)> {
    let mut columns = row.split(',');
    let (date, symbol, price) = (columns.next()?, columns.next()?, columns.next()?);
    let (symbol, channel) = STOCKS.iter().find(|(name, _)| *name == symbol)?;
    Some((*channel, format!(r#"{{"symbol":"{symbol}","date":"{date}","price":{price}}}"#)))
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
        assert_eq!(rows(), 3597);
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
                r#"{"symbol":"S&P 500","date":"2006-01-03","open":1248.29,"high":1270.22,"low":1245.74,"close":1268.80,"volume":2554570000}"#
            )
        );
    }

    #[test]
    fn every_price_of_a_stock_is_a_message_and_months_ascend() {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Price {
            symbol: String,
            date: String,
            price: f64,
        }
        let rows = PRICES.lines().count() - 1;
        let mut before = String::new();
        for (channel, message) in stocks().take(rows) {
            let price: Price = serde_json::from_str(&message).unwrap();
            assert!(channel.ends_with(&format!("/{}", price.symbol)), "{message}");
            assert!(is_date(&price.date) && price.date >= before && price.price > 0.0, "{message}");
            before = price.date;
        }
        assert_eq!((rows, before.as_str()), (560, "2010-03-01"));
        assert_eq!(stocks().nth(rows), stocks().next());
    }

    #[test]
    fn a_stamp_is_another_member() {
        let stamped: serde_json::Value = serde_json::from_str(&stamped(r#"{"a":1}"#.into())).unwrap();
        assert!(stamped["a"] == 1 && stamped["at"].is_u64(), "{stamped}");
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
