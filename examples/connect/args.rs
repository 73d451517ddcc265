//! Parses the command line.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use sockeye::{Proxy, ProxyRules, SocketAddress};

use crate::starttls::Protocol;

pub const USAGE: &str = "connect (HOST:PORT | --unix PATH) [--tls | --starttls PROTOCOL] [OPTION]..., \
                         or connect --listen [HOST:]PORT [OPTION]...";

pub const HELP: &str = "\
Connects to a TCP server, on request over TLS; copies standard input to it and what it sends to standard
output, both at once. The end of the input half-closes the connection: the server sees it, and its answer
is still read. The connection ends with the server's end.

usage: connect (HOST:PORT | --unix PATH) [--tls | --starttls PROTOCOL] [OPTION]...
       connect --listen [HOST:]PORT [OPTION]...
       connect            shows itself against small servers of its own, without a network

  HOST:PORT            where to connect to; an IPv6 address in brackets, as in [::1]:70
  --unix PATH          connect to a Unix-domain socket instead; over TLS this needs --server-name
  --listen [HOST:]PORT wait for one client there instead, on every address if there is no HOST
  --timeout SECS       the most that connecting, a handshake and each read may take, such as 5 or 0.5
                       (default: 30 seconds for connecting and a handshake, no limit for reads
                       and for the wait for a client)
  --proxy URL          connect through a proxy, such as http://user:password@host:3128, https://host:443 or
                       socks5h://host:1080; --proxy env reads https_proxy, all_proxy and no_proxy from
                       the environment
  --proxy-ca FILE      trust the certificates of this PEM file as well, for an https proxy
  --half-open          go on sending after the server has ended, until the input ends
  --no-half-close      send no end when the input ends: for servers that hang up then without an answer;
                       the connection ends with the server's end
  -4, -6               use IPv4 only, or IPv6 only
  -v, --verbose        print addresses, times, the TLS parameters and byte counts to standard error
  -h, --help           this text
  --version            the version

over TLS:
  --tls                secure the connection from the start
  --starttls PROTOCOL  begin in plaintext, ask for the upgrade in the words of smtp, imap or postgres,
                       and secure the connection then; the input begins after that
  --ca FILE            trust the certificates of this PEM file as well
  --alpn LIST          protocols to offer, the most wanted first, such as h2,http/1.1
  --insecure           accept every certificate: anybody in between can read and change everything
  --server-name NAME   the name that is sent and that the certificate has to be for (default: HOST)
  --cert FILE, --key FILE
                       the client certificate with its chain, and its key, as PEM files;
                       with --listen (also --tls-cert, --tls-key): be the TLS server, with these
  --show-certs         print the server's certificates as PEM on standard error

exit codes:
  0  the connection ended cleanly
  1  no connection could be made, or the server declined the upgrade to TLS
  2  the command line is wrong, or a file that it names
  3  the connection broke, was reset, or ended without TLS's close_notify
  4  connecting, a handshake or a read timed out
  5  this side failed: standard input or output, or no thread to be had
  6  TLS failed: the handshake, the certificate, or plaintext injected before it

examples:
  printf '/\\r\\n' | connect gopher.floodgap.com:70
  printf 'GET / HTTP/1.0\\r\\nHost: example.com\\r\\n\\r\\n' | connect example.com:443 --tls -v
  printf 'GET /version HTTP/1.0\\r\\n\\r\\n' | connect --unix /run/docker.sock
  connect --listen 7007 > copy.tar            and on the other machine:
                                              connect HOST:7007 --half-open < some.tar
  printf 'EHLO localhost\\r\\nQUIT\\r\\n' | connect mail.example.com:587 --starttls smtp -v
";

/// A parsed command line.
pub enum Command {
    Demo,
    Help,
    Version,
    Connect(Box<Args>),
}

/// A server to connect to.
pub enum Server {
    Tcp(SocketAddress),
    /// The path of a Unix-domain socket.
    Unix(PathBuf),
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Server::Tcp(address) => address.fmt(f),
            Server::Unix(path) => write!(f, "{path:?}"),
        }
    }
}

/// The other end.
pub enum Target {
    Server(Server),
    /// The client that connects here. Over TLS this side has a certificate and a key, in PEM files.
    ClientOf(ListenAddress, Option<[String; 2]>),
}

/// Where to listen.
pub enum ListenAddress {
    /// On every address of this machine, or every one of a family.
    Everywhere(u16),
    At(String),
}

