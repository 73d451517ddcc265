//! The table: medians with their quartiles, ratios to the reference pair by pair with an interval in
//! which their true median lies, aims met or missed.

use crate::args::Settings;
use crate::workload::{self, Aim, Figure, Workload};

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
}

/// The rows of a finished run.
pub fn print(settings: &Settings, outcomes: &[(&'static Workload, Outcome)]) {
    println!(
        "| workload | figure | unit | contender | median | quartiles \
         | to reference | quartiles | median, 95 % | aim | |"
    );
    println!("|---|---|---|---|--:|--:|--:|--:|--:|---|---|");
    for (workload, outcome) in outcomes {
        match outcome {
            Outcome::Measured(samples) => print_rows(settings, workload, samples),
            Outcome::Skipped(_) | Outcome::Failed(_) => {
                println!("| {} | {} | | | | | | | | | |", workload.name, outcome.verdict());
            }
        }
    }
}

fn print_rows(settings: &Settings, workload: &Workload, samples: &Samples) {
    for (index, figure) in workload.figures.iter().enumerate() {
        let reference = &samples.series[REFERENCE_SEAT][index];
        for (seat, contender) in settings.line_up(workload).into_iter().enumerate() {
            let Figure { name, unit, aim } = *figure;
            print!("| {} | {name} | {unit} | {} | ", workload.name, contender.name);
            if let Some(reason) = samples.absent(seat) {
                println!("skipped: {reason} | | | | | | |");
                continue;
            }
            let series = &samples.series[seat][index];
            let own = Spread::of(series.clone());
            print!("{} | {} ", number(own.median), range(&own.quartiles, number));
            if seat == REFERENCE_SEAT {
                println!("| | | | | |");
                continue;
            }
            let comparison = Comparison::of(aim, series, reference);
            let aim = aim.filter(|_| contender.is_judged);
            let judged = aim.map(|aim| judge(aim, &own, comparison.as_ref()));
            let beside = comparison.map_or("| – | | |".to_owned(), |this| this.columns());
            println!("{beside} {} |", judged.unwrap_or("|".to_owned()));
        }
    }
}

/// A contender beside the reference, turn by turn.
struct Comparison {
    spread: Spread,
    is_ratio: bool,
}

impl Comparison {
    /// By ratio, but by difference where that is aimed at; none where it would be a ratio to nothing, or
    /// there is no reference.
    fn of(aim: Option<Aim>, series: &[f64], reference: &[f64]) -> Option<Self> {
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

    fn columns(&self) -> String {
        let text = |value: f64| {
            if self.is_ratio { format!("{value:.3}") } else { format!("{value:+.0}") }
        };
        let Spread { median, quartiles, certain } = &self.spread;
        format!("| {} | {} | {} |", text(*median), range(quartiles, text), range(certain, text))
    }
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

/// How a series of values lies.
struct Spread {
    median: f64,
    quartiles: [f64; 2],
    /// Where the median of endlessly many would lie, with a probability of 95 %, were the values
    /// independent of each other. They are not quite: those of one round share their processes.
    certain: [f64; 2],
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        // How many lie below the true median is binomial: this many standard deviations off its mean.
        let off = 1.96 / 2.0 / (values.len().max(1) as f64).sqrt();
        Self {
            median: quantile(&values, 0.5),
            quartiles: [quantile(&values, 0.25), quantile(&values, 0.75)],
            certain: [quantile(&values, 0.5 - off), quantile(&values, 0.5 + off)],
        }
    }
}

fn range(ends: &[f64; 2], text: impl Fn(f64) -> String) -> String {
    let [low, high] = ends;
    format!("{} – {}", text(*low), text(*high))
}

/// Of sorted values, with linear interpolation between neighbours.
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

/// Three or more digits that count.
fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 {
        format!("{value:.0}")
    } else if size >= 1.0 {
        format!("{value:.2}")
    } else if size == 0.0 {
        "0".to_owned()
    } else {
        format!("{value:.5}")
    }
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
