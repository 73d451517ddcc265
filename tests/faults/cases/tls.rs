//! Bytes that are not valid TLS: an early FIN, garbage, half a record, or silence.

use std::time::{Duration, Instant};

use sockeye::{ErrorKind, Socket};

use crate::case::Case;
use crate::judge::Waiters;
use crate::remote::Remote;
use crate::stage::{Stage, little_room, strikes};
use crate::support::ms;

use super::peer::lives_on;

const LIMIT: Duration = ms(700);

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        case("fin-without-close-notify", Stage::OpenTls, &["fin"], ErrorKind::Truncated),
        case(
            "fin-within-a-record",
            Stage::OpenTls,
            &["half a record", "fin"],
            ErrorKind::Truncated,
        ),
        case(
            "reset-within-a-record",
            Stage::OpenTls,
            &["half a record", "reset"],
            ErrorKind::Reset,
        ),
        case("garbage", Stage::OpenTls, &["garbage"], ErrorKind::Tls),
        case(
            "garbage-within-a-record",
            Stage::OpenTls,
            &["half a record", "garbage for ever"],
            ErrorKind::Tls,
        ),
        case("plaintext", Stage::OpenTls, &["plaintext"], ErrorKind::Tls),
        case("alert", Stage::OpenTls, &["alert"], ErrorKind::Tls),
        case("fin-without-close-notify", Stage::FinishedTls, &["fin"], ErrorKind::Truncated),
        case(
            "fin-within-a-record",
            Stage::FinishedTls,
            &["half a record", "fin"],
            ErrorKind::Truncated,
        ),
        case("garbage", Stage::FinishedTls, &["garbage"], ErrorKind::Tls),
        Case::new("tls-silence-within-a-record/open-tls", silence_within_a_record),
    ];
    for stage in [Stage::Handshake, Stage::Upgrading] {
        cases.extend([
            case("fin", stage, &["fin"], ErrorKind::Tls),
            case("garbage", stage, &["garbage"], ErrorKind::Tls),
            case("plaintext", stage, &["plaintext"], ErrorKind::Tls),
            case("half-a-flight-then-fin", stage, &["half", "fin"], ErrorKind::Tls),
            case("half-a-flight-then-reset", stage, &["half", "reset"], ErrorKind::Reset),
            Case::new(format!("tls-half-a-flight-then-silence/{}", stage.name()), move || {
                silence_in_the_handshake(stage);
            }),
        ]);
    }
    cases
}

fn case(name: &str, stage: Stage, deeds: &'static [&'static str], kind: ErrorKind) -> Case {
    Case::new(format!("tls-{name}/{}", stage.name()), move || {
        let do_all = |peer: &mut Remote| {
            let begun = Instant::now();
            for deed in deeds {
                peer.does(deed);
            }
            begun
        };
        strikes(stage, do_all, Some(kind));
    })
}

fn silence_in_the_handshake(stage: Stage) {
    let mut peer = Remote::start();
    let begun = Instant::now();
    let socket = stage.reach(&mut peer, little_room().connect_timeout(LIMIT));
    peer.does("half");
    stage.waiters(&socket).told(begun, LIMIT, ErrorKind::TimedOut);
    stage.told_ever_after(&socket, ErrorKind::TimedOut);
    peer.does("over");
}

/// Checks that half a record is neither data nor an end: the read's own limit passes, and the rest still decrypts.
fn silence_within_a_record() {
    let mut peer = Remote::start();
    let socket: Socket = Stage::OpenTls.reach(&mut peer, little_room().read_timeout(LIMIT));
    peer.does("half a record");
    let begun = Instant::now();
    Waiters::default().read(&socket).told(begun, LIMIT, ErrorKind::TimedOut);
    peer.does("the other half");
    let record = crate::support::read_exactly(&socket, 4000).expect("the record is whole now");
    assert!(record.iter().all(|byte| *byte == b'r'));
    lives_on(Stage::OpenTls, &socket, &mut peer);
}
