//! The whole table: medians with quartiles, ratios to the reference with quartiles and the confidence interval of
//! their median, and aims.

use std::fmt::Write as _;

use super::samples::{Finished, Outcome, REFERENCE_SEAT, Samples};
use super::spread::{number, range};
use super::verdict::judge;
use crate::api::{Figure, Role, Workload};
use crate::args::Settings;

pub fn of(settings: &Settings, finished: &[Finished]) -> String {
    let mut text = "| workload | figure | unit | contender | median | quartiles \
                    | to reference | quartiles | median, 95 % | aim | |\n\
                    |---|---|---|---|--:|--:|--:|--:|--:|---|---|\n"
        .to_owned();
    for (workload, outcome) in finished {
        match outcome {
            Outcome::Measured(samples) => text += &rows(settings, workload, samples),
            Outcome::Skipped(_) | Outcome::Failed(_) => {
                let verdict = outcome.verdict();
                writeln!(text, "| {} | {verdict} | | | | | | | | | |", workload.name).expect(TAKES);
            }
        }
    }
    text
}

fn rows(settings: &Settings, workload: &Workload, samples: &Samples) -> String {
    let mut text = String::new();
    for (index, figure) in workload.figures.iter().enumerate() {
        for (seat, contender) in settings.line_up(workload).into_iter().enumerate() {
            let Figure { name, unit, .. } = *figure;
            write!(text, "| {} | {name} | {unit} | {} | ", workload.name, contender.name)
                .expect(TAKES);
            let Some(own) = samples.spread(seat, index) else {
                let reason = samples.absent(seat).unwrap_or("no figures");
                writeln!(text, "skipped: {reason} | | | | | | |").expect(TAKES);
                continue;
            };
            write!(text, "{} | {} | ", number(own.median), range(&own.quartiles, number))
                .expect(TAKES);
            if seat == REFERENCE_SEAT {
                text += "| | | | |\n";
                continue;
            }
            let comparison = samples.comparison(seat, index, figure);
            let beside = comparison.as_ref().map_or("– | | |".to_owned(), |this| {
                let number = |value| this.text(value);
                let [quartiles, certain] =
                    [this.spread.quartiles, this.spread.certain].map(|ends| range(&ends, number));
                format!("{} | {quartiles} | {certain} |", number(this.spread.median))
            });
            let aim = figure.aim.filter(|_| contender.role == Role::Judged);
            let judged = aim.map_or("|".to_owned(), |aim| judge(aim, &own, comparison.as_ref()));
            writeln!(text, "{beside} {judged} |").expect(TAKES);
        }
    }
    text
}

const TAKES: &str = "a String takes everything";
