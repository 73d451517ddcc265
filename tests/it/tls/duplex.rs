//! Secured connections in both directions at once, the bound of unsent data, and the limits of calls: all as in
//! plaintext.

use std::env;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use sockeye::{ErrorKind, Phase, Socket, SocketOptions, TlsVersion};

use crate::support::peer::listen_with_room;
use crate::support::tls::{
    Accepted, Opening, TlsCase, TlsPeer, VERSIONS, authority, for_each_tls_setup, open, options,
    server_config,
};
use crate::support::{
    PROMPT, Peer, WATCHDOG, assert_bytes_eq, assert_fails, assert_times_out, at_once, crate_kind,
    fill_send_buffer, ms, open_with, past_instant, random_bytes, read, read_exactly, read_to_end,
    small_send_buffer, spawn_blocked, spawn_blocked_read_and_write, spawn_call, timed, with_limit,
    with_watchdog,
};

/// The time for the volume tests on a busy machine with unoptimised code.
const LONG: Duration = Duration::from_secs(300);

// -------------------------------------------------------------------- volumes

/// Returns the number of bytes in each direction; the environment gives it in mebibytes.
fn volume() -> usize {
    let default = if cfg!(debug_assertions) { 48 } else { 256 };
    let receiver = env::var("SOCKEYE_VOLUME_MIB").ok();
    let mebibytes = receiver.map_or(default, |text| text.parse().expect("a number of mebibytes"));
    mebibytes << 20
}

/// An endless sequence of bytes that depend on their position, cheap to generate and to compare.
struct Pattern {
    block: Vec<u8>,
    at: usize,
}

impl Pattern {
    /// A prime length, which no size of records or buffers divides.
    const BLOCK: usize = 1_000_003;

    fn new(seed: u64) -> Pattern {
        Pattern { block: random_bytes(seed, Pattern::BLOCK), at: 0 }
    }

    /// Returns the next bytes, at most `most`.
    fn next(&mut self, most: usize) -> &[u8] {
        let from = self.at % Pattern::BLOCK;
        let to = Pattern::BLOCK.min(from + most);
        self.at += to - from;
        &self.block[from..to]
    }

    #[track_caller]
    fn check(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let place = self.at;
            let expected = self.next(bytes.len());
            let count = expected.len();
            assert!(&bytes[..count] == expected, "a wrong byte within {count} bytes after {place}");
            bytes = &bytes[count..];
        }
    }
}

#[test]
fn bulk_data_in_both_directions_arrives_in_tls_1_2() {
    with_limit(LONG, || volumes_pass_both_ways_at_once(TlsVersion::Tls12));
}

#[test]
fn bulk_data_in_both_directions_arrives_in_tls_1_3() {
    with_limit(LONG, || volumes_pass_both_ways_at_once(TlsVersion::Tls13));
}

fn volumes_pass_both_ways_at_once(version: TlsVersion) {
    let volume = volume();
    let peer = TlsPeer::secured(&server_config().only(version), move |peer| {
        peer.spawn_part(move |line| {
            let mut pattern = Pattern::new(40);
            while pattern.at < volume {
                let most = (volume - pattern.at).min(64 << 10);
                line.send(pattern.next(most)).expect("the program reads");
            }
        });
        let mut pattern = Pattern::new(41);
        peer.receive_all(|bytes| pattern.check(bytes));
        assert_eq!(pattern.at, volume, "every byte arrives once");
    });
    let socket = open(&peer, options(authority()));
    let mut reader = socket.reader();
    let reading = spawn_call(move || {
        let mut pattern = Pattern::new(40);
        let mut buf = vec![0; 64 << 10];
        loop {
            match reader.read(&mut buf).expect("the peer ends cleanly") {
                0 => return pattern.at,
                count => pattern.check(&buf[..count]),
            }
        }
    });
    let mut pattern = Pattern::new(41);
    let mut writer = socket.writer();
    while pattern.at < volume {
        let most = (volume - pattern.at).min(64 << 10);
        writer.write_all(pattern.next(most)).expect("the peer reads");
    }
    writer.close().expect("the peer reads");
    assert_eq!(reading.join_within(LONG), volume, "every byte arrives once");
    socket.closed_timeout(PROMPT).expect("both directions ended");
    let stats = socket.stats();
    assert_eq!((stats.bytes_read, stats.bytes_written), (volume as u64, volume as u64));
    let ending = peer.finish();
    assert!(ending.notified, "no close_notify arrived");
}

