//! Shared by the tests of TLS servers: options, and checks after successful and failed handshakes.

use std::error::Error as _;
use std::io::{Read, Write};
use std::time::Instant;

use rustls::CertificateError::UnknownIssuer;
use rustls::Error::InvalidCertificate;
use sockeye::{
    Error, ErrorKind, Phase, SecureTransport, Socket, SocketAddress, SocketOptions, TlsOptions,
    TlsVersion,
};

use super::certificates::Certificates;
use super::harness::{LIMIT, Server};

/// Opens a socket on which every wait has a limit.
pub fn dial<A>(address: A, mode: SecureTransport, tls: TlsOptions) -> Socket
where
    A: TryInto<SocketAddress>,
    Error: From<A::Error>,
{
    let options = SocketOptions::new().secure_transport(mode).tls(tls).connect_timeout(LIMIT);
    let socket = sockeye::connect_with(address, options).unwrap();
    bound(&socket);
    socket
}

/// Limits every read and write of this socket.
pub fn bound(socket: &Socket) {
    socket.set_deadline(Some(Instant::now() + LIMIT));
}

/// Trusts only this authority.
pub fn trust_only(certificates: &Certificates) -> TlsOptions {
    TlsOptions::new().add_root_pem(&certificates.authority).unwrap().only_added_roots()
}

/// Trusts an authority that has not signed the server's certificate.
pub fn suspicious() -> TlsOptions {
    trust_only(&Certificates::new())
}

/// Waits for the handshake and checks its result.
#[track_caller]
pub fn check_secured(socket: &Socket) -> TlsVersion {
    let info = socket.opened().unwrap();
    let tls = info.tls().expect("the connection is secured");
    assert_eq!(
        tls.peer_certificates().len(),
        2,
        "the chain has the server's and the authority's certificate"
    );
    assert_eq!(socket.secure_transport(), SecureTransport::On);
    assert_eq!(socket.phase(), Phase::Open);
    tls.version()
}

/// Upgrades, and checks both sockets.
#[track_caller]
pub fn upgrade(plain: &Socket) -> Socket {
    let secured = plain.start_tls().unwrap();
    check_secured(&secured);
    assert!(plain.upgraded() && !secured.upgraded());
    plain.closed_timeout(LIMIT).unwrap();
    let error = plain.reader().read(&mut [0]).unwrap_err();
    assert_eq!(Error::from_io(&error).unwrap().kind(), ErrorKind::Upgraded);
    secured
}

/// Checks that an early write of a credential fails, and that the server receives an alert with the reason.
#[track_caller]
pub fn check_refused(socket: &Socket, server: &Server) {
    let error = socket.writer().write(b"secret").unwrap_err();
    assert_eq!(Error::from_io(&error).unwrap().kind(), ErrorKind::Tls, "{error}");
    let error = socket.opened().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    let source = error.source().and_then(|source| source.downcast_ref::<rustls::Error>());
    assert_eq!(source, Some(&InvalidCertificate(UnknownIssuer)));
    let error = socket.closed_timeout(LIMIT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    assert_eq!(socket.stats().bytes_written, 0);
    server.await_log("alert unknown ca");
}

/// Checks that no data follows and that the server ended cleanly: by default with `close_notify`.
#[track_caller]
pub fn check_clean_end(socket: &Socket) {
    let mut rest = Vec::new();
    socket.reader().read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
    socket.closed_timeout(LIMIT).unwrap();
    assert_eq!(socket.phase(), Phase::Closed);
}
