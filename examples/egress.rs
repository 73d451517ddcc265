//! A program that fetches URLs named by strangers. It may reach the Internet but not its own network (SSRF).
//!
//! ```text
//! cargo run --example egress                          a demonstration on loopback
//! cargo run --example egress -- example.com:80 ...    connects to these under the same rules
//! ```
//!
//! The demonstration is a service that makes previews of links. A server on 127.0.0.1 stands for the Internet, so
//! one rule allows that address. A server on 127.0.0.2 stands for an internal service. A resolver in the program
//! answers as an attacker's name server would.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use sockeye::{Connector, EgressRules, ErrorKind, SocketAddress, SocketOptions};

/// The limit for connecting and for each read.
const LIMIT: Duration = Duration::from_secs(5);
/// The maximum number of bytes of a reply that are read.
const MAX_ANSWER: u64 = 64 * 1024;
/// The maximum number of redirects that are followed.
const MAX_HOPS: usize = 3;

const INTERNET: Ipv4Addr = Ipv4Addr::LOCALHOST;
const INSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn main() -> Result<(), Box<dyn Error>> {
    let targets: Vec<String> = std::env::args().skip(1).collect();
    if targets.is_empty() { demonstrate() } else { dial(&targets) }
}

/// Connects to each target under the rules of the Workers platform, and prints the result.
fn dial(targets: &[String]) -> Result<(), Box<dyn Error>> {
    let connector = Connector::builder().egress(EgressRules::workers()).build()?;
    for target in targets {
        let options = SocketOptions::new().connect_timeout(LIMIT);
        let message = connector.connect_with(target, options).and_then(|socket| socket.opened());
        match message {
            Ok(info) => println!("{target}: connected to {:?}", info.remote_address()),
            Err(error) => println!("{target}: {:?}: {error}", error.kind()),
        }
    }
    match connector.shutdown(LIMIT) {
        0 => Ok(()),
        lost => Err(format!("{lost} sockets lost data").into()),
    }
}

fn demonstrate() -> Result<(), Box<dyn Error>> {
    let internet = serve(TcpListener::bind((INTERNET, 0))?)?;
    let port = internet.port();
    let inside = serve(TcpListener::bind((INSIDE, 0))?)?;
    // The service's own listener.
    let own = TcpListener::bind((INTERNET, 0))?;

    let rules =
        EgressRules::workers().allow_net(&INTERNET.to_string())?.own_listener(own.local_addr()?);
    let connector = Connector::builder()
        .egress(rules)
        .resolver(names())
        .max_open_sockets(8)
        .wait_at_limit(true)
        .build()?;

    let preview = |what: &str, url: String| {
        // The scope closes the sockets that the fetch leaves open.
        let message = connector.scope(|scope| {
            let connect = |address: SocketAddress| {
                let options = SocketOptions::new().connect_timeout(LIMIT).read_timeout(LIMIT);
                scope.connect_with(address, options)
            };
            fetch(&url, connect)
        });
        println!("-- {what}\n   {url}");
        match message {
            Ok(page) => println!("   {page}\n"),
            Err(error) => match sockeye::Error::from_io(&error) {
                Some(error) => println!("   {:?}: {error}\n", error.kind()),
                None => println!("   {error}\n"),
            },
        }
    };
    preview("a page", format!("http://public.example:{port}/"));
    preview("an internal address", format!("http://{inside}/"));
    preview(
        "a name that resolves to an internal address",
        format!("http://trap.example:{}/", inside.port()),
    );
    preview("an odd spelling of 127.0.0.2", format!("http://0x7f000002:{}/", inside.port()));
    preview("IPv6 around 127.0.0.2", format!("http://[::ffff:127.0.0.2]:{}/", inside.port()));
    preview(
        "a page that redirects to an internal address",
        format!("http://public.example:{port}/to/{inside}"),
    );
    preview("DNS rebinding, first lookup", format!("http://rebound.example:{port}/"));
    preview("DNS rebinding, second lookup", format!("http://rebound.example:{port}/"));
    preview("somebody's mail server", "http://public.example:25/".to_owned());
    preview("this service itself", format!("http://{}/", own.local_addr()?));

    assert_eq!(connector.open_sockets(), 0, "every scope has closed its sockets");
    let reset = connector.shutdown(LIMIT);
    println!("shut down, {reset} sockets had to be reset");
    let late = connector.connect((INTERNET.to_string(), port)).map_err(|error| error.kind());
    assert_eq!(late.err(), Some(ErrorKind::Closed));
    Ok(())
}

/// Returns the reply to a GET. Redirects are followed under the same rules.
fn fetch(
    url: &str,
    connect: impl Fn(SocketAddress) -> sockeye::Result<sockeye::Socket>,
) -> io::Result<String> {
    let mut url = url.to_owned();
    for _ in 0..MAX_HOPS {
        let rest = url.strip_prefix("http://").ok_or_else(|| io::Error::other("not http"))?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut socket = connect(host.parse()?)?;
        socket.write_all(format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        socket.take(MAX_ANSWER).read_to_string(&mut answer)?;
        let location = answer.lines().find_map(|line| line.strip_prefix("Location: "));
        match location {
            Some(location) => url = location.to_owned(),
            None => return Ok(answer.lines().last().unwrap_or_default().to_owned()),
        }
    }
    Err(io::Error::other("too many redirections"))
}

/// Answers as an attacker's name server, and asks the system for other names.
fn names() -> impl Fn(&str) -> io::Result<Vec<IpAddr>> {
    let asked_before = AtomicBool::new(false);
    move |name| {
        Ok(vec![match name {
            "public.example" => INTERNET.into(),
            "trap.example" => INSIDE.into(),
            "rebound.example" if asked_before.swap(true, Ordering::SeqCst) => INSIDE.into(),
            "rebound.example" => INTERNET.into(),
            other => {
                let addresses = (other, 80).to_socket_addrs()?;
                return Ok(addresses.map(|address| address.ip()).collect());
            }
        }])
    }
}

/// Serves one page, and redirects `/to/HOST:PORT`.
fn serve(listener: TcpListener) -> io::Result<SocketAddr> {
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that disconnects early is not served.
            let _ = answer(stream, address.ip());
        }
    });
    Ok(address)
}

fn answer(mut stream: TcpStream, ip: IpAddr) -> io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    // Reads the rest of the request too: a close with unread bytes would send a reset.
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let path = request.split(' ').nth(1).unwrap_or("/");
    let (status, page) = match path.strip_prefix("/to/") {
        Some(to) => ("302 Found", format!("Location: http://{to}/\r\n\r\n")),
        None if ip == INSIDE => ("200 OK", "\r\nthe password is salmon\n".to_owned()),
        None => ("200 OK", "\r\na page of the Internet\n".to_owned()),
    };
    stream.write_all(format!("HTTP/1.0 {status}\r\n{page}").as_bytes())
}
