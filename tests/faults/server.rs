//! A server in its own process, for many connections. It echoes in plaintext, over TLS, and after an upgrade.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sockeye::{SecureTransport, SocketOptions, TlsOptions};

use crate::support::net;
use crate::support::peer::listen;
use crate::support::subprocess::{TestProcess, next_line, say, this_binary};
use crate::support::tls::{ASK, GO, authority, provider, server_config};

/// The number of addresses of each kind of listener, so that the ports do not run out.
const ADDRESSES: u8 = 8;

/// A server's ports and its trust anchor. Processes pass it on as one word.
#[derive(Clone, Debug)]
pub struct Site {
    pub plain: u16,
    pub secured: u16,
    pub upgraded: u16,
    root: String,
}

impl Site {
    /// Parses the word.
    pub fn parse(word: &str) -> Option<Site> {
        let mut parts = word.splitn(4, ',');
        let mut port = || parts.next()?.parse().ok();
        let (plain, secured, upgraded) = (port()?, port()?, port()?);
        // PEM has line feeds and spaces, and the word has neither.
        let root = parts.next()?.replace('|', "\n").replace('_', " ");
        Some(Site { plain, secured, upgraded, root })
    }

    pub fn word(&self) -> String {
        let root = self.root.replace('\n', "|").replace(' ', "_");
        format!("{},{},{},{root}", self.plain, self.secured, self.upgraded)
    }

    /// Returns options that trust the server, with this mode.
    pub fn options(&self, mode: SecureTransport) -> SocketOptions {
        let options = SocketOptions::new();
        if mode == SecureTransport::Off {
            return options;
        }
        provider();
        let tls = TlsOptions::new().only_added_roots().add_root_pem(&self.root);
        options.secure_transport(mode).tls(tls.expect("it is PEM").server_name("localhost"))
    }

    /// Returns one of its addresses.
    pub fn address(port: u16, number: usize) -> SocketAddr {
        let last = u8::try_from(number % usize::from(ADDRESSES)).expect("there are few") + 1;
        (Ipv4Addr::new(127, 0, 0, last), port).into()
    }
}

/// A server process, which ends when this value is dropped.
pub struct Server {
    _actor: TestProcess,
    pub site: Site,
}

impl Server {
    pub fn start() -> Server {
        let mut actor = TestProcess::start("server", "server", Command::new(this_binary()));
        let site = Site::parse(&actor.expect_line("site")).expect("its word");
        Server { _actor: actor, site }
    }
}

// -------------------------------------------------------------------- in its own process

pub fn serve() -> ExitCode {
    let config = server_config().config();
    let [plain, secured, upgraded] = [Sort::Plain, Sort::Secured, Sort::Upgraded].map(|sort| {
        let (port, listeners) = listen_on_all();
        listeners.into_iter().for_each(|listener| accept(listener, sort, &config));
        port
    });
    let site = Site { plain, secured, upgraded, root: authority().pem() };
    say(&format!("site {}", site.word()));
    // Standard input ends with the parent process.
    while next_line().is_some() {}
    ExitCode::SUCCESS
}

/// Listens on one port of all addresses.
fn listen_on_all() -> (u16, Vec<TcpListener>) {
    loop {
        let first = listen();
        let port = first.local_addr().expect("it listens").port();
        let others = (2..=ADDRESSES).map(|last| {
            let address = (Ipv4Addr::new(127, 0, 0, last), port).into();
            net::listen_on(address, 1024, None)
        });
        // A socket of another process may have the port on another address.
        if let Ok(mut listeners) = others.collect::<io::Result<Vec<_>>>() {
            listeners.push(first);
            return (port, listeners);
        }
    }
}

#[derive(Clone, Copy)]
enum Sort {
    Plain,
    Secured,
    Upgraded,
}

fn accept(listener: TcpListener, sort: Sort, config: &Arc<ServerConfig>) {
    let config = Arc::clone(config);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            // If the client breaks the connection off, the server ignores that.
            let serve = move || drop(converse(&stream, sort, config));
            thread::Builder::new().stack_size(256 * 1024).spawn(serve).expect("a small thread");
        }
    });
}

fn converse(mut stream: &TcpStream, sort: Sort, config: Arc<ServerConfig>) -> io::Result<()> {
    // If a client fails midway, its connection might never end.
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.set_nodelay(true)?;
    match sort {
        Sort::Plain => {
            echo(stream)?;
            return stream.shutdown(Shutdown::Write);
        }
        Sort::Secured => {}
        Sort::Upgraded => {
            let mut asked = [0; ASK.len()];
            stream.read_exact(&mut asked)?;
            stream.write_all(GO)?;
        }
    }
    let session = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut secured = StreamOwned::new(session, stream);
    echo(&mut secured)?;
    secured.conn.send_close_notify();
    secured.conn.complete_io(&mut secured.sock)?;
    stream.shutdown(Shutdown::Write)
}

fn echo(mut stream: impl Read + Write) -> io::Result<()> {
    let mut buf = [0; 4096];
    loop {
        let count = stream.read(&mut buf)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buf[..count])?;
    }
}
