//! The rules that choose the proxy of a connection.

use std::env;
use std::ffi::OsString;
use std::net::IpAddr;

use super::{NoProxy, Proxy};
use crate::address::SocketAddress;
use crate::error::{Error, ErrorKind, Result};
use crate::options::SecureTransport;
use crate::tls::TlsOptions;

/// Which connections use which proxy.
///
/// ```
/// use sockeye::{NoProxy, Proxy, ProxyRules, SecureTransport};
///
/// let rules = ProxyRules::new()
///     .all(Proxy::socks5("proxy.corp.example:1080")?)
///     .except(NoProxy::parse(".corp.example"));
/// assert!(rules.proxy_for(&"example.com:80".parse()?, SecureTransport::Off).is_some());
/// assert!(rules.proxy_for(&"db.corp.example:5432".parse()?, SecureTransport::Off).is_none());
/// # Ok::<(), sockeye::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ProxyRules {
    all: Option<Proxy>,
    tls: Option<Proxy>,
    except: NoProxy,
    /// Whether `localhost` and loopback addresses are dialled directly.
    excepts_loopback: bool,
}

impl ProxyRules {
    /// Creates rules with which every connection is direct.
    #[must_use]
    pub fn new() -> Self {
        ProxyRules::default()
    }

    /// Sets the proxy for all connections that no other rule covers. A second call replaces the first.
    #[must_use]
    pub fn all(mut self, proxy: Proxy) -> Self {
        self.all = Some(proxy);
        self
    }

    /// Sets the proxy for sockets with [`SecureTransport::On`]. A second call replaces the first.
    #[must_use]
    pub fn tls(mut self, proxy: Proxy) -> Self {
        self.tls = Some(proxy);
        self
    }

    /// Adds targets that are dialled directly. Takes precedence over the rules above.
    #[must_use]
    pub fn except(mut self, targets: NoProxy) -> Self {
        self.except.add(targets);
        self
    }

    /// Sets the options for TLS with every [`https`](Proxy::https) proxy that these rules have so far. A proxy that a URL
    /// or the environment names has default options.
    ///
    /// ```no_run
    /// use sockeye::{ProxyRules, TlsOptions};
    ///
    /// let authority = std::fs::read("corp-ca.pem")?;
    /// let rules = ProxyRules::from_env()?.https_options(TlsOptions::new().add_root_pem(authority)?)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) as from [`Proxy::https`], and if there is no such proxy.
    pub fn https_options(mut self, tls: TlsOptions) -> Result<Self> {
        let mut is_used = false;
        for proxy in [&mut self.all, &mut self.tls].into_iter().flatten() {
            if proxy.is_https() {
                proxy.secure(tls.clone())?;
                is_used = true;
            }
        }
        if !is_used {
            return Err(Error::invalid_options(
                "https_options: none of the proxies is an https proxy",
            ));
        }
        Ok(self)
    }

    /// Reads the environment, now.
    ///
    /// - `https_proxy` or `HTTPS_PROXY` covers sockets with [`SecureTransport::On`].
    /// - `all_proxy` or `ALL_PROXY` covers the others, and those with `On` if the first is not set.
    /// - `no_proxy` or `NO_PROXY` lists [exceptions](NoProxy). `localhost` and loopback addresses are always direct, as the
    ///   target writes them: a name that resolves to a loopback address is not.
    ///
    /// The lower-case name takes precedence; an empty value counts as unset. `HTTP_PROXY` is never read: a CGI request
    /// can set it ([httpoxy](https://httpoxy.org)), and it does not concern tunnels.
    ///
    /// # Errors
    /// [`InvalidAddress`](crate::ErrorKind::InvalidAddress) if a variable cannot be parsed; the message names it and
    /// shows no password.
    pub fn from_env() -> Result<Self> {
        ProxyRules::from_variables(|name| env::var_os(name))
    }

    /// Returns the proxy for a socket to `target` with this mode. `None` means direct.
    #[must_use]
    pub fn proxy_for(&self, target: &SocketAddress, mode: SecureTransport) -> Option<&Proxy> {
        let tls = match mode {
            SecureTransport::On => self.tls.as_ref(),
            SecureTransport::Off | SecureTransport::StartTls => None,
        };
        let proxy = tls.or(self.all.as_ref())?;
        let is_direct = self.except.matches(target) || self.excepts_loopback && is_loopback(target);
        (!is_direct).then_some(proxy)
    }

    /// Returns every proxy that may be used.
    pub(crate) fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.all.iter().chain(&self.tls)
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let read = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| {
                let value = variable(name).filter(|value| !value.is_empty())?;
                Some((name, value))
            })
        };
        let proxy = |names| match read(names) {
            Some((name, value)) => parse(name, value).map(Some),
            None => Ok(None),
        };
        let list = read(["no_proxy", "NO_PROXY"]);
        Ok(ProxyRules {
            tls: proxy(["https_proxy", "HTTPS_PROXY"])?,
            all: proxy(["all_proxy", "ALL_PROXY"])?,
            except: list
                .map_or_else(NoProxy::default, |(_, list)| NoProxy::parse(&list.to_string_lossy())),
            excepts_loopback: true,
        })
    }
}

/// Uses the proxy for [all](ProxyRules::all) connections.
impl From<Proxy> for ProxyRules {
    fn from(proxy: Proxy) -> Self {
        ProxyRules::new().all(proxy)
    }
}

