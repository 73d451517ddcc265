//! Small inputs that follow the rules or break them.

use super::check;
use super::source::Source;

/// A root that re-exports some names, and the modules that define them.
const CRATE: [(&str, &str); 7] = [
    (
        "lib.rs",
        "pub use crate::socket::{Socket, Reader}; pub use error::Error; pub use self::info::Stats;
        const VERSION: u8 = 1;",
    ),
    ("error.rs", "pub struct Error;"),
    ("info.rs", "pub struct Stats;"),
    ("machine/mod.rs", "pub struct Machine; mod lower;"),
    ("machine/lower.rs", "pub struct Low;"),
    (
        "driver/mod.rs",
        "mod sys; pub use crate::error::Error; pub(crate) use sys::Wire; fn help() {}",
    ),
    ("socket.rs", "pub struct Socket; pub struct Reader;"),
];
const DRIVER: [(&str, &str); 5] = [
    ("driver/sys/mod.rs", "mod descriptor; pub(crate) use descriptor::Wire;"),
    ("driver/sys/descriptor.rs", "pub(crate) struct Wire;"),
    ("driver/registry.rs", "pub(crate) struct Registry;"),
    ("driver/connection/mod.rs", "pub(crate) struct Connection;"),
    ("driver/ops/mod.rs", "pub(crate) fn read() {}"),
];

#[test]
fn an_upward_import_is_found() {
    check("machine/mod.rs", "use crate::driver::Loop;", &[(1, "crate::driver::Loop")]);
    check("error.rs", "use crate::machine::Fault;", &[(1, "crate::machine::Fault")]);
    check(
        "driver/sys.rs",
        "\n\npub(crate) use crate::socket::Shared;",
        &[(3, "crate::socket::Shared")],
    );
    check("options.rs", "use crate::socket;", &[(1, "crate::socket")]);
}

#[test]
fn a_downward_import_is_fine() {
    check(
        "socket.rs",
        "use crate::driver::Loop; use crate::machine::Machine; use crate::{error::Error, info::Stats};",
        &[],
    );
    check(
        "driver/sys.rs",
        "use mio::Poll; use crate::machine::Machine; use rustix::event::poll;",
        &[],
    );
    check(
        "machine/flow.rs",
        "use std::collections::BTreeMap; use crate::error::ErrorKind; use super::lower::Low;",
        &[],
    );
    check("sim/mod.rs", "use crate::machine::Machine;", &[]);
    check("info.rs", "use crate::error::Error;", &[]);
    check("ureq.rs", "use crate::{Socket, VERSION}; use ureq::Agent;", &[]);
}

#[test]
fn a_use_tree_is_resolved() {
    check(
        "machine/happy_eyeballs.rs",
        "use crate::{\n    error::Error,\n    driver::{self, dial as call, slab::{Row}},\n};",
        &[(3, "crate::driver"), (3, "crate::driver::dial"), (3, "crate::driver::slab::Row")],
    );
    check("error.rs", "use {std::io, crate::machine::{self}};", &[(1, "crate::machine")]);
    check(
        "machine/flow.rs",
        "fn f() -> impl Sized + use<> { use std::thread; }",
        &[(1, "std::thread")],
    );
}

#[test]
fn a_path_within_code_is_an_import() {
    check("machine/mod.rs", "fn f() { crate::driver::wake(1); }", &[(1, "crate::driver::wake")]);
    check("info.rs", "fn f(x: Vec<crate::socket::Socket>) {}", &[(1, "crate::socket::Socket")]);
    check("error.rs", "impl From<::mio::Token> for E {}", &[(1, "mio::Token")]);
    check(
        "error.rs",
        "use crate::socket as s; fn f() { s::go(); }",
        &[(1, "crate::socket"), (1, "crate::socket::go")],
    );
    check(
        "error.rs",
        "fn f() {\n    assert!(x == [crate::socket::A], \"{}\", ::mio::B);\n}",
        &[(2, "crate::socket::A"), (2, "mio::B")],
    );
}

