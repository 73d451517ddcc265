//! nginx over TLS: versions, protocols, names, client certificates, and keep-alive.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, TcpListener};

use sockeye::SecureTransport::On;
use sockeye::{ErrorKind, Reader, Socket, TlsOptions, TlsVersion};

use super::certificates::Certificates;
use super::harness::{NO_SECRET, Scratch, Server, example_of, installed, says_that_it_can, text};
use super::nginx::{check_page, page, start_nginx};
use super::tls::{check_clean_end, check_refused, check_secured, dial, suspicious, trust_only};

#[test]
fn nginx_keeps_a_secured_connection_alive_and_ends_it_cleanly() {
    let certificates = Certificates::new();
    let test = "nginx_keeps_a_secured_connection_alive_and_ends_it_cleanly";
    let Some(server) = nginx(test, &certificates) else { return };
    for (number, version) in [(TLS13, TlsVersion::Tls13), (TLS12, TlsVersion::Tls12)] {
        let socket = dial(server.at(number), On, trust_only(&certificates));
        assert_eq!(check_secured(&socket), version);
        let mut reader = BufReader::new(socket.reader());
        for connection in ["keep-alive", "keep-alive", "close"] {
            let answer = get(&socket, &mut reader, connection);
            assert!(answer.contains(&format!("\r\nConnection: {connection}\r\n")), "{answer:.300}");
            check_page(answer.as_bytes());
        }
        assert_eq!(reader.buffer(), b"");
        check_clean_end(&socket);
    }
}

#[test]
fn nginx_negotiates_a_protocol() {
    let certificates = Certificates::new();
    let Some(server) = nginx("nginx_negotiates_a_protocol", &certificates) else { return };
    for number in [TLS13, TLS12] {
        let alpn = |protocols: &[&str]| {
            let tls = trust_only(&certificates).alpn(protocols.iter().copied());
            let agreed = dial(server.at(number), On, tls).opened()?;
            Ok::<_, sockeye::Error>(agreed.alpn().map(<[u8]>::to_vec))
        };
        assert_eq!(alpn(&["salmon", "http/1.1"]).unwrap().unwrap(), b"http/1.1");
        assert_eq!(alpn(&[]).unwrap(), None);
        assert_eq!(alpn(&["salmon"]).unwrap_err().kind(), ErrorKind::Tls);
    }
}

#[test]
fn nginx_is_verified_by_the_names_and_addresses_of_its_certificate() {
    let certificates = Certificates::new();
    let test = "nginx_is_verified_by_the_names_and_addresses_of_its_certificate";
    let Some(server) = nginx(test, &certificates) else { return };
    let port = server.address().port();
    let mut hosts = vec!["127.0.0.1", "localhost"];
    if has_ipv6() {
        hosts.push("::1");
    }
    for host in hosts {
        check_secured(&dial((host, port), On, trust_only(&certificates)));
        for name in ["db.test", "DB.test.", "localhost"] {
            let tls = trust_only(&certificates).server_name(name);
            check_secured(&dial((host, port), On, tls));
        }
        for name in ["test", "other.db.test", "localhost.test"] {
            let tls = trust_only(&certificates).server_name(name);
            let error = dial((host, port), On, tls).opened().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Tls, "{host} as {name}: {error}");
        }
    }
}

#[test]
fn nginx_authenticates_a_client_by_its_certificate() {
    let certificates = Certificates::new();
    let Some(server) = nginx("nginx_authenticates_a_client_by_its_certificate", &certificates)
    else {
        return;
    };
    let ask = |tls: TlsOptions| {
        let socket = dial(server.at(CLIENTS), On, tls);
        check_secured(&socket);
        let answer = get(&socket, &mut BufReader::new(socket.reader()), "close");
        check_clean_end(&socket);
        answer
    };
    let with = |tls: TlsOptions, client: &Certificates| {
        tls.client_auth_pem(&client.client_chain, &client.client_key).unwrap()
    };
    check_page(ask(with(trust_only(&certificates), &certificates)).as_bytes());

    // nginx rejects other clients in its HTTP response, not in the handshake.
    let answer = ask(trust_only(&certificates));
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("No required SSL certificate was sent"), "{answer}");
    let answer = ask(with(trust_only(&certificates), &Certificates::new()));
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("The SSL certificate error"), "{answer}");
}

