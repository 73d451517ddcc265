//! The contenders over TLS: `sockeye`, and rustls's own blocking stream as the reference.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use sockeye::{SecureTransport, SocketOptions, TlsOptions};

use super::{Identity, SERVER_NAME, provider};
use crate::api::{BenchStream, SharedStream};

/// The stream of a program without `sockeye`. One thread reads and writes in turn, so a `RefCell` suffices to use it
/// through a shared reference.
pub struct StreamOwned(RefCell<rustls::StreamOwned<ClientConnection, TcpStream>>);

impl BenchStream for StreamOwned {
    fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = <TcpStream as BenchStream>::open(address)?;
        let name = ServerName::try_from(SERVER_NAME).expect("the constant is a DNS name");
        let connection = ClientConnection::new(config()?, name).map_err(io::Error::other)?;
        let mut stream = rustls::StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self(RefCell::new(stream)))
    }

    fn connect_and_close(address: SocketAddr) -> io::Result<()> {
        let mut stream = Self::open(address)?.0.into_inner();
        stream.conn.send_close_notify();
        stream.conn.complete_io(&mut stream.sock)?;
        Ok(())
    }

    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(buf)
    }

    fn write(&self, buf: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(buf)
    }

    fn limit_reads(&self, limit: Duration) -> io::Result<()> {
        self.0.borrow().sock.set_read_timeout(Some(limit))
    }
}

/// Returns the configuration, which all connections share, as rustls recommends.
pub fn config() -> io::Result<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let certificate = CertificateDer::from_pem_slice(Identity::inherited()?.certificate.as_bytes());
    let mut roots = RootCertStore::empty();
    roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    let config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::clone(CONFIG.get_or_init(|| Arc::new(config))))
}

/// `sockeye` over TLS.
pub struct SecureSocket(sockeye::Socket);

impl BenchStream for SecureSocket {
    fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = sockeye::connect_with(address, options()?)?;
        socket.opened()?;
        Ok(Self(socket))
    }

    fn connect_and_close(address: SocketAddr) -> io::Result<()> {
        Ok(Self::open(address)?.0.close()?)
    }

    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        BenchStream::read(&self.0, buf)
    }

    fn write(&self, buf: &[u8]) -> io::Result<usize> {
        BenchStream::write(&self.0, buf)
    }

    fn limit_reads(&self, limit: Duration) -> io::Result<()> {
        self.0.limit_reads(limit)
    }
}

impl SharedStream for SecureSocket {
    fn interrupt(&self) -> io::Result<()> {
        self.0.interrupt()
    }

    fn expire(&self) -> io::Result<()> {
        self.0.expire()
    }
}

/// Returns the options, which all connections share like the reference's configuration.
fn options() -> io::Result<SocketOptions> {
    static OPTIONS: OnceLock<SocketOptions> = OnceLock::new();
    if let Some(options) = OPTIONS.get() {
        return Ok(options.clone());
    }
    // If the crate is built without a provider, it uses the one that the program installed.
    if cfg!(not(any(feature = "aws-lc-rs", feature = "ring"))) {
        provider().install_default().ok();
    }
    let tls = TlsOptions::new()
        .server_name(SERVER_NAME)
        .add_root_pem(Identity::inherited()?.certificate)?
        .only_added_roots();
    let options = SocketOptions::new().secure_transport(SecureTransport::On).tls(tls);
    Ok(OPTIONS.get_or_init(|| options).clone())
}
