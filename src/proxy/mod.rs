//! Proxies: their addresses and credentials, and the rules that choose one for a connection.
//!
//! This module sends nothing. `url` parses the text form of a proxy, `rules` and `no_proxy` choose a proxy, and
//! `credentials` has what is secret. The dialogue with a proxy is part of the [`machine`](crate::machine).

mod credentials;
mod no_proxy;
mod rules;
mod url;

use std::fmt;
use std::sync::Arc;

use crate::address::SocketAddress;
use crate::egress::EgressRules;
use crate::error::{Error, Result};
use crate::tls::{TlsOptions, TlsSetup};

pub(crate) use self::credentials::Credentials;
pub use self::no_proxy::NoProxy;
pub use self::rules::ProxyRules;

/// A proxy: its protocol, address and credentials. `Debug` and errors never show the password. Cheap to clone.
///
/// One [`connect_timeout`](crate::SocketOptions::connect_timeout) covers everything from the lookup of the proxy's name
/// to the TLS handshake with the target. Nothing follows the request until the proxy has accepted it (RFC 9931). Exactly
/// the bytes of the proxy's reply are consumed; bytes after it belong to the target and stay unread. If TLS with the
/// target begins there, bytes after the reply are [`UnreadPlaintext`](crate::ErrorKind::UnreadPlaintext).
///
/// ```
/// use sockeye::Proxy;
///
/// let proxy = Proxy::http("proxy.corp.example:3128")?.credentials("alice", "secret")?;
/// assert!(!format!("{proxy:?}").contains("secret"));
///
/// let proxy: Proxy = "socks5h://127.0.0.1".parse()?;
/// # Ok::<(), sockeye::Error>(())
/// ```
///
/// # Errors
/// [`Socket::opened`](crate::Socket::opened) returns:
/// - [`Resolve`](crate::ErrorKind::Resolve), [`Connect`](crate::ErrorKind::Connect) and
///   [`TimedOut`](crate::ErrorKind::TimedOut) if the proxy cannot be reached or does not answer; the message names it.
/// - [`Resolve`](crate::ErrorKind::Resolve) also for the target's name with [`resolve_locally`](Self::resolve_locally).
/// - [`Tls`](crate::ErrorKind::Tls) if TLS with an [`https`](Self::https) proxy fails; the message names it.
/// - [`Proxy`](crate::ErrorKind::Proxy) if it refuses, sends a malformed reply, or disconnects.
///   [`Error::proxy_reply`](crate::Error::proxy_reply) has its reply.
#[derive(Clone)]
#[doc(alias("HTTP_PROXY", "CONNECT", "SOCKS"))]
pub struct Proxy {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    protocol: Protocol,
    address: SocketAddress,
    credentials: Option<Credentials>,
    headers: Vec<(Box<str>, Box<str>)>,
    resolves_locally: bool,
    trusts_filtering: bool,
    /// The options for TLS with the proxy.
    tls: Option<TlsOptions>,
}

/// The protocol of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Socks5,
    Socks4,
}

impl Proxy {
    /// Uses HTTP CONNECT (RFC 9110, section 9.3.6) over HTTP/1.1, in plaintext to the proxy.
    ///
    /// Any 2xx accepts; 1xx are skipped. `Content-Length` and `Transfer-Encoding` of a 2xx are ignored. A head longer
    /// than 16 KiB is malformed.
    ///
    /// # Errors
    /// [`InvalidAddress`](crate::ErrorKind::InvalidAddress), also for port 0.
    pub fn http<A>(address: A) -> Result<Self>
    where
        A: TryInto<SocketAddress>,
        Error: From<A::Error>,
    {
        Proxy::new(Protocol::Http, address.try_into().map_err(Error::from)?)
    }

