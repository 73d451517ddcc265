//! Random lives against peers of `std`: no clean end is reported as a reset, and no failure as an end.
//!
//! `UNIX_LIVES=100000` runs more of them, and `UNIX_LIFE=n` only the one with this seed.
//!
//! The kernel decides exactly: when the peer closes, this side's data is either read or not. A peer that has read all
//! accepted bytes ends cleanly. Otherwise the kernel reports ECONNRESET, after the data of the peer.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use sockeye::{Connector, ErrorKind, Socket, SocketOptions, connect_unix};

use super::{Folder, address};
use crate::support::{WATCHDOG, crate_kind, with_limit};

#[test]
fn every_end_is_reported_as_what_it_was() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let lives = match (number("UNIX_LIFE"), number("UNIX_LIVES")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(lives)) => 0..lives,
        (None, None) => 0..2_000,
    };
    let limit =
        WATCHDOG + Duration::from_millis(20) * u32::try_from(lives.end - lives.start).unwrap();
    with_limit(limit, move || {
        let half = lives.start + (lives.end - lives.start) / 2;
        let [first, second] = [lives.start..half, half..lives.end].map(|seeds| {
            thread::spawn(move || {
                let folder = Folder::new();
                let listener = UnixListener::bind(folder.path("s")).expect("the path is free");
                let mut ends = Ends::default();
                for seed in seeds {
                    live(seed, &listener, &folder, &mut ends);
                }
                ends
            })
        });
        let (first, second) = (first.join(), second.join());
        let (first, second) = (first.expect("every rule holds"), second.expect("every rule holds"));
        let (clean, resets) = (first.clean + second.clean, first.resets + second.resets);
        println!("{clean} clean ends, {resets} resets");
        let both_happen = clean > 0 && resets > 0 || clean + resets < 100;
        assert!(both_happen, "the lives are too much alike");
    });
}

/// How the lives ended.
#[derive(Default)]
struct Ends {
    clean: u64,
    resets: u64,
}

/// What the peer does.
#[derive(Clone, Copy, Debug)]
enum Act {
    Write(usize),
    /// Reads what is there, at most this much.
    Read(usize),
    Pause,
}

/// How the peer ends.
#[derive(Clone, Copy, Debug)]
enum PeerEnd {
    Close,
    /// Half-closes, reads to the end, and closes.
    HalfClose,
}

/// What happened at the peer.
struct PeerLife {
    sent: usize,
    received: usize,
}