#[test]
fn a_name_of_the_root_belongs_to_the_module_that_defines_it() {
    check("driver/sys.rs", "use crate::{Error, Socket, Stats};", &[(1, "crate::Socket")]);
    check("machine/mod.rs", "use crate::VERSION;", &[(1, "crate::VERSION")]);
    check("machine/mod.rs", "use crate::*;", &[(1, "crate::*")]);
}

#[test]
fn the_first_of_several_configurations_counts() {
    let sync =
        "#[cfg(not(model))] pub use std::thread; #[cfg(model)] pub use crate::driver::ops::thread;";
    let user = "use crate::driver::sys::sync::thread;";
    check_with(
        &[("driver/sys/sync.rs", sync), ("driver/registry.rs", user)],
        &[("driver/sys/sync.rs", 1, "crate::driver::ops::thread")],
    );
}

#[test]
fn a_lower_item_may_not_be_named_through_a_higher_module() {
    check("machine/mod.rs", "use crate::driver::Error;", &[(1, "crate::driver::Error")]);
}

#[test]
fn super_and_self_are_resolved() {
    check("machine/tls.rs", "use super::super::driver::Loop;", &[(1, "crate::driver::Loop")]);
    check("machine/mod.rs", "use super::socket::Shared;", &[(1, "crate::socket::Shared")]);
    check("machine/mod.rs", "use self::tls::Session;", &[]);
    check(
        "machine/mod.rs",
        "mod inner { use super::super::socket::A; }",
        &[(1, "crate::socket::A")],
    );
}

#[test]
fn the_rooms_of_the_driver_use_lower_rooms_only() {
    check(
        "driver/ops/read.rs",
        "use super::super::connection::Connection; use crate::driver::Wire;",
        &[],
    );
    check(
        "driver/connection/state.rs",
        "use crate::driver::registry::Registry; use super::Connection;",
        &[],
    );
    check(
        "driver/connection/state.rs",
        "use crate::driver::ops::read;",
        &[(1, "crate::driver::ops::read")],
    );
    check(
        "driver/registry.rs",
        "fn f() { super::connection::new() }",
        &[(1, "crate::driver::connection::new")],
    );
    check(
        "driver/event_loop/mod.rs",
        "use crate::driver::registry::Registry;",
        &[(1, "crate::driver::registry::Registry")],
    );
    check("driver/sys/tcp.rs", "use crate::machine::Machine; use super::descriptor::Wire;", &[]);
    check("driver/ops/read.rs", "use crate::driver::help;", &[(1, "crate::driver::help")]);
    check(
        "driver/mod.rs",
        "mod ops; pub(crate) use ops::read; mod sys; fn f(_: sys::Wire) {}",
        &[],
    );
}

#[test]
fn each_crate_has_its_modules() {
    check("socket.rs", "use mio::net::TcpStream;", &[(1, "mio::net::TcpStream")]);
    check(
        "socket/wait.rs",
        "fn f() { rustix::event::poll(&mut [], 0); }",
        &[(1, "rustix::event::poll")],
    );
    check("options.rs", "extern crate socket2;", &[(1, "socket2")]);
    check("egress/local/route.rs", "use rustix::net::send;", &[]);
    check("egress/local/route.rs", "use mio::Token;", &[(1, "mio::Token")]);
    check("egress/local.rs", "use rustix::net::send;", &[(1, "rustix::net::send")]);
    check("sim/mod.rs", "use mio::Token;", &[(1, "mio::Token")]);
    check("lib.rs", "use mio;", &[(1, "mio")]);
    check("error.rs", "use mio::{self, Token};", &[(1, "mio"), (1, "mio::Token")]);
    check("socket.rs", "use new_crate::Thing;", &[(1, "new_crate::Thing")]);
    check(
        "socket.rs",
        "fn f() { new_crate::thing(u8::MAX, Self::X, str::from_utf8) }",
        &[(1, "new_crate::thing")],
    );
    check("driver/sys.rs", "use rustls::ClientConfig;", &[(1, "rustls::ClientConfig")]);
    check("sim/world.rs", "use rustls::ServerConfig;", &[(1, "rustls::ServerConfig")]);
    check("sim/tls.rs", "use rustls::ServerConnection;", &[]);
    check(
        "tls/config.rs",
        "use rustls::{ClientConfig, ClientConnection};",
        &[(1, "rustls::ClientConnection")],
    );
}

