//! A small server for mail that takes nothing in plaintext (SMTP, RFC 5321; STARTTLS, RFC 3207).
//!
//! ```text
//! cargo run --example smtp_receive                                        serves clients of its own, and ends
//! cargo run --example smtp_receive -- 127.0.0.1:2525 CHAIN.pem KEY.pem    prints mails until its standard input ends
//! ```
//!
//! `read_until` takes a command and not one byte more, so what follows STARTTLS stays in the kernel. There
//! `start_tls_after` finds it, and refuses to continue. A server that kept such bytes would take the commands of an
//! attacker for those of the user (CVE-2011-0411).

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};
use sockeye::{
    Identity, IngressRules, ListenOptions, Listener, SecureTransport, ServerTlsOptions, Socket,
    SocketOptions, TlsOptions, connect_with, listen_with,
};

/// The maximum number of clients that are served at once.
const MAX_CLIENTS: usize = 50;
/// The limit for one command, and for the whole of a mail (RFC 5321, section 4.5.3.2).
const COMMAND_LIMIT: Duration = Duration::from_secs(5 * 60);
const MAIL_LIMIT: Duration = Duration::from_secs(10 * 60);
/// The maximum length of a line with its end, in bytes, which also covers commands (RFC 5321, section 4.5.3.1).
const MAX_LINE: usize = 1000;
/// The maximum size of a mail in bytes, and of its recipients.
const MAX_MAIL: usize = 1 << 20;
const MAX_RECIPIENTS: usize = 100;
/// The limit for each wait of the clients of its own.
const LIMIT: Duration = Duration::from_secs(10);

const GREETING: &[u8] = b"220 localhost ESMTP\r\n";
const GO_AHEAD: &[u8] = b"220 Ready to start TLS\r\n";

/// A mail and its envelope.
#[derive(Debug, Default)]
struct Mail {
    from: Option<String>,
    to: Vec<String>,
    text: Vec<u8>,
}

fn main() -> Result<(), Box<dyn Error>> {
    if cfg!(not(any(feature = "aws-lc-rs", feature = "ring"))) {
        // The library was built without a TLS provider, so the program installs one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => demonstrate(),
        [address, chain, key] => {
            let listener = listen_with(&**address, options(Identity::from_pem_files(chain, key)?))?;
            if let Some(address) = listener.local_address() {
                eprintln!("smtp_receive: listening on {address}");
            }
            let closer = listener.clone();
            thread::spawn(move || {
                let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
                closer.close();
            });
            serve(&listener, |mail| {
                println!("from {:?} to {:?}:", mail.from.unwrap_or_default(), mail.to);
                println!("{}", String::from_utf8_lossy(&mail.text));
            })?;
            Ok(())
        }
        _ => Err("usage: smtp_receive [ADDRESS:PORT CHAIN.pem KEY.pem]".into()),
    }
}

fn options(identity: Identity) -> ListenOptions {
    let socket = SocketOptions::new()
        .secure_transport(SecureTransport::StartTls)
        .server_tls(ServerTlsOptions::new(identity))
        .write_timeout(COMMAND_LIMIT);
    ListenOptions::new().socket(socket).ingress(IngressRules::allow_all().max_per_client(10))
}

/// Serves until the listener is closed and every client is done. Each mail is passed to `deliver`.
fn serve(listener: &Listener, deliver: impl Fn(Mail) + Sync) -> sockeye::Result<()> {
    listener.serve(MAX_CLIENTS, |socket| {
        // The connection is closed when this returns.
        if let Err(error) = converse(&socket, &deliver) {
            eprintln!("smtp_receive: {error}");
        }
    })
}

// --------------------------------------------------------------------------- the dialogue

/// Serves one client.
fn converse(plain: &Socket, deliver: &impl Fn(Mail)) -> io::Result<()> {
    plain.writer().write_all(GREETING)?;
    while let Some(command) = read_command(plain)? {
        let answer = match verb(&command).as_str() {
            "STARTTLS" if command.len() == "STARTTLS".len() => {
                // Fails if anything follows the command, and sends nothing then.
                let secure = plain.start_tls_after(GO_AHEAD)?;
                // What was said in plaintext does not count any more.
                return receive(&secure, deliver);
            }
            "STARTTLS" => "501 STARTTLS has no parameters",
            "EHLO" => "250-localhost\r\n250 STARTTLS",
            "HELO" | "NOOP" | "RSET" => "250 OK",
            "QUIT" => return tell(plain, "221 Bye"),
            _ => "530 Must issue a STARTTLS command first",
        };
        tell(plain, answer)?;
    }
    Ok(())
}

