//! An HTTP client for URLs that strangers name, under egress rules against SSRF.
//!
//! ```text
//! cargo run --example ureq_egress --features ureq-3                          a demonstration, on loopback
//! cargo run --example ureq_egress --features ureq-3 -- https://example.com/  fetch these under the same rules
//! ```
//!
//! In the demonstration a server on 127.0.0.1 stands for the Internet, so one rule allows that address. It redirects
//! to 127.0.0.2, which stands for an internal service: once by address and once by name.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use sockeye::{Connector, ConnectorBuilder, EgressRules, ErrorKind};
use ureq::Agent;
use ureq::config::Config;

/// The limit for a request with its redirects and its body.
const LIMIT: Duration = Duration::from_secs(10);
/// The maximum number of bytes of a body that are read.
const MAX_BODY: u64 = 1024 * 1024;

const INTERNET: Ipv4Addr = Ipv4Addr::LOCALHOST;
const INSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn main() -> Result<(), Box<dyn Error>> {
    let urls: Vec<String> = std::env::args().skip(1).collect();
    if urls.is_empty() {
        return demonstrate();
    }
    let agent = agent(Connector::builder().egress(EgressRules::public_only()))?;
    for url in urls {
        match fetch(&agent, &url) {
            Ok(page) => println!("{url}: {} bytes", page.len()),
            Err(error) => println!("{url}: {error}"),
        }
    }
    Ok(())
}

fn agent(connector: ConnectorBuilder) -> sockeye::Result<Agent> {
    let config = Config::builder().proxy(None).timeout_global(Some(LIMIT)).build();
    Ok(sockeye::ureq::agent(config, connector.build()?))
}

fn fetch(agent: &Agent, url: &str) -> Result<String, ureq::Error> {
    agent.get(url).call()?.body_mut().with_config().limit(MAX_BODY).read_to_string()
}

fn demonstrate() -> Result<(), Box<dyn Error>> {
    let inside = TcpListener::bind((INSIDE, 0))?;
    let port = inside.local_addr()?.port();
    let internet = serve(TcpListener::bind((INTERNET, 0))?, port)?;
    let names = |name: &str| -> io::Result<Vec<IpAddr>> {
        Ok(vec![if name == "metadata.test" { INSIDE.into() } else { INTERNET.into() }])
    };
    let rules = EgressRules::public_only().allow_net(&INTERNET.to_string())?;
    let agent = agent(Connector::builder().egress(rules).resolver(names))?;

    let page = fetch(&agent, &format!("http://news.test:{}/page", internet.port()))?;
    println!("a page of the Internet: {page:?}");
    for path in ["by-number", "by-name"] {
        let url = format!("http://news.test:{}/{path}", internet.port());
        match fetch(&agent, &url) {
            Err(ureq::Error::Io(error)) => {
                let message = sockeye::Error::from_io(&error).ok_or("no error of a socket")?;
                if message.kind() != ErrorKind::Denied {
                    return Err(format!("{path}: {message}").into());
                }
                println!("a redirect {path}: {message}");
            }
            other => return Err(format!("{path}: {other:?}").into()),
        }
    }
    inside.set_nonblocking(true)?;
    match inside.accept() {
        Ok(_) => Err("a request reached the internal service".into()),
        Err(_) => Ok(()),
    }
}

/// Serves a page, and two redirects to the internal port.
fn serve(listener: TcpListener, port: u16) -> io::Result<SocketAddr> {
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A broken connection is the client's problem.
            thread::spawn(move || answer(&stream, port));
        }
    });
    Ok(address)
}

fn answer(mut stream: &TcpStream, port: u16) -> io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    while let Some(request) = lines.next().transpose()? {
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        let (status, body) = match request.split(' ').nth(1) {
            Some("/by-number") => (format!("302 Found\r\nLocation: http://{INSIDE}:{port}/"), ""),
            Some("/by-name") => {
                (format!("302 Found\r\nLocation: http://metadata.test:{port}/"), "")
            }
            Some(_) | None => ("200 OK".to_owned(), "news"),
        };
        let length = body.len();
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}")?;
    }
    Ok(())
}
