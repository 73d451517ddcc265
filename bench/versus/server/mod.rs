//! A server process: blocking threads over `std::net`, the same for every contender. [`crate::tls::server`] has the
//! servers that speak TLS. It prints its addresses and serves until it is killed.

pub mod exchange;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use self::exchange::{echo, sink, source};
use crate::api::{SecureService, Service};
use crate::args::ServerArgs;
use crate::system;
use crate::tls::server as secure;

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
    let listeners = addresses_of(service)
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

fn addresses_of(service: Service) -> Vec<IpAddr> {
    match service {
        Service::Echo
        | Service::LateEcho
        | Service::OpenEcho
        | Service::Sink
        | Service::Source
        | Service::Hold
        | Service::Secure(
            SecureService::Echo
            | SecureService::Sink
            | SecureService::Source
            | SecureService::SinkAndSource,
        ) => vec![Ipv4Addr::LOCALHOST.into()],
        Service::Close
        | Service::EchoAndHold
        | Service::Secure(SecureService::Close | SecureService::EchoThenHold) => {
            // Other systems need configuration for more loopback addresses.
            if cfg!(target_os = "macos") {
                return vec![Ipv4Addr::LOCALHOST.into(); 8];
            }
            (1..=8).map(|n| Ipv4Addr::new(127, 0, 0, n).into()).collect()
        }
    }
}
