//! The comparison of a figure to its aim.

use super::spread::{Comparison, Spread};
use crate::api::Aim;

/// Returns the aim and if the median meets it, with a note if the noise makes that uncertain.
pub fn judge(aim: Aim, own: &Spread, comparison: Option<&Comparison>) -> String {
    let compared = comparison.map(|comparison| &comparison.spread);
    let (judged, most, bound) = match aim {
        Aim::RatioAtLeast(bound) => (compared, false, bound),
        Aim::RatioAtMost(bound) | Aim::BeyondReference(bound) => (compared, true, bound),
        Aim::AtMost(bound) => (Some(own), true, bound),
    };
    let Some(spread) = judged else {
        return format!("{aim} | no reference");
    };
    let meets = |value: f64| if most { value <= bound } else { value >= bound };
    let verdict = if meets(spread.median) { "met" } else { "**missed**" };
    let doubt =
        if meets(spread.certain[0]) == meets(spread.certain[1]) { "" } else { ", within noise" };
    format!("{aim} | {verdict}{doubt}")
}
