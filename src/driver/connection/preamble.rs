//! The preamble of a connection: the dialogue with a proxy, or its PROXY header, before the wire is the user's.
//!
//! The bytes of the target may follow those of the proxy in the same segment, and belong to the program or to TLS. So a
//! party that receives in a preamble peeks first, and then receives exactly the proxy's bytes. Only one party does so at
//! a time, because it holds the receive permit in between.

use std::net::SocketAddr;
use std::sync::Arc;

use super::eof::Observer;
use super::monitor::IngestResult;
use super::{Connection, ConnectionState};
use crate::driver::registry::{ClientKey, SlotId};
use crate::driver::sys::clock;
use crate::driver::sys::errno::{Failure, classify};
use crate::driver::sys::io_bufs::RecvBufs;
use crate::driver::sys::wire::{EofKind, Wire};
use crate::machine::{Actions, RecvBuf, RecvEvent, RecvPermit};

/// Maximum number of bytes in sight at a time.
const MAX_PEEK: usize = 4 * 1024;

impl Connection {
    /// Looks at the wire once and receives what belongs to the preamble. Returns `None` if there may be more.
    pub(crate) fn advance_preamble(
        self: &Arc<Self>,
        wire: &Arc<Wire>,
        recv_buf: &mut RecvBuf,
        observer: Observer,
    ) -> Option<IngestResult> {
        let mut state = self.state();
        if !state.wire.is(wire) {
            // The proxy refused an address, and is dialled again for another one.
            return Some(IngestResult::All);
        }
        let Some(permit) = state.machine.begin_background_recv() else {
            if observer == Observer::Reader && state.machine.recv_in_flight() {
                // The other thread may have found nothing before the event.
                state.note_missed();
            }
            return Some(IngestResult::All);
        };
        drop(state);
        let space = recv_buf.spare_mut();
        // Room for a byte that follows.
        let max = (space.len() - 1).min(MAX_PEEK);
        let peeked = wire.peek(&mut space[..max]);
        let end = if matches!(peeked, Ok(0)) { wire.classify_eof() } else { EofKind::Fin };
        let mut state = self.state();
        let mut over = None;
        let actions = match peeked {
            Ok(0) => {
                let what;
                (state, what) = self.judge_eof(state, end, observer);
                state.machine.handle_recv_event(permit, what, clock::now())
            }
            Ok(bytes) => {
                let own = state.machine.preamble_len(&space[..bytes]);
                drop(state);
                // If the socket has closed since, no call misses these bytes.
                let received = receive_exactly(wire, &mut space[..own]);
                // Without this look, bytes beyond the first one, or newer than it, would seem to be the target's.
                let more =
                    if received == bytes && peek_one(wire, &mut space[bytes..]) { 1 } else { 0 };
                state = self.state();
                if received == own {
                    // The machine has to consume exactly what was received, so it sees the byte only behind an end.
                    let with_more = &space[..bytes + more];
                    let is_behind_end = more > 0 && state.machine.preamble_len(with_more) == own;
                    let seen = if is_behind_end { bytes + more } else { bytes };
                    self.pass_preamble(&mut state, permit, &space[..seen])
                } else {
                    // The bytes were in sight, so the connection has failed, and the next look shows how.
                    over = Some(IngestResult::Some);
                    state.machine.handle_preamble(permit, &space[..received], clock::now()).1
                }
            }
            Err(error) => {
                let what = match classify(&error) {
                    Failure::Connection(fault) => RecvEvent::Failed(fault),
                    failure => {
                        over = match failure {
                            Failure::WouldBlock => Some(IngestResult::All),
                            Failure::Call(_) => Some(IngestResult::Unable),
                            _ => None,
                        };
                        RecvEvent::Cancelled
                    }
                };
                state.machine.handle_recv_event(permit, what, clock::now())
            }
        };
        state = self.apply(state, actions);
        // A thread may have started to wait.
        self.notify_waiters(&state);
        over
    }
}

impl Connection {
    /// Passes bytes to the machine. The client that a PROXY header names is counted first.
    fn pass_preamble(
        &self,
        state: &mut ConnectionState,
        permit: RecvPermit,
        seen: &[u8],
    ) -> Actions {
        let counted = state.machine.counted_client(seen).zip(state.slot);
        match counted {
            Some(((client, max), slot)) if !self.counts(slot, client, max) => {
                state.machine.deny_client(permit, client, clock::now())
            }
            Some(_) | None => state.machine.handle_preamble(permit, seen, clock::now()).1,
        }
    }

    fn counts(&self, slot: SlotId, client: SocketAddr, max: usize) -> bool {
        self.registry().count_client(slot, ClientKey::new(client.ip()), max)
    }
}