#[test]
fn tls_echo_8mb() {
    const SIZE: usize = 128 * 65_536;
    for_each_tls_setup(|setting| {
        let peer = setting.scripted(Accepted::echo);
        let socket = setting.open(&peer, SocketOptions::new());
        let reader = socket.reader();
        let reading = spawn_call(move || read_to_end(reader));
        let bytes = random_bytes(42, SIZE);
        let writer = socket.writer();
        for chunk in bytes.chunks(65_536) {
            (&writer).write_all(chunk).expect("the peer reads");
        }
        writer.close().expect("the peer reads");
        assert_bytes_eq(&reading.join().expect("a clean end"), &bytes);
        socket.closed_timeout(PROMPT).expect("both directions ended");
        peer.assert_received(&bytes);
    });
}

#[test]
fn many_small_writes_arrive_in_their_order() {
    for_each_tls_setup(|setting| {
        let peer = setting.reading();
        let socket = setting.open(&peer, SocketOptions::new());
        let bytes = random_bytes(43, 3000);
        for byte in &bytes {
            assert_eq!((&socket).write(&[*byte]).expect("the peer reads"), 1);
        }
        assert_eq!(socket.stats().bytes_written, 3000);
        socket.close().expect("the peer reads");
        peer.assert_received(&bytes);
    });
}

#[test]
fn small_reads_of_big_records_lose_nothing() {
    for_each_tls_setup(|setting| {
        let peer = setting.scripted(|peer| {
            peer.send(&random_bytes(44, 100_000));
            peer.ends();
        });
        let socket = setting.open(&peer, SocketOptions::new());
        let mut got = Vec::new();
        for most in (1..).step_by(7) {
            match read(&socket, most).expect("the peer sends") {
                bytes if bytes.is_empty() => break,
                bytes => got.extend(bytes),
            }
            assert_eq!(socket.stats().bytes_read, got.len() as u64);
        }
        assert_bytes_eq(&got, &random_bytes(44, 100_000));
        peer.assert_received(b"");
    });
}

// -------------------------------------------------------------------- one thread reads, another writes

#[test]
fn a_writer_works_while_a_reader_is_blocked() {
    for_each_tls_setup(|setting| {
        let peer = setting.scripted(|peer| {
            peer.receive(4 << 20);
            peer.wait_signal();
            peer.send(b"answer");
        });
        let socket = setting.open(&peer, SocketOptions::new());
        let reader = socket.reader();
        let reading = spawn_blocked(move || read(reader, 10));
        let bytes = random_bytes(45, 4 << 20);
        (&socket).write_all(&bytes).expect("the peer reads");
        (&socket).flush().expect("the peer reads");
        assert!(reading.is_running(), "the peer has sent nothing");
        peer.signal();
        assert_eq!(reading.join().expect("the peer answers"), b"answer");
        socket.close().expect("the peer reads");
        peer.assert_received(&bytes);
    });
}

#[test]
fn a_reader_works_while_a_writer_is_blocked() {
    for_each_tls_setup(|setting| {
        let peer = setting.way.on(listen_with_room(4096), &setting.server_config(), |peer| {
            peer.wait_signal();
            peer.send(&random_bytes(46, 4 << 20));
            peer.wait_signal();
        });
        let socket = setting.open(&peer, small_send_buffer());
        let taken = fill_send_buffer(&socket);
        let mut writer = socket.writer();
        let writing = spawn_blocked(move || writer.write(b"w"));
        peer.signal();
        assert_bytes_eq(
            &read_exactly(&socket, 4 << 20).expect("the peer sends"),
            &random_bytes(46, 4 << 20),
        );
        assert!(writing.is_running(), "the peer has read nothing");
        peer.signal();
        assert_eq!(writing.join().expect("the peer reads now"), 1);
        socket.close().expect("the peer reads");
        peer.assert_received(&vec![b'w'; taken + 1]);
    });
}