#[test]
fn nginx_of_an_unknown_authority_gets_no_credential() {
    let certificates = Certificates::new();
    let test = "nginx_of_an_unknown_authority_gets_no_credential";
    let Some(server) = nginx(test, &certificates) else { return };
    for number in [TLS13, TLS12, CLIENTS] {
        let client = Certificates::new();
        let tls = suspicious().client_auth_pem(client.client_chain, client.client_key).unwrap();
        check_refused(&dial(server.at(number), On, tls), &server);
    }
}

#[test]
fn nginx_answers_the_http_get_example_over_tls() {
    let certificates = Certificates::new();
    let test = "nginx_answers_the_http_get_example_over_tls";
    let Some(server) = nginx(test, &certificates) else { return };
    let get = |args: &[&str]| example_of(test, "http_get", args, NO_SECRET, "");
    for (number, path, kind) in [
        (TLS13, "page", format!("200 OK, Length({})\n", page().len())),
        (TLS12, "page", format!("200 OK, Length({})\n", page().len())),
        (TLS13, "chunked", "200 OK, Chunked\n".into()),
    ] {
        let url = format!("https://{}/{path}", server.at(number));
        let Some(output) = get(&[&url, "20", "--ca", &server.file("ca.pem")]) else { return };
        assert_eq!(text(&output.stderr), kind);
        assert!(text(&output.stdout) == page(), "{} bytes", output.stdout.len());
        assert_eq!(output.status.code(), Some(0));
    }

    // No option names this authority as trusted.
    let Some(output) = get(&[&format!("https://{}/page", server.at(TLS13))]) else { return };
    let message = text(&output.stderr);
    assert!(message.starts_with("Error: \"Tls: cannot secure the connection"), "{message}");
    assert_eq!(text(&output.stdout), "");
    assert_eq!(output.status.code(), Some(1));
}

// -------------------------------------------------------------------- the protocol

/// Requests the page and reads exactly one response.
pub fn get(socket: &Socket, reader: &mut BufReader<Reader>, connection: &str) -> String {
    let request =
        format!("GET /page HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n");
    socket.writer().write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    while !answer.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut answer).unwrap(), 0, "{answer}");
    }
    let length = answer.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let length = length.expect("the answer has a length").parse().unwrap();
    reader.take(length).read_to_string(&mut answer).unwrap();
    answer
}

// -------------------------------------------------------------------- the server

/// The ports: TLS 1.3 only, TLS 1.2 only, both, and with client certificates.
pub const TLS13: usize = 0;
const TLS12: usize = 1;
const CLIENTS: usize = 2;

pub fn nginx(test: &str, certificates: &Certificates) -> Option<Server> {
    let nginx = installed(test, "nginx")?;
    if !says_that_it_can(test, &nginx, &["-V"], "http_ssl_module") {
        return None;
    }
    let files = Scratch::new();
    certificates.write(&files, None);
    fs::write(files.0.join("page"), page()).unwrap();
    let root = files.0.display().to_string();
    Some(start_nginx(&nginx, files, |[tls13, tls12, clients]| {
        let ipv6 = if has_ipv6() { format!("listen [::1]:{tls13} ssl;") } else { String::new() };
        format!(
            "ssl_certificate {root}/chain.pem; ssl_certificate_key {root}/key.pem;\n\
             server {{ listen 127.0.0.1:{tls13} ssl; {ipv6} ssl_protocols TLSv1.3;\n\
             location /chunked {{ alias {root}/page; ssi on; ssi_types *; }} }}\n\
             server {{ listen 127.0.0.1:{tls12} ssl; ssl_protocols TLSv1.2; }}\n\
             server {{ listen 127.0.0.1:{clients} ssl; ssl_protocols TLSv1.2 TLSv1.3;\n\
             ssl_verify_client on; ssl_client_certificate {root}/ca.pem; }}"
        )
    }))
}

fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}
