//! `try_read`, `try_write` and `peek`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use sockeye::Socket;

use crate::support::peer::{closed_port, listen, reset};
use crate::support::tls::{TlsPeer, authority, options, server_config, upgradable};
use crate::support::{
    PROMPT, Peer, assert_fails, assert_times_out, at_once, eventually, fill_send_buffer, ms,
    open_with, past_instant, random_bytes, read_exactly, resolver_on_signal, small_send_buffer,
    spawn_blocked, spawn_call, with_watchdog,
};

fn pair() -> (Socket, TcpStream) {
    let listener = listen();
    let address = listener.local_addr().expect("it is bound");
    let socket = sockeye::connect(address).expect("the options are valid");
    let (peer, _) = listener.accept().expect("the socket connects");
    socket.opened().expect("the peer has accepted it");
    (socket, peer)
}

/// Asserts that a call would wait: the error has no cause, and so none of this crate.
#[track_caller]
fn assert_would_block(result: io::Result<usize>) {
    let error = result.expect_err("it would have to wait");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert!(error.get_ref().is_none(), "{error:?}");
}

/// Repeats a call until it need not wait.
#[track_caller]
fn until_ready(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    let mut result = Ok(0);
    eventually(PROMPT, "the call need not wait", || {
        result = call();
        !matches!(&result, Err(error) if error.kind() == ErrorKind::WouldBlock)
    });
    result
}

#[test]
fn a_read_and_a_write_return_what_is_there() {
    with_watchdog(|| {
        let (socket, mut peer) = pair();
        let (reader, writer) = (socket.reader(), socket.writer());
        let mut buf = [0; 4];
        assert_would_block(socket.try_read(&mut buf));
        assert_would_block(reader.try_read(&mut buf));
        peer.write_all(b"abcdef").unwrap();
        assert_eq!(until_ready(|| socket.try_read(&mut buf)).unwrap(), 4);
        assert_eq!(&buf, b"abcd");
        assert_eq!(reader.try_read(&mut buf).unwrap(), 2);
        assert_would_block(reader.try_read(&mut buf));
        assert_eq!(socket.try_write(b"ghi").unwrap(), 3);
        assert_eq!(writer.try_write(b"jkl").unwrap(), 3);
        assert_eq!(read_exactly(&peer, 6).unwrap(), b"ghijkl");
        let stats = socket.stats();
        assert_eq!((stats.bytes_read, stats.bytes_written), (6, 6));
    });
}

#[test]
fn nothing_is_always_done_at_once() {
    with_watchdog(|| {
        let (socket, _peer) = pair();
        assert_eq!(socket.try_read(&mut []).unwrap(), 0);
        assert_eq!(socket.try_write(&[]).unwrap(), 0);
        assert_eq!(socket.peek(&mut []).unwrap(), 0);
        let (connector, answer) = resolver_on_signal(|| Err(ErrorKind::NotFound.into()));
        let connecting = connector.connect("never.example:1").unwrap();
        assert_eq!(connecting.try_read(&mut []).unwrap(), 0);
        assert_eq!(connecting.try_write(&[]).unwrap(), 0);
        assert_eq!(connecting.peek(&mut []).unwrap(), 0);
        assert_would_block(connecting.try_read(&mut [0]));
        assert_would_block(connecting.try_write(&[0]));
        answer.send(()).unwrap();
    });
}

#[test]
fn timeouts_and_deadlines_do_not_apply() {
    with_watchdog(|| {
        let (socket, mut peer) = pair();
        socket.set_deadline(Some(past_instant()));
        assert_times_out((&socket).read(&mut [0]));
        assert_times_out(socket.peek(&mut [0]));
        assert_would_block(socket.try_read(&mut [0]));
        peer.write_all(b"x").unwrap();
        assert_eq!(until_ready(|| socket.try_read(&mut [0])).unwrap(), 1);
        assert_eq!(socket.try_write(b"x").unwrap(), 1);
        socket.set_deadline(None);
        socket.set_read_timeout(Some(ms(1))).unwrap();
        assert_times_out(socket.peek(&mut [0]));
    });
}

#[test]
fn they_would_block_while_another_thread_reads_or_writes() {
    with_watchdog(|| {
        let peer = Peer::not_reading();
        let socket = open_with(&peer, small_send_buffer());
        let reading = spawn_blocked({
            let socket = socket.clone();
            move || read_exactly(&socket, 1)
        });
        assert_would_block(socket.try_read(&mut [0]));
        assert!(reading.is_running(), "it took nothing from the reader");
        fill_send_buffer(&socket);
        assert_would_block(socket.try_write(b"x"));
        let writing = spawn_blocked({
            let mut writer = socket.writer();
            move || writer.write(b"x")
        });
        assert_would_block(socket.try_write(b"x"));
        socket.abort();
        assert_fails(reading.join().map(|_| ()), sockeye::ErrorKind::Closed);
        assert_fails(writing.join(), sockeye::ErrorKind::Closed);
        assert_fails(socket.try_read(&mut [0]), sockeye::ErrorKind::Closed);
        assert_fails(socket.try_write(b"x"), sockeye::ErrorKind::Closed);
        drop(peer);
    });
}

