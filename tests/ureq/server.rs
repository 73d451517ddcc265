//! HTTP/1.1 servers, plain and over TLS, that keep connections alive and count them.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::ring;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sockeye::TlsOptions;

use crate::forge::{Forge, ticket};

/// A server's response to a request.
#[derive(Clone)]
pub struct Answer {
    pub head: String,
    pub body: String,
    /// Bytes after the body, which the client did not ask for.
    pub more: &'static str,
    /// Announces the end of the connection, and closes it afterwards.
    pub closes: bool,
    /// Sends one byte at a time.
    pub trickles: bool,
}

pub fn ok(body: &str) -> Answer {
    Answer {
        head: "200 OK".to_owned(),
        body: body.to_owned(),
        more: "",
        closes: false,
        trickles: false,
    }
}

pub fn redirect(location: &str) -> Answer {
    Answer { head: format!("302 Found\r\nLocation: {location}"), ..ok("") }
}

pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    connections: AtomicUsize,
    requests: AtomicUsize,
    last: Mutex<Option<Arc<TcpStream>>>,
}

/// The wire of a connection.
pub struct Line(Arc<TcpStream>);

impl Line {
    pub fn fin(&self) {
        self.0.shutdown(Shutdown::Write).expect("the agent keeps it");
    }

    pub fn reset(&self) {
        // This resets at once, even though the server's thread also holds the descriptor.
        #[cfg(target_os = "linux")]
        rustix::net::connect_unspec(&*self.0).expect("it can be reset");
        #[cfg(not(target_os = "linux"))]
        self.fin();
    }
}

impl Server {
    pub fn plain(on: Ipv4Addr, answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Server {
        Server::serves(on, answer, |stream, answer, shared| talk(&*stream, answer, shared))
    }

    pub fn secure(
        on: Ipv4Addr,
        authority: &Authority,
        answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
    ) -> Server {
        let config = authority.server();
        Server::serves(on, answer, move |stream, answer, shared| {
            let session = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
            talk(StreamOwned::new(session, &*stream), answer, shared)
        })
    }

    /// Answers no request, but sends session tickets as fast as it can.
    pub fn flooding(on: Ipv4Addr, authority: &Authority) -> Server {
        let config = authority.server();
        let answer = |_: &str| ok("");
        Server::serves(on, answer, move |stream, _, shared| {
            let session = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
            let mut stream = StreamOwned::new(session, &*stream);
            read_head(&mut stream)?;
            shared.requests.fetch_add(1, Ordering::SeqCst);
            let (session, mut stream) = stream.into_parts();
            let mut forge = Forge::new(session);
            loop {
                stream.write_all(&forge.handshake(&ticket(200)))?;
            }
        })
    }

    fn serves<A>(
        on: Ipv4Addr,
        answer: A,
        serve: impl Fn(Arc<TcpStream>, &A, &Shared) -> io::Result<()> + Send + Sync + 'static,
    ) -> Server
    where
        A: Fn(&str) -> Answer + Send + Sync + 'static,
    {
        let listener = TcpListener::bind((on, 0)).expect("there is a port");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let (answer, serve) = (Arc::new(answer), Arc::new(serve));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = Arc::new(stream.expect("a client connects"));
                own.connections.fetch_add(1, Ordering::SeqCst);
                *own.last.lock().expect("no thread panics while it holds the lock") =
                    Some(Arc::clone(&stream));
                let (own, answer, serve) =
                    (Arc::clone(&own), Arc::clone(&answer), Arc::clone(&serve));
                // If the client breaks the connection off, the server ignores that.
                thread::spawn(move || serve(stream, &*answer, &own));
            }
        });
        Server { address, shared }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn url(&self, host: &str) -> String {
        format!("http://{host}:{}/", self.port())
    }

    pub fn secure_url(&self, host: &str) -> String {
        format!("https://{host}:{}/", self.port())
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    pub fn last_line(&self) -> Line {
        let last =
            self.shared.last.lock().expect("no thread panics while it holds the lock").clone();
        Line(last.expect("a client has connected"))
    }
}

/// Answers requests until the client closes the connection.
fn talk(
    mut stream: impl Read + Write,
    answer: &impl Fn(&str) -> Answer,
    shared: &Shared,
) -> io::Result<()> {
    while let Some(head) = read_head(&mut stream)? {
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body)?;
        shared.requests.fetch_add(1, Ordering::SeqCst);
        let Answer { head, body, more, closes, trickles } = answer(&head);
        let end = if closes { "Connection: close\r\n" } else { "" };
        let length = body.len();
        let bytes = format!("HTTP/1.1 {head}\r\n{end}Content-Length: {length}\r\n\r\n{body}{more}");
        for piece in bytes.as_bytes().chunks(if trickles { 1 } else { bytes.len() }) {
            stream.write_all(piece)?;
            stream.flush()?;
            if trickles {
                thread::sleep(Duration::from_millis(10));
            }
        }
        if closes {
            break;
        }
    }
    Ok(())
}

/// Reads a head up to its empty line. Returns `None` if the client has closed the connection instead.
pub fn read_head(mut from: impl Read) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if from.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    Ok(Some(String::from_utf8_lossy(&head).into_owned()))
}

/// Checks that no client has connected to the listener.
#[track_caller]
pub fn nobody_came(listener: &TcpListener) {
    listener.set_nonblocking(true).expect("it can be");
    let error = listener.accept().expect_err("no client may connect");
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}

/// Issues a certificate for `good.test`.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub fn new() -> Authority {
        #[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
        let _ = ring::default_provider().install_default();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("the system has random numbers");
        let pem = params.self_signed(&key).expect("it can be signed").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// Returns options that trust this authority only.
    pub fn trusted(&self) -> TlsOptions {
        TlsOptions::new().only_added_roots().add_root_pem(&self.pem).expect("it is PEM")
    }

    fn server(&self) -> Arc<ServerConfig> {
        let names = vec!["good.test".to_owned()];
        let params = CertificateParams::new(names).expect("it is a name");
        let key = KeyPair::generate().expect("the system has random numbers");
        let leaf = params.signed_by(&key, &self.issuer).expect("it can be signed");
        let key = key.serialize_der().try_into().expect("it is a key");
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_no_client_auth()
            .with_single_cert(vec![leaf.into()], key)
            .expect("the key is the certificate's");
        // To seal records by hand.
        config.enable_secret_extraction = true;
        Arc::new(config)
    }
}
