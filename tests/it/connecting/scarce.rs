//! Many lookups, many races, many dials, and few descriptors: bounds, leaks, and rare events.
//! Each test counts or uses up resources of its process, so each runs in a process of its own.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use sockeye::{Connector, ErrorKind, Phase, Socket, SocketOptions, TcpOptions};

use super::site::{Site, Sort, names};
use crate::support::net::TcpListener;
use crate::support::peer::listen;
use crate::support::process::{memory, settled_descriptors, take_all_descriptors};
use crate::support::subprocess::{
    TestProcess, child_part, in_subprocess, next_line, run_part, say,
};
use crate::support::{WATCHDOG, assert_fails, at_once, eventually, ms, system_code, with_watchdog};
use Sort::{Fast, Refused, Slow};

const LONG: Duration = Duration::from_secs(150);

/// Returns the number of this process's threads whose names have this prefix.
fn threads_called(beginning: &str) -> usize {
    fs::read_dir("/proc/self/task")
        .expect("Linux has the file")
        .filter_map(|entry| {
            // The thread may have ended since it was listed.
            let name = entry.expect("it stays readable").path().join("comm");
            fs::read_to_string(name).ok()
        })
        .filter(|name| name.starts_with(beginning))
        .count()
}

// -------------------------------------------------------------------- lookups that hang

/// A gate at which lookups wait.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
    asked: AtomicUsize,
    answered: AtomicUsize,
}

impl Gate {
    fn pass(&self) {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        while !*open {
            open = self.changed.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
        self.answered.fetch_add(1, Ordering::SeqCst);
    }

    fn set(&self, open: bool) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = open;
        self.changed.notify_all();
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// The number that the documentation of `resolver` states.
const LOOK_UPS_AT_ONCE: usize = 16;

#[test]
fn ten_thousand_hanging_lookups_use_few_threads_and_block_no_other_socket() {
    const NAME: &str = "connecting::scarce::ten_thousand_hanging_lookups_use_few_threads_and_block_no_other_socket";
    const ROUNDS: usize = 4;
    in_subprocess(NAME, LONG, || {
        let gate = Arc::new(Gate::default());
        let waits = Arc::clone(&gate);
        let connector = Connector::builder()
            .resolver(move |_: &str| {
                waits.pass();
                Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)])
            })
            .build()
            .expect("the rules are valid");
        let mut grown = Vec::new();
        for _ in 0..ROUNDS {
            gate.set(false);
            let before = gate.asked();
            hang(&connector, &gate, before);
            assert!(gate.asked() - before <= LOOK_UPS_AT_ONCE, "{} began", gate.asked() - before);
            // Lookups of closed sockets are no longer started.
            gate.set(true);
            let last = connector.connect(("last.test", 9)).expect("the address is valid");
            assert_fails(last.opened_timeout(WATCHDOG), ErrorKind::Connect);
            eventually(WATCHDOG, "every lookup has returned", || {
                gate.answered.load(Ordering::SeqCst) == gate.asked()
            });
            let asked = gate.asked() - before;
            assert!(asked <= LOOK_UPS_AT_ONCE + 1, "{asked} lookups in all");
            grown.push(memory());
        }
        // What a socket leaves behind is there after each round. The allocator may need more pages in any one of them,
        // because threads that run at other times than before use other arenas.
        let more = grown.windows(2).map(|round| round[1].saturating_sub(round[0])).min();
        assert!(more.expect("there are rounds") < 100 * COUNT, "{grown:?}");
        eventually(WATCHDOG, "idle threads end", || threads_called("sockeye-names") == 0);
        eventually(WATCHDOG, "only the loop is left", || threads_called("sockeye") <= 1);
    });
}

const COUNT: usize = 10_000;

/// Opens ten thousand sockets whose lookups hang: the timeout ends half of them, and `close()` the other half.
fn hang(connector: &Connector, gate: &Gate, asked: usize) {
    let limited = SocketOptions::new().connect_timeout(ms(1000));
    let sockets: Vec<Socket> = (0..COUNT)
        .map(|number| {
            let options = if number % 2 == 0 { limited.clone() } else { SocketOptions::new() };
            at_once(|| connector.connect_with(("name.test", 9), options))
                .expect("the address is valid")
        })
        .collect();
    eventually(WATCHDOG, "the maximum number of lookups run", || {
        gate.asked() - asked == LOOK_UPS_AT_ONCE
    });
    bounded();
    let listener = listen();
    let address = listener.local_addr().expect("it listens");
    for _ in 0..20 {
        let socket = connector.connect(address).expect("the address is valid");
        at_once(|| socket.opened()).expect("it listens");
        at_once(|| socket.close()).expect("nothing prevents it");
    }
    let (limited, unlimited): (Vec<_>, Vec<_>) =
        sockets.iter().enumerate().partition(|(number, _)| number % 2 == 0);
    for (_, socket) in limited {
        let error = socket.opened_timeout(WATCHDOG).expect_err("the lookup hangs");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(!error.is_retryable(), "{error:?}");
        assert!(error.to_string().contains("lookup"), "{error}");
        assert!(error.attempts().is_empty(), "{error:?}");
    }
    bounded();
    for (_, socket) in unlimited {
        assert_eq!(socket.phase(), Phase::Connecting);
        at_once(|| socket.close()).expect("nothing prevents it");
        assert_fails(socket.opened(), ErrorKind::Closed);
    }
    bounded();
}

