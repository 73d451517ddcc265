//! `Poller` and `wait_any`.

mod listeners;
#[cfg(target_os = "linux")]
mod many;
mod tls;
mod waiting;

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use socket2::SockRef;
use sockeye::{Event, Events, Interest, Poller, Socket, SocketOptions, wait_any};

use crate::support::net;
use crate::support::peer::{closed_port, listen, reset};
use crate::support::{
    PROMPT, Peer, assert_fails, at_once, eventually, fill_send_buffer, ms, open_with, read_exactly,
    resolver_on_signal, small_send_buffer, spawn_blocked, with_watchdog,
};

pub const READABLE: Interest = Interest::READABLE;
pub const WRITABLE: Interest = Interest::WRITABLE;

/// Long enough for an event that must not come.
const QUIET: Duration = ms(150);

fn pair() -> (Socket, TcpStream) {
    pair_with(SocketOptions::new())
}

fn pair_with(options: SocketOptions) -> (Socket, TcpStream) {
    let listener = listen();
    let address = listener.local_addr().expect("it is bound");
    let socket = sockeye::connect_with(address, options).expect("the options are valid");
    let (peer, _) = listener.accept().expect("the socket connects");
    net::set_nodelay(&peer).expect("it is connected");
    socket.opened().expect("the peer has accepted it");
    (socket, peer)
}

/// The events of one wait, as text: the key, and a letter for each flag.
pub fn wait(poller: &Poller, limit: Duration) -> Vec<String> {
    let mut events = Events::with_capacity(16);
    let count = poller.wait(&mut events, limit).expect("a wait succeeds");
    assert_eq!((count, count == 0), (events.len(), events.is_empty()));
    events.iter().map(text).collect()
}

fn text(event: Event) -> String {
    let flags =
        [(event.readable, 'r'), (event.writable, 'w'), (event.opened, 'o'), (event.closed, 'c')];
    let flags: String = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).collect();
    format!("{}{flags}", event.key)
}

#[track_caller]
pub fn assert_events<const N: usize>(poller: &Poller, expected: [&str; N]) {
    assert_eq!(wait(poller, PROMPT), expected);
}

/// Asserts that nothing is reported now.
#[track_caller]
pub fn assert_none(poller: &Poller) {
    assert_eq!(wait(poller, Duration::ZERO), [""; 0]);
}

/// Asserts that nothing is reported, now or a little later.
#[track_caller]
pub fn assert_quiet(poller: &Poller) {
    assert_eq!(wait(poller, QUIET), [""; 0]);
}

/// Reads everything that is there, and returns it.
pub fn drain(socket: &Socket) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buf = [0; 1024];
    loop {
        match socket.try_read(&mut buf) {
            Ok(0) => return all,
            Ok(bytes) => all.extend_from_slice(&buf[..bytes]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return all,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_key_is_reported_once_until_it_is_armed_again() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let (socket, mut peer) = pair();
        poller.add(&socket, 7, READABLE).unwrap();
        assert_none(&poller);
        peer.write_all(b"one").unwrap();
        assert_events(&poller, ["7r"]);
        assert_none(&poller);
        peer.write_all(b"two").unwrap();
        assert_quiet(&poller);
        poller.modify(7, READABLE).unwrap();
        assert_events(&poller, ["7r"]);
        assert_eq!(drain(&socket).len(), 6);
        poller.modify(7, READABLE).unwrap();
        assert_quiet(&poller);
        peer.write_all(b"three").unwrap();
        assert_events(&poller, ["7r"]);
    });
}

/// The event loop looks at every segment, which is no use of the socket by a thread.
/// A receive stops at urgent data, and the kernel does not report again what is behind it.
#[test]
fn data_behind_urgent_data_is_reported() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let (socket, mut peer) = pair();
        poller.add(&socket, 1, READABLE).unwrap();
        // The key is registered and drained once.
        peer.write_all(b"first").unwrap();
        assert_events(&poller, ["1r"]);
        assert_eq!(drain(&socket), b"first");
        poller.modify(1, READABLE).unwrap();
        for round in 0..3 {
            peer.write_all(b"before").unwrap();
            SockRef::from(&peer).send_out_of_band(b"!").unwrap();
            peer.write_all(b"behind").unwrap();
            let mut received = Vec::new();
            while !received.ends_with(b"behind") {
                assert_events(&poller, ["1r"]);
                let mut buf = [0; 64];
                let bytes = socket.try_read(&mut buf).unwrap();
                received.extend_from_slice(&buf[..bytes]);
                poller.modify(1, READABLE).unwrap();
            }
            assert!(received.starts_with(b"before"), "{round}: {received:?}");
        }
        // Urgent data alone is nothing to read.
        SockRef::from(&peer).send_out_of_band(b"!").unwrap();
        assert_quiet(&poller);
    });
}

