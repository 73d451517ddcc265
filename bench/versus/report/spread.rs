//! The distribution of values, alone and relative to the reference's values of the same turns.

use crate::api::Aim;

/// A contender's values relative to the reference's, turn by turn.
pub struct Comparison {
    pub spread: Spread,
    pub is_ratio: bool,
}

impl Comparison {
    /// Compares by ratio, or by difference if the aim is one. Returns `None` without a reference or if a ratio would
    /// divide by zero.
    pub fn of(aim: Option<Aim>, series: &[f64], reference: &[f64]) -> Option<Self> {
        let is_ratio = match aim {
            Some(Aim::BeyondReference(_)) => false,
            None | Some(Aim::RatioAtLeast(_) | Aim::RatioAtMost(_) | Aim::AtMost(_)) => true,
        };
        if reference.is_empty() || (is_ratio && reference.contains(&0.0)) {
            return None;
        }
        let pairs = series.iter().zip(reference);
        let values = pairs.map(|(own, std)| if is_ratio { own / std } else { own - std });
        Some(Self { spread: Spread::of(values.collect()), is_ratio })
    }

    pub fn text(&self, value: f64) -> String {
        if self.is_ratio { format!("{value:.3}") } else { format!("{value:+.0}") }
    }
}

/// The distribution of a series of values.
pub struct Spread {
    pub median: f64,
    pub quartiles: [f64; 2],
    /// The 95 % confidence interval of the median, if the values were independent. They are not quite: values of one
    /// round share their processes.
    pub certain: [f64; 2],
}

impl Spread {
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        // The number of values below the true median is binomial; this is 1.96 standard deviations of it.
        let off = 1.96 / 2.0 / (values.len().max(1) as f64).sqrt();
        Self {
            median: quantile(&values, 0.5),
            quartiles: [quantile(&values, 0.25), quantile(&values, 0.75)],
            certain: [quantile(&values, 0.5 - off), quantile(&values, 0.5 + off)],
        }
    }
}

pub fn range(ends: &[f64; 2], text: impl Fn(f64) -> String) -> String {
    let [low, high] = ends;
    format!("{} – {}", text(*low), text(*high))
}

/// Returns a quantile of sorted values, with linear interpolation.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = share.clamp(0.0, 1.0) * last as f64;
    let below = place.floor();
    let low = sorted[below as usize];
    let high = sorted[(below as usize + 1).min(last)];
    low + (high - low) * (place - below)
}

/// Formats a number with at least three significant digits and commas between thousands.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 {
        let digits = format!("{size:.0}");
        let mut text = if value < 0.0 { "−".to_owned() } else { String::new() };
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index) % 3 == 0 {
                text.push(',');
            }
            text.push(digit);
        }
        text
    } else if size >= 1.0 {
        format!("{value:.2}")
    } else if size == 0.0 {
        "0".to_owned()
    } else {
        format!("{value:.3}")
    }
}
