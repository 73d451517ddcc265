//! The other end of a secured connection: a rustls server over a plain stream, whose every step a script
//! decides, and which keeps all that ever came off the wire.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection};

use crate::support::peer::{How, listen, reset};
use crate::support::{Call, call, same};

use super::forge::Forge;
use super::{ASK, GO, Terms};

/// The most plaintext that one record carries.
const RECORD: usize = 16 * 1024;

// -------------------------------------------------------------------- one connection

/// Accepts one connection, plays its script on it, and reads until the connection ends. Ends its own
/// direction then, over TLS as TLS wants it, where the script has not done so.
pub struct TlsPeer {
    address: SocketAddr,
    cues: Sender<()>,
    /// Taken by who waits for the ending.
    thread: Option<Call<Ending>>,
}

/// What a peer saw of a connection.
pub struct Ending {
    /// The application data that arrived; all that arrived where there was no handshake.
    pub bytes: Vec<u8>,
    /// Everything that came off the wire.
    pub wire: Vec<u8>,
    /// How much of it came before the handshake began.
    pub clear: usize,
    /// The other end sent `close_notify`.
    pub notified: bool,
    pub how: How,
    /// How the bytes ended, before anything that came up to the peer's own close.
    pub first: How,
    /// Why TLS failed, where it did.
    pub failure: Option<rustls::Error>,
    /// The address that the connection came from.
    pub from: SocketAddr,
    session: Option<ServerConnection>,
}

impl Ending {
    /// What was agreed on.
    #[track_caller]
    pub fn session(&self) -> &ServerConnection {
        self.session.as_ref().expect("there was a handshake")
    }

    /// What came before the handshake.
    pub fn clear(&self) -> &[u8] {
        &self.wire[..self.clear]
    }

    /// The content types of the records that came since the handshake began: nothing else may have come.
    #[track_caller]
    pub fn records(&self) -> Vec<u8> {
        let mut rest = &self.wire[self.clear..];
        let mut types = Vec::new();
        while let [kind @ 20..=23, 3, 0..=4, high, low, body @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            types.push(*kind);
            rest = body.get(length..).expect("a record is complete");
        }
        assert!(rest.is_empty(), "no record: {:?}", &rest[..rest.len().min(64)]);
        types
    }
}

impl TlsPeer {
    /// A peer whose script begins in plaintext.
    pub fn plays(terms: &Terms, script: impl FnOnce(&mut Accepted) + Send + 'static) -> TlsPeer {
        TlsPeer::on(listen(), terms, script)
    }

    /// A peer whose script begins once the handshake is done.
    pub fn secured(terms: &Terms, script: impl FnOnce(&mut Accepted) + Send + 'static) -> TlsPeer {
        TlsPeer::plays(terms, |peer| {
            peer.handshake();
            script(peer);
        })
    }

    /// A peer that after the handshake only reads.
    pub fn reads(terms: &Terms) -> TlsPeer {
        TlsPeer::secured(terms, |_| ())
    }

    /// A peer that after the handshake sends back what comes.
    pub fn echoes(terms: &Terms) -> TlsPeer {
        TlsPeer::secured(terms, Accepted::echo)
    }

    /// A peer whose handshake the other end is expected to end: it reads what comes.
    pub fn refused(terms: &Terms) -> TlsPeer {
        TlsPeer::plays(terms, |peer| drop(peer.try_handshake()))
    }

    pub fn on(
        listener: TcpListener,
        terms: &Terms,
        script: impl FnOnce(&mut Accepted) + Send + 'static,
    ) -> TlsPeer {
        TlsPeer::sharing(listener, terms.config(), script)
    }

