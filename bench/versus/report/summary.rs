//! The summary: one row for each important figure, one column for each contender.

use super::samples::{Finished, Outcome, REFERENCE_SEAT, Samples};
use super::spread::{Comparison, Spread, number, range};
use super::verdict::judge;
use crate::api::{Aim, Better, Contender, Figure, Role, Service, Workload};
use crate::args::Settings;
use crate::machine;

pub fn of(settings: &Settings, finished: &[Finished]) -> String {
    let mut text = machine::sentence();
    text += "\n\nThe reference's column is its median. Elsewhere `×` is the median of the ratios to the \
             reference, turn by turn, for sockeye with the 95 % interval of that median; `+` and `−` are \
             the median of the differences; without a sign it is the figure itself.\n";
    for (title, is_secure) in [("In plaintext", false), ("Over TLS 1.3 (AES-256-GCM)", true)] {
        let of_kind =
            |(workload, _): &&Finished| matches!(workload.service, Service::Secure(_)) == is_secure;
        let kin: Vec<&Finished> = finished.iter().filter(of_kind).collect();
        if let Some((first, _)) = kin.first() {
            let line_up = settings.line_up(first);
            text += &format!("\n{title}:\n\n{}", table(&line_up, &kin));
        }
    }
    text + &behind(settings, finished)
}

fn table(line_up: &[&Contender], finished: &[&Finished]) -> String {
    let names: Vec<&str> = line_up.iter().map(|contender| contender.name).collect();
    let mut text = format!("| | {} | goal | |\n", names.join(" | "));
    text += &format!("|---|{}---|---|\n", "--:|".repeat(names.len()));
    for (workload, outcome) in finished {
        let Outcome::Measured(samples) = outcome else {
            let blanks = "| ".repeat(names.len() + 2);
            text += &format!("| {}: {} {blanks}|\n", workload.name, outcome.verdict());
            continue;
        };
        for (index, figure) in workload.figures.iter().enumerate() {
            if counts(index, figure) {
                text += &row(line_up, workload, samples, index);
            }
        }
    }
    text
}

/// Checks if a figure is important: it is a workload's first, or has an aim.
fn counts(index: usize, figure: &Figure) -> bool {
    index == 0 || figure.aim.is_some()
}

fn row(line_up: &[&Contender], workload: &Workload, samples: &Samples, index: usize) -> String {
    let figure = &workload.figures[index];
    let mut text = format!("| {}: {}, {}", workload.name, figure.name, figure.unit);
    let mut judgement = "|".to_owned();
    for (seat, contender) in line_up.iter().enumerate() {
        let Some(own) = samples.spread(seat, index) else {
            text += " | –";
            continue;
        };
        let comparison = samples.comparison(seat, index, figure);
        if let Some(aim) = figure.aim.filter(|_| contender.role == Role::Judged) {
            judgement = judge(aim, &own, comparison.as_ref());
        }
        // Figures with an absolute aim are shown as they are.
        let by_itself = seat == REFERENCE_SEAT || matches!(figure.aim, Some(Aim::AtMost(_)));
        let comparison = comparison.filter(|_| !by_itself);
        text += &format!(" | {}", cell(&own, comparison.as_ref(), contender.role == Role::Judged));
    }
    format!("{text} | {judgement} |\n")
}

fn cell(own: &Spread, comparison: Option<&Comparison>, with_interval: bool) -> String {
    let Some(comparison) = comparison else {
        return number(own.median);
    };
    if !comparison.is_ratio {
        let median = comparison.spread.median.round();
        let sign = if median < 0.0 { "" } else { "+" };
        return format!("{sign}{}", number(median));
    }
    let text = |value: f64| comparison.text(value);
    let ratio = format!("×\u{a0}{}", text(comparison.spread.median));
    if with_interval {
        return format!("{ratio} ({})", range(&comparison.spread.certain, text));
    }
    ratio
}

/// Lists the rows in which a peer's median is better than `sockeye`'s.
fn behind(settings: &Settings, finished: &[Finished]) -> String {
    let mut places = Vec::new();
    for (workload, outcome) in finished {
        let Outcome::Measured(samples) = outcome else { continue };
        let line_up = settings.line_up(workload);
        let Some(judged) = line_up.iter().position(|contender| contender.role == Role::Judged)
        else {
            continue;
        };
        for (index, figure) in workload.figures.iter().enumerate() {
            let Some(own) = samples.spread(judged, index).filter(|_| counts(index, figure)) else {
                continue;
            };
            let peers = line_up.iter().enumerate().skip(judged + 1);
            for (seat, peer) in peers.filter(|(_, contender)| contender.role == Role::Peer) {
                let is_ahead = samples.spread(seat, index).is_some_and(|its| match figure.better {
                    Better::More => its.median > own.median,
                    Better::Less => its.median < own.median,
                });
                if is_ahead {
                    places.push(format!("{} ({}): {}", workload.name, figure.name, peer.name));
                }
            }
        }
    }
    if places.is_empty() {
        return "\nNo peer is ahead of sockeye in any row.\n".to_owned();
    }
    format!("\nA peer is ahead of sockeye in: {}.\n", places.join("; "))
}
