//! A pipeline to Redis: one thread writes 100,000 commands while another reads the replies. A single thread that
//! writes all commands first would block forever once the buffers of both kernels are full.
//!
//! ```text
//! cargo run --example redis_pipeline                              with a server of its own
//! cargo run --example redis_pipeline -- redis://localhost:6379
//! cargo run --example redis_pipeline -- unix:///run/redis/redis.sock
//! REDIS_PASSWORD=secret cargo run --example redis_pipeline -- rediss://localhost:6380 --ca ca.pem
//! ```
//!
//! It counts in a key of its own and removes it at the end.

mod embedded;

use std::error::Error;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use embedded::{Embedded, arguments, explain};
use rustls::{ServerConnection, StreamOwned};
use sockeye::{SecureTransport, Socket, SocketOptions, TlsOptions, Writer, connect_with};

/// The limit for connecting, and for each read and write.
const LIMIT: Duration = Duration::from_secs(10);
const COMMANDS: u64 = 100_000;
/// The maximum length of a reply line in bytes.
const MAX_REPLY: u64 = 4096;
/// Over TLS each write is a record of at most 16 KiB.
const RECORD: usize = 16 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let (arguments, tls) = arguments()?;
    let message = match arguments.as_slice() {
        [] => demonstrate(),
        [url] => count(url, tls),
        _ => Err("usage: redis_pipeline [URL] [--ca FILE]".into()),
    };
    message.map_err(explain)
}

fn count(url: &str, tls: TlsOptions) -> Result<(), Box<dyn Error>> {
    let options =
        SocketOptions::new().connect_timeout(LIMIT).read_timeout(LIMIT).write_timeout(LIMIT);
    let socket = match url.split_once("://") {
        Some(("rediss", address)) => {
            connect_with(address, options.secure_transport(SecureTransport::On).tls(tls))?
        }
        Some(("redis", address)) => connect_with(address, options)?,
        Some(("unix", path)) => connect_path(path, options)?,
        _ => return Err("none of redis://, rediss:// and unix://".into()),
    };
    let mut reader = BufReader::new(socket.reader());

    if let Ok(password) = std::env::var("REDIS_PASSWORD") {
        // Before the pipeline: Redis disconnects unauthenticated clients that send much.
        let mut auth = Vec::new();
        command(&mut auth, &["AUTH", &password])?;
        socket.writer().write_all(&auth)?;
        expect(&mut reader, "+OK")?;
    }

    let begin = Instant::now();
    let writing = thread::spawn({
        let writer = socket.writer();
        move || write(writer, &format!("sockeye:{}", std::process::id()))
    });
    let read = (1..=COMMANDS)
        .try_for_each(|number| expect(&mut reader, &format!(":{number}")))
        .and_then(|()| expect(&mut reader, ":1"));
    if read.is_err() {
        // Otherwise the writer would keep writing.
        socket.abort();
    }
    let written = writing.join().map_err(|_| "the writing thread has panicked")?;
    // Reports the first error: the abort makes another one.
    read.and_then(|()| Ok::<_, Box<dyn Error>>(written?))?;

    let stats = socket.stats();
    println!(
        "{COMMANDS} replies in {:.0?}: {} bytes written, {} read",
        begin.elapsed(),
        stats.bytes_written,
        stats.bytes_read
    );
    Ok(socket.close()?)
}

#[cfg(unix)]
fn connect_path(path: &str, options: SocketOptions) -> Result<Socket, Box<dyn Error>> {
    let address = sockeye::UnixAddress::from_pathname(path)?;
    Ok(sockeye::connect_unix(address, options)?)
}

#[cfg(not(unix))]
fn connect_path(_: &str, _: SocketOptions) -> Result<Socket, Box<dyn Error>> {
    Err("this system has no Unix-domain sockets".into())
}

fn write(writer: Writer, key: &str) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(RECORD, writer);
    for _ in 0..COMMANDS {
        command(&mut writer, &["INCR", key])?;
    }
    command(&mut writer, &["DEL", key])?;
    writer.flush()
}

/// Encodes a command as an array of bulk strings.
fn command(writer: &mut impl Write, words: &[&str]) -> io::Result<()> {
    write!(writer, "*{}\r\n", words.len())?;
    words.iter().try_for_each(|word| write!(writer, "${}\r\n{word}\r\n", word.len()))
}

/// Reads a reply of one line, as these commands have.
fn expect(reader: &mut impl BufRead, expected: &str) -> Result<(), Box<dyn Error>> {
    let mut line = String::new();
    reader.take(MAX_REPLY).read_line(&mut line)?;
    match line.strip_suffix("\r\n") {
        Some(reply) if reply == expected => Ok(()),
        Some(reply) => Err(format!("{reply:?}, not {expected:?}").into()),
        None => Err(format!("the server ended after {line:?}").into()),
    }
}

// ------------------------------------------------------------------------------- with a server of its own

fn demonstrate() -> Result<(), Box<dyn Error>> {
    let server = Embedded::start(serve)?;
    count(&format!("rediss://{}", server.address), server.trusted()?)?;
    server.join()
}

fn serve(stream: TcpStream, tls: ServerConnection) -> io::Result<()> {
    let mut reader = BufReader::new(StreamOwned::new(tls, stream));
    let mut replies = Vec::new();
    let mut number = 0;
    // The command name is the third line of a command of two words.
    let mut lines = [const { String::new() }; 5];
    while lines[2] != "DEL\r\n" {
        for line in &mut lines {
            line.clear();
            reader.read_line(line)?;
        }
        number = if lines[2] == "DEL\r\n" { 1 } else { number + 1 };
        write!(replies, ":{number}\r\n")?;
        // Sends all replies to the commands received so far at once, as Redis does.
        if reader.buffer().is_empty() {
            reader.get_mut().write_all(&replies)?;
            replies.clear();
        }
    }
    let stream = reader.get_mut();
    stream.write_all(&replies)?;
    stream.conn.send_close_notify();
    stream.flush()
}
