//! The plaintext dialogue before an upgrade, up to the server's go-ahead.
//!
//! It is read byte by byte, so that bytes after the go-ahead stay on the wire, where `Socket::start_tls` finds them.
//! The example `starttls` does the same with a `BufReader`.

use std::io::{self, ErrorKind, Read, Write};
use std::str::FromStr;

use sockeye::{Reader, Socket, Writer};

use crate::exit::say;

/// The maximum length of a line in bytes. In IMAP one line lists all capabilities.
const LINE: usize = 8 * 1024;
/// The maximum number of lines of the server.
const LINES: usize = 100;
/// PostgreSQL's SSLRequest: its length, then 1234 and 5679 in place of a protocol version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// The protocol of the dialogue.
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

/// Why the server gave no go-ahead.
pub enum Fault {
    /// The server declined, or sent an unexpected reply; the text says which.
    Declined(String),
    /// The connection failed, or a limit passed.
    Wire(io::Error),
}

/// Runs the dialogue until the server waits for the handshake.
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

/// Reads a reply. All lines but the last have a hyphen after the code (RFC 5321, section 4.2.1).
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
    // After `* PREAUTH` STARTTLS is not possible; `* BYE` ends the connection.
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

/// Returns whether the line begins with these whole words, ignoring case.
fn has_prefix(line: &str, words: &str) -> bool {
    let (line, words) = (line.as_bytes(), words.as_bytes());
    line.get(..words.len()).is_some_and(|start| start.eq_ignore_ascii_case(words))
        && line.get(words.len()).is_none_or(|next| *next == b' ')
}

fn declined(said: &str) -> Fault {
    // Quoted, so that control characters do not reach the terminal.
    Fault::Declined(format!("the server does not agree to TLS: it says {said:?}"))
}

/// The connection, and the number of lines that may still come.
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

    /// Reads the server's next line, without its end.
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
