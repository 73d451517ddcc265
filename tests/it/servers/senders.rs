//! HAProxy and nginx as senders of PROXY headers.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use sockeye::{ErrorKind, IngressRules, ListenOptions, Listener, Socket, listen_with};

use super::harness::{LIMIT, Scratch, bounded, has_parts, installed, start};
use crate::support::{random_bytes, read_exactly, spawn_call};

#[test]
fn haproxy_sends_headers_of_both_versions_and_checks_with_local() {
    let test = "haproxy_sends_headers_of_both_versions_and_checks_with_local";
    let Some(haproxy) = installed(test, "haproxy") else { return };
    let listener = listener(IngressRules::allow_all());
    let port = port_of(&listener);
    let server = start(Scratch::new(), "it listens", |folder, ports: [u16; 2]| {
        let config = folder.join("haproxy.cfg");
        let forwards = |version: usize, option: &str| {
            let at = ports[version];
            format!(
                "listen v{version}\n bind 127.0.0.1:{at}\n server s 127.0.0.1:{port} {option}\n"
            )
        };
        let text = format!(
            "defaults\n mode tcp\n timeout connect 10s\n timeout client 60s\n timeout server 60s\n{}{}",
            forwards(0, "send-proxy"),
            forwards(1, "send-proxy-v2 check inter 200ms proxy-v2-options unique-id")
        );
        fs::write(&config, text).unwrap();
        announced(&format!("{} -db -f {}", haproxy.display(), config.display()), &ports)
    });
    // Its health checks have no client, and end with a reset.
    let (check, _) = accepted(&listener, |info_of, proxy| info_of == proxy);
    let error = (&check).read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    for address in [server.at(0), server.at(1)] {
        check_forwards(&listener, address);
    }
}

#[test]
fn nginx_sends_headers() {
    let test = "nginx_sends_headers";
    let Some(nginx) = installed(test, "nginx") else { return };
    let folders = ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules"].map(PathBuf::from);
    let module = "ngx_stream_module.so";
    if !has_parts(test, &folders, &[module]) {
        return;
    }
    let module = folders.iter().map(|folder| folder.join(module)).find(|it| it.is_file()).unwrap();
    let listener = listener(IngressRules::allow_all());
    let port = port_of(&listener);
    let server = start(Scratch::new(), "it listens", |folder, [at]| {
        let config = folder.join("nginx.conf");
        let text = format!(
            "load_module {};\ndaemon off; master_process off; pid {}/pid; error_log stderr info;\n\
             events {{ worker_connections 64; }}\n\
             stream {{ server {{ listen 127.0.0.1:{at}; proxy_pass 127.0.0.1:{port}; \
             proxy_protocol on; }} }}\n",
            module.display(),
            folder.display()
        );
        fs::write(&config, text).unwrap();
        announced(&format!("{} -c {} -e stderr", nginx.display(), config.display()), &[at])
    });
    check_forwards(&listener, server.address());
}

/// The client that the rules deny is the one in the header.
#[test]
fn a_client_behind_haproxy_is_denied_by_its_own_address() {
    let test = "a_client_behind_haproxy_is_denied_by_its_own_address";
    let Some(haproxy) = installed(test, "haproxy") else { return };
    let rules = IngressRules::deny_all().allow_net("10.0.0.0/8").unwrap();
    let listener = listener(rules);
    let port = port_of(&listener);
    let server = start(Scratch::new(), "it listens", |folder, [at]| {
        let config = folder.join("haproxy.cfg");
        let text = format!(
            "defaults\n mode tcp\n timeout connect 10s\n timeout client 60s\n timeout server 60s\n\
             listen v2\n bind 127.0.0.1:{at}\n server s 127.0.0.1:{port} send-proxy-v2\n"
        );
        fs::write(&config, text).unwrap();
        announced(&format!("{} -db -f {}", haproxy.display(), config.display()), &[at])
    });
    let mut client = TcpStream::connect(server.address()).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    client.write_all(b"data").unwrap();
    loop {
        let error = listener.accept_timeout(LIMIT).unwrap().opened().unwrap_err();
        match error.kind() {
            ErrorKind::Denied => break,
            // The one that waited for the proxy to listen had sent nothing and was gone.
            ErrorKind::Proxy => {}
            kind => panic!("{kind:?}: {error}"),
        }
    }
    assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
}

fn listener(rules: IngressRules) -> Listener {
    let options = ListenOptions::new().proxy_protocol_from("127.0.0.1").unwrap().ingress(rules);
    listen_with("127.0.0.1:0", options).unwrap()
}

fn port_of(listener: &Listener) -> u16 {
    listener.local_address().unwrap().port()
}

/// Returns the next socket for whose client this holds, and its client. Others come from what waited for the proxy to
/// listen, and from its health checks.
fn accepted(
    listener: &Listener,
    is_it: impl Fn(SocketAddr, SocketAddr) -> bool,
) -> (Socket, SocketAddr) {
    loop {
        let socket = listener.accept_timeout(LIMIT).expect("the proxy connects");
        let Ok(info) = socket.opened_timeout(LIMIT) else { continue };
        let (client, proxy) = (info.remote_address().unwrap(), info.proxy_address().unwrap());
        assert!(client.ip().is_loopback() && proxy.ip().is_loopback());
        if is_it(client, proxy) {
            return (socket, client);
        }
    }
}

/// Connects through a proxy, and checks the address of the client and all data.
fn check_forwards(listener: &Listener, proxy: SocketAddr) {
    let client = TcpStream::connect(proxy).unwrap();
    let own = client.local_addr().unwrap();
    let (socket, _) = accepted(listener, |client, _| client == own);
    let data = random_bytes(3, 1_000_000);
    let sent = data.clone();
    let mut writer = client.try_clone().unwrap();
    let writing = spawn_call(move || writer.write_all(&sent).unwrap());
    assert!(read_exactly(&socket, data.len()).unwrap() == data);
    writing.join();
    let (mut writer, sent) = (socket.clone(), data.clone());
    let writing = spawn_call(move || writer.write_all(&sent).unwrap());
    assert!(read_exactly(&client, data.len()).unwrap() == data);
    writing.join();
    drop(client);
    assert_eq!((&socket).read(&mut [0]).unwrap(), 0);
}

/// Returns a command that runs a server, and prints a line once all of these ports accept connections.
fn announced(run: &str, ports: &[u16]) -> std::process::Command {
    let waits: String = ports
        .iter()
        .map(|port| {
            format!(
                "for n in $(seq 200); do (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && break; \
                 sleep 0.05; done; "
            )
        })
        .collect();
    let mut command = bounded(Path::new("bash"));
    command.args(["-c", &format!("{run} & {waits} echo it listens; wait")]);
    command
}