fn live(seed: u64, listener: &UnixListener, folder: &Folder, ends: &mut Ends) {
    let mut random = fastrand::Rng::with_seed(seed);
    let options = SocketOptions::new().allow_half_open(random.bool());
    let (socket, peer) = if random.bool() {
        let (ours, theirs) = UnixStream::pair().expect("two descriptors are free");
        let socket = Connector::global().adopt_unix(ours, options).expect("it is connected");
        (socket, theirs)
    } else {
        let socket = connect_unix(address(&folder.path("s")), options).expect("it is dialled");
        socket.opened().expect("it listens");
        (socket, listener.accept().expect("the socket has connected").0)
    };
    let acts: Vec<Act> = (0..random.usize(0..6))
        .map(|_| match random.u8(0..5) {
            0 | 1 => Act::Write(random.usize(1..3000)),
            2 | 3 => Act::Read(random.usize(1..6000)),
            _ => Act::Pause,
        })
        .collect();
    let end = if random.u8(0..4) == 0 { PeerEnd::HalfClose } else { PeerEnd::Close };
    let writes: Vec<usize> = (0..random.usize(0..5)).map(|_| random.usize(1..2000)).collect();
    let closes_write = random.bool() || matches!(end, PeerEnd::HalfClose);
    let checks_health = random.u8(0..4) == 0;
    let delay = match random.u16(0..400) {
        // Long enough for the event loop to see the end first.
        0 => Duration::from_millis(120),
        1..100 => Duration::from_micros(random.u64(1..200)),
        _ => Duration::ZERO,
    };
    let plan =
        format!("life {seed}: {acts:?}, then {end:?}; {writes:?}, {closes_write}, {delay:?}");
    let (peer, wrote, read) = thread::scope(|scope| {
        let peer = scope.spawn(|| play(peer, &acts, end));
        let reading = scope.spawn(|| {
            thread::sleep(delay);
            read_to_end(&socket)
        });
        let wrote = write(&socket, &writes, closes_write, checks_health);
        (peer.join().expect("std works"), wrote, reading.join().expect("a read returns"))
    });
    let accepted = usize::try_from(socket.stats().bytes_written).expect("it is small");
    let (got, failure) = read;
    assert_eq!(got, peer.sent, "{plan}: what the peer sent arrives");
    assert!(peer.received <= accepted, "{plan}: what the peer received was accepted");
    let was_clean = peer.received == accepted;
    let _ = socket.close();
    let closed = socket.closed_timeout(WATCHDOG).map_err(|error| error.kind());
    if was_clean {
        ends.clean += 1;
        assert_eq!(failure, None, "{plan}: a clean end");
        match wrote {
            None => assert_eq!(closed, Ok(()), "{plan}"),
            // The peer had gone.
            Some(kind) => {
                // Either a write has met a peer that had gone, or this side had followed its end before.
                let expected = match kind {
                    ErrorKind::Closed => Ok(()),
                    kind => Err(kind),
                };
                assert_eq!(closed, expected, "{plan}: the same for all");
                assert!(matches!(kind, ErrorKind::Reset | ErrorKind::Closed), "{plan}: {kind:?}");
            }
        }
    } else {
        ends.resets += 1;
        assert_eq!(failure, Some(ErrorKind::Reset), "{plan}: {} of {accepted}", peer.received);
        assert_eq!(closed, Err(ErrorKind::Reset), "{plan}");
    }
}

/// Reads to the end, and returns the number of bytes and the failure.
fn read_to_end(mut socket: &Socket) -> (usize, Option<ErrorKind>) {
    let mut buf = [0; 1500];
    let mut all = 0;
    loop {
        match socket.read(&mut buf) {
            Ok(0) => return (all, None),
            Ok(bytes) => all += bytes,
            Err(error) => return (all, Some(crate_kind(&error))),
        }
    }
}

/// Writes, and returns the failure.
fn write(
    mut socket: &Socket,
    writes: &[usize],
    closes: bool,
    checks_health: bool,
) -> Option<ErrorKind> {
    for len in writes {
        if let Err(error) = socket.write_all(&vec![b'w'; *len]) {
            return Some(crate_kind(&error));
        }
        if checks_health {
            let _ = socket.health();
        }
    }
    if closes {
        if let Err(error) = socket.writer().close() {
            return Some(error.kind());
        }
    }
    None
}

fn play(mut stream: UnixStream, acts: &[Act], end: PeerEnd) -> PeerLife {
    let mut life = PeerLife { sent: 0, received: 0 };
    stream.set_nonblocking(true).expect("every stream has the option");
    for act in acts {
        match act {
            Act::Write(len) => {
                stream.write_all(&vec![b'p'; *len]).expect("there is room");
                life.sent += len;
            }
            Act::Read(len) => match stream.read(&mut vec![0; *len]) {
                Ok(bytes) => life.received += bytes,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            },
            Act::Pause => thread::yield_now(),
        }
    }
    if let PeerEnd::HalfClose = end {
        stream.shutdown(Shutdown::Write).expect("it is connected");
        stream.set_nonblocking(false).expect("every stream has the option");
        stream.set_read_timeout(Some(WATCHDOG)).expect("the limit is not zero");
        life.received += stream.read_to_end(&mut Vec::new()).expect("the socket ends cleanly");
    }
    life
}
