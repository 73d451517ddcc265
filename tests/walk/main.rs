//! A walk through the crate in 36 checks, which have the same result on every system. It needs no harness, no other
//! process and no files, so it also runs under an emulator: `cargo test --test walk`.
//!
//! Every check has a line of its own. The last line counts them.

mod blocked;
mod peer;
mod plain;
mod rest;
mod tls;

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// The longest time that a check may take, also under an emulator on a busy machine.
pub const WATCHDOG: Duration = Duration::from_secs(60);

/// A time within which nothing is expected to happen.
pub const SHORTLY: Duration = Duration::from_millis(200);

/// The checks in their order, each with the behaviour that it shows.
const CHECKS: [(&str, fn()); 36] = [
    ("plaintext goes both ways", plain::echo),
    ("vectored calls keep the order", plain::vectored),
    ("eight mebibytes pass both ways at once", plain::volume),
    ("the addresses of both ends are reported", plain::addresses),
    ("a refused connection is an error of connecting", plain::refused),
    ("an IPv4-mapped address reaches an IPv4 peer", plain::mapped),
    ("the peer's end ends the socket", plain::peer_ends),
    ("writing continues after the peer's end", plain::half_open),
    ("reading continues after this side's end", plain::half_close),
    ("a blocked read sees a reset", plain::reset_during_read),
    ("a blocked write sees a reset", plain::reset_during_write),
    ("a reset is noticed without a call", plain::reset_without_call),
    ("a reset after the peer's end is noticed without a call", plain::reset_after_end),
    ("close ends a blocked read", blocked::close_read),
    ("abort ends a blocked read", blocked::abort_read),
    ("cancel ends a blocked read", blocked::cancel_read),
    ("close ends a blocked write", blocked::close_write),
    ("abort ends a blocked write", blocked::abort_write),
    ("an abort of the write side ends a blocked write", blocked::cancel_write),
    ("close ends a connect", blocked::close_connect),
    ("abort ends a connect", blocked::abort_connect),
    ("the end of a scope ends a connect", blocked::scope_connect),
    ("an earlier deadline ends a blocked read", blocked::earlier_deadline),
    ("a later deadline lets a blocked read continue", blocked::later_deadline),
    ("a write times out and can be repeated", blocked::write_timeout),
    ("TLS goes both ways", tls::echo),
    ("a close_notify is a clean end, and FIN alone is none", tls::ends),
    ("an untrusted certificate is refused", tls::untrusted),
    ("STARTTLS upgrades a connection", tls::upgrade),
    ("plaintext before an upgrade is refused", tls::injection),
    ("a reader and a writer use TLS at once", tls::duplex),
    ("200 sockets live at once", rest::many),
    ("names are resolved, and a hanging lookup times out", rest::names),
    ("egress rules deny what they name", rest::egress),
    ("a stream is adopted and detached", rest::adopt),
    ("the health of an idle socket is known", rest::health),
];

fn main() -> ExitCode {
    // The harness of other tests understands these, and `cargo test` passes them on.
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let mut failed = 0;
    let mut ran = 0;
    for (number, (name, check)) in CHECKS.iter().enumerate() {
        if filter.as_ref().is_some_and(|filter| !name.contains(filter.as_str())) {
            continue;
        }
        ran += 1;
        let verdict = run(*check);
        println!("{:2} {name}: {verdict}", number + 1);
        failed += usize::from(verdict != "ok");
    }
    println!("{} of {ran} checks passed", ran - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(check: fn()) -> &'static str {
    let (done, result) = mpsc::channel();
    thread::spawn(move || done.send(catch_unwind(check).is_ok()));
    match result.recv_timeout(WATCHDOG) {
        Ok(true) => "ok",
        Ok(false) => "failed",
        Err(_) => "still running",
    }
}
