//! Connections through a proxy, and a proxy of its own that serves HTTP CONNECT.
//!
//! ```text
//! cargo run --example proxy                                   a demonstration on loopback
//! cargo run --example proxy -- http://host:3128 example.com:80 ...
//! ```
//!
//! With arguments it connects to the targets through the proxy of the first one. The demonstration has a server that
//! speaks first, as SMTP servers do, and a proxy that allows one port only and wants credentials.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::thread;
use std::time::Duration;

use sockeye::{Connector, Listener, Proxy, ProxyReply, Socket, SocketOptions};

/// The limit for connecting, and for each read of a request.
const LIMIT: Duration = Duration::from_secs(5);
/// The longest line of a request.
const MAX_LINE: usize = 8 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let Some(url) = args.next() else { return demonstrate() };
    let connector = Connector::builder().proxy(url.parse::<Proxy>()?).build()?;
    for target in args {
        let options = SocketOptions::new().connect_timeout(LIMIT);
        let opened = connector.connect_with(&target, options).and_then(|socket| socket.opened());
        match opened {
            Ok(info) => println!("{target}: open after {:?}", info.timings()),
            Err(error) => println!("{target}: {error}"),
        }
    }
    Ok(())
}

fn demonstrate() -> Result<(), Box<dyn Error>> {
    let server = sockeye::listen("127.0.0.1:0")?;
    let target = server.local_address().ok_or("the listener has an address")?;
    let proxy = sockeye::listen("127.0.0.1:0")?;
    let address = proxy.local_address().ok_or("the listener has an address")?;
    let allowed = target.port();
    let serving = [
        spawn(&server, greet),
        spawn(&proxy, move |client| {
            // A client may leave at any time, which ends its handler.
            let _ = forward(client, allowed);
        }),
    ];

    // Without credentials, the error names what the proxy wants.
    let through = |proxy: Proxy| Connector::builder().proxy(proxy).build();
    let error = through(Proxy::http(address)?)?.connect(target)?.opened().unwrap_err();
    assert_eq!(error.proxy_reply(), Some(ProxyReply::Http(407)));
    println!("{error}");

    let connector = through(Proxy::http(address)?.credentials("alice", "secret")?)?;
    let error = connector.connect("127.0.0.1:9")?.opened().unwrap_err();
    assert_eq!(error.proxy_reply(), Some(ProxyReply::Http(403)));
    println!("{error}");

    // The greeting follows the proxy's answer at once, and is complete.
    let socket = connector.connect(target)?;
    let info = socket.opened()?;
    println!("open through the proxy at {:?}", info.proxy_address());
    let mut lines = BufReader::new(socket.reader());
    let mut greeting = String::new();
    lines.read_line(&mut greeting)?;
    assert_eq!(greeting, "220 ready\r\n");
    socket.writer().write_all(b"QUIT\r\n")?;
    let mut answer = String::new();
    lines.read_to_string(&mut answer)?;
    assert_eq!(answer, "221 goodbye\r\n");
    print!("{greeting}{answer}");

    server.close();
    proxy.close();
    for thread in serving {
        thread.join().map_err(|_| "a server panicked")?;
    }
    Ok(())
}

/// Serves on a thread until the listener closes.
fn spawn(
    listener: &Listener,
    handler: impl Fn(Socket) + Send + Sync + 'static,
) -> thread::JoinHandle<()> {
    let listener = listener.clone();
    thread::spawn(move || {
        if let Err(error) = listener.serve(4, handler) {
            eprintln!("a listener failed: {error}");
        }
    })
}

/// Speaks first, then answers one line.
fn greet(client: Socket) {
    let said = || -> io::Result<()> {
        client.writer().write_all(b"220 ready\r\n")?;
        client.reader().read_until(b'\n', &mut Vec::new(), MAX_LINE)?;
        client.writer().write_all(b"221 goodbye\r\n")
    };
    if let Err(error) = said() {
        eprintln!("a client of the server failed: {error}");
    }
}

/// Serves one request, then copies in both directions.
fn forward(client: Socket, allowed: u16) -> io::Result<()> {
    client.set_read_timeout(Some(LIMIT))?;
    let reader = client.reader();
    let (mut head, mut line) = (String::new(), Vec::new());
    // Exactly the request is read: what follows belongs to the target.
    while line != b"\r\n" {
        line.clear();
        if reader.read_until(b'\n', &mut line, MAX_LINE)? == 0 {
            return Ok(());
        }
        head.push_str(&String::from_utf8_lossy(&line));
    }
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
    let refuse = |answer: &str| client.writer().write_all(answer.as_bytes());
    // The credentials of alice.
    if !head.contains("\r\nProxy-Authorization: Basic YWxpY2U6c2VjcmV0\r\n") {
        let wanted = "Proxy-Authenticate: Basic realm=\"example\"";
        return refuse(&format!("HTTP/1.1 407 Log in\r\n{wanted}\r\n\r\n"));
    }
    let target = match target.and_then(|target| target.parse::<sockeye::SocketAddress>().ok()) {
        Some(target) if target.port() == allowed => target,
        Some(_) => return refuse("HTTP/1.1 403 This port is forbidden\r\n\r\n"),
        None => return refuse("HTTP/1.1 400 Not a target\r\n\r\n"),
    };
    let options = SocketOptions::new().connect_timeout(LIMIT).allow_half_open(true);
    let server = sockeye::connect_with(target, options)?;
    if let Err(error) = server.opened() {
        eprintln!("{error}");
        return refuse("HTTP/1.1 502 The target cannot be reached\r\n\r\n");
    }
    client.writer().write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
    client.set_read_timeout(None)?;
    thread::scope(|scope| {
        let up = scope.spawn(|| copy(&client, &server));
        copy(&server, &client)?;
        up.join().map_err(|_| io::Error::other("copying panicked"))?
    })
}

/// Copies until the end, and passes the end on.
fn copy(from: &Socket, to: &Socket) -> io::Result<()> {
    io::copy(&mut from.reader(), &mut to.writer())?;
    Ok(to.writer().close()?)
}
