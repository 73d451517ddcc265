//! Copies standard input to the socket and the socket to standard output, both at once.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use sockeye::{Reader, Socket, Writer};

use crate::args::Args;
use crate::dial;
use crate::exit::{Exit, broken, say};

/// The size of one read in bytes.
const BUFFER: usize = 64 * 1024;

/// Connects, copies until the connection ends, and reports the result.
pub fn run(args: &Args) -> Exit {
    let began = Instant::now();
    let socket = match dial::open(args) {
        Ok(socket) => socket,
        Err(exit) => return exit,
    };
    let exit = copy(&socket, args);
    if args.verbose {
        let (stats, took) = (socket.stats(), began.elapsed());
        let (sent, received) = (stats.bytes_written, stats.bytes_read);
        say(format_args!("closed after {took:.1?}: {sent} bytes sent, {received} bytes received"));
    }
    exit
}

fn copy(socket: &Socket, args: &Args) -> Exit {
    let (tell, sent) = mpsc::channel();
    let sending = socket.clone();
    let (verbose, closes) = (args.verbose, !args.no_half_close);
    let sender = thread::Builder::new().name(String::from("sender")).spawn(move || {
        let end = send(&mut sending.writer(), closes);
        if verbose && matches!(end, SendEnd::Done) {
            say(format_args!("end of input{}", if closes { ": half-closed" } else { "" }));
        }
        let failed = matches!(end, SendEnd::Input(_));
        // Set before the close, which ends the other thread's read.
        let _ = tell.send(end);
        if failed {
            let _ = sending.close();
        }
    });
    if let Err(error) = sender {
        say(format_args!("cannot start a thread: {error}"));
        return Exit::ThisSide;
    }

    let received = receive(&mut socket.reader());
    if verbose && matches!(received, ReceiveEnd::Peer) {
        say(format_args!("the other side has ended"));
    }
    let outcome = match &received {
        // With --half-open this also waits for the end of the input.
        ReceiveEnd::Peer => socket.closed().map_err(io::Error::from),
        // Hands over the written data. The reason why reading ended is reported below.
        ReceiveEnd::Wire(_) | ReceiveEnd::Output(_) => socket.close().map_err(io::Error::from),
    };
    // A sender that is blocked in a read of the input ends with the process.
    match (sent.try_recv(), received, outcome) {
        (Ok(SendEnd::Input(error)), ..) => {
            say(format_args!("standard input: {error}"));
            Exit::ThisSide
        }
        (_, ReceiveEnd::Output(error), _) if error.kind() == ErrorKind::BrokenPipe => Exit::Clean,
        (_, ReceiveEnd::Output(error), _) => {
            say(format_args!("standard output: {error}"));
            Exit::ThisSide
        }
        (_, ReceiveEnd::Wire(error), _) | (_, ReceiveEnd::Peer, Err(error)) => broken(&error),
        (Ok(SendEnd::Wire), ReceiveEnd::Peer, Ok(())) => {
            say(format_args!("the other side ended before all of the input was sent"));
            Exit::Clean
        }
        (_, ReceiveEnd::Peer, Ok(())) => Exit::Clean,
    }
}

/// Why sending ended.
enum SendEnd {
    /// The input ended, and the connection is half-closed unless the user forbids it.
    Done,
    /// Standard input failed.
    Input(io::Error),
    /// The connection accepts no more data; the reading thread reports why.
    Wire,
}

/// Why receiving ended.
enum ReceiveEnd {
    /// The peer's clean end.
    Peer,
    /// Standard output failed.
    Output(io::Error),
    /// The connection failed, or a read timed out.
    Wire(io::Error),
}

fn send(writer: &mut Writer, closes: bool) -> SendEnd {
    let mut input = io::stdin().lock();
    let mut buffer = vec![0; BUFFER];
    loop {
        let bytes = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return SendEnd::Input(error),
        };
        if writer.write_all(&buffer[..bytes]).is_err() {
            return SendEnd::Wire;
        }
    }
    match if closes { writer.close() } else { Ok(()) } {
        Ok(()) => SendEnd::Done,
        Err(_) => SendEnd::Wire,
    }
}

fn receive(reader: &mut Reader) -> ReceiveEnd {
    let mut output = io::stdout().lock();
    let mut buffer = vec![0; BUFFER];
    loop {
        let bytes = match reader.read(&mut buffer) {
            Ok(0) => return ReceiveEnd::Peer,
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return ReceiveEnd::Wire(error),
        };
        // Flushes at once: the reader of the output may wait for a part of a line.
        if let Err(error) = output.write_all(&buffer[..bytes]).and_then(|()| output.flush()) {
            return ReceiveEnd::Output(error);
        }
    }
}