    /// Uses [`http`](Self::http) over TLS to the proxy. With [`On`](crate::SecureTransport::On) and
    /// [`StartTls`](crate::SecureTransport::StartTls) this is TLS within TLS.
    ///
    /// `tls` concerns the proxy alone: its certificate must match the host of `address`, or the
    /// [`server_name`](TlsOptions::server_name) of these options. The target has the options of the socket or the
    /// connector. If ALPN is offered (RFC 7301), it may only be `http/1.1`.
    ///
    /// ```
    /// use sockeye::{Connector, Proxy, TlsOptions};
    ///
    /// let proxy = Proxy::https("proxy.corp.example:443", TlsOptions::new())?;
    /// let connector = Connector::builder().proxy(proxy).build()?;
    /// # Ok::<(), sockeye::Error>(())
    /// ```
    ///
    /// # Errors
    /// - [`InvalidAddress`](crate::ErrorKind::InvalidAddress), also for port 0.
    /// - [`InvalidOptions`](crate::ErrorKind::InvalidOptions) for invalid options, for another protocol than `http/1.1`,
    ///   and for a host that no certificate can match, if there is no server name.
    ///   [`build`](crate::ConnectorBuilder::build) returns it for options that cannot be used, such as a cipher suite that
    ///   the crypto provider does not have. A connect returns it if there is no crypto provider.
    pub fn https<A>(address: A, tls: TlsOptions) -> Result<Self>
    where
        A: TryInto<SocketAddress>,
        Error: From<A::Error>,
    {
        let mut proxy = Proxy::http(address)?;
        proxy.secure(tls)?;
        Ok(proxy)
    }

    /// Uses SOCKS 5 (RFC 1928), with or without username and password (RFC 1929). The proxy resolves names, unless
    /// [`resolve_locally`](Self::resolve_locally) is set. curl calls that `socks5h`.
    ///
    /// # Errors
    /// [`InvalidAddress`](crate::ErrorKind::InvalidAddress), also for port 0.
    pub fn socks5<A>(address: A) -> Result<Self>
    where
        A: TryInto<SocketAddress>,
        Error: From<A::Error>,
    {
        Proxy::new(Protocol::Socks5, address.try_into().map_err(Error::from)?)
    }

