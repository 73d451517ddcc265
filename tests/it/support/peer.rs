//! The other end of a connection: a listener and a thread that plays a script on what it accepts.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Type};

use super::{Call, PATIENCE, call, ms};

const BACKLOG: i32 = 1024;

// -------------------------------------------------------------------- one connection

/// Accepts one connection, plays its script on it, and reads until the connection ends.
pub struct Peer {
    address: SocketAddr,
    cues: Sender<()>,
    /// Taken by who waits for the ending.
    thread: Option<Call<Ending>>,
}

/// What a peer saw of a connection.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Everything that arrived.
    pub bytes: Vec<u8>,
    /// The address that the connection came from.
    pub from: SocketAddr,
    pub how: How,
    /// How the bytes ended, before anything that came up to the peer's own close.
    pub first: How,
    /// When the end was seen.
    pub at: Instant,
}

/// How a connection ended, as its peer saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// A clean end, and no failure up to the peer's own close.
    Fin,
    Reset,
    /// The peer itself had closed or reset it before it saw an end.
    OwnDoing,
}

impl Peer {
    pub fn plays(script: impl FnOnce(&mut Wire) + Send + 'static) -> Peer {
        Peer::on(listen(), script)
    }

    /// A peer that only reads.
    pub fn reads() -> Peer {
        Peer::plays(|_| ())
    }

    /// A peer that says nothing and reads nothing before its cue, with little room for what it is sent.
    pub fn stuck() -> Peer {
        Peer::on(listen_with_room(4096), |wire| wire.await_cue())
    }

    /// A peer that reads nothing and resets the connection at its cue, with little room for what it is sent.
    pub fn resets() -> Peer {
        Peer::on(listen_with_room(4096), |wire| {
            wire.await_cue();
            wire.reset();
        })
    }

    pub fn on(listener: TcpListener, script: impl FnOnce(&mut Wire) + Send + 'static) -> Peer {
        let address = listener.local_addr().expect("a listener has an address");
        let (cues, cued) = mpsc::channel();
        let thread = call(move || {
            let (stream, from) = listener.accept().expect("a connection comes");
            drop(listener);
            let mut wire = Wire::new(stream, from, cued);
            script(&mut wire);
            wire.ending()
        });
        Peer { address, cues, thread: Some(thread) }
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

    /// The peer has to get exactly these bytes, then a clean end.
    #[track_caller]
    pub fn gets(self, bytes: &[u8]) {
        let ending = self.ending();
        super::same(&ending.bytes, bytes);
        assert_eq!(ending.how, How::Fin);
    }

    /// The peer has to get exactly these bytes and a clean end; what happened later is left open.
    #[track_caller]
    pub fn sees_the_end_after(self, bytes: &[u8]) {
        let ending = self.ending();
        super::same(&ending.bytes, bytes);
        assert_eq!(ending.first, How::Fin);
    }

    /// The peer has to see a reset, whatever came before it.
    #[track_caller]
    pub fn sees_a_reset(self) {
        assert_eq!(self.ending().how, How::Reset);
    }
}

/// A script that has failed fails its test, also where nobody waits for the ending.
impl Drop for Peer {
    fn drop(&mut self) {
        if let (Some(thread), false) = (self.thread.take(), thread::panicking()) {
            thread.panic_if_it_has();
        }
    }
}

/// An accepted connection in the hands of a script.
pub struct Wire {
    stream: Option<TcpStream>,
    from: SocketAddr,
    bytes: Vec<u8>,
    cued: Receiver<()>,
    ended: Option<(How, Instant)>,
    asides: Vec<Call<()>>,
}

impl Wire {
    fn new(stream: TcpStream, from: SocketAddr, cued: Receiver<()>) -> Wire {
        stream.set_nodelay(true).expect("an option of every stream");
        Wire {
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

    /// Waits because the story says so.
    pub fn wait(&mut self, span: Duration) {
        thread::sleep(span);
    }

    /// Waits for the test; goes on where the test has dropped its end.
    pub fn await_cue(&mut self) {
        let _ = self.cued.recv();
    }

    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream().write_all(bytes).expect("the peer can send");
    }

    /// Sends as much as can be sent: how much that was, or why not all.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream().write_all(bytes)
    }

