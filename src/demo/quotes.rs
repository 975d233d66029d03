//! Simulated trading: each quarter of the S&P 500 is an instrument, and moves tick by tick from open to close of its real
//! days. A quote is a keyed message, so that subscribers with `latest` have a table of prices.
//!
//! The same every time: the randomness has a fixed seed.

use crate::id::Random;
use std::fmt::Write;

/// The channel of the quotes; their keys are the symbols.
pub const CHANNEL: &str = "demo/quotes";

/// Each instrument has a channel below this for its bars: the last price and the volume of two seconds. Whoever draws a
/// chart of it asks for those that are kept.
pub const BARS: &str = "demo/bars/";

/// Steps from one bar to the next: two seconds.
pub const STEPS_A_BAR: usize = 40;

/// Bars that are there when the market opens, so that a chart has something to show.
const BARS_BEFORE: u64 = 90;

/// Trades of an instrument in one of these.
const TRADES_A_BAR: usize = 7;

/// Quotes that change at once: with [`super::STEP`] two hundred a second.
const QUOTES_A_STEP: usize = 10;

/// Trades of an instrument in one of its days: half a minute.
const TRADES_A_DAY: u32 = 100;

/// The days before this one whose closes a quote names.
const CLOSES: usize = 20;

/// Quarters of fewer days are left out.
const DAYS_MIN: usize = 40;

const SEED: u64 = 1786;

/// A trading day. Prices in cents.
#[derive(Debug, Clone)]
struct Day {
    date: &'static str,
    open: i64,
    high: i64,
    low: i64,
    close: i64,
    volume: i64,
}

impl Day {
    fn of(row: &'static str) -> Option<Self> {
        let mut columns = row.split(',');
        let date = columns.next().filter(|date| date.len() == 10)?;
        let mut cents = || Some((columns.next()?.parse::<f64>().ok()? * 100.0).round() as i64);
        let (open, high, low, close) = (cents()?, cents()?, cents()?, cents()?);
        Some(Self { date, open, high, low, close, volume: columns.next()?.parse().ok()? })
    }

    /// Such as `SPX08Q4`.
    fn symbol(&self) -> Option<String> {
        let month: u32 = self.date[5..7].parse().ok()?;
        Some(format!("SPX{}Q{}", &self.date[2..4], month.div_ceil(3)))
    }

    /// The price after so many trades, without noise: from the open to one extreme, to the other, to the close.
    fn price(&self, trades: u32) -> i64 {
        let (first, second) =
            if self.close > self.open { (self.low, self.high) } else { (self.high, self.low) };
        let way = [self.open, first, second, self.close];
        let at = trades.min(TRADES_A_DAY) * 3;
        let leg = (at / TRADES_A_DAY).min(2) as usize;
        let (from, to) = (way[leg], way[leg + 1]);
        from + (to - from) * (i64::from(at) - leg as i64 * i64::from(TRADES_A_DAY)) / i64::from(TRADES_A_DAY)
    }
}

#[derive(Debug)]
struct Instrument {
    symbol: String,
    days: Vec<Day>,
    today: usize,
    last: i64,
    high: i64,
    low: i64,
    volume: i64,
    /// Today, and ever.
    trades: (u32, u64),
    /// The channel of its bars, and the volume since the last one.
    bars: &'static str,
    traded: i64,
}

impl Instrument {
    fn new(symbol: String, days: Vec<Day>) -> Self {
        let open = days[CLOSES].open;
        // For as long as the process lives, as it publishes there all the time.
        let bars = format!("{BARS}{symbol}").leak();
        let (volume, trades, traded) = (0, (0, 0), 0);
        Self { symbol, days, today: CLOSES, last: open, high: open, low: open, volume, trades, bars, traded }
    }

    /// The day so many days before; before the first comes the last.
    fn day(&self, before: usize) -> &Day {
        &self.days[(self.today + self.days.len() - before) % self.days.len()]
    }

