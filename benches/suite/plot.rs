//! Line plots as SVG, readable on light and dark pages.

use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 430.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 630.0;
const TOP: f64 = 46.0;
const BOTTOM: f64 = 374.0;
/// A line of more points than this has no dots.
const DOTS_MAX: usize = 60;
/// One per line: colours that differ for the colour-blind too, with enough contrast on white and on black.
const COLOURS: [&str; 5] = ["#8a8a8a", "#d55e00", "#0072b2", "#009e73", "#b07aa1"];

pub struct Plot {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub lines: Vec<Line>,
}

pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

pub struct Axis {
    label: &'static str,
    is_log: bool,
    /// Where the ticks are and what they say, instead of round numbers.
    names: Vec<(f64, &'static str)>,
}

impl Axis {
    pub fn log(label: &'static str) -> Self {
        Self { label, is_log: true, names: Vec::new() }
    }

    /// From 0.
    pub fn linear(label: &'static str) -> Self {
        Self { label, is_log: false, names: Vec::new() }
    }

    pub fn with_names(mut self, names: &[(f64, &'static str)]) -> Self {
        self.names = names.to_vec();
        self
    }

    fn scale(&self, values: impl Iterator<Item = f64> + Clone) -> Scale {
        let max = values.clone().fold(0.0, f64::max);
        let min = values.fold(f64::INFINITY, f64::min);
        if self.is_log {
            let (low, high) = (min.max(1e-9).log10(), max.max(1e-9).log10());
            let (low, high) = if self.names.is_empty() { (low.floor(), high.ceil()) } else { (low, high) };
            return Scale { low, high: high.max(low + 0.1), is_log: true };
        }
        Scale { low: 0.0, high: if max > 0.0 { max * 1.1 } else { 1.0 }, is_log: false }
    }

    fn ticks(&self, scale: &Scale) -> Vec<(f64, String)> {
        if !self.names.is_empty() {
            return self
                .names
                .iter()
                .map(|(at, name)| (*at, name.to_string()))
                .filter(|(at, _)| scale.holds(*at))
                .collect();
        }
        if scale.is_log {
            return (scale.low as i32..=scale.high as i32)
                .map(|power| 10f64.powi(power))
                .map(|at| (at, label(at)))
                .collect();
        }
        let rough = scale.high / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|times| times * power)
            .into_iter()
            .find(|&step| step >= rough)
            .unwrap_or(rough);
        (0..)
            .map(|count| f64::from(count) * step)
            .take_while(|at| *at <= scale.high)
            .map(|at| (at, label(at)))
            .collect()
    }
}

struct Scale {
    low: f64,
    high: f64,
    is_log: bool,
}

impl Scale {
    /// 0 at the low end, 1 at the high end.
    fn place(&self, value: f64) -> f64 {
        let value = if self.is_log { value.max(1e-9).log10() } else { value };
        (value - self.low) / (self.high - self.low)
    }

    fn holds(&self, value: f64) -> bool {
        (-0.001..=1.001).contains(&self.place(value))
    }
}

fn label(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{}M", value / 1e6),
        value if value >= 1e4 => format!("{}k", value / 1e3),
        value => format!("{value}"),
    }
}

impl Plot {
    pub fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| line.points.iter());
        let (x, y) = (self.x.scale(points().map(|p| p.0)), self.y.scale(points().map(|p| p.1)));
        let across = |value: f64| LEFT + x.place(value) * (RIGHT - LEFT);
        let down = |value: f64| BOTTOM - y.place(value) * (BOTTOM - TOP);
        let mut out = String::new();
        let o = &mut out;
        _ = writeln!(
            o,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
             <style>text{{fill:#333}}.grid{{stroke:#8884;stroke-width:1}}.line{{fill:none;stroke-width:2.2}}\
             @media(prefers-color-scheme:dark){{text{{fill:#ddd}}}}</style>\n\
             <text x=\"{LEFT}\" y=\"24\" font-size=\"16\" font-weight=\"600\">{}</text>",
            self.title
        );
        for (at, name) in self.x.ticks(&x) {
            let at = across(at);
            _ = writeln!(
                o,
                "<path class=\"grid\" d=\"M{at:.1} {TOP}V{BOTTOM}\"/><text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>",
                BOTTOM + 20.0
            );
        }
        for (at, name) in self.y.ticks(&y) {
            let at = down(at);
            _ = writeln!(
                o,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{RIGHT}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
                LEFT - 8.0,
                at + 4.0
            );
        }
        self.labels(o);
        for (at, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[at % COLOURS.len()];
            let path: Vec<String> =
                line.points.iter().map(|(px, py)| format!("{:.1} {:.1}", across(*px), down(*py))).collect();
            _ = writeln!(o, "<path class=\"line\" stroke=\"{colour}\" d=\"M{}\"/>", path.join("L"));
            for (px, py) in line.points.iter().filter(|_| line.points.len() <= DOTS_MAX) {
                _ = writeln!(
                    o,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
                    across(*px),
                    down(*py)
                );
            }
            let legend = TOP + 12.0 + 22.0 * at as f64;
            _ = writeln!(
                o,
                "<path class=\"line\" stroke=\"{colour}\" d=\"M{} {legend}h22\"/><text x=\"{}\" y=\"{}\">{}</text>",
                RIGHT + 14.0,
                RIGHT + 42.0,
                legend + 4.0,
                line.name
            );
        }
        out + "</svg>\n"
    }

    fn labels(&self, out: &mut String) {
        let (middle, centre) = ((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0);
        _ = writeln!(
            out,
            "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(20 {centre}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            BOTTOM + 44.0,
            self.x.label,
            self.y.label
        );
    }
}
