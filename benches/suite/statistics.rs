//! Ratios with their errors.

/// What many ratios come to.
#[derive(Clone, Copy, Debug)]
pub struct Ratio {
    pub mean: f64,
    /// Two standard errors of it.
    pub error: f64,
}

impl Ratio {
    /// The geometric mean of pairs (measured, reference), at least two; its error is that of the mean logarithm.
    pub fn of(pairs: &[(f64, f64)]) -> Self {
        let logs: Vec<f64> = pairs.iter().map(|(measured, reference)| (measured / reference).ln()).collect();
        let count = logs.len() as f64;
        let mean = logs.iter().sum::<f64>() / count;
        let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (count - 1.0);
        Self { mean: mean.exp(), error: mean.exp() * 2.0 * (variance / count).sqrt() }
    }

    /// The middle one of at least two pairs, for what one stall of the machine makes ten times as large. Its error is
    /// half the distance of those between which the true middle lies 95 times of 100, whatever the distribution.
    pub fn middle(pairs: &[(f64, f64)]) -> Self {
        let mut ratios: Vec<f64> = pairs.iter().map(|(measured, reference)| measured / reference).collect();
        ratios.sort_by(f64::total_cmp);
        let count = ratios.len();
        let low = (count as f64 / 2.0 - (count as f64).sqrt()).max(0.0) as usize;
        Self { mean: median(ratios.iter().copied()), error: (ratios[count - 1 - low] - ratios[low]) / 2.0 }
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
