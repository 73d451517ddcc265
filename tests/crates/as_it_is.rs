//! Crates for TLS over a socket in plaintext: each as a client and as a server, with each other.

use std::fmt::Debug;
use std::io::{Read, Write};
use std::sync::Arc;
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use sockeye::{ListenOptions, Socket, listen_with};

use crate::certificates::Certificates;
use crate::support::{connect, plain, within};

/// More than one record, and more than a buffer.
const SIZE: usize = 300_000;

/// A TLS stream that can be ended cleanly.
trait Stream: Read + Write {
    fn end(&mut self);
}

impl Stream for rustls::StreamOwned<ClientConnection, Socket> {
    fn end(&mut self) {
        self.conn.send_close_notify();
        self.flush().expect("the socket is open");
    }
}

impl Stream for rustls::StreamOwned<ServerConnection, Socket> {
    fn end(&mut self) {
        self.conn.send_close_notify();
        self.flush().expect("the socket is open");
    }
}

impl Stream for native_tls::TlsStream<Socket> {
    fn end(&mut self) {
        self.shutdown().expect("the socket is open");
    }
}

impl Stream for openssl::ssl::SslStream<Socket> {
    fn end(&mut self) {
        self.shutdown().expect("the socket is open");
    }
}

#[derive(Clone, Copy, Debug)]
enum Library {
    Rustls,
    NativeTls,
    OpenSsl,
}

const LIBRARIES: [Library; 3] = [Library::Rustls, Library::NativeTls, Library::OpenSsl];

fn client(library: Library, socket: Socket, certificates: &Certificates) -> Box<dyn Stream> {
    let authority = certificates.authority.as_bytes();
    match library {
        Library::Rustls => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority).unwrap()).unwrap();
            let config =
                ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
            let name = ServerName::try_from("localhost").unwrap();
            let connection = ClientConnection::new(Arc::new(config), name).unwrap();
            Box::new(rustls::StreamOwned::new(connection, socket))
        }
        Library::NativeTls => {
            let authority = native_tls::Certificate::from_pem(authority).unwrap();
            let connector = native_tls::TlsConnector::builder()
                .disable_built_in_roots(true)
                .add_root_certificate(authority)
                .build();
            Box::new(connector.unwrap().connect("localhost", socket).unwrap())
        }
        Library::OpenSsl => {
            let method = openssl::ssl::SslMethod::tls_client();
            let mut builder = openssl::ssl::SslConnector::builder(method).unwrap();
            let authority = openssl::x509::X509::from_pem(authority).unwrap();
            builder.cert_store_mut().add_cert(authority).unwrap();
            Box::new(builder.build().connect("localhost", socket).unwrap())
        }
    }
}

fn server(library: Library, socket: Socket, certificates: &Certificates) -> Box<dyn Stream> {
    let (chain, key) = (certificates.server_chain.as_bytes(), certificates.server_key.as_bytes());
    match library {
        Library::Rustls => {
            let chain = CertificateDer::pem_slice_iter(chain).map(Result::unwrap).collect();
            let key = PrivateKeyDer::from_pem_slice(key).unwrap();
            let config =
                ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
            let connection = ServerConnection::new(Arc::new(config)).unwrap();
            Box::new(rustls::StreamOwned::new(connection, socket))
        }
        Library::NativeTls => {
            let identity = native_tls::Identity::from_pkcs8(chain, key).unwrap();
            let acceptor = native_tls::TlsAcceptor::new(identity).unwrap();
            Box::new(acceptor.accept(socket).unwrap())
        }
        Library::OpenSsl => {
            let method = openssl::ssl::SslMethod::tls_server();
            let mut builder = openssl::ssl::SslAcceptor::mozilla_intermediate_v5(method).unwrap();
            let chain = openssl::x509::X509::stack_from_pem(chain).unwrap();
            builder.set_certificate(&chain[0]).unwrap();
            for authority in &chain[1..] {
                builder.add_extra_chain_cert(authority.clone()).unwrap();
            }
            let key = openssl::pkey::PKey::private_key_from_pem(key).unwrap();
            builder.set_private_key(&key).unwrap();
            Box::new(builder.build().accept(socket).unwrap())
        }
    }
}

/// Sends data to the server and back, and ends cleanly.
fn check(clients: Library, servers: Library) {
    // Each process needs one provider, and the library may have none.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificates = Arc::new(Certificates::new());
    let listener = listen_with("127.0.0.1:0", ListenOptions::new().socket(plain())).unwrap();
    let address = listener.local_address().unwrap();
    let serving = thread::spawn({
        let certificates = Arc::clone(&certificates);
        move || {
            let mut stream = server(servers, listener.accept().unwrap(), &certificates);
            let mut data = vec![0; SIZE];
            stream.read_exact(&mut data).unwrap();
            stream.write_all(&data).unwrap();
            stream.flush().unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the client ends cleanly");
        }
    });
    let mut stream = client(clients, connect(address), &certificates);
    let data: Vec<u8> = (0..SIZE).map(|at| (at % 251) as u8).collect();
    stream.write_all(&data).unwrap();
    stream.flush().unwrap();
    let mut back = vec![0; SIZE];
    stream.read_exact(&mut back).unwrap();
    assert!(back == data, "{clients:?} with {servers:?}");
    stream.end();
    drop(stream);
    serving.join().unwrap_or_else(|_| panic!("the server {servers:?} of {clients:?} failed"));
}

#[test]
fn rustls_native_tls_and_openssl_talk_over_sockets() {
    within(|| {
        for clients in LIBRARIES {
            for servers in LIBRARIES {
                check(clients, servers);
            }
        }
    });
}
