//! A POP3 dialogue that begins in plaintext and continues over TLS (RFC 2595, section 4).
//!
//! ```text
//! cargo run --example starttls
//! ```
//!
//! The first server follows the rules. Then an attacker in the middle injects an answer after the server's go-ahead. A
//! client that kept it would take it for an answer over TLS (CVE-2021-22947). The servers run in this process.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto};
use sockeye::{Reader, SecureTransport, Socket, SocketOptions, TlsOptions};

/// The limit for any wait.
const LIMIT: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    if cfg!(not(any(feature = "aws-lc-rs", feature = "ring"))) {
        // The library was built without a TLS provider, so the program installs one.
        let _ = crypto::ring::default_provider().install_default();
    }
    let identity = Identity::new()?;

    println!("-- a server that follows the rules\n");
    let (address, server) = start(&identity, "")?;
    mail(&dial(address, &identity)?, READ_AHEAD)?;
    server.join().expect("the server does not panic")?;

    let injected = "+OK 1 666\r\n";
    for (what, capacity) in [
        ("a BufReader that has read the injected answer ahead", READ_AHEAD),
        ("a BufReader of one byte, which never reads ahead", 1),
    ] {
        println!("\n-- an attacker in between, and {what}\n");
        let (address, server) = start(&identity, injected)?;
        let socket = dial(address, &identity)?;
        let error = mail(&socket, capacity).expect_err("the injected answer must not be believed");
        match sockeye::Error::from_io(&error) {
            Some(error) => println!("   start_tls: {:?}, {error}", error.kind()),
            None => println!("   {error}"),
        }
        drop(socket);
        let sent = server.join().expect("the server does not panic")?;
        println!("   bytes that were sent after STLS: {sent}");
        assert_eq!(sent, 0, "the client has gone on");
    }
    Ok(())
}

/// The default capacity of a `BufReader`.
const READ_AHEAD: usize = 8 * 1024;

fn dial(address: SocketAddr, identity: &Identity) -> sockeye::Result<Socket> {
    let tls = TlsOptions::new().add_root_pem(&identity.pem)?.only_added_roots();
    let options = SocketOptions::new()
        .secure_transport(SecureTransport::StartTls)
        .tls(tls)
        .connect_timeout(LIMIT)
        .read_timeout(LIMIT)
        .write_timeout(LIMIT);
    sockeye::connect_with(address, options)
}

/// Visits a mailbox.
fn mail(socket: &Socket, capacity: usize) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(capacity, socket.reader());
    hear(&mut reader)?;
    tell(socket, "STLS")?;
    hear(&mut reader)?;
    let secured = upgrade(socket, reader)?;

    let info = secured.opened()?;
    if let Some(tls) = info.tls() {
        println!("   {}, {}", tls.version(), tls.cipher_suite_name());
    }
    let mut reader = BufReader::new(secured.reader());
    for command in ["USER salmon", "PASS upstream", "STAT", "QUIT"] {
        tell(&secured, command)?;
        hear(&mut reader)?;
    }
    Ok(secured.close()?)
}

/// Upgrades from plaintext to TLS and accepts no byte in between.
fn upgrade(socket: &Socket, reader: BufReader<Reader>) -> io::Result<Socket> {
    // The socket cannot see bytes that this buffer took out of it. Plaintext and TLS data must never share a buffer,
    // so this one is checked and dropped.
    if !reader.buffer().is_empty() {
        let said = reader.buffer().escape_ascii().to_string();
        socket.abort();
        return Err(io::Error::other(format!("more than a go-ahead was said: \"{said}\"")));
    }
    drop(reader);
    // `start_tls` checks the bytes that are still on the wire.
    Ok(socket.start_tls()?)
}

fn tell(mut socket: &Socket, command: &str) -> io::Result<()> {
    println!("C: {command}");
    socket.write_all(format!("{command}\r\n").as_bytes())
}

/// Reads one line, which must be positive.
fn hear(reader: &mut impl BufRead) -> io::Result<()> {
    let mut line = String::new();
    // RFC 2449, section 4 allows 512 bytes.
    reader.take(512).read_line(&mut line)?;
    println!("S: {}", line.trim_end().escape_debug());
    if line.starts_with("+OK") { Ok(()) } else { Err(io::Error::other("the server refuses")) }
}

/// The server's certificate and key.
struct Identity {
    /// The self-signed certificate.
    pem: String,
    config: Arc<ServerConfig>,
}

impl Identity {
    fn new() -> Result<Self, Box<dyn Error>> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new([String::from("127.0.0.1")])?.self_signed(&key)?;
        let config = ServerConfig::builder_with_provider(crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into()?)?;
        Ok(Identity { pem: certificate.pem(), config: Arc::new(config) })
    }
}

/// Starts a server for one connection. If the answer to `STLS` was tampered with, its thread returns the number of
/// bytes that the client sent afterwards.
fn start(
    identity: &Identity,
    injected: &'static str,
) -> io::Result<(SocketAddr, JoinHandle<io::Result<usize>>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let config = Arc::clone(&identity.config);
    let server = thread::Builder::new().spawn(move || {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(b"+OK salmon POP3\r\n")?;
        command(&mut stream)?;
        stream.write_all(format!("+OK begin TLS\r\n{injected}").as_bytes())?;
        if injected.is_empty() { serve(stream, config).map(|()| 0) } else { rest(&stream) }
    })?;
    Ok((address, server))
}

/// Conducts the server's dialogue over TLS.
fn serve(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<()> {
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut tls = StreamOwned::new(connection, stream);
    for answer in ["+OK", "+OK come in", "+OK 2 320", "+OK bye"] {
        command(&mut tls)?;
        tls.write_all(format!("{answer}\r\n").as_bytes())?;
    }
    // The client must send close_notify.
    tls.conn.send_close_notify();
    tls.flush()?;
    tls.read(&mut [0]).map(drop)
}

/// Reads a line byte by byte, because the bytes after `STLS` belong to the handshake.
fn command(stream: &mut impl Read) -> io::Result<()> {
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte)?;
    }
    Ok(())
}

/// Counts the bytes until EOF or a reset.
fn rest(mut stream: &TcpStream) -> io::Result<usize> {
    let mut sent = Vec::new();
    match stream.read_to_end(&mut sent) {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
        Ok(_) | Err(_) => Ok(sent.len()),
    }
}
