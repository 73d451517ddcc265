//! Real proxies: tinyproxy (HTTP, and behind stunnel HTTPS), microsocks and Dante (SOCKS 5 and 4).

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

use sockeye::{
    Connector, Error, ErrorKind, Proxy, ProxyReply, SecureTransport, Socket, SocketOptions,
};

use super::certificates::Certificates;
use super::harness::{Scratch, Server, bounded, installed, start};
use crate::support::peer::{Peer, Server as Target, closed_port};
use crate::support::tls::{TlsPeer, authority, server_config, trust_only, with};
use crate::support::{random_bytes, read_exactly, spawn_call};

/// Username and password of the proxies that want them.
const ALICE: (&str, &str) = ("alice", "secret");

#[test]
fn tinyproxy_forwards_and_refuses() {
    let test = "tinyproxy_forwards_and_refuses";
    let Some(program) = installed(test, "tinyproxy") else { return };
    let server = tinyproxy(&program, "BasicAuth alice secret\nConnectPort 0\n");
    let proxy = || Proxy::http(server.address()).unwrap();
    let error = failure(&proxy(), SocketAddr::from(([127, 0, 0, 1], 9)));
    assert_eq!(error.proxy_reply(), Some(ProxyReply::Http(407)), "{error}");
    assert!(error.to_string().contains("it offers Basic"), "{error}");
    let wrong = proxy().credentials("alice", "wrong").unwrap();
    let error = failure(&wrong, SocketAddr::from(([127, 0, 0, 1], 9)));
    assert_eq!(error.kind(), ErrorKind::Proxy, "{error}");
    // Every port is forbidden.
    let right = proxy().credentials(ALICE.0, ALICE.1).unwrap();
    let error = failure(&right, SocketAddr::from(([127, 0, 0, 1], 9)));
    assert_eq!(error.proxy_reply(), Some(ProxyReply::Http(403)), "{error}");

    let server = tinyproxy(&program, "BasicAuth alice secret\n");
    let right = Proxy::http(server.address()).unwrap().credentials(ALICE.0, ALICE.1).unwrap();
    check_forwards(&right, "localhost");
    let error = failure(&right, closed_port().address);
    assert!(matches!(error.proxy_reply(), Some(ProxyReply::Http(500..=504))), "{error}");
}

#[test]
fn stunnel_in_front_of_tinyproxy_forwards_and_refuses() {
    let test = "stunnel_in_front_of_tinyproxy_forwards_and_refuses";
    let programs = ["tinyproxy", "stunnel"].map(|program| installed(test, program));
    let [Some(tinyproxy), Some(stunnel)] = programs else { return };
    let certificates = Certificates::new();
    let server = self::tinyproxy(&tinyproxy, "BasicAuth alice secret\n");
    let front = self::stunnel(&stunnel, &certificates, server.address());
    let proxy = |tls| Proxy::https(front.address(), tls).unwrap();
    let trusted = || proxy(super::tls::trust_only(&certificates));
    let error = failure(&trusted(), SocketAddr::from(([127, 0, 0, 1], 9)));
    assert_eq!(error.proxy_reply(), Some(ProxyReply::Http(407)), "{error}");
    let right = trusted().credentials(ALICE.0, ALICE.1).unwrap();
    check_forwards(&right, "localhost");
    let error = failure(&right, closed_port().address);
    assert!(matches!(error.proxy_reply(), Some(ProxyReply::Http(500..=504))), "{error}");
    let error = failure(&proxy(super::tls::suspicious()), closed_port().address);
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    assert!(error.to_string().contains(&front.address().to_string()), "{error}");
}

#[test]
fn microsocks_forwards_and_refuses() {
    let test = "microsocks_forwards_and_refuses";
    let Some(program) = installed(test, "microsocks") else { return };
    let server = microsocks(&program);
    let proxy = || Proxy::socks5(server.address()).unwrap();
    let error = failure(&proxy(), closed_port().address);
    assert_eq!(error.proxy_reply(), Some(ProxyReply::Socks5Auth(255)), "{error}");
    let wrong = proxy().credentials("alice", "wrong").unwrap();
    let error = failure(&wrong, closed_port().address);
    assert!(matches!(error.proxy_reply(), Some(ProxyReply::Socks5Auth(1..))), "{error}");
    let right = proxy().credentials(ALICE.0, ALICE.1).unwrap();
    check_forwards(&right, "localhost");
    let error = failure(&right, closed_port().address);
    assert_eq!(error.proxy_reply(), Some(ProxyReply::Socks5(5)), "{error}");
}

#[test]
fn dante_forwards_and_refuses() {
    let test = "dante_forwards_and_refuses";
    let Some(program) = installed(test, "danted") else { return };
    let server = dante(&program);
    let forbidden = SocketAddr::from(([127, 0, 0, 1], 9));
    let socks5 = Proxy::socks5(server.address()).unwrap();
    check_forwards(&socks5, "localhost");
    let error = failure(&socks5, forbidden);
    assert_eq!(error.proxy_reply(), Some(ProxyReply::Socks5(2)), "{error}");
    let error = failure(&socks5, closed_port().address);
    assert_eq!(error.proxy_reply(), Some(ProxyReply::Socks5(5)), "{error}");
    let socks4 = Proxy::socks4a(server.address()).unwrap();
    // It does not know the names of SOCKS 4a.
    check_forwards(&socks4, "127.0.0.1");
    let error = failure(&socks4, forbidden);
    assert_eq!(error.proxy_reply(), Some(ProxyReply::Socks4(91)), "{error}");
}

