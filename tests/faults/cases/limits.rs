//! Processes without free descriptors or threads.

use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sockeye::{Error, ErrorKind};

use crate::case::{FaultCase, ProcessKind, skip};
use crate::judge::works;
use crate::server::{Server, Site};
use crate::support::process::take_all_descriptors;
use crate::support::system_code;
use crate::tour;

/// The number of free descriptors with which no tour fails.
const ENOUGH: usize = 12;

type Tour = fn(&Site) -> Result<(), Error>;

pub fn cases() -> Vec<FaultCase> {
    let tours: [(&str, Tour); 3] =
        [("plain", tour::plain), ("tls", tour::secured), ("upgrade", tour::upgraded)];
    let mut cases = Vec::new();
    for (name, tour) in tours {
        for free in 0..=ENOUGH {
            let case = format!("descriptors/{name}-{free}-free");
            cases.push(FaultCase::new(case, move || few_descriptors(tour, free)).cold());
        }
        for free in 0..3 {
            let case = format!("descriptors/{name}-{free}-free-later");
            cases.push(FaultCase::new(case, move || few_descriptors(tour, free)));
        }
    }
    for (name, tour) in tours {
        let case = FaultCase::new(format!("threads/none-{name}"), move || no_threads(tour));
        cases.push(case.at(ProcessKind::Unprivileged).cold());
        let case = FaultCase::new(format!("threads/none-{name}-later"), move || no_threads(tour));
        cases.push(case.at(ProcessKind::Unprivileged));
    }
    cases
}

/// Checks that a tour works or fails for want of a descriptor, and that it works later with enough of them.
fn few_descriptors(tour: Tour, free: usize) {
    let server = Server::start();
    let mut taken = take_all_descriptors();
    taken.truncate(taken.len() - free);
    for _ in 0..2 {
        match tour(&server.site) {
            Ok(()) => assert!(free > 0, "there was one left"),
            Err(error) => {
                assert!(free < ENOUGH, "{error}");
                is_want(&error, libc::EMFILE);
            }
        }
    }
    drop(taken);
    tour(&server.site).expect("descriptors are free again");
}

/// Checks that a tour works or fails for want of a thread, and that it works later when threads can start again.
fn no_threads(tour: Tour) {
    let server = Server::start();
    let limit = getrlimit(Resource::Nproc);
    let none = Rlimit { current: Some(0), maximum: limit.maximum };
    setrlimit(Resource::Nproc, none).expect("it may be lowered");
    if thread::Builder::new().spawn(|| ()).is_ok() {
        skip("the limit of threads does not hold for this user");
    }
    for _ in 0..2 {
        if let Err(error) = tour(&server.site) {
            is_want(&error, libc::EAGAIN);
        }
    }
    setrlimit(Resource::Nproc, limit).expect("it may be raised again");
    tour(&server.site).expect("threads can be had again");
    works();
}

#[track_caller]
fn is_want(error: &Error, code: i32) {
    assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
    assert_eq!(system_code(error), Some(code), "{error:?}");
}
