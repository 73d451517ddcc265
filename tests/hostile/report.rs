//! The protocol between the runner and a client process: an order and a report, one line each.

use std::fmt::{self, Display};
use std::time::Duration;

use crate::behaviour::{SITUATIONS, Situation};

/// An order to play a situation against the server at a port.
pub struct Order {
    pub situation: Situation,
    pub port: u16,
    /// The handshake is expected to succeed.
    pub opens: bool,
    pub lenient: bool,
    /// Writes follow each other without a pause.
    pub floods: bool,
}

impl Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Order { situation, port, opens, lenient, floods } = self;
        write!(f, "{situation:?} {port} {opens} {lenient} {floods}")
    }
}

impl Order {
    pub fn parse(line: &str) -> Order {
        let words: Vec<&str> = line.split(' ').collect();
        let [situation, port, opens, lenient, floods] = words[..] else {
            panic!("not an order: {line:?}");
        };
        let situation =
            SITUATIONS.into_iter().find(|one| format!("{one:?}") == situation).expect("there is");
        Order {
            situation,
            port: port.parse().expect("it is a port"),
            opens: opens.parse().expect("it is a bool"),
            lenient: lenient.parse().expect("it is a bool"),
            floods: floods.parse().expect("it is a bool"),
        }
    }
}

/// The result of a situation.
#[derive(Debug, Default)]
pub struct Report {
    /// The outcome of the call.
    pub outcome: String,
    /// The outcome of the socket afterwards.
    pub settled: String,
    /// The number of bytes read.
    pub bytes: u64,
    pub took: Duration,
    /// The CPU time of the process, during the situation and in a short time after it.
    pub cpu: Duration,
    pub afterwards: Duration,
    /// The growth of the resident memory at its peak, in bytes.
    pub grown: u64,
    /// The number of sockets left.
    pub left: usize,
    /// The error's message.
    pub why: String,
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { outcome, settled, bytes, grown, left, why, .. } = self;
        let [took, cpu, afterwards] =
            [self.took, self.cpu, self.afterwards].map(|time| time.as_micros());
        let why = why.replace(['\n', '\t'], " ");
        write!(
            f,
            "{outcome}\t{settled}\t{bytes}\t{took}\t{cpu}\t{afterwards}\t{grown}\t{left}\t{why}"
        )
    }
}

impl Report {
    pub fn parse(line: &str) -> Option<Report> {
        let words: Vec<&str> = line.split('\t').collect();
        let [outcome, settled, bytes, took, cpu, afterwards, grown, left, why] = words[..] else {
            return None;
        };
        let micros = |text: &str| text.parse().map(Duration::from_micros).ok();
        Some(Report {
            outcome: outcome.to_owned(),
            settled: settled.to_owned(),
            bytes: bytes.parse().ok()?,
            took: micros(took)?,
            cpu: micros(cpu)?,
            afterwards: micros(afterwards)?,
            grown: grown.parse().ok()?,
            left: left.parse().ok()?,
            why: why.to_owned(),
        })
    }
}
