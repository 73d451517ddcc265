//! The shape of the public types: what they can be used for, checked by the compiler, and what their
//! `Debug` output keeps to itself.

use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::io::{Read, Write};
use std::mem::size_of;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use sockeye::{
    Attempt, Error, ErrorKind, Keepalive, Phase, Reader, Socket, SocketAddress, SocketInfo,
    SocketOptions, Stats, TcpOptions, Timings, Writer,
};

use crate::support::{Peer, open, read, read_exactly, story};

#[test]
fn handles_can_be_shared_and_sent() {
    fn handle<T: Clone + Debug + Send + Sync + 'static>() {}
    handle::<Socket>();
    handle::<Reader>();
    handle::<Writer>();
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
    value::<SocketInfo>();
    value::<Error>();
    value::<Attempt>();
    copied::<Keepalive>();
    copied::<Phase>();
    copied::<Timings>();
    copied::<Stats>();
    copied::<ErrorKind>();
    fn key<T: Eq + Hash>() {}
    key::<SocketAddress>();
    key::<Phase>();
    key::<ErrorKind>();
    fn empty<T: Default>() {}
    empty::<SocketOptions>();
    empty::<TcpOptions>();
    empty::<Timings>();
    empty::<Stats>();
}

#[test]
fn addresses_come_from_everything_that_names_one() {
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
fn errors_are_errors() {
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
fn debug_output_never_holds_what_was_sent_or_received() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.receive(6);
            wire.send(b"PRIVATE and more of it");
        });
        let socket = open(&peer);
        let (reader, writer) = (socket.reader(), socket.writer());
        (&writer).write_all(b"SECRET").expect("the peer reads");
        assert_eq!(read_exactly(&reader, 7).expect("the peer answers"), b"PRIVATE");
        let info = socket.opened().expect("it is open");
        socket.close().expect("nothing is in the way");
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