#[test]
fn a_full_send_buffer_would_block_until_the_peer_reads() {
    with_watchdog(|| {
        let (socket, mut peer) = pair();
        let chunk = random_bytes(1, 100_000);
        let mut accepted = 0;
        while let Ok(bytes) = socket.try_write(&chunk) {
            accepted += bytes;
        }
        assert!(accepted > 0);
        assert_would_block(socket.try_write(&chunk));
        let reading = spawn_call(move || {
            let mut all = vec![0; accepted];
            peer.read_exact(&mut all).map(|()| peer)
        });
        let more = until_ready(|| socket.try_write(&chunk)).unwrap();
        assert!(more > 0);
        drop(reading.join().unwrap());
    });
}

#[test]
fn ends_and_failures_are_those_of_reads_and_writes() {
    with_watchdog(|| {
        let (socket, mut peer) = pair();
        peer.write_all(b"last").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(socket.peek(&mut [0; 9]).unwrap(), 4);
        assert_eq!(until_ready(|| socket.try_read(&mut [0; 9])).unwrap(), 4);
        assert_eq!(until_ready(|| socket.try_read(&mut [0; 9])).unwrap(), 0);
        assert_eq!(socket.try_read(&mut [0; 9]).unwrap(), 0);
        assert_eq!(socket.peek(&mut [0; 9]).unwrap(), 0);
        assert_fails(socket.try_write(b"x"), sockeye::ErrorKind::Closed);
        socket.closed().unwrap();

        let (socket, peer) = pair();
        reset(peer);
        let error = until_ready(|| socket.try_read(&mut [0])).unwrap_err();
        assert_fails(Err::<usize, _>(error), sockeye::ErrorKind::Reset);
        assert_fails(socket.try_write(b"x"), sockeye::ErrorKind::Reset);
        assert_fails(socket.peek(&mut [0]), sockeye::ErrorKind::Reset);

        let (socket, peer) = pair();
        reset(peer);
        let mut error = None;
        eventually(PROMPT, "the write fails", || {
            error = socket.try_write(b"x").err();
            error.is_some()
        });
        assert_fails(Err::<usize, _>(error.unwrap()), sockeye::ErrorKind::Reset);
        assert_fails(socket.try_read(&mut [0]), sockeye::ErrorKind::Reset);

        let (socket, _peer) = pair();
        socket.reader().cancel();
        assert_eq!(socket.try_read(&mut [0]).unwrap(), 0);
        assert_eq!(socket.peek(&mut [0]).unwrap(), 0);
        socket.close().unwrap();
        assert_fails(socket.try_write(b"x"), sockeye::ErrorKind::Closed);
    });
}

#[test]
fn a_reset_has_one_cause_also_for_a_thread_that_does_not_wait() {
    with_watchdog(|| {
        for _ in 0..20 {
            let (socket, peer) = pair();
            let reading = spawn_blocked({
                let socket = socket.clone();
                move || read_exactly(&socket, 1)
            });
            reset(peer);
            let mut error = None;
            eventually(PROMPT, "the write fails", || {
                let result = socket.try_write(b"x");
                error = result.err().filter(|error| error.kind() != ErrorKind::WouldBlock);
                error.is_some()
            });
            let texts =
                [error.unwrap(), reading.join().unwrap_err()].map(|error| error.to_string());
            assert!(texts[0].contains("reset"), "{texts:?}");
            assert_fails(socket.try_write(b"x"), sockeye::ErrorKind::Reset);
        }
    });
}

#[test]
fn a_peek_waits_and_leaves_everything() {
    with_watchdog(|| {
        let (socket, mut peer) = pair();
        let peeking = spawn_blocked({
            let reader = socket.reader();
            move || {
                let mut buf = [0; 3];
                reader.peek(&mut buf).map(|bytes| buf[..bytes].to_vec())
            }
        });
        peer.write_all(b"abc").unwrap();
        assert_eq!(peeking.join().unwrap(), b"abc");
        assert_eq!(socket.stats().bytes_read, 0);
        let mut one = [0; 1];
        assert_eq!(socket.peek(&mut one).unwrap(), 1);
        assert_eq!(read_exactly(&socket, 3).unwrap(), b"abc");
        let peeking = spawn_blocked({
            let socket = socket.clone();
            move || socket.peek(&mut [0; 3])
        });
        at_once(|| socket.close()).unwrap();
        assert_fails(peeking.join(), sockeye::ErrorKind::Closed);
    });
}