#[track_caller]
fn bounded() {
    // A thread that has done its work is counted until the system has removed it. The lookups here hang, so one that is
    // too many stays.
    eventually(WATCHDOG, "few threads run lookups", || {
        threads_called("sockeye-names") <= LOOK_UPS_AT_ONCE
    });
    eventually(WATCHDOG, "few threads drop resources of sockets", || {
        threads_called("sockeye-worker") <= 2
    });
    eventually(WATCHDOG, "few threads in all", || {
        threads_called("sockeye") <= LOOK_UPS_AT_ONCE + 3
    });
}

/// The queue of lookups is bounded; a lookup beyond it waits with its socket and still runs in its turn.
#[test]
fn each_of_many_lookups_runs_eventually() {
    const NAME: &str = "connecting::scarce::each_of_many_lookups_runs_eventually";
    const COUNT: usize = 3_000;
    in_subprocess(NAME, LONG, || {
        let gate = Arc::new(Gate::default());
        let waits = Arc::clone(&gate);
        let connector = Connector::builder()
            .resolver(move |_: &str| {
                waits.pass();
                Ok(Vec::new())
            })
            .build()
            .expect("the rules are valid");
        let sockets: Vec<_> = (0..COUNT)
            .map(|_| connector.connect(("name.test", 9)).expect("the address is valid"))
            .collect();
        gate.set(true);
        for socket in &sockets {
            assert_fails(socket.opened_timeout(WATCHDOG), ErrorKind::Resolve);
        }
        assert_eq!(gate.asked(), COUNT);
    });
}

// -------------------------------------------------------------------- few descriptors

/// The peers are in the other process, so only the client lacks descriptors.
#[test]
fn a_race_without_descriptors_continues_with_its_open_attempt() {
    const NAME: &str =
        "connecting::scarce::a_race_without_descriptors_continues_with_its_open_attempt";
    if child_part().is_some() {
        return run_part(race_with_one_descriptor);
    }
    with_watchdog(|| {
        let mut site = Site::of(&[Slow, Fast]);
        let mut program = TestProcess::new(NAME, "program");
        program.send_line(&format!("{} {}", site.v4(0), site.v4(1)));
        program.expect_line("warm");
        drop(site.accept(1));
        program.send_line("once");
        // The first attempt has the only descriptor; the fallback would win if it could be dialled.
        site.await_attempt(0);
        site.wake(0);
        assert_eq!(program.expect_line("opened"), site.v4(0).to_string());
        drop(site.accept(0));
        // The first attempt is refused and frees its descriptor for the fallback.
        let fresh = Site::of(&[Slow, Fast]);
        site = fresh;
        program.send_line(&format!("{} {}", site.v4(0), site.v4(1)));
        site.await_attempt(0);
        site.shut(0);
        assert_eq!(program.expect_line("opened"), site.v4(1).to_string());
        program.expect_success(WATCHDOG);
    });
}

fn race_with_one_descriptor() {
    let first = addresses(&next_line().expect("the addresses come first"));
    // The first socket opens the descriptors that the process keeps.
    let socket = connect(&first[1..]);
    socket.opened().expect("it listens");
    socket.abort();
    drop(socket);
    settled_descriptors();
    say("warm");
    assert_eq!(next_line().as_deref(), Some("once"));
    let mut taken = take_all_descriptors();
    taken.pop();
    let socket = connect(&first);
    let info = socket.opened().expect("the first address answers at last");
    say(&format!("opened {}", info.remote_address().expect("it is connected")));
    socket.abort();
    drop(socket);
    let second = addresses(&next_line().expect("the second line is a list of addresses"));
    eventually(WATCHDOG, "the descriptor is closed", || File::open("/dev/null").is_ok());
    let socket = connect(&second);
    let info = socket.opened().expect("the second address answers at last");
    say(&format!("opened {}", info.remote_address().expect("it is connected")));
}

fn addresses(line: &str) -> Vec<SocketAddr> {
    line.split(' ').map(|one| one.parse().expect("it is an address")).collect()
}

fn connect(addresses: &[SocketAddr]) -> Socket {
    names(addresses).connect(("name.test", addresses[0].port())).expect("the address is valid")
}