#[test]
fn clones_share_the_sides_and_each_byte_arrives_once() {
    const EACH: usize = 300_000;
    for_each_tls_setup(|setting| {
        let peer = setting.scripted(|peer| {
            peer.receive(3 * EACH);
            peer.send(&vec![b'r'; 3 * EACH]);
            peer.ends();
        });
        let socket = setting.open(&peer, SocketOptions::new());
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let reader = socket.reader();
                spawn_call(move || read_to_end(reader))
            })
            .collect();
        let writers: Vec<_> = [b'1', b'2', b'3']
            .into_iter()
            .map(|byte| {
                let mut writer = socket.writer();
                spawn_call(move || writer.write_all(&vec![byte; EACH]))
            })
            .collect();
        for writing in writers {
            writing.join().expect("the peer reads");
        }
        let got: Vec<u8> =
            readers.into_iter().flat_map(|reading| reading.join().expect("a clean end")).collect();
        assert_bytes_eq(&got, &vec![b'r'; 3 * EACH]);
        let ending = peer.finish();
        for byte in [b'1', b'2', b'3'] {
            assert_eq!(ending.bytes.iter().filter(|one| **one == byte).count(), EACH);
        }
    });
}

#[test]
fn numbers_go_back_and_forth_on_clones() {
    for_each_tls_setup(|setting| {
        let peer = setting.scripted(Accepted::echo);
        let socket = setting.open(&peer, SocketOptions::new());
        let reader = socket.reader();
        let (sender, receiver) = mpsc::channel();
        let reading = spawn_call(move || {
            for round in 0_u64..1000 {
                let got = read_exactly(&reader, 8).expect("the peer answers");
                assert_eq!(got, round.to_le_bytes());
                sender.send(()).expect("the test waits for it");
            }
        });
        for round in 0_u64..1000 {
            (&socket).write_all(&round.to_le_bytes()).expect("the peer reads");
            receiver.recv_timeout(PROMPT * 10).expect("the answer arrives");
        }
        reading.join();
    });
}

// -------------------------------------------------------------------- unsent data

#[test]
fn unsent_data_for_a_peer_that_does_not_read_is_bounded() {
    /// The number of bytes that may be accepted beyond the kernel's buffers.
    const BEYOND: usize = 64 << 10;
    /// The kernel's buffers do not take the same number of bytes each time.
    const SLACK: usize = 32 << 10;
    for_each_tls_setup(|setting| {
        let plain = {
            let peer = Peer::not_reading();
            fill_send_buffer(&open_with(&peer, small_send_buffer()))
        };
        let peer = setting.not_reading();
        let socket = setting.open(&peer, small_send_buffer());
        let taken = fill_send_buffer(&socket);
        assert!(taken <= plain + BEYOND + SLACK, "{taken} bytes are queued, in plaintext {plain}");
        assert_eq!(socket.stats().bytes_written, taken as u64);
        socket.set_write_timeout(Some(ms(50))).expect("not zero");
        for _ in 0..3 {
            assert_times_out((&socket).write(&[b'x'; 100_000]));
            assert_times_out((&socket).write(b"x"));
        }
        assert_eq!(socket.stats().bytes_written, taken as u64, "nothing was accepted");
        assert_eq!(socket.phase(), Phase::Open);
        peer.signal();
        socket.set_write_timeout(None).expect("`None` removes the limit");
        (&socket).write_all(b"y").expect("the peer reads now");
        socket.close().expect("the peer reads");
        let mut expected = vec![b'w'; taken];
        expected.push(b'y');
        peer.assert_received(&expected);
    });
}

#[test]
fn a_write_that_timed_out_accepted_nothing() {
    for_each_tls_setup(|setting| {
        let peer = setting.not_reading();
        let socket = setting.open(&peer, small_send_buffer());
        socket.set_write_timeout(Some(ms(20))).expect("not zero");
        let bytes = random_bytes(47, 1 << 20);
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
        peer.assert_received(&bytes);
    });
}

#[test]
fn flush_waits_until_the_kernel_has_all_data() {
    for_each_tls_setup(|setting| {
        let peer = setting.not_reading();
        let socket = setting.open(&peer, small_send_buffer());
        let taken = fill_send_buffer(&socket);
        socket.set_write_timeout(Some(ms(100))).expect("not zero");
        let (result, took) = timed(|| (&socket).flush());
        assert_times_out(result);
        assert!(took >= ms(100) && took < ms(100) + PROMPT, "took {took:?}");
        socket.set_write_timeout(None).expect("`None` removes the limit");
        let mut writer = socket.writer();
        let flushing = spawn_blocked(move || writer.flush());
        assert!(flushing.is_running());
        peer.signal();
        flushing.join().expect("the peer reads now");
        at_once(|| (&socket).flush()).expect("nothing is queued");
        socket.close().expect("the peer reads");
        peer.assert_received(&vec![b'w'; taken]);
    });
}

