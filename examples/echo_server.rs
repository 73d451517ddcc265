//! An echo server, in plaintext or over TLS: every client gets back what it sends, until either side ends.
//!
//! ```text
//! cargo run --example echo_server                                    serves clients of its own on loopback, and ends
//! cargo run --example echo_server -- 127.0.0.1:7007                  serves until its standard input ends
//! cargo run --example echo_server -- 127.0.0.1:7007 CHAIN.pem KEY.pem   the same over TLS
//! ```
//!
//! At most 100 clients are served at once, each by a thread of its own. Further ones wait in the system's queue. A
//! client that has 20 connections gets no more: they are reset. One that is silent for a minute is dropped. When the
//! standard input ends, the clients that wait by then are still served.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use sockeye::{
    Identity, IngressRules, ListenOptions, Listener, SecureTransport, ServerTlsOptions, Socket,
    SocketOptions, TlsOptions, connect_with, listen_with,
};

/// The maximum number of clients that are served at once.
const MAX_CLIENTS: usize = 100;
/// The time that a client may be silent.
const SILENCE: Duration = Duration::from_secs(60);
/// The limit for each wait of the clients of its own.
const LIMIT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    if cfg!(not(any(feature = "aws-lc-rs", feature = "ring"))) {
        // The library was built without a TLS provider, so the program installs one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.as_slice() {
        [] => demonstrate(),
        [address] => serve_until_end_of_input(address, None),
        [address, chain, key] => Identity::from_pem_files(chain, key)
            .map_err(Box::from)
            .and_then(|identity| serve_until_end_of_input(address, Some(identity))),
        _ => Err("usage: echo_server [ADDRESS:PORT [CHAIN.pem KEY.pem]]".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo_server: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the options of a listener, over TLS if there is an identity.
fn options(identity: Option<Identity>) -> ListenOptions {
    let mut socket = SocketOptions::new().read_timeout(SILENCE).write_timeout(SILENCE);
    if let Some(identity) = identity {
        let tls = ServerTlsOptions::new(identity);
        socket = socket.secure_transport(SecureTransport::On).server_tls(tls);
    }
    // No single client may use up all places.
    ListenOptions::new().socket(socket).ingress(IngressRules::allow_all().max_per_client(20))
}

fn serve_until_end_of_input(
    address: &str,
    identity: Option<Identity>,
) -> Result<(), Box<dyn Error>> {
    let listener = listen_with(address, options(identity))?;
    if let Some(address) = listener.local_address() {
        eprintln!("echo_server: listening on {address}");
    }
    let closer = listener.clone();
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        closer.close();
    });
    serve(&listener)?;
    Ok(())
}

/// Serves until the listener is closed and every client is done.
fn serve(listener: &Listener) -> sockeye::Result<()> {
    listener.serve(MAX_CLIENTS, |socket| {
        // The socket is closed when this returns.
        if let Err(error) = echo(&socket) {
            eprintln!("echo_server: {error}");
        }
    })
}

fn echo(socket: &Socket) -> io::Result<u64> {
    io::copy(&mut socket.reader(), &mut socket.writer())
}

/// Serves two clients of its own, in plaintext and over TLS.
fn demonstrate() -> Result<(), Box<dyn Error>> {
    demonstrate_once(None, SocketOptions::new())?;

    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new([String::from("localhost")])?.self_signed(&key)?;
    let identity = Identity::from_pem(certificate.pem(), key.serialize_pem())?;
    let trusted = TlsOptions::new().add_root_pem(certificate.pem())?.only_added_roots();
    let options = SocketOptions::new()
        .secure_transport(SecureTransport::On)
        .tls(trusted.server_name("localhost"));
    demonstrate_once(Some(identity), options)
}

fn demonstrate_once(
    identity: Option<Identity>,
    client: SocketOptions,
) -> Result<(), Box<dyn Error>> {
    let listener = listen_with("127.0.0.1:0", options(identity))?;
    let address = listener.local_address().ok_or("the listener has no address")?;
    thread::scope(|scope| {
        let serving = scope.spawn(|| serve(&listener));
        let answer = ask(address, client);
        // Before the client's error is returned, because the server would never end.
        listener.close();
        serving.join().map_err(|_| "the server panicked")??;
        println!("the server on {address} answers{}", answer?);
        Ok(())
    })
}

/// Sends some words, and returns what the server makes of them.
fn ask(address: SocketAddr, options: SocketOptions) -> Result<String, Box<dyn Error>> {
    let options = options.connect_timeout(LIMIT).read_timeout(LIMIT).write_timeout(LIMIT);
    let client = connect_with(address, options)?;
    client.writer().write_all(b"hello, echo")?;
    // The server reads to this end, and its answer still comes: accepted sockets are half-open.
    client.writer().close()?;
    let mut answer = String::new();
    client.reader().read_to_string(&mut answer)?;
    let info = client.opened()?;
    let how = info.tls().map(|tls| format!(" over {}", tls.version())).unwrap_or_default();
    Ok(format!("{how}: {answer}"))
}
