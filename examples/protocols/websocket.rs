//! A WebSocket with `tungstenite`: one thread reads while another writes.
//!
//! ```text
//! cargo run --example websocket                              with a server of its own
//! cargo run --example websocket -- wss://example.com/chat    sends the lines of standard input
//! cargo run --example websocket -- wss://localhost:8443/ --ca ca.pem
//! ```
//!
//! A `tungstenite::WebSocket` reads and writes through `&mut self`, so a thread that is blocked in `read` would keep
//! all others from writing. Therefore each direction has a `WebSocket` of its own, over one socket. The reading one
//! must also send pongs and close replies, but not in the middle of the other's frame. It passes them to the thread
//! that writes.

mod embedded;

use std::error::Error;
use std::io::{self, Read, Write};
use std::iter;
use std::net::TcpStream;
use std::sync::mpsc::{self, Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use embedded::{Embedded, arguments, explain};
use rustls::{ServerConnection, StreamOwned};
use sockeye::{Reader, SecureTransport, Socket, SocketOptions, TlsOptions, Writer, connect_with};
use tungstenite::handshake::client::ClientHandshake;
use tungstenite::http::Uri;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role};
use tungstenite::{HandshakeError, Message, WebSocket};

/// The limit for connecting and for each write.
const LIMIT: Duration = Duration::from_secs(10);
/// The maximum number of queued messages. Adding one more blocks.
const MAX_QUEUE: usize = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let (arguments, tls) = arguments()?;
    let receiver = match arguments.as_slice() {
        [] => demonstrate(),
        [url] => {
            let lines = iter::from_fn(|| io::stdin().lines().next()?.ok().map(Message::text));
            talk(url, tls, lines, |heard| println!("{heard}"))
        }
        _ => Err("usage: websocket [URL] [--ca FILE]".into()),
    };
    receiver.map_err(explain)
}

/// Sends the messages and then a close, and passes incoming messages to `hear` until the server closes.
fn talk(
    url: &str,
    tls: TlsOptions,
    messages: impl Iterator<Item = Message> + Send + 'static,
    mut hear: impl FnMut(Message),
) -> Result<(), Box<dyn Error>> {
    let socket = dial(url, tls)?;
    // The `WebSocket` that makes the handshake also reads, because it may have read frames ahead.
    let ear = Ear { reader: socket.reader(), mouth: Mouth::Wire(socket.writer()) };
    let (mut incoming, _) = tungstenite::client(url, ear).map_err(cause)?;

    let (queue, queued) = sync_channel(MAX_QUEUE);
    let answer = Arc::new(Mutex::new(Vec::new()));
    incoming.get_mut().mouth = Mouth::Thread { answer: Arc::clone(&answer), queue: queue.clone() };
    let outgoing = socket.clone();
    let sending = thread::spawn(move || {
        // Its error also ends the reading.
        send(&outgoing, queued, &answer).inspect_err(|_| outgoing.abort())
    });
    // Not joined: it may wait for input that never comes.
    let program = queue.clone();
    thread::spawn(move || {
        let close_frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        for message in messages.chain([Message::Close(Some(close_frame))]) {
            if program.send(Outgoing::Message(message)).is_err() {
                return; // the connection has ended
            }
        }
    });

    let heard = loop {
        match incoming.read() {
            // Sends the reply, unless this close is the reply.
            Ok(Message::Close(_)) => break incoming.flush(),
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => hear(message),
            // The next `read` answers pings.
            Ok(_) => {}
            Err(error) => {
                socket.abort();
                break Err(error);
            }
        }
    };
    let _ = queue.send(Outgoing::End); // fails if the thread has ended
    let sent = sending.join().map_err(|_| "the sending thread has panicked")?;
    heard.and(sent)?;
    Ok(socket.close()?)
}

fn dial(url: &str, tls: TlsOptions) -> Result<Socket, Box<dyn Error>> {
    let uri: Uri = url.parse()?;
    let options = SocketOptions::new().connect_timeout(LIMIT).write_timeout(LIMIT);
    let (options, port) = match uri.scheme_str() {
        Some("wss") => {
            let tls = tls.alpn(["http/1.1"]);
            (options.secure_transport(SecureTransport::On).tls(tls), 443)
        }
        Some("ws") => (options, 80),
        _ => return Err("neither ws:// nor wss://".into()),
    };
    let host = uri.host().ok_or("no host")?;
    Ok(connect_with((host, uri.port_u16().unwrap_or(port)), options)?)
}

