//! A proxy that forwards, in all protocols.

use std::io::{self, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::{read_head, take};
use crate::support::peer::Server;

/// A proxy that connects every name to the loopback address of its family.
pub struct Relay {
    server: Server,
    requested: Arc<Mutex<Vec<String>>>,
}

impl Relay {
    pub fn start() -> Relay {
        let requested = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requested);
        let server = Server::scripted(move |stream| {
            let log = Arc::clone(&log);
            thread::spawn(move || {
                // A test may end a connection at any time.
                let _ = serve(stream, &log);
            });
        });
        Relay { server, requested }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Returns what was requested so far.
    pub fn requested(&self) -> Vec<String> {
        self.requested.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(mut client: TcpStream, log: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut first = [0];
    client.peek(&mut first)?;
    let (host, port) = match first {
        [4] => socks4(&mut client),
        [5] => socks5(&mut client)?,
        _ => connect(&mut client),
    };
    log.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{host} {port}"));
    let ip = host.parse().unwrap_or(IpAddr::from([127, 0, 0, 1]));
    let server = TcpStream::connect((ip, port));
    let granted = server.is_ok();
    client.write_all(match (first, granted) {
        ([4], true) => b"\x00\x5a\0\0\0\0\0\0",
        ([4], false) => b"\x00\x5b\0\0\0\0\0\0",
        ([5], true) => b"\x05\x00\x00\x03\x05relay\x12\x34",
        ([5], false) => b"\x05\x05\x00\x01\0\0\0\0\0\0",
        (_, true) => b"HTTP/1.1 200 Connection established\r\nVia: relay\r\n\r\n",
        (_, false) => b"HTTP/1.1 502 Bad Gateway\r\n\r\n",
    })?;
    let server = server?;
    let (from, to) = (client.try_clone()?, server.try_clone()?);
    let up = thread::spawn(move || forward(&from, &to));
    forward(&server, &client);
    up.join().expect("forwarding does not panic");
    Ok(())
}

fn forward(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

fn connect(client: &mut TcpStream) -> (String, u16) {
    let head = String::from_utf8(read_head(client)).expect("a head is text");
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
    let (host, port) = target.and_then(|it| it.rsplit_once(':')).expect("the request has a target");
    assert!(head.contains(&format!("\r\nHost: {host}:{port}\r\n")), "{head}");
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (host.to_owned(), port.parse().expect("a port"))
}

fn socks5(client: &mut TcpStream) -> io::Result<(String, u16)> {
    let greeting = take(client, 2);
    take(client, greeting[1].into());
    client.write_all(b"\x05\x00")?;
    let request = take(client, 4);
    let host = match request[3] {
        1 => IpAddr::from(<[u8; 4]>::try_from(take(client, 4)).expect("4 bytes")).to_string(),
        4 => IpAddr::from(<[u8; 16]>::try_from(take(client, 16)).expect("16 bytes")).to_string(),
        _ => {
            let length = take(client, 1)[0];
            String::from_utf8(take(client, length.into())).expect("a name is text")
        }
    };
    Ok((host, port(client)))
}

fn socks4(client: &mut TcpStream) -> (String, u16) {
    take(client, 2);
    let port = port(client);
    let ip: [u8; 4] = take(client, 4).try_into().expect("4 bytes");
    text(client);
    match ip {
        [0, 0, 0, 1] => (text(client), port),
        ip => (IpAddr::from(ip).to_string(), port),
    }
}

fn port(client: &mut TcpStream) -> u16 {
    u16::from_be_bytes(take(client, 2).try_into().expect("2 bytes"))
}

/// Reads a text that ends with NUL.
fn text(client: &mut TcpStream) -> String {
    let mut text = String::new();
    loop {
        match take(client, 1)[0] {
            0 => return text,
            byte => text.push(byte.into()),
        }
    }
}
