//! Limits of calls: timeouts, absolute deadlines, and their change while a call is blocked.

use std::io::Write;
use std::time::{Duration, Instant};

use sockeye::{Error, ErrorKind, Keepalive, Phase, Socket, SocketOptions, TcpOptions};

use crate::support::peer::black_hole;
use crate::support::{
    HasErrorKind, PROMPT, Peer, SpawnedCall, WATCHDOG, assert_bytes_eq, assert_fails,
    assert_times_out, at_once, fill_send_buffer, ms, open, open_with, past_instant, read,
    read_exactly, small_send_buffer, spawn_blocked, timed, with_watchdog, write_until_error,
};

/// A limit longer than any test: the test fails if a call ends only then.
const FAR: Duration = Duration::from_secs(3600);

fn after(span: Duration) -> Option<Instant> {
    Some(Instant::now() + span)
}

// -------------------------------------------------------------------- one direction or the other

/// The two directions of a socket that is blocked in both. The same rules apply to each.
#[derive(Clone, Copy, Debug)]
enum Side {
    Reading,
    Writing,
}

const SIDES: [Side; 2] = [Side::Reading, Side::Writing];

impl Side {
    /// Returns a peer that neither sends nor reads before its cue, and a socket whose send buffer is full.
    fn not_reading(self) -> (Peer, Socket) {
        let peer = Peer::not_reading();
        let socket = open_with(&peer, small_send_buffer());
        if let Side::Writing = self {
            fill_send_buffer(&socket);
        }
        (peer, socket)
    }

    fn set_deadline(self, socket: &Socket, at: Option<Instant>) {
        match self {
            Side::Reading => socket.set_read_deadline(at),
            Side::Writing => socket.set_write_deadline(at),
        }
    }

    fn set_timeout(self, socket: &Socket, limit: Option<Duration>) -> Result<(), Error> {
        match self {
            Side::Reading => socket.set_read_timeout(limit),
            Side::Writing => socket.set_write_timeout(limit),
        }
    }

    fn call(self, mut socket: &Socket) -> std::io::Result<()> {
        match self {
            Side::Reading => read(socket, 1).map(drop),
            Side::Writing => socket.write(b"w").map(drop),
        }
    }

    /// Starts a blocked call, which returns the time of its end.
    fn blocked(self, socket: &Socket) -> SpawnedCall<(std::io::Result<()>, Instant)> {
        let socket = socket.clone();
        spawn_blocked(move || (self.call(&socket), Instant::now()))
    }

    fn lasts(self, socket: &Socket, at_least: Duration) {
        let (result, took) = timed(|| self.call(socket));
        assert_times_out(result);
        assert!(took >= at_least && took < at_least + PROMPT, "{self:?} took {took:?}");
    }
}

fn both(check: fn(Side)) {
    for side in SIDES {
        with_watchdog(move || check(side));
    }
}

// -------------------------------------------------------------------- timeouts

#[test]
fn every_call_has_the_whole_timeout() {
    both(|side| {
        let (_peer, socket) = side.not_reading();
        side.set_timeout(&socket, Some(ms(150))).expect("not zero");
        side.lasts(&socket, ms(150));
        side.lasts(&socket, ms(150));
        side.set_timeout(&socket, Some(ms(300))).expect("not zero");
        side.lasts(&socket, ms(300));
    });
}

#[test]
fn options_give_the_first_timeouts() {
    with_watchdog(|| {
        let peer = Peer::not_reading();
        let options = small_send_buffer().read_timeout(ms(100)).write_timeout(ms(200));
        let socket = open_with(&peer, options);
        Side::Reading.lasts(&socket, ms(100));
        let (result, took) = timed(|| write_until_error(&socket, b'w', usize::MAX).1);
        assert_times_out::<()>(Err(result.expect("the peer does not read")));
        assert!(took >= ms(200) && took < ms(200) + WATCHDOG, "took {took:?}");
    });
}

#[test]
fn a_call_without_its_timeout_waits_again() {
    both(|side| {
        let (peer, socket) = side.not_reading();
        side.set_timeout(&socket, Some(ms(50))).expect("not zero");
        assert_times_out(side.call(&socket));
        side.set_timeout(&socket, None).expect("`None` removes the limit");
        let call = side.blocked(&socket);
        assert_fails(socket.closed_timeout(ms(200)), ErrorKind::TimedOut);
        assert!(call.is_running());
        ends_well(side, &peer, &socket, call);
    });
}

/// Ends the blocked call cleanly: the peer reads for a write, and closes for a read.
#[track_caller]
fn ends_well(
    side: Side,
    peer: &Peer,
    socket: &Socket,
    call: SpawnedCall<(std::io::Result<()>, Instant)>,
) {
    match side {
        Side::Reading => socket.reader().cancel(),
        Side::Writing => peer.signal(),
    }
    call.join().0.expect("the peer has unblocked it");
}