pub struct Args {
    pub target: Target,
    pub timeout: Option<Duration>,
    pub half_open: bool,
    pub no_half_close: bool,
    /// The only family of addresses to use.
    pub family: Option<Family>,
    pub verbose: bool,
    pub proxies: ProxyRules,
    /// PEM files with certificates that are trusted for the proxy.
    pub proxy_ca: Vec<String>,
    pub transport: Transport,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

pub enum Transport {
    Plain,
    Tls(TlsArgs),
    StartTls(Protocol, TlsArgs),
}

#[derive(Default)]
pub struct TlsArgs {
    /// PEM files with trusted certificates.
    pub ca: Vec<String>,
    /// Protocols for ALPN; empty without the option.
    pub alpn: Vec<String>,
    pub server_name: Option<String>,
    pub show_certs: bool,
    pub insecure: bool,
    /// The PEM files of the client certificate and its key.
    pub identity: Option<[String; 2]>,
}

/// Parses the arguments after the program's name. The error is a message for the user.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let mut words = Vec::new();
    for arg in args {
        let shown = |arg: OsString| format!("argument {arg:?} is not valid UTF-8");
        words.push(arg.into_string().map_err(shown)?);
    }
    if words.is_empty() {
        return Ok(Command::Demo);
    }
    let (mut address, mut timeout, mut half_open, mut verbose) = (None, None, false, false);
    let (mut no_half_close, mut family) = (false, None);
    let (mut listen, mut cert, mut key, mut unix) = (None, None, None, None);
    let (mut proxies, mut proxy_ca) = (None, Vec::new());
    let mut security = Security::default();
    let mut only_addresses = false;
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if only_addresses || !word.starts_with('-') {
            if let Some(first) = address.replace(word.clone()) {
                return Err(second_address(&first, &word));
            }
            continue;
        }
        // The value of `--option=value`.
        let (option, attached) = match word.split_once('=') {
            Some((option, value)) => (option, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let mut value = |what: &str| {
            let value = attached.clone().or_else(|| words.next());
            value.ok_or_else(|| format!("{option} needs {what} after it"))
        };
        match option {
            "--listen" => listen = Some(listen_address(&value("a port")?)?),
            "--unix" => unix = Some(PathBuf::from(value("a path")?)),
            "--cert" | "--tls-cert" => cert = Some(value("a file")?),
            "--key" | "--tls-key" => key = Some(value("a file")?),
            "--proxy" => proxies = Some(proxy_rules(&value("a URL")?)?),
            "--proxy-ca" => proxy_ca.push(value("a file")?),
            "--timeout" => timeout = Some(seconds(&value("a number of seconds")?)?),
            "--starttls" => security.starttls = Some(value("a protocol")?.parse()?),
            "--ca" => security.tls.ca.push(value("a file")?),
            "--alpn" => security.tls.alpn = list(&value("a list of protocols")?),
            "--server-name" => security.tls.server_name = Some(value("a name")?),
            _ if attached.is_some() => return Err(format!("unknown option {word:?}")),
            "--tls" => security.at_once = true,
            "--show-certs" => security.tls.show_certs = true,
            "--insecure" => security.tls.insecure = true,
            "--half-open" => half_open = true,
            "--no-half-close" => no_half_close = true,
            "-4" if family != Some(Family::V6) => family = Some(Family::V4),
            "-6" if family != Some(Family::V4) => family = Some(Family::V6),
            "-4" | "-6" => return Err(String::from("-4 and -6 exclude each other")),
            "-v" | "--verbose" => verbose = true,
            "-h" | "--help" => return Ok(Command::Help),
            "--version" => return Ok(Command::Version),
            "--" => only_addresses = true,
            _ => return Err(format!("unknown option {word:?}")),
        }
    }
    if half_open && no_half_close {
        return Err(String::from(
            "--half-open and --no-half-close exclude each other: the connection would never end",
        ));
    }
    let identity = identity_files(cert, key)?;
    if listen.is_none() {
        security.tls.identity.clone_from(&identity);
    }
    let transport = security.transport()?;
    let server = match (address, unix) {
        (Some(address), None) => {
            let address = address.parse().map_err(|error: sockeye::Error| error.to_string())?;
            Some(Server::Tcp(address))
        }
        (None, Some(path)) => Some(Server::Unix(path)),
        (Some(_), Some(_)) => {
            return Err(String::from("HOST:PORT and --unix exclude each other"));
        }
        (None, None) => None,
    };
    let target = match (server, listen) {
        (Some(server), None) => Target::Server(server),
        (None, Some(_)) if !matches!(transport, Transport::Plain) => {
            return Err(String::from("--listen excludes --tls and --starttls: it has --cert"));
        }
        (None, Some(address)) => Target::ClientOf(address, identity),
        (Some(_), Some(_)) => {
            return Err(String::from("--listen excludes HOST:PORT and --unix"));
        }
        (None, None) => return Err(String::from("HOST:PORT is missing")),
    };
    if proxies.is_none() && !proxy_ca.is_empty() {
        return Err(String::from("--proxy-ca needs --proxy beside it"));
    }
    if let (Target::ClientOf(..), Some(_)) = (&target, &proxies) {
        return Err(String::from("--listen excludes --proxy: a listener uses none"));
    }
    if let Target::Server(Server::Unix(_)) = &target {
        if proxies.is_some() || family.is_some() {
            return Err(String::from("--unix excludes --proxy, -4 and -6"));
        }
    }
    if family.is_some() && proxies.is_some() {
        return Err(String::from("--proxy excludes -4 and -6: the proxy dials the server"));
    }
    Ok(Command::Connect(Box::new(Args {
        target,
        timeout,
        half_open,
        no_half_close,
        family,
        verbose,
        proxies: proxies.unwrap_or_default(),
        proxy_ca,
        transport,
    })))
}

/// Parses the URL of a proxy, or reads the environment. The messages show no password.
fn proxy_rules(text: &str) -> Result<ProxyRules, String> {
    let rules = match text {
        "env" => ProxyRules::from_env(),
        url => url.parse::<Proxy>().map(ProxyRules::from),
    };
    rules.map_err(|error| error.to_string())
}

fn identity_files(
    cert: Option<String>,
    key: Option<String>,
) -> Result<Option<[String; 2]>, String> {
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some([cert, key])),
        (None, None) => Ok(None),
        (Some(_), None) => Err(String::from("--cert needs --key beside it")),
        (None, Some(_)) => Err(String::from("--key needs --cert beside it")),
    }
}

