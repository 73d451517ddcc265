//! The server over TLS: rustls over `std::net`. Its buffers are larger than rustls's own, so that the server is not
//! the bottleneck.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;
use rustls::{CipherSuite, ServerConfig, ServerConnection, StreamOwned};

use super::{Identity, provider};
use crate::api::SecureService;
use crate::server::exchange::{echo, sink, source};

/// Serves a connection, and returns the stream if it is to stay open. Errors of a connection are ignored, because
/// clients come and go.
pub fn receive(service: SecureService, stream: TcpStream) -> io::Result<Option<TcpStream>> {
    let config = config()?;
    // Connections that arrive one at a time need no thread of their own.
    match service {
        SecureService::Echo => spawn_service(config, stream, |mut stream| echo(&mut stream, || ())),
        SecureService::Sink => spawn_service(config, stream, sink),
        SecureService::Source => spawn_service(config, stream, source),
        SecureService::SinkAndSource => spawn_service(config, stream, sink_and_source),
        SecureService::Close => {
            shake_hands(config, stream).and_then(|mut stream| stream.read(&mut [0])).ok();
        }
        SecureService::EchoThenHold => {
            return Ok(shake_hands(config, stream).and_then(echo_once).ok());
        }
    }
    Ok(None)
}

fn spawn_service(
    config: Arc<ServerConfig>,
    stream: TcpStream,
    work: fn(SecureStream) -> io::Result<()>,
) {
    thread::spawn(move || shake_hands(config, stream).and_then(work).ok());
}

type SecureStream = StreamOwned<ServerConnection, Buffered>;

fn shake_hands(config: Arc<ServerConfig>, stream: TcpStream) -> io::Result<SecureStream> {
    stream.set_nodelay(true)?;
    let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
    connection.set_buffer_limit(None);
    let stream = Buffered(BufReader::with_capacity(BUFFER, stream));
    let mut stream = StreamOwned::new(connection, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// Returns the bare stream without its TLS state, because the server's memory is not measured and the client sees no
/// difference.
fn echo_once(mut stream: SecureStream) -> io::Result<TcpStream> {
    let mut buf = [0; 4 * 1024];
    let count = stream.read(&mut buf)?;
    stream.write_all(&buf[..count])?;
    Ok(stream.sock.0.into_inner())
}

/// Runs two threads that share the TLS state but wait for the wire independently.
fn sink_and_source(stream: SecureStream) -> io::Result<()> {
    let StreamOwned { conn, sock: Buffered(mut incoming) } = stream;
    let mut outgoing = incoming.get_ref().try_clone()?;
    // Guards the TLS state in memory. No thread holds it during a system call.
    let connection = Arc::new(Mutex::new(conn));

    let shared = Arc::clone(&connection);
    thread::spawn(move || -> io::Result<()> {
        let plaintext = vec![0x5a; BUFFER / 2];
        let mut records = Vec::with_capacity(BUFFER);
        loop {
            let mut connection = shared.lock().expect("a panic ends this process at once");
            connection.writer().write_all(&plaintext)?;
            while connection.wants_write() {
                connection.write_tls(&mut records)?;
            }
            drop(connection);
            outgoing.write_all(&records)?;
            records.clear();
        }
    });

    loop {
        let mut records = incoming.fill_buf()?;
        let count = records.len();
        if count == 0 {
            return Ok(());
        }
        let mut connection = connection.lock().expect("a panic ends this process at once");
        while !records.is_empty() {
            connection.read_tls(&mut records)?;
            let state = connection.process_new_packets().map_err(io::Error::other)?;
            let plaintext = state.plaintext_bytes_to_read();
            io::copy(&mut connection.reader().take(plaintext as u64), &mut io::sink())?;
        }
        drop(connection);
        incoming.consume(count);
    }
}

fn config() -> io::Result<Arc<ServerConfig>> {
    static CONFIG: OnceLock<Arc<ServerConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let identity = Identity::inherited()?;
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(io::Error::other)?;
    let mut provider = provider();
    provider.cipher_suites.retain(|suite| suite.suite() == CipherSuite::TLS13_AES_256_GCM_SHA384);
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.map_err(io::Error::other)?], key)
        .map_err(io::Error::other)?;
    config.send_tls13_tickets = 0;
    Ok(Arc::clone(CONFIG.get_or_init(|| Arc::new(config))))
}

/// Reads many records from the kernel at a time; rustls asks for 4 KiB.
struct Buffered(BufReader<TcpStream>);

impl Read for Buffered {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Buffered {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.get_mut().write(buf)
    }

    fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.get_mut().write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const BUFFER: usize = 256 * 1024;
