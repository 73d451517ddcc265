//! Runs a query on PostgreSQL with `postgres-protocol`: an upgrade to TLS with SSLRequest, SCRAM authentication, and
//! rows.
//!
//! ```text
//! cargo run --example postgres_query                              with a server of its own
//! PGPASSWORD=secret cargo run --example postgres_query -- db.example.com:5432 USER DATABASE 'SELECT 1'
//! PGPASSWORD=secret cargo run --example postgres_query -- localhost:5432 USER DATABASE SQL --ca ca.pem
//! cargo run --example postgres_query -- /run/postgresql/.s.PGSQL.5432 USER DATABASE SQL
//! ```
//!
//! PostgreSQL has no TLS on a Unix-domain socket. There the kernel tells it the user, so it may ask for no password.

mod embedded;
#[path = "embedded/scram.rs"]
mod scram;

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::BytesMut;
use embedded::{Embedded, arguments, explain};
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{DataRowBody, ErrorResponseBody, Header, Message};
use postgres_protocol::message::frontend;
use rustls::{ServerConnection, StreamOwned};
use sockeye::{SecureTransport, Socket, SocketOptions, TlsOptions, connect_with};

/// The limit for connecting with the handshake, and for each read and write.
const LIMIT: Duration = Duration::from_secs(30);
/// The maximum length of a message in bytes.
const MAX_MESSAGE: i32 = 16 * 1024 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let (arguments, tls) = arguments()?;
    let message = match arguments.as_slice() {
        [] => demonstrate(),
        [server, user, database, statement] => {
            let password = std::env::var("PGPASSWORD");
            if server.starts_with('/') {
                let password = password.unwrap_or_default();
                return query_path(server, [user, &password, database], statement).map_err(explain);
            }
            let password = password.map_err(|_| "PGPASSWORD is not set")?;
            query(server, tls, [user, &password, database], statement)
        }
        _ => Err("usage: postgres_query [HOST:PORT|PATH USER DATABASE SQL] [--ca FILE]".into()),
    };
    message.map_err(explain)
}

fn query(
    server: &str,
    tls: TlsOptions,
    [user, password, database]: [&str; 3],
    statement: &str,
) -> Result<(), Box<dyn Error>> {
    let options = limited().secure_transport(SecureTransport::StartTls).tls(tls);
    let socket = upgrade(&connect_with(server, options)?)?;
    if let Some(tls) = socket.opened()?.tls() {
        println!("secured by {}, {}", tls.version(), tls.cipher_suite_name());
    }
    query_on(socket, [user, password, database], statement)
}

/// Queries the server that listens on a path.
#[cfg(unix)]
fn query_path(path: &str, who: [&str; 3], statement: &str) -> Result<(), Box<dyn Error>> {
    let address = sockeye::UnixAddress::from_pathname(path)?;
    let socket = sockeye::connect_unix(address, limited())?;
    if let Some(server) = socket.opened()?.peer_credentials() {
        println!("connected to a process of user {}", server.uid);
    }
    query_on(socket, who, statement)
}

#[cfg(not(unix))]
fn query_path(_: &str, _: [&str; 3], _: &str) -> Result<(), Box<dyn Error>> {
    Err("this system has no Unix-domain sockets".into())
}

fn limited() -> SocketOptions {
    SocketOptions::new().connect_timeout(LIMIT).read_timeout(LIMIT).write_timeout(LIMIT)
}

fn query_on(
    socket: Socket,
    [user, password, database]: [&str; 3],
    statement: &str,
) -> Result<(), Box<dyn Error>> {
    let mut session = Session { socket, buffer: BytesMut::new() };
    let parameters = [("user", user), ("database", database), ("client_encoding", "UTF8")];
    session.send(|buffer| frontend::startup_message(parameters, buffer))?;
    session.authenticate(password)?;

    session.send(|buffer| frontend::query(statement, buffer))?;
    loop {
        match session.message()? {
            Message::RowDescription(row) => {
                let names = row.fields().map(|field| Ok(field.name().to_owned()));
                println!("{}", names.collect::<Vec<_>>()?.join("\t"));
            }
            Message::DataRow(row) => println!("{}", text(&row)?),
            Message::CommandComplete(command) => println!("({})", command.tag()?),
            Message::ReadyForQuery(_) => break,
            _ => {}
        }
    }
    session.send(|buffer| {
        frontend::terminate(buffer);
        Ok(())
    })?;
    Ok(session.socket.close()?)
}

/// Upgrades the connection to TLS, or fails.
fn upgrade(plain: &Socket) -> Result<Socket, Box<dyn Error>> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    plain.writer().write_all(&request)?;
    let mut answer = [0];
    plain.reader().read_exact(&mut answer)?;
    match answer {
        // Fails if plaintext follows: it could be taken for an answer over TLS.
        [b'S'] => Ok(plain.start_tls()?),
        _ => Err("the server has no TLS, so it gets no password".into()),
    }
}

struct Session {
    socket: Socket,
    /// Received bytes that are no complete message yet.
    buffer: BytesMut,
}

impl Session {
    fn send(
        &mut self,
        message: impl FnOnce(&mut BytesMut) -> io::Result<()>,
    ) -> Result<(), Box<dyn Error>> {
        let mut bytes = BytesMut::new();
        message(&mut bytes)?;
        Ok(self.socket.writer().write_all(&bytes)?)
    }

