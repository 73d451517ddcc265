//! A server for many clients, and an authority that revokes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};

use super::LIMIT;
use super::authority::Identity;

/// A server on loopback that answers every request over TLS until the process ends.
pub struct Server {
    address: SocketAddr,
}

impl Server {
    pub fn new(identity: &Identity) -> Server {
        Server::with(&(identity.chain(), identity.key()))
    }

    pub fn with((chain, key): &(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)) -> Server {
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has both versions")
            .with_no_client_auth()
            .with_single_cert(chain.clone(), key.clone_key())
            .expect("the key matches the certificate");
        let config = Arc::new(config);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let config = Arc::clone(&config);
                thread::spawn(move || serve(stream, config));
            }
        });
        Server { address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Answers one request. A client that refuses the certificate ends the connection, which is no error here.
fn serve(mut stream: TcpStream, config: Arc<ServerConfig>) {
    stream.set_read_timeout(Some(LIMIT)).expect("not zero");
    let mut session = ServerConnection::new(config).expect("the configuration is complete");
    let mut tls = Stream::new(&mut session, &mut stream);
    let mut request = [0; 4096];
    if tls.read(&mut request).is_ok_and(|count| count > 0) {
        let _ =
            tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    }
    session.send_close_notify();
    let _ = session.complete_io(&mut stream);
}

/// A root that knows the serial numbers of its certificates.
pub struct Revoking(CertifiedIssuer<'static, KeyPair>);

impl Revoking {
    pub fn new() -> Revoking {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "an authority that revokes");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, key());
        Revoking(issuer.expect("the parameters are valid"))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn issue(
        &self,
        serial: u64,
        name: &str,
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::new([name.to_owned()]).expect("it is a name");
        params.serial_number = Some(SerialNumber::from(serial));
        let key = key();
        let leaf = params.signed_by(&key, &self.0).expect("the parameters are valid");
        (vec![leaf.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    /// Returns a revocation list with these serial numbers, as PEM.
    pub fn list(&self, revoked: &[u64]) -> String {
        let revoked = revoked.iter().map(|&serial| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(4000, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.0).expect("the parameters are valid");
        list.pem().expect("it can be encoded")
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("the system has a random source")
}