    /// Sends until the system has taken nothing for `span`: how much it took.
    pub fn send_until_full(&mut self, span: Duration) -> usize {
        self.stream().set_write_timeout(Some(span)).expect("an option of every stream");
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
                Err(error) => panic!("the peer can't send: {error}"),
            }
        }
    }

    /// Runs a part of the script in a thread beside the rest.
    pub fn aside(&mut self, part: impl FnOnce(TcpStream) + Send + 'static) {
        let stream = self.stream().try_clone().expect("a descriptor is free");
        self.asides.push(call(move || part(stream)));
    }

    /// Ends the peer's own direction.
    pub fn fin(&mut self) {
        self.stream().shutdown(Shutdown::Write).expect("it is still connected");
    }

    pub fn reset(&mut self) {
        reset(self.stream.take().expect("the script has not closed it"));
        self.ended.get_or_insert((How::OwnDoing, Instant::now()));
    }

    pub fn close(&mut self) {
        drop(self.stream.take());
        self.ended.get_or_insert((How::OwnDoing, Instant::now()));
    }

    /// Receives exactly this many bytes.
    #[track_caller]
    pub fn receive(&mut self, count: usize) {
        let mut buf = vec![0; count];
        self.stream().read_exact(&mut buf).expect("so many bytes come");
        self.bytes.extend(buf);
    }

    /// Reads up to the end of what comes, clean or not.
    pub fn read_to_end(&mut self) {
        let mut stream = self.stream.as_ref().expect("the script has not closed it");
        let how = match stream.read_to_end(&mut self.bytes) {
            Ok(_) => How::Fin,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => How::Reset,
            Err(error) => panic!("the peer's read failed in an odd way: {error}"),
        };
        self.ended.get_or_insert((how, Instant::now()));
    }

    /// Sends back whatever comes, up to the end.
    pub fn echo(&mut self) {
        let mut stream = self.stream.as_ref().expect("the script has not closed it");
        match io::copy(&mut stream, &mut self.stream()) {
            Ok(_) => self.fin(),
            Err(_) => self.ended = Some((How::Reset, Instant::now())),
        }
    }

    /// Whether the system knows of a failure of this connection.
    pub fn failure(&self) -> Option<io::Error> {
        self.stream().take_error().expect("the system tells")
    }

    fn ending(mut self) -> Ending {
        if self.ended.is_none() {
            self.read_to_end();
        }
        self.asides.drain(..).for_each(Call::join);
        let (first, at) = self.ended.expect("reading to the end sets it");
        let mut how = first;
        if how == How::Fin && self.stream.is_some() && self.failure().is_some() {
            how = How::Reset;
        }
        Ending { bytes: self.bytes, from: self.from, how, first, at }
    }
}

/// Closes a stream so that the other end sees a reset.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("an option of every stream");
}

// -------------------------------------------------------------------- many connections

/// Plays one script on every connection that comes, one after another, until it is dropped.
pub struct Server {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn plays(mut script: impl FnMut(TcpStream) + Send + 'static) -> Server {
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

    /// Sends back on every connection, each in a thread, what comes on it.
    pub fn echoes() -> Server {
        Server::plays(|stream| {
            let echo = move || {
                // A connection that the test cuts short ends its echo, which is all.
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
        // Wakes the accept; where that fails the listener is gone already.
        let _ = TcpStream::connect(self.address);
        if thread::panicking() {
            return;
        }
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no connection's script failed");
        }
    }
}

// -------------------------------------------------------------------- listeners

/// A listener on a free port of 127.0.0.1.
pub fn listen() -> TcpListener {
    listen_on((Ipv4Addr::LOCALHOST, 0).into(), BACKLOG, None)
}

/// A listener whose connections have about this much room for what comes in.
pub fn listen_with_room(bytes: usize) -> TcpListener {
    listen_on((Ipv4Addr::LOCALHOST, 0).into(), BACKLOG, Some(bytes))
}

pub fn listen_on(address: SocketAddr, backlog: i32, room: Option<usize>) -> TcpListener {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, None)
        .expect("a descriptor is free");
    if let Some(room) = room {
        socket.set_recv_buffer_size(room).expect("an option of every socket");
    }
    socket.bind(&address.into()).expect("the address is free");
    socket.listen(backlog).expect("a bound socket can listen");
    socket.into()
}

/// An address at which nothing listens: its port stays taken while the value lives.
pub struct Nothing {
    _socket: socket2::Socket,
    pub address: SocketAddr,
}

pub fn nothing_listens() -> Nothing {
    let socket =
        socket2::Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor is free");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port is free");
    let address =
        socket.local_addr().expect("it is bound").as_socket().expect("it is an IP address");
    Nothing { _socket: socket, address }
}

/// A listener that answers no SYN: its backlog is full and nobody accepts.
pub struct BlackHole {
    pub address: SocketAddr,
    _listener: TcpListener,
    _fillers: Vec<TcpStream>,
}

pub fn black_hole() -> BlackHole {
    hole(listen_on((Ipv4Addr::LOCALHOST, 0).into(), 0, None))
}

/// Makes a black hole of a listener that has no backlog.
pub fn hole(listener: TcpListener) -> BlackHole {
    let address = listener.local_addr().expect("a listener has an address");
    let mut fillers = Vec::new();
    let begun = Instant::now();
    loop {
        match TcpStream::connect_timeout(&address, ms(200)) {
            Ok(filler) => fillers.push(filler),
            // A SYN may get lost for another reason, but something fills the backlog.
            Err(error) if error.kind() == io::ErrorKind::TimedOut && !fillers.is_empty() => break,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
            Err(error) => panic!("no black hole on this system: {error}"),
        }
        assert!(begun.elapsed() < PATIENCE, "the backlog never fills");
    }
    BlackHole { address, _listener: listener, _fillers: fillers }
}

/// Nobody has connected to the listener.
#[track_caller]
pub fn nobody_came(listener: &TcpListener) {
    listener.set_nonblocking(true).expect("an option of every listener");
    let came = listener.accept().map(|(_, from)| from);
    assert_eq!(came.map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
}
