//! What is told of a run: the [whole table](table) on standard output, and in `target/bench` the
//! [summary](summary) above it as `results.md`, with a [chart](chart) beside it as `results.svg`. On demand
//! summary and chart go into BENCHMARKING.md.

mod chart;
mod published;
mod spread;
mod summary;
mod table;

use std::io;
use std::path::{Path, PathBuf};

use self::spread::{Comparison, Spread};
use crate::args::Settings;
use crate::machine;
use crate::workload::{self, Aim, Figure, Workload};

/// A workload, and what came of it.
pub type Finished = (&'static Workload, Outcome);

/// What came of a workload.
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

/// The figures of every turn, by contender, in the order in which the turns were taken: equal positions
/// lay side by side in time.
pub struct Samples {
    /// By contender, then by figure.
    series: Vec<Vec<Vec<f64>>>,
    /// By contender: why it takes no part.
    absent: Vec<Option<String>>,
}

/// Where the reference sits among the contenders.
const REFERENCE_SEAT: usize = 0;

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

    /// Why there is nobody left to take part, if so: the words of the first. The reference alone may be
    /// missing; the others then stand by themselves.
    pub fn nobody(&self) -> Option<&str> {
        let reasons: Option<Vec<&str>> = self.absent.iter().map(Option::as_deref).collect();
        reasons.and_then(|reasons| reasons.first().copied())
    }

    /// How a contender's values of a figure lie, unless it takes no part.
    fn spread(&self, contender: usize, figure: usize) -> Option<Spread> {
        if self.absent[contender].is_some() {
            return None;
        }
        Some(Spread::of(self.series[contender][figure].clone()))
    }

    /// The same beside the reference's.
    fn comparison(&self, contender: usize, index: usize, figure: &Figure) -> Option<Comparison> {
        if self.absent[contender].is_some() {
            return None;
        }
        let reference = &self.series[REFERENCE_SEAT][index];
        Comparison::of(figure.aim, &self.series[contender][index], reference)
    }
}

/// Prints and writes what is known of a finished run. Where to find it.
pub fn publish(settings: &Settings, publishes: bool, finished: &[Finished]) -> io::Result<PathBuf> {
    let table = table::of(settings, finished);
    println!("{table}\nload after: {}", machine::load());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    std::fs::create_dir_all(&folder)?;
    let summary = summary::of(settings, finished);
    let chart = chart::of(settings, finished);
    let machine = machine::describe();
    let text = format!("{summary}\n```text\n{machine}\n```\n\n{table}");
    std::fs::write(folder.join("results.md"), text)?;
    std::fs::write(folder.join("results.svg"), &chart)?;
    if publishes {
        published::write(&summary, &chart)?;
    }
    Ok(folder)
}

/// The aim, and whether it is met: by the median, with a note where the bound lies within the noise.
fn judge(aim: Aim, own: &Spread, comparison: Option<&Comparison>) -> String {
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

/// The workloads, their figures and aims.
pub fn list() {
    println!("| workload | figure | unit | aim |");
    println!("|---|---|---|---|");
    for workload in &workload::ALL {
        for figure in workload.figures {
            let aim = figure.aim.map_or_else(String::new, |aim| aim.to_string());
            println!("| {} | {} | {} | {aim} |", workload.name, figure.name, figure.unit);
        }
    }
}
