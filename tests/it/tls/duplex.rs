//! Secured connections in both directions at once, the bound of unsent data, and the limits of calls: all as in
//! plaintext.

use std::env;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use sockeye::{ErrorKind, Phase, Socket, SocketOptions, TlsVersion};

use crate::support::peer::listen_with_room;
use crate::support::tls::{
    Accepted, Setting, TlsPeer, VERSIONS, Way, authority, open, options, settings, terms,
};
use crate::support::{
    AT_ONCE, PATIENCE, Peer, at_once, blocked, both_blocked, call, fails, fill, kind_of,
    little_room, ms, noise, open_with, past, read, read_exactly, read_to_end, same, story, timed,
    times_out, within,
};

/// The time for the volume tests on a busy machine with unoptimised code.
const LONG: Duration = Duration::from_secs(300);

// -------------------------------------------------------------------- volumes

/// Returns the number of bytes in each direction; the environment gives it in mebibytes.
fn volume() -> usize {
    let default = if cfg!(debug_assertions) { 48 } else { 256 };
    let told = env::var("SOCKEYE_VOLUME_MIB").ok();
    let mebibytes = told.map_or(default, |text| text.parse().expect("a number of mebibytes"));
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
        Pattern { block: noise(seed, Pattern::BLOCK), at: 0 }
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
    within(LONG, || volumes_pass_both_ways_at_once(TlsVersion::Tls12));
}

#[test]
fn bulk_data_in_both_directions_arrives_in_tls_1_3() {
    within(LONG, || volumes_pass_both_ways_at_once(TlsVersion::Tls13));
}

