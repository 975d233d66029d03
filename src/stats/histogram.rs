//! How long something took, in fixed classes: adding is a search among a dozen numbers.

use std::fmt::Write;

/// Upper bounds of the classes, in microseconds; what takes longer has one of its own.
pub const BOUNDS_US: [u64; 13] =
    [25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 2_500_000];

/// Durations, counted by class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Histogram {
    /// Each class without those before it.
    pub classes: [u64; BOUNDS_US.len() + 1],
    /// All together, in microseconds.
    pub sum_us: u64,
}

impl Histogram {
    /// Counts `count` things that took `us` microseconds each.
    pub fn add(&mut self, us: u64, count: u64) {
        self.classes[BOUNDS_US.partition_point(|&bound| bound < us)] += count;
        self.sum_us += us * count;
    }
}

/// Appends a histogram in the Prometheus text format, for any classes.
pub fn write(text: &mut String, name: &str, help: &str, (bounds_us, classes): (&[u64], &[u64]), sum_us: u64) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
    let mut count = 0;
    for (class, more) in classes.iter().enumerate() {
        count += more;
        let bound = bounds_us.get(class).map_or_else(|| "+Inf".to_owned(), |&us| seconds(us).to_string());
        let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {count}");
    }
    let _ = writeln!(text, "{name}_sum {}\n{name}_count {count}", seconds(sum_us));
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_in_their_class_and_told_together_with_shorter_ones() {
        let mut histogram = Histogram::default();
        for (us, count) in [(0, 2), (25, 1), (26, 4), (3_000_000, 1)] {
            histogram.add(us, count);
        }
        let Histogram { classes, sum_us } = histogram;
        assert_eq!((classes[0], classes[1], classes[BOUNDS_US.len()]), (3, 4, 1));
        let mut text = String::new();
        write(&mut text, "x_seconds", "It.", (&BOUNDS_US, &classes), sum_us);
        assert!(text.starts_with(
            "# HELP x_seconds It.\n# TYPE x_seconds histogram\nx_seconds_bucket{le=\"0.000025\"} 3\n"
        ));
        assert!(text.contains("x_seconds_bucket{le=\"0.00005\"} 7\n"), "{text}");
        assert!(
            text.ends_with("x_seconds_bucket{le=\"+Inf\"} 8\nx_seconds_sum 3.000129\nx_seconds_count 8\n"),
            "{text}"
        );
    }
}
