//! Fetches a page over HTTP/1.1, parsed by `httparse`, with one deadline over everything: lookup, connection,
//! handshake and a reply that may trickle in.
//!
//! ```text
//! cargo run --example http_get                                   with a server of its own
//! cargo run --example http_get -- https://example.com/ 2.5       within 2.5 seconds
//! cargo run --example http_get -- https://localhost:8443/ --ca ca.pem
//! ```

mod embedded;

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::str;
use std::thread;
use std::time::{Duration, Instant};

use embedded::{Embedded, arguments, explain};
use httparse::{EMPTY_HEADER, Response, Status, parse_chunk_size};
use rustls::{ServerConnection, StreamOwned};
use sockeye::{SecureTransport, SocketOptions, TlsOptions, connect_with};

/// The maximum length of a reply's head in bytes.
const MAX_HEAD: u64 = 64 * 1024;
const MAX_HEADERS: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let (arguments, tls) = arguments()?;
    let (url, seconds) = match arguments.as_slice() {
        [] => return demonstrate(),
        [url] => (url, 30.0),
        [url, seconds] => (url, seconds.parse()?),
        _ => return Err("usage: http_get [URL [SECONDS]] [--ca FILE]".into()),
    };
    let limit = Duration::try_from_secs_f64(seconds)?;
    get(url, tls, limit, &mut io::stdout().lock()).map_err(explain)
}

/// Writes the body to `out`, and describes the head on standard error.
fn get(
    url: &str,
    tls: TlsOptions,
    limit: Duration,
    out: &mut impl Write,
) -> Result<(), Box<dyn Error>> {
    let options = SocketOptions::new().connect_timeout(limit);
    let (options, port, rest) = match url.split_once("://") {
        Some(("https", rest)) => {
            let tls = tls.alpn(["http/1.1"]);
            (options.secure_transport(SecureTransport::On).tls(tls), 443, rest)
        }
        Some(("http", rest)) => (options, 80, rest),
        _ => return Err("neither http:// nor https://".into()),
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    // A colon inside brackets belongs to an IPv6 address.
    let has_port = host.rfind(':') > host.rfind(']');
    let address = if has_port { host.to_owned() } else { format!("{host}:{port}") };

    let socket = connect_with(address.as_str(), options)?;
    // Every byte would restart a read timeout. A deadline bounds the whole reply.
    socket.set_deadline(Some(Instant::now() + limit));
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    socket.writer().write_all(request.as_bytes())?;

    let mut reader = BufReader::new(socket.reader());
    let body = loop {
        match head(&mut reader)? {
            // An interim response: the final one follows.
            (100..200, _) => {}
            (_, body) => break body,
        }
    };
    match body {
        Body::Length(length) => exactly(&mut reader, length, out)?,
        Body::Chunked => chunks(&mut reader, out)?,
        // Over TLS a truncated reply is an error, so the page is complete if this succeeds.
        Body::UntilEnd => _ = io::copy(&mut reader, out)?,
    }
    out.flush()?;
    Ok(socket.close()?)
}

/// How a body is delimited.
#[derive(Debug)]
enum Body {
    Length(u64),
    Chunked,
    UntilEnd,
}

fn head(reader: &mut impl BufRead) -> Result<(u16, Body), Box<dyn Error>> {
    let mut bytes = Vec::new();
    let mut limited = reader.take(MAX_HEAD);
    while !bytes.ends_with(b"\r\n\r\n") && limited.read_until(b'\n', &mut bytes)? > 0 {}
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut response = Response::new(&mut headers);
    let (Status::Complete(_), Some(code)) = (response.parse(&bytes)?, response.code) else {
        return Err("the head is too long, or was cut short".into());
    };
    let mut body = Body::UntilEnd;
    for header in response.headers {
        let value = str::from_utf8(header.value)?.trim();
        if header.name.eq_ignore_ascii_case("Transfer-Encoding") {
            if !value.eq_ignore_ascii_case("chunked") {
                return Err(format!("cannot decode {value:?}").into());
            }
            body = Body::Chunked;
        } else if header.name.eq_ignore_ascii_case("Content-Length")
            && !matches!(body, Body::Chunked)
        {
            body = Body::Length(value.parse()?);
        }
    }
    if matches!(code, 204 | 304) {
        // These have no body, even if they declare a length.
        body = Body::Length(0);
    }
    eprintln!("{code} {}, {body:?}", response.reason.unwrap_or_default());
    Ok((code, body))
}

fn exactly(reader: &mut impl BufRead, length: u64, out: &mut impl Write) -> io::Result<()> {
    let copied = io::copy(&mut reader.take(length), out)?;
    if copied == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn chunks(reader: &mut impl BufRead, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let mut line = Vec::new();
    loop {
        line.clear();
        reader.take(MAX_HEAD).read_until(b'\n', &mut line)?;
        let length = match parse_chunk_size(&line) {
            Ok(Status::Complete((_, length))) => length,
            Ok(Status::Partial) | Err(_) => return Err("not the size of a chunk".into()),
        };
        exactly(reader, length, out)?;
        if length == 0 {
            break;
        }
        let mut end = [0; 2];
        reader.read_exact(&mut end)?;
        if end != *b"\r\n" {
            return Err("a chunk that is longer than it says".into());
        }
    }
    // Trailers end with an empty line.
    let mut trailers = reader.take(MAX_HEAD).lines();
    while !trailers.next().ok_or("no end of the trailers")??.is_empty() {}
    Ok(())
}

// ------------------------------------------------------------------------------- with a server of its own

fn demonstrate() -> Result<(), Box<dyn Error>> {
    let whole = "Content-Length: 7\r\n\r\nsalmon\n";
    let chunked =
        "Transfer-Encoding: chunked\r\n\r\n4\r\nsock\r\n4;a=b\r\neye\n\r\n0\r\nX: y\r\n\r\n";
    for (answer, pause) in [(whole, 0), (chunked, 0), (whole, 20)] {
        let server = Embedded::start(move |stream, tls| serve(stream, tls, answer, pause))?;
        let url = format!("https://{}/", server.address);
        // A byte every 20 ms never exceeds a read timeout, but it exceeds the deadline.
        let limit = Duration::from_millis(if pause == 0 { 10_000 } else { 400 });
        println!("-- {url}, within {limit:?}");
        match get(&url, server.trusted()?, limit, &mut io::stdout().lock()).map_err(explain) {
            Err(error) if pause > 0 => println!("{error}"),
            message => message?,
        }
        match server.join() {
            // The server may still be writing.
            Err(_) if pause > 0 => {}
            served => served?,
        }
    }
    Ok(())
}

fn serve(
    stream: TcpStream,
    tls: ServerConnection,
    answer: &'static str,
    pause: u64,
) -> io::Result<()> {
    let mut reader = BufReader::new(StreamOwned::new(tls, stream));
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let stream = reader.get_mut();
    stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
    for byte in answer.as_bytes().chunks(if pause == 0 { answer.len() } else { 1 }) {
        stream.write_all(byte)?;
        thread::sleep(Duration::from_millis(pause));
    }
    stream.conn.send_close_notify();
    stream.flush()
}