    fn trade(&mut self, random: &mut Random) {
        if self.trades.0 == TRADES_A_DAY {
            self.today = (self.today + 1) % self.days.len();
            (self.last, self.volume, self.trades.0) = (self.day(0).open, 0, 0);
            (self.high, self.low) = (self.last, self.last);
        }
        self.trades = (self.trades.0 + 1, self.trades.1 + 1);
        let day = self.day(0);
        let (left, noise) = (i64::from(TRADES_A_DAY - self.trades.0), (day.high - day.low) / 12 + 1);
        let off = random.below(2 * noise as u64 + 1) as i64 - noise;
        // The last trade makes the real close and the real volume.
        let last =
            if left == 0 { day.close } else { (day.price(self.trades.0) + off).clamp(day.low, day.high) };
        let some = (day.volume - self.volume) / (left + 1);
        let volume = if left == 0 { some } else { some / 2 + random.below(some.max(1) as u64) as i64 };
        self.last = last;
        self.volume += volume;
        self.traded += volume;
        self.high = self.high.max(last);
        self.low = self.low.min(last);
    }

    /// What was traded since the last bar, which ends at `time`, milliseconds since 1970.
    fn bar(&mut self, time: u64) -> (&'static str, String) {
        let volume = std::mem::take(&mut self.traded);
        (self.bars, format!(r#"{{"time":{time},"last":{},"volume":{volume}}}"#, money(self.last)))
    }

    fn quote(&self, random: &mut Random) -> String {
        let spread = 5 + random.below(20) as i64;
        let mut json = format!(
            r#"{{"symbol":"{}","date":"{}","previous":{},"low":{},"high":{},"last":{},"bid":{},"ask":{},"volume":{},"trades":{},"closes":["#,
            self.symbol,
            self.day(0).date,
            money(self.day(1).close),
            money(self.low),
            money(self.high),
            money(self.last),
            money(self.last - spread),
            money(self.last + spread),
            self.volume,
            self.trades.1,
        );
        for before in (1..=CLOSES).rev() {
            let comma = if before == 1 { "" } else { "," };
            let _ = write!(json, "{}{comma}", money(self.day(before).close));
        }
        json + "]}"
    }
}

fn money(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// All instruments.
#[derive(Debug)]
pub struct Market {
    instruments: Vec<Instrument>,
    random: Random,
    opened: usize,
}

impl Market {
    /// The market of these daily quotes; malformed rows are left out.
    pub fn new(rows: &'static str) -> Self {
        let mut quarters: Vec<(String, Vec<Day>)> = Vec::new();
        for day in rows.lines().filter_map(Day::of) {
            let Some(symbol) = day.symbol() else { continue };
            match quarters.last_mut() {
                Some((last, days)) if *last == symbol => days.push(day),
                _ => quarters.push((symbol, vec![day])),
            }
        }
        quarters.retain(|(_, days)| days.len() >= DAYS_MIN);
        let instruments = quarters.into_iter().map(|(symbol, days)| Instrument::new(symbol, days)).collect();
        Self { instruments, random: Random::new(SEED), opened: 0 }
    }

    /// The bars of all instruments that end at `time`, milliseconds since 1970, and their channels.
    pub fn bars(&mut self, time: u64) -> Vec<(&'static str, String)> {
        self.instruments.iter_mut().map(|instrument| instrument.bar(time)).collect()
    }

    /// Trades for three minutes, which end at `time`: the bars of these.
    pub fn past(&mut self, time: u64) -> Vec<(&'static str, String)> {
        let period = STEPS_A_BAR as u64 * super::STEP.as_millis() as u64;
        let mut all = Vec::new();
        for before in (1..=BARS_BEFORE).rev() {
            for instrument in &mut self.instruments {
                for _ in 0..TRADES_A_BAR {
                    instrument.trade(&mut self.random);
                }
            }
            all.extend(self.bars(time.saturating_sub(before * period)));
        }
        all
    }

    /// Some trades: symbols and quotes. The first ones open the market, each instrument once.
    pub fn step(&mut self) -> Vec<(String, String)> {
        (0..QUOTES_A_STEP.min(self.instruments.len()))
            .map(|_| {
                let count = self.instruments.len();
                let at =
                    if self.opened < count { self.opened } else { self.random.below(count as u64) as usize };
                self.opened = (self.opened + 1).min(count);
                let instrument = &mut self.instruments[at];
                instrument.trade(&mut self.random);
                (instrument.symbol.clone(), instrument.quote(&mut self.random))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeMap;

    #[test]
    fn the_market_opens_with_each_instrument_once() {
        let mut market = Market::new(super::super::QUOTES);
        let count = market.instruments.len();
        let first: Vec<_> =
            (0..6).flat_map(|_| market.step()).map(|(symbol, _)| symbol).take(count).collect();
        let mut symbols = first.clone();
        symbols.sort();
        symbols.dedup();
        assert_eq!(
            (count, symbols.len(), first[0].as_str(), first[56].as_str()),
            (57, 57, "SPX06Q1", "SPX20Q1")
        );
    }

    #[test]
    fn quotes_stay_within_the_real_day_and_days_end_as_they_did() {
        let mut market = Market::new(super::super::QUOTES);
        let mut before: BTreeMap<String, (String, f64, u64)> = BTreeMap::new();
        let mut ends = 0;
        let rows: BTreeMap<_, _> =
            super::super::QUOTES.lines().filter_map(|row| row.split_once(',')).collect();
        for (symbol, json) in (0..1500).flat_map(|_| market.step()) {
            let quote: Value = serde_json::from_str(&json).unwrap();
            let price = |name: &str| quote[name].as_f64().unwrap();
            let date = quote["date"].as_str().unwrap();
            let row = rows[date];
            let real: Vec<f64> = row.split(',').map(|number| number.parse().unwrap()).collect();
            assert_eq!(quote["symbol"], *symbol);
            assert!((real[2]..=real[1]).contains(&price("last")), "{json} on {row}");
            assert!(price("low") <= price("last") && price("last") <= price("high"), "{json}");
            assert!(price("bid") < price("last") && price("last") < price("ask"), "{json}");
            assert!(
                price("volume") <= real[4] && quote["closes"].as_array().unwrap().len() == CLOSES,
                "{json}"
            );
            assert_eq!(quote["closes"][CLOSES - 1], quote["previous"]);
            let trades = quote["trades"].as_u64().unwrap();
            if let Some((day, last, had)) = before.get(&symbol) {
                assert_eq!(trades, had + 1);
                if day != date {
                    assert!(*last == price("previous"), "{day} ended at {last}: {json}");
                    ends += 1;
                }
            }
            before.insert(symbol, (date.to_owned(), price("last"), trades));
        }
        assert!(ends > 50, "{ends}");
    }

    #[test]
    fn bars_are_what_was_traded() {
        let mut market = Market::new(super::super::QUOTES);
        let now = 1_800_000_000_000;
        let past = market.past(now);
        assert_eq!(past.len(), 57 * BARS_BEFORE as usize);
        let of_one: Vec<Value> = past
            .iter()
            .filter(|(channel, _)| *channel == "demo/bars/SPX06Q1")
            .map(|(_, bar)| serde_json::from_str(bar).unwrap())
            .collect();
        let times: Vec<u64> = of_one.iter().map(|bar| bar["time"].as_u64().unwrap()).collect();
        assert_eq!((times[0], times[BARS_BEFORE as usize - 1]), (now - 180_000, now - 2000));
        assert!(
            of_one.iter().all(|bar| bar["last"].as_f64().unwrap() > 0.0 && bar["volume"].as_i64() > Some(0))
        );
        // Of the next, the volume is that of the quotes, if no day ends.
        let quote = |json: &str| serde_json::from_str::<Value>(json).unwrap();
        let quotes: Vec<Value> = (0..6).flat_map(|_| market.step()).map(|(_, json)| quote(&json)).collect();
        let bars = market.bars(now);
        let mut compared = 0;
        for (channel, bar) in bars {
            let quotes: Vec<&Value> =
                quotes.iter().filter(|quote| channel.ends_with(quote["symbol"].as_str().unwrap())).collect();
            let bar = quote(&bar);
            if let [only] = quotes[..] {
                assert_eq!((&bar["last"], bar["volume"].as_i64() >= Some(0)), (&only["last"], true));
                compared += 1;
            }
        }
        assert!(compared > 50, "{compared}");
    }

    #[test]
    fn nothing_to_trade_is_no_trade() {
        assert!(Market::new("date,open,high,low,close,volume\n2006-01-03,1,2").step().is_empty());
    }
}
