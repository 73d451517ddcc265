//! The other end of a secured connection: a rustls server over a plain stream. A script controls its every step, and it
//! keeps all received bytes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection};

use crate::support::net::{self, TcpListener};
use crate::support::peer::{EndKind, listen, reset};
use crate::support::{SpawnedCall, assert_bytes_eq, spawn_call};

use super::forge::Forge;
use super::{ASK, GO, ServerSetup};

/// The maximum plaintext of one record, in bytes.
const RECORD: usize = 16 * 1024;

// -------------------------------------------------------------------- one connection

/// A thread that accepts one connection, runs its script on it, and reads until the connection ends. It then ends its
/// own direction, over TLS with `close_notify`, unless the script has done so.
pub struct TlsPeer {
    address: SocketAddr,
    cues: Sender<()>,
    /// The script's thread; `ending` takes it.
    thread: Option<SpawnedCall<PeerReport>>,
}

/// The peer's view of a connection.
pub struct PeerReport {
    /// The received application data; without a handshake, all received bytes.
    pub bytes: Vec<u8>,
    /// All bytes received from the wire.
    pub wire: Vec<u8>,
    /// The number of bytes received before the handshake began.
    pub clear: usize,
    /// Whether the other end sent `close_notify`.
    pub notified: bool,
    pub how: EndKind,
    /// How the bytes ended, ignoring errors that arrived before the peer's own close.
    pub first: EndKind,
    /// The TLS failure, if there was one.
    pub failure: Option<rustls::Error>,
    /// The address that the connection came from.
    pub from: SocketAddr,
    session: Option<ServerConnection>,
}

impl PeerReport {
    /// Returns the session after the handshake.
    #[track_caller]
    pub fn session(&self) -> &ServerConnection {
        self.session.as_ref().expect("there was a handshake")
    }

    /// Returns the bytes received before the handshake.
    pub fn clear(&self) -> &[u8] {
        &self.wire[..self.clear]
    }

    /// Returns the content types of all records since the handshake began. Other bytes fail the test.
    #[track_caller]
    pub fn records(&self) -> Vec<u8> {
        let (types, rest) = complete_records(&self.wire[self.clear..]);
        assert!(rest.is_empty(), "not a record: {:?}", &rest[..rest.len().min(64)]);
        types
    }
}

/// Returns the content types of the complete records at the beginning, and what follows them.
fn complete_records(mut bytes: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut types = Vec::new();
    while let [kind @ 20..=23, 3, 0..=4, high, low, body @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some(rest) = body.get(length..) else { break };
        types.push(*kind);
        bytes = rest;
    }
    (types, bytes)
}

impl TlsPeer {
    /// Starts a peer whose script begins in plaintext.
    pub fn scripted(
        setup: &ServerSetup,
        script: impl FnOnce(&mut Accepted) + Send + 'static,
    ) -> TlsPeer {
        TlsPeer::on(listen(), setup, script)
    }

    /// Starts a peer whose script begins after the handshake.
    pub fn secured(
        setup: &ServerSetup,
        script: impl FnOnce(&mut Accepted) + Send + 'static,
    ) -> TlsPeer {
        TlsPeer::scripted(setup, |peer| {
            peer.handshake();
            script(peer);
        })
    }

    /// Starts a peer that only reads after the handshake.
    pub fn reading(setup: &ServerSetup) -> TlsPeer {
        TlsPeer::secured(setup, |_| ())
    }

    /// Starts a peer that echoes after the handshake.
    pub fn echoes(setup: &ServerSetup) -> TlsPeer {
        TlsPeer::secured(setup, Accepted::echo)
    }

    /// Starts a peer whose handshake the other end is expected to abort; it reads to the end.
    pub fn refused(setup: &ServerSetup) -> TlsPeer {
        TlsPeer::scripted(setup, |peer| drop(peer.try_handshake()))
    }

    pub fn on(
        listener: TcpListener,
        setup: &ServerSetup,
        script: impl FnOnce(&mut Accepted) + Send + 'static,
    ) -> TlsPeer {
        TlsPeer::sharing(listener, setup.config(), script)
    }