    /// A peer that shares its configuration, and with it sessions, with others.
    pub fn sharing(
        listener: TcpListener,
        config: Arc<ServerConfig>,
        script: impl FnOnce(&mut Accepted) + Send + 'static,
    ) -> TlsPeer {
        let address = listener.local_addr().expect("a listener has an address");
        let (cues, cued) = mpsc::channel();
        let thread = call(move || {
            let (stream, from) = listener.accept().expect("a connection comes");
            drop(listener);
            let mut accepted = Accepted::new(stream, from, config, cued);
            script(&mut accepted);
            accepted.ending()
        });
        TlsPeer { address, cues, thread: Some(thread) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets the script go on from its next `await_cue`.
    pub fn cue(&self) {
        self.cues.send(()).expect("the peer is still there");
    }

    /// Waits until the peer has seen the connection end.
    #[track_caller]
    pub fn ending(mut self) -> Ending {
        self.thread.take().expect("there is one ending").join()
    }

    /// The peer has to get exactly these bytes, then the end of TLS where it was spoken, then a clean end.
    #[track_caller]
    pub fn gets(self, bytes: &[u8]) -> Ending {
        let ending = self.ending();
        same(&ending.bytes, bytes);
        assert_eq!(ending.failure, None);
        assert!(ending.notified || ending.session.is_none(), "no close_notify came");
        assert_eq!(ending.how, How::Fin);
        ending
    }

    /// The peer has to get exactly these bytes, then the end: nothing of a handshake.
    #[track_caller]
    pub fn got_only(self, bytes: &[u8]) -> Ending {
        let ending = self.ending();
        same(&ending.wire, bytes);
        assert_ne!(ending.first, How::OwnDoing);
        ending
    }

    /// The peer has to see a reset and no end of TLS, whatever came before it.
    #[track_caller]
    pub fn sees_a_reset(self) -> Ending {
        let ending = self.ending();
        assert_eq!(ending.how, How::Reset);
        assert!(!ending.notified, "a close_notify came");
        ending
    }
}

/// A script that has failed fails its test, also where nobody waits for the ending.
impl Drop for TlsPeer {
    fn drop(&mut self) {
        if let (Some(thread), false) = (self.thread.take(), thread::panicking()) {
            thread.panic_if_it_has();
        }
    }
}

// -------------------------------------------------------------------- the sending side

/// The sending side of an accepted connection: a part of the script may have it in a thread of its own.
#[derive(Clone)]
pub struct Line {
    stream: Arc<TcpStream>,
    session: Arc<Mutex<Option<ServerConnection>>>,
    /// Who has it may send: taken before the session, so that records go out in their order.
    turn: Arc<Mutex<()>>,
}

impl Line {
    /// Sends data, sealed where there is a session.
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        for chunk in bytes.chunks(RECORD) {
            let _turn = self.turn.lock().expect("no part of the script has failed");
            let sealed = self.with(|session| {
                session.writer().write_all(chunk).expect("memory takes a record");
                owed(session)
            });
            (&*self.stream).write_all(sealed.as_deref().unwrap_or(chunk))?;
        }
        Ok(())
    }

    /// Sends what the session has to say for itself.
    pub fn flush(&self) -> io::Result<()> {
        let _turn = self.turn.lock().expect("no part of the script has failed");
        match self.with(owed) {
            Some(bytes) if !bytes.is_empty() => (&*self.stream).write_all(&bytes),
            _ => Ok(()),
        }
    }

    /// Ends this direction: TLS, where it is spoken, and the stream.
    pub fn ends(&self) {
        self.with(|session| session.send_close_notify());
        // Where the other end is gone, nobody hears it.
        let _ = self.flush();
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Asks for new keys, so that the other end has to answer.
    pub fn update_keys(&self) -> io::Result<()> {
        self.with(|session| session.refresh_traffic_keys().expect("TLS 1.3 is spoken"));
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
        session.write_tls(&mut bytes).expect("memory takes everything");
    }
    bytes
}

// -------------------------------------------------------------------- the script's hands

/// An accepted connection in the hands of a script: plain until the handshake, secured after it.
pub struct Accepted {
    /// `None` once the script has closed it.
    line: Option<Line>,
    session: Arc<Mutex<Option<ServerConnection>>>,
    config: Arc<ServerConfig>,
    from: SocketAddr,
    cued: Receiver<()>,
    wire: Vec<u8>,
    clear: Option<usize>,
    data: Vec<u8>,
    /// How much of the data the script has had.
    had: usize,
    keeps: bool,
    notified: bool,
    /// The script has ended the peer's own direction.
    finished: bool,
    failure: Option<rustls::Error>,
    ended: Option<How>,
    asides: Vec<Call<()>>,
}

impl Accepted {
    fn new(
        stream: TcpStream,
        from: SocketAddr,
        config: Arc<ServerConfig>,
        cued: Receiver<()>,
    ) -> Accepted {
        stream.set_nodelay(true).expect("an option of every stream");
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

    /// Waits because the story says so.
    pub fn wait(&mut self, span: Duration) {
        thread::sleep(span);
    }

    /// Waits for the test; goes on where the test has dropped its end.
    pub fn await_cue(&mut self) {
        let _ = self.cued.recv();
    }

    /// Keeps nothing of what comes from now on: for volumes that memory should not hold.
    pub fn forgets(&mut self) {
        self.keeps = false;
    }

    /// Runs a part of the script in a thread beside the rest.
    pub fn aside(&mut self, part: impl FnOnce(Line) + Send + 'static) {
        let line = self.line().clone();
        self.asides.push(call(move || part(line)));
    }

    // ---------------------------------------------------------------- in the clear

    /// Sends these very bytes, whatever was agreed on.
    #[track_caller]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.try_raw(bytes).expect("the peer can send");
    }

    pub fn try_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let line = self.line();
        let _turn = line.turn.lock().expect("no part of the script has failed");
        (&*line.stream).write_all(bytes)
    }

    /// Receives exactly so many bytes off the wire, and nothing behind them.
    #[track_caller]
    pub fn hear(&mut self, count: usize) -> Vec<u8> {
        let mut buf = vec![0; count];
        (&*self.line().stream).read_exact(&mut buf).expect("so many bytes come");
        self.wire.extend(&buf);
        buf
    }

    /// Is asked for TLS, and agrees.
    #[track_caller]
    pub fn agrees(&mut self) {
        assert_eq!(self.hear(ASK.len()), ASK);
        self.raw(GO);
    }

    /// Receives the first record of a handshake and does not answer it.
    #[track_caller]
    pub fn hear_hello(&mut self) {
        self.clear = Some(self.wire.len());
        let header = self.hear(5);
        assert_eq!(header[0], 22, "a handshake begins");
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        assert_eq!(self.hear(length)[0], 1, "a ClientHello comes first");
    }

    // ---------------------------------------------------------------- the handshake

    /// Goes on with a handshake, or begins one.
    #[track_caller]
    pub fn handshake(&mut self) {
        if let Err(error) = self.try_handshake() {
            panic!("the peer's handshake failed: {error}");
        }
    }

    /// Plays the server up to the end of the handshake, or up to its failure, which the other end is told.
    pub fn try_handshake(&mut self) -> io::Result<()> {
        self.begin();
        while self.is_handshaking() {
            if !self.pull()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// Plays the server once a handshake begins behind plaintext, in which no byte is 22: `false` where
    /// the other end ends without one.
    pub fn handshake_when_it_comes(&mut self) -> bool {
        while self.take_in().expect("plaintext is not looked at") {
            if let Some(place) = self.data.iter().position(|byte| *byte == 22) {
                let begun = self.data.split_off(place);
                self.clear = Some(std::mem::take(&mut self.data).len());
                self.begin();
                self.digest(&begun).expect("the handshake is good");
                let _ = self.line().flush();
                self.handshake();
                return true;
            }
        }
        false
    }

    /// Plays the server with no more than so many bytes, and ends: how many were sent.
    pub fn handshake_up_to(&mut self, most: usize) -> usize {
        self.begin();
        let mut sent = 0;
        loop {
            let flight = self.line().with(owed).expect("it has begun");
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
            assert!(self.take_in().expect("the other end goes on"), "the other end has ended");
        }
    }

    /// What the server would say next, without saying it.
    pub fn withheld(&mut self) -> Vec<u8> {
        self.line().with(owed).expect("there is a session")
    }

    /// Begins a handshake, of which the script may take the steps by itself.
    pub fn begin(&mut self) {
        if self.line().session().is_some() {
            return;
        }
        self.clear.get_or_insert(self.wire.len());
        let session = ServerConnection::new(Arc::clone(&self.config));
        *self.line().session() = Some(session.expect("the configuration is fine"));
    }

    /// Takes in what comes next and answers nothing: `false` at the end.
    pub fn take_in(&mut self) -> io::Result<bool> {
        let mut buf = vec![0; 4 * RECORD];
        let count = match (&*self.line().stream).read(&mut buf) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                self.ended.get_or_insert(How::Reset);
                return Ok(false);
            }
            Err(error) => panic!("the peer's read failed in an odd way: {error}"),
        };
        if count == 0 {
            self.ended.get_or_insert(How::Fin);
            return Ok(false);
        }
        if self.keeps {
            self.wire.extend(&buf[..count]);
        }
        self.digest(&buf[..count]).map(|()| true)
    }

    fn is_handshaking(&self) -> bool {
        self.line().with(|session| session.is_handshaking()).expect("it has begun")
    }

    fn digest(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let session = Arc::clone(&self.session);
        let mut session = session.lock().expect("no part of the script has failed");
        let Some(session) = session.as_mut() else {
            // What is said in a handshake that nobody answers is no data.
            if self.clear.is_none() {
                self.data.extend(bytes);
            }
            return Ok(());
        };
        // What comes after a failure, or after the end of TLS, is not TLS.
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

    // ---------------------------------------------------------------- data

    /// [`take_in`](Self::take_in), and answers what has to be answered.
    pub fn pull(&mut self) -> io::Result<bool> {
        let taken = self.take_in();
        // The system tells a reset once, to whoever comes first.
        if let Err(error) = self.line().flush() {
            if error.kind() == io::ErrorKind::ConnectionReset {
                self.ended.get_or_insert(How::Reset);
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

    /// Seals data, and does not send it.
    pub fn sealed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let sealed = self.line().with(|session| {
            session.writer().write_all(bytes).expect("memory takes a little");
            owed(session)
        });
        sealed.expect("there is a session")
    }

    /// The end of TLS as a record, which is not sent.
    pub fn sealed_end(&mut self) -> Vec<u8> {
        self.finished = true;
        let sealed = self.line().with(|session| {
            session.send_close_notify();
            owed(session)
        });
        sealed.expect("there is a session")
    }

    /// Seals records by hand from now on. What comes is not decrypted any more.
    pub fn forge(&mut self) -> Forge {
        let session = self.line().session().take();
        Forge::new(session.expect("the handshake is done"))
    }

    /// Sends what is made, as fast as it goes, until the other end is gone: how many bytes went.
    pub fn flood(&mut self, mut make: impl FnMut() -> Vec<u8>) -> usize {
        let mut sent = 0;
        loop {
            let bytes = make();
            if self.try_raw(&bytes).is_err() {
                self.ended.get_or_insert(How::Reset);
                return sent;
            }
            sent += bytes.len();
        }
    }

    /// Receives exactly so many bytes of data.
    #[track_caller]
    pub fn receive(&mut self, count: usize) -> Vec<u8> {
        while self.data.len() < self.had + count {
            assert!(self.pull().expect("the data is good"), "so many bytes come");
        }
        let from = self.had;
        self.had += count;
        self.data[from..self.had].to_vec()
    }

    pub fn receive_number(&mut self) -> u64 {
        u64::from_le_bytes(self.receive(8).try_into().expect("eight bytes"))
    }

    /// Hands everything up to the end to `taken`, and keeps nothing of it.
    #[track_caller]
    pub fn receive_all(&mut self, mut taken: impl FnMut(&[u8])) {
        self.forgets();
        while self.ended.is_none() {
            taken(&self.data);
            self.data.clear();
            self.pull().expect("the data is good");
        }
        taken(&self.data);
        self.data.clear();
    }

    /// Sends back whatever comes, up to the end.
    pub fn echo(&mut self) {
        while self.ended.is_none() {
            let news = self.data[self.had..].to_vec();
            self.had = self.data.len();
            if self.try_send(&news).is_err() {
                self.ended.get_or_insert(How::Reset);
                return;
            }
            self.pull().expect("the data is good");
        }
        let news = self.data[self.had..].to_vec();
        // Where the other end is gone, its echo is not heard.
        let _ = self.try_send(&news);
    }

    /// Reads up to the end of what comes, clean or not.
    pub fn read_to_end(&mut self) {
        while self.ended.is_none() {
            // A failure is told by the ending.
            let _ = self.pull();
        }
    }

    // ---------------------------------------------------------------- ends

    /// Ends TLS, and leaves the stream open.
    pub fn close_notify(&mut self) {
        let end = self.sealed_end();
        self.raw(&end);
    }

    /// Ends the stream, and says nothing in TLS.
    pub fn fin(&mut self) {
        self.finished = true;
        match self.line().stream.shutdown(Shutdown::Write) {
            // The other end has reset it: there is nothing left to end.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
            result => result.expect("it can be ended"),
        }
    }

    /// Ends both as it should be.
    pub fn ends(&mut self) {
        self.close_notify();
        self.fin();
    }

    /// Has the session fail, so that it tells the other end by an alert: `bad_record_mac`.
    pub fn alert(&mut self) {
        let mut junk = vec![23, 3, 3, 0, 64];
        junk.resize(5 + 64, 0xa5);
        // A record that has come in part takes some of it.
        while self.failure.is_none() {
            let _ = self.digest(&junk);
        }
        self.finished = true;
        self.line().flush().expect("the peer can send");
    }

    pub fn reset(&mut self) {
        self.asides.drain(..).for_each(Call::join);
        let line = self.line.take().expect("the script has not closed it");
        reset(Arc::into_inner(line.stream).expect("nobody else has it"));
        self.ended.get_or_insert(How::OwnDoing);
    }

    pub fn close(&mut self) {
        self.asides.drain(..).for_each(Call::join);
        drop(self.line.take());
        self.ended.get_or_insert(How::OwnDoing);
    }

    fn ending(mut self) -> Ending {
        self.read_to_end();
        self.asides.drain(..).for_each(Call::join);
        let first = self.ended.expect("reading to the end sets it");
        let mut how = first;
        if let Some(line) = &self.line {
            if how == How::Fin && line.stream.take_error().expect("the system tells").is_some() {
                how = How::Reset;
            }
            if !self.finished && self.failure.is_none() {
                line.with(|session| session.send_close_notify());
                // Where the other end is gone, nobody hears it.
                let _ = line.flush();
            }
        }
        drop(self.line.take());
        Ending {
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