#[test]
fn a_zero_timeout_is_invalid() {
    with_watchdog(|| {
        let peer = Peer::reading();
        let socket = open(&peer);
        assert_fails(socket.set_read_timeout(Some(Duration::ZERO)), ErrorKind::InvalidOptions);
        assert_fails(socket.set_write_timeout(Some(Duration::ZERO)), ErrorKind::InvalidOptions);
        assert_eq!(socket.phase(), Phase::Open);
    });
    let probes = |idle, interval| Keepalive { idle, interval, retries: 3 };
    let tcp = |tcp| SocketOptions::new().tcp(tcp);
    for options in [
        SocketOptions::new().connect_timeout(Duration::ZERO),
        SocketOptions::new().close_timeout(Duration::ZERO),
        SocketOptions::new().read_timeout(Duration::ZERO),
        SocketOptions::new().write_timeout(Duration::ZERO),
        tcp(TcpOptions::new().user_timeout(Duration::ZERO)),
        tcp(TcpOptions::new().keepalive(probes(Duration::ZERO, ms(1000)))),
        tcp(TcpOptions::new().keepalive(probes(ms(1000), Duration::ZERO))),
    ] {
        let shown = format!("{options:?}");
        let result = sockeye::connect_with("127.0.0.1:9", options);
        assert_eq!(
            result.err().map(|error| error.kind()),
            Some(ErrorKind::InvalidOptions),
            "{shown}"
        );
    }
}

// -------------------------------------------------------------------- deadlines

#[test]
fn a_deadline_holds_for_every_call_after_it() {
    both(|side| {
        let (_peer, socket) = side.not_reading();
        side.set_deadline(&socket, after(ms(200)));
        side.lasts(&socket, ms(190));
        assert_times_out(at_once(|| side.call(&socket)));
        assert_times_out(at_once(|| side.call(&socket)));
    });
}

#[test]
fn a_deadline_of_one_direction_does_not_affect_the_other() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| wire.echo());
        let socket = open(&peer);
        socket.set_read_deadline(Some(past_instant()));
        (&socket).write_all(b"there").expect("writes have no deadline");
        socket.set_read_deadline(None);
        socket.set_write_deadline(Some(past_instant()));
        assert_eq!(read_exactly(&socket, 5).expect("reads have no deadline"), b"there");
        assert_times_out((&socket).write(b"x"));
    });
}

#[test]
fn the_earlier_of_timeout_and_deadline_applies() {
    both(|side| {
        let (_peer, socket) = side.not_reading();
        side.set_timeout(&socket, Some(FAR)).expect("not zero");
        side.set_deadline(&socket, after(ms(150)));
        side.lasts(&socket, ms(140));
        side.set_timeout(&socket, Some(ms(150))).expect("not zero");
        side.set_deadline(&socket, after(FAR));
        side.lasts(&socket, ms(150));
    });
}

#[test]
fn an_earlier_deadline_ends_a_blocked_call_earlier() {
    both(|side| {
        let (_peer, socket) = side.not_reading();
        side.set_deadline(&socket, after(FAR));
        let call = side.blocked(&socket);
        let at = Instant::now() + ms(100);
        side.set_deadline(&socket, Some(at));
        ended_at(call, at);
    });
}

#[test]
fn a_first_deadline_ends_a_call_that_blocked_without_one() {
    both(|side| {
        let (_peer, socket) = side.not_reading();
        let call = side.blocked(&socket);
        let at = Instant::now() + ms(100);
        socket.set_deadline(Some(at));
        ended_at(call, at);
    });
}

#[test]
fn a_later_deadline_lets_a_blocked_call_wait_on() {
    both(|side| {
        let (_peer, socket) = side.not_reading();
        side.set_deadline(&socket, after(ms(300)));
        let call = side.blocked(&socket);
        let at = Instant::now() + ms(700);
        side.set_deadline(&socket, Some(at));
        ended_at(call, at);
    });
}

#[test]
fn a_lifted_deadline_lets_a_blocked_call_wait_on() {
    both(|side| {
        let (peer, socket) = side.not_reading();
        side.set_deadline(&socket, after(ms(300)));
        let call = side.blocked(&socket);
        side.set_deadline(&socket, None);
        assert_fails(socket.closed_timeout(ms(500)), ErrorKind::TimedOut);
        assert!(call.is_running(), "the deadline was lifted");
        ends_well(side, &peer, &socket, call);
    });
}

#[test]
fn a_deadline_in_the_past_ends_a_blocked_call_at_once() {
    both(|side| {
        let (_peer, socket) = side.not_reading();
        let call = side.blocked(&socket);
        let at = Instant::now();
        side.set_deadline(&socket, Some(past_instant()));
        ended_at(call, at);
    });
}