#[test]
fn written_data_arrives_without_a_flush() {
    for_each_tls_setup(|setting| {
        let peer = setting.scripted(|peer| {
            peer.receive(2);
            peer.send(b"yo");
        });
        let socket = setting.open(&peer, SocketOptions::new());
        assert_eq!((&socket).write(b"hi").expect("the send buffer has room"), 2);
        assert_eq!(read_exactly(&socket, 2).expect("the peer answers"), b"yo");
    });
}

#[test]
fn queued_data_is_sent_without_further_calls() {
    for_each_tls_setup(|setting| {
        let (sender, receiver) = mpsc::channel();
        let (say, go) = mpsc::channel();
        let peer = setting.way.on(listen_with_room(4096), &setting.server_config(), move |peer| {
            let count = go.recv().expect("the test sends the number");
            peer.receive(count);
            sender.send(()).expect("the test waits for it");
        });
        let socket = setting.open(&peer, small_send_buffer());
        say.send(fill_send_buffer(&socket)).expect("the peer waits for it");
        // No call writes, flushes or closes.
        receiver.recv_timeout(WATCHDOG).expect("all of it arrives");
        assert_eq!(socket.phase(), Phase::Open);
    });
}

// -------------------------------------------------------------------- limits of calls

#[test]
fn timeouts_hold_over_tls() {
    for_each_tls_setup(|setting| {
        let peer = setting.not_reading();
        let socket = setting.open(&peer, small_send_buffer());
        socket.set_read_timeout(Some(ms(150))).expect("not zero");
        let (result, took) = timed(|| read(&socket, 1));
        assert_times_out(result);
        assert!(took >= ms(150) && took < ms(150) + PROMPT, "took {took:?}");
        fill_send_buffer(&socket);
        socket.set_write_timeout(Some(ms(150))).expect("not zero");
        let (result, took) = timed(|| (&socket).write(b"w"));
        assert_times_out(result);
        assert!(took >= ms(150) && took < ms(150) + PROMPT, "took {took:?}");
    });
}

#[test]
fn a_past_deadline_wins_over_data_that_is_ready() {
    for_each_tls_setup(|setting| {
        let peer = setting.scripted(|peer| {
            peer.send(b"ready");
            peer.ends();
        });
        let socket = setting.open(&peer, SocketOptions::new());
        assert_eq!(read(&socket, 1).expect("the peer sends"), b"r");
        // The rest has already been decrypted.
        socket.set_deadline(Some(past_instant()));
        for _ in 0..3 {
            assert_times_out(at_once(|| read(&socket, 10)));
            assert_times_out(at_once(|| (&socket).write(b"late")));
        }
        socket.set_deadline(None);
        assert_eq!(read(&socket, 10).expect("the rest is unread"), b"eady");
        assert_eq!(read(&socket, 10).expect("a clean end"), b"");
        peer.assert_received(b"");
    });
}

#[test]
fn blocked_calls_follow_a_moved_deadline() {
    for_each_tls_setup(|setting| {
        let peer = setting.not_reading();
        let socket = setting.open(&peer, small_send_buffer());
        fill_send_buffer(&socket);
        let far = Instant::now() + Duration::from_secs(3600);
        socket.set_deadline(Some(far));
        let (reading, writing) = spawn_blocked_read_and_write(&socket);
        socket.set_deadline(Some(far - Duration::from_secs(1)));
        assert_fails(socket.closed_timeout(ms(100)), ErrorKind::TimedOut);
        assert!(reading.is_running() && writing.is_running());
        let at = Instant::now() + ms(100);
        socket.set_deadline(Some(at));
        assert_times_out(reading.join());
        assert_times_out::<()>(Err(writing.join().1.expect("the peer does not read")));
        assert!(Instant::now() >= at);
        assert!(at.elapsed() < PROMPT, "{:?} late", at.elapsed());
    });
}

#[test]
fn a_read_that_timed_out_within_a_record_took_nothing() {
    for_each_tls_setup(|setting| {
        let peer = setting.scripted(|peer| {
            let record = peer.sealed(b"whole");
            let (first, rest) = record.split_at(record.len() / 2);
            peer.wait_signal();
            peer.raw(first);
            peer.wait_signal();
            peer.raw(rest);
        });
        let socket = setting.open(&peer, SocketOptions::new().read_timeout(ms(50)));
        assert_times_out(read(&socket, 10));
        peer.signal();
        for _ in 0..3 {
            assert_times_out(read(&socket, 10));
        }
        // A partial record is neither unread data nor an end.
        assert_fails(socket.closed_timeout(ms(150)), ErrorKind::TimedOut);
        assert_eq!(socket.phase(), Phase::Open);
        socket.set_read_timeout(None).expect("`None` removes the limit");
        peer.signal();
        assert_eq!(read(&socket, 10).expect("the peer sends the rest"), b"whole");
    });
}

