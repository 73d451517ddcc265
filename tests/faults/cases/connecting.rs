//! Faults while a socket connects, on this machine.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sockeye::{ErrorKind, Socket, SocketOptions};

use crate::case::FaultCase;
use crate::judge::{BlockedCalls, fails_not, told_ever_after};
use crate::support::peer::{black_hole, closed_port};
use crate::support::{assert_fails, at_once, ms};

const LIMIT: Duration = ms(700);

/// A way to give the attempt up.
type End = fn(&Socket);

pub fn cases() -> Vec<FaultCase> {
    let ended: [(&str, End, Option<ErrorKind>); 3] = [
        ("close", |socket| fails_not(socket.close()), None),
        ("abort", Socket::abort, Some(ErrorKind::Closed)),
        ("writer-abort", |socket| socket.writer().abort(), Some(ErrorKind::Closed)),
    ];
    let ended = ended.map(|(name, end, closed)| {
        FaultCase::new(format!("connecting/full-backlog-{name}"), move || {
            let hole = black_hole();
            let socket = connect(hole.address, SocketOptions::new());
            let waiters = BlockedCalls::default().opened(&socket).read(&socket).write(&socket);
            let begun = Instant::now();
            at_once(|| end(&socket));
            waiters.at_once(begun, ErrorKind::Closed);
            match closed {
                None => fails_not(socket.closed()),
                Some(kind) => assert_fails(socket.closed(), kind),
            }
        })
    });
    let mut cases = vec![
        FaultCase::new("connecting/full-backlog", || {
            let hole = black_hole();
            let begun = Instant::now();
            let socket = connect(hole.address, SocketOptions::new().connect_timeout(LIMIT));
            everyone(&socket).assert_ended(begun, LIMIT, ErrorKind::TimedOut);
            assert_fails(socket.opened(), ErrorKind::TimedOut);
            told_ever_after(&socket, ErrorKind::TimedOut);
        }),
        FaultCase::new("connecting/full-backlog-own-limits", || {
            let hole = black_hole();
            let options = SocketOptions::new().read_timeout(LIMIT).write_timeout(LIMIT);
            let socket = connect(hole.address, options);
            let begun = Instant::now();
            let (opening, closing) = (socket.clone(), socket.clone());
            BlockedCalls::default()
                .read(&socket)
                .write(&socket)
                .call("opened", move || opening.opened_timeout(LIMIT))
                .call("closed", move || closing.closed_timeout(LIMIT))
                .assert_ended(begun, LIMIT, ErrorKind::TimedOut);
            let waiters = BlockedCalls::default().opened(&socket).read(&socket);
            let begun = Instant::now();
            socket.set_read_timeout(None).expect("none is fine");
            socket.abort();
            waiters.at_once(begun, ErrorKind::Closed);
        }),
        FaultCase::new("connecting/refused", || {
            let nothing = closed_port();
            let begun = Instant::now();
            let socket = connect(nothing.address, SocketOptions::new());
            everyone(&socket).at_once(begun, ErrorKind::Connect);
            told_ever_after(&socket, ErrorKind::Connect);
        }),
    ];
    cases.extend(ended);
    cases
}

fn connect(address: SocketAddr, options: SocketOptions) -> Socket {
    sockeye::connect_with(address, options).expect("the address is fine")
}

pub fn everyone(socket: &Socket) -> BlockedCalls {
    BlockedCalls::default().opened(socket).read(socket).write(socket).closed(socket)
}
