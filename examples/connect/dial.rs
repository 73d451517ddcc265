//! Makes the connection, and upgrades it to TLS if requested.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use sockeye::{
    Connector, ErrorKind, Identity, ListenOptions, SecureTransport, ServerTlsOptions, Socket,
    SocketAddress, SocketInfo, SocketOptions, TcpOptions, TlsOptions, listen_with,
};

use crate::args::{Args, Family, ListenAddress, Server, Target, TlsArgs, Transport};
use crate::exit::{Exit, broken, say};
use crate::report;
use crate::starttls::{self, Fault, Protocol};

/// The limit for the dialogue before an upgrade, and for a client's handshake, without --timeout.
const DIALOGUE: Duration = Duration::from_secs(30);

/// Returns an open connection. Otherwise reports the reason to the user.
pub fn open(args: &Args) -> Result<Socket, Exit> {
    let server = match &args.target {
        Target::Server(server) => server,
        Target::ClientOf(address, identity) => {
            return accepted(args, address, identity.as_ref())
                .map_err(|failure| failure.tell(args.verbose));
        }
    };
    if args.verbose {
        say(format_args!("connecting to {server}"));
    }
    let opened = match &args.transport {
        Transport::Plain => connect(args, server, options(args)).map(|(socket, _)| socket),
        Transport::Tls(tls) => secured(args, server, tls),
        Transport::StartTls(protocol, tls) => upgraded(args, server, *protocol, tls),
    };
    opened.map_err(|failure| failure.tell(args.verbose))
}

/// Waits for one client.
fn accepted(
    args: &Args,
    address: &ListenAddress,
    files: Option<&[String; 2]>,
) -> Result<Socket, Failure> {
    let mut socket = options(args);
    if let Some([cert, key]) = files {
        let tls = ServerTlsOptions::new(identity([cert, key])?);
        socket = socket.secure_transport(SecureTransport::On).server_tls(tls);
    }
    let handshake = args.timeout.unwrap_or(DIALOGUE);
    let options = ListenOptions::new().socket(socket).handshake_timeout(handshake);
    let listener = match address {
        ListenAddress::At(address) => listen_with(address, options)?,
        ListenAddress::Everywhere(port) => {
            let (v4, v6) = (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
            let everywhere: &[IpAddr] = match args.family {
                // The first serves both families. The second is for a machine without IPv6.
                None => &[v6, v4],
                Some(Family::V4) => &[v4],
                Some(Family::V6) => &[v6],
            };
            let addresses: Vec<_> =
                everywhere.iter().map(|ip| SocketAddr::new(*ip, *port)).collect();
            listen_with(&addresses[..], options.only_v6(args.family == Some(Family::V6)))?
        }
    };
    if let (true, Some(address)) = (args.verbose, listener.local_address()) {
        say(format_args!("listening on {address}"));
    }
    let socket = match args.timeout {
        Some(limit) => listener.accept_timeout(limit)?,
        None => listener.accept()?,
    };
    // Resets clients that came later.
    listener.abort();
    let info = socket.opened()?;
    if args.verbose {
        report::connected(&info);
        report::secured(&info);
    }
    Ok(socket)
}

fn secured(args: &Args, server: &Server, tls: &TlsArgs) -> Result<Socket, Failure> {
    let options = options(args).secure_transport(SecureTransport::On).tls(tls_options(tls)?);
    let (socket, info) = connect(args, server, options)?;
    tell_secured(args, tls, &info);
    Ok(socket)
}

fn upgraded(
    args: &Args,
    server: &Server,
    protocol: Protocol,
    tls: &TlsArgs,
) -> Result<Socket, Failure> {
    let options = options(args).secure_transport(SecureTransport::StartTls).tls(tls_options(tls)?);
    let (plain, _) = connect(args, server, options)?;
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

fn connect(
    args: &Args,
    server: &Server,
    options: SocketOptions,
) -> Result<(Socket, SocketInfo), Failure> {
    let socket = match server {
        Server::Tcp(address) => connect_tcp(args, address, options)?,
        Server::Unix(path) => connect_unix(path, options)?,
    };
    let info = socket.opened()?;
    if args.verbose {
        report::connected(&info);
    }
    Ok((socket, info))
}

fn connect_tcp(
    args: &Args,
    address: &SocketAddress,
    options: SocketOptions,
) -> Result<Socket, Failure> {
    let mut tcp = TcpOptions::new();
    // Addresses of the other family are not dialled.
    if let Some(family) = args.family {
        let is_other = |ip: IpAddr| ip.is_ipv4() != (family == Family::V4);
        if address.hostname().parse().is_ok_and(is_other) {
            let message = format!("{address} is no address of the family that the options choose");
            return Err(Failure::Usage(message));
        }
        let any: IpAddr = match family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        tcp = tcp.bind((any, 0).into());
    }
    let mut proxies = args.proxies.clone();
    if !args.proxy_ca.is_empty() {
        let tls = trusting(TlsOptions::new(), "--proxy-ca", &args.proxy_ca)?;
        proxies = proxies
            .https_options(tls)
            .map_err(|_| Failure::Usage(String::from("--proxy-ca needs an https proxy")))?;
    }
    let connector = Connector::builder().proxy(proxies).build()?;
    Ok(connector.connect_with(address, options.tcp(tcp))?)
}

#[cfg(unix)]
fn connect_unix(path: &Path, options: SocketOptions) -> Result<Socket, Failure> {
    let address = sockeye::UnixAddress::from_pathname(path)?;
    Ok(sockeye::connect_unix(address, options)?)
}

#[cfg(not(unix))]
fn connect_unix(_: &Path, _: SocketOptions) -> Result<Socket, Failure> {
    Err(Failure::NoUnix)
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
    options = trusting(options, "--ca", &args.ca)?;
    if let Some([cert, key]) = &args.identity {
        options = options.identity(identity([cert, key])?);
    }
    if args.insecure {
        options = options.danger_accept_invalid_certs(true);
    }
    Ok(options)
}

/// Adds the certificates of these files, which `option` names.
fn trusting(
    mut options: TlsOptions,
    option: &str,
    files: &[String],
) -> Result<TlsOptions, Failure> {
    for path in files {
        let named = |reason: String| Failure::Usage(format!("{option} {path:?}: {reason}"));
        let pem = fs::read(path).map_err(|error| named(error.to_string()))?;
        options = options.add_root_pem(pem).map_err(|error| named(error.to_string()))?;
    }
    Ok(options)
}

/// Reads a certificate with its key.
fn identity([cert, key]: [&String; 2]) -> Result<Identity, Failure> {
    // The error names the file.
    Identity::from_pem_files(cert, key).map_err(|error| Failure::Usage(error.to_string()))
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
    /// A file of an option cannot be used, or options contradict each other.
    Usage(String),
    /// Connecting or the handshake failed.
    Connection(sockeye::Error),
    /// The server gave no go-ahead for the upgrade.
    Dialogue(Fault),
    #[cfg(not(unix))]
    NoUnix,
}

impl From<sockeye::Error> for Failure {
    fn from(error: sockeye::Error) -> Self {
        Failure::Connection(error)
    }
}

impl Failure {
    fn tell(&self, verbose: bool) -> Exit {
        match self {
            Failure::Usage(reason) => {
                say(format_args!("{reason}"));
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
            #[cfg(not(unix))]
            Failure::NoUnix => {
                say(format_args!("--unix: this system has no Unix-domain sockets"));
                Exit::Usage
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
