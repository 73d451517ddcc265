//! What most tests need: a time limit, and a port forward.

#[path = "../it/support/skips.rs"]
mod skips;

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sockeye::{
    Connector, ListenOptions, Listener, SecureTransport, Socket, SocketOptions, TlsOptions,
    listen_with, tunnel,
};

/// The limit for each wait, and for a whole test.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Records why a test cannot run here.
pub fn skip(id: &str, reason: &str) {
    skips::note(id, reason);
}

/// Runs a test that has to end by itself.
#[track_caller]
pub fn within<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, ended) = mpsc::channel();
    let running = thread::spawn(move || {
        let value = work();
        let _ = tell.send(());
        value
    });
    // The sender is dropped if the test panics.
    if ended.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("still running after {LIMIT:?}");
    }
    match running.join() {
        Ok(value) => value,
        Err(payload) => std::panic::resume_unwind(payload),
    }
}

/// The options of a socket in plaintext.
pub fn plain() -> SocketOptions {
    SocketOptions::new().connect_timeout(LIMIT).read_timeout(LIMIT).write_timeout(LIMIT)
}

/// The options of a socket over TLS to a server of this authority.
pub fn secured(authority: &str) -> SocketOptions {
    let tls = TlsOptions::new().add_root_pem(authority).expect("it is a certificate");
    plain().secure_transport(SecureTransport::On).tls(tls.server_name("localhost"))
}

pub fn connect(address: SocketAddr) -> Socket {
    sockeye::connect_with(address, plain()).expect("the options are valid")
}

/// A port forward on loopback, as the guide shows it. The drop ends it.
pub struct Forward {
    listener: Listener,
    serving: Option<JoinHandle<sockeye::Result<()>>>,
}

impl Forward {
    pub fn to(target: SocketAddr) -> Self {
        Self::with(target, plain(), ListenOptions::new())
    }

    /// Dials with these options, such as TLS, and accepts with those.
    pub fn with(target: SocketAddr, dial: SocketOptions, accept: ListenOptions) -> Self {
        let listener = listen_with("127.0.0.1:0", accept).expect("a port is free");
        let accepting = listener.clone();
        let serving = thread::spawn(move || {
            accepting.serve(8, |client| {
                match Connector::global().connect_with(target, dial.clone()) {
                    // Each side says why it failed, if it did.
                    Ok(server) => drop(tunnel(&client, &server, LIMIT)),
                    Err(_) => client.abort(),
                }
            })
        });
        Forward { listener, serving: Some(serving) }
    }

    /// The address to give to the other crate.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_address().expect("it is a TCP listener")
    }

    /// The number of connections that came so far.
    pub fn count(&self) -> u64 {
        self.listener.stats().accepted
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        // Whatever a client has left open.
        let _ = self.listener.shutdown(Duration::ZERO);
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}
