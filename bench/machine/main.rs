//! Micro-benchmarks of the state machine in memory: steps per second, and throughput through TLS, without sockets,
//! locks or system calls.
//!
//! ```text
//! cargo bench -p sockeye-bench --bench machine                all benchmarks
//! cargo bench -p sockeye-bench --bench machine -- tls         the benchmarks whose names contain a word
//! ```
//!
//! [The comparisons](../versus/main.rs) measure sockets.

mod pair;

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use sockeye::machine::{Config, Endpoints, Input, Machine, ReadStep, Target, WriteStep};

use crate::pair::Pair;

fn main() {
    divan::main();
}

/// Makes an open connection in three calls.
#[divan::bench]
fn connect(bencher: Bencher) {
    let now = Instant::now();
    bencher.counter(ItemsCount::new(1_u32)).bench(|| open(black_box(now)));
}

#[divan::bench]
fn read_pass(bencher: Bencher) {
    let mut machine = open(Instant::now());
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        let ReadStep::Recv(permit) = machine.read() else { panic!("it is open") };
        machine.handle_recv(permit, black_box(64))
    });
}

#[divan::bench]
fn write_pass(bencher: Bencher) {
    let mut machine = open(Instant::now());
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        let WriteStep::Send(permit) = machine.write() else { panic!("it is open") };
        machine.handle_send(permit, black_box(64))
    });
}

#[divan::bench]
fn close(bencher: Bencher) {
    let now = Instant::now();
    bencher
        .counter(ItemsCount::new(1_u32))
        .with_inputs(|| open(now))
        .bench_refs(|machine| machine.handle(Input::Close, black_box(now)));
}

fn open(now: Instant) -> Machine {
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let mut machine = Machine::new(Config::new(Target::Address(peer)), now);
    let id = machine.start(now).attempt.expect("it wants its one address dialled").id;
    let result = Ok(Endpoints::new(peer, None));
    drop(machine.handle(Input::Attempted { id, result }, now));
    machine
}

/// A connection over TLS 1.3 with AES-256-GCM.
mod tls {
    use super::*;

    /// The most that the crate accepts before it sends.
    const BYTES: usize = 64 * 1024;

    #[divan::bench]
    fn handshake(bencher: Bencher) {
        bencher.counter(ItemsCount::new(1_u32)).bench(Pair::open);
    }

    /// Seals with the machine; no server opens the records.
    #[divan::bench]
    fn up(bencher: Bencher) {
        let mut pair = Pair::open();
        let plaintext = vec![0x5a; BYTES];
        bencher.counter(BytesCount::new(BYTES)).bench_local(|| pair.send(&plaintext, |_| ()));
    }

    /// Opens records with the machine. They are sealed outside the measurement.
    #[divan::bench]
    fn down(bencher: Bencher) {
        let pair = RefCell::new(Pair::open());
        let plaintext = vec![0x5a; BYTES];
        bencher
            .counter(BytesCount::new(BYTES))
            .with_inputs(|| pair.borrow_mut().seal_by_server(&plaintext))
            .bench_local_refs(|ciphertext| {
                assert_eq!(pair.borrow_mut().receive(ciphertext), BYTES);
            });
    }

    /// Moves data in both directions, including the server's work, on one thread and on two at once. Each thread has
    /// its own connection, so two threads would be slower if machines shared anything.
    #[divan::bench(threads = [1, 2])]
    fn both_ways(bencher: Bencher) {
        thread_local! {
            static PAIR: RefCell<Pair> = RefCell::new(Pair::open());
        }
        let plaintext = vec![0x5a; BYTES];
        bencher.counter(BytesCount::new(2 * BYTES)).bench(|| {
            PAIR.with_borrow_mut(|pair| {
                let mut ciphertext = Vec::with_capacity(2 * BYTES);
                pair.send(&plaintext, |part| ciphertext.extend_from_slice(part));
                assert_eq!(pair.open_by_server(&ciphertext), BYTES);
                let ciphertext = pair.seal_by_server(&plaintext);
                assert_eq!(pair.receive(&ciphertext), BYTES);
            });
        });
    }
}