#[test]
fn a_peek_waits_for_the_connection() {
    with_watchdog(|| {
        let (connector, answer) = resolver_on_signal(|| Ok(vec![[127, 0, 0, 1].into()]));
        let listener = listen();
        let port = listener.local_addr().unwrap().port();
        let socket = connector.connect(("soon.example", port)).unwrap();
        let peeking = spawn_blocked({
            let socket = socket.clone();
            move || socket.peek(&mut [0; 3])
        });
        answer.send(()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(b"x").unwrap();
        assert_eq!(peeking.join().unwrap(), 1);
        assert_eq!(read_exactly(&socket, 1).unwrap(), b"x");
    });
}

#[test]
fn over_tls_they_see_data_and_no_records() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&server_config(), |peer| {
            peer.wait_signal();
            peer.send(b"one");
            peer.send(b"two");
            peer.receive(4);
            peer.ends();
        });
        // A server that does not even begin the handshake.
        let silent = listen();
        let address = silent.local_addr().unwrap();
        let opening = sockeye::connect_with(address, options(authority())).unwrap();
        assert_would_block(opening.try_read(&mut [0; 8]));
        assert_would_block(opening.try_write(b"never"));
        opening.abort();
        let socket = sockeye::connect_with(peer.address(), options(authority())).unwrap();
        socket.opened().unwrap();
        // Whatever has arrived are session tickets.
        for _ in 0..10 {
            assert_would_block(socket.try_read(&mut [0; 8]));
            std::thread::sleep(ms(1));
        }
        peer.signal();
        let mut buf = [0; 8];
        assert_eq!(socket.peek(&mut buf).unwrap(), 3, "one record at most");
        assert_eq!(&buf[..3], b"one");
        assert_eq!(socket.peek(&mut buf[..1]).unwrap(), 1);
        assert_eq!(socket.stats().bytes_read, 0);
        assert_eq!(socket.try_read(&mut buf[..2]).unwrap(), 2);
        assert_eq!(socket.peek(&mut buf).unwrap(), 1);
        let mut rest = Vec::new();
        while rest.len() < 4 {
            let bytes = until_ready(|| socket.try_read(&mut buf)).unwrap();
            rest.extend_from_slice(&buf[..bytes]);
        }
        assert_eq!(rest, b"etwo");
        assert_eq!(socket.try_write(b"done").unwrap(), 4);
        assert_eq!(until_ready(|| socket.try_read(&mut buf)).unwrap(), 0);
        assert_eq!(socket.try_read(&mut buf).unwrap(), 0);
        peer.finish();
    });
}

#[test]
fn over_tls_a_full_queue_would_block_until_the_peer_reads() {
    with_watchdog(|| {
        const CHUNK: usize = 30_000;
        let (sender, receiver) = std::sync::mpsc::channel::<usize>();
        let peer = TlsPeer::secured(&server_config(), move |peer| {
            let count = receiver.recv().unwrap();
            peer.receive(count);
            peer.wait_signal();
        });
        let socket = sockeye::connect_with(peer.address(), options(authority())).unwrap();
        socket.opened().unwrap();
        let chunk = random_bytes(2, CHUNK);
        let mut accepted = 0;
        while let Ok(bytes) = socket.try_write(&chunk) {
            accepted += bytes;
        }
        assert_would_block(socket.try_write(&chunk));
        sender.send(accepted).unwrap();
        // The event loop sends the queue.
        assert!(until_ready(|| socket.try_write(&chunk)).unwrap() > 0);
        peer.signal();
        socket.abort();
        drop(peer);
    });
}

#[test]
fn an_upgraded_socket_has_ended_and_the_new_one_goes_on() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            peer.accept_starttls();
            peer.handshake();
            peer.receive(4);
            peer.send(b"over tls");
            peer.ends();
        });
        let socket = sockeye::connect_with(peer.address(), upgradable(authority())).unwrap();
        crate::support::tls::ask(&socket);
        let peeking = spawn_blocked({
            let socket = socket.clone();
            move || socket.peek(&mut [0; 4])
        });
        let secure = socket.start_tls().unwrap();
        assert_fails(peeking.join(), sockeye::ErrorKind::Upgraded);
        assert_fails(socket.try_read(&mut [0]), sockeye::ErrorKind::Upgraded);
        assert_fails(socket.try_write(b"x"), sockeye::ErrorKind::Upgraded);
        assert_fails(socket.peek(&mut [0]), sockeye::ErrorKind::Upgraded);
        secure.opened().unwrap();
        assert_eq!(secure.try_write(b"ping").unwrap(), 4);
        let mut buf = [0; 8];
        assert_eq!(secure.peek(&mut buf).unwrap(), 8);
        assert_eq!(secure.try_read(&mut buf).unwrap(), 8);
        assert_eq!(&buf, b"over tls");
        assert_eq!(until_ready(|| secure.try_read(&mut buf)).unwrap(), 0);
        peer.finish();
    });
}

#[test]
fn a_failed_connection_has_its_cause() {
    with_watchdog(|| {
        let port = closed_port();
        let socket = sockeye::connect(port.address).unwrap();
        assert_fails(socket.opened().map(|_| ()), sockeye::ErrorKind::Connect);
        assert_fails(socket.try_read(&mut [0]), sockeye::ErrorKind::Connect);
        assert_fails(socket.try_write(b"x"), sockeye::ErrorKind::Connect);
        assert_fails(socket.peek(&mut [0]), sockeye::ErrorKind::Connect);
        assert_fails(socket.try_read(&mut []), sockeye::ErrorKind::Connect);
    });
}
