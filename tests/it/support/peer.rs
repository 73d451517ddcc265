//! The other end of a connection: a listener, and a thread that runs a script on the accepted connection.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Type};

use super::net::{self, TcpListener};
use super::{SpawnedCall, WATCHDOG, ms, spawn_call};

const BACKLOG: i32 = 1024;

// -------------------------------------------------------------------- one connection

/// A thread that accepts one connection, runs its script on it, and reads until the connection ends.
pub struct Peer {
    address: SocketAddr,
    cues: Sender<()>,
    /// The script's thread; `ending` takes it.
    thread: Option<SpawnedCall<PeerReport>>,
}

/// The peer's view of a connection.
#[derive(Clone, Debug)]
pub struct PeerReport {
    /// All received bytes.
    pub bytes: Vec<u8>,
    /// The address that the connection came from.
    pub from: SocketAddr,
    pub how: EndKind,
    /// How the bytes ended, ignoring errors that arrived before the peer's own close.
    pub first: EndKind,
    /// The time of the end.
    pub at: Instant,
}

/// How a connection ended, from the peer's point of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndKind {
    /// A clean end, without an error up to the peer's own close.
    Fin,
    Reset,
    /// The peer itself closed or reset the connection before it saw an end.
    ClosedLocally,
}

impl Peer {
    pub fn scripted(script: impl FnOnce(&mut PeerConn) + Send + 'static) -> Peer {
        Peer::scripted_on(listen(), script)
    }

    /// Starts a peer that only reads.
    pub fn reading() -> Peer {
        Peer::scripted(|_| ())
    }

    /// Starts a peer with a small receive buffer that neither sends nor reads before its cue.
    pub fn not_reading() -> Peer {
        Peer::scripted_on(listen_with_room(4096), |wire| wire.wait_signal())
    }

    /// Starts a peer with a small receive buffer that reads nothing and resets the connection at its cue.
    pub fn resetting() -> Peer {
        Peer::scripted_on(listen_with_room(4096), |wire| {
            wire.wait_signal();
            wire.reset();
        })
    }

    pub fn scripted_on(
        listener: TcpListener,
        script: impl FnOnce(&mut PeerConn) + Send + 'static,
    ) -> Peer {
        let address = listener.local_addr().expect("a listener has an address");
        let (cues, cued) = mpsc::channel();
        let thread = spawn_call(move || {
            let (stream, from) = listener.accept().expect("the listener accepts");
            drop(listener);
            let mut wire = PeerConn::new(stream, from, cued);
            script(&mut wire);
            wire.finish()
        });
        Peer { address, cues, thread: Some(thread) }
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

    /// Checks that the peer receives exactly these bytes, then a clean end.
    #[track_caller]
    pub fn assert_received(self, bytes: &[u8]) {
        let ending = self.finish();
        super::assert_bytes_eq(&ending.bytes, bytes);
        assert_eq!(ending.how, EndKind::Fin);
    }

    /// Checks that the peer receives exactly these bytes and a clean end, whatever happened after that.
    #[track_caller]
    pub fn assert_eof_after(self, bytes: &[u8]) {
        let ending = self.finish();
        super::assert_bytes_eq(&ending.bytes, bytes);
        assert_eq!(ending.first, EndKind::Fin);
    }

    /// Checks that the peer sees a reset, whatever came before it.
    #[track_caller]
    pub fn assert_reset(self) {
        assert_eq!(self.finish().how, EndKind::Reset);
    }
}

/// A failed script fails its test even if the test does not wait for the ending.
impl Drop for Peer {
    fn drop(&mut self) {
        if let (Some(thread), false) = (self.thread.take(), thread::panicking()) {
            thread.panic_if_it_has();
        }
    }
}

/// An accepted connection, under a script's control.
pub struct PeerConn {
    stream: Option<TcpStream>,
    from: SocketAddr,
    bytes: Vec<u8>,
    cued: Receiver<()>,
    ended: Option<(EndKind, Instant)>,
    asides: Vec<SpawnedCall<()>>,
}

impl PeerConn {
    fn new(stream: TcpStream, from: SocketAddr, cued: Receiver<()>) -> PeerConn {
        net::set_nodelay(&stream).expect("every stream has the option");
        PeerConn {
            stream: Some(stream),
            from,
            bytes: Vec::new(),
            cued,
            ended: None,
            asides: Vec::new(),
        }
    }

