//! The report of a run. The [whole table](table) goes to standard output. In `target/bench`, `results.md` has the
//! [summary](summary) and the table, and `results.svg` the [chart](chart). With `--publish` the summary and the chart
//! go to BENCHMARKING.md as well.

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

    /// Returns the first contender's reason if no contender takes part. Without the reference alone, the others are
    /// shown without ratios.
    pub fn all_absent(&self) -> Option<&str> {
        let reasons: Option<Vec<&str>> = self.absent.iter().map(Option::as_deref).collect();
        reasons.and_then(|reasons| reasons.first().copied())
    }

    /// Returns the distribution of a contender's values, unless it does not take part.
    fn spread(&self, contender: usize, figure: usize) -> Option<Spread> {
        if self.absent[contender].is_some() {
            return None;
        }
        Some(Spread::of(self.series[contender][figure].clone()))
    }

    /// Returns the comparison to the reference's values.
    fn comparison(&self, contender: usize, index: usize, figure: &Figure) -> Option<Comparison> {
        if self.absent[contender].is_some() {
            return None;
        }
        let reference = &self.series[REFERENCE_SEAT][index];
        Comparison::of(figure.aim, &self.series[contender][index], reference)
    }
}

/// Prints and writes the results of a run, and returns their folder.
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

/// Returns the aim and if the median meets it, with a note if the noise makes that uncertain.
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

/// Prints the workloads with their figures and aims.
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
