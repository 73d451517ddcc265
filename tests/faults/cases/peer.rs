//! A peer that resets, is killed or freezes, in every stage.

use std::io::Write;
use std::time::{Duration, Instant};

use sockeye::{ErrorKind, Socket};

use crate::case::FaultCase;
use crate::judge::{BlockedCalls, fails_not};
use crate::remote::Remote;
use crate::stage::{SocketPhase, strikes};
use crate::support::{WATCHDOG, at_once, ms, read, read_exactly, small_send_buffer};

const LIMIT: Duration = ms(700);

pub fn cases() -> Vec<FaultCase> {
    let mut cases = Vec::new();
    for stage in SocketPhase::ALL {
        let name = stage.name();
        cases.push(FaultCase::new(format!("reset/{name}"), move || {
            strikes(stage, |peer| peer.does("reset"), Some(ErrorKind::Reset));
        }));
        cases.push(FaultCase::new(format!("killed/{name}"), move || {
            strikes(stage, |peer| peer.kill(), killed(stage));
        }));
        cases.push(FaultCase::new(format!("frozen/{name}"), move || freezes(stage)));
    }
    cases
}

/// Returns the error after the peer was killed. The kernel closes its connections, with RST if it has unread data.
fn killed(stage: SocketPhase) -> Option<ErrorKind> {
    match stage {
        SocketPhase::Handshake | SocketPhase::Upgrading => Some(ErrorKind::Tls),
        SocketPhase::Open
        | SocketPhase::OpenTls
        | SocketPhase::PeerEnded
        | SocketPhase::PeerEndedTls => Some(ErrorKind::Reset),
        SocketPhase::Finished => None,
        SocketPhase::FinishedTls => Some(ErrorKind::Truncated),
    }
}

/// Checks that every limit passes on time, and that the connection works after the limit of a call.
fn freezes(stage: SocketPhase) {
    let mut peer = Remote::start();
    let begun = Instant::now();
    if stage.is_opening() {
        let socket = stage.reach(&mut peer, small_send_buffer().connect_timeout(LIMIT));
        peer.stop();
        // The limit began with the connection, or with the upgrade a little later.
        let waiters = stage.waiters(&socket);
        waiters.assert_ended(begun, LIMIT, ErrorKind::TimedOut);
        stage.told_ever_after(&socket, ErrorKind::TimedOut);
        peer.go_on();
        peer.does("over");
        return;
    }
    let socket = stage.reach(&mut peer, small_send_buffer());
    peer.stop();
    let mut waiters = BlockedCalls::default();
    if stage.reads() {
        waiters = waiters.read(&socket);
    }
    if stage.writes() {
        waiters = waiters.write(&socket);
    }
    let closing = socket.clone();
    let begun = Instant::now();
    socket.set_deadline(begun.checked_add(LIMIT));
    let waiters = waiters.call("closed", move || closing.closed_timeout(LIMIT));
    waiters.assert_ended(begun, LIMIT, ErrorKind::TimedOut);
    socket.set_deadline(None);
    peer.go_on();
    lives_on(stage, &socket, &mut peer);
}

/// Checks that accepted data arrives, that the peer's data does, and that both sides see EOF.
pub fn lives_on(stage: SocketPhase, socket: &Socket, peer: &mut Remote) {
    if stage.reads() {
        peer.does("alive");
        assert_eq!(read_exactly(socket, 5).expect("the peer sends"), b"alive");
    }
    peer.does("over");
    if stage.writes() {
        let mut writer = socket.writer();
        writer.write_all(b"and so does this side").expect("the peer reads");
        writer.close().expect("the peer reads");
    }
    if stage.reads() {
        assert_eq!(read(socket, 1).expect("a clean end"), b"");
    }
    fails_not(socket.closed_timeout(WATCHDOG));
    at_once(|| socket.close()).expect("it has ended");
}
