//! Servers that misbehave in every way that TLS allows and in those that it doesn't, against sockets in every
//! situation.
//!
//! ```text
//! cargo test --test hostile                     every behaviour
//! cargo test --test hostile -- FILTER           those whose names contain this
//! cargo test --test hostile -- -v FILTER        with what was measured
//! ```
//!
//! Each situation is right if it ends within its limit, in one of the ways that are right for it; if what was read
//! is what the server has sent as data, in order; if the memory of the client's process grew by no more than 4 MiB
//! at its peak; if the processor had nothing to do where nothing was to be done; and if no socket is left.
//!
//! The client has a process of its own, in which no server runs, so that all this is measured for it alone, also
//! while others are at work. It plays the situations of one behaviour, and then those of another.

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
    eprintln!("skipped: hostile: what is measured only Linux tells");
}