#[test]
fn the_machine_is_pure() {
    check("machine/mod.rs", "use std::thread;", &[(1, "std::thread")]);
    check("machine/mod.rs", "use std::net::{IpAddr, TcpStream};", &[(1, "std::net::TcpStream")]);
    check(
        "machine/mod.rs",
        "use std::time::Instant; fn f() { Instant::now(); }",
        &[(1, "std::time::Instant::now")],
    );
    check(
        "machine/mod.rs",
        "use std::collections::{BTreeMap, HashMap};",
        &[(1, "std::collections::HashMap")],
    );
    check("machine/mod.rs", "use std::collections::*;", &[(1, "std::collections::*")]);
    check("machine/flow.rs", "fn f() { log::debug!(\"x\"); }", &[(1, "log::debug")]);
    check("machine/flow.rs", "use rustls::Connection;", &[(1, "rustls::Connection")]);
    check("machine/tls.rs", "use rustls::Connection; use webpki_roots::TLS_SERVER_ROOTS;", &[]);
    check("machine/tls/loan.rs", "use rustls::Connection;", &[]);
    check("machine/tls.rs", "use mio::Poll;", &[(1, "mio::Poll")]);
}

#[test]
fn only_sys_may_ask_for_the_system() {
    check("driver/ops/read.rs", "#[cfg(unix)]\nfn f() {}", &[(1, "cfg(unix)")]);
    check(
        "driver/ops/read.rs",
        "fn f() -> bool { cfg!(all(target_os = \"linux\", debug_assertions)) }",
        &[(1, "cfg(target_os)")],
    );
    check(
        "driver/mod.rs",
        "#[cfg_attr(not(sockeye_shuttle), path = \"unix.rs\")] mod ops;",
        &[(1, "cfg(sockeye_shuttle)")],
    );
    check(
        "driver/ops/read.rs",
        "fn f() {\n    #[cfg(windows)]\n    g();\n}",
        &[(2, "cfg(windows)")],
    );
    check(
        "driver/ops/read.rs",
        "#[cfg(all(test, unix))] mod unix; #[cfg(feature = \"sim\")] fn f() {}",
        &[],
    );
    check("driver/sys/tcp.rs", "#[cfg(unix)] fn f() {}", &[]);
    check("machine/tls.rs", "#[cfg(unix)] fn f() {}", &[]);
}

