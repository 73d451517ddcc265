//! Records that are neither an end nor data: tickets and key updates.

use super::*;

// -------------------------------------------------------------------- tickets

/// Starts a peer that sends this many tickets after the handshake and continues at its cue.
#[track_caller]
fn ticketed(
    options: SocketOptions,
    script: impl FnOnce(&mut Accepted) + Send + 'static,
) -> (TlsPeer, Socket) {
    let setup = server_config().only(TlsVersion::Tls13).tickets(8);
    let (sender, receiver) = mpsc::channel();
    let peer = Opening::On.on(listen(), &setup, move |peer| {
        sender.send(()).expect("the test waits for it");
        peer.wait_signal();
        script(peer);
    });
    let socket = Opening::On.open(&peer, options);
    receiver.recv_timeout(WATCHDOG).expect("the handshake is complete and the tickets are sent");
    (peer, socket)
}

#[test]
fn tickets_are_not_data() {
    with_watchdog(|| {
        let (peer, socket) = ticketed(SocketOptions::new(), |peer| peer.send(b"data"));
        assert_fails(socket.closed_timeout(ms(200)), ErrorKind::TimedOut);
        assert_eq!(socket.phase(), Phase::Open);
        socket.set_read_timeout(Some(ms(100))).expect("not zero");
        assert_times_out(read(&socket, 100));
        assert_eq!(socket.stats().bytes_read, 0);
        socket.set_read_timeout(None).expect("`None` removes the limit");
        let reader = socket.reader();
        let reading = spawn_blocked(move || read(reader, 100));
        peer.signal();
        assert_eq!(reading.join().expect("the peer sends"), b"data");
        socket.close().expect("the peer reads");
        peer.assert_received(b"");
    });
}

#[test]
fn tickets_and_an_end_settle_without_a_reader() {
    with_watchdog(|| {
        let (peer, socket) = ticketed(SocketOptions::new(), Accepted::close_notify);
        let waiting = socket.clone();
        let closed = spawn_blocked(move || waiting.closed());
        peer.signal();
        closed.join_within(PROMPT).expect("nothing is unread");
        assert_eq!(read(&socket, 1).expect("a clean end"), b"");
        peer.assert_received(b"");

        // The end has arrived before any call checks.
        let (peer, socket) = ticketed(SocketOptions::new(), Accepted::ends);
        peer.signal();
        socket.closed_timeout(PROMPT).expect("nothing is unread");
        peer.assert_received(b"");
    });
}

#[test]
fn half_open_tickets_and_an_end_do_not_settle() {
    with_watchdog(|| {
        let (peer, socket) = ticketed(half_open(), Accepted::close_notify);
        peer.signal();
        assert_fails(socket.closed_timeout(ms(300)), ErrorKind::TimedOut);
        (&socket).write_all(b"still here").expect("it is half open");
        socket.writer().close().expect("the peer reads");
        socket.closed_timeout(PROMPT).expect("both directions ended");
        peer.assert_received(b"still here");
    });
}

#[test]
fn tickets_do_not_hide_truncation_or_data() {
    with_watchdog(|| {
        let (peer, socket) = ticketed(SocketOptions::new(), Accepted::fin);
        peer.signal();
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Truncated);

        let (peer, socket) = ticketed(SocketOptions::new(), |peer| {
            peer.send(b"data");
            peer.ends();
        });
        peer.signal();
        assert_fails(socket.closed_timeout(ms(300)), ErrorKind::TimedOut);
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"data");
        socket.closed_timeout(PROMPT).expect("a clean end");
        peer.assert_received(b"");
    });
}

#[test]
fn unread_tickets_do_not_turn_a_close_into_a_reset() {
    with_watchdog(|| {
        let (peer, socket) = ticketed(SocketOptions::new(), |peer| {
            peer.read_to_end();
            peer.wait_signal();
        });
        peer.signal();
        socket.close().expect("the close succeeds");
        peer.signal();
        peer.assert_received(b"");
    });
}

// -------------------------------------------------------------------- key updates

#[test]
fn a_key_update_is_answered_with_the_next_data() {
    in_tls_1_3(|setting| {
        let (sender, receiver) = mpsc::channel();
        let (peer, socket) = pair(setting, move |peer| {
            for _ in 0..3 {
                peer.expect_key_update();
                sender.send(()).expect("the test waits for it");
            }
        });
        let count: usize = (0..3).map(|_| write_bytes_until(&receiver, &socket)).sum();
        assert_eq!(socket.phase(), Phase::Open);
        assert_eq!((socket.stats().bytes_read, socket.stats().bytes_written), (0, count as u64));
        socket.close().expect("the peer reads");
        peer.assert_received(&vec![b'w'; count]);
    });
}

