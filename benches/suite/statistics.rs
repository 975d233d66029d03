//! Ratios with their errors.

/// A geometric mean of ratios.
#[derive(Clone, Copy, Debug)]
pub struct Ratio {
    pub mean: f64,
    /// Two standard errors of the mean logarithm, as a part of `mean`.
    pub error: f64,
}

impl Ratio {
    /// Of pairs (measured, reference), at least two.
    pub fn of(pairs: &[(f64, f64)]) -> Self {
        let logs: Vec<f64> = pairs.iter().map(|(measured, reference)| (measured / reference).ln()).collect();
        let count = logs.len() as f64;
        let mean = logs.iter().sum::<f64>() / count;
        let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (count - 1.0);
        Self { mean: mean.exp(), error: mean.exp() * 2.0 * (variance / count).sqrt() }
    }
}

/// The middle value; 0 of nothing.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}
