//! The acceptor in virtual time, and its transition table.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::{
    Acceptor, AcceptorActions, AcceptorConfig, AcceptorInput, FIRST_DELAY, FIRST_PAUSE, MAX_DELAY,
    MAX_GONE_IN_A_ROW, State,
};
use crate::error::Fault;

const TABLE: &str = include_str!("table.txt");
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/machine/acceptor/table.txt");

const HEAD: &str = "\
Every state of the acceptor, every input, and the result: the next state and the actions. A second line shows the
result for a queue that other processes share, if it differs. UPDATE_EXPECT=1 cargo test --lib table generates this
file.
";

const INPUTS: [AcceptorInput; 10] = [
    AcceptorInput::Accepted,
    AcceptorInput::WouldBlock,
    AcceptorInput::ClientGone,
    AcceptorInput::Exhausted,
    AcceptorInput::Failed(Fault::Io(9)),
    AcceptorInput::NoSlot,
    AcceptorInput::SlotFreed,
    AcceptorInput::TimerExpired,
    AcceptorInput::Close,
    AcceptorInput::Abort,
];

#[test]
#[expect(clippy::disallowed_methods, reason = "an environment variable requests the new table")]
fn every_transition_matches_the_table() {
    let table = table();
    if std::env::var_os("UPDATE_EXPECT").is_some_and(|value| value == "1") {
        std::fs::write(FILE, &table).expect("the table can be written");
        return;
    }
    let differing = TABLE.lines().zip(table.lines()).find(|(expected, found)| expected != found);
    assert!(TABLE == table, "{FILE} differs (UPDATE_EXPECT=1 regenerates it): {differing:?}");
}

fn table() -> String {
    let start = start();
    let until = start + Duration::from_secs(5);
    let states = [
        State::Listening,
        State::AtLimit,
        State::Starved { until: start },
        State::Draining { left: 2, until, waits: false },
        State::Draining { left: 1, until, waits: false },
        State::Draining { left: 2, until: start, waits: true },
        State::Closed(Ok(())),
        State::Closed(Err(Fault::Io(9))),
    ];
    let states = states.map(|state| (state, false)).into_iter();
    let mut table = String::from(HEAD);
    for (state, is_aborted) in states.chain([(State::Closed(Ok(())), true)]) {
        let aborted = if is_aborted { ", aborted" } else { "" };
        let _ = writeln!(table, "\n{}{aborted}", name(state, start));
        let mut rest = Vec::new();
        for input in INPUTS {
            let [owned, shared] = [true, false].map(|drains| {
                let config = AcceptorConfig { drains, ..AcceptorConfig::new(3) };
                let mut acceptor =
                    Acceptor { state, config, gone: 0, pauses: 0, failures: 0, is_aborted };
                let actions = acceptor.handle(input, start);
                let after = if acceptor.state == state {
                    "stays".to_owned()
                } else {
                    name(acceptor.state, start)
                };
                format!("{after}{}", action_names(actions))
            });
            if owned == "stays" && shared == "stays" {
                rest.push(format!("{input:?}"));
                continue;
            }
            let _ = writeln!(table, "    {input:?}: {owned}");
            if owned != shared {
                let _ = writeln!(table, "    {input:?}, shared: {shared}");
            }
        }
        if !rest.is_empty() {
            let _ = writeln!(table, "    no effect: {}", rest.join(", "));
        }
    }
    table
}

fn name(state: State, start: Instant) -> String {
    match state {
        State::Listening => "Listening".to_owned(),
        State::AtLimit => "AtLimit".to_owned(),
        State::Starved { until } => format!("Starved({:?})", until - start),
        State::Draining { left, until, waits } => {
            let waits = if waits { ", waits for a slot" } else { "" };
            format!("Draining({left} left, {:?}{waits})", until - start)
        }
        State::Closed(outcome) => format!("Closed({outcome:?})"),
    }
}

