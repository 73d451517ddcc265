//! Clocks that jump or that started long ago.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use sockeye::{ErrorKind, SocketOptions};

use super::connecting::everyone;
use crate::case::{FaultCase, ProcessKind, skip};
use crate::judge::{BlockedCalls, fails_not};
use crate::remote::Remote;
use crate::server::Server;
use crate::stage::SocketPhase;
use crate::support::peer::black_hole;
use crate::support::{assert_fails, ms, small_send_buffer};
use crate::tour;

const LIMIT: Duration = ms(800);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A setting of the wall clock, in libfaketime's syntax.
const FAR_AHEAD: &str = "+20y";
/// A time before any certificate that a test makes is valid.
const FAR_BACK: &str = "-53y";

pub fn cases() -> Vec<FaultCase> {
    let mut cases = Vec::new();
    for (name, to) in [("ahead", FAR_AHEAD), ("back", FAR_BACK)] {
        let jumps = |what: &str, play: fn(&str)| {
            FaultCase::new(format!("clock/jumps-{name}-{what}"), move || play(to))
                .at(ProcessKind::SetClock)
        };
        cases.push(jumps("while-connecting", while_connecting));
        cases.push(jumps("while-open", while_open));
        cases.push(jumps("before-a-handshake", before_a_handshake));
        cases.push(jumps("while-closing", while_closing));
    }
    cases.push(FaultCase::new("clock/began-long-ago-a-tour", a_tour).at(ProcessKind::OldClock));
    let connecting = || while_connecting("");
    cases.push(
        FaultCase::new("clock/began-long-ago-connecting", connecting).at(ProcessKind::OldClock),
    );
    cases.push(
        FaultCase::new("clock/began-long-ago-open", || while_open("")).at(ProcessKind::OldClock),
    );
    cases
}

fn while_connecting(to: &str) {
    let hole = black_hole();
    let begun = Instant::now();
    let options = SocketOptions::new().connect_timeout(LIMIT);
    let socket = sockeye::connect_with(hole.address, options).expect("the options are fine");
    let waiters = everyone(&socket);
    jump(to);
    waiters.assert_ended(begun, LIMIT, ErrorKind::TimedOut);
}

/// Checks that deadlines pass on time, and that the connection still works after them.
fn while_open(to: &str) {
    let mut peer = Remote::start();
    let socket = SocketPhase::Open.reach(&mut peer, small_send_buffer());
    let waiting = socket.clone();
    let begun = Instant::now();
    socket.set_deadline(begun.checked_add(LIMIT));
    let waiters = BlockedCalls::default()
        .read(&socket)
        .write(&socket)
        .call("closed", move || waiting.closed_timeout(LIMIT));
    jump(to);
    waiters.assert_ended(begun, LIMIT, ErrorKind::TimedOut);
    socket.set_deadline(None);
    super::peer::lives_on(SocketPhase::Open, &socket, &mut peer);
}

/// Checks that the wall clock decides if certificates are valid, as it should.
fn before_a_handshake(to: &str) {
    let server = Server::start();
    jump(to);
    match to {
        FAR_BACK => {
            let error = tour::secured(&server.site).expect_err("no certificate is valid yet");
            assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
        }
        _ => tour::secured(&server.site).expect("it is valid for a long time"),
    }
    tour::by_address(&server.site).expect("plaintext asks for no time of day");
}

fn while_closing(to: &str) {
    let mut peer = Remote::start();
    let socket = SocketPhase::OpenTls.reach(&mut peer, small_send_buffer().close_timeout(LIMIT));
    crate::support::fill_send_buffer(&socket);
    peer.stop();
    let closing = socket.clone();
    let begun = Instant::now();
    let waiters = BlockedCalls::default().call("close", move || closing.close());
    jump(to);
    waiters.assert_ended(begun, LIMIT, ErrorKind::TimedOut);
    assert_fails(socket.closed(), ErrorKind::TimedOut);
    peer.go_on();
}

fn a_tour() {
    let server = Server::start();
    fails_not(tour::whole(&server.site));
}

// -------------------------------------------------------------------- a clock that can be set

/// Returns the path of libfaketime.
pub fn library() -> Option<PathBuf> {
    let folders =
        ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib", "/usr/lib64"];
    let name = "faketime/libfaketimeMT.so.1";
    folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists())
}

/// Creates the file that sets the clock of one case, at first to the present.
pub fn new_file(case: &str) -> PathBuf {
    let path = file(case);
    std::fs::write(&path, "+0").expect("it is the folder for such files");
    path
}

pub fn remove_file(case: &str) {
    // The case has ended, so no process reads the file.
    let _ = std::fs::remove_file(file(case));
}

fn file(case: &str) -> PathBuf {
    let name = format!("faults-{}-{}", std::process::id(), case.replace('/', "-"));
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Sets this process's wall clock and checks that it has jumped. Does nothing if `to` is empty.
fn jump(to: &str) {
    if to.is_empty() {
        return;
    }
    let file = std::env::var_os("FAKETIME_TIMESTAMP_FILE").expect("it was started with one");
    let (wall, steady) = (SystemTime::now(), Instant::now());
    std::fs::write(&file, to).expect("it is there");
    let forth = SystemTime::now().duration_since(wall);
    let far = match &forth {
        Ok(ahead) => *ahead,
        Err(back) => back.duration(),
    };
    if far < 15 * YEAR || steady.elapsed() > YEAR {
        skip("libfaketime does not set the wall clock alone");
    }
}
