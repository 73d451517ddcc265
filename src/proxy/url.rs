//! Parses the URL of a proxy. Errors quote nothing of it, because any part may be a misplaced password.

use std::borrow::Cow;
use std::str::FromStr;

use super::{Protocol, Proxy};
use crate::address::SocketAddress;
use crate::error::{Error, ErrorKind, Result};
use crate::tls::TlsOptions;

/// Parses a proxy URL.
///
/// | scheme | protocol | default port | names are resolved |
/// |---|---|---|---|
/// | `http`, or none | HTTP CONNECT | 80 | by the proxy |
/// | `https` | HTTP CONNECT over TLS, with default [options](TlsOptions) | 443 | by the proxy |
/// | `socks5` | SOCKS 5 | 1080 | locally, as in curl |
/// | `socks5h` | SOCKS 5 | 1080 | by the proxy |
/// | `socks4` | SOCKS 4 | 1080 | locally |
/// | `socks4a` | SOCKS 4a | 1080 | by the proxy |
///
/// Username and password are percent-decoded. The path may be empty or `/`. Anything else is
/// [`InvalidAddress`](crate::ErrorKind::InvalidAddress); the message shows no part of the URL.
///
/// ```
/// use sockeye::Proxy;
///
/// let proxy: Proxy = "http://alice:p%40ss@proxy.corp.example:3128/".parse()?;
/// let error = "ftp://alice:p%40ss@proxy.corp.example".parse::<Proxy>().unwrap_err();
/// assert_eq!(error.kind(), sockeye::ErrorKind::InvalidAddress);
/// # Ok::<(), sockeye::Error>(())
/// ```
impl FromStr for Proxy {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        parse(url).map_err(|fault| {
            let message = format!("invalid proxy URL: {fault}");
            Error::with_message(ErrorKind::InvalidAddress, message)
        })
    }
}

/// What a scheme means.
struct Scheme {
    name: &'static str,
    protocol: Protocol,
    is_https: bool,
    default_port: u16,
    resolves_locally: bool,
}

const SCHEMES: [Scheme; 6] = [
    Scheme::http("http", false, 80),
    Scheme::http("https", true, 443),
    Scheme::socks("socks5", Protocol::Socks5, true),
    Scheme::socks("socks5h", Protocol::Socks5, false),
    Scheme::socks("socks4", Protocol::Socks4, true),
    Scheme::socks("socks4a", Protocol::Socks4, false),
];

impl Scheme {
    const fn http(name: &'static str, is_https: bool, default_port: u16) -> Self {
        Scheme { name, protocol: Protocol::Http, is_https, default_port, resolves_locally: false }
    }

    const fn socks(name: &'static str, protocol: Protocol, resolves_locally: bool) -> Self {
        Scheme { name, protocol, is_https: false, default_port: 1080, resolves_locally }
    }
}

type Fault = Cow<'static, str>;

fn parse(url: &str) -> Result<Proxy, Fault> {
    let (scheme, rest) = match url.split_once("://") {
        Some((name, rest)) => (scheme(name)?, rest),
        None => (&SCHEMES[0], url),
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if path.contains('@') {
        return Err("an @ follows the host: percent-encode username and password".into());
    }
    if !matches!(path, "" | "/") {
        return Err("only host and port may follow the scheme and the credentials".into());
    }
    let (userinfo, host) = match authority.rsplit_once('@') {
        Some((userinfo, host)) => (userinfo, host),
        None => ("", authority),
    };
    let address = address(host, scheme.default_port)?;
    let mut proxy = Proxy::new(scheme.protocol, address.clone()).map_err(|_| PORT)?;
    if scheme.is_https {
        // The port is valid, so only the host can be at fault.
        proxy = Proxy::https(address, TlsOptions::new())
            .map_err(|_| "the host is none that a certificate can match")?;
    }
    if scheme.resolves_locally {
        proxy = proxy.resolve_locally();
    }
    if userinfo.is_empty() {
        return Ok(proxy);
    }
    let (username, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let (username, password) = (percent_decode(username)?, percent_decode(password)?);
    // The message has no secret: it names the rule.
    proxy.credentials(&username, &password).map_err(|error| error.to_string().into())
}

fn scheme(name: &str) -> Result<&'static Scheme, Fault> {
    SCHEMES.iter().find(|scheme| name.eq_ignore_ascii_case(scheme.name)).ok_or_else(|| {
        "the scheme is none of http, https, socks5, socks5h, socks4 and socks4a".into()
    })
}

const PORT: &str = "the port is not a number from 1 to 65535";

fn address(text: &str, default_port: u16) -> Result<SocketAddress, Fault> {
    // The colons of an IPv6 address are in brackets.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        Some(_) | None => (text, ""),
    };
    let port = match port {
        "" => default_port,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map_err(|_| PORT)?
        }
        _ => return Err(PORT.into()),
    };
    if host.contains(':') && !host.starts_with('[') {
        return Err("an IPv6 address needs brackets".into());
    }
    SocketAddress::new(host, port).map_err(|_| "the host or the port is invalid".into())
}

