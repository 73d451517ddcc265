//! Makes the connection, and upgrades it to TLS if requested.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use sockeye::{ErrorKind, SecureTransport, Socket, SocketInfo, SocketOptions, TlsOptions};

use crate::args::{Args, TlsArgs, Transport};
use crate::exit::{Exit, broken, say};
use crate::report;
use crate::starttls::{self, Fault, Protocol};

/// The limit for the dialogue before an upgrade, without --timeout.
const DIALOGUE: Duration = Duration::from_secs(30);

/// Returns an open connection. Otherwise reports the reason to the user.
pub fn open(args: &Args) -> Result<Socket, Exit> {
    if args.verbose {
        say(format_args!("connecting to {}", args.address));
    }
    let opened = match &args.transport {
        Transport::Plain => plain(args),
        Transport::Tls(tls) => secured(args, tls),
        Transport::StartTls(protocol, tls) => upgraded(args, *protocol, tls),
    };
    opened.map_err(|failure| failure.tell(args.verbose))
}

fn plain(args: &Args) -> Result<Socket, Failure> {
    let (socket, _) = connect(args, options(args))?;
    Ok(socket)
}

fn secured(args: &Args, tls: &TlsArgs) -> Result<Socket, Failure> {
    let options = options(args).secure_transport(SecureTransport::On).tls(tls_options(tls)?);
    let (socket, info) = connect(args, options)?;
    tell_secured(args, tls, &info);
    Ok(socket)
}

fn upgraded(args: &Args, protocol: Protocol, tls: &TlsArgs) -> Result<Socket, Failure> {
    let options = options(args).secure_transport(SecureTransport::StartTls).tls(tls_options(tls)?);
    let (plain, _) = connect(args, options)?;
    // A deadline also bounds a server that trickles bytes. A time beyond the clock's range means none.
    plain.set_deadline(Instant::now().checked_add(args.timeout.unwrap_or(DIALOGUE)));
    if let Err(fault) = starttls::ask(&plain, protocol, args.verbose) {
        let _ = plain.close();
        return Err(Failure::Dialogue(fault));
    }
    // The new socket would inherit it.
    plain.set_deadline(None);
    let socket = plain.start_tls()?;
    let info = socket.opened()?;
    tell_secured(args, tls, &info);
    Ok(socket)
}

fn connect(args: &Args, options: SocketOptions) -> Result<(Socket, SocketInfo), Failure> {
    let socket = sockeye::connect_with(&args.address, options)?;
    let info = socket.opened()?;
    if args.verbose {
        report::connected(&info);
    }
    Ok((socket, info))
}

fn options(args: &Args) -> SocketOptions {
    let options = SocketOptions::new().allow_half_open(args.half_open);
    match args.timeout {
        Some(limit) => options.connect_timeout(limit).read_timeout(limit),
        None => options,
    }
}

fn tls_options(args: &TlsArgs) -> Result<TlsOptions, Failure> {
    let mut options = TlsOptions::new().alpn(args.alpn.iter().map(String::as_str));
    if let Some(name) = &args.server_name {
        options = options.server_name(name);
    }
    for path in &args.ca {
        let pem = fs::read(path).map_err(|error| Failure::File(path.clone(), error))?;
        options = options.add_root_pem(pem)?;
    }
    Ok(options)
}

fn tell_secured(args: &Args, tls: &TlsArgs, info: &SocketInfo) {
    if args.verbose {
        report::secured(info);
    }
    if tls.show_certs {
        report::certificates(info);
    }
}

/// Why no connection was made.
enum Failure {
    /// A certificate file cannot be read.
    File(String, io::Error),
    /// Connecting or the handshake failed.
    Connection(sockeye::Error),
    /// The server gave no go-ahead for the upgrade.
    Dialogue(Fault),
}

impl From<sockeye::Error> for Failure {
    fn from(error: sockeye::Error) -> Self {
        Failure::Connection(error)
    }
}

impl Failure {
    fn tell(&self, verbose: bool) -> Exit {
        match self {
            Failure::File(path, error) => {
                say(format_args!("--ca {path:?}: {error}"));
                Exit::Usage
            }
            Failure::Connection(error) => {
                say(format_args!("{error}"));
                if verbose {
                    for attempt in error.attempts() {
                        say(format_args!("attempt {}: {}", attempt.address(), attempt.error()));
                    }
                }
                exit(error.kind())
            }
            Failure::Dialogue(Fault::Declined(reason)) => {
                say(format_args!("{reason}"));
                Exit::NotConnected
            }
            Failure::Dialogue(Fault::Wire(error)) => broken(error),
        }
    }
}

fn exit(kind: ErrorKind) -> Exit {
    match kind {
        ErrorKind::InvalidAddress | ErrorKind::InvalidOptions => Exit::Usage,
        ErrorKind::TimedOut => Exit::TimedOut,
        ErrorKind::Tls | ErrorKind::UnreadPlaintext => Exit::NotSecure,
        // In the middle of a handshake.
        ErrorKind::Reset | ErrorKind::Lost => Exit::Broken,
        _ => Exit::NotConnected,
    }
}
