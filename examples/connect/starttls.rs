//! The dialogue in plaintext that ends with the server's go-ahead for TLS.
//!
//! It is read byte by byte. What the server, or somebody in between, says after the go-ahead is left
//! unread so, and `Socket::start_tls` finds it. (The example `starttls` does the same with a `BufReader`.)

use std::io::{self, ErrorKind, Read, Write};
use std::str::FromStr;

use sockeye::{Reader, Socket, Writer};

use crate::say;

/// How long a line of the server may be, in bytes. In IMAP capabilities fill one line.
const LINE: usize = 8 * 1024;
/// How many lines the server may say in all.
const LINES: usize = 100;
/// The length of the message, then 1234 and 5679 in the place of a protocol version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Whose words are used to ask for TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// RFC 3207.
    Smtp,
    /// RFC 9051, section 6.2.1.
    Imap,
    /// The SSLRequest of PostgreSQL's protocol.
    Postgres,
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "smtp" => Ok(Protocol::Smtp),
            "imap" => Ok(Protocol::Imap),
            "postgres" => Ok(Protocol::Postgres),
            _ => Err(format!("--starttls {text:?} is none of smtp, imap and postgres")),
        }
    }
}

/// Why there is no go-ahead.
pub enum Fault {
    /// The server does not want to, or makes no sense; in words.
    Declined(String),
    /// The connection failed, or a limit passed.
    Wire(io::Error),
}

/// Speaks until the server waits for the handshake.
pub fn ask(socket: &Socket, protocol: Protocol, verbose: bool) -> Result<(), Fault> {
    let (reader, writer) = (socket.reader(), socket.writer());
    let mut dialogue = Dialogue { reader, writer, verbose, lines_left: LINES };
    match protocol {
        Protocol::Smtp => smtp(&mut dialogue),
        Protocol::Imap => imap(&mut dialogue),
        Protocol::Postgres => postgres(&mut dialogue),
    }
}

fn smtp(dialogue: &mut Dialogue) -> Result<(), Fault> {
    smtp_reply(dialogue, "220")?;
    dialogue.tell("EHLO localhost")?;
    smtp_reply(dialogue, "250")?;
    dialogue.tell("STARTTLS")?;
    smtp_reply(dialogue, "220")
}

/// A reply of one line or more: all but the last have a hyphen after the code (RFC 5321, section 4.2.1).
fn smtp_reply(dialogue: &mut Dialogue, wanted: &str) -> Result<(), Fault> {
    loop {
        let line = dialogue.hear()?;
        match line.strip_prefix(wanted).map(|rest| rest.bytes().next()) {
            Some(Some(b'-')) => {}
            Some(Some(b' ') | None) => return Ok(()),
            Some(Some(_)) | None => return Err(declined(&line)),
        }
    }
}

fn imap(dialogue: &mut Dialogue) -> Result<(), Fault> {
    let greeting = dialogue.hear()?;
    // After `* PREAUTH` it is too late for STARTTLS, `* BYE` is a farewell.
    if !has_prefix(&greeting, "* OK") {
        return Err(declined(&greeting));
    }
    dialogue.tell("a1 STARTTLS")?;
    loop {
        let line = dialogue.hear()?;
        if line.starts_with("* ") {
            continue;
        }
        return if has_prefix(&line, "a1 OK") { Ok(()) } else { Err(declined(&line)) };
    }
}

fn postgres(dialogue: &mut Dialogue) -> Result<(), Fault> {
    dialogue.send("SSLRequest", &SSL_REQUEST)?;
    let answer = char::from(dialogue.byte()?);
    if dialogue.verbose {
        say(format_args!("server: {answer:?}"));
    }
    if answer == 'S' { Ok(()) } else { Err(declined(&answer.to_string())) }
}

/// Without regard to case, as a word of its own.
fn has_prefix(line: &str, words: &str) -> bool {
    let (line, words) = (line.as_bytes(), words.as_bytes());
    line.get(..words.len()).is_some_and(|start| start.eq_ignore_ascii_case(words))
        && line.get(words.len()).is_none_or(|next| *next == b' ')
}

fn declined(said: &str) -> Fault {
    // Quoted, so that nothing in it can do anything to a terminal.
    Fault::Declined(format!("the server does not agree to TLS: it says {said:?}"))
}

/// Both sides of the connection, and what it may still take.
struct Dialogue {
    reader: Reader,
    writer: Writer,
    verbose: bool,
    lines_left: usize,
}

impl Dialogue {
    fn tell(&mut self, line: &str) -> Result<(), Fault> {
        self.send(line, format!("{line}\r\n").as_bytes())
    }

    fn send(&mut self, shown: &str, bytes: &[u8]) -> Result<(), Fault> {
        if self.verbose {
            say(format_args!("client: {shown:?}"));
        }
        self.writer.write_all(bytes).map_err(Fault::Wire)
    }

    /// The server's next line, without its end.
    fn hear(&mut self) -> Result<String, Fault> {
        let Some(lines_left) = self.lines_left.checked_sub(1) else {
            return Err(Fault::Declined(format!("the server says more than {LINES} lines")));
        };
        self.lines_left = lines_left;
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => break,
                _ if line.len() == LINE => {
                    return Err(Fault::Declined(format!(
                        "the server says a line of more than {LINE} bytes"
                    )));
                }
                byte => line.push(byte),
            }
        }
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line)).into_owned();
        if self.verbose {
            say(format_args!("server: {line:?}"));
        }
        Ok(line)
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        let mut byte = [0];
        match self.reader.read_exact(&mut byte) {
            Ok(()) => Ok(byte[0]),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(Fault::Declined(
                String::from("the server ends the connection without agreeing to TLS"),
            )),
            Err(error) => Err(Fault::Wire(error)),
        }
    }
}