#[test]
fn a_call_follows_a_deadline_that_keeps_moving() {
    both(|side| {
        let (_peer, socket) = side.not_reading();
        side.set_deadline(&socket, after(FAR));
        let call = side.blocked(&socket);
        for step in 0..1000 {
            let span = if step % 2 == 0 { FAR } else { FAR / 2 };
            side.set_deadline(&socket, after(span));
        }
        assert!(call.is_running());
        let at = Instant::now() + ms(50);
        side.set_deadline(&socket, Some(at));
        ended_at(call, at);
    });
}

#[track_caller]
fn ended_at(call: SpawnedCall<(std::io::Result<()>, Instant)>, at: Instant) {
    let (result, ended) = call.join();
    assert_times_out(result);
    assert!(ended >= at, "{:?} early", at - ended);
    assert!(ended - at < PROMPT, "{:?} late", ended - at);
}

#[test]
fn every_call_that_waits_for_its_turn_honours_the_deadline() {
    both(|side| {
        let (_peer, socket) = side.not_reading();
        let calls: Vec<_> = (0..4).map(|_| side.blocked(&socket)).collect();
        let at = Instant::now() + ms(100);
        side.set_deadline(&socket, Some(at));
        for call in calls {
            ended_at(call, at);
        }
    });
}

#[test]
fn a_second_call_that_waits_for_its_turn_honours_its_own_timeout() {
    both(|side| {
        let (peer, socket) = side.not_reading();
        let first = side.blocked(&socket);
        side.set_timeout(&socket, Some(ms(150))).expect("not zero");
        side.lasts(&socket, ms(150));
        drop(peer);
        socket.abort();
        let ended = first.join().0.failure();
        assert!(matches!(ended, Some(ErrorKind::TimedOut | ErrorKind::Closed)), "{ended:?}");
    });
}

#[test]
fn a_new_timeout_applies_to_a_blocked_call() {
    both(|side| {
        let (_peer, socket) = side.not_reading();
        side.set_timeout(&socket, Some(FAR)).expect("not zero");
        let call = side.blocked(&socket);
        let at = Instant::now();
        side.set_timeout(&socket, Some(ms(50))).expect("not zero");
        ended_at(call, at);
        side.lasts(&socket, ms(50));
    });
}

#[test]
fn a_first_timeout_is_measured_from_the_start_of_a_blocked_call() {
    const WAITED: Duration = ms(1600);
    both(|side| {
        let (_peer, socket) = side.not_reading();
        let call = side.blocked(&socket);
        assert_fails(socket.closed_timeout(WAITED), ErrorKind::TimedOut);
        let at = Instant::now();
        side.set_timeout(&socket, Some(WAITED)).expect("not zero");
        // The call has already waited longer than the new timeout.
        ended_at(call, at);
    });
}

#[test]
fn far_away_limits_do_not_overflow() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| wire.echo());
        let options = SocketOptions::new()
            .connect_timeout(Duration::MAX)
            .close_timeout(Duration::MAX)
            .read_timeout(Duration::MAX)
            .write_timeout(Duration::MAX);
        let socket = sockeye::connect_with(peer.address(), options).expect("they are times");
        socket.opened_timeout(Duration::MAX).expect("the peer listens");
        for at in [furthest(), Instant::now() + Duration::from_secs(100 * 365 * 86_400)] {
            socket.set_deadline(Some(at));
            let reader = socket.reader();
            let reading = spawn_blocked(move || read_exactly(reader, 4));
            (&socket).write_all(b"ping").expect("the peer reads");
            assert_eq!(reading.join().expect("the peer answers"), b"ping");
        }
        socket.set_read_timeout(Some(Duration::MAX)).expect("it is a time");
        socket.set_write_timeout(Some(Duration::MAX)).expect("it is a time");
        (&socket).write_all(b"pong").expect("the peer reads");
        assert_eq!(read_exactly(&socket, 4).expect("the peer answers"), b"pong");
        socket.close().expect("the close succeeds");
        socket.closed_timeout(Duration::MAX).expect("it was closed");
    });
}

/// Returns the last instant that the clock can represent, to the second.
fn furthest() -> Instant {
    let now = Instant::now();
    let (mut low, mut high) = (0, u64::MAX);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        match now.checked_add(Duration::from_secs(middle)) {
            Some(_) => low = middle,
            None => high = middle - 1,
        }
    }
    now + Duration::from_secs(low)
}

// -------------------------------------------------------------------- data consumed by timed-out calls

