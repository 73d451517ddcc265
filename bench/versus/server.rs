//! A server process: blocking threads over `std::net`, the same for every contender. [`crate::tls::server`] has the
//! servers that speak TLS. It prints its addresses and serves until it is killed.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use crate::args::ServerArgs;
use crate::system;
use crate::tls::server::{self as secure, SecureService};

/// The server's treatment of each connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Sends the received bytes back, and closes after the client's EOF.
    Echo,
    /// Like `Echo`, but so late that every client has to wait for every reply.
    LateEcho,
    /// Like `Echo`, but never closes, so that only the client itself can end its wait.
    OpenEcho,
    /// Reads and drops the bytes.
    Sink,
    /// Sends endlessly.
    Source,
    /// Closes at once. It has several addresses, so that ports in TIME_WAIT do not run out.
    Close,
    /// Keeps the connection open and does nothing.
    Hold,
    /// `Echo` on its first address, `Hold` on the others.
    EchoAndHold,
    /// Speaks TLS.
    Secure(SecureService),
}

impl Service {
    const ALL: [Self; 14] = [
        Self::Echo,
        Self::LateEcho,
        Self::OpenEcho,
        Self::Sink,
        Self::Source,
        Self::Close,
        Self::Hold,
        Self::EchoAndHold,
        Self::Secure(SecureService::Echo),
        Self::Secure(SecureService::Sink),
        Self::Secure(SecureService::Source),
        Self::Secure(SecureService::SinkAndSource),
        Self::Secure(SecureService::Close),
        Self::Secure(SecureService::EchoThenHold),
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::LateEcho => "late-echo",
            Self::OpenEcho => "open-echo",
            Self::Sink => "sink",
            Self::Source => "source",
            Self::Close => "close",
            Self::Hold => "hold",
            Self::EchoAndHold => "echo-and-hold",
            Self::Secure(service) => service.name(),
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name() == name)
    }

    fn addresses(self) -> Vec<IpAddr> {
        match self {
            Self::Echo
            | Self::LateEcho
            | Self::OpenEcho
            | Self::Sink
            | Self::Source
            | Self::Hold
            | Self::Secure(
                SecureService::Echo
                | SecureService::Sink
                | SecureService::Source
                | SecureService::SinkAndSource,
            ) => vec![Ipv4Addr::LOCALHOST.into()],
            Self::Close
            | Self::EchoAndHold
            | Self::Secure(SecureService::Close | SecureService::EchoThenHold) => {
                // Other systems need configuration for more loopback addresses.
                if cfg!(target_os = "macos") {
                    return vec![Ipv4Addr::LOCALHOST.into(); 8];
                }
                (1..=8).map(|n| Ipv4Addr::new(127, 0, 0, n).into()).collect()
            }
        }
    }
}

pub fn run(server_args: &ServerArgs) -> ExitCode {
    system::settle(&server_args.cpus);
    match listen(server_args.service) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn listen(service: Service) -> io::Result<()> {
    let listeners = service
        .addresses()
        .into_iter()
        .map(|ip| TcpListener::bind((ip, 0)))
        .collect::<io::Result<Vec<_>>>()?;
    let addresses =
        listeners.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<SocketAddr>>>()?;
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    println!("{}", addresses.join(" "));

    let acceptors: Vec<_> = listeners
        .into_iter()
        .enumerate()
        .map(|(index, listener)| {
            let service = match service {
                Service::EchoAndHold if index == 0 => Service::Echo,
                Service::EchoAndHold => Service::Hold,
                service => service,
            };
            thread::spawn(move || accept(&listener, service))
        })
        .collect();
    for acceptor in acceptors {
        acceptor.join().expect("a panic ends this process at once")?;
    }
    Ok(())
}

fn accept(listener: &TcpListener, service: Service) -> io::Result<()> {
    let mut held = Vec::new();
    loop {
        let (stream, _) = listener.accept()?;
        match service {
            Service::Close => drop(stream),
            Service::Hold | Service::EchoAndHold => held.push(stream),
            Service::Echo => spawn_service(stream, |mut stream| echo(&mut stream, || ())),
            Service::LateEcho => {
                spawn_service(stream, |mut stream| echo(&mut stream, || thread::sleep(LATE)));
            }
            Service::OpenEcho => spawn_service(stream, |mut stream| {
                let result = echo(&mut stream, || ());
                std::mem::forget(stream);
                result
            }),
            Service::Sink => spawn_service(stream, sink),
            Service::Source => spawn_service(stream, source),
            Service::Secure(service) => held.extend(secure::receive(service, stream)?),
        }
    }
}

/// Errors of a connection are ignored, because clients come and go.
fn spawn_service(stream: TcpStream, work: fn(TcpStream) -> io::Result<()>) {
    thread::spawn(move || {
        stream.set_nodelay(true).ok();
        work(stream).ok();
    });
}

/// Longer than a traced client takes from its write to its read.
const LATE: Duration = Duration::from_millis(1);

pub fn echo(stream: &mut (impl Read + Write), before_answer: impl Fn()) -> io::Result<()> {
    let mut buf = vec![0; 4 * 1024];
    loop {
        match stream.read(&mut buf)? {
            0 => return Ok(()),
            more => {
                before_answer();
                stream.write_all(&buf[..more])?;
            }
        }
    }
}

pub fn sink(mut stream: impl Read) -> io::Result<()> {
    let mut buf = vec![0; 256 * 1024];
    while stream.read(&mut buf)? > 0 {}
    Ok(())
}

pub fn source(mut stream: impl Write) -> io::Result<()> {
    let buf = vec![0x5a; 64 * 1024];
    loop {
        stream.write_all(&buf)?;
    }
}