/// Sends and receives through a proxy: an echo, a server that speaks first, and TLS from the start. `host` is 127.0.0.1,
/// or a name for it that the proxy resolves.
pub fn check_forwards(proxy: &Proxy, host: &str) {
    let connect = |port: u16, options: SocketOptions| -> Socket {
        let connector = Connector::builder().proxy(proxy.clone()).build().unwrap();
        let socket = connector.connect_with((host, port), options).unwrap();
        let info = socket.opened().unwrap_or_else(|error| panic!("{error}"));
        assert!(info.proxy_address().is_some() && info.remote_address().is_none());
        socket
    };
    let echo = Target::echoes();
    let socket = connect(echo.address().port(), SocketOptions::new());
    let data = random_bytes(7, 1_000_000);
    let (mut writer, sent) = (socket.clone(), data.clone());
    let writing = spawn_call(move || writer.write_all(&sent).unwrap());
    assert!(read_exactly(&socket, data.len()).unwrap() == data);
    writing.join();
    socket.close().unwrap();

    let greets = Peer::scripted(|conn| {
        conn.send(b"220 mail ready\r\n");
        conn.read_to_end();
    });
    let socket = connect(greets.address().port(), SocketOptions::new());
    assert_eq!(read_exactly(&socket, 16).unwrap(), b"220 mail ready\r\n");
    socket.writer().write_all(b"QUIT\r\n").unwrap();
    socket.close().unwrap();
    greets.assert_received(b"QUIT\r\n");

    let secured = TlsPeer::echoes(&server_config());
    let options = with(SecureTransport::On, trust_only(authority()));
    let socket = connect(secured.address().port(), options);
    socket.writer().write_all(b"ping").unwrap();
    assert_eq!(read_exactly(&socket, 4).unwrap(), b"ping");
    // Some proxies end both directions at the end of one.
    socket.close().unwrap();
}

/// Returns the error of a connect to this address.
fn failure(proxy: &Proxy, target: SocketAddr) -> Error {
    let connector = Connector::builder().proxy(proxy.clone()).build().unwrap();
    let error = connector.connect(target).unwrap().opened().unwrap_err();
    assert!(!error.to_string().contains(ALICE.1), "{error}");
    error
}

/// Starts microsocks, which wants credentials.
pub fn microsocks(program: &Path) -> Server {
    started(Scratch::new(), |_, port| {
        format!("{} -i 127.0.0.1 -p {port} -u alice -P secret", program.display())
    })
}

/// Starts Dante, which forbids port 9.
pub fn dante(program: &Path) -> Server {
    started(Scratch::new(), |folder, port| {
        let config = folder.join("danted.conf");
        let text = format!(
            "logoutput: stderr\ninternal: 127.0.0.1 port = {port}\nexternal: 127.0.0.1\n\
             clientmethod: none\nsocksmethod: none\nclient pass {{ from: 0/0 to: 0/0 }}\n\
             socks block {{ from: 0/0 to: 0/0 port = 9 }}\nsocks pass {{ from: 0/0 to: 0/0 }}\n"
        );
        std::fs::write(&config, text).unwrap();
        format!("{} -f {}", program.display(), config.display())
    })
}

pub fn tinyproxy(program: &Path, settings: &str) -> Server {
    started(Scratch::new(), |folder, port| {
        let config = folder.join("tinyproxy.conf");
        let text = format!("Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 20\n{settings}");
        std::fs::write(&config, text).unwrap();
        format!("{} -d -c {}", program.display(), config.display())
    })
}

/// Starts stunnel, which passes on what it decrypts.
pub fn stunnel(program: &Path, certificates: &Certificates, upstream: SocketAddr) -> Server {
    let files = Scratch::new();
    certificates.write(&files, None);
    started(files, |folder, port| {
        let config = folder.join("stunnel.conf");
        let folder = folder.display();
        let text = format!(
            "foreground = yes\npid =\n[proxy]\naccept = 127.0.0.1:{port}\nconnect = {upstream}\n\
             cert = {folder}/chain.pem\nkey = {folder}/key.pem\n"
        );
        std::fs::write(&config, text).unwrap();
        format!("{} {}", program.display(), config.display())
    })
}

/// Starts a server that prints nothing when it is ready, and waits until it accepts connections.
pub fn started(files: Scratch, command_line: impl Fn(&Path, u16) -> String) -> Server {
    start(files, "it listens", |folder, [port]| {
        let run = command_line(folder, port);
        let script = format!(
            "{run} & for n in $(seq 200); do \
             (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && echo it listens && break; \
             sleep 0.05; done; wait"
        );
        let mut command = bounded(Path::new("bash"));
        command.args(["-c", &script]).current_dir(folder);
        command
    })
}