/// Parses the address to listen on: a port alone stands for every address of this machine.
fn listen_address(text: &str) -> Result<ListenAddress, String> {
    let port = text.rsplit_once(':').map_or(text, |(_, port)| port);
    match port.parse::<u16>() {
        Ok(number) if port == text => Ok(ListenAddress::Everywhere(number)),
        Ok(_) => Ok(ListenAddress::At(text.to_owned())),
        Err(_) => Err(format!("--listen {text:?} is not a port, or a host and a port")),
    }
}

/// The TLS options of the command line, before they are checked against each other.
#[derive(Default)]
struct Security {
    at_once: bool,
    starttls: Option<Protocol>,
    tls: TlsArgs,
}

impl Security {
    fn transport(self) -> Result<Transport, String> {
        let tls = self.tls;
        match (self.at_once, self.starttls) {
            (true, Some(_)) => Err(String::from("--tls and --starttls exclude each other")),
            (true, None) => Ok(Transport::Tls(tls)),
            (false, Some(protocol)) => Ok(Transport::StartTls(protocol, tls)),
            (false, None) => match tls.first_set() {
                Some(option) => Err(format!("{option} needs --tls or --starttls beside it")),
                None => Ok(Transport::Plain),
            },
        }
    }
}

impl TlsArgs {
    /// Returns the name of an option that was given.
    fn first_set(&self) -> Option<&'static str> {
        [
            ("--ca", !self.ca.is_empty()),
            ("--alpn", !self.alpn.is_empty()),
            ("--server-name", self.server_name.is_some()),
            ("--show-certs", self.show_certs),
            ("--insecure", self.insecure),
            ("--cert", self.identity.is_some()),
        ]
        .into_iter()
        .find_map(|(name, is_set)| is_set.then_some(name))
    }
}

fn second_address(first: &str, word: &str) -> String {
    let is_port = word.parse::<u16>().is_ok();
    let hint = if is_port { format!("; write {first}:{word}") } else { String::new() };
    format!("more than one address: {first:?} and {word:?}{hint}")
}

/// Parses a positive number of seconds with an optional fraction.
fn seconds(text: &str) -> Result<Duration, String> {
    let fault = || format!("--timeout {text:?} is not a number of seconds such as 5 or 0.5");
    // `f64` alone would also accept signs, exponents, infinities and NaN.
    if !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(fault());
    }
    let limit = text.parse().ok().and_then(|secs| Duration::try_from_secs_f64(secs).ok());
    match limit.ok_or_else(fault)? {
        Duration::ZERO => Err(String::from("--timeout is zero: nothing could be done in no time")),
        limit => Ok(limit),
    }
}

/// Splits a list at commas. The library refuses invalid protocols, such as an empty one.
fn list(text: &str) -> Vec<String> {
    text.split(',').map(String::from).collect()
}