#[test]
fn abort_ends_blocked_calls() {
    for_each_tls_setup(|setting| {
        let peer = setting.not_reading();
        let socket = setting.open(&peer, small_send_buffer());
        let (reading, writing) = spawn_blocked_read_and_write(&socket);
        at_once(|| socket.abort());
        assert_fails(reading.join_within(PROMPT), ErrorKind::Closed);
        let failure = writing.join_within(PROMPT).1.expect("the peer does not read");
        assert_eq!(crate_kind(&failure), ErrorKind::Closed);
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Closed);
    });
}

// -------------------------------------------------------------------- kinds of calls

#[test]
fn vectored_calls_keep_the_order() {
    for_each_tls_setup(|setting| {
        let peer = setting.scripted(Accepted::echo);
        let socket = setting.open(&peer, SocketOptions::new());
        let bytes = random_bytes(48, 100_000);
        let parts = [&bytes[..10], &[], &bytes[10..50_000], &bytes[50_000..]];
        let mut slices = parts.map(IoSlice::new);
        let mut rest = &mut slices[..];
        let mut total = 0;
        while !rest.is_empty() {
            let count = (&socket).write_vectored(rest).expect("the peer reads");
            total += count;
            IoSlice::advance_slices(&mut rest, count);
        }
        assert_eq!(total, bytes.len());
        let mut got = Vec::new();
        while got.len() < bytes.len() {
            let (mut one, mut other) = ([0; 100], [0; 30_000]);
            let mut slices =
                [IoSliceMut::new(&mut []), IoSliceMut::new(&mut one), IoSliceMut::new(&mut other)];
            let count = (&socket).read_vectored(&mut slices).expect("the peer answers");
            assert_ne!(count, 0, "it has not ended");
            got.extend(&one[..count.min(100)]);
            got.extend(&other[..count.saturating_sub(100)]);
        }
        assert_bytes_eq(&got, &bytes);
    });
}

#[test]
fn calls_without_bytes_do_nothing_and_do_not_block() {
    for_each_tls_setup(|setting| {
        let peer = setting.scripted(|peer| {
            peer.wait_signal();
            peer.send(b"data");
        });
        let socket = setting.open(&peer, SocketOptions::new());
        for _ in 0..3 {
            assert_eq!(at_once(|| (&socket).read(&mut [])).expect("an empty read succeeds"), 0);
            assert_eq!(at_once(|| (&socket).write(&[])).expect("an empty write succeeds"), 0);
        }
        assert_eq!(socket.phase(), Phase::Open);
        peer.signal();
        assert_eq!(read(&socket, 1).expect("the peer sends"), b"d");
        assert_eq!((&socket).read(&mut []).expect("an empty read succeeds"), 0);
        assert_eq!(read(&socket, 10).expect("the rest is unread"), b"ata");
        assert_eq!((socket.stats().bytes_read, socket.stats().bytes_written), (4, 0));
        socket.close().expect("the peer reads");
        peer.assert_received(b"");
    });
}

#[test]
fn many_connections_at_once_do_not_disturb_each_other() {
    const COUNT: u64 = 40;
    with_watchdog(|| {
        let pairs: Vec<_> = (0..COUNT)
            .map(|number| {
                let way = if number % 2 == 0 { Opening::On } else { Opening::Upgraded };
                let version = VERSIONS[(number / 2 % 2) as usize];
                let setting = TlsCase { way, version };
                let peer = setting.scripted(Accepted::echo);
                let socket: Socket = setting.open(&peer, SocketOptions::new());
                (number, peer, socket)
            })
            .collect();
        let exchanges: Vec<_> = pairs
            .into_iter()
            .map(|(number, peer, socket)| {
                spawn_call(move || {
                    let bytes = random_bytes(number, 200_000);
                    let reader = socket.reader();
                    let reading = spawn_call(move || read_to_end(reader));
                    (&socket).write_all(&bytes).expect("the peer reads");
                    socket.writer().close().expect("the peer reads");
                    assert_bytes_eq(&reading.join().expect("a clean end"), &bytes);
                    peer.assert_received(&bytes);
                })
            })
            .collect();
        exchanges.into_iter().for_each(|exchange| exchange.join());
    });
}
