//! Compares a client's report with what is expected.

use std::time::Duration;

use sockeye::ErrorKind::{Closed, TimedOut};

use crate::behaviour::{Behaviour, Load, Outcome, Situation};
use crate::client::LIMIT;
use crate::report::Report;

/// How late a call may end, on a machine that is busy with other tests.
const TOLERANCE: Duration = Duration::from_millis(750);
/// The most that the memory may grow, in bytes.
const MEMORY_MOST: u64 = 4 << 20;
/// The most CPU time of a handshake and a quiet second.
const QUIET_MOST: Duration = Duration::from_millis(150);
/// The most CPU time while a connection is watched after its situation.
const AFTERWARDS_MOST: Duration = Duration::from_millis(20);
/// The longest error message, in bytes, whatever the server sends.
const MESSAGE_MOST: usize = 1000;

/// The verdict on a situation.
#[derive(Default)]
pub struct Verdict {
    /// Everything that is wrong, in words.
    pub faults: Vec<String>,
    /// Only time is wrong, which may be due to a busy machine.
    pub is_late: bool,
}

pub fn judge(behaviour: &Behaviour, situation: Situation, sent: u64, report: &Report) -> Verdict {
    let mut faults = Vec::new();
    let mut check = |right: bool, what: String| {
        if !right {
            faults.push(what);
        }
    };
    let expected = behaviour.expected(situation);
    let outcome = expected.iter().find(|outcome| format!("{outcome:?}") == report.outcome);
    check(outcome.is_some(), format!("{} where {expected:?} is right", report.outcome));
    if let Some(&outcome) = outcome {
        let settled = settles_as(behaviour, situation, outcome);
        check(
            settled.iter().any(|one| format!("{one:?}") == report.settled),
            format!("{} and then {} where {settled:?} is right", report.outcome, report.settled),
        );
    }
    check(report.bytes <= sent, format!("{} bytes read of {sent} sent", report.bytes));
    if situation == Situation::Reading {
        let least = behaviour.reads;
        check(report.bytes >= least, format!("{} bytes read, not {least}", report.bytes));
    }
    check(report.grown <= MEMORY_MOST, format!("{} KiB of memory more", report.grown / 1024));
    if behaviour.load == Load::Quiet {
        check(report.cpu <= QUIET_MOST, format!("{:?} of the processor", report.cpu));
    }
    check(
        report.afterwards <= AFTERWARDS_MOST,
        format!("{:?} of the processor when all was over", report.afterwards),
    );
    check(report.left == 0, format!("{} sockets left", report.left));
    check(report.why.len() <= MESSAGE_MOST, format!("a message of {} bytes", report.why.len()));
    check(!report.why.contains("panic"), String::from("a panic"));
    let timed_out = format!("{:?}", Outcome::Fails(TimedOut));
    let is_late = match faults.len() {
        0 => true,
        1 => outcome.is_none() && (report.outcome == timed_out || report.outcome == "Open"),
        _ => false,
    };
    if report.took > LIMIT + TOLERANCE {
        let took = report.took;
        faults.push(format!("took {took:?}, which is more than {LIMIT:?} and {TOLERANCE:?}"));
    }
    Verdict { is_late: is_late && !faults.is_empty(), faults }
}

/// Returns the possible outcomes of the socket after this outcome of the call.
fn settles_as(behaviour: &Behaviour, situation: Situation, outcome: Outcome) -> Vec<Outcome> {
    match outcome {
        // Closed by this side, or before that by the server's misbehaviour.
        Outcome::Open if matches!(situation, Situation::Opening | Situation::Upgrading) => {
            let mut all = behaviour.expected(Situation::Idle);
            all.retain(|outcome| *outcome != Outcome::Open);
            all.push(Outcome::Clean);
            all
        }
        Outcome::Open => vec![Outcome::Open],
        Outcome::Clean | Outcome::Fails(Closed) => vec![Outcome::Clean],
        // The limit was the call's or the socket's.
        Outcome::Fails(TimedOut) => vec![Outcome::Open, outcome],
        Outcome::Fails(_) => vec![outcome],
    }
}
