//! Hostile TLS servers against sockets in every situation.
//!
//! ```text
//! cargo test --test hostile                     every behaviour
//! cargo test --test hostile -- FILTER           the behaviours whose names contain FILTER
//! cargo test --test hostile -- -v FILTER        the same, with every measurement
//! ```
//!
//! A situation passes if all of this holds:
//! - it ends within its limit, with one of the outcomes expected for it;
//! - the bytes read are a prefix of the application data that the server has sent;
//! - the peak of the client's memory is at most 4 MiB above its start;
//! - the client uses next to no CPU time if there is nothing to do, and none after the end;
//! - no socket is left.
//!
//! The servers run in this process and each client in a process of its own. So memory and CPU time are those of one
//! client, even if others run at the same time.

#[cfg(target_os = "linux")]
mod behaviour;
#[cfg(target_os = "linux")]
mod behaviours;
#[cfg(target_os = "linux")]
mod client;
#[cfg(target_os = "linux")]
mod forge;
#[cfg(target_os = "linux")]
mod judge;
#[cfg(target_os = "linux")]
mod pattern;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
mod run;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "client") {
        client::main();
        return std::process::ExitCode::SUCCESS;
    }
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let filter = args.iter().find(|arg| !arg.starts_with('-')).map_or("", String::as_str);
    run::run(filter, has("--exact"), has("-v"))
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("skipped: hostile: the measurements need Linux");
}
