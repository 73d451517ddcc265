//! Panics of the crate while a listener accepts, which are bugs: every wait still ends, and nothing is lost for ever.
//! Also the counts of connections that give way to others.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::{AcceptLimit, ListenConfig, ListenSettings, ListenerInner};
use crate::driver::connection::Connection;
use crate::driver::ops::accept::AcceptedOptions;
use crate::driver::registry::Member;
use crate::driver::sys::bind_options::{BindOptions, PathOptions};
use crate::driver::sys::listen::ListenAddress;
use crate::egress::IngressRules;
use crate::error::ErrorKind;
use crate::options::{SecureTransport, SocketOptions, TcpOptions};
use crate::tls::TlsOptions;

const WATCHDOG: Duration = Duration::from_secs(20);

impl ListenerInner {
    /// Panics if the test has asked for it.
    pub(super) fn panic_if_planted(&self) {
        if self.panics.swap(false, Ordering::Relaxed) {
            // Unlike panic!, this prints nothing.
            resume_unwind(Box::new("a panic for a test"));
        }
    }
}

struct Test {
    listener: Arc<ListenerInner>,
}

impl Test {
    fn listening(when_opened: bool, socket: SocketOptions) -> Self {
        let settings = ListenSettings {
            accepted: AcceptedOptions { socket, handshake_timeout: WATCHDOG },
            ingress: Arc::new(IngressRules::allow_all()),
            header_nets: Vec::new(),
            allowed_uids: None,
            when_opened,
            max_pending: 8,
            wait_at_limit: true,
        };
        let tcp = TcpOptions::default();
        let path = PathOptions::default();
        let bind = BindOptions { backlog: 8, reuse_port: false, only_v6: false, tcp, path };
        let config = ListenConfig { bind, settings, max_open_sockets: Some(1), shared: None };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = ListenerInner::listen(&[address], config).expect("a port is free");
        Test { listener }
    }

    fn address(&self) -> SocketAddr {
        match self.listener.local_address() {
            ListenAddress::Ip(address) => *address,
            ListenAddress::Unix(_) => unreachable!("it listens for TCP"),
        }
    }

    fn client(&self) -> TcpStream {
        let client = TcpStream::connect(self.address()).expect("it listens");
        client.set_read_timeout(Some(WATCHDOG)).expect("the limit is not zero");
        client
    }

    fn plant(&self) {
        self.listener.panics.store(true, Ordering::Relaxed);
    }

    /// Waits until the panic has happened.
    fn wait_panicked(&self) {
        wait_until("something is accepted", || !self.listener.panics.load(Ordering::Relaxed));
    }

    /// Waits for a connection that is opening, and takes it, as the event loop does to make room.
    fn oldest(&self) -> Arc<Connection> {
        wait_until("it is opening", || self.listener.stats().pending == 1);
        self.listener.state().opening.take(|_| true).expect("it cannot open")
    }

    /// Checks that the end comes, and that the reserved slot is free.
    #[track_caller]
    fn assert_ends(&self, expected: Result<(), ErrorKind>) {
        let closed = self.listener.closed(Some(WATCHDOG)).map_err(|error| error.kind());
        assert_eq!(closed, expected);
        let kind = self.listener.accept(AcceptLimit::default(), None).unwrap_err().kind();
        assert_eq!(kind, expected.err().unwrap_or(ErrorKind::Closed));
        assert_eq!(self.listener.state().uses, 0);
        assert_eq!(self.listener.registry().open_sockets(), 0);
        TcpStream::connect(self.address()).expect_err("nothing listens");
    }
}

#[track_caller]
fn wait_until(what: &str, mut is_it: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_it() {
        assert!(begun.elapsed() < WATCHDOG, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A TLS client, which sends a ClientHello and waits.
fn secured() -> SocketOptions {
    let tls = TlsOptions::new().server_name("localhost");
    SocketOptions::new().secure_transport(SecureTransport::On).tls(tls)
}

#[test]
fn a_panic_of_the_event_loop_while_it_accepts_ends_every_wait() {
    let test = Test::listening(true, SocketOptions::new());
    let closing = thread::spawn({
        let listener = Arc::clone(&test.listener);
        move || listener.closed(Some(WATCHDOG)).map_err(|error| error.kind())
    });
    test.plant();
    let _client = test.client();
    test.wait_panicked();
    assert_eq!(closing.join().expect("no panic there"), Err(ErrorKind::Io));
    test.assert_ends(Err(ErrorKind::Io));
}

#[test]
fn a_panic_while_a_close_accepts_the_rest_ends_every_wait() {
    let test = Test::listening(false, SocketOptions::new());
    let _clients = [test.client(), test.client()];
    test.plant();
    catch_unwind(AssertUnwindSafe(|| test.listener.close())).expect_err("the close panics");
    test.assert_ends(Ok(()));
}

/// The slot of the connection is free again, and so is the turn.
#[test]
fn after_a_panic_of_an_accept_the_next_one_works() {
    let test = Test::listening(false, SocketOptions::new());
    for _ in 0..3 {
        let _lost = test.client();
        test.plant();
        let limit = AcceptLimit { timeout: Some(WATCHDOG), ..AcceptLimit::default() };
        let accepted = catch_unwind(AssertUnwindSafe(|| test.listener.accept(limit, None)));
        accepted.map(drop).expect_err("the accept panics");
        let _client = test.client();
        let socket = test.listener.accept(limit, None).expect("the only slot is free");
        socket.drop_handle();
        assert_eq!(test.listener.state().accepters, 0);
    }
    test.listener.abort_listening();
    test.assert_ends(Ok(()));
}

/// A socket that fails internally while it opens is not waited for any longer.
#[test]
fn a_panic_of_an_opening_socket_ends_the_wait_for_it() {
    let test = Test::listening(true, secured());
    let mut client = test.client();
    // Its ClientHello.
    assert!(client.read(&mut [0; 1]).expect("the socket sends") > 0);
    let opening = test.listener.state().opening.first().expect("it is opening");
    opening.state().machine.panic_after(0);
    test.listener.close();
    // The event loop handles the end of the peer.
    drop(client);
    test.assert_ends(Ok(()));
}

/// Between the choice of the oldest connection and its reset, another thread may open it or make it fail.
#[test]
fn a_displaced_connection_counts_once() {
    let check = |test: Test, expected: [u64; 2], what| {
        let stats = test.listener.stats();
        assert_eq!([stats.opened, stats.failed], expected, "{what}");
        assert_eq!((stats.accepted, stats.pending), (1, 0), "{what}");
        test.listener.abort_listening();
        test.assert_ends(Ok(()));
    };

    let silent = Test::listening(true, secured());
    let _client = silent.client();
    silent.listener.reset_displaced(&silent.oldest());
    check(silent, [0, 1], "it was opening");

    let failing = Test::listening(true, secured());
    let mut client = failing.client();
    let oldest = failing.oldest();
    client.write_all(b"no TLS").expect("the socket is connected");
    wait_until("it fails", || oldest.totals().opened.is_some());
    failing.listener.reset_displaced(&oldest);
    check(failing, [0, 1], "it failed in the meantime");

    let opened = Test::listening(true, SocketOptions::new());
    let _client = opened.client();
    let mut oldest = None;
    wait_until("it opens", || {
        oldest = opened.listener.state().ready.pop_front();
        oldest.is_some()
    });
    opened.listener.reset_displaced(&oldest.expect("it was waited for"));
    check(opened, [1, 0], "it opened in the meantime");
}