/// Returns the socket's error, which the crate does not report as a source.
fn cause(error: HandshakeError<ClientHandshake<Ear>>) -> Box<dyn Error> {
    match error {
        HandshakeError::Failure(error) => error.into(),
        HandshakeError::Interrupted(_) => error.into(),
    }
}

enum Outgoing {
    Message(Message),
    /// A reply of the reading side is waiting.
    Answer,
    End,
}

/// Writes whole frames, one after another.
fn send(
    socket: &Socket,
    queued: Receiver<Outgoing>,
    answer: &Mutex<Vec<u8>>,
) -> tungstenite::Result<()> {
    let mut outgoing = WebSocket::from_raw_socket(socket, Role::Client, None);
    for next in queued {
        let frame = std::mem::take(&mut *answer.lock().unwrap_or_else(PoisonError::into_inner));
        outgoing.get_mut().write_all(&frame)?;
        match next {
            Outgoing::Message(message) => {
                let last = message.is_close();
                outgoing.send(message)?;
                if last {
                    // The time that the server has for its own close.
                    socket.set_read_deadline(Some(Instant::now() + LIMIT));
                    break;
                }
            }
            Outgoing::Answer => {}
            Outgoing::End => break,
        }
    }
    Ok(())
}

/// The stream of the reading `WebSocket`.
struct Ear {
    reader: Reader,
    mouth: Mouth,
}

/// The destination of the reading side's replies.
enum Mouth {
    /// During the handshake: nothing else writes.
    Wire(Writer),
    /// A newer reply replaces an unsent one (RFC 6455, section 5.5.3). So reading never waits for writing: if the server
    /// did the same, both would wait forever.
    Thread { answer: Arc<Mutex<Vec<u8>>>, queue: SyncSender<Outgoing> },
}

impl Read for Ear {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buf)
    }
}

impl Write for Ear {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.mouth {
            Mouth::Wire(writer) => writer.write(buf),
            Mouth::Thread { answer, queue } => {
                *answer.lock().unwrap_or_else(PoisonError::into_inner) = buf.to_vec();
                // If the queue is full, the thread will find the reply anyway. If the thread is gone, a close was sent.
                let _ = queue.try_send(Outgoing::Answer);
                Ok(buf.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// ------------------------------------------------------------------------------- with a server of its own

fn demonstrate() -> Result<(), Box<dyn Error>> {
    const MESSAGES: usize = 200;
    let server = Embedded::start(echo)?;
    // Only the last message waits for its predecessors, so that a ping is answered before the close.
    let (sender, receiver) = mpsc::channel();
    let last = iter::once_with(move || receiver.recv().map_or(0, |()| MESSAGES - 1));
    let numbers = (0..MESSAGES - 1).chain(last);
    let messages = numbers.map(|number| Message::text(format!("{number:010000}")));
    let mut heard = 0;
    talk(&format!("wss://{}/", server.address), server.trusted()?, messages, |message| {
        assert!(message.to_text().is_ok_and(|text| text.parse() == Ok(heard)), "out of order");
        heard += 1;
        if heard == MESSAGES - 1 {
            let _ = sender.send(());
        }
    })?;
    server.join()?;
    println!("{heard} of {MESSAGES} messages came back, and pings were answered");
    if heard == MESSAGES { Ok(()) } else { Err("some are missing".into()) }
}

/// Echoes messages and sends a ping after each. At least one ping must be answered.
fn echo(stream: TcpStream, tls: ServerConnection) -> io::Result<()> {
    let stream = StreamOwned::new(tls, stream);
    let mut socket =
        tungstenite::accept(stream).map_err(|error| io::Error::other(error.to_string()))?;
    let mut pongs = 0;
    loop {
        match socket.read() {
            Ok(Message::Pong(_)) => pongs += 1,
            Ok(message @ Message::Text(_)) => {
                let answered =
                    socket.send(message).and_then(|()| socket.send(Message::Ping("?".into())));
                answered.map_err(io::Error::other)?;
            }
            Ok(_) => {}
            Err(tungstenite::Error::ConnectionClosed) if pongs > 0 => break,
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    socket.get_mut().conn.send_close_notify();
    socket.get_mut().flush()
}