#[test]
fn a_peek_reads_nothing() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let (socket, mut peer) = pair();
        poller.add(&socket, 1, READABLE).unwrap();
        for _ in 0..3 {
            peer.write_all(b"data").unwrap();
            for _ in 0..3 {
                assert_events(&poller, ["1r"]);
                assert_eq!(socket.peek(&mut [0; 64]).unwrap(), 4);
                poller.modify(1, READABLE).unwrap();
            }
            assert_events(&poller, ["1r"]);
            assert_eq!(drain(&socket), b"data");
            poller.modify(1, READABLE).unwrap();
            assert_quiet(&poller);
        }
    });
}

#[test]
fn a_socket_is_detached_while_data_comes() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        for _ in 0..300 {
            let (socket, mut peer) = pair();
            poller.add(&socket, 7, READABLE).unwrap();
            let sending = crate::support::spawn_call(move || {
                for _ in 0..30 {
                    peer.write_all(b"x").unwrap();
                }
                peer
            });
            assert_events(&poller, ["7r"]);
            let stream = socket.detach().expect("no thread reads");
            drop((sending.join(), stream));
            drop(socket);
        }
    });
}

#[test]
fn a_level_triggered_key_is_reported_as_long_as_it_is_so() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let (socket, mut peer) = pair();
        poller.add(&socket, 7, READABLE.level()).unwrap();
        peer.write_all(b"one").unwrap();
        for _ in 0..3 {
            assert_events(&poller, ["7r"]);
        }
        assert_eq!(socket.try_read(&mut [0; 2]).unwrap(), 2);
        assert_events(&poller, ["7r"]);
        assert_eq!(socket.try_read(&mut [0; 2]).unwrap(), 1);
        assert_quiet(&poller);
        peer.write_all(b"two").unwrap();
        assert_events(&poller, ["7r"]);
        poller.modify(7, READABLE.oneshot()).unwrap();
        assert_events(&poller, ["7r"]);
        assert_none(&poller);
    });
}

#[test]
fn what_is_so_already_is_reported_however_long_it_has_been() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let (socket, mut peer) = pair();
        peer.write_all(b"early").unwrap();
        // The event loop has seen the data by now, and reports no more of it.
        std::thread::sleep(ms(350));
        let every = READABLE | WRITABLE | Interest::OPENED;
        poller.add(&socket, 1, every).unwrap();
        assert_events(&poller, ["1rwo"]);
        poller.modify(1, READABLE).unwrap();
        assert_events(&poller, ["1r"]);
        drain(&socket);
        drop(peer);
        socket.closed().unwrap();
        poller.add(&socket, 2, READABLE).unwrap();
        let mut events = wait(&poller, PROMPT);
        events.sort();
        assert_eq!(events, ["1c", "2rc"], "the end is reported although a key is disarmed");
        assert_none(&poller);
    });
}

#[test]
fn both_interests_come_in_one_event() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let (socket, mut peer) = pair();
        poller.add(&socket, 0, READABLE | WRITABLE).unwrap();
        assert_events(&poller, ["0w"]);
        peer.write_all(b"x").unwrap();
        eventually(PROMPT, "the byte arrives", || socket.peek(&mut [0]).is_ok());
        poller.modify(0, READABLE | WRITABLE).unwrap();
        assert_events(&poller, ["0rw"]);
    });
}

#[test]
fn keys_are_unique_and_may_be_used_again() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let (socket, mut peer) = pair();
        let (other, _other_peer) = pair();
        poller.add(&socket.reader(), 7, READABLE).unwrap();
        poller.add(&socket.writer(), u64::MAX, WRITABLE).unwrap();
        assert_eq!((poller.len(), poller.is_empty()), (2, false));
        for socket in [&socket, &other] {
            let taken = poller.add(socket, 7, READABLE).unwrap_err();
            assert_eq!(taken.kind(), sockeye::ErrorKind::InvalidState);
            assert!(taken.to_string().contains('7'), "{taken}");
        }
        assert_fails(poller.modify(8, READABLE), sockeye::ErrorKind::InvalidState);
        assert!(!poller.remove(8));
        assert_events(&poller, ["18446744073709551615w"]);
        // Queued, but not reported after the removal.
        peer.write_all(b"x").unwrap();
        eventually(PROMPT, "the byte arrives", || socket.peek(&mut [0]).is_ok());
        poller.modify(7, READABLE).unwrap();
        assert!(poller.remove(7));
        assert!(!poller.remove(7));
        assert_none(&poller);
        assert_fails(poller.modify(7, READABLE), sockeye::ErrorKind::InvalidState);
        poller.add(&other, 7, WRITABLE).unwrap();
        assert_events(&poller, ["7w"]);
        assert_eq!(poller.len(), 2);
    });
}