    /// Starts a peer that shares its configuration, and therefore its sessions, with others.
    pub fn sharing(
        listener: TcpListener,
        config: Arc<ServerConfig>,
        script: impl FnOnce(&mut Accepted) + Send + 'static,
    ) -> TlsPeer {
        let address = listener.local_addr().expect("a listener has an address");
        let (cues, cued) = mpsc::channel();
        let thread = spawn_call(move || {
            let (stream, from) = listener.accept().expect("the listener accepts");
            drop(listener);
            let mut accepted = Accepted::new(stream, from, config, cued);
            script(&mut accepted);
            accepted.finish()
        });
        TlsPeer { address, cues, thread: Some(thread) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets the script continue after its next `await_cue`.
    pub fn signal(&self) {
        self.cues.send(()).expect("the peer still runs");
    }

    /// Waits until the peer has seen the connection end.
    #[track_caller]
    pub fn finish(mut self) -> PeerReport {
        self.thread.take().expect("the ending is taken once").join()
    }

    /// Checks that the peer receives exactly these bytes, then `close_notify` if TLS was used, then a clean end.
    #[track_caller]
    pub fn assert_received(self, bytes: &[u8]) -> PeerReport {
        let ending = self.finish();
        assert_bytes_eq(&ending.bytes, bytes);
        assert_eq!(ending.failure, None);
        assert!(ending.notified || ending.session.is_none(), "no close_notify arrived");
        assert_eq!(ending.how, EndKind::Fin);
        ending
    }

    /// Checks that the peer receives exactly these bytes, then the end, and no part of a handshake.
    #[track_caller]
    pub fn assert_received_only(self, bytes: &[u8]) -> PeerReport {
        let ending = self.finish();
        assert_bytes_eq(&ending.wire, bytes);
        assert_ne!(ending.first, EndKind::ClosedLocally);
        ending
    }

    /// Checks that the peer sees a reset and no `close_notify`, whatever came before.
    #[track_caller]
    pub fn assert_reset(self) -> PeerReport {
        let ending = self.finish();
        assert_eq!(ending.how, EndKind::Reset);
        assert!(!ending.notified, "a close_notify arrived");
        ending
    }
}

/// A failed script fails its test even if the test does not wait for the ending.
impl Drop for TlsPeer {
    fn drop(&mut self) {
        if let (Some(thread), false) = (self.thread.take(), thread::panicking()) {
            thread.panic_if_it_has();
        }
    }
}

// -------------------------------------------------------------------- the sending side

/// The sending side of an accepted connection, which a part of the script may use in another thread.
#[derive(Clone)]
pub struct Line {
    stream: Arc<TcpStream>,
    session: Arc<Mutex<Option<ServerConnection>>>,
    /// The right to send. It is locked before the session, so that records are sent in their order.
    turn: Arc<Mutex<()>>,
}

impl Line {
    /// Sends data, sealed if there is a session.
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        for chunk in bytes.chunks(RECORD) {
            let _turn = self.turn.lock().expect("no part of the script has failed");
            let sealed = self.with(|session| {
                session.writer().write_all(chunk).expect("writes to memory succeed");
                owed(session)
            });
            (&*self.stream).write_all(sealed.as_deref().unwrap_or(chunk))?;
        }
        Ok(())
    }

    /// Sends the session's pending records.
    pub fn flush(&self) -> io::Result<()> {
        let _turn = self.turn.lock().expect("no part of the script has failed");
        match self.with(owed) {
            Some(bytes) if !bytes.is_empty() => (&*self.stream).write_all(&bytes),
            _ => Ok(()),
        }
    }

    /// Sends `close_notify` if there is a session, then shuts down the stream.
    pub fn ends(&self) {
        self.with(|session| session.send_close_notify());
        // If the other end is gone, sending fails.
        let _ = self.flush();
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Sends a key update that requests one in reply.
    pub fn update_keys(&self) -> io::Result<()> {
        self.with(|session| session.refresh_traffic_keys().expect("the session uses TLS 1.3"));
        self.flush()
    }

    fn session(&self) -> MutexGuard<'_, Option<ServerConnection>> {
        self.session.lock().expect("no part of the script has failed")
    }

    fn with<T>(&self, work: impl FnOnce(&mut ServerConnection) -> T) -> Option<T> {
        self.session().as_mut().map(work)
    }
}

fn owed(session: &mut ServerConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut bytes).expect("writes to memory succeed");
    }
    bytes
}

// -------------------------------------------------------------------- the script's operations

/// An accepted connection under a script's control: in plaintext until the handshake, and secured after it.
pub struct Accepted {
    /// `None` after the script has closed it.
    line: Option<Line>,
    session: Arc<Mutex<Option<ServerConnection>>>,
    config: Arc<ServerConfig>,
    from: SocketAddr,
    cued: Receiver<()>,
    wire: Vec<u8>,
    clear: Option<usize>,
    data: Vec<u8>,
    /// The number of data bytes that the script has consumed.
    had: usize,
    keeps: bool,
    notified: bool,
    /// Whether the script has ended the peer's own direction.
    finished: bool,
    failure: Option<rustls::Error>,
    ended: Option<EndKind>,
    asides: Vec<SpawnedCall<()>>,
}

