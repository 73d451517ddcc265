//! Shows the library against a small gopher server (RFC 1436) in this process, in plaintext and over TLS.
//!
//! All connections are on loopback, and every wait has a limit.

mod secured;

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use sockeye::{Socket, SocketOptions};

use crate::exit::{Exit, say};
use crate::report::took;

/// The limit for any wait of the demonstration.
const LIMIT: Duration = Duration::from_secs(5);
/// The time for which the cancelled read is blocked.
const PATIENCE: Duration = Duration::from_millis(100);

/// Prints a transcript to standard output.
pub fn run() -> Exit {
    match transcript(&mut io::stdout().lock()) {
        Ok(()) => Exit::Clean,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Exit::Clean,
        Err(error) => {
            say(format_args!("the demonstration failed: {error}"));
            Exit::NotConnected
        }
    }
}

fn transcript(out: &mut impl Write) -> io::Result<()> {
    let server = start_server(answer)?;
    writeln!(out, "sockeye, at work against a small gopher server of its own on {server}")?;
    request(out, server)?;
    refused(out)?;
    cancelled(out, server)?;
    secured::transcript(out)?;
    writeln!(out, "\nThat was all. Try --help, or give it a HOST:PORT.")
}

/// Shows a whole connection, from `connect` to `closed`.
fn request(out: &mut impl Write, server: SocketAddr) -> io::Result<()> {
    writeln!(out, "\n-- a request and its answer\n")?;
    let began = Instant::now();
    let socket = sockeye::connect_with(server, options())?;
    writeln!(out, "connect({server})")?;
    writeln!(out, "    returned at once, after {:.1?}, without waiting", began.elapsed())?;

    let info = socket.opened()?;
    writeln!(out, "opened()")?;
    let (remote, local) = (info.remote_address(), info.local_address());
    if let (Some(remote), Some(local)) = (remote, local) {
        writeln!(out, "    remote address {remote}, local address {local}")?;
    }
    writeln!(out, "    {}, phase {:?}", took(info.timings()), socket.phase())?;

    let (mut reader, mut writer) = (socket.reader(), socket.writer());
    writer.write_all(b"/salmon\r\n")?;
    writeln!(out, "writer.write_all(\"/salmon\\r\\n\")\n    9 bytes written")?;
    writer.close()?;
    writeln!(out, "writer.close()\n    half-closed: the server sees the end, reads still work")?;

    let mut answer = String::new();
    let bytes = reader.read_to_string(&mut answer)?;
    writeln!(out, "reader.read_to_string()")?;
    quote(out, &answer)?;
    writeln!(out, "    {bytes} bytes, then the server's clean end")?;

    socket.closed_timeout(LIMIT)?;
    let stats = socket.stats();
    let (sent, received) = (stats.bytes_written, stats.bytes_read);
    writeln!(out, "closed()\n    Ok: both sides ended, {sent} bytes sent, {received} received")
}

/// Shows a refused connection.
fn refused(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\n-- a connection that is refused\n")?;
    // A port that was free a moment ago.
    let closed_port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let socket = sockeye::connect_with(closed_port, options())?;
    writeln!(out, "connect({closed_port})\n    a socket: nothing is known yet\nopened()")?;
    match socket.opened() {
        Ok(_) => writeln!(out, "    Ok: another program took that port just now"),
        Err(error) => {
            let attempts = error.attempts().len();
            writeln!(out, "    Err({:?}), attempts made: {attempts}\n    \"{error}\"", error.kind())
        }
    }
}

/// Shows a blocked read that another thread ends.
fn cancelled(out: &mut impl Write, server: SocketAddr) -> io::Result<()> {
    writeln!(out, "\n-- a read that waits in another thread, cancelled\n")?;
    let socket: Socket = sockeye::connect_with(server, options())?;
    socket.opened()?;
    let (tell, ended) = mpsc::channel();
    let mut reader = socket.reader();
    thread::Builder::new().spawn(move || {
        // The server sends nothing before a request.
        let _ = tell.send(reader.read(&mut [0; 64]));
    })?;
    writeln!(out, "reader.read()        (in another thread)")?;
    match ended.recv_timeout(PATIENCE) {
        Err(RecvTimeoutError::Timeout) => writeln!(out, "    still waiting after {PATIENCE:.1?}")?,
        Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("the reader is gone")),
        Ok(result) => return Err(io::Error::other(format!("a read ended early: {result:?}"))),
    }
    let began = Instant::now();
    socket.close()?;
    let closed = began.elapsed();
    let result = ended.recv_timeout(LIMIT).map_err(io::Error::other)?;
    writeln!(out, "close()\n    Ok after {closed:.1?}")?;
    match result {
        Ok(bytes) => Err(io::Error::other(format!("the cancelled read gave {bytes} bytes"))),
        Err(error) => {
            let kind = sockeye::Error::from_io(&error).map(sockeye::Error::kind);
            let kind =
                kind.map_or_else(|| format!("{:?}", error.kind()), |kind| format!("{kind:?}"));
            writeln!(out, "    and the read ended with Err({kind}), \"{error}\"")
        }
    }
}

fn options() -> SocketOptions {
    SocketOptions::new().connect_timeout(LIMIT).read_timeout(LIMIT).write_timeout(LIMIT)
}

fn quote(out: &mut impl Write, text: &str) -> io::Result<()> {
    text.lines().try_for_each(|line| writeln!(out, "    | {line}"))
}

/// Starts a server with a thread for every connection.
fn start_server(
    serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let serve = Arc::new(serve);
    thread::Builder::new().name(String::from("gopher")).spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            // A client that disconnects does not affect the next one.
            let _ = thread::Builder::new().spawn(move || serve(stream));
        }
    })?;
    Ok(address)
}

/// Serves a connection in plaintext.
fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    gopher(&mut stream)?;
    stream.shutdown(Shutdown::Write)
}

/// Reads a selector line, and writes a text and a line with a full stop.
fn gopher(stream: &mut (impl Read + Write)) -> io::Result<()> {
    let mut selector = String::new();
    // RFC 1436 allows 255 characters.
    let mut input = BufReader::new(Read::by_ref(stream).take(256));
    if input.read_line(&mut selector)? == 0 {
        return Ok(());
    }
    let text = match selector.trim_end() {
        "/salmon" => SALMON,
        _ => "3There is no such page\r\n",
    };
    stream.write_all(text.as_bytes())?;
    stream.write_all(b".\r\n")?;
    stream.flush()
}

const SALMON: &str = "\
The sockeye, Oncorhynchus nerka, is a salmon of the northern Pacific.\r
It goes up a stream, does what it came for, and closes.\r
";