#[test]
fn removed_keys_do_not_pile_up_and_come_back_fresh() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let (socket, _peer) = pair();
        for _ in 0..10_000 {
            poller.add(&socket, 7, WRITABLE).unwrap();
            assert!(poller.remove(7));
        }
        assert_none(&poller);
        poller.add(&socket, 7, WRITABLE).unwrap();
        assert_events(&poller, ["7w"]);
    });
}

#[test]
fn a_source_may_be_in_several_pollers_and_have_several_keys() {
    with_watchdog(|| {
        let pollers = [Poller::new().unwrap(), Poller::new().unwrap()];
        let (socket, mut peer) = pair();
        for poller in &pollers {
            poller.add(&socket, 1, READABLE).unwrap();
            poller.add(&socket, 2, READABLE.level()).unwrap();
            poller.add(&socket, 3, WRITABLE).unwrap();
            assert_events(poller, ["3w"]);
        }
        peer.write_all(b"x").unwrap();
        for poller in &pollers {
            let mut events = wait(poller, PROMPT);
            events.extend(wait(poller, ms(20)));
            events.sort();
            events.dedup();
            assert_eq!(events, ["1r", "2r"]);
        }
        let [first, second] = pollers;
        drop(first);
        drain(&socket);
        second.modify(1, READABLE).unwrap();
        peer.write_all(b"y").unwrap();
        assert!(wait(&second, PROMPT).iter().any(|event| event == "1r" || event == "2r"));
    });
}

#[test]
fn the_connection_and_its_failure_are_reported() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let (connector, answer) = resolver_on_signal(|| Ok(vec![[127, 0, 0, 1].into()]));
        let listener = listen();
        let port = listener.local_addr().unwrap().port();
        let socket = connector.connect(("soon.example", port)).unwrap();
        poller.add(&socket, 1, Interest::OPENED | WRITABLE).unwrap();
        poller.add(&socket, 2, READABLE).unwrap();
        assert_quiet(&poller);
        answer.send(()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        assert_events(&poller, ["1wo"]);
        peer.write_all(b"x").unwrap();
        assert_events(&poller, ["2r"]);

        let port = closed_port();
        let failing = sockeye::connect(port.address).unwrap();
        poller.add(&failing, 3, READABLE | WRITABLE | Interest::OPENED).unwrap();
        assert_events(&poller, ["3rwoc"]);
        assert_none(&poller);
    });
}

#[test]
fn the_end_is_reported_once_and_the_key_stays() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let (socket, mut peer) = pair();
        poller.add(&socket, 7, READABLE.level()).unwrap();
        peer.write_all(b"last").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert_events(&poller, ["7r"]);
        assert_eq!(drain(&socket), b"last");
        assert_events(&poller, ["7rc"]);
        // A read returns at once, every time.
        assert_events(&poller, ["7rc"]);
        poller.modify(7, WRITABLE).unwrap();
        assert_events(&poller, ["7wc"]);
        assert_none(&poller);
        poller.modify(7, Interest::CLOSED.level()).unwrap();
        assert_events(&poller, ["7c"]);
        assert_none(&poller);
        assert_eq!(poller.len(), 1);

        let (socket, peer) = pair_with(SocketOptions::new().allow_half_open(true));
        poller.add(&socket, 8, READABLE).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert_events(&poller, ["8r"]);
        assert_eq!(socket.try_read(&mut [0]).unwrap(), 0);
        assert_quiet(&poller);
        reset(peer);
        assert_events(&poller, ["8c"]);

        let (socket, _peer) = pair();
        poller.add(&socket, 9, READABLE).unwrap();
        socket.abort();
        // The thread that connected it may still be busy.
        assert_fails(socket.closed(), sockeye::ErrorKind::Closed);
        assert_events(&poller, ["9rc"]);
        assert_none(&poller);
    });
}

#[test]
fn a_poller_keeps_no_connection_alive() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let (socket, peer) = pair();
        let reader = socket.reader();
        poller.add(&socket, 1, READABLE | WRITABLE).unwrap();
        poller.add(&reader, 2, READABLE.level()).unwrap();
        drop(socket);
        assert_eq!(poller.len(), 2, "a handle is left");
        drop(reader);
        assert_eq!(poller.len(), 0);
        assert_quiet(&poller);
        assert_eq!(read_exactly(&peer, 1).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_fails(poller.modify(1, READABLE), sockeye::ErrorKind::InvalidState);
    });
}

