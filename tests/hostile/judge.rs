//! Compares a client's report with the expected outcomes.

use std::time::Duration;

use sockeye::ErrorKind::{Closed, TimedOut};

use crate::behaviour::{Behaviour, Outcome, ServerLoad, Situation};
use crate::client::LIMIT;
use crate::report::Report;

/// The delay that a call may have on a machine that runs other tests as well.
const TOLERANCE: Duration = Duration::from_millis(750);
/// The most that the memory may grow, in bytes.
const MAX_MEMORY: u64 = 4 << 20;
/// The most CPU time of a handshake and a quiet second.
const MAX_QUIET: Duration = Duration::from_millis(150);
/// The most CPU time while a connection is watched after its situation.
const MAX_AFTERWARDS: Duration = Duration::from_millis(20);
/// The longest error message, in bytes, whatever the server sends.
const MAX_MESSAGE: usize = 1000;

/// The verdict on a situation, in words.
#[derive(Default)]
pub struct Verdict {
    pub faults: Vec<String>,
    /// Faults that a busy machine can cause.
    pub delays: Vec<String>,
}

impl Verdict {
    pub fn fault(what: String) -> Verdict {
        Verdict { faults: vec![what], ..Verdict::default() }
    }

    pub fn is_right(&self) -> bool {
        self.faults.is_empty() && self.delays.is_empty()
    }

    /// Checks if a repetition on an idle machine could succeed.
    pub fn is_late(&self) -> bool {
        self.faults.is_empty() && !self.delays.is_empty()
    }
}

pub fn judge(behaviour: &Behaviour, situation: Situation, sent: u64, report: &Report) -> Verdict {
    let mut verdict = Verdict::default();
    let expected = behaviour.expected(situation);
    let is = |outcome: Outcome| format!("{outcome:?}") == report.outcome;
    // Nothing had happened when the limit passed.
    let waited = is(Outcome::Open) || is(Outcome::Fails(TimedOut));
    match expected.iter().find(|&&outcome| is(outcome)) {
        Some(&outcome) => {
            let settled = settles_as(behaviour, situation, outcome);
            if !settled.iter().any(|one| format!("{one:?}") == report.settled) {
                let Report { outcome, settled: found, .. } = report;
                verdict.faults.push(format!("{outcome} and then {found}, not {settled:?}"));
            }
        }
        None => {
            let list = if waited { &mut verdict.delays } else { &mut verdict.faults };
            list.push(format!("{}, not {expected:?}", report.outcome));
        }
    }
    if report.bytes > sent {
        verdict.faults.push(format!("{} bytes read of {sent} sent", report.bytes));
    }
    if situation == Situation::Reading && report.bytes < behaviour.reads {
        let list = if waited { &mut verdict.delays } else { &mut verdict.faults };
        list.push(format!("{} bytes read, not {}", report.bytes, behaviour.reads));
    }
    if report.grown > MAX_MEMORY {
        verdict.faults.push(format!("memory grew by {} KiB", report.grown / 1024));
    }
    if report.left > 0 {
        verdict.faults.push(format!("{} sockets left", report.left));
    }
    if report.why.len() > MAX_MESSAGE {
        verdict.faults.push(format!("a message of {} bytes", report.why.len()));
    }
    if report.why.contains("panic") {
        verdict.faults.push(String::from("a panic"));
    }
    if behaviour.load == ServerLoad::Quiet && report.cpu > MAX_QUIET {
        verdict.delays.push(format!("{:?} of CPU time", report.cpu));
    }
    if report.afterwards > MAX_AFTERWARDS {
        verdict.delays.push(format!("{:?} of CPU time after the end", report.afterwards));
    }
    if report.took > LIMIT + TOLERANCE {
        let took = report.took;
        verdict.delays.push(format!("took {took:?}, more than {LIMIT:?} + {TOLERANCE:?}"));
    }
    verdict
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
        // The limit was the call's or the socket's. After the call's the socket may end as an idle one.
        Outcome::Fails(TimedOut) => {
            [behaviour.expected(Situation::Idle), vec![Outcome::Open, outcome]].concat()
        }
        Outcome::Fails(_) => vec![outcome],
    }
}