#[test]
fn circles_of_files_are_found() {
    let low = "machine/lower.rs";
    check(low, "use super::Machine;", &[]);
    // A module may use the items of the modules around it.
    check_with(
        &[
            ("machine/mod.rs", "mod lower; struct Machine(lower::Low);"),
            (low, "use super::Machine;"),
        ],
        &[],
    );
    // The parent only declares and re-exports.
    check_with(
        &[
            ("machine/mod.rs", "mod lower; mod upper; pub use lower::Low;"),
            (low, "pub struct Low;"),
            ("machine/upper.rs", "use super::Low;"),
        ],
        &[],
    );
    // A circle through a name that the parent re-exports.
    check_with(
        &[
            ("machine/mod.rs", "mod lower; mod upper; pub use lower::Low;"),
            (low, "use super::upper::Up;"),
            ("machine/upper.rs", "use super::Low;"),
        ],
        &[
            ("machine/lower.rs", 1, "crate::machine::upper::Up"),
            ("machine/upper.rs", 1, "crate::machine::Low"),
        ],
    );
    check_with(
        &[
            ("machine/mod.rs", "mod a; mod b; mod c; mod d;"),
            ("machine/a.rs", "use super::b::B;"),
            ("machine/b.rs", "use super::c; fn f() { c::call() }"),
            ("machine/c.rs", "use super::a::A; use super::d::D;"),
            ("machine/d.rs", ""),
        ],
        &[
            ("machine/a.rs", 1, "crate::machine::b::B"),
            ("machine/b.rs", 1, "crate::machine::c::call"),
            ("machine/c.rs", 1, "crate::machine::a::A"),
        ],
    );
    // Two circles; what joins them is in neither.
    check_with(
        &[
            ("machine/mod.rs", "mod a; mod b; mod c; mod d;"),
            ("machine/a.rs", "use super::b::B;"),
            ("machine/b.rs", "use super::a::A; use super::c::C;"),
            ("machine/c.rs", "use super::d::D;"),
            ("machine/d.rs", "use super::c::C;"),
        ],
        &[
            ("machine/a.rs", 1, "crate::machine::b::B"),
            ("machine/b.rs", 1, "crate::machine::a::A"),
            ("machine/c.rs", 1, "crate::machine::d::D"),
            ("machine/d.rs", 1, "crate::machine::c::C"),
        ],
    );
    check_with(
        &[("address.rs", "use crate::error::Error;"), ("error.rs", "use crate::address::Host;")],
        &[("address.rs", 1, "crate::error::Error"), ("error.rs", 1, "crate::address::Host")],
    );
}

#[test]
fn comments_literals_and_unit_tests_are_skipped() {
    check("machine/mod.rs", "//! crate::driver::Loop\n/* std::thread */ fn f() {}", &[]);
    check(
        "machine/mod.rs",
        "const A: &str = \"crate::driver::B\"; const C: &str = r#\"std::thread::D\"#;",
        &[],
    );
    check(
        "machine/mod.rs",
        "#[cfg(test)]\nmod tests { use std::thread; fn f() { {} } }\nuse std::thread;",
        &[(3, "std::thread")],
    );
    check("machine/mod.rs", "#[cfg(all(unix, test))] use std::thread;", &[]);
    check("machine/mod.rs", "#[cfg(any(unix, test))] use std::thread;", &[(1, "std::thread")]);
    check("machine/mod.rs", "#[cfg(not(test))]\nuse std::thread;", &[(2, "std::thread")]);
}

#[test]
fn a_file_without_a_layer_or_room_is_found() {
    check("helpers.rs", "fn f() {}", &[(1, "helpers")]);
    check("helpers/mod.rs", "fn f() {}", &[(1, "helpers")]);
    check("driver/helpers.rs", "fn f() {}", &[(1, "driver::helpers")]);
}

#[test]
fn a_file_of_unit_tests_alone_is_skipped() {
    check_with(
        &[
            ("machine/mod.rs", "#[cfg(test)]\nmod tests;"),
            ("machine/tests.rs", "use std::thread; mod lives;"),
            ("machine/tests/scenarios.rs", "use std::thread;"),
        ],
        &[],
    );
}

/// Checks the violations in one file, which replaces or extends a small crate.
#[track_caller]
fn check(file: &str, text: &str, expected: &[(usize, &str)]) {
    let expected: Vec<_> = expected.iter().map(|&(line, path)| (file, line, path)).collect();
    check_with(&[(file, text)], &expected);
}

#[track_caller]
fn check_with(changed: &[(&str, &str)], expected: &[(&str, usize, &str)]) {
    let kept = CRATE
        .iter()
        .chain(&DRIVER)
        .filter(|(name, _)| !changed.iter().any(|(changed, _)| module(changed) == module(name)));
    let files: Vec<(String, String)> =
        kept.chain(changed).map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let found = check::all(&Source::parse(&files).unwrap());
    let mut found: Vec<(&str, usize, &str)> = found
        .iter()
        .map(|found| (found.place.file.as_str(), found.place.line, found.path.as_str()))
        .collect();
    found.sort_unstable();
    assert_eq!(found, expected, "{changed:?}");
}

fn module(file: &str) -> &str {
    file.trim_end_matches(".rs").trim_end_matches("/mod")
}
