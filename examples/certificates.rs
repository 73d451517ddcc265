//! A TLS server for several names, whose certificates change while it runs.
//!
//! ```text
//! cargo run --example certificates                             serves clients of its own, and ends
//! cargo run --example certificates -- 127.0.0.1:7443 FOLDER    serves the names that FOLDER has files for
//! ```
//!
//! For each name there are a chain and a key, such as `a.test.pem` and `a.test.key`. Each line on the standard input
//! reads the files again. Connections that are open keep the certificate they began with. The server says to which name
//! a client came, and ends the connection.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::io::{self, BufRead, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use sockeye::{
    Identities, Identity, ListenOptions, Listener, SecureTransport, ServerTlsOptions, Socket,
    SocketOptions, TlsOptions, connect_with, listen_with,
};

/// The maximum number of clients that are served at once.
const MAX_CLIENTS: usize = 100;
/// The limit for each wait.
const LIMIT: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    if cfg!(not(any(feature = "aws-lc-rs", feature = "ring"))) {
        // The library was built without a TLS provider, so the program installs one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => demonstrate(),
        [address, folder] => serve_folder(address, Path::new(folder)),
        _ => Err("usage: certificates [ADDRESS:PORT FOLDER]".into()),
    }
}

/// Returns the options of a listener with these identities.
fn options(identities: &Identities) -> ListenOptions {
    // The clone shares the identities, so a later change reaches the listener.
    let socket = SocketOptions::new()
        .secure_transport(SecureTransport::On)
        .server_tls(ServerTlsOptions::new(identities.clone()))
        .read_timeout(LIMIT)
        .write_timeout(LIMIT);
    ListenOptions::new().socket(socket)
}

/// Tells each client the name to which it came.
fn serve(listener: &Listener) -> sockeye::Result<()> {
    listener.serve(MAX_CLIENTS, |socket| {
        if let Err(error) = greet(&socket) {
            eprintln!("certificates: {error}");
        }
    })
}

fn greet(mut socket: &Socket) -> io::Result<()> {
    let info = socket.opened()?;
    writeln!(socket, "this is {}", info.server_name().unwrap_or("a server without a name"))?;
    // Waits for the client's end.
    io::copy(&mut socket, &mut io::sink()).map(drop)
}

// --------------------------------------------------------------------------- the files of a folder

fn serve_folder(address: &str, folder: &Path) -> Result<(), Box<dyn Error>> {
    let identities = Identities::without_default();
    let mut names = reload(&identities, folder, &BTreeSet::new())?;
    let listener = listen_with(address, options(&identities))?;
    if let Some(address) = listener.local_address() {
        eprintln!("certificates: listening on {address} for {names:?}");
    }
    thread::scope(|scope| {
        let serving = scope.spawn(|| serve(&listener));
        for _ in io::stdin().lock().lines().map_while(Result::ok) {
            // A file that cannot be read must not end the server.
            match reload(&identities, folder, &names) {
                Ok(now) => names = now,
                Err(error) => eprintln!("certificates: nothing has changed: {error}"),
            }
        }
        listener.close();
        serving.join().map_err(|_| "the server panicked")??;
        Ok(())
    })
}

/// Reads the files of all names, then changes the identities. Returns the names.
fn reload(
    identities: &Identities,
    folder: &Path,
    before: &BTreeSet<String>,
) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let mut read = Vec::new();
    for entry in fs::read_dir(folder)? {
        let chain = entry?.path();
        if chain.extension().is_some_and(|extension| extension == "pem") {
            let name = chain.file_stem().and_then(|name| name.to_str()).ok_or("not UTF-8")?;
            let identity = Identity::from_pem_files(&chain, chain.with_extension("key"))?;
            read.push((name.to_owned(), identity));
        }
    }
    let names = read.iter().map(|(name, _)| name.clone()).collect();
    for (name, identity) in read {
        identities.insert(&name, identity)?;
    }
    for gone in before.difference(&names) {
        identities.remove(gone);
    }
    Ok(names)
}

// --------------------------------------------------------------------------- with clients of its own

/// A certificate authority that lives as long as this program.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Result<Self, Box<dyn Error>> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Authority { pem, issuer: Issuer::new(params, key) })
    }

    /// Returns a new certificate and its key.
    fn issue(&self, name: &str) -> Result<Identity, Box<dyn Error>> {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new([name.to_owned()])?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity::from_pem(certificate.pem(), key.serialize_pem())?)
    }
}

fn demonstrate() -> Result<(), Box<dyn Error>> {
    let authority = Authority::new()?;
    let identities = Identities::without_default();
    for name in ["a.test", "b.test"] {
        identities.insert(name, authority.issue(name)?)?;
    }
    let listener = listen_with("127.0.0.1:0", options(&identities))?;
    let server = listener.local_address().ok_or("the listener has no address")?;
    thread::scope(|scope| {
        let serving = scope.spawn(|| serve(&listener));
        let outcome = visit_all(server, &authority, &identities);
        // Before an error is returned, because the server would never end.
        listener.close();
        serving.join().map_err(|_| "the server panicked")??;
        outcome
    })
}

fn visit_all(
    server: SocketAddr,
    authority: &Authority,
    identities: &Identities,
) -> Result<(), Box<dyn Error>> {
    let (first, before) = visit(server, authority, "a.test")?;
    finish(&visit(server, authority, "b.test")?.0)?;
    if let Ok((socket, _)) = visit(server, authority, "c.test") {
        return Err(format!("there is no certificate for c.test, but {socket:?} is open").into());
    }
    println!("c.test: refused, because there is no certificate for it");

    identities.insert("a.test", authority.issue("a.test")?)?;
    let (second, after) = visit(server, authority, "a.test")?;
    let state = if before == after { "the old" } else { "a new" };
    println!("a.test: after a change there is {state} certificate");
    finish(&second)?;
    finish(&first)?;
    println!("a.test: the older connection was open all the time");
    Ok(())
}

/// Visits a name. Returns the connection and the server's certificate.
fn visit(
    server: SocketAddr,
    authority: &Authority,
    name: &str,
) -> Result<(Socket, Vec<u8>), Box<dyn Error>> {
    let tls = TlsOptions::new().add_root_pem(&authority.pem)?.only_added_roots();
    let options = SocketOptions::new()
        .secure_transport(SecureTransport::On)
        .tls(tls.server_name(name))
        .connect_timeout(LIMIT)
        .read_timeout(LIMIT)
        .write_timeout(LIMIT);
    let socket = connect_with(server, options)?;
    let mut greeting = Vec::new();
    socket.reader().read_until(b'\n', &mut greeting, 1000)?;
    println!("{name}: the server says {:?}", String::from_utf8_lossy(greeting.trim_ascii()));
    let info = socket.opened()?;
    let certificate = info.tls().and_then(|tls| tls.peer_certificates().next().map(<[u8]>::to_vec));
    Ok((socket, certificate.ok_or("a server has a certificate")?))
}

/// Ends a connection, which must still be open.
fn finish(socket: &Socket) -> Result<(), Box<dyn Error>> {
    socket.writer().close()?;
    let rest = socket.reader().read(&mut [0])?;
    if rest == 0 { Ok(()) } else { Err("the server says more than it should".into()) }
}