#[test]
fn room_in_the_send_buffer_is_reported() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let (socket, mut peer) = pair();
        let chunk = vec![7; 100_000];
        let mut accepted = 0;
        while let Ok(bytes) = socket.try_write(&chunk) {
            accepted += bytes;
        }
        poller.add(&socket, 7, WRITABLE).unwrap();
        poller.add(&socket, 8, READABLE | WRITABLE.level()).unwrap();
        assert_quiet(&poller);
        let reading = crate::support::spawn_call(move || {
            std::io::Read::read_exact(&mut peer, &mut vec![0; accepted]).map(|()| peer)
        });
        let mut events = wait(&poller, PROMPT);
        events.extend(wait(&poller, PROMPT));
        events.sort();
        events.dedup();
        assert_eq!(events, ["7w", "8w"]);
        assert!(socket.try_write(&chunk).unwrap() > 0);
        drop(reading.join().unwrap());
        assert!(wait(&poller, PROMPT).len() <= 2);
    });
}

#[test]
fn while_another_thread_reads_there_is_nothing_to_report() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let (socket, mut peer) = pair();
        let reading = spawn_blocked({
            let socket = socket.clone();
            move || read_exactly(&socket, 2)
        });
        poller.add(&socket, 7, READABLE).unwrap();
        peer.write_all(b"a").unwrap();
        // The reader takes it, and reads on.
        assert_quiet(&poller);
        peer.write_all(b"bc").unwrap();
        assert_eq!(reading.join().unwrap(), b"ab");
        assert_events(&poller, ["7r"]);
        assert_eq!(drain(&socket), b"c");
    });
}

#[test]
fn while_another_thread_writes_there_is_nothing_to_report() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let peer = Peer::not_reading();
        let socket = open_with(&peer, small_send_buffer());
        fill_send_buffer(&socket);
        let writing = spawn_blocked({
            let mut writer = socket.writer();
            move || writer.write(b"x")
        });
        poller.add(&socket, 7, WRITABLE).unwrap();
        assert_quiet(&poller);
        peer.signal();
        assert_eq!(writing.join().unwrap(), 1);
        // The peer has ended by now, or reads.
        assert!(wait(&poller, PROMPT)[0].starts_with("7w"));
    });
}

#[test]
fn a_socket_in_a_poller_keeps_its_promises_to_threads() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let (socket, mut peer) = pair();
        poller.add(&socket, 7, READABLE | WRITABLE.level()).unwrap();
        let reading = spawn_blocked({
            let socket = socket.clone();
            move || read_exactly(&socket, 1)
        });
        at_once(|| socket.set_read_deadline(Some(crate::support::past_instant())));
        assert!(reading.join().is_err());
        socket.set_read_deadline(None);
        peer.write_all(b"x").unwrap();
        assert_eq!(read_exactly(&socket, 1).unwrap(), b"x");
        drop(peer);
        socket.closed_timeout(PROMPT).unwrap();
    });
}

#[test]
fn any_of_a_few_sockets() {
    with_watchdog(|| {
        let (first, mut first_peer) = pair();
        let (second, mut second_peer) = pair();
        let both = [(&first, READABLE), (&second, READABLE)];
        assert_eq!(wait_any(&both, Duration::ZERO).unwrap(), None);
        assert_eq!(wait_any(&both, ms(30)).unwrap(), None);
        second_peer.write_all(b"x").unwrap();
        assert_eq!(wait_any(&both, None).unwrap(), Some(1));
        assert_eq!(wait_any(&both, None).unwrap(), Some(1), "it consumes nothing");
        first_peer.write_all(b"y").unwrap();
        eventually(PROMPT, "the first one is ready", || wait_any(&both, None).unwrap() == Some(0));
        let twice = [(&second, Interest::CLOSED), (&second, WRITABLE), (&second, READABLE)];
        assert_eq!(wait_any(&twice, PROMPT).unwrap(), Some(1));
        assert_eq!(read_exactly(&second, 1).unwrap(), b"x");
        let waiting = spawn_blocked({
            let second = second.clone();
            move || wait_any(&[(&second, Interest::CLOSED)], None)
        });
        drop(second_peer);
        assert_eq!(waiting.join().unwrap(), Some(0));
        assert_fails(wait_any(&[], None), sockeye::ErrorKind::InvalidOptions);
        let many = vec![(&first, READABLE); 1025];
        assert_fails(wait_any(&many, None), sockeye::ErrorKind::InvalidOptions);
        assert_eq!(wait_any(&many[1..], None).unwrap(), Some(0));
    });
}

#[cfg(unix)]
#[test]
fn the_example_probes_500_targets_in_time() {
    use crate::support::example::{run, stderr_text, text};

    let Some(output) = run("poller/example", "probe", &[], "") else { return };
    assert!(output.status.success(), "{}", stderr_text(&output));
    let table = text(&output.stdout);
    for (reason, count) in [("answered", "200"), ("silent", "100"), ("not reachable", "100")] {
        let row = table.lines().find(|line| line.starts_with(reason)).expect("a row for each");
        assert!(row.contains(count), "{table}");
    }
}