fn action_names(actions: AcceptorActions) -> String {
    let AcceptorActions { reset_client, shrink_backlog, accept, close_listener, wake, settled } =
        actions;
    [
        (reset_client, " reset_client"),
        (shrink_backlog, " shrink_backlog"),
        (accept, " accept"),
        (close_listener, " close_listener"),
        (wake, " wake"),
        (settled, " settled"),
    ]
    .into_iter()
    .filter_map(|(is_set, name)| is_set.then_some(name))
    .collect()
}

#[expect(clippy::disallowed_methods, reason = "the start of virtual time")]
fn start() -> Instant {
    Instant::now()
}

fn acceptor() -> Acceptor {
    Acceptor::new(AcceptorConfig::new(3))
}

#[test]
fn the_delay_doubles_from_10_ms_to_1_s_and_a_connection_resets_it() {
    let mut acceptor = acceptor();
    let mut now = start();
    let mut delays = Vec::new();
    for _ in 0..9 {
        assert!(!acceptor.handle(AcceptorInput::Exhausted, now).accept);
        assert!(acceptor.is_starved() && !acceptor.may_accept());
        let until = acceptor.next_timer().expect("it waits");
        let early = until - Duration::from_nanos(1);
        assert_eq!(acceptor.handle(AcceptorInput::TimerExpired, early), AcceptorActions::default());
        delays.push((until - now).as_millis());
        now = until;
        let actions = acceptor.handle(AcceptorInput::TimerExpired, now);
        assert!(actions.accept && actions.wake);
    }
    assert_eq!(delays, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
    // Other code took the descriptor that was freed: the row continues.
    assert!(acceptor.handle(AcceptorInput::WouldBlock, now) == AcceptorActions::default());
    let _ = acceptor.handle(AcceptorInput::Exhausted, now);
    assert_eq!(acceptor.next_timer(), Some(now + MAX_DELAY));
    assert!(acceptor.handle(AcceptorInput::SlotFreed, now).accept);
    let _ = acceptor.handle(AcceptorInput::Accepted, now);
    let _ = acceptor.handle(AcceptorInput::Exhausted, now);
    assert_eq!(acceptor.next_timer(), Some(now + FIRST_DELAY));
}

#[test]
fn ten_seconds_without_descriptors_are_less_than_twenty_tries() {
    let mut acceptor = acceptor();
    let begun = start();
    let mut now = begun;
    let mut tries = 0;
    while now - begun < Duration::from_secs(10) {
        let _ = acceptor.handle(AcceptorInput::Exhausted, now);
        tries += 1;
        now = acceptor.next_timer().expect("it waits");
        let _ = acceptor.handle(AcceptorInput::TimerExpired, now);
    }
    assert!(tries < 20, "{tries}");
}

#[test]
fn after_64_lost_clients_in_a_row_the_acceptor_waits_for_a_moment() {
    let mut acceptor = acceptor();
    let mut now = start();
    for pause in [1, 2, 4, 8, 10, 10] {
        for lost in 1..=MAX_GONE_IN_A_ROW {
            let actions = acceptor.handle(AcceptorInput::ClientGone, now);
            assert_eq!(actions.accept, lost < 64, "{lost}");
            assert_eq!(acceptor.may_accept(), lost < 64, "{lost}");
        }
        now += Duration::from_millis(pause);
        assert_eq!(acceptor.next_timer(), Some(now));
        assert!(acceptor.handle(AcceptorInput::TimerExpired, now).accept);
    }
    for _ in 0..63 {
        let _ = acceptor.handle(AcceptorInput::ClientGone, now);
    }
    let _ = acceptor.handle(AcceptorInput::Accepted, now);
    assert!(acceptor.handle(AcceptorInput::ClientGone, now).accept, "the row was interrupted");
    for _ in 1..64 {
        let _ = acceptor.handle(AcceptorInput::ClientGone, now);
    }
    assert_eq!(acceptor.next_timer(), Some(now + FIRST_PAUSE), "so were the rows");
}

#[test]
fn a_close_gives_up_after_4096_lost_clients_in_a_row() {
    let now = start();
    let mut acceptor = Acceptor::new(AcceptorConfig::new(u32::MAX));
    let _ = acceptor.handle(AcceptorInput::Close, now);
    let _ = acceptor.handle(AcceptorInput::ClientGone, now);
    let _ = acceptor.handle(AcceptorInput::Accepted, now);
    for lost in 1..4096 {
        assert!(acceptor.handle(AcceptorInput::ClientGone, now).accept, "{lost}");
    }
    assert!(acceptor.handle(AcceptorInput::ClientGone, now).settled);
    assert_eq!(acceptor.outcome(), Some(Ok(())));
}

#[test]
fn a_close_may_have_any_limit() {
    let mut config = AcceptorConfig::new(1);
    config.close_timeout = Duration::MAX;
    let mut acceptor = Acceptor::new(config);
    assert!(acceptor.handle(AcceptorInput::Close, start()).shrink_backlog);
}

#[test]
fn a_close_returns_at_most_the_backlog() {
    let mut acceptor = acceptor();
    let now = start();
    assert!(acceptor.handle(AcceptorInput::Close, now).shrink_backlog);
    assert!(acceptor.handle(AcceptorInput::Accepted, now).accept);
    assert!(acceptor.handle(AcceptorInput::ClientGone, now).accept, "it counts too");
    let last = acceptor.handle(AcceptorInput::Accepted, now);
    assert!(last.close_listener && last.settled && !last.accept && !last.reset_client);
    // Another thread had accepted it before.
    assert!(!acceptor.handle(AcceptorInput::Accepted, now).reset_client);
    assert_eq!(acceptor.handle(AcceptorInput::Close, now), AcceptorActions::default());
    assert_eq!(acceptor.handle(AcceptorInput::Abort, now), AcceptorActions::default());
    assert!(acceptor.handle(AcceptorInput::Accepted, now).reset_client);
}

#[test]
fn a_close_waits_for_slots_within_its_timeout() {
    let now = start();
    let until = now + Duration::from_secs(5);
    for is_freed in [true, false] {
        let mut acceptor = acceptor();
        let _ = acceptor.handle(AcceptorInput::NoSlot, now);
        assert!(acceptor.waits_for_slot());
        let _ = acceptor.handle(AcceptorInput::Close, now);
        assert_eq!(acceptor.next_timer(), None, "a slot may be free by now");
        let _ = acceptor.handle(AcceptorInput::NoSlot, now);
        assert!(acceptor.waits_for_slot() && !acceptor.may_accept());
        assert_eq!(acceptor.next_timer(), Some(until));
        if is_freed {
            assert!(acceptor.handle(AcceptorInput::SlotFreed, until).accept);
            assert!(acceptor.handle(AcceptorInput::Accepted, until).accept);
        } else {
            assert!(acceptor.handle(AcceptorInput::TimerExpired, until).close_listener);
            assert_eq!(acceptor.outcome(), Some(Ok(())));
        }
    }
}

#[test]
fn the_first_outcome_stays() {
    let now = start();
    let fault = Fault::Io(9);
    let mut failed = acceptor();
    assert!(failed.handle(AcceptorInput::Failed(fault), now).settled);
    for input in INPUTS {
        assert_eq!(failed.handle(input, now), AcceptorActions::default());
        assert_eq!(failed.outcome(), Some(Err(fault)), "{input:?}");
    }
    // A failure while closing changes nothing for the program, which wanted the end.
    let mut closed = acceptor();
    let _ = closed.handle(AcceptorInput::Close, now);
    let _ = closed.handle(AcceptorInput::Failed(fault), now);
    assert_eq!(closed.outcome(), Some(Ok(())));
}
