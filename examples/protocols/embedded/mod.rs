//! Shared code of the examples: an embedded server, arguments and error messages.

use std::error::Error;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::{ServerConfig, ServerConnection, crypto};
use sockeye::TlsOptions;

/// The limit for any wait of a server.
const LIMIT: Duration = Duration::from_secs(10);

/// Returns the arguments without `--ca FILE`, and TLS options that trust the usual roots and those of FILE.
pub fn arguments() -> Result<(Vec<String>, TlsOptions), Box<dyn Error>> {
    if cfg!(not(any(feature = "aws-lc-rs", feature = "ring"))) {
        // The library was built without a TLS provider, so the program installs one.
        let _ = crypto::ring::default_provider().install_default();
    }
    let mut tls = TlsOptions::new();
    let mut others = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--ca" {
            tls = tls.add_root_pem(fs::read(arguments.next().ok_or("--ca needs a file")?)?)?;
        } else {
            others.push(argument);
        }
    }
    Ok((others, tls))
}

/// Formats an error. If it wraps an error of sockeye, at any depth, the kind of that error comes first.
pub fn explain(error: Box<dyn Error>) -> Box<dyn Error> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&*error);
    while let Some(at) = cause {
        let inside = at.downcast_ref::<io::Error>().and_then(sockeye::Error::from_io);
        if let Some(own) = inside.or(at.downcast_ref()) {
            return format!("{:?}: {own}", own.kind()).into();
        }
        cause = at.source();
    }
    error
}

/// A server for one connection, on a thread, with a certificate of its own.
pub struct Embedded {
    /// Such as `localhost:50123`.
    pub address: String,
    authority: String,
    thread: JoinHandle<io::Result<()>>,
}

impl Embedded {
    /// Starts a server. `serve` gets the connection and the TLS configuration for it.
    pub fn start<F>(serve: F) -> Result<Self, Box<dyn Error>>
    where
        F: FnOnce(TcpStream, ServerConnection) -> io::Result<()> + Send + 'static,
    {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new([String::from("localhost")])?.self_signed(&key)?;
        let config = ServerConfig::builder_with_provider(crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into()?)?;
        let connection = ServerConnection::new(Arc::new(config))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = format!("localhost:{}", listener.local_addr()?.port());
        let thread = thread::spawn(move || {
            let (stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(LIMIT))?;
            stream.set_write_timeout(Some(LIMIT))?;
            serve(stream, connection)
        });
        Ok(Embedded { address, authority: certificate.pem(), thread })
    }

    /// Returns TLS options that trust only this server.
    pub fn trusted(&self) -> sockeye::Result<TlsOptions> {
        Ok(TlsOptions::new().add_root_pem(&self.authority)?.only_added_roots())
    }

    /// Waits until the connection was served, and returns its error.
    pub fn join(self) -> Result<(), Box<dyn Error>> {
        Ok(self.thread.join().map_err(|_| "the server has panicked")??)
    }
}
