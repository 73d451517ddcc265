//! Encrypted Client Hello and a post-quantum key exchange, with a server of Go's crypto/tls. A relay records what the
//! client sends in clear.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use sockeye::{
    EchStatus, Error, ErrorKind, SecureTransport, Socket, SocketOptions, TlsOptions, TlsVersion,
};

use super::harness::{LIMIT, Scratch, Server, bounded, skip, start, text};
use super::tls::bound;
use crate::support::read_exactly;
use crate::support::tls::{Authority, CertSpec, contains};

/// The name that must not be sent in clear, and the one that is.
const SECRET: &str = "inner.secret.test";
const PUBLIC: &str = "outer.public.test";

const X25519_MLKEM768: u16 = 4588;

/// Returns Go 1.24 or later, which serves both: `SOCKEYE_GO` or the one on the PATH.
fn go(test: &str) -> Option<PathBuf> {
    let go = PathBuf::from(std::env::var_os("SOCKEYE_GO").unwrap_or_else(|| "go".into()));
    let version = Command::new(&go).args(["env", "GOVERSION"]).stdin(Stdio::null()).output();
    let version = version.map(|output| text(&output.stdout).trim().to_owned()).unwrap_or_default();
    let minor = version.strip_prefix("go1.").and_then(|rest| rest.split('.').next()?.parse().ok());
    if minor.is_none_or(|minor: u32| minor < 24) {
        skip(test, &format!("no Go 1.24 or later, but {version:?}: set SOCKEYE_GO"));
        return None;
    }
    Some(go)
}

/// Builds the server and starts it. Its folder then has the lists `good` and `stale`; only the keys of the first are
/// known to the server.
fn serve(go: &Path, authority: &Authority) -> Server {
    let files = Scratch::new();
    let identity = authority.issues(&CertSpec::new(&[SECRET, PUBLIC]));
    std::fs::write(files.0.join("chain.pem"), identity.chain_pem()).unwrap();
    std::fs::write(files.0.join("key.pem"), identity.key_pem()).unwrap();
    std::fs::write(files.0.join("server.go"), include_str!("ech.go")).unwrap();
    // The standard library is compiled once for all tests.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go");
    let built = Command::new("timeout")
        .arg("400")
        .arg(go)
        .args(["build", "-o", "server", "server.go"])
        .current_dir(&files.0)
        .envs([("GOFLAGS", "-p=2"), ("GOTOOLCHAIN", "local"), ("GO111MODULE", "off")])
        .env("GOCACHE", cache)
        .env("HOME", &files.0)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", text(&built.stderr));
    start(files, "ready", |files, [port]| {
        let mut command = bounded(&files.join("server"));
        command.arg(format!("127.0.0.1:{port}")).current_dir(files);
        command
    })
}

/// Relays one connection, and keeps what the client sends.
struct Relay {
    address: SocketAddr,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Relay {
    fn new(to: SocketAddr) -> Relay {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&sent);
        thread::spawn(move || {
            let (client, _) = listener.accept().unwrap();
            let server = TcpStream::connect(to).unwrap();
            let (mut back, mut answers) =
                (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || {
                let _ = io::copy(&mut answers, &mut back);
                let _ = back.shutdown(Shutdown::Write);
            });
            let (mut client, mut server) = (client, server);
            let mut buf = [0; 16 * 1024];
            while let Ok(count @ 1..) = client.read(&mut buf) {
                record.lock().unwrap().extend(&buf[..count]);
                if server.write_all(&buf[..count]).is_err() {
                    break;
                }
            }
            let _ = server.shutdown(Shutdown::Write);
        });
        Relay { address, sent }
    }

    fn has_seen(&self, name: &str) -> bool {
        contains(&self.sent.lock().unwrap(), name.as_bytes())
    }
}

fn connect(relay: &Relay, tls: TlsOptions) -> Socket {
    let options =
        SocketOptions::new().secure_transport(SecureTransport::On).tls(tls).connect_timeout(LIMIT);
    let socket = sockeye::connect_with(relay.address, options).unwrap();
    bound(&socket);
    socket
}

