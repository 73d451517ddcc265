//! A chat, line by line, between standard input and whoever is at the other end: both may speak at any time,
//! a silence that lasts too long ends it, and so does `/quit`, by closing the socket under the thread that reads.
//!
//! ```text
//! cargo run --example chat                                 with a peer of its own
//! cargo run --example chat -- localhost:7000               such as `nc -l 7000`
//! cargo run --example chat -- localhost:7000 60            until nobody has said a word for 60 seconds
//! ```

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sockeye::{ErrorKind, Socket, SocketOptions, connect_with};

/// The most that connecting may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The most bytes of a line; what is longer becomes several.
const LINE_MOST: u64 = 4096;

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
    // Not joined: it may wait for a line that nobody types.
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if type_in.send(line).is_err() {
                break;
            }
        }
    });
    chat(peer, idle, typed, |line| println!("{line}"))
}

/// Sends the lines that are typed and gives to `hear` those of the peer, until one of them leaves.
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
        // Where this fails, the connection has failed, of which the reader tells.
        move || say(&socket, idle, typed)
    });
    match listen(&socket, idle, hear) {
        Ok(()) => eprintln!("(the peer has left)"),
        Err(error) => match sockeye::Error::from_io(&error) {
            Some(error) if error.kind() == ErrorKind::Closed => eprintln!("(left)"),
            Some(error) if error.is_retryable() => {
                eprintln!("(nobody has said a word for {idle:?})")
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
            // The read that waits in the other thread ends with `Closed`.
            return Ok(socket.close()?);
        }
        socket.writer().write_all(format!("{line}\n").as_bytes())?;
        // Counts for the read that waits already, too.
        socket.set_read_deadline(Some(Instant::now() + idle));
    }
    // The peer hears that nothing follows, and may still speak.
    Ok(socket.writer().close()?)
}

fn listen(socket: &Socket, idle: Duration, mut hear: impl FnMut(&str)) -> io::Result<()> {
    let mut reader = BufReader::new(socket.reader());
    let mut line = Vec::new();
    loop {
        socket.set_read_deadline(Some(Instant::now() + idle));
        line.clear();
        if reader.by_ref().take(LINE_MOST).read_until(b'\n', &mut line)? == 0 {
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
        // Fails only when nobody would send it any more.
        let _ = type_in.send(answer.to_owned());
    })?;
    peer.join().map_err(|_| "the peer has panicked")??;

    // And now nobody answers.
    let (peer, address) = embedded()?;
    let (_type_in, typed) = mpsc::channel();
    chat(&address, Duration::from_millis(300), typed, |line| println!("peer: {line}"))?;
    Ok(peer.join().map_err(|_| "the peer has panicked")??)
}

/// Welcomes one, and then repeats what it hears.
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
