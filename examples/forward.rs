//! A port forward, such as stunnel or `ssh -L`: for programs and crates that dial by themselves.
//!
//! ```text
//! cargo run --example forward                                        shows itself, with a server of its own
//! cargo run --example forward -- 127.0.0.1:3306 db.example.com:3306            plaintext on both sides
//! cargo run --example forward -- 127.0.0.1:1080 example.com:443 --tls          adds TLS
//! cargo run --example forward -- 0.0.0.0:8443 127.0.0.1:8080 --cert C.pem --key K.pem   takes TLS off
//!
//!   --ca FILE     with --tls: trusts the certificates of this PEM file as well
//!   --idle SECS   closes a connection without a byte for this time (default: 600)
//! ```
//!
//! Each client gets a connection to the target of its own, under the rules of one [`Connector`]. A client's end becomes
//! the target's, and the other way round. If one of them fails, the other one is reset, so that it does not take data that
//! was cut off for complete. The program ends when its standard input ends.

use std::error::Error;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use sockeye::{
    Connector, Identity, ListenOptions, Listener, SecureTransport, ServerTlsOptions, Socket,
    SocketAddress, SocketOptions, TlsOptions, listen_with, tunnel,
};

/// The maximum number of clients that are served at once. Further ones wait in the system's queue.
const MAX_CLIENTS: usize = 100;
/// The default of `--idle`.
const IDLE: Duration = Duration::from_secs(600);
/// The time that open connections have when the program ends.
const GRACE: Duration = Duration::from_secs(5);

/// A listener whose clients are connected to a target.
///
/// It is made for crates that take no connection but dial by themselves: give them [`address`](Forward::address). The
/// drop ends it.
struct Forward {
    listener: Listener,
    server: Option<JoinHandle<sockeye::Result<()>>>,
}

impl Forward {
    /// Listens on `local`, and dials `target` for each client. `accept` and `dial` are the options of the two sides, such
    /// as TLS.
    fn start(
        local: &str,
        accept: SocketOptions,
        connector: Connector,
        target: SocketAddress,
        dial: SocketOptions,
        idle: Duration,
    ) -> sockeye::Result<Forward> {
        let listener = listen_with(local, ListenOptions::new().socket(accept))?;
        let accepting = listener.clone();
        let serve = move || {
            accepting.serve(MAX_CLIENTS, |client| {
                if let Err(error) = forward(&client, &connector, &target, &dial, idle) {
                    eprintln!("forward: {error}");
                }
            })
        };
        let server = thread::Builder::new().name(String::from("forward")).spawn(serve)?;
        Ok(Forward { listener, server: Some(server) })
    }

    fn address(&self) -> SocketAddress {
        self.listener.local_address().expect("it is a TCP listener").into()
    }