fn parse(name: &str, value: OsString) -> Result<Proxy> {
    let parsed = match value.into_string() {
        Ok(url) => url.parse::<Proxy>().map_err(|error| error.to_string()),
        Err(_) => Err("invalid proxy URL: it is not UTF-8".to_owned()),
    };
    parsed.map_err(|message| {
        let message = format!("the environment variable {name} has an {message}");
        Error::with_message(ErrorKind::InvalidAddress, message)
    })
}

fn is_loopback(target: &SocketAddress) -> bool {
    let hostname = target.hostname();
    let host = hostname.strip_suffix('.').unwrap_or(hostname);
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SecureTransport::{Off, On, StartTls};

    #[test]
    fn the_mode_chooses_the_proxy() {
        let [all, tls] = ["all.test:1", "tls.test:1"].map(|address| Proxy::http(address).unwrap());
        let both = ProxyRules::new().all(all.clone()).tls(tls.clone());
        assert_chosen(&both, "a.test:1", [Some("all"), Some("tls"), Some("all")]);
        assert_chosen(&ProxyRules::from(all), "a.test:1", [Some("all"); 3]);
        assert_chosen(&ProxyRules::new().tls(tls), "a.test:1", [None, Some("tls"), None]);
        assert_chosen(&ProxyRules::new(), "a.test:1", [None; 3]);
    }

    #[test]
    fn a_second_proxy_replaces_the_first_and_exceptions_add_up() {
        let proxy = |name: &str| Proxy::http((name, 1)).unwrap();
        let rules = ProxyRules::new()
            .all(proxy("first.test"))
            .all(proxy("all.test"))
            .except(NoProxy::parse("a.test"))
            .except(NoProxy::parse("b.test:1"));
        for target in ["a.test:1", "b.test:1"] {
            assert_chosen(&rules, target, [None; 3]);
        }
        // Rules of the program have no exceptions of their own.
        for target in ["b.test:2", "localhost:1", "127.0.0.1:1"] {
            assert_chosen(&rules, target, [Some("all"); 3]);
        }
    }

    #[test]
    fn options_for_https_proxies_replace_those_of_a_url() {
        let [plain, secured] =
            ["http://all.test", "https://u:p@tls.test"].map(|url| url.parse::<Proxy>().unwrap());
        let rules = ProxyRules::new().all(plain.clone()).tls(secured);
        let options = TlsOptions::new().server_name("name.test");
        let rules = rules.https_options(options).unwrap();
        let [all, tls] = [&rules.all, &rules.tls].map(|proxy| proxy.as_ref().unwrap());
        assert!(!all.is_https() && tls.own_credentials().is_some());
        let setup = format!("{:?}", tls.tls_setup().unwrap());
        assert!(setup.contains("name.test"), "{setup}");
        for (rules, options) in [
            (rules.clone(), TlsOptions::new().alpn(["h2"])),
            (ProxyRules::from(plain), TlsOptions::new()),
            (ProxyRules::new(), TlsOptions::new()),
        ] {
            let error = rules.https_options(options).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidOptions);
        }
    }

    #[test]
    fn the_environment_is_read_as_documented() {
        for (variables, chosen) in [
            (&[][..], [None; 3]),
            (&[("http_proxy", "http.test"), ("HTTP_PROXY", "http.test")][..], [None; 3]),
            (&[("ALL_PROXY", "all.test")][..], [Some("all"); 3]),
            (&[("all_proxy", "all.test"), ("ALL_PROXY", "upper.test")][..], [Some("all"); 3]),
            (&[("all_proxy", ""), ("ALL_PROXY", "all.test")][..], [Some("all"); 3]),
            (&[("HTTPS_PROXY", "tls.test")][..], [None, Some("tls"), None]),
            (
                &[("https_proxy", "http://u:p@tls.test/"), ("ALL_PROXY", "socks5://all.test")][..],
                [Some("all"), Some("tls"), Some("all")],
            ),
            (&[("ALL_PROXY", "all.test"), ("no_proxy", "*")][..], [None; 3]),
            (&[("ALL_PROXY", "all.test"), ("NO_PROXY", "other,a.test")][..], [None; 3]),
        ] {
            let rules = ProxyRules::from_variables(environment(variables)).unwrap();
            assert_chosen(&rules, "a.test:1", chosen);
            for local in ["localhost:1", "LOCALHOST.:1", "127.9.9.9:1", "[::1]:1"] {
                assert_chosen(&rules, local, [None; 3]);
            }
        }
    }

    #[test]
    fn a_bad_variable_is_named_without_its_value() {
        for name in ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
            let error = ProxyRules::from_variables(environment(&[(name, "x://user:pa55@host")]))
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidAddress);
            let text = error.to_string();
            assert!(
                text.contains(name) && !text.contains("pa55") && !text.contains("user"),
                "{text}"
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_utf8_is_an_error() {
        use std::os::unix::ffi::OsStringExt;
        let variable = |name: &str| (name == "ALL_PROXY").then(|| OsString::from_vec(vec![0xff]));
        let error = ProxyRules::from_variables(variable).unwrap_err();
        assert!(error.to_string().contains("ALL_PROXY"), "{error}");
    }

    fn environment(variables: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
        move |wanted| {
            let found = variables.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| OsString::from(value))
        }
    }

    /// Checks the proxy for each mode, by the first label of its name.
    fn assert_chosen(rules: &ProxyRules, target: &str, expected: [Option<&str>; 3]) {
        let target: SocketAddress = target.parse().unwrap();
        for (mode, expected) in [Off, On, StartTls].into_iter().zip(expected) {
            let chosen = rules.proxy_for(&target, mode);
            let label = chosen.map(|proxy| proxy.address().hostname().split('.').next().unwrap());
            assert_eq!(label, expected, "{target}, {mode:?}");
        }
    }
}
