//! A dialogue that begins in plaintext and goes on over TLS, in the words of POP3 (RFC 2595, section 4).
//!
//! ```text
//! cargo run --example starttls
//! ```
//!
//! First with a server that keeps to the rules, then with somebody in between who puts an answer of his
//! own behind the server's go-ahead. A client that kept it would take it for an answer that came over TLS
//! (as in CVE-2021-22947). The server is in this process.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto};
use sockeye::{Reader, SecureTransport, Socket, SocketOptions, TlsOptions};

/// The most that any wait may take.
const LIMIT: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    if cfg!(not(any(feature = "aws-lc-rs", feature = "ring"))) {
        // The library was built without cryptography, so the program brings one. Nobody has done so yet.
        let _ = crypto::ring::default_provider().install_default();
    }
    let identity = Identity::new()?;

    println!("-- a server that keeps to the rules\n");
    let (address, server) = start(&identity, "")?;
    mail(&dial(address, &identity)?, READ_AHEAD)?;
    server.join().expect("the server does not panic")?;

    let injected = "+OK 1 666\r\n";
    for (what, capacity) in [
        ("a BufReader that has read the injected answer ahead", READ_AHEAD),
        ("a BufReader of one byte, which never reads ahead", 1),
    ] {
        println!("\n-- somebody in between, and {what}\n");
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

/// As much as a `BufReader` reads by default.
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

/// The whole visit of a mailbox.
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

/// From plaintext to TLS, with nothing in between.
fn upgrade(socket: &Socket, reader: BufReader<Reader>) -> io::Result<Socket> {
    // The socket can't see what this buffer took out of it. What came over TLS and what came before it
    // must never meet in one buffer: this one is looked at and dropped.
    if !reader.buffer().is_empty() {
        let said = reader.buffer().escape_ascii().to_string();
        socket.abort();
        return Err(io::Error::other(format!("more than a go-ahead was said: \"{said}\"")));
    }
    drop(reader);
    // What is still on the wire it sees by itself.
    Ok(socket.start_tls()?)
}

fn tell(mut socket: &Socket, command: &str) -> io::Result<()> {
    println!("C: {command}");
    socket.write_all(format!("{command}\r\n").as_bytes())
}

/// One line, which has to be an agreement.
fn hear(reader: &mut impl BufRead) -> io::Result<()> {
    let mut line = String::new();
    // RFC 2449 allows 512 bytes.
    reader.take(512).read_line(&mut line)?;
    println!("S: {}", line.trim_end().escape_debug());
    if line.starts_with("+OK") { Ok(()) } else { Err(io::Error::other("the server refuses")) }
}

/// Who the server is, and how that is proved.
struct Identity {
    /// The certificate, which is its own root.
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

/// Starts a server for one connection, in a thread that gives the number of bytes that came after
/// `STLS` where the answer to it was tampered with.
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

/// The part of the server that is over TLS.
fn serve(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<()> {
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut tls = StreamOwned::new(connection, stream);
    for answer in ["+OK", "+OK come in", "+OK 2 320", "+OK bye"] {
        command(&mut tls)?;
        tls.write_all(format!("{answer}\r\n").as_bytes())?;
    }
    // The client's close_notify; anything else is an error.
    tls.conn.send_close_notify();
    tls.flush()?;
    tls.read(&mut [0]).map(drop)
}

/// Takes a line byte by byte: what follows `STLS` is not to be read in plaintext.
fn command(stream: &mut impl Read) -> io::Result<()> {
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte)?;
    }
    Ok(())
}

/// How much still comes, until an end or a reset.
fn rest(mut stream: &TcpStream) -> io::Result<usize> {
    let mut sent = Vec::new();
    match stream.read_to_end(&mut sent) {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
        Ok(_) | Err(_) => Ok(sent.len()),
    }
}
