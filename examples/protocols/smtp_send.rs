//! Sends a mail through a server that upgrades to TLS with STARTTLS (RFC 3207). It never sends the mail in plaintext.
//!
//! ```text
//! cargo run --example smtp_send                                  with servers of its own
//! cargo run --example smtp_send -- mail.example.com:587 me@example.com you@example.com < mail.txt
//! cargo run --example smtp_send -- localhost:2525 me@localhost you@localhost --ca ca.pem < mail.txt
//! ```
//!
//! Standard input is the mail with its headers. If `SMTP_USER` and `SMTP_PASSWORD` are set, the program logs in.

mod embedded;

use std::env;
use std::error::Error;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use embedded::{Embedded, arguments, explain};
use rustls::{ServerConnection, StreamOwned};
use sockeye::{Reader, SecureTransport, Socket, SocketOptions, TlsOptions, connect_with};

/// The limit for connecting with the handshake, and for each read and write.
const LIMIT: Duration = Duration::from_secs(60);
/// The maximum length of a reply in bytes.
const MAX_ANSWER: u64 = 64 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let (arguments, tls) = arguments()?;
    let message = match arguments.as_slice() {
        [] => demonstrate(),
        [server, from, to] => send(server, tls, from, to, &io::read_to_string(io::stdin())?),
        _ => Err("usage: smtp_send [HOST:PORT FROM TO] [--ca FILE]".into()),
    };
    message.map_err(explain)
}

fn send(
    server: &str,
    tls: TlsOptions,
    from: &str,
    to: &str,
    mail: &str,
) -> Result<(), Box<dyn Error>> {
    let options = SocketOptions::new()
        .secure_transport(SecureTransport::StartTls)
        .tls(tls)
        .connect_timeout(LIMIT)
        .read_timeout(LIMIT)
        .write_timeout(LIMIT);
    let plain = Session::new(connect_with(server, options)?);
    let mut session = upgrade(plain)?;
    if let Some(tls) = session.socket.opened()?.tls() {
        println!("secured by {}, {}", tls.version(), tls.cipher_suite_name());
    }
    // Replies before the upgrade cannot be trusted, so ask again.
    session.command("EHLO localhost", "250")?;
    if let (Ok(user), Ok(password)) = (env::var("SMTP_USER"), env::var("SMTP_PASSWORD")) {
        let secret = BASE64_STANDARD.encode(format!("\0{user}\0{password}"));
        session.command(&format!("AUTH PLAIN {secret}"), "235")?;
    }
    session.command(&format!("MAIL FROM:<{from}>"), "250")?;
    session.command(&format!("RCPT TO:<{to}>"), "250")?;
    session.command("DATA", "354")?;
    // Over TLS each write is a record.
    let mut writer = BufWriter::new(session.socket.writer());
    for line in mail.lines() {
        // A line with a single dot would end the mail.
        let dot = if line.starts_with('.') { "." } else { "" };
        write!(writer, "{dot}{line}\r\n")?;
    }
    writer.flush()?;
    let taken = session.command(".", "250")?;
    println!("sent: {}", taken.trim_end());
    session.command("QUIT", "221")?;
    Ok(session.socket.close()?)
}

/// Upgrades the connection to TLS, or fails.
fn upgrade(mut plain: Session) -> Result<Session, Box<dyn Error>> {
    plain.answer("220")?;
    let offers = plain.command("EHLO localhost", "250")?;
    let mut offers = offers.lines().filter_map(|line| line.get(4..));
    if !offers.any(|offer| offer.eq_ignore_ascii_case("STARTTLS")) {
        return Err("the server offers no TLS, so it gets no mail".into());
    }
    plain.command("STARTTLS", "220")?;
    // Plaintext in the buffer must not be taken for an answer over TLS. `start_tls` checks the bytes that are still
    // on the wire.
    if !plain.reader.buffer().is_empty() {
        return Err(
            "plaintext follows the go-ahead of the server: somebody may have injected it".into()
        );
    }
    Ok(Session::new(plain.socket.start_tls()?))
}

struct Session {
    socket: Socket,
    reader: BufReader<Reader>,
}

impl Session {
    fn new(socket: Socket) -> Self {
        Session { reader: BufReader::new(socket.reader()), socket }
    }

    /// Sends a line and reads the reply.
    fn command(&mut self, line: &str, code: &str) -> Result<String, Box<dyn Error>> {
        if line.contains(['\r', '\n']) {
            return Err("an address of two lines would be two commands".into());
        }
        self.socket.writer().write_all(format!("{line}\r\n").as_bytes())?;
        self.answer(code)
    }

    /// Reads all lines of a reply, which must have this code.
    fn answer(&mut self, code: &str) -> Result<String, Box<dyn Error>> {
        let mut limited = self.reader.by_ref().take(MAX_ANSWER);
        let mut all = String::new();
        loop {
            let begin = all.len();
            limited.read_line(&mut all)?;
            let line = &all[begin..];
            // A line without its end was truncated.
            if !line.starts_with(code) || !line.ends_with('\n') {
                return Err(format!("the server says {:?}, not {code}", line.trim_end()).into());
            }
            // A hyphen after the code means that more lines follow.
            if line.as_bytes().get(code.len()) != Some(&b'-') {
                return Ok(all);
            }
        }
    }
}

// --------------------------------------------------------------------------- with servers of its own

fn demonstrate() -> Result<(), Box<dyn Error>> {
    let mail = "Subject: upstream\n\nTo where it began.\n.\nA line of one dot is above this one.\n";
    for offers in ["250-localhost\r\n250 STARTTLS\r\n", "250 localhost\r\n"] {
        let honest = offers.contains("STARTTLS");
        println!("-- {}", if honest { "a server with TLS" } else { "a server without TLS" });
        let server = Embedded::start(move |stream, tls| serve(stream, tls, offers))?;
        match send(&server.address, server.trusted()?, "me@localhost", "you@localhost", mail) {
            Err(error) if !honest => println!("{error}"),
            message => message?,
        }
        server.join()?;
    }
    Ok(())
}

fn serve(mut stream: TcpStream, tls: ServerConnection, offers: &str) -> io::Result<()> {
    stream.write_all(b"220 localhost\r\n")?;
    hear(&mut stream, "EHLO")?;
    stream.write_all(offers.as_bytes())?;
    if !offers.contains("STARTTLS") {
        let mut rest = String::new();
        stream.read_to_string(&mut rest)?;
        assert_eq!(rest, "", "the client continues in plaintext");
        return Ok(());
    }
    hear(&mut stream, "STARTTLS")?;
    stream.write_all(b"220 go ahead\r\n")?;
    let mut stream = StreamOwned::new(tls, stream);
    for (command, answer) in [
        ("EHLO", "250 localhost"),
        ("MAIL FROM", "250 ok"),
        ("RCPT TO", "250 ok"),
        ("DATA", "354 go on"),
        (".\r\n", "250 taken"),
        ("QUIT", "221 bye"),
    ] {
        while !hear(&mut stream, if command == ".\r\n" { "" } else { command })?
            .starts_with(command)
        {}
        stream.write_all(format!("{answer}\r\n").as_bytes())?;
    }
    stream.conn.send_close_notify();
    stream.flush()
}

/// Reads byte by byte, so that no byte of the handshake is taken.
fn hear(stream: &mut impl Read, expected: &str) -> io::Result<String> {
    let mut line = String::new();
    while !line.ends_with('\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.push(char::from(byte[0]));
    }
    if line.starts_with(expected) { Ok(line) } else { Err(io::Error::other(line)) }
}