/// RFC 8446, section 4.6.3: a side that was silent sends one update for all requests.
#[test]
fn key_updates_in_a_row_are_answered_once_and_not_before_data() {
    in_tls_1_3(|setting| {
        let script = |updates| {
            move |peer: &mut Accepted| {
                for _ in 0..updates {
                    peer.line().update_keys().expect("the other end is open");
                }
                // Read after the updates.
                peer.send(b"now");
                peer.echo();
            }
        };
        let records = |updates| {
            let (peer, socket) = pair(setting, script(updates));
            assert_eq!(read_exactly(&socket, 3).expect("the peer sends"), b"now");
            for _ in 0..2 {
                (&socket).write_all(b"with new keys").expect("the peer reads");
                let answer = read_exactly(&socket, 13).expect("the peer answers");
                assert_eq!(answer, b"with new keys");
            }
            socket.close().expect("the peer reads");
            peer.assert_received(b"with new keyswith new keys").records().len()
        };
        let without = records(0);
        assert_eq!(records(1), without + 1);
        assert_eq!(records(20), without + 1);
        // Nothing is sent for the sake of an update.
        let (peer, socket) = pair(setting, |peer| {
            peer.line().update_keys().expect("the other end is open");
            peer.send(b"now");
        });
        assert_eq!(read_exactly(&socket, 3).expect("the peer sends"), b"now");
        let reader = socket.reader();
        let reading = spawn_blocked(move || read(reader, 10));
        assert!(reading.is_running(), "a key update is not data");
        socket.close().expect("the peer reads");
        assert_fails(reading.join(), ErrorKind::Closed);
        let report = peer.assert_received(b"");
        // Besides an answer that close_notify takes along, as data would.
        assert_eq!(report.records().len(), without - 2 + 1);
    });
}

#[test]
fn many_key_updates_at_once_are_accepted() {
    in_tls_1_3(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            // rustls treats more than 32 in a row, without data, as an attack.
            for _ in 0..32 {
                peer.line().update_keys().expect("the other end is open");
            }
            peer.echo();
        });
        let bytes = random_bytes(32, 200_000);
        let reader = socket.reader();
        let reading = spawn_call(move || read_exactly(reader, 200_000));
        (&socket).write_all(&bytes).expect("the peer reads");
        assert_bytes_eq(&reading.join().expect("the peer answers"), &bytes);
        socket.close().expect("the peer reads");
        peer.assert_received(&bytes);
    });
}

#[test]
fn key_updates_between_data_in_both_directions_lose_nothing() {
    const SIZE: usize = 2 << 20;
    in_tls_1_3(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            peer.spawn_part(|line| {
                // rustls accepts no more than 32 key updates in a row without data.
                for chunk in random_bytes(33, SIZE).chunks(SIZE / 30) {
                    line.send(chunk).expect("the program reads");
                    line.update_keys().expect("the program reads");
                }
            });
            peer.receive(SIZE);
        });
        let reader = socket.reader();
        let reading = spawn_call(move || read_exactly(reader, SIZE));
        let bytes = random_bytes(34, SIZE);
        for chunk in bytes.chunks(7_000) {
            (&socket).write_all(chunk).expect("the peer reads");
        }
        assert_bytes_eq(&reading.join().expect("the peer sends"), &random_bytes(33, SIZE));
        socket.close().expect("the peer reads");
        peer.assert_received(&bytes);
    });
}

#[test]
fn key_updates_of_a_peer_that_does_not_read_are_answered_once_it_reads() {
    in_tls_1_3(|setting| {
        let (sender, receiver) = mpsc::channel();
        let peer = setting.way.on(listen_with_room(4096), &setting.server_config(), move |peer| {
            peer.wait_signal();
            for _ in 0..1000 {
                peer.line().update_keys().expect("the other end is open");
                peer.send(b"d");
            }
            sender.send(()).expect("the test waits for it");
            peer.wait_signal();
        });
        let socket = setting.open(&peer, small_send_buffer());
        let taken = fill_send_buffer(&socket);
        let mut writer = socket.writer();
        let writing = spawn_blocked(move || writer.write(b"w"));
        peer.signal();
        receiver.recv_timeout(WATCHDOG).expect("everything is sent");
        // Reading continues although the replies cannot be sent.
        assert_bytes_eq(&read_exactly(&socket, 1000).expect("the peer sends"), &[b'd'; 1000]);
        assert!(writing.is_running(), "the peer reads nothing");
        peer.signal();
        assert_eq!(writing.join().expect("the peer reads now"), 1);
        socket.close().expect("the peer reads");
        peer.assert_received(&vec![b'w'; taken + 1]);
    });
}