    /// Ends it: open connections have a moment to finish.
    fn end(mut self) -> sockeye::Result<()> {
        let lost = self.listener.shutdown(GRACE);
        if lost > 0 {
            eprintln!("forward: {lost} connections were cut off");
        }
        match self.server.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            // A panic was reported already.
            Some(Err(_)) | None => Ok(()),
        }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// Joins one client and the target.
fn forward(
    client: &Socket,
    connector: &Connector,
    target: &SocketAddress,
    dial: &SocketOptions,
    idle: Duration,
) -> Result<(), Box<dyn Error>> {
    let server = match connector.connect_with(target.clone(), dial.clone()) {
        Ok(server) => server,
        Err(error) => {
            client.abort();
            return Err(error.into());
        }
    };
    // Waits for both handshakes. If one fails, the other side is reset.
    tunnel(client, &server, idle)?;
    Ok(())
}

/// A parsed command line.
struct Arguments {
    local: String,
    target: SocketAddress,
    accept: SocketOptions,
    dial: SocketOptions,
    idle: Duration,
}

fn main() -> ExitCode {
    if cfg!(not(any(feature = "aws-lc-rs", feature = "ring"))) {
        // The library was built without a TLS provider, so the program installs one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = if words.is_empty() { demonstrate() } else { parse(words).and_then(run) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forward: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let Arguments { local, target, accept, dial, idle } = arguments;
    let forward =
        Forward::start(&local, accept, Connector::global().clone(), target.clone(), dial, idle)?;
    println!("forwarding {} to {target}", forward.address());
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(forward.end()?)
}

fn parse(words: Vec<String>) -> Result<Arguments, Box<dyn Error>> {
    let (mut places, mut adds_tls, mut idle) = (Vec::new(), false, IDLE);
    let (mut authorities, mut cert, mut key) = (Vec::new(), None, None);
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value after it"));
        match word.as_str() {
            "--tls" => adds_tls = true,
            "--ca" => authorities.push(value()?),
            "--cert" => cert = Some(value()?),
            "--key" => key = Some(value()?),
            "--idle" => idle = Duration::try_from_secs_f64(value()?.parse()?)?,
            option if option.starts_with('-') => {
                return Err(format!("unknown option {option:?}").into());
            }
            _ => places.push(word),
        }
    }
    let [local, target] = <[String; 2]>::try_from(places)
        .map_err(|_| "usage: forward LOCAL:PORT TARGET:PORT [OPTION]..., or no argument at all")?;
    let mut accept = SocketOptions::new();
    match (cert, key) {
        (Some(cert), Some(key)) => {
            let tls = ServerTlsOptions::new(Identity::from_pem_files(cert, key)?);
            accept = accept.secure_transport(SecureTransport::On).server_tls(tls);
        }
        (None, None) => {}
        (Some(_), None) | (None, Some(_)) => return Err("--cert and --key belong together".into()),
    }
    let mut dial = SocketOptions::new();
    if adds_tls {
        let mut tls = TlsOptions::new();
        for path in authorities {
            let pem = std::fs::read(&path).map_err(|error| format!("--ca {path:?}: {error}"))?;
            tls = tls.add_root_pem(pem).map_err(|error| format!("--ca {path:?}: {error}"))?;
        }
        dial = dial.secure_transport(SecureTransport::On).tls(tls);
    } else if !authorities.is_empty() {
        return Err("--ca needs --tls beside it".into());
    }
    if idle.is_zero() {
        return Err("--idle is 0: no byte could arrive in time".into());
    }
    Ok(Arguments { local, target: target.parse()?, accept, dial, idle })
}

/// Chains two forwards in front of an echo server: the first adds TLS, and the second takes it off.
fn demonstrate() -> Result<(), Box<dyn Error>> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec![String::from("localhost")])?.self_signed(&key)?;
    let identity = Identity::from_pem(certificate.pem(), key.serialize_pem())?;

    let echo = sockeye::listen("127.0.0.1:0")?;
    let target = echo.local_address().expect("it is a TCP listener");
    let serving = echo.clone();
    let server = thread::spawn(move || {
        serving.serve(1, |socket| {
            let _ = io::copy(&mut socket.reader(), &mut socket.writer());
        })
    });

    let tls = ServerTlsOptions::new(identity);
    let secured = SocketOptions::new().secure_transport(SecureTransport::On).server_tls(tls);
    let plain = SocketOptions::new;
    let off = Forward::start(
        "127.0.0.1:0",
        secured,
        Connector::global().clone(),
        target.into(),
        plain(),
        IDLE,
    )?;
    let tls = TlsOptions::new().add_root_pem(certificate.pem())?.server_name("localhost");
    let dial = plain().secure_transport(SecureTransport::On).tls(tls);
    let on = Forward::start(
        "127.0.0.1:0",
        plain(),
        Connector::global().clone(),
        off.address(),
        dial,
        IDLE,
    )?;
    println!("{} adds TLS, {} takes it off, {target} echoes", on.address(), off.address());

    // Any program that speaks plaintext could be this client.
    let mut client = std::net::TcpStream::connect((on.address().hostname(), on.address().port()))?;
    client.set_read_timeout(Some(GRACE))?;
    client.write_all(b"over two forwards")?;
    client.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    println!("the answer: {answer:?}");
    on.end()?;
    off.end()?;
    echo.close();
    server.join().map_err(|_| "the server has panicked")??;
    Ok(())
}