    fn stream(&self) -> &TcpStream {
        self.stream.as_ref().expect("the script has not closed it")
    }

    /// Waits for a fixed time, which the test requires.
    pub fn wait(&mut self, span: Duration) {
        thread::sleep(span);
    }

    /// Waits for a cue of the test; continues if the test has dropped its end.
    pub fn wait_signal(&mut self) {
        let _ = self.cued.recv();
    }

    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream().write_all(bytes).expect("the peer can send");
    }

    /// Sends all bytes, or returns the error.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream().write_all(bytes)
    }

    /// Sends until the kernel has accepted nothing for `span`, and returns the number of accepted bytes.
    pub fn send_until_full(&mut self, span: Duration) -> usize {
        self.stream().set_write_timeout(Some(span)).expect("every stream has the option");
        let chunk = [b'.'; 16 * 1024];
        let mut taken = 0;
        loop {
            match self.stream().write(&chunk) {
                Ok(count) => taken += count,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    return taken;
                }
                Err(error) => panic!("the peer cannot send: {error}"),
            }
        }
    }

    /// Runs a part of the script in another thread.
    #[cfg(target_os = "linux")]
    pub fn spawn_part(&mut self, part: impl FnOnce(TcpStream) + Send + 'static) {
        let stream = self.stream().try_clone().expect("a descriptor is free");
        self.asides.push(spawn_call(move || part(stream)));
    }

    /// Shuts down the peer's own direction.
    pub fn fin(&mut self) {
        self.stream().shutdown(Shutdown::Write).expect("it is still connected");
    }

    pub fn reset(&mut self) {
        reset(self.stream.take().expect("the script has not closed it"));
        self.ended.get_or_insert((EndKind::ClosedLocally, Instant::now()));
    }

    pub fn close(&mut self) {
        drop(self.stream.take());
        self.ended.get_or_insert((EndKind::ClosedLocally, Instant::now()));
    }

    /// Receives exactly this many bytes.
    #[track_caller]
    pub fn receive(&mut self, count: usize) {
        let mut buf = vec![0; count];
        self.stream().read_exact(&mut buf).expect("this many bytes arrive");
        self.bytes.extend(buf);
    }

    /// Reads up to the end, clean or not.
    pub fn read_to_end(&mut self) {
        let mut stream = self.stream.as_ref().expect("the script has not closed it");
        let how = match stream.read_to_end(&mut self.bytes) {
            Ok(_) => EndKind::Fin,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => EndKind::Reset,
            Err(error) => panic!("the peer's read failed: {error}"),
        };
        self.ended.get_or_insert((how, Instant::now()));
    }

    /// Echoes all data up to the end.
    pub fn echo(&mut self) {
        let mut stream = self.stream.as_ref().expect("the script has not closed it");
        match io::copy(&mut stream, &mut self.stream()) {
            Ok(_) => self.fin(),
            Err(_) => self.ended = Some((EndKind::Reset, Instant::now())),
        }
    }

    /// Returns the pending error of this connection, if the kernel has one.
    pub fn failure(&self) -> Option<io::Error> {
        self.stream().take_error().expect("the system reports it")
    }

    fn finish(mut self) -> PeerReport {
        if self.ended.is_none() {
            self.read_to_end();
        }
        self.asides.drain(..).for_each(SpawnedCall::join);
        let (first, at) = self.ended.expect("reading to the end sets it");
        let mut how = first;
        if how == EndKind::Fin && self.stream.is_some() && self.failure().is_some() {
            how = EndKind::Reset;
        }
        PeerReport { bytes: self.bytes, from: self.from, how, first, at }
    }
}