fn volumes_pass_both_ways_at_once(version: TlsVersion) {
    let volume = volume();
    let peer = TlsPeer::secured(&terms().only(version), move |peer| {
        peer.aside(move |line| {
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
    let reading = call(move || {
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
    socket.closed_timeout(AT_ONCE).expect("both directions ended");
    let stats = socket.stats();
    assert_eq!((stats.bytes_read, stats.bytes_written), (volume as u64, volume as u64));
    let ending = peer.ending();
    assert!(ending.notified, "no close_notify arrived");
}

#[test]
fn tls_echo_8mb() {
    const SIZE: usize = 128 * 65_536;
    settings(|setting| {
        let peer = setting.plays(Accepted::echo);
        let socket = setting.open(&peer, SocketOptions::new());
        let reader = socket.reader();
        let reading = call(move || read_to_end(reader));
        let bytes = noise(42, SIZE);
        let writer = socket.writer();
        for chunk in bytes.chunks(65_536) {
            (&writer).write_all(chunk).expect("the peer reads");
        }
        writer.close().expect("the peer reads");
        same(&reading.join().expect("a clean end"), &bytes);
        socket.closed_timeout(AT_ONCE).expect("both directions ended");
        peer.gets(&bytes);
    });
}

#[test]
fn many_small_writes_arrive_in_their_order() {
    settings(|setting| {
        let peer = setting.reads();
        let socket = setting.open(&peer, SocketOptions::new());
        let bytes = noise(43, 3000);
        for byte in &bytes {
            assert_eq!((&socket).write(&[*byte]).expect("the peer reads"), 1);
        }
        assert_eq!(socket.stats().bytes_written, 3000);
        socket.close().expect("the peer reads");
        peer.gets(&bytes);
    });
}

#[test]
fn small_reads_of_big_records_lose_nothing() {
    settings(|setting| {
        let peer = setting.plays(|peer| {
            peer.send(&noise(44, 100_000));
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
        same(&got, &noise(44, 100_000));
        peer.gets(b"");
    });
}

// -------------------------------------------------------------------- one thread reads, another writes

#[test]
fn a_writer_works_while_a_reader_is_blocked() {
    settings(|setting| {
        let peer = setting.plays(|peer| {
            peer.receive(4 << 20);
            peer.await_cue();
            peer.send(b"answer");
        });
        let socket = setting.open(&peer, SocketOptions::new());
        let reader = socket.reader();
        let reading = blocked(move || read(reader, 10));
        let bytes = noise(45, 4 << 20);
        (&socket).write_all(&bytes).expect("the peer reads");
        (&socket).flush().expect("the peer reads");
        assert!(reading.is_running(), "the peer has sent nothing");
        peer.cue();
        assert_eq!(reading.join().expect("the peer answers"), b"answer");
        socket.close().expect("the peer reads");
        peer.gets(&bytes);
    });
}

#[test]
fn a_reader_works_while_a_writer_is_blocked() {
    settings(|setting| {
        let peer = setting.way.on(listen_with_room(4096), &setting.terms(), |peer| {
            peer.await_cue();
            peer.send(&noise(46, 4 << 20));
            peer.await_cue();
        });
        let socket = setting.open(&peer, little_room());
        let taken = fill(&socket);
        let mut writer = socket.writer();
        let writing = blocked(move || writer.write(b"w"));
        peer.cue();
        same(&read_exactly(&socket, 4 << 20).expect("the peer sends"), &noise(46, 4 << 20));
        assert!(writing.is_running(), "the peer has read nothing");
        peer.cue();
        assert_eq!(writing.join().expect("the peer reads now"), 1);
        socket.close().expect("the peer reads");
        peer.gets(&vec![b'w'; taken + 1]);
    });
}

#[test]
fn clones_share_the_sides_and_each_byte_arrives_once() {
    const EACH: usize = 300_000;
    settings(|setting| {
        let peer = setting.plays(|peer| {
            peer.receive(3 * EACH);
            peer.send(&vec![b'r'; 3 * EACH]);
            peer.ends();
        });
        let socket = setting.open(&peer, SocketOptions::new());
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let reader = socket.reader();
                call(move || read_to_end(reader))
            })
            .collect();
        let writers: Vec<_> = [b'1', b'2', b'3']
            .into_iter()
            .map(|byte| {
                let mut writer = socket.writer();
                call(move || writer.write_all(&vec![byte; EACH]))
            })
            .collect();
        for writing in writers {
            writing.join().expect("the peer reads");
        }
        let got: Vec<u8> =
            readers.into_iter().flat_map(|reading| reading.join().expect("a clean end")).collect();
        same(&got, &vec![b'r'; 3 * EACH]);
        let ending = peer.ending();
        for byte in [b'1', b'2', b'3'] {
            assert_eq!(ending.bytes.iter().filter(|one| **one == byte).count(), EACH);
        }
    });
}

#[test]
fn numbers_go_back_and_forth_on_clones() {
    settings(|setting| {
        let peer = setting.plays(Accepted::echo);
        let socket = setting.open(&peer, SocketOptions::new());
        let reader = socket.reader();
        let (tell, told) = mpsc::channel();
        let reading = call(move || {
            for round in 0_u64..1000 {
                let got = read_exactly(&reader, 8).expect("the peer answers");
                assert_eq!(got, round.to_le_bytes());
                tell.send(()).expect("the test waits for it");
            }
        });
        for round in 0_u64..1000 {
            (&socket).write_all(&round.to_le_bytes()).expect("the peer reads");
            told.recv_timeout(AT_ONCE * 10).expect("the answer arrives");
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
    settings(|setting| {
        let plain = {
            let peer = Peer::stuck();
            fill(&open_with(&peer, little_room()))
        };
        let peer = setting.stuck();
        let socket = setting.open(&peer, little_room());
        let taken = fill(&socket);
        assert!(taken <= plain + BEYOND + SLACK, "{taken} bytes are queued, in plaintext {plain}");
        assert_eq!(socket.stats().bytes_written, taken as u64);
        socket.set_write_timeout(Some(ms(50))).expect("not zero");
        for _ in 0..3 {
            times_out((&socket).write(&[b'x'; 100_000]));
            times_out((&socket).write(b"x"));
        }
        assert_eq!(socket.stats().bytes_written, taken as u64, "nothing was accepted");
        assert_eq!(socket.phase(), Phase::Open);
        peer.cue();
        socket.set_write_timeout(None).expect("`None` removes the limit");
        (&socket).write_all(b"y").expect("the peer reads now");
        socket.close().expect("the peer reads");
        let mut expected = vec![b'w'; taken];
        expected.push(b'y');
        peer.gets(&expected);
    });
}

#[test]
fn a_write_that_timed_out_accepted_nothing() {
    settings(|setting| {
        let peer = setting.stuck();
        let socket = setting.open(&peer, little_room());
        socket.set_write_timeout(Some(ms(20))).expect("not zero");
        let bytes = noise(47, 1 << 20);
        let mut sent = 0;
        let mut refusals = 0;
        // Repeats each refused write with the same bytes. The peer begins to read after a few.
        while sent < bytes.len() {
            match (&socket).write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(error) => {
                    times_out::<()>(Err(error));
                    refusals += 1;
                    if refusals == 5 {
                        peer.cue();
                    }
                }
            }
        }
        assert!(refusals >= 5);
        assert_eq!(socket.stats().bytes_written, bytes.len() as u64);
        socket.close().expect("the peer reads");
        peer.gets(&bytes);
    });
}

#[test]
fn flush_waits_until_the_kernel_has_all_data() {
    settings(|setting| {
        let peer = setting.stuck();
        let socket = setting.open(&peer, little_room());
        let taken = fill(&socket);
        socket.set_write_timeout(Some(ms(100))).expect("not zero");
        let (result, took) = timed(|| (&socket).flush());
        times_out(result);
        assert!(took >= ms(100) && took < ms(100) + AT_ONCE, "took {took:?}");
        socket.set_write_timeout(None).expect("`None` removes the limit");
        let mut writer = socket.writer();
        let flushing = blocked(move || writer.flush());
        assert!(flushing.is_running());
        peer.cue();
        flushing.join().expect("the peer reads now");
        at_once(|| (&socket).flush()).expect("nothing is queued");
        socket.close().expect("the peer reads");
        peer.gets(&vec![b'w'; taken]);
    });
}

#[test]
fn written_data_arrives_without_a_flush() {
    settings(|setting| {
        let peer = setting.plays(|peer| {
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
    settings(|setting| {
        let (tell, told) = mpsc::channel();
        let (say, go) = mpsc::channel();
        let peer = setting.way.on(listen_with_room(4096), &setting.terms(), move |peer| {
            let count = go.recv().expect("the test sends the number");
            peer.receive(count);
            tell.send(()).expect("the test waits for it");
        });
        let socket = setting.open(&peer, little_room());
        say.send(fill(&socket)).expect("the peer waits for it");
        // No call writes, flushes or closes.
        told.recv_timeout(PATIENCE).expect("all of it arrives");
        assert_eq!(socket.phase(), Phase::Open);
    });
}

// -------------------------------------------------------------------- limits of calls

#[test]
fn timeouts_hold_over_tls() {
    settings(|setting| {
        let peer = setting.stuck();
        let socket = setting.open(&peer, little_room());
        socket.set_read_timeout(Some(ms(150))).expect("not zero");
        let (result, took) = timed(|| read(&socket, 1));
        times_out(result);
        assert!(took >= ms(150) && took < ms(150) + AT_ONCE, "took {took:?}");
        fill(&socket);
        socket.set_write_timeout(Some(ms(150))).expect("not zero");
        let (result, took) = timed(|| (&socket).write(b"w"));
        times_out(result);
        assert!(took >= ms(150) && took < ms(150) + AT_ONCE, "took {took:?}");
    });
}

#[test]
fn a_past_deadline_wins_over_data_that_is_ready() {
    settings(|setting| {
        let peer = setting.plays(|peer| {
            peer.send(b"ready");
            peer.ends();
        });
        let socket = setting.open(&peer, SocketOptions::new());
        assert_eq!(read(&socket, 1).expect("the peer sends"), b"r");
        // The rest has already been decrypted.
        socket.set_deadline(Some(past()));
        for _ in 0..3 {
            times_out(at_once(|| read(&socket, 10)));
            times_out(at_once(|| (&socket).write(b"late")));
        }
        socket.set_deadline(None);
        assert_eq!(read(&socket, 10).expect("the rest is unread"), b"eady");
        assert_eq!(read(&socket, 10).expect("a clean end"), b"");
        peer.gets(b"");
    });
}

#[test]
fn blocked_calls_follow_a_moved_deadline() {
    settings(|setting| {
        let peer = setting.stuck();
        let socket = setting.open(&peer, little_room());
        fill(&socket);
        let far = Instant::now() + Duration::from_secs(3600);
        socket.set_deadline(Some(far));
        let (reading, writing) = both_blocked(&socket);
        socket.set_deadline(Some(far - Duration::from_secs(1)));
        fails(socket.closed_timeout(ms(100)), ErrorKind::TimedOut);
        assert!(reading.is_running() && writing.is_running());
        let at = Instant::now() + ms(100);
        socket.set_deadline(Some(at));
        times_out(reading.join());
        times_out::<()>(Err(writing.join().1.expect("the peer does not read")));
        assert!(Instant::now() >= at);
        assert!(at.elapsed() < AT_ONCE, "{:?} late", at.elapsed());
    });
}

#[test]
fn a_read_that_timed_out_within_a_record_took_nothing() {
    settings(|setting| {
        let peer = setting.plays(|peer| {
            let record = peer.sealed(b"whole");
            let (first, rest) = record.split_at(record.len() / 2);
            peer.await_cue();
            peer.raw(first);
            peer.await_cue();
            peer.raw(rest);
        });
        let socket = setting.open(&peer, SocketOptions::new().read_timeout(ms(50)));
        times_out(read(&socket, 10));
        peer.cue();
        for _ in 0..3 {
            times_out(read(&socket, 10));
        }
        // A partial record is neither unread data nor an end.
        fails(socket.closed_timeout(ms(150)), ErrorKind::TimedOut);
        assert_eq!(socket.phase(), Phase::Open);
        socket.set_read_timeout(None).expect("`None` removes the limit");
        peer.cue();
        assert_eq!(read(&socket, 10).expect("the peer sends the rest"), b"whole");
    });
}

#[test]
fn abort_ends_blocked_calls() {
    settings(|setting| {
        let peer = setting.stuck();
        let socket = setting.open(&peer, little_room());
        let (reading, writing) = both_blocked(&socket);
        at_once(|| socket.abort());
        fails(reading.join_within(AT_ONCE), ErrorKind::Closed);
        let failure = writing.join_within(AT_ONCE).1.expect("the peer does not read");
        assert_eq!(kind_of(&failure), ErrorKind::Closed);
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Closed);
    });
}

// -------------------------------------------------------------------- kinds of calls

#[test]
fn vectored_calls_keep_the_order() {
    settings(|setting| {
        let peer = setting.plays(Accepted::echo);
        let socket = setting.open(&peer, SocketOptions::new());
        let bytes = noise(48, 100_000);
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
        same(&got, &bytes);
    });
}

#[test]
fn calls_without_bytes_do_nothing_and_do_not_block() {
    settings(|setting| {
        let peer = setting.plays(|peer| {
            peer.await_cue();
            peer.send(b"data");
        });
        let socket = setting.open(&peer, SocketOptions::new());
        for _ in 0..3 {
            assert_eq!(at_once(|| (&socket).read(&mut [])).expect("an empty read succeeds"), 0);
            assert_eq!(at_once(|| (&socket).write(&[])).expect("an empty write succeeds"), 0);
        }
        assert_eq!(socket.phase(), Phase::Open);
        peer.cue();
        assert_eq!(read(&socket, 1).expect("the peer sends"), b"d");
        assert_eq!((&socket).read(&mut []).expect("an empty read succeeds"), 0);
        assert_eq!(read(&socket, 10).expect("the rest is unread"), b"ata");
        assert_eq!((socket.stats().bytes_read, socket.stats().bytes_written), (4, 0));
        socket.close().expect("the peer reads");
        peer.gets(b"");
    });
}

#[test]
fn many_connections_at_once_do_not_disturb_each_other() {
    const COUNT: u64 = 40;
    story(|| {
        let pairs: Vec<_> = (0..COUNT)
            .map(|number| {
                let way = if number % 2 == 0 { Way::On } else { Way::Upgraded };
                let version = VERSIONS[(number / 2 % 2) as usize];
                let setting = Setting { way, version };
                let peer = setting.plays(Accepted::echo);
                let socket: Socket = setting.open(&peer, SocketOptions::new());
                (number, peer, socket)
            })
            .collect();
        let exchanges: Vec<_> = pairs
            .into_iter()
            .map(|(number, peer, socket)| {
                call(move || {
                    let bytes = noise(number, 200_000);
                    let reader = socket.reader();
                    let reading = call(move || read_to_end(reader));
                    (&socket).write_all(&bytes).expect("the peer reads");
                    socket.writer().close().expect("the peer reads");
                    same(&reading.join().expect("a clean end"), &bytes);
                    peer.gets(&bytes);
                })
            })
            .collect();
        exchanges.into_iter().for_each(|exchange| exchange.join());
    });
}
