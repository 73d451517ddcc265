//! Peers: threads with `std::net`, and a TLS server that signs its own certificate.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::SockRef;
use sockeye::{Error, ErrorKind, SecureTransport, Socket, SocketOptions, TlsOptions};

use crate::WATCHDOG;

/// A server for one connection.
pub struct Peer<T> {
    pub address: SocketAddr,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Peer<T> {
    /// Accepts one connection and runs `script` with it.
    pub fn new(script: impl FnOnce(TcpStream) -> T + Send + 'static) -> Peer<T> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let thread = thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a connection arrives");
            stream.set_read_timeout(Some(WATCHDOG)).expect("not zero");
            script(stream)
        });
        Peer { address, thread }
    }

    pub fn open(&self) -> Socket {
        self.open_with(SocketOptions::new())
    }

    pub fn open_with(&self, options: SocketOptions) -> Socket {
        let socket = sockeye::connect_with(self.address, options).expect("the address is valid");
        socket.opened_timeout(WATCHDOG).expect("the peer listens");
        socket
    }

    /// Returns what the script returns.
    pub fn finish(self) -> T {
        self.thread.join().expect("the peer's script succeeds")
    }
}

/// Returns a peer that keeps the connection open, without reading, until the sender is dropped or used.
pub fn silent() -> (Peer<()>, mpsc::Sender<()>) {
    let (release, wait) = mpsc::channel();
    (Peer::new(move |stream| hold(&stream, &wait)), release)
}

/// Keeps a connection open until the other end of the channel is dropped or used.
pub fn hold(_stream: &TcpStream, wait: &Receiver<()>) {
    let _ = wait.recv_timeout(WATCHDOG);
}

/// Resets a connection.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("every socket has the option");
    drop(stream);
}

pub fn read_to_end(mut from: impl Read) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    from.read_to_end(&mut all)?;
    Ok(all)
}

pub fn read_exactly(mut from: impl Read, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Returns the crate's kind of an error.
#[track_caller]
pub fn kind<T>(result: io::Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("the call succeeds"),
        Err(error) => Error::from_io(&error).expect("it is an error of the crate").kind(),
    }
}

/// Returns the kind of an error of the crate.
#[track_caller]
pub fn error_kind<T>(result: Result<T, Error>) -> ErrorKind {
    match result {
        Ok(_) => panic!("the call succeeds"),
        Err(error) => error.kind(),
    }
}

/// A call in a thread of its own.
pub struct Blocked<T> {
    result: Receiver<T>,
}

impl<T: Send + 'static> Blocked<T> {
    /// Starts a call, and gives it the time to block.
    pub fn new(call: impl FnOnce() -> T + Send + 'static) -> Blocked<T> {
        let (send, result) = mpsc::channel();
        thread::spawn(move || send.send(call()));
        thread::sleep(crate::SHORTLY);
        assert!(result.try_recv().is_err(), "the call has not blocked");
        Blocked { result }
    }

    pub fn join(self) -> T {
        self.result.recv_timeout(WATCHDOG / 2).expect("the call returns")
    }
}

// -------------------------------------------------------------------- TLS

/// A certificate for `peer.test`, as its own authority.
pub struct Identity {
    config: Arc<ServerConfig>,
    pem: String,
}

pub type TlsStream = StreamOwned<ServerConnection, TcpStream>;

impl Identity {
    pub fn new() -> Identity {
        let names = vec!["peer.test".to_owned()];
        let own = rcgen::generate_simple_self_signed(names).expect("the system has random numbers");
        let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()).into();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider supports them")
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .expect("the key belongs to the certificate");
        Identity { config: Arc::new(config), pem: own.cert.pem() }
    }

    /// Returns options that trust only this certificate.
    pub fn options(&self, mode: SecureTransport) -> SocketOptions {
        let tls = TlsOptions::new()
            .server_name("peer.test")
            .only_added_roots()
            .add_root_pem(&self.pem)
            .expect("it is a certificate");
        SocketOptions::new().secure_transport(mode).tls(tls)
    }

    /// Returns a function that makes the server's handshake.
    pub fn server(&self) -> impl FnOnce(TcpStream) -> io::Result<TlsStream> + Send + 'static {
        let config = Arc::clone(&self.config);
        move |mut stream| {
            let mut session = ServerConnection::new(config).expect("the configuration is valid");
            while session.is_handshaking() {
                session.complete_io(&mut stream)?;
            }
            Ok(StreamOwned::new(session, stream))
        }
    }
}

/// Sends close_notify and FIN.
pub fn close_tls(mut stream: TlsStream) {
    stream.conn.send_close_notify();
    stream.flush().expect("the client reads");
    let _ = stream.sock.shutdown(std::net::Shutdown::Write);
}
