//! Real faults against sockets in every phase: which error each caller gets, how soon, and what is left over.
//!
//! ```text
//! cargo test --test faults                      every case, each in its own process
//! cargo test --test faults -- cases FILTER      the cases whose names contain FILTER
//! cargo test --test faults -- sweep [CALL]      strace fails each system call of a small program in turn
//! cargo test --test faults -- sweep CALL E K    one of these runs again, with its full output
//! cargo test --release --test faults -- soak    many short connections, and what they leave behind
//! ```
//!
//! A case survives if all of this holds. Every waiting call ends with the expected kind of error, within twice the
//! deadline that applied. No thread panics, and no descriptor or thread is left over. A later socket works. If a
//! machine lacks the privilege or the tool for a case, the case is skipped and the reason is printed.
//!
//! `FAULTS_JOBS` is the number of cases that run in parallel (default 2). `FAULTS_PLAIN` and `FAULTS_TLS` are the
//! numbers of connections of a soak.

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
    reason = "the integration tests share it, and not all of it is needed here"
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
        // What these processes start themselves.
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
    eprintln!("skipped: faults: they need Linux");
}
