//! Bytes that are not valid TLS: an early FIN, garbage, half a record, or silence.

use std::time::{Duration, Instant};

use sockeye::{ErrorKind, Socket};

use crate::case::FaultCase;
use crate::judge::BlockedCalls;
use crate::remote::Remote;
use crate::stage::{SocketPhase, strikes};
use crate::support::{ms, small_send_buffer};

use super::peer::lives_on;

const LIMIT: Duration = ms(700);

pub fn cases() -> Vec<FaultCase> {
    let mut cases = vec![
        case("fin-without-close-notify", SocketPhase::OpenTls, &["fin"], ErrorKind::Truncated),
        case(
            "fin-within-a-record",
            SocketPhase::OpenTls,
            &["half a record", "fin"],
            ErrorKind::Truncated,
        ),
        case(
            "reset-within-a-record",
            SocketPhase::OpenTls,
            &["half a record", "reset"],
            ErrorKind::Reset,
        ),
        case("garbage", SocketPhase::OpenTls, &["garbage"], ErrorKind::Tls),
        case(
            "garbage-within-a-record",
            SocketPhase::OpenTls,
            &["half a record", "garbage for ever"],
            ErrorKind::Tls,
        ),
        case("plaintext", SocketPhase::OpenTls, &["plaintext"], ErrorKind::Tls),
        case("alert", SocketPhase::OpenTls, &["alert"], ErrorKind::Tls),
        case("fin-without-close-notify", SocketPhase::FinishedTls, &["fin"], ErrorKind::Truncated),
        case(
            "fin-within-a-record",
            SocketPhase::FinishedTls,
            &["half a record", "fin"],
            ErrorKind::Truncated,
        ),
        case("garbage", SocketPhase::FinishedTls, &["garbage"], ErrorKind::Tls),
        FaultCase::new("tls-silence-within-a-record/open-tls", silence_within_a_record),
    ];
    for stage in [SocketPhase::Handshake, SocketPhase::Upgrading] {
        cases.extend([
            case("fin", stage, &["fin"], ErrorKind::Tls),
            case("garbage", stage, &["garbage"], ErrorKind::Tls),
            case("plaintext", stage, &["plaintext"], ErrorKind::Tls),
            case("half-a-flight-then-fin", stage, &["half", "fin"], ErrorKind::Tls),
            case("half-a-flight-then-reset", stage, &["half", "reset"], ErrorKind::Reset),
            FaultCase::new(format!("tls-half-a-flight-then-silence/{}", stage.name()), move || {
                silence_in_the_handshake(stage);
            }),
        ]);
    }
    cases
}

fn case(
    name: &str,
    stage: SocketPhase,
    actions: &'static [&'static str],
    kind: ErrorKind,
) -> FaultCase {
    FaultCase::new(format!("tls-{name}/{}", stage.name()), move || {
        let do_all = |peer: &mut Remote| {
            let begun = Instant::now();
            for action in actions {
                peer.does(action);
            }
            begun
        };
        strikes(stage, do_all, Some(kind));
    })
}

fn silence_in_the_handshake(stage: SocketPhase) {
    let mut peer = Remote::start();
    let begun = Instant::now();
    let socket = stage.reach(&mut peer, small_send_buffer().connect_timeout(LIMIT));
    peer.does("half");
    stage.waiters(&socket).assert_ended(begun, LIMIT, ErrorKind::TimedOut);
    stage.told_ever_after(&socket, ErrorKind::TimedOut);
    peer.does("over");
}

/// Checks that half a record is neither data nor an end: the read's own limit passes, and the rest still decrypts.
fn silence_within_a_record() {
    let mut peer = Remote::start();
    let socket: Socket =
        SocketPhase::OpenTls.reach(&mut peer, small_send_buffer().read_timeout(LIMIT));
    peer.does("half a record");
    let begun = Instant::now();
    BlockedCalls::default().read(&socket).assert_ended(begun, LIMIT, ErrorKind::TimedOut);
    peer.does("the other half");
    let record = crate::support::read_exactly(&socket, 4000).expect("the record is whole now");
    assert!(record.iter().all(|byte| *byte == b'r'));
    lives_on(SocketPhase::OpenTls, &socket, &mut peer);
}