impl Accepted {
    fn new(
        stream: TcpStream,
        from: SocketAddr,
        config: Arc<ServerConfig>,
        cued: Receiver<()>,
    ) -> Accepted {
        net::set_nodelay(&stream).expect("every stream has the option");
        let session = Arc::new(Mutex::new(None));
        let line = Line {
            stream: Arc::new(stream),
            session: Arc::clone(&session),
            turn: Arc::new(Mutex::new(())),
        };
        Accepted {
            line: Some(line),
            session,
            config,
            from,
            cued,
            wire: Vec::new(),
            clear: None,
            data: Vec::new(),
            had: 0,
            keeps: true,
            notified: false,
            finished: false,
            failure: None,
            ended: None,
            asides: Vec::new(),
        }
    }

    pub fn line(&self) -> &Line {
        self.line.as_ref().expect("the script has not closed it")
    }

    /// Waits for a fixed time, which the test requires.
    pub fn wait(&mut self, span: Duration) {
        thread::sleep(span);
    }

    /// Waits for a cue of the test; continues if the test has dropped its end.
    pub fn wait_signal(&mut self) {
        let _ = self.cued.recv();
    }

    /// Stops keeping received bytes, for volumes that should not stay in memory.
    pub fn forgets(&mut self) {
        self.keeps = false;
    }

    /// Runs a part of the script in another thread.
    pub fn spawn_part(&mut self, part: impl FnOnce(Line) + Send + 'static) {
        let line = self.line().clone();
        self.asides.push(spawn_call(move || part(line)));
    }

    // ---------------------------------------------------------------- in plaintext

