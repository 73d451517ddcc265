//! Lists the newest mails of a mailbox with the `imap` crate, over a socket that was upgraded with STARTTLS
//! (RFC 9051, section 6.2.1).
//!
//! ```text
//! cargo run --example imap_fetch                                  with a server of its own
//! IMAP_PASSWORD=secret cargo run --example imap_fetch -- mail.example.com:143 USER [MAILBOX] [--ca FILE]
//! ```
//!
//! A crate that is generic over `Read + Write` takes a `Socket` as it is. This program conducts the dialogue before
//! the upgrade itself, because the crate would keep bytes that it has read ahead.

mod embedded;

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use embedded::{Embedded, arguments, explain};
use imap::Client;
use rustls::{ServerConnection, StreamOwned};
use sockeye::{SecureTransport, Socket, SocketOptions, TlsOptions, connect_with};

/// The limit for connecting with the handshake, and for each read and write.
const LIMIT: Duration = Duration::from_secs(30);
const MAX_MAILS: u32 = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let (arguments, tls) = arguments()?;
    let password = || std::env::var("IMAP_PASSWORD").map_err(|_| "IMAP_PASSWORD is not set");
    let message = match arguments.as_slice() {
        [] => demonstrate(),
        [server, user] => fetch(server, tls, user, &password()?, "INBOX"),
        [server, user, mailbox] => fetch(server, tls, user, &password()?, mailbox),
        _ => Err("usage: imap_fetch [HOST:PORT USER [MAILBOX]] [--ca FILE]".into()),
    };
    message.map_err(explain)
}

fn fetch(
    server: &str,
    tls: TlsOptions,
    user: &str,
    password: &str,
    mailbox: &str,
) -> Result<(), Box<dyn Error>> {
    let options = SocketOptions::new()
        .secure_transport(SecureTransport::StartTls)
        .tls(tls)
        .connect_timeout(LIMIT)
        .read_timeout(LIMIT)
        .write_timeout(LIMIT);
    let socket = upgrade(&connect_with(server, options)?)?;
    if let Some(tls) = socket.opened()?.tls() {
        println!("secured by {}, {}", tls.version(), tls.cipher_suite_name());
    }

    // There is no greeting after an upgrade.
    let client = Client::new(socket.clone());
    let mut session = client.login(user, password).map_err(|(error, _)| cause(error))?;
    let count = session.examine(mailbox).map_err(cause)?.exists;
    println!("{mailbox}: {count} mails");
    if count > 0 {
        let newest = format!("{}:{count}", count.saturating_sub(MAX_MAILS - 1).max(1));
        let mails = session.fetch(newest, "BODY.PEEK[HEADER.FIELDS (SUBJECT)]").map_err(cause)?;
        for mail in mails.iter() {
            let header = String::from_utf8_lossy(mail.header().unwrap_or_default());
            println!("{:>5}  {}", mail.message, header.trim().escape_debug());
        }
    }
    session.logout().map_err(cause)?;
    Ok(socket.close()?)
}

/// Returns the socket's error, which the crate does not report as the source of its own.
fn cause(error: imap::Error) -> Box<dyn Error> {
    match error {
        imap::Error::Io(error) => error.into(),
        other => other.into(),
    }
}

/// Upgrades the connection to TLS, or fails.
fn upgrade(plain: &Socket) -> Result<Socket, Box<dyn Error>> {
    let mut reader = BufReader::new(plain.reader());
    let mut line = || -> io::Result<String> {
        let mut line = String::new();
        reader.by_ref().take(MAX_LINE).read_line(&mut line)?;
        Ok(line)
    };
    let greeting = line()?;
    if !greeting.starts_with("* OK") {
        return Err(format!("no greeting, but {greeting:?}").into());
    }
    plain.writer().write_all(b"s STARTTLS\r\n")?;
    let answer = loop {
        let line = line()?;
        // Untagged lines may come first.
        if !line.starts_with("* ") {
            break line;
        }
    };
    if !answer.starts_with("s OK") {
        return Err(format!("no upgrade, so no password: {answer:?}").into());
    }
    // Plaintext in the buffer must not be taken for an answer over TLS. `start_tls` checks the bytes that are still
    // on the wire.
    if !reader.buffer().is_empty() {
        return Err(
            "plaintext follows the go-ahead of the server: somebody may have injected it".into()
        );
    }
    Ok(plain.start_tls()?)
}

/// The maximum length of a line before the upgrade in bytes.
const MAX_LINE: u64 = 8192;

// ------------------------------------------------------------------------------- with a server of its own

fn demonstrate() -> Result<(), Box<dyn Error>> {
    let server = Embedded::start(serve)?;
    fetch(&server.address, server.trusted()?, "salmon", "secret", "INBOX")?;
    server.join()
}

fn serve(mut stream: TcpStream, tls: ServerConnection) -> io::Result<()> {
    stream.write_all(b"* OK salmon\r\n")?;
    // Exactly the length of the client's line, so that no byte of its handshake is read.
    stream.read_exact(&mut [0; b"s STARTTLS\r\n".len()])?;
    stream.write_all(b"s OK go ahead\r\n")?;
    let mut reader = BufReader::new(StreamOwned::new(tls, stream));
    let subject = "Subject: upstream\r\n\r\n";
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let (tag, command) = line.trim_end().split_once(' ').unwrap_or_default();
        let (message, last) = match command {
            "LOGIN \"salmon\" \"secret\"" => (String::new(), false),
            "EXAMINE \"INBOX\"" => ("* 2 EXISTS\r\n".into(), false),
            "FETCH 1:2 BODY.PEEK[HEADER.FIELDS (SUBJECT)]" => {
                let field =
                    format!("BODY[HEADER.FIELDS (SUBJECT)] {{{}}}\r\n{subject}", subject.len());
                (format!("* 1 FETCH ({field})\r\n* 2 FETCH ({field})\r\n"), false)
            }
            "LOGOUT" => ("* BYE salmon\r\n".into(), true),
            other => return Err(io::Error::other(format!("unexpected: {other:?}"))),
        };
        let stream = reader.get_mut();
        stream.write_all(format!("{message}{tag} OK\r\n").as_bytes())?;
        if last {
            stream.conn.send_close_notify();
            return stream.flush();
        }
    }
}