    /// Uses SOCKS 4a. With [`resolve_locally`](Self::resolve_locally) it is SOCKS 4.
    ///
    /// Either supports IPv4 only: a connect to an IPv6 address is
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions). So is one to 0.0.0.1 to 0.0.0.255, which stand for a name.
    ///
    /// # Errors
    /// [`InvalidAddress`](crate::ErrorKind::InvalidAddress), also for port 0.
    pub fn socks4a<A>(address: A) -> Result<Self>
    where
        A: TryInto<SocketAddress>,
        Error: From<A::Error>,
    {
        Proxy::new(Protocol::Socks4, address.try_into().map_err(Error::from)?)
    }

    /// Sets username and password: HTTP Basic (RFC 7617) or those of RFC 1929. They are sent with the first request,
    /// not after a 407. For SOCKS 4a the username is the user ID.
    ///
    /// # Errors
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) for:
    /// - a control character;
    /// - HTTP: a colon in the username;
    /// - SOCKS 5: a username or password that does not have 1 to 255 bytes;
    /// - SOCKS 4a: a password that is not empty.
    pub fn credentials(mut self, username: &str, password: &str) -> Result<Self> {
        if username.chars().chain(password.chars()).any(char::is_control) {
            return Err(invalid("the username or password has a control character"));
        }
        match self.inner.protocol {
            Protocol::Http if username.contains(':') => {
                return Err(invalid("the username has a colon, which HTTP Basic cannot express"));
            }
            Protocol::Socks5 if [username, password].iter().any(|it| !is_socks5_length(it)) => {
                return Err(invalid("SOCKS 5 needs a username and a password of 1 to 255 bytes"));
            }
            Protocol::Socks4 if !password.is_empty() => {
                return Err(invalid("SOCKS 4 has a user ID and no password"));
            }
            Protocol::Http | Protocol::Socks5 | Protocol::Socks4 => {}
        }
        self.inner_mut().credentials = Some(Credentials::new(username, password));
        Ok(self)
    }

    /// Adds a header to HTTP CONNECT, such as `Proxy-Authorization: Bearer …`. A header of that name replaces the one
    /// of [`credentials`](Self::credentials).
    ///
    /// # Errors
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) for:
    /// - a SOCKS proxy;
    /// - CR, LF or NUL in the value;
    /// - a name that is not a token (RFC 9110, section 5.6.2);
    /// - `Host`, `Content-Length` and `Transfer-Encoding`.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self> {
        if self.inner.protocol != Protocol::Http {
            return Err(invalid("SOCKS has no headers"));
        }
        if name.is_empty() || !name.bytes().all(is_token_byte) {
            return Err(invalid("the name of a header is not a token"));
        }
        if RESERVED_HEADERS.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
            return Err(invalid(&format!("the header {name} belongs to the request itself")));
        }
        if value.contains(['\r', '\n', '\0']) {
            return Err(invalid(&format!("the value of the header {name} has CR, LF or NUL")));
        }
        self.inner_mut().headers.push((name.into(), value.into()));
        Ok(self)
    }

    /// Resolves names with the connector's resolver, judges the addresses by the egress rules, and passes an address to
    /// the proxy. TLS still verifies the name.
    ///
    /// Addresses are tried one after another, in the order of RFC 8305, at most 4. The next one is tried after a reply
    /// that says that the address cannot be reached, and after no other refusal. With a fixed local port, only the first
    /// one is tried, because each needs another connection to the proxy.
    #[must_use]
    pub fn resolve_locally(mut self) -> Self {
        self.inner_mut().resolves_locally = true;
        self
    }

    /// Accepts that net rules do not apply to names: they go to the proxy unjudged, and the proxy must filter.
    #[must_use]
    pub fn trust_proxy_filtering(mut self) -> Self {
        self.inner_mut().trusts_filtering = true;
        self
    }

    fn new(protocol: Protocol, address: SocketAddress) -> Result<Self> {
        address.check_port()?;
        let inner = Inner {
            protocol,
            address,
            credentials: None,
            headers: Vec::new(),
            resolves_locally: false,
            trusts_filtering: false,
            tls: None,
        };
        Ok(Proxy { inner: Arc::new(inner) })
    }

    fn inner_mut(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.inner)
    }

    /// Uses TLS to the proxy, with these options.
    fn secure(&mut self, tls: TlsOptions) -> Result<()> {
        TlsSetup::check_proxy(&tls, self.address().hostname())?;
        self.inner_mut().tls = Some(tls);
        Ok(())
    }

    pub(crate) fn protocol(&self) -> Protocol {
        self.inner.protocol
    }

    pub(crate) fn address(&self) -> &SocketAddress {
        &self.inner.address
    }

    pub(crate) fn own_credentials(&self) -> Option<&Credentials> {
        self.inner.credentials.as_ref()
    }

    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.inner.headers.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Returns whether the connection to the proxy uses TLS.
    pub(crate) fn is_https(&self) -> bool {
        self.inner.tls.is_some()
    }

    /// Checks that the options for TLS with the proxy can be used.
    pub(crate) fn check_tls(&self) -> Result<()> {
        match &self.inner.tls {
            Some(tls) => TlsSetup::check_usable(tls, self.address().hostname()),
            None => Ok(()),
        }
    }

    /// Returns the setup for TLS with the proxy.
    pub(crate) fn tls_setup(&self) -> Result<Option<TlsSetup>> {
        let tls = self.inner.tls.as_ref();
        tls.map(|tls| TlsSetup::new(tls, self.address().hostname())).transpose()
    }

    /// Returns whether dropping it may run the program's code.
    pub(crate) fn holds_foreign_code(&self) -> bool {
        self.inner.tls.as_ref().is_some_and(TlsOptions::runs_foreign_code)
    }

    pub(crate) fn resolves_locally(&self) -> bool {
        self.inner.resolves_locally
    }

    /// Refuses a proxy that gets names although the rules restrict nets, because nothing could judge the addresses.
    pub(crate) fn check_judged(&self, egress: &EgressRules) -> Result<()> {
        let Inner { address, resolves_locally, trusts_filtering, .. } = &*self.inner;
        if *resolves_locally || *trusts_filtering || !egress.restricts_nets() {
            return Ok(());
        }
        let message = format!(
            "the egress rules restrict nets, but the proxy {address} resolves names: set resolve_locally, or \
             trust_proxy_filtering if the proxy filters"
        );
        Err(Error::invalid_options(message))
    }
}

/// Shows protocol, address and the names of headers.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers().map(|(name, _)| name).collect();
        f.debug_struct("Proxy")
            .field("protocol", &self.inner.protocol)
            .field("is_https", &self.is_https())
            .field("address", &format_args!("{}", self.inner.address))
            .field("has_credentials", &self.inner.credentials.is_some())
            .field("headers", &names)
            .field("resolves_locally", &self.inner.resolves_locally)
            .field("trusts_filtering", &self.inner.trusts_filtering)
            .finish()
    }
}

/// Headers that the request has, or that would give it a body.
const RESERVED_HEADERS: [&str; 3] = ["host", "content-length", "transfer-encoding"];

/// The part of RFC 9110, section 5.6.2, that is neither a letter nor a digit.
const TOKEN_SYMBOLS: &[u8] = b"!#$%&'*+-.^_`|~";

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || TOKEN_SYMBOLS.contains(&byte)
}