#[test]
fn a_read_that_timed_out_took_nothing() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.wait_signal();
            wire.send(b"whole");
        });
        let socket = open_with(&peer, SocketOptions::new().read_timeout(ms(20)));
        for _ in 0..5 {
            assert_times_out(read(&socket, 5));
        }
        peer.signal();
        socket.set_read_timeout(None).expect("`None` removes the limit");
        assert_eq!(read_exactly(&socket, 5).expect("the peer sends"), b"whole");
        assert_eq!(socket.stats().bytes_read, 5);
    });
}

#[test]
fn a_past_deadline_wins_over_data_that_is_ready() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.send(b"ready");
            wire.fin();
        });
        let socket = open(&peer);
        assert_eq!(read(&socket, 1).expect("the peer sends"), b"r");
        socket.set_read_deadline(Some(past_instant()));
        for _ in 0..3 {
            assert_times_out(read(&socket, 10));
        }
        socket.set_read_deadline(None);
        assert_eq!(read(&socket, 10).expect("it still waits"), b"eady");
        assert_eq!(read(&socket, 10).expect("a clean end"), b"");
    });
}

#[test]
fn a_write_that_timed_out_accepted_nothing() {
    with_watchdog(|| {
        let peer = Peer::not_reading();
        let socket = open_with(&peer, small_send_buffer().write_timeout(ms(20)));
        let bytes = crate::support::random_bytes(10, 1 << 20);
        let mut sent = 0;
        let mut refusals = 0;
        // Repeats each refused write with the same bytes. The peer begins to read after a few.
        while sent < bytes.len() {
            match (&socket).write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(error) => {
                    assert_times_out::<()>(Err(error));
                    refusals += 1;
                    if refusals == 5 {
                        peer.signal();
                    }
                }
            }
        }
        assert!(refusals >= 5);
        assert_eq!(socket.stats().bytes_written, bytes.len() as u64);
        socket.close().expect("the peer reads");
        let ending = peer.finish();
        assert_bytes_eq(&ending.bytes, &bytes);
    });
}

// -------------------------------------------------------------------- waits

#[test]
fn a_wait_of_zero_does_not_block() {
    with_watchdog(|| {
        let hole = black_hole();
        let socket = sockeye::connect(hole.address).expect("the address is valid");
        let error = at_once(|| socket.opened_timeout(Duration::ZERO))
            .expect_err("the peer does not answer");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.is_retryable(), "the attempt continues");
        assert_fails(at_once(|| socket.closed_timeout(Duration::ZERO)), ErrorKind::TimedOut);
        assert_eq!(socket.phase(), Phase::Connecting);
        socket.close().expect("it cancels the attempt");
        socket.closed_timeout(Duration::ZERO).expect("it was closed");

        let peer = Peer::reading();
        let socket = open(&peer);
        socket.opened_timeout(Duration::ZERO).expect("it is open");
        assert_fails(at_once(|| socket.closed_timeout(Duration::ZERO)), ErrorKind::TimedOut);
        socket.close().expect("the close succeeds");
        socket.closed_timeout(Duration::ZERO).expect("it was closed");
        socket.opened_timeout(Duration::ZERO).expect("it was open");
    });
}

#[test]
fn opened_timeout_does_not_end_the_attempt() {
    with_watchdog(|| {
        let hole = black_hole();
        let options = SocketOptions::new().connect_timeout(ms(600));
        let socket = sockeye::connect_with(hole.address, options).expect("the address is valid");
        let (result, took) = timed(|| socket.opened_timeout(ms(100)));
        let error = result.expect_err("the peer does not answer");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.is_retryable());
        assert!(took >= ms(100), "took {took:?}");
        let error = socket.opened_timeout(WATCHDOG).expect_err("the peer does not answer");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(!error.is_retryable(), "it was the attempt's own limit");
    });
}

#[test]
fn connect_timeout_ends_an_attempt_that_gets_no_answer() {
    with_watchdog(|| {
        let hole = black_hole();
        let (error, took) = timed(|| {
            let options = SocketOptions::new().connect_timeout(ms(500));
            let socket =
                sockeye::connect_with(hole.address, options).expect("the address is valid");
            socket.opened().expect_err("the peer does not answer")
        });
        assert!(took >= ms(500) && took <= ms(1500), "took {took:?}");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let [attempt] = error.attempts() else {
            panic!("expected one attempt: {:?}", error.attempts());
        };
        assert_eq!(attempt.address(), hole.address);
        assert_eq!(attempt.error().kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn close_waits_no_longer_than_its_timeout() {
    with_watchdog(|| {
        let peer = Peer::not_reading();
        let socket = open_with(&peer, small_send_buffer().close_timeout(ms(300)));
        let _ = write_until_error(socket.writer(), b'w', 1000);
        let (_, took) = timed(|| socket.close());
        assert!(took < ms(300) + PROMPT, "took {took:?}");
    });
}
