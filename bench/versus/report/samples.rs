//! The figures of a run.

use super::spread::{Comparison, Spread};
use crate::api::{Figure, Workload};

/// A workload and its outcome.
pub type Finished = (&'static Workload, Outcome);

/// The outcome of a workload.
pub enum Outcome {
    Measured(Samples),
    Skipped(String),
    Failed(String),
}

impl Outcome {
    pub fn verdict(&self) -> String {
        match self {
            Self::Measured(_) => "done".to_owned(),
            Self::Skipped(reason) => format!("skipped: {reason}"),
            Self::Failed(failure) => format!("FAILED: {failure}"),
        }
    }
}

/// The figures of every turn, by contender, in the order of the turns. Equal positions are adjacent in time.
pub struct Samples {
    /// By contender, then by figure.
    series: Vec<Vec<Vec<f64>>>,
    /// By contender: the reason if it does not take part.
    absent: Vec<Option<String>>,
}

/// The reference's position among the contenders.
pub const REFERENCE_SEAT: usize = 0;

impl Samples {
    pub fn new(contenders: usize, figures: usize) -> Self {
        Self { series: vec![vec![Vec::new(); figures]; contenders], absent: vec![None; contenders] }
    }

    pub fn add(&mut self, contender: usize, turn: &[f64]) {
        for (series, &figure) in self.series[contender].iter_mut().zip(turn) {
            series.push(figure);
        }
    }

    pub fn set_absent(&mut self, contender: usize, reason: String) {
        self.absent[contender] = Some(reason);
    }

    pub fn absent(&self, contender: usize) -> Option<&str> {
        self.absent[contender].as_deref()
    }

    /// Returns the first contender's reason if no contender takes part. Without the reference alone, the others are
    /// shown without ratios.
    pub fn all_absent(&self) -> Option<&str> {
        let reasons: Option<Vec<&str>> = self.absent.iter().map(Option::as_deref).collect();
        reasons.and_then(|reasons| reasons.first().copied())
    }

    /// Returns the distribution of a contender's values, unless it does not take part.
    pub fn spread(&self, contender: usize, figure: usize) -> Option<Spread> {
        if self.absent[contender].is_some() {
            return None;
        }
        Some(Spread::of(self.series[contender][figure].clone()))
    }

    /// Returns the comparison to the reference's values.
    pub fn comparison(
        &self,
        contender: usize,
        index: usize,
        figure: &Figure,
    ) -> Option<Comparison> {
        if self.absent[contender].is_some() {
            return None;
        }
        let reference = &self.series[REFERENCE_SEAT][index];
        Comparison::of(figure.aim, &self.series[contender][index], reference)
    }
}