fn is_socks5_length(text: &str) -> bool {
    (1..=255).contains(&text.len())
}

fn invalid(fault: &str) -> Error {
    Error::invalid_options(format!("invalid proxy: {fault}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn addresses_are_checked() {
        for (address, valid) in [("proxy.test:3128", true), ("proxy.test", false), ("", false)] {
            assert_eq!(Proxy::http(address).is_ok(), valid);
            assert_eq!(Proxy::socks5(address).is_ok(), valid);
            assert_eq!(Proxy::socks4a(address).is_ok(), valid);
        }
        let error = Proxy::http(([127, 0, 0, 1], 0)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidAddress);
    }

    #[test]
    fn credentials_are_checked_for_each_protocol() {
        let (long, longest) = ("a".repeat(256), "a".repeat(255));
        let [http, socks5, socks4] = proxies();
        for (proxy, username, password, valid) in [
            (&http, "alice", "secret", true),
            (&http, "", "", true),
            (&http, "alice", "with:colon", true),
            (&http, "with:colon", "secret", false),
            (&http, "al\rice", "secret", false),
            (&http, "alice", "sec\nret", false),
            (&http, "alice", "sec\u{85}ret", false),
            (&http, &long, &long, true),
            (&socks5, "with:colon", "secret", true),
            (&socks5, &longest, &longest, true),
            (&socks5, &long, "secret", false),
            (&socks5, "alice", &long, false),
            (&socks5, "", "secret", false),
            (&socks5, "alice", "", false),
            (&socks5, "al\0ice", "secret", false),
            (&socks4, "alice", "", true),
            (&socks4, "", "", true),
            (&socks4, "alice", "secret", false),
            (&socks4, "al\0ice", "", false),
        ] {
            let result = proxy.clone().credentials(username, password);
            assert_eq!(result.is_ok(), valid, "{proxy:?}, {username:?}, {password:?}");
            if let Err(error) = result {
                assert_eq!(error.kind(), ErrorKind::InvalidOptions);
                assert!(!error.to_string().contains("secret"), "{error}");
            }
        }
    }

    #[test]
    fn headers_cannot_be_injected() {
        let [http, socks5, socks4] = proxies();
        for (name, value, valid) in [
            ("Proxy-Authorization", "Bearer secret", true),
            ("x!#$%&'*+-.^_`|~9", "", true),
            ("X-Name", "tab\tand \u{e4}", true),
            ("X-Name", "a\rb", false),
            ("X-Name", "a\nb", false),
            ("X-Name", "a\0b", false),
            ("", "value", false),
            ("X Name", "value", false),
            ("X:", "value", false),
            ("X\r\nY", "value", false),
            ("\u{e4}", "value", false),
            ("host", "value", false),
            ("Content-Length", "1", false),
            ("TRANSFER-ENCODING", "chunked", false),
        ] {
            let result = http.clone().header(name, value);
            assert_eq!(result.is_ok(), valid, "{name:?}: {value:?}");
            if let Err(error) = result {
                assert_eq!(error.kind(), ErrorKind::InvalidOptions);
            }
        }
        for socks in [socks5, socks4] {
            assert!(socks.header("X-Name", "value").is_err());
        }
    }

    #[test]
    fn debug_shows_names_of_headers_and_nothing_secret() {
        let proxy = Proxy::http("proxy.test:3128")
            .and_then(|proxy| proxy.credentials("alice", "pa55"))
            .and_then(|proxy| proxy.header("X-Key", "v4lue"))
            .unwrap();
        let rules = ProxyRules::new().all(proxy.clone()).tls(proxy.clone());
        for text in [format!("{proxy:?}"), format!("{proxy:#?}"), format!("{rules:?}")] {
            assert!(text.contains("X-Key") && text.contains("proxy.test:3128"), "{text}");
            for secret in ["alice", "pa55", "v4lue"] {
                assert!(!text.contains(secret), "{text}");
            }
        }
    }

    #[test]
    fn a_clone_keeps_its_own_settings() {
        let [plain, ..] = proxies();
        let changed = plain.clone().resolve_locally().trust_proxy_filtering();
        assert!(changed.resolves_locally() && changed.inner.trusts_filtering);
        assert!(!plain.resolves_locally() && !plain.inner.trusts_filtering);
    }

    fn proxies() -> [Proxy; 3] {
        let address = "proxy.test:1080";
        [Proxy::http(address), Proxy::socks5(address), Proxy::socks4a(address)].map(Result::unwrap)
    }
}
