//! The imports of the crate: which module may use which others, and which crate is named where.
//!
//! The tables below are the rules. `source` reads the crate with `syn`, without the code for unit tests, and finds the
//! module that defines each imported name. `check` compares that with the rules, and `tests` has small inputs that
//! break them.

mod check;
mod source;
mod tests;

use std::fs;
use std::path::Path;

use self::source::Source;

/// The layers from bottom to top. A module may use its own layer and the layers below it.
const LAYERS: [&[&str]; 5] = [
    &[
        "address",
        "egress",
        "error",
        "failpoint",
        "info",
        "options",
        "panic",
        "poll",
        "process",
        "proxy",
        "resolver",
        "timings",
        "tls",
        "unix",
    ],
    &["machine"],
    &["driver", "sim"],
    &["socket"],
    // The root combines the layers.
    &["lib", "guide", "imap", "net", "r2d2", "tungstenite", "ureq"],
];

/// Modules of one layer that may not use each other.
const APART: [[&str; 2]; 1] = [["driver", "sim"]];

/// The rooms of the driver, each with the rooms that it may use. Each room may use itself and the layers below the
/// driver. `driver/mod.rs` names the rooms and may use all of them; no room may use it.
const ROOMS: [(&str, &[&str]); 9] = [
    (
        "listener",
        &["ops", "connection", "poller", "event_loop", "connect", "registry", "slab", "sys"],
    ),
    ("ops", &["connection", "poller", "event_loop", "connect", "registry", "slab", "sys"]),
    ("connection", &["poller", "event_loop", "connect", "registry", "slab", "sys"]),
    ("poller", &["sys"]),
    ("event_loop", &["slab", "sys"]),
    ("connect", &["sys"]),
    ("registry", &["slab", "sys"]),
    // Data, as used by several rooms.
    ("slab", &["sys"]),
    ("sys", &[]),
];

/// The crates, each with the modules that may name it, including the modules inside these.
const CRATES: [(&str, &[&str]); 19] = [
    ("aws_lc_rs", TLS),
    ("dns_lookup", &["driver::sys"]),
    ("forkguard", &["process"]),
    ("imap", &["imap"]),
    ("log", &["driver", "tls::native_roots"]),
    ("mio", &["driver::sys"]),
    ("nix", &["driver::sys"]),
    ("once_cell", &["process", "socket", "tls"]),
    ("r2d2", &["r2d2"]),
    ("ring", TLS),
    // The egress rules ask the system only whether an address is local.
    ("rustix", &["driver::sys", "egress::local::route"]),
    ("rustls", TLS),
    ("rustls_native_certs", &["tls::native_roots"]),
    ("rustls_platform_verifier", &["tls::platform_verifier"]),
    ("shuttle", &["driver::sys"]),
    ("socket2", &["driver"]),
    ("tungstenite", &["tungstenite"]),
    ("ureq", &["ureq"]),
    ("webpki_roots", TLS),
];
/// The simulator has a TLS server, which talks to its machines.
const TLS: &[&str] = &["tls", "machine::tls", "sim::tls"];

/// Items that a module may not use.
const BANNED: [(&str, &[&str]); 2] = [
    // It has no clock, thread, lock, socket or environment, and no collection with a random order.
    (
        "machine",
        &[
            "std::collections::HashMap",
            "std::collections::HashSet",
            "std::env",
            "std::fs",
            "std::net::TcpListener",
            "std::net::TcpStream",
            "std::net::ToSocketAddrs",
            "std::net::UdpSocket",
            "std::os",
            "std::process",
            "std::sync::Condvar",
            "std::sync::Mutex",
            "std::sync::RwLock",
            "std::thread",
            "std::time::Instant::now",
            "std::time::SystemTime",
        ],
    ),
    // The machine runs the connections.
    (
        "tls",
        &[
            "rustls::ClientConnection",
            "rustls::Connection",
            "rustls::client::ClientConnection",
            "rustls::ServerConnection",
            "rustls::client::UnbufferedClientConnection",
            "rustls::server::ServerConnection",
            "rustls::server::UnbufferedServerConnection",
            "rustls::unbuffered",
        ],
    ),
];

/// Groups of modules whose files may not import each other in a circle.
const WITHOUT_CIRCLES: [&[&str]; 3] = [LAYERS[0], &["machine"], &["driver"]];

/// The configurations that only `driver::sys` may ask for, within the driver.
const SYSTEM_CFGS: [&str; 11] = [
    "sockeye_bsd",
    "sockeye_condvar",
    "sockeye_shuttle",
    "sockeye_unix",
    "target_arch",
    "target_family",
    "target_has_atomic",
    "target_os",
    "target_vendor",
    "unix",
    "windows",
];

#[test]
fn imports_follow_the_rules() {
    let source = crate_source();
    assert!(
        source.files().any(|file| file.starts_with("machine/")),
        "found no file of the machine"
    );
    let violations = check::all(&source);
    let list: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "\n{}\n", list.join("\n"));
}

fn crate_source() -> Source {
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src"), "", &mut files);
    Source::parse(&files).unwrap_or_else(|error| panic!("{error}"))
}

/// Collects the files of a folder with their texts.
fn collect(folder: &Path, prefix: &str, into: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("it stays readable").path();
        let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
        if path.is_dir() {
            collect(&path, &format!("{prefix}{name}/"), into);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).expect("sources are text");
            into.push((format!("{prefix}{name}"), text));
        }
    }
}