/// Receives mails over TLS.
fn receive(secure: &Socket, deliver: &impl Fn(Mail)) -> io::Result<()> {
    let mut mail = Mail::default();
    while let Some(command) = read_command(secure)? {
        let answer = match (verb(&command).as_str(), address(&command)) {
            ("EHLO", _) => {
                mail = Mail::default();
                "250-localhost\r\n250-SIZE 1048576\r\n250 8BITMIME"
            }
            ("HELO" | "RSET", _) => {
                mail = Mail::default();
                "250 OK"
            }
            ("MAIL", Some(from)) if mail.from.is_none() => {
                mail.from = Some(from);
                "250 OK"
            }
            ("RCPT", Some(_)) if mail.from.is_none() => "503 MAIL comes first",
            ("RCPT", Some(_)) if mail.to.len() == MAX_RECIPIENTS => "452 Too many recipients",
            ("RCPT", Some(to)) => {
                mail.to.push(to);
                "250 OK"
            }
            ("DATA", _) if mail.to.is_empty() => "503 MAIL and RCPT come first",
            ("DATA", _) => {
                tell(secure, "354 End with a line of one dot")?;
                let mut received = std::mem::take(&mut mail);
                match read_mail(secure)? {
                    Some(text) => {
                        received.text = text;
                        deliver(received);
                        "250 Taken"
                    }
                    None => "552 The mail is too large",
                }
            }
            ("MAIL", Some(_)) => "503 There is a sender already",
            ("MAIL" | "RCPT", None) => "501 An address in angle brackets is missing",
            ("NOOP", _) => "250 OK",
            ("QUIT", _) => return tell(secure, "221 Bye"),
            _ => "502 Not implemented",
        };
        tell(secure, answer)?;
    }
    Ok(())
}

fn tell(mut socket: &Socket, answer: &str) -> io::Result<()> {
    socket.write_all(format!("{answer}\r\n").as_bytes())
}

fn verb(command: &str) -> String {
    command.split(' ').next().unwrap_or_default().to_ascii_uppercase()
}

/// Returns what is in the angle brackets of `MAIL FROM:<…>` or `RCPT TO:<…>`.
fn address(command: &str) -> Option<String> {
    let (_, rest) = command.split_once(":<").or_else(|| command.split_once(": <"))?;
    rest.split_once('>').map(|(address, _)| address.to_owned())
}

/// Reads a command without its end, or `None` at the client's end.
fn read_command(socket: &Socket) -> io::Result<Option<String>> {
    // A deadline, because a timeout would start again with every byte.
    socket.set_read_deadline(Instant::now().checked_add(COMMAND_LIMIT));
    let mut line = Vec::new();
    if !read_line(socket, &mut line)? {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(line.trim_ascii_end()).into_owned()))
}

/// Reads the text of a mail. Returns `None` if it is too large.
fn read_mail(socket: &Socket) -> io::Result<Option<Vec<u8>>> {
    socket.set_read_deadline(Instant::now().checked_add(MAIL_LIMIT));
    let (mut text, mut size) = (Vec::new(), 0_usize);
    loop {
        let mut line = Vec::new();
        if !read_line(socket, &mut line)? {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the client ended in its mail"));
        }
        if line == b".\r\n" {
            return Ok((size <= MAX_MAIL).then_some(text));
        }
        // The client doubles a dot that begins a line.
        let line = line.strip_prefix(b".").unwrap_or(&line);
        size = size.saturating_add(line.len());
        if size <= MAX_MAIL {
            text.extend_from_slice(line);
        }
    }
}

/// Appends a line. Returns `false` at the client's end.
fn read_line(socket: &Socket, line: &mut Vec<u8>) -> io::Result<bool> {
    match socket.reader().read_until(b'\n', line, MAX_LINE) {
        Ok(0) => Ok(false),
        // Servers that take a bare line feed for the end of a line let mails be smuggled (CVE-2023-51764).
        Ok(_) if line.ends_with(b"\r\n") => Ok(true),
        Ok(_) => refuse(socket, "500 A line ends with CR and LF"),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            refuse(socket, "500 The line is too long")
        }
        Err(error) => Err(error),
    }
}

