//! Echoes WebSocket messages, for the test suite of Autobahn: over sockets of this crate, or over `std`.
//!
//! ```text
//! autobahn client std|sockeye ADDRESS AGENT [CA]       runs all cases of the suite's server
//! autobahn server std|sockeye ADDRESS [CHAIN KEY]      serves the suite's client, until it is killed
//! ```
//!
//! It uses TLS if there is a file with the authority, or with the server's chain: that of the socket, or rustls over
//! `std`.

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use sockeye::{
    Identity, ListenOptions, SecureTransport, ServerTlsOptions, SocketOptions, TlsOptions,
};
use tungstenite::{HandshakeError, Message, WebSocket};

type Failure = Box<dyn Error + Send + Sync>;

trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// The maximum number of connections that the server serves at once.
const MAX_CLIENTS: usize = 8;

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["client", transport, address, agent] => client(transport, address, agent, None),
        ["client", transport, address, agent, ca] => client(transport, address, agent, Some(ca)),
        ["server", "std", address] => serve_std(address, None),
        ["server", "std", address, chain, key] => {
            let chain = CertificateDer::pem_file_iter(chain)?.collect::<Result<Vec<_>, _>>()?;
            let key = PrivateKeyDer::from_pem_file(key)?;
            let config = ServerConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_single_cert(chain, key)?;
            serve_std(address, Some(Arc::new(config)))
        }
        ["server", "sockeye", address] => serve_sockeye(address, SocketOptions::new()),
        ["server", "sockeye", address, chain, key] => {
            let tls = ServerTlsOptions::new(Identity::from_pem_files(chain, key)?);
            let options = SocketOptions::new().secure_transport(SecureTransport::On);
            serve_sockeye(address, options.server_tls(tls))
        }
        _ => Err("see the beginning of the source".into()),
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

// -------------------------------------------------------------------- the client

fn client(transport: &str, address: &str, agent: &str, ca: Option<&str>) -> Result<(), Failure> {
    let open = |path: &str| -> Result<WebSocket<Box<dyn Stream>>, Failure> {
        let stream = dial(transport, address, ca)?;
        let scheme = if ca.is_some() { "wss" } else { "ws" };
        Ok(tungstenite::client(format!("{scheme}://{address}/{path}"), stream).map_err(failure)?.0)
    };
    let count: u32 = open("getCaseCount")?.read()?.into_text()?.as_str().parse()?;
    for case in 1..=count {
        echo(open(&format!("runCase?case={case}&agent={agent}"))?);
    }
    echo(open(&format!("updateReports?agent={agent}"))?);
    Ok(())
}

fn dial(transport: &str, address: &str, ca: Option<&str>) -> Result<Box<dyn Stream>, Failure> {
    match (transport, ca) {
        ("std", ca) => {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            let Some(ca) = ca else { return Ok(Box::new(stream)) };
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(ca)?)?;
            let config = ClientConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots)
                .with_no_client_auth();
            let name = ServerName::try_from("localhost")?;
            let connection = ClientConnection::new(Arc::new(config), name)?;
            Ok(Box::new(StreamOwned::new(connection, stream)))
        }
        ("sockeye", None) => Ok(Box::new(sockeye::connect(address)?)),
        ("sockeye", Some(ca)) => {
            let tls = TlsOptions::new().trust_only_pem(fs::read(ca)?)?.server_name("localhost");
            let options = SocketOptions::new().secure_transport(SecureTransport::On).tls(tls);
            Ok(Box::new(sockeye::connect_with(address, options)?))
        }
        _ => Err("neither std nor sockeye".into()),
    }
}

// -------------------------------------------------------------------- the server

fn serve_std(address: &str, tls: Option<Arc<ServerConfig>>) -> Result<(), Failure> {
    for stream in TcpListener::bind(address)?.incoming() {
        let (stream, tls) = (stream?, tls.clone());
        thread::spawn(move || -> Result<(), Failure> {
            stream.set_nodelay(true)?;
            match tls {
                Some(config) => answer(StreamOwned::new(ServerConnection::new(config)?, stream)),
                None => answer(stream),
            }
            Ok(())
        });
    }
    Ok(())
}

fn serve_sockeye(address: &str, options: SocketOptions) -> Result<(), Failure> {
    let listener = sockeye::listen_with(address, ListenOptions::new().socket(options))?;
    Ok(listener.serve(MAX_CLIENTS, answer)?)
}

fn answer(stream: impl Read + Write) {
    match tungstenite::accept(stream) {
        Ok(socket) => echo(socket),
        Err(error) => eprintln!("{}", failure(error)),
    }
}

/// Echoes until the connection ends.
fn echo(mut socket: WebSocket<impl Read + Write>) {
    let ended = loop {
        match socket.read() {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => match socket.send(message) {
                Ok(()) => {}
                Err(error) => break error,
            },
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    match ended {
        tungstenite::Error::ConnectionClosed
        | tungstenite::Error::Protocol(_)
        | tungstenite::Error::Utf8(_) => {}
        other => eprintln!("{other}"),
    }
}

fn failure<R: tungstenite::handshake::HandshakeRole>(error: HandshakeError<R>) -> Failure {
    match error {
        HandshakeError::Failure(error) => error.into(),
        HandshakeError::Interrupted(_) => "a blocking stream would block".into(),
    }
}
