//! Proxies: HTTP CONNECT and SOCKS, against scripted ones and one that forwards.

mod cuts;
mod failures;
mod front;
mod https;
mod interruptions;
#[cfg(unix)]
mod no_proxy;
mod relay;
mod resolved_locally;
mod rules;
mod secured;
mod tunnels;

use std::io::Read;
use std::net::{SocketAddr, TcpStream};

use sockeye::{Connector, Proxy, ProxyRules};

use crate::support::peer::Server;
use crate::support::tls::{authority, trust_only};

/// The target of tests in which the proxy never connects to it.
const TARGET: &str = "db.example.com:5432";

/// Returns a connector with this proxy for everything.
fn through(proxy: impl Into<ProxyRules>) -> Connector {
    Connector::builder().proxy(proxy).build().expect("nothing restricts nets")
}

/// Starts a proxy that runs the script on each connection, after the request of HTTP CONNECT.
fn http_proxy(mut script: impl FnMut(TcpStream) + Send + 'static) -> Server {
    Server::scripted(move |mut stream| {
        read_head(&mut stream);
        script(stream);
    })
}

fn http(address: SocketAddr) -> Proxy {
    Proxy::http(address).expect("the address is valid")
}

fn https(address: SocketAddr) -> Proxy {
    Proxy::https(address, trust_only(authority())).expect("the address is valid")
}

fn socks5(address: SocketAddr) -> Proxy {
    Proxy::socks5(address).expect("the address is valid")
}

fn socks4a(address: SocketAddr) -> Proxy {
    Proxy::socks4a(address).expect("the address is valid")
}

/// Reads the head of a request.
fn read_head(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the request is complete");
        head.push(byte[0]);
    }
    head
}

/// Reads exactly this many bytes.
fn take(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).expect("the peer sends as many");
    bytes
}