/// Answers for the last time.
fn refuse(socket: &Socket, answer: &str) -> io::Result<bool> {
    tell(socket, answer)?;
    Err(io::Error::new(ErrorKind::InvalidData, answer.to_owned()))
}

// --------------------------------------------------------------------------- with clients of its own

fn demonstrate() -> Result<(), Box<dyn Error>> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new([String::from("localhost")])?.self_signed(&key)?;
    let identity = Identity::from_pem(certificate.pem(), key.serialize_pem())?;
    let trusted = TlsOptions::new().add_root_pem(certificate.pem())?.only_added_roots();
    let client = SocketOptions::new()
        .secure_transport(SecureTransport::StartTls)
        .tls(trusted.server_name("localhost"))
        .connect_timeout(LIMIT)
        .read_timeout(LIMIT)
        .write_timeout(LIMIT);

    let listener = listen_with("127.0.0.1:0", options(identity))?;
    let server = listener.local_address().ok_or("the listener has no address")?;
    let (mails, received) = mpsc::channel();
    thread::scope(|scope| {
        let serving = scope.spawn(|| serve(&listener, move |mail| drop(mails.send(mail))));
        let outcome = send(server, client.clone()).and_then(|()| attack(server, client));
        // Before an error is returned, because the server would never end.
        listener.close();
        serving.join().map_err(|_| "the server panicked")??;
        outcome
    })?;
    for mail in received {
        println!("received from {:?} to {:?}:", mail.from.unwrap_or_default(), mail.to);
        println!("{}", String::from_utf8_lossy(&mail.text));
    }
    Ok(())
}

/// Sends a mail.
fn send(server: SocketAddr, options: SocketOptions) -> Result<(), Box<dyn Error>> {
    let plain = connect_with(server, options)?;
    expect(&plain, "220")?;
    ask(&plain, "EHLO localhost", "250")?;
    ask(&plain, "MAIL FROM:<me@localhost>", "530")?;
    ask(&plain, "STARTTLS", "220")?;
    let secure = plain.start_tls()?;
    if let Some(tls) = secure.opened()?.tls() {
        println!("secured by {}, {}", tls.version(), tls.cipher_suite_name());
    }
    ask(&secure, "EHLO localhost", "250")?;
    ask(&secure, "MAIL FROM:<me@localhost>", "250")?;
    ask(&secure, "RCPT TO:<you@localhost>", "250")?;
    ask(&secure, "DATA", "354")?;
    let mail =
        "Subject: upstream\r\n\r\nTo where it began.\r\n..\r\nA line of one dot is above.\r\n.";
    ask(&secure, mail, "250")?;
    ask(&secure, "QUIT", "221")?;
    Ok(secure.close()?)
}

/// Plays an attacker on the path, who appends a command to the client's STARTTLS.
fn attack(server: SocketAddr, options: SocketOptions) -> Result<(), Box<dyn Error>> {
    let plain = connect_with(server, options)?;
    expect(&plain, "220")?;
    plain.writer().write_all(b"STARTTLS\r\nMAIL FROM:<evil@localhost>\r\n")?;
    let mut answer = String::new();
    plain.reader().read_to_string(&mut answer)?;
    if !answer.is_empty() {
        return Err(format!("the server continues: {answer:?}").into());
    }
    println!("an injected command was refused without a word");
    Ok(())
}

/// Sends a line, and reads the answer.
fn ask(socket: &Socket, line: &str, code: &str) -> Result<(), Box<dyn Error>> {
    tell(socket, line)?;
    expect(socket, code)
}

/// Reads all lines of an answer, which must have this code.
fn expect(socket: &Socket, code: &str) -> Result<(), Box<dyn Error>> {
    loop {
        let mut line = Vec::new();
        socket.reader().read_until(b'\n', &mut line, MAX_LINE)?;
        if !line.starts_with(code.as_bytes()) || !line.ends_with(b"\n") {
            return Err(format!("the server says {:?}", String::from_utf8_lossy(&line)).into());
        }
        // A hyphen after the code means that more lines follow.
        if line.get(code.len()) != Some(&b'-') {
            return Ok(());
        }
    }
}
