//! The shape of the public types: their auto traits and conversions, checked by the compiler, and the contents of their
//! `Debug` output.

use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::io::{Read, Write};
use std::mem::size_of;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use std::time::Duration;

use sockeye::{
    Attempt, Connector, ConnectorBuilder, ConnectorStats, Descriptor, EgressRules, Error,
    ErrorKind, Health, Keepalive, Phase, Reader, Scope, Socket, SocketAddress, SocketInfo,
    SocketOptions, Stats, Step, TcpOptions, Timings, TlsOptions, Writer,
};

use crate::support::{Peer, open, read, read_exactly, with_watchdog};

#[test]
fn handles_can_be_shared_and_sent() {
    fn handle<T: Clone + Debug + Send + Sync + 'static>() {}
    handle::<Socket>();
    handle::<Reader>();
    handle::<Writer>();
    handle::<Connector>();
    fn shared<T: Debug + Send + Sync>() {}
    shared::<Scope<'_>>();
}

#[test]
fn connectors_and_rules_are_built_step_by_step() {
    let _: fn() -> ConnectorBuilder = Connector::builder;
    let _: fn() -> &'static Connector = Connector::global;
    let _: fn(&Connector) -> usize = Connector::open_sockets;
    let _: fn(&Connector) -> ConnectorStats = Connector::stats;
    let _: fn(&Connector, Duration) -> usize = Connector::shutdown;
    let _: fn(&Connector, &'static str) -> sockeye::Result<Socket> = Connector::connect;
    let _: fn(&Connector, &'static str, SocketOptions) -> sockeye::Result<Socket> =
        Connector::connect_with;
    let _: fn(&Scope<'static>, &'static str) -> sockeye::Result<Socket> = Scope::connect;
    let _: fn(&Scope<'static>, &'static str, SocketOptions) -> sockeye::Result<Socket> =
        Scope::connect_with;
    let _: fn(ConnectorBuilder, EgressRules) -> ConnectorBuilder = ConnectorBuilder::egress;
    let _: fn(ConnectorBuilder, TlsOptions) -> ConnectorBuilder = ConnectorBuilder::tls;
    let _: fn(ConnectorBuilder, usize) -> ConnectorBuilder = ConnectorBuilder::max_open_sockets;
    let _: fn(ConnectorBuilder, bool) -> ConnectorBuilder = ConnectorBuilder::wait_at_limit;
    let _: fn(ConnectorBuilder) -> sockeye::Result<Connector> = ConnectorBuilder::build;
    for rules in [
        EgressRules::allow_all,
        EgressRules::deny_all,
        EgressRules::public_only,
        EgressRules::workers,
    ] {
        let _: fn() -> EgressRules = rules;
    }
    for rule in [
        EgressRules::deny_net,
        EgressRules::allow_net,
        EgressRules::deny_host,
        EgressRules::allow_host,
    ] {
        let _: fn(EgressRules, &str) -> sockeye::Result<EgressRules> = rule;
    }
    let _: fn(EgressRules, u16) -> EgressRules = EgressRules::deny_port;
    let _: fn(EgressRules, u16) -> EgressRules = EgressRules::allow_port;
    let _: fn(EgressRules, SocketAddr) -> EgressRules = EgressRules::own_listener;
    let _: fn(&EgressRules, SocketAddr) -> bool = EgressRules::allows;
    fn builder<T: Debug + Default + Send>() {}
    builder::<ConnectorBuilder>();
    // A scope returns its closure's result, and the closure may borrow.
    let text = String::from("borrowed");
    let borrowed: &str = Connector::global().scope(|_: &Scope<'_>| text.as_str());
    assert_eq!(borrowed, text);
}

#[test]
fn handles_read_and_write_by_value_and_by_reference() {
    fn reads<T: Read>() {}
    fn writes<T: Write>() {}
    reads::<Socket>();
    reads::<&Socket>();
    reads::<Reader>();
    reads::<&Reader>();
    writes::<Socket>();
    writes::<&Socket>();
    writes::<Writer>();
    writes::<&Writer>();
}

#[test]
fn values_are_plain_data() {
    fn value<T: Clone + Debug + Send + Sync + 'static>() {}
    fn copied<T: Copy + Debug + Send + Sync + 'static>() {}
    value::<SocketAddress>();
    value::<SocketOptions>();
    value::<TcpOptions>();
    value::<EgressRules>();
    value::<SocketInfo>();
    value::<Error>();
    value::<Attempt>();
    copied::<Keepalive>();
    copied::<Phase>();
    copied::<Timings>();
    copied::<Stats>();
    copied::<ConnectorStats>();
    value::<Health>();
    value::<Descriptor>();
    copied::<ErrorKind>();
    copied::<Step>();
    fn key<T: Eq + Hash>() {}
    key::<SocketAddress>();
    key::<Phase>();
    key::<ErrorKind>();
    key::<Step>();
    fn empty<T: Default>() {}
    empty::<SocketOptions>();
    empty::<TcpOptions>();
    empty::<Timings>();
    empty::<Stats>();
}

#[test]
fn every_form_of_address_converts() {
    fn address<T: TryInto<SocketAddress>>()
    where
        Error: From<T::Error>,
    {
    }
    address::<&str>();
    address::<String>();
    address::<&String>();
    address::<(&str, u16)>();
    address::<(String, u16)>();
    address::<(IpAddr, u16)>();
    address::<SocketAddr>();
    address::<SocketAddress>();
    address::<&SocketAddress>();
    fn text<T: FromStr<Err = Error> + Display>() {}
    text::<SocketAddress>();
}

#[test]
fn errors_implement_the_error_trait() {
    fn error<T: std::error::Error + Display + Send + Sync + 'static>() {}
    error::<Error>();
    fn into<T: Into<std::io::Error>>() {}
    into::<Error>();
}

#[test]
fn handles_and_errors_are_small() {
    let word = size_of::<usize>();
    assert!(size_of::<Socket>() <= 2 * word);
    assert!(size_of::<Reader>() <= 2 * word);
    assert!(size_of::<Writer>() <= 2 * word);
    assert!(size_of::<Error>() <= 2 * word);
    assert!(size_of::<Result<usize, Error>>() <= 3 * word);
}

#[test]
fn debug_output_never_contains_payload() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.receive(6);
            wire.send(b"PRIVATE and more of it");
        });
        let socket = open(&peer);
        let (reader, writer) = (socket.reader(), socket.writer());
        (&writer).write_all(b"SECRET").expect("the peer reads");
        assert_eq!(read_exactly(&reader, 7).expect("the peer answers"), b"PRIVATE");
        let info = socket.opened().expect("it is open");
        socket.close().expect("the close succeeds");
        let error = read(&socket, 1).expect_err("it was closed");
        let shown = format!(
            "{socket:?} {reader:?} {writer:?} {info:?} {error:?} {error} {:#?}",
            socket.stats()
        );
        for payload in [
            "SECRET",
            "PRIVATE",
            "and more",
            &format!("{:?}", b"SECRET"),
            &format!("{:?}", b"PRIVATE"),
        ] {
            assert!(!shown.contains(payload), "{shown}");
        }
    });
}
