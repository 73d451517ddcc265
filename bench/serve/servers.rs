//! The servers in Rust. A thread accepts, and gives the connections to the threads that serve, in turns.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use rustls::ServerConnection;
use sockeye::{Events, Interest, Poller, Socket};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{Failure, SIZE, announce, identity};

/// The number of events of one wait.
const MAX_EVENTS: usize = 256;
/// The size of the buffer of a read, which is larger than a message.
const BUFFER: usize = 256;

// -------------------------------------------------------------------- sockeye

pub fn sockeye(threads: usize, identity: Option<&identity::Identity>) -> Result<(), Failure> {
    let options = match identity {
        Some(identity) => identity.listen_options().map_err(|error| error.to_string())?,
        None => sockeye::ListenOptions::default(),
    };
    let listener = sockeye::listen_with("127.0.0.1:0", options)?;
    announce(listener.local_address().ok_or("it has an address")?)?;
    let mut workers = Vec::new();
    for _ in 0..threads {
        let poller = Arc::new(Poller::new()?);
        let (send, sockets) = mpsc::channel();
        let own = Arc::clone(&poller);
        thread::spawn(move || serve_by_poller(&own, &sockets));
        workers.push((poller, send));
    }
    for (socket, index) in listener.incoming().zip(0_usize..) {
        let (poller, send) = &workers[index % threads];
        send.send(socket)?;
        poller.wake();
    }
    Ok(())
}

fn serve_by_poller(poller: &Poller, sockets: &Receiver<Socket>) -> sockeye::Result<()> {
    let mut served = HashMap::new();
    let mut next_key = 0;
    let mut events = Events::with_capacity(MAX_EVENTS);
    loop {
        poller.wait(&mut events, None)?;
        for socket in sockets.try_iter() {
            poller.add(&socket, next_key, Interest::READABLE)?;
            served.insert(next_key, socket);
            next_key += 1;
        }
        for event in events.iter() {
            let Some(socket) = served.get(&event.key) else { continue };
            match echo(socket) {
                Ok(true) => poller.modify(event.key, Interest::READABLE)?,
                Ok(false) | Err(_) => drop(served.remove(&event.key)),
            }
        }
    }
}

/// Answers the message that has come. Returns whether the client may send more.
fn echo(socket: &Socket) -> io::Result<bool> {
    let mut buf = [0; BUFFER];
    match socket.try_read(&mut buf) {
        Ok(0) => Ok(false),
        Ok(bytes) if bytes == SIZE => {
            // The client waits for it, so there is room.
            let sent = socket.try_write(&buf[..SIZE])?;
            if sent == SIZE { Ok(true) } else { Err(ErrorKind::WriteZero.into()) }
        }
        Ok(bytes) => Err(io::Error::other(format!("{bytes} bytes in one piece"))),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

// -------------------------------------------------------------------- mio

const WAKER: mio::Token = mio::Token(usize::MAX);

pub fn mio(threads: usize, identity: Option<&identity::Identity>) -> Result<(), Failure> {
    let config = match identity {
        Some(identity) => Some(identity.server().map_err(|error| error.to_string())?),
        None => None,
    };
    let listener = TcpListener::bind("127.0.0.1:0")?;
    announce(listener.local_addr()?)?;
    let mut workers = Vec::new();
    for _ in 0..threads {
        let poll = mio::Poll::new()?;
        let waker = mio::Waker::new(poll.registry(), WAKER)?;
        let (send, streams) = mpsc::channel();
        let config = config.clone();
        thread::spawn(move || serve_by_mio(poll, &streams, config.as_ref()));
        workers.push((waker, send));
    }
    for (stream, index) in listener.incoming().zip(0_usize..) {
        let stream = stream?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let (waker, send) = &workers[index % threads];
        send.send(mio::net::TcpStream::from_std(stream))?;
        waker.wake()?;
    }
    Ok(())
}

fn serve_by_mio(
    mut poll: mio::Poll,
    streams: &Receiver<mio::net::TcpStream>,
    config: Option<&Arc<rustls::ServerConfig>>,
) -> Result<(), Failure> {
    let mut served = HashMap::new();
    let mut next = 0;
    let mut events = mio::Events::with_capacity(MAX_EVENTS);
    loop {
        poll.poll(&mut events, None)?;
        for mut stream in streams.try_iter() {
            let token = mio::Token(next);
            poll.registry().register(&mut stream, token, mio::Interest::READABLE)?;
            let tls = match config {
                Some(config) => Some(ServerConnection::new(Arc::clone(config))?),
                None => None,
            };
            served.insert(token, (stream, tls));
            next += 1;
        }
        for event in &events {
            let Some((stream, tls)) = served.get_mut(&event.token()) else { continue };
            let is_open = match tls {
                Some(tls) => echo_by_rustls(stream, tls),
                None => echo_by_mio(stream),
            };
            if !matches!(is_open, Ok(true)) {
                served.remove(&event.token());
            }
        }
    }
}

fn echo_by_mio(stream: &mut mio::net::TcpStream) -> io::Result<bool> {
    let mut buf = [0; BUFFER];
    loop {
        match stream.read(&mut buf) {
            Ok(0) => return Ok(false),
            Ok(bytes) => stream.write_all(&buf[..bytes])?,
            // The events are edge-triggered.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}

fn echo_by_rustls(
    stream: &mut mio::net::TcpStream,
    tls: &mut ServerConnection,
) -> io::Result<bool> {
    loop {
        match tls.read_tls(stream) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
        tls.process_new_packets().map_err(io::Error::other)?;
        let mut buf = [0; BUFFER];
        loop {
            match tls.reader().read(&mut buf) {
                Ok(0) => return Ok(false),
                Ok(bytes) => tls.writer().write_all(&buf[..bytes])?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        while tls.wants_write() {
            tls.write_tls(stream)?;
        }
    }
}

// -------------------------------------------------------------------- tokio

pub fn tokio(threads: usize, identity: Option<&identity::Identity>) -> Result<(), Failure> {
    let acceptor = match identity {
        Some(identity) => {
            let config = identity.server().map_err(|error| error.to_string())?;
            Some(tokio_rustls::TlsAcceptor::from(config))
        }
        None => None,
    };
    let runtime = match threads {
        1 => tokio::runtime::Builder::new_current_thread().enable_io().build()?,
        _ => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_io()
            .build()?,
    };
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        announce(listener.local_addr()?)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                match acceptor {
                    Some(acceptor) => match acceptor.accept(stream).await {
                        Ok(stream) => echo_by_tokio(stream).await,
                        Err(error) => Err(error),
                    },
                    None => echo_by_tokio(stream).await,
                }
            });
        }
    })
}

async fn echo_by_tokio(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut buf = [0; BUFFER];
    loop {
        match stream.read(&mut buf).await? {
            0 => return Ok(()),
            bytes => stream.write_all(&buf[..bytes]).await?,
        }
        stream.flush().await?;
    }
}