/// The error lists the attempt that could not be started next to the one that was.
#[test]
fn an_attempt_without_a_descriptor_is_reported() {
    const NAME: &str = "connecting::scarce::an_attempt_without_a_descriptor_is_reported";
    in_subprocess(NAME, LONG, || {
        let site = Site::of(&[Slow, Fast]);
        let warm = connect(&[site.v4(1)]);
        warm.opened().expect("it listens");
        warm.abort();
        drop((warm, site.accept(1)));
        settled_descriptors();
        let mut taken = take_all_descriptors();
        taken.pop();
        let options = SocketOptions::new().connect_timeout(ms(700));
        let socket = names(&[site.v4(0), site.v4(1)])
            .connect_with(("name.test", site.port()), options)
            .expect("the address is valid");
        let error = socket.opened().expect_err("the peer does not answer");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}");
        let (first, others) = error.attempts().split_first().expect("an attempt was made");
        assert_eq!((first.address(), first.error().kind()), (site.v4(0), ErrorKind::TimedOut));
        assert!(!others.is_empty(), "{error:?}");
        for other in others {
            assert_eq!(other.address(), site.v4(1));
            assert_eq!(other.error().kind(), ErrorKind::Io);
            assert_eq!(system_code(other.error()), Some(libc::EMFILE), "{other:?}");
        }
    });
}

// -------------------------------------------------------------------- leaks

#[test]
fn hundreds_of_races_leak_nothing() {
    in_subprocess("connecting::scarce::hundreds_of_races_leak_nothing", LONG, || {
        const ROUNDS: usize = 6;
        let site = Site::of(&[Slow, Refused, Fast, Slow]);
        let addresses = [site.v4(0), site.v6(1), site.v6(3), site.v4(2)];
        let connector = names(&addresses);
        let mut before = None;
        for round in 0..ROUNDS {
            if round == 1 {
                before = Some(settled_descriptors());
            }
            let sockets: Vec<_> = (0..100)
                .map(|number| {
                    let limit = if number % 5 == 0 { ms(100) } else { WATCHDOG };
                    let options = SocketOptions::new().connect_timeout(limit);
                    connector
                        .connect_with(("name.test", site.port()), options)
                        .expect("the address is valid")
                })
                .collect();
            for (number, socket) in sockets.into_iter().enumerate() {
                match number % 5 {
                    0 => assert_fails(socket.opened(), ErrorKind::TimedOut),
                    1 => socket.close().expect("the close succeeds"),
                    2 => socket.abort(),
                    3 => drop(socket),
                    _ => {
                        let info = socket.opened().expect("the fourth address answers");
                        assert_eq!(info.remote_address(), Some(site.v4(2)));
                        drop(socket);
                    }
                }
            }
            site.await_quiet();
            site.came(2);
        }
        let before = before.expect("a round is complete");
        eventually(WATCHDOG, "the descriptors are closed", || settled_descriptors() <= before);
        eventually(WATCHDOG, "idle threads end", || threads_called("sockeye-names") == 0);
        eventually(WATCHDOG, "only the loop is left", || threads_called("sockeye") <= 1);
    });
}

// -------------------------------------------------------------------- connections to itself

/// If nothing listens on an ephemeral port, one in several thousand dials would connect to itself without the check.
#[test]
fn a_hundred_thousand_dials_without_a_listener_never_connect() {
    const NAME: &str =
        "connecting::scarce::a_hundred_thousand_dials_without_a_listener_never_connect";
    const DIALS: usize = 100_000;
    in_subprocess(NAME, LONG, || {
        let mut random = fastrand::Rng::with_seed(20);
        let mut ports = [0, 1].map(|odd| free_port(&mut random, odd));
        let mut met = 0;
        for dial in 0..DIALS {
            // Linux prefers the even ports of its range for connect(2), and the odd ones for bind(2).
            let last = u8::try_from(dial % 8 + 1).expect("the number is small");
            let bound = last > 4;
            let ip = if bound { Ipv4Addr::new(127, 0, 0, last) } else { Ipv4Addr::LOCALHOST };
            let address = SocketAddr::from((ip, ports[usize::from(bound)]));
            let tcp = TcpOptions::new();
            let tcp = if bound { tcp.bind((ip, 0).into()) } else { tcp };
            let socket = sockeye::connect_with(address, SocketOptions::new().tcp(tcp))
                .expect("the address is valid");
            match socket.opened() {
                Ok(info) => {
                    assert_ne!(info.local_address(), Some(address), "dial {dial}");
                    // Another process has taken the port since.
                    ports[usize::from(bound)] = free_port(&mut random, u16::from(bound));
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
                    met += error.attempts().len() - 1;
                }
            }
        }
        say(&format!("connected to itself {met} times"));
    });
}

/// Returns an ephemeral port on which nothing currently listens.
fn free_port(random: &mut fastrand::Rng, odd: u16) -> u16 {
    let range =
        fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("Linux has the file");
    let ends: Vec<u16> = range.split_whitespace().map(|end| end.parse().expect("a port")).collect();
    loop {
        let port = random.u16(ends[0]..=ends[1] - 1);
        let port = port - (port - ends[0]) % 2 + odd;
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}
