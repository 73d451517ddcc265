//! An `https` proxy between a machine and its peer: it decrypts one layer, answers the request, and passes the rest on.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::{ServerConnection, SupportedProtocolVersion};

use super::site::{address, server_config, site};
use crate::machine::{Config, Route};
use crate::{Proxy, TlsOptions};

/// The answer of a proxy that accepts.
pub(super) const ACCEPTED: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

pub(super) struct HttpsProxy {
    pub(super) connection: ServerConnection,
    /// The request, while it is not complete.
    head: Vec<u8>,
    /// What follows the request at once.
    answer: Vec<u8>,
    /// Whether it answers before it was asked.
    pub(super) is_early: bool,
    /// Whether it ends as soon as the handshake is over.
    pub(super) leaves_early: bool,
    /// The target that the request has to name.
    pub(super) expected: &'static str,
    pub(super) is_asked: bool,
    pub(super) saw_close_notify: bool,
}

impl HttpsProxy {
    pub(super) fn new(version: &'static SupportedProtocolVersion, answer: &[u8]) -> Self {
        let config = Arc::new(server_config(version));
        let mut connection = ServerConnection::new(config).unwrap();
        connection.set_buffer_limit(None);
        HttpsProxy {
            connection,
            head: Vec::new(),
            answer: answer.to_vec(),
            is_early: false,
            leaves_early: false,
            expected: "target.test:443",
            is_asked: false,
            saw_close_notify: false,
        }
    }

    /// Handles what the machine sent. Returns what follows the request.
    pub(super) fn pass_up(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut passed = Vec::new();
        while !bytes.is_empty() {
            let took = self.connection.read_tls(&mut bytes).unwrap_or(0);
            if took == 0 {
                break;
            }
            let state = match self.connection.process_new_packets() {
                Ok(state) => state,
                // The machine does not trust the certificate.
                Err(rustls::Error::AlertReceived(_)) => break,
                Err(error) => panic!("the proxy rejects the machine's records: {error}"),
            };
            self.saw_close_notify |= state.peer_has_closed();
            let mut buf = [0; 4096];
            while let Ok(bytes @ 1..) = self.connection.reader().read(&mut buf) {
                passed.extend_from_slice(&buf[..bytes]);
            }
        }
        if self.is_asked {
            return passed;
        }
        self.head.append(&mut passed);
        if self.head.ends_with(b"\r\n\r\n") {
            let request = format!("CONNECT {} HTTP/1.1\r\n", self.expected);
            assert!(self.head.starts_with(request.as_bytes()));
            self.is_asked = true;
            let answer = std::mem::take(&mut self.answer);
            self.connection.writer().write_all(&answer).unwrap();
        }
        Vec::new()
    }

    /// Returns what the machine gets: these bytes, after all that was written before.
    pub(super) fn pass_down(&mut self, data: &[u8]) -> Vec<u8> {
        if self.is_early && !self.connection.is_handshaking() {
            self.connection.writer().write_all(ACCEPTED).unwrap();
            self.is_early = false;
        }
        if self.leaves_early && !self.connection.is_handshaking() {
            self.connection.send_close_notify();
            self.leaves_early = false;
        }
        self.connection.writer().write_all(data).unwrap();
        let mut bytes = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut bytes).unwrap();
        }
        bytes
    }
}

/// Returns a proxy that a machine trusts. If it `is_foreign`, code of the program runs for it.
pub(super) fn proxy(is_foreign: bool) -> Proxy {
    let options = TlsOptions::new().add_root_pem(site().certificate.pem()).unwrap();
    let options = options.only_added_roots().server_name("a.test");
    let options = if is_foreign { options.add_verifier(|_| Ok(())) } else { options };
    Proxy::https(address(), options).unwrap()
}

/// Sends a machine with this configuration through the proxy.
pub(super) fn route(config: &mut Config, proxy: &Proxy) {
    config.route = Some(Route::new(proxy, &"target.test:443".parse().unwrap()).unwrap());
}