/// Looks for one more byte. Returns whether it is in sight; a failure shows in the next receive.
fn peek_one(wire: &Wire, space: &mut [u8]) -> bool {
    loop {
        match wire.peek(&mut space[..1]) {
            Ok(bytes) => return bytes == 1,
            Err(error) if matches!(classify(&error), Failure::Interrupted) => {}
            Err(_) => return false,
        }
    }
}

/// Receives bytes that are in sight. Returns their number, which is less only if the connection fails.
fn receive_exactly(wire: &Wire, buf: &mut [u8]) -> usize {
    let mut received = 0;
    while received < buf.len() {
        match wire.recv(&mut RecvBufs::One(&mut buf[received..])) {
            Ok(0) => break,
            Ok(bytes) => received += bytes,
            Err(error) if matches!(classify(&error), Failure::Interrupted) => {}
            Err(_) => break,
        }
    }
    received
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};
    use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::address::SocketAddress;
    use crate::driver::ops::transmit::UnknownCause;
    use crate::driver::{ConnectContext, LookupQuota, Origin, SocketLimit, SocketRegistry};
    use crate::machine::{Input, Transmit};
    use crate::options::{SecureTransport, SocketOptions};
    use crate::proxy::Proxy;
    use crate::resolver::Resolver;
    use crate::tls::TlsOptions;

    const WATCHDOG: Duration = Duration::from_secs(20);

    /// A thread may find the first connection to a proxy readable, and continue only after the second one replaced it.
    #[test]
    fn a_late_look_at_the_first_wire_leaves_the_second_alone() {
        let Redialled { connection, former, first, mut second } = redialled();
        assert_accepts(&mut second);
        drop(first);
        let begun = Instant::now();
        while !matches!(former.peek(&mut [0]), Ok(0)) {
            assert!(begun.elapsed() < WATCHDOG, "the end arrives");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(connection.ingest_available(&former, Observer::Reader, None), IngestResult::All);
        assert!(connection.state().is_opening(), "the handshake continues");
        connection.abort(Input::Abort);
    }

    /// A thread may learn only then that its send on the first connection has failed, or took nothing.
    #[test]
    fn a_late_end_of_a_send_on_the_first_wire_leaves_the_second_alone() {
        for kind in [io::ErrorKind::BrokenPipe, io::ErrorKind::WouldBlock] {
            let Redialled { connection, former, first, mut second } = redialled();
            let (state, result) = (connection.state(), Err(kind.into()));
            let unknown = UnknownCause::Wait;
            let mut transmit = Transmit::default();
            drop(connection.finish_transmit(state, former, &mut transmit, result, unknown));
            assert!(connection.state().is_opening(), "the second dialogue continues");
            assert_accepts(&mut second);
            connection.abort(Input::Abort);
            drop(first);
        }
    }

    /// A socket whose proxy has refused the first address of the target, and was asked for the second one.
    struct Redialled {
        connection: Arc<Connection>,
        /// The wire of the first connection, which the socket has released.
        former: Arc<Wire>,
        /// The proxy's end of both connections.
        first: TcpStream,
        second: TcpStream,
    }

    fn redialled() -> Redialled {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("the listener has an address");
        let proxy = Proxy::http(address).expect("the address is valid").resolve_locally();
        let resolver: Arc<dyn Resolver> = Arc::new(|_: &str| -> io::Result<Vec<IpAddr>> {
            Ok([1, 2].map(|last| Ipv4Addr::new(192, 0, 2, last).into()).to_vec())
        });
        let registry = Arc::new(SocketRegistry::new(SocketLimit { max: None, wait: false }));
        let context = ConnectContext {
            resolver: Some(&resolver),
            egress: None,
            registry: &registry,
            lookup_quota: &Arc::new(LookupQuota::new(1)),
            scope: None,
            proxy: Some(&proxy),
        };
        let options = SocketOptions::new()
            .secure_transport(SecureTransport::On)
            .tls(TlsOptions::new().danger_accept_invalid_certs(true));
        let target: SocketAddress = "db.test:443".parse().expect("the address is valid");
        let connection = Connection::connect(target.into(), options, Origin::Dial, context)
            .expect("the socket is created");

        let mut first = accept(&listener);
        let former = connection.state().wire.cloned().expect("the proxy is connected");
        first.write_all(b"HTTP/1.1 502 Unreachable\r\n\r\n").expect("the client reads");
        let second = accept(&listener);
        Redialled { connection, former, first, second }
    }

    /// Accepts the request, and checks that TLS with the target begins.
    fn assert_accepts(proxy: &mut TcpStream) {
        proxy.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("the client reads");
        let hello = proxy.read(&mut [0; 10]).expect("the client speaks TLS");
        assert!(hello > 0);
    }

    /// Accepts a connection and reads the request.
    fn accept(listener: &TcpListener) -> TcpStream {
        let (mut stream, _) = listener.accept().expect("the client connects");
        stream.set_read_timeout(Some(WATCHDOG)).expect("the timeout is not zero");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("the request is complete");
            head.push(byte[0]);
        }
        stream
    }
}