    /// Sends exactly these bytes, without TLS.
    #[track_caller]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.try_raw(bytes).expect("the peer can send");
    }

    pub fn try_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let line = self.line();
        let _turn = line.turn.lock().expect("no part of the script has failed");
        (&*line.stream).write_all(bytes)
    }

    /// Receives exactly this many bytes from the wire, and none after them.
    #[track_caller]
    pub fn recv_raw(&mut self, count: usize) -> Vec<u8> {
        let mut buf = vec![0; count];
        (&*self.line().stream).read_exact(&mut buf).expect("this many bytes arrive");
        self.wire.extend(&buf);
        buf
    }

    /// Receives the request for TLS and sends the go-ahead.
    #[track_caller]
    pub fn accept_starttls(&mut self) {
        assert_eq!(self.recv_raw(ASK.len()), ASK);
        self.raw(GO);
    }

    /// Receives the first record of a handshake and does not answer it.
    #[track_caller]
    pub fn expect_client_hello(&mut self) {
        self.clear = Some(self.wire.len());
        let header = self.recv_raw(5);
        assert_eq!(header[0], 22, "a handshake begins");
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        assert_eq!(self.recv_raw(length)[0], 1, "a ClientHello comes first");
    }

    // ---------------------------------------------------------------- the handshake

    /// Continues a handshake, or begins one.
    #[track_caller]
    pub fn handshake(&mut self) {
        if let Err(error) = self.try_handshake() {
            panic!("the peer's handshake failed: {error}");
        }
    }

    /// Runs the server's side up to the end of the handshake, or up to its failure, which it reports to the other end.
    pub fn try_handshake(&mut self) -> io::Result<()> {
        self.begin();
        while self.is_handshaking() {
            if !self.pull()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// Runs the server's side once a handshake begins after plaintext in which no byte is 22. Returns `false` if the
    /// other end closes without one.
    pub fn handshake_when_it_comes(&mut self) -> bool {
        while self.take_in().expect("plaintext is not decrypted") {
            if let Some(place) = self.data.iter().position(|byte| *byte == 22) {
                let begun = self.data.split_off(place);
                self.clear = Some(std::mem::take(&mut self.data).len());
                self.begin();
                self.digest(&begun).expect("the handshake succeeds");
                let _ = self.line().flush();
                self.handshake();
                return true;
            }
        }
        false
    }

    /// Sends at most this many bytes of the server's side, then ends. Returns the number of bytes sent.
    pub fn handshake_up_to(&mut self, most: usize) -> usize {
        self.begin();
        let mut sent = 0;
        loop {
            let flight = self.line().with(owed).expect("the handshake has begun");
            let count = flight.len().min(most - sent);
            self.raw(&flight[..count]);
            sent += count;
            if sent == most {
                self.fin();
                return sent;
            }
            if !self.is_handshaking() {
                return sent;
            }
            assert!(self.take_in().expect("the other end continues"), "the other end has ended");
        }
    }

    /// Returns the records that the server would send next, without sending them.
    pub fn hold_back(&mut self) -> Vec<u8> {
        self.line().with(owed).expect("there is a session")
    }

    /// Begins a handshake whose steps the script can take one by one.
    pub fn begin(&mut self) {
        if self.line().session().is_some() {
            return;
        }
        self.clear.get_or_insert(self.wire.len());
        let session = ServerConnection::new(Arc::clone(&self.config));
        *self.line().session() = Some(session.expect("the configuration is valid"));
    }

    /// Processes the next received bytes without answering them. Returns `false` at the end.
    pub fn take_in(&mut self) -> io::Result<bool> {
        let mut buf = vec![0; 4 * RECORD];
        let count = match (&*self.line().stream).read(&mut buf) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                self.ended.get_or_insert(EndKind::Reset);
                return Ok(false);
            }
            Err(error) => panic!("the peer's read failed: {error}"),
        };
        if count == 0 {
            self.ended.get_or_insert(EndKind::Fin);
            return Ok(false);
        }
        if self.keeps {
            self.wire.extend(&buf[..count]);
        }
        self.digest(&buf[..count]).map(|()| true)
    }

    fn is_handshaking(&self) -> bool {
        self.line().with(|session| session.is_handshaking()).expect("the handshake has begun")
    }

    fn digest(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let session = Arc::clone(&self.session);
        let mut session = session.lock().expect("no part of the script has failed");
        let Some(session) = session.as_mut() else {
            // Bytes of a handshake that the script does not answer are not data.
            if self.clear.is_none() {
                self.data.extend(bytes);
            }
            return Ok(());
        };
        // Bytes after a failure or after `close_notify` are not TLS.
        while !bytes.is_empty() && self.failure.is_none() && !self.notified {
            session.read_tls(&mut bytes)?;
            match session.process_new_packets() {
                Ok(state) => {
                    let mut plain = vec![0; state.plaintext_bytes_to_read()];
                    session.reader().read_exact(&mut plain)?;
                    self.data.extend(plain);
                    self.notified |= state.peer_has_closed();
                }
                Err(error) => {
                    self.failure = Some(error.clone());
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            }
        }
        Ok(())
    }

    /// Requests a key update of the other end, which writes single bytes. Receives until the update comes.
    #[track_caller]
    pub fn expect_key_update(&mut self) {
        let before = self.records_without_data();
        self.line().update_keys().expect("the other end is open");
        while self.records_without_data() == before {
            assert!(self.pull().expect("the data is valid"), "a key update arrives");
        }
    }

    /// Returns the number of records that hold no data, if each of the others holds one byte.
    fn records_without_data(&self) -> usize {
        let (types, _) = complete_records(&self.wire[self.clear.unwrap_or(0)..]);
        types.len() - self.data.len()
    }

    // ---------------------------------------------------------------- data

    /// Calls [`take_in`](Self::take_in), then sends the session's replies.
    pub fn pull(&mut self) -> io::Result<bool> {
        let taken = self.take_in();
        // The kernel reports a reset once, here to the flush.
        if let Err(error) = self.line().flush() {
            if error.kind() == io::ErrorKind::ConnectionReset {
                self.ended.get_or_insert(EndKind::Reset);
            }
        }
        taken
    }

    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.line().send(bytes).expect("the peer can send");
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.line().send(bytes)
    }

    /// Seals data without sending it.
    pub fn sealed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let sealed = self.line().with(|session| {
            session.writer().write_all(bytes).expect("writes to memory succeed");
            owed(session)
        });
        sealed.expect("there is a session")
    }

    /// Returns a `close_notify` record without sending it.
    pub fn sealed_end(&mut self) -> Vec<u8> {
        self.finished = true;
        let sealed = self.line().with(|session| {
            session.send_close_notify();
            owed(session)
        });
        sealed.expect("there is a session")
    }

    /// Seals records by hand from now on. Received bytes are no longer decrypted.
    pub fn forge(&mut self) -> Forge {
        let session = self.line().session().take();
        Forge::new(session.expect("the handshake is done"))
    }

    /// Sends the output of `make` as fast as possible until the other end is gone. Returns the number of bytes sent.
    pub fn flood(&mut self, mut make: impl FnMut() -> Vec<u8>) -> usize {
        let mut sent = 0;
        loop {
            let bytes = make();
            if self.try_raw(&bytes).is_err() {
                self.ended.get_or_insert(EndKind::Reset);
                return sent;
            }
            sent += bytes.len();
        }
    }

    /// Receives exactly this many bytes of data.
    #[track_caller]
    pub fn receive(&mut self, count: usize) -> Vec<u8> {
        while self.data.len() < self.had + count {
            assert!(self.pull().expect("the data is valid"), "this many bytes arrive");
        }
        let from = self.had;
        self.had += count;
        self.data[from..self.had].to_vec()
    }

    pub fn receive_number(&mut self) -> u64 {
        u64::from_le_bytes(self.receive(8).try_into().expect("eight bytes"))
    }

    /// Passes all data up to the end to `taken`, and keeps none of it.
    #[track_caller]
    pub fn receive_all(&mut self, mut taken: impl FnMut(&[u8])) {
        self.forgets();
        while self.ended.is_none() {
            taken(&self.data);
            self.data.clear();
            self.pull().expect("the data is valid");
        }
        taken(&self.data);
        self.data.clear();
    }

    /// Echoes all data up to the end.
    pub fn echo(&mut self) {
        while self.ended.is_none() {
            let news = self.data[self.had..].to_vec();
            self.had = self.data.len();
            if self.try_send(&news).is_err() {
                self.ended.get_or_insert(EndKind::Reset);
                return;
            }
            self.pull().expect("the data is valid");
        }
        let news = self.data[self.had..].to_vec();
        // If the other end is gone, sending the echo fails.
        let _ = self.try_send(&news);
    }

    /// Reads up to the end, clean or not.
    pub fn read_to_end(&mut self) {
        while self.ended.is_none() {
            // The ending reports a failure.
            let _ = self.pull();
        }
    }

    // ---------------------------------------------------------------- ends

    /// Sends `close_notify` and leaves the stream open.
    pub fn close_notify(&mut self) {
        let end = self.sealed_end();
        self.raw(&end);
    }

    /// Shuts down the stream without `close_notify`.
    pub fn fin(&mut self) {
        self.finished = true;
        match self.line().stream.shutdown(Shutdown::Write) {
            // The other end has reset the connection, so there is nothing to shut down.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
            result => result.expect("the shutdown succeeds"),
        }
    }

    /// Sends `close_notify`, then shuts down the stream.
    pub fn ends(&mut self) {
        self.close_notify();
        self.fin();
    }

    /// Makes the session fail, so that it sends the alert `bad_record_mac`.
    pub fn alert(&mut self) {
        let mut junk = vec![23, 3, 3, 0, 64];
        junk.resize(5 + 64, 0xa5);
        // If a partial record has been received, the junk first completes it.
        while self.failure.is_none() {
            let _ = self.digest(&junk);
        }
        self.finished = true;
        self.line().flush().expect("the peer can send");
    }

    pub fn reset(&mut self) {
        self.asides.drain(..).for_each(SpawnedCall::join);
        let line = self.line.take().expect("the script has not closed it");
        reset(Arc::into_inner(line.stream).expect("the script holds the only handle"));
        self.ended.get_or_insert(EndKind::ClosedLocally);
    }

    pub fn close(&mut self) {
        self.asides.drain(..).for_each(SpawnedCall::join);
        drop(self.line.take());
        self.ended.get_or_insert(EndKind::ClosedLocally);
    }

    fn finish(mut self) -> PeerReport {
        self.read_to_end();
        self.asides.drain(..).for_each(SpawnedCall::join);
        let first = self.ended.expect("reading to the end sets it");
        let mut how = first;
        if let Some(line) = &self.line {
            if how == EndKind::Fin
                && line.stream.take_error().expect("the system reports it").is_some()
            {
                how = EndKind::Reset;
            }
            if !self.finished && self.failure.is_none() {
                line.with(|session| session.send_close_notify());
                // If the other end is gone, sending fails.
                let _ = line.flush();
            }
        }
        drop(self.line.take());
        PeerReport {
            bytes: self.data,
            clear: self.clear.unwrap_or(self.wire.len()),
            wire: self.wire,
            notified: self.notified,
            how,
            first,
            failure: self.failure,
            from: self.from,
            session: self.session.lock().expect("no part of the script has failed").take(),
        }
    }
}
