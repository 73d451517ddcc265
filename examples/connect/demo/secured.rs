//! The TLS part of the demonstration: the same server, with a certificate of its own.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::{ServerConfig, ServerConnection, Stream, crypto};
use sockeye::{SecureTransport, SocketInfo, TlsOptions};

use super::{LIMIT, gopher, options, quote, start_server};

pub fn transcript(out: &mut impl Write) -> io::Result<()> {
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let certificate = CertificateParams::new([String::from("127.0.0.1")])
        .and_then(|params| params.self_signed(&key))
        .map_err(io::Error::other)?;
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            let key = key.serialize_der().try_into().expect("rcgen gives a key as PKCS #8");
            builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key)
        })
        .map_err(io::Error::other)?;
    let config = Arc::new(config);
    let server = start_server(move |stream| answer(stream, &config))?;

    let trusting = TlsOptions::new().add_root_pem(certificate.pem())?.only_added_roots();
    request(out, server, &trusting)?;
    resumed(out, server, &trusting)?;
    untrusted(out, server)
}

/// Shows a connection that is TLS from the start.
fn request(out: &mut impl Write, server: SocketAddr, tls: &TlsOptions) -> io::Result<()> {
    writeln!(out, "\n-- the same request over TLS, to {server}\n")?;
    let options = options().secure_transport(SecureTransport::On).tls(tls.clone());
    let socket = sockeye::connect_with(server, options)?;
    writeln!(out, "connect({server}) with SecureTransport::On")?;
    writeln!(out, "opened()\n    {}", agreed(&socket.opened()?))?;
    socket.writer().write_all(b"/salmon\r\n")?;
    socket.writer().close()?;
    writeln!(out, "writer.write_all(\"/salmon\\r\\n\"), writer.close()")?;
    let mut answer = String::new();
    socket.reader().read_to_string(&mut answer)?;
    writeln!(out, "reader.read_to_string()")?;
    quote(out, &answer)?;
    writeln!(out, "    then the server's close_notify: nothing was cut off")?;
    Ok(socket.closed_timeout(LIMIT)?)
}

/// Shows that a second connection with equal options resumes the session.
fn resumed(out: &mut impl Write, server: SocketAddr, tls: &TlsOptions) -> io::Result<()> {
    let options = options().secure_transport(SecureTransport::On).tls(tls.clone());
    let socket = sockeye::connect_with(server, options)?;
    writeln!(out, "connect() and opened() once more")?;
    writeln!(out, "    {}", agreed(&socket.opened()?))?;
    Ok(socket.close()?)
}

/// Shows the error for a certificate that is not trusted.
fn untrusted(out: &mut impl Write, server: SocketAddr) -> io::Result<()> {
    writeln!(out, "\n-- a server with an untrusted certificate\n")?;
    let options = options().secure_transport(SecureTransport::On);
    let socket = sockeye::connect_with(server, options)?;
    writeln!(out, "connect({server}) without its certificate as a root\nopened()")?;
    match socket.opened() {
        Ok(_) => Err(io::Error::other("a certificate of its own making was trusted")),
        Err(error) => writeln!(out, "    Err({:?})\n    \"{error}\"", error.kind()),
    }
}

fn agreed(info: &SocketInfo) -> String {
    let Some(tls) = info.tls() else { return String::from("plaintext") };
    let session = if tls.resumed() { "the first session resumed" } else { "a new session" };
    let handshake = info.timings().handshake;
    let (version, suite) = (tls.version(), tls.cipher_suite_name());
    format!("{version}, {suite}, {session}, handshake {handshake:.1?}")
}

/// Serves a TLS connection.
fn answer(mut stream: TcpStream, config: &Arc<ServerConfig>) -> io::Result<()> {
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let mut tls = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    gopher(&mut Stream::new(&mut tls, &mut stream))?;
    tls.send_close_notify();
    while tls.wants_write() {
        tls.write_tls(&mut stream)?;
    }
    stream.shutdown(Shutdown::Write)?;
    // The kernel would reset the connection if the client's close_notify stayed unread.
    io::copy(&mut stream, &mut io::sink())?;
    Ok(())
}
