//! Faults made for real, against sockets in every phase of their lives: what is told, to whom, how soon, and
//! what is left over.
//!
//! ```text
//! cargo test --test faults                      every case, each in a process of its own
//! cargo test --test faults -- cases FILTER      those whose names contain this
//! cargo test --test faults -- sweep [CALL]      an error at every system call of a small program, by strace
//! cargo test --test faults -- sweep CALL E K    one of these again, with all its words
//! cargo test --release --test faults -- soak    lives in numbers, and what they leave behind
//! ```
//!
//! A case has survived if every waiter was told the same, of the right kind, within twice the deadline that
//! applied; if nothing panicked, no descriptor and no thread was left over; and if a later socket worked. What
//! a machine can't do, for want of a privilege or a tool, is skipped, with the reason.
//!
//! The variables: `FAULTS_JOBS`, how many run side by side (2); `FAULTS_PLAIN` and `FAULTS_TLS`, the numbers of
//! lives of a soak.

#[cfg(target_os = "linux")]
mod case;
#[cfg(target_os = "linux")]
mod cases;
#[cfg(target_os = "linux")]
mod child;
#[cfg(target_os = "linux")]
mod judge;
#[cfg(target_os = "linux")]
mod remote;
#[cfg(target_os = "linux")]
mod server;
#[cfg(target_os = "linux")]
mod soak;
#[cfg(target_os = "linux")]
mod space;
#[cfg(target_os = "linux")]
mod stage;
#[cfg(target_os = "linux")]
mod sweep;
#[cfg(target_os = "linux")]
mod tour;

#[cfg(target_os = "linux")]
#[path = "../it/support/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "these are the tests' own, of which not all is needed here"
)]
mod support;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        [] => case::run_all(""),
        ["cases", filter] => case::run_all(filter),
        ["sweep"] => sweep::run(None),
        ["sweep", call] => sweep::run(Some(call)),
        ["sweep", call, error, when] => sweep::again(call, error, when),
        ["soak"] => soak::run(),
        // The parts of other processes in all this.
        ["case", name] => case::play(name),
        ["peer", ..] => remote::serve(),
        ["server", ..] => server::serve(),
        ["tour", addresses] => tour::main(addresses),
        ["starved", room, addresses] => cases::memory::starved(room, addresses),
        ["soak-client"] => soak::client(),
        _ => {
            eprintln!("usage: faults [cases FILTER | sweep [CALL] | soak]");
            std::process::ExitCode::from(2)
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("skipped: faults: only Linux can make them");
}
