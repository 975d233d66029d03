//! What was measured, as a table for terminals, as Markdown and as JSON.

use std::fmt::Write;

use serde::Serialize;

use crate::statistics::Ratio;

/// One measure.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub measure: String,
    pub unit: &'static str,
    /// Server and value.
    pub values: Vec<(&'static str, f64)>,
    /// Server and its ratio to the floor: mean, error.
    pub ratios: Vec<(&'static str, f64, f64)>,
    pub goal: Option<Goal>,
}

/// What the server under test should reach.
#[derive(Clone, Copy, Debug, Serialize)]
pub enum Goal {
    /// Of the ratio to the floor.
    RatioAtMost(f64),
    RatioAtLeast(f64),
    /// Of the value.
    AtMost(f64),
    /// Of a value that is itself a ratio with an error of so much.
    Unchanged {
        error: f64,
    },
}

impl Row {
    pub fn new(measure: impl Into<String>, unit: &'static str) -> Self {
        Self { measure: measure.into(), unit, values: Vec::new(), ratios: Vec::new(), goal: None }
    }

    pub fn value(mut self, server: &'static str, value: f64) -> Self {
        self.values.push((server, value));
        self
    }

    pub fn ratio(mut self, server: &'static str, ratio: Ratio) -> Self {
        self.ratios.push((server, ratio.mean, ratio.error));
        self
    }

    pub fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    /// Whether `server` reaches the goal; with a question mark where the error leaves it open.
    fn reached(&self, server: &str) -> Option<&'static str> {
        let ratio =
            self.ratios.iter().find(|(name, ..)| *name == server).map(|(_, mean, error)| (*mean, *error));
        let value = self.values.iter().find(|(name, _)| *name == server).map(|(_, value)| *value);
        // By how much it is better than asked, and how sure that is.
        let (margin, error) = match self.goal? {
            Goal::RatioAtMost(most) => ratio.map(|(mean, error)| (most - mean, error))?,
            Goal::RatioAtLeast(least) => ratio.map(|(mean, error)| (mean - least, error))?,
            Goal::AtMost(most) => (most - value?, 0.0),
            Goal::Unchanged { error } => (1.0 + error - value?, 0.0),
        };
        Some(match (margin >= 0.0, margin.abs() < error) {
            (true, false) => "yes",
            (true, true) => "yes?",
            (false, true) => "no?",
            (false, false) => "NO",
        })
    }
}

impl Goal {
    fn text(self) -> String {
        match self {
            Self::RatioAtMost(most) => format!("≤ {most} × floor"),
            Self::RatioAtLeast(least) => format!("≥ {least} × floor"),
            Self::AtMost(most) => format!("≤ {most}"),
            Self::Unchanged { error } => format!("unchanged within ± {error:.2}"),
        }
    }
}

/// Rows as cells; the first row is the heading.
fn cells(rows: &[Row], servers: &[&'static str], judged: &str) -> Vec<Vec<String>> {
    let mut heading = vec!["measure".to_string(), "unit".into()];
    heading.extend(servers.iter().map(ToString::to_string));
    heading.extend(servers.iter().skip(1).map(|name| format!("{name} ÷ floor")));
    heading.extend(["goal".into(), "reached".into()]);
    let mut table = vec![heading];
    for row in rows {
        let mut line = vec![row.measure.clone(), row.unit.into()];
        for server in servers {
            let value = row.values.iter().find(|(name, _)| name == server);
            line.push(value.map_or_else(|| "–".into(), |(_, value)| number(*value)));
        }
        for server in &servers[1..] {
            let ratio = row.ratios.iter().find(|(name, ..)| name == server);
            line.push(ratio.map_or_else(|| "–".into(), |(_, mean, error)| format!("{mean:.2} ± {error:.2}")));
        }
        line.push(row.goal.map_or_else(|| "–".into(), Goal::text));
        line.push(row.reached(judged).unwrap_or("–").into());
        table.push(line);
    }
    table
}

fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{:.3} M", value / 1e6),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

pub fn markdown(rows: &[Row], servers: &[&'static str], judged: &str) -> String {
    let mut out = String::new();
    for (at, line) in cells(rows, servers, judged).iter().enumerate() {
        _ = writeln!(out, "| {} |", line.join(" | "));
        if at == 0 {
            _ = writeln!(out, "|{}", "---|".repeat(line.len()));
        }
    }
    out
}

pub fn text(rows: &[Row], servers: &[&'static str], judged: &str) -> String {
    let table = cells(rows, servers, judged);
    let width = |column: usize| table.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..table[0].len()).map(width).collect();
    let mut out = String::new();
    for line in &table {
        for (at, cell) in line.iter().enumerate() {
            let gap = " ".repeat(widths[at] - cell.chars().count());
            _ = if at < 2 { write!(out, "{cell}{gap}  ") } else { write!(out, "{gap}{cell}  ") };
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    out
}