/// Closes a stream so that the other end sees a reset.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("every stream has the option");
}

// -------------------------------------------------------------------- many connections

/// A server that runs one script on each connection in turn, until it is dropped.
pub struct Server {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn scripted(mut script: impl FnMut(TcpStream) + Send + 'static) -> Server {
        let listener = listen();
        let address = listener.local_addr().expect("a listener has an address");
        let over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&over);
        let thread = thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                script(stream);
            }
        });
        Server { address, over, thread: Some(thread) }
    }

    /// Starts a server that echoes on every connection, each in a thread.
    pub fn echoes() -> Server {
        Server::scripted(|stream| {
            let echo = move || {
                // The echo simply ends if the test ends the connection.
                let _ = io::copy(&mut &stream, &mut &stream);
                let _ = stream.shutdown(Shutdown::Write);
            };
            thread::Builder::new()
                .stack_size(64 * 1024)
                .spawn(echo)
                .expect("a small thread starts");
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // The connection wakes the accept. If it fails, the listener is already closed.
        let _ = net::connect(self.address);
        if thread::panicking() {
            return;
        }
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no connection's script failed");
        }
    }
}

// -------------------------------------------------------------------- listeners

/// Listens on a free port of 127.0.0.1.
pub fn listen() -> TcpListener {
    listen_on((Ipv4Addr::LOCALHOST, 0).into(), BACKLOG, None)
}

/// Listens for connections with a receive buffer of about this size.
pub fn listen_with_room(bytes: usize) -> TcpListener {
    listen_on((Ipv4Addr::LOCALHOST, 0).into(), BACKLOG, Some(bytes))
}

pub fn listen_on(address: SocketAddr, backlog: i32, room: Option<usize>) -> TcpListener {
    net::listen_on(address, backlog, room).expect("the address is free")
}

/// An address without a listener; its port stays reserved while the value exists.
pub struct ClosedPort {
    _socket: socket2::Socket,
    pub address: SocketAddr,
}

pub fn closed_port() -> ClosedPort {
    let socket =
        socket2::Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor is free");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port is free");
    let address =
        socket.local_addr().expect("it is bound").as_socket().expect("it is an IP address");
    ClosedPort { _socket: socket, address }
}

/// A listener that answers no SYN: its backlog is full and it never accepts.
pub struct BlackHole {
    pub address: SocketAddr,
    _listener: TcpListener,
    _fillers: Vec<TcpStream>,
}

pub fn black_hole() -> BlackHole {
    fill_backlog(listen_on((Ipv4Addr::LOCALHOST, 0).into(), 0, None))
}

/// Fills the backlog of a listener that has none.
pub fn fill_backlog(listener: TcpListener) -> BlackHole {
    let address = listener.local_addr().expect("a listener has an address");
    let mut fillers = Vec::new();
    let begun = Instant::now();
    loop {
        match net::connect_timeout(&address, ms(200)) {
            Ok(filler) => fillers.push(filler),
            // A SYN may be lost for another reason, but one connection has filled the backlog.
            Err(error) if error.kind() == io::ErrorKind::TimedOut && !fillers.is_empty() => break,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
            Err(error) => panic!("cannot fill the backlog on this system: {error}"),
        }
        assert!(begun.elapsed() < WATCHDOG, "the backlog never fills");
    }
    BlackHole { address, _listener: listener, _fillers: fillers }
}

/// Checks that no connection has reached the listener.
#[track_caller]
pub fn assert_no_connection(listener: &TcpListener) {
    listener.set_nonblocking(true).expect("every listener has the option");
    let came = listener.accept().map(|(_, from)| from);
    assert_eq!(came.map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
}
