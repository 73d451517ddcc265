//! A chat, line by line, between standard input and a peer. Both may speak at any time. A long silence ends the
//! chat, and so does `/quit`: it closes the socket while another thread is blocked in a read.
//!
//! ```text
//! cargo run --example chat                                 with a peer of its own
//! cargo run --example chat -- localhost:7000               such as `nc -l 7000`
//! cargo run --example chat -- localhost:7000 60            ends after 60 seconds of silence
//! ```

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sockeye::{ErrorKind, Socket, SocketOptions, connect_with};

/// The limit for connecting.
const LIMIT: Duration = Duration::from_secs(10);
/// The maximum length of a line in bytes. A longer one becomes several lines.
const MAX_LINE: u64 = 4096;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (peer, idle) = match arguments.as_slice() {
        [] => return demonstrate(),
        [peer] => (peer, 600.0),
        [peer, seconds] => (peer, seconds.parse()?),
        _ => return Err("usage: chat [HOST:PORT [SECONDS]]".into()),
    };
    let idle = Duration::try_from_secs_f64(idle)?;
    let (type_in, typed) = mpsc::channel();
    // Not joined: it may wait for input that never comes.
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if type_in.send(line).is_err() {
                break;
            }
        }
    });
    chat(peer, idle, typed, |line| println!("{line}"))
}

/// Sends the typed lines and passes the peer's lines to `hear`, until one side leaves.
fn chat(
    peer: &str,
    idle: Duration,
    typed: Receiver<String>,
    hear: impl FnMut(&str),
) -> Result<(), Box<dyn Error>> {
    let options = SocketOptions::new().connect_timeout(LIMIT);
    let socket = connect_with(peer, options)?;
    let info = socket.opened().map_err(|error| format!("{:?}: {error}", error.kind()))?;
    eprintln!("(connected to {:?}, /quit leaves)", info.remote_address());

    thread::spawn({
        let socket = socket.clone();
        // If this fails, the connection has failed, and the reader reports it.
        move || say(&socket, idle, typed)
    });
    match listen(&socket, idle, hear) {
        Ok(()) => eprintln!("(the peer has left)"),
        Err(error) => match sockeye::Error::from_io(&error) {
            Some(error) if error.kind() == ErrorKind::Closed => eprintln!("(left)"),
            Some(error) if error.is_retryable() => {
                eprintln!("(silence for {idle:?})")
            }
            Some(error) => return Err(format!("{:?}: {error}", error.kind()).into()),
            None => return Err(error.into()),
        },
    }
    Ok(socket.close()?)
}

fn say(socket: &Socket, idle: Duration, typed: Receiver<String>) -> io::Result<()> {
    for line in typed {
        if line == "/quit" {
            // The blocked read in the other thread ends with `Closed`.
            return Ok(socket.close()?);
        }
        socket.writer().write_all(format!("{line}\n").as_bytes())?;
        // Applies to a read that is already blocked, too.
        socket.set_read_deadline(Some(Instant::now() + idle));
    }
    // The peer sees the end of the input, and may still speak.
    Ok(socket.writer().close()?)
}

fn listen(socket: &Socket, idle: Duration, mut hear: impl FnMut(&str)) -> io::Result<()> {
    let mut reader = BufReader::new(socket.reader());
    let mut line = Vec::new();
    loop {
        socket.set_read_deadline(Some(Instant::now() + idle));
        line.clear();
        if reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        hear(String::from_utf8_lossy(&line).trim_end());
    }
}

// --------------------------------------------------------------------------------- with a peer of its own

fn demonstrate() -> Result<(), Box<dyn Error>> {
    let (peer, address) = embedded()?;
    let (type_in, typed) = mpsc::channel();
    chat(&address, LIMIT, typed, |line| {
        println!("peer: {line}");
        let answer = if line == "welcome" { "hello" } else { "/quit" };
        println!("me:   {answer}");
        // Fails only if the sending side has ended.
        let _ = type_in.send(answer.to_owned());
    })?;
    peer.join().map_err(|_| "the peer has panicked")??;

    // From now on the peer is silent.
    let (peer, address) = embedded()?;
    let (_type_in, typed) = mpsc::channel();
    chat(&address, Duration::from_millis(300), typed, |line| println!("peer: {line}"))?;
    Ok(peer.join().map_err(|_| "the peer has panicked")??)
}

/// Greets one client and echoes its lines.
fn embedded() -> io::Result<(JoinHandle<io::Result<()>>, String)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?.to_string();
    let peer = thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(b"welcome\n")?;
        for line in BufReader::new(stream.try_clone()?).lines() {
            stream.write_all(format!("you said {}\n", line?).as_bytes())?;
        }
        Ok(())
    });
    Ok((peer, address))
}