fn percent_decode(text: &str) -> Result<String, Fault> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        decoded.push(match byte {
            b'%' => match (digit(), digit()) {
                (Some(high), Some(low)) => {
                    u8::try_from(high << 4 | low).expect("two hexadecimal digits are a byte")
                }
                _ => return Err("a % in the credentials needs two hexadecimal digits".into()),
            },
            byte => byte,
        });
    }
    String::from_utf8(decoded).map_err(|_| "the credentials are not UTF-8".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_choose_protocol_port_and_resolution() {
        use Protocol::{Http, Socks4, Socks5};
        for (url, protocol, address, locally) in [
            ("proxy.test", Http, "proxy.test:80", false),
            ("proxy.test:3128", Http, "proxy.test:3128", false),
            ("http://proxy.test", Http, "proxy.test:80", false),
            ("HTTP://proxy.test:3128/", Http, "proxy.test:3128", false),
            ("http://proxy.test:/", Http, "proxy.test:80", false),
            ("http://127.0.0.1:8080", Http, "127.0.0.1:8080", false),
            ("https://proxy.test", Http, "proxy.test:443", false),
            ("https://127.0.0.1:8443/", Http, "127.0.0.1:8443", false),
            ("http://[::1]", Http, "[::1]:80", false),
            ("http://[::1]:8080/", Http, "[::1]:8080", false),
            ("[::1]:8080", Http, "[::1]:8080", false),
            ("socks5://proxy.test", Socks5, "proxy.test:1080", true),
            ("socks5h://proxy.test", Socks5, "proxy.test:1080", false),
            ("socks4://proxy.test", Socks4, "proxy.test:1080", true),
            ("socks4a://proxy.test:9050", Socks4, "proxy.test:9050", false),
        ] {
            let proxy: Proxy = url.parse().unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(proxy.protocol(), protocol, "{url}");
            assert_eq!(proxy.address().to_string(), address, "{url}");
            assert_eq!(proxy.resolves_locally(), locally, "{url}");
            assert_eq!(proxy.is_https(), url.starts_with("https:"), "{url}");
            assert!(proxy.own_credentials().is_none(), "{url}");
        }
    }

    #[test]
    fn credentials_are_percent_decoded() {
        for (url, username, password) in [
            ("http://alice:secret@proxy.test", "alice", "secret"),
            ("alice:secret@proxy.test:1", "alice", "secret"),
            ("https://alice:secret@proxy.test", "alice", "secret"),
            ("http://alice@proxy.test", "alice", ""),
            ("http://:secret@proxy.test", "", "secret"),
            ("http://a%40b:p%3aw%2F%25@proxy.test", "a@b", "p:w/%"),
            ("http://a@b:c:d@proxy.test", "a@b", "c:d"),
            ("http://%C3%A4:%e2%82%ac@proxy.test", "\u{e4}", "\u{20ac}"),
            ("socks5h://alice:secret@proxy.test", "alice", "secret"),
            ("socks4a://alice@proxy.test", "alice", ""),
        ] {
            let proxy: Proxy = url.parse().unwrap_or_else(|error| panic!("{url}: {error}"));
            let credentials = proxy.own_credentials().expect("the URL has credentials");
            assert_eq!((credentials.username(), credentials.password()), (username, password));
        }
        let none: Proxy = "http://@proxy.test".parse().unwrap();
        assert!(none.own_credentials().is_none());
    }

    #[test]
    fn errors_show_no_part_of_the_url() {
        for url in [
            "",
            "http://",
            "ftp://secret:secret@proxy.test",
            "socks://secret:secret@proxy.test",
            "http://user:secret",
            "https://user:secret@127.1",
            "https://user:secret@proxy.test:0",
            "http://user:sec/ret@proxy.test",
            "http://user:secret@proxy.test/path",
            "http://user:secret@proxy.test/?secret",
            "http://user:secret@proxy.test#secret",
            "http://user:secret@proxy.test:secret",
            "http://user:secret@proxy.test:0",
            "http://user:secret@proxy.test:65536",
            "http://user:secret@proxy.test:+80",
            "http://user:secret@::1",
            "http://user:secret@[::1",
            "http://user:secret@pro xy.test",
            "http://user:secret@",
            "http://user:secret%@proxy.test",
            "http://user:secret%4@proxy.test",
            "http://user:secret%zz@proxy.test",
            "http://user:secret%ff@proxy.test",
            "http://user:secret%0d@proxy.test",
            "http://us%3aer:secret@proxy.test",
            "socks5://secret@proxy.test",
            "socks4://user:secret@proxy.test",
            "//secret:secret@proxy.test",
            " http://user:secret@proxy.test",
        ] {
            let error = url.parse::<Proxy>().expect_err(url);
            assert_eq!(error.kind(), ErrorKind::InvalidAddress, "{url}");
            let text = format!("{error} {error:?}");
            assert!(!text.contains("sec") && !text.contains("user:"), "{url}: {text}");
        }
    }
}