    /// Returns the next message. An error message becomes an error.
    fn message(&mut self) -> Result<Message, Box<dyn Error>> {
        loop {
            if Header::parse(&self.buffer)?.is_some_and(|header| header.len() > MAX_MESSAGE) {
                return Err("a message that is too long".into());
            }
            match Message::parse(&mut self.buffer)? {
                Some(Message::ErrorResponse(error)) => return Err(error_text(&error)?.into()),
                Some(message) => return Ok(message),
                None => {
                    let mut bytes = [0; 8192];
                    match self.socket.reader().read(&mut bytes)? {
                        0 => return Err("the server has ended".into()),
                        count => self.buffer.extend_from_slice(&bytes[..count]),
                    }
                }
            }
        }
    }

    /// Authenticates until the server is ready for a query. A server that asks for the password itself does not get
    /// it. With SCRAM the server has to prove that it knows the password, too.
    fn authenticate(&mut self, password: &str) -> Result<(), Box<dyn Error>> {
        // Some servers also offer channel binding. It needs a hash of their certificate, which
        // `TlsInfo::peer_certificates` has.
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        loop {
            match self.message()? {
                Message::AuthenticationSasl(offer) => {
                    if !offer.mechanisms().any(|name| Ok(name == SCRAM_SHA_256))? {
                        return Err("the server does not know SCRAM".into());
                    }
                    let first = scram.message();
                    self.send(|buffer| {
                        frontend::sasl_initial_response(SCRAM_SHA_256, first, buffer)
                    })?;
                }
                Message::AuthenticationSaslContinue(challenge) => {
                    scram.update(challenge.data())?;
                    self.send(|buffer| frontend::sasl_response(scram.message(), buffer))?;
                }
                Message::AuthenticationSaslFinal(proof) => scram.finish(proof.data())?,
                Message::AuthenticationCleartextPassword
                | Message::AuthenticationMd5Password(_) => {
                    return Err("the server wants the password itself".into());
                }
                Message::ReadyForQuery(_) => return Ok(()),
                _ => {}
            }
        }
    }
}

/// Returns the values, or NULL.
fn text(row: &DataRowBody) -> Result<String, Box<dyn Error>> {
    let value = |range: Option<std::ops::Range<usize>>| {
        Ok(range.map_or("NULL".into(), |range| String::from_utf8_lossy(&row.buffer()[range])))
    };
    Ok(row.ranges().map(value).collect::<Vec<_>>()?.join("\t"))
}

fn error_text(error: &ErrorResponseBody) -> io::Result<String> {
    let message = error.fields().find(|field| Ok(field.type_() == b'M'))?;
    let text = message.map(|field| String::from_utf8_lossy(field.value_bytes()).into_owned());
    Ok(format!("the server says: {}", text.unwrap_or_default()))
}

// ------------------------------------------------------------------------------- with a server of its own

fn demonstrate() -> Result<(), Box<dyn Error>> {
    let server = Embedded::start(serve)?;
    let who = ["salmon", "secret", "river"];
    query(&server.address, server.trusted()?, who, "SELECT name, home FROM fish")?;
    server.join()
}

fn serve(mut stream: TcpStream, tls: ServerConnection) -> io::Result<()> {
    stream.read_exact(&mut [0; 8])?;
    stream.write_all(b"S")?;
    let mut stream = StreamOwned::new(tls, stream);
    hear(&mut stream, 0)?;
    say(&mut stream, b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0")?;
    let first = hear(&mut stream, 1)?;
    let first = first.strip_prefix("SCRAM-SHA-256\0").and_then(|rest| rest.get(4..));
    let first = first.ok_or_else(|| io::Error::other("another mechanism"))?;
    let challenge = scram::challenge(first)?;
    say(&mut stream, b'R', format!("\0\0\0\x0b{challenge}").as_bytes())?;
    let last = hear(&mut stream, 1)?;
    let proof = scram::verify("secret", first, &challenge, &last)?;
    say(&mut stream, b'R', format!("\0\0\0\x0c{proof}").as_bytes())?;
    say(&mut stream, b'R', &[0; 4])?;
    say(&mut stream, b'Z', b"I")?;

    hear(&mut stream, 1)?;
    let column = [0; 18];
    let columns = [b"\0\x02name\0", &column[..], b"home\0", &column].concat();
    say(&mut stream, b'T', &columns)?;
    say(&mut stream, b'D', b"\0\x02\0\0\0\x07sockeye\0\0\0\x07Pacific")?;
    say(&mut stream, b'D', b"\0\x02\0\0\0\x04Nemo\xff\xff\xff\xff")?;
    say(&mut stream, b'C', b"SELECT 2\0")?;
    say(&mut stream, b'Z', b"I")?;
    // The Terminate message.
    hear(&mut stream, 1)?;
    stream.conn.send_close_notify();
    stream.flush()
}

fn say(stream: &mut impl Write, kind: u8, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len() + 4).map_err(io::Error::other)?;
    stream.write_all(&[&[kind], &length.to_be_bytes()[..], body].concat())
}

/// Reads the body of the next message, which has a type of `kind` bytes.
fn hear(stream: &mut impl Read, kind: usize) -> io::Result<String> {
    stream.read_exact(&mut [0][..kind])?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut body = String::new();
    let rest = u64::from(u32::from_be_bytes(length)).saturating_sub(4);
    stream.take(rest).read_to_string(&mut body)?;
    Ok(body)
}