#[test]
fn go_decrypts_the_client_hello_or_rejects_it() {
    let test = "go_decrypts_the_client_hello_or_rejects_it";
    let Some(go) = go(test) else { return };
    let authority = Authority::new();
    let server = serve(&go, &authority);
    let list = |name: &str| std::fs::read(server.file(name)).unwrap();
    let trusting = || {
        TlsOptions::new()
            .add_root_pem(authority.pem())
            .unwrap()
            .only_added_roots()
            .server_name(SECRET)
    };

    // Without it, the name is sent in clear, so the relay would see it.
    let relay = Relay::new(server.address());
    let socket = connect(&relay, trusting());
    assert_eq!(socket.opened().unwrap().tls().unwrap().ech(), EchStatus::NotOffered);
    assert_eq!(read_exactly(&socket, 2).unwrap(), b"ok");
    server.await_log_line(&format!("served {SECRET} false"));
    assert!(relay.has_seen(SECRET) && !relay.has_seen(PUBLIC));

    // Accepted, also when the session is resumed.
    let hidden = trusting().ech_config_list(list("good")).unwrap();
    for resumed in [false, true] {
        let relay = Relay::new(server.address());
        let socket = connect(&relay, hidden.clone());
        let info = socket.opened().unwrap();
        let tls = info.tls().unwrap();
        assert_eq!((tls.ech(), tls.resumed()), (EchStatus::Accepted, resumed));
        assert_eq!(read_exactly(&socket, 2).unwrap(), b"ok");
        server.await_log_line(&format!("served {SECRET} true"));
        assert!(relay.has_seen(PUBLIC) && !relay.has_seen(SECRET), "resumed: {resumed}");
        socket.close().unwrap();
    }

    // Rejected: the server does not have this key. It answers with the configurations that it has.
    let relay = Relay::new(server.address());
    let stale = trusting().ech_config_list(list("stale")).unwrap();
    let error = connect(&relay, stale).opened().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls);
    let message = error.to_string();
    assert!(message.contains("rejected Encrypted Client Hello"), "{message}");
    assert!(relay.has_seen(PUBLIC) && !relay.has_seen(SECRET));
    for printed in [whole(&error), format!("{error:?}"), format!("{error:#?}")] {
        assert!(printed.len() < 1_000, "{printed}");
        assert!(!printed.contains(PUBLIC), "it prints a configuration: {printed}");
    }
    // It knows only the name that was in clear.
    server.await_log_line(&format!("served {PUBLIC} false"));
}

/// Returns the error with all its sources.
fn whole(error: &Error) -> String {
    let mut printed = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        printed.push_str(&format!(": {error} {error:?}"));
        source = error.source();
    }
    printed
}

#[test]
fn go_agrees_on_a_post_quantum_key_exchange() {
    let test = "go_agrees_on_a_post_quantum_key_exchange";
    let Some(go) = go(test) else { return };
    let authority = Authority::new();
    let server = serve(&go, &authority);
    let trusting = || {
        TlsOptions::new()
            .add_root_pem(authority.pem())
            .unwrap()
            .only_added_roots()
            .server_name(SECRET)
    };
    for (tls, group) in [
        (trusting(), X25519_MLKEM768),
        (
            trusting().min_version(TlsVersion::Tls13).key_exchange_groups([X25519_MLKEM768]),
            X25519_MLKEM768,
        ),
        (trusting().key_exchange_groups([29]), 29),
    ] {
        let relay = Relay::new(server.address());
        let socket = connect(&relay, tls);
        let info = socket.opened().unwrap();
        assert_eq!(info.tls().unwrap().key_exchange_group(), Some(group));
        server.await_log_line(&format!("group {group}"));
        assert_eq!(read_exactly(&socket, 2).unwrap(), b"ok");
    }
}
