//! Real TLS clients against sockets that are the server: handshakes, transfers, and the dialogues of STARTTLS.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use sockeye::{
    ClientAuth, Identity, ListenOptions, Listener, SecureTransport, ServerTlsOptions, Socket,
    SocketOptions, TlsVersion, listen_with,
};

use super::certificates::Certificates;
use super::harness::{LIMIT, Scratch, bounded, installed, text};
use super::tls::bound;
use crate::support::{ms, spawn_call};

fn server_tls(certificates: &Certificates) -> ServerTlsOptions {
    let identity = Identity::from_pem(&certificates.server_chain, &certificates.server_key);
    ServerTlsOptions::new(identity.unwrap())
}

fn serving(mode: SecureTransport, tls: ServerTlsOptions) -> SocketOptions {
    SocketOptions::new().secure_transport(mode).server_tls(tls)
}

/// A listener of which every call is bounded.
struct Host(Listener);

impl Host {
    fn new(options: SocketOptions) -> Self {
        let options = ListenOptions::new().socket(options).handshake_timeout(LIMIT);
        Host(listen_with("127.0.0.1:0", options).expect("the options are valid"))
    }

    fn address(&self) -> SocketAddr {
        self.0.local_address().expect("it is bound")
    }

    fn accept(&self) -> Socket {
        let socket = self.0.accept_timeout(LIMIT).expect("the client connects");
        bound(&socket);
        socket
    }
}

/// Runs a client with this input, while `serve` has a thread of its own.
fn converse<T: Send + 'static>(
    host: Host,
    command: &mut Command,
    input: &[u8],
    serve: impl FnOnce(Host) -> T + Send + 'static,
) -> (Output, T) {
    converse_slowly(host, command, &[input], serve)
}

/// [Converses](converse) with pauses between these inputs.
fn converse_slowly<T: Send + 'static>(
    host: Host,
    command: &mut Command,
    inputs: &[&[u8]],
    serve: impl FnOnce(Host) -> T + Send + 'static,
) -> (Output, T) {
    let serving = spawn_call(move || serve(host));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the client starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    let inputs: Vec<Vec<u8>> = inputs.iter().map(|input| input.to_vec()).collect();
    let writing = thread::spawn(move || {
        for (number, input) in inputs.iter().enumerate() {
            if number > 0 {
                thread::sleep(ms(500));
            }
            // A client that fails does not read its input.
            if stdin.write_all(input).is_err() {
                break;
            }
        }
    });
    let output = child.wait_with_output().expect("the client ends");
    writing.join().expect("it does not panic");
    let served = serving.join_within(LIMIT);
    (output, served)
}

fn line_of(socket: &Socket) -> Vec<u8> {
    let mut line = Vec::new();
    socket.reader().read_until(b'\n', &mut line, 1 << 20).expect("the client sends a line");
    line
}

/// Answers each line in upper case, until the client ends.
fn shout(socket: &Socket) {
    loop {
        let line = line_of(socket);
        if line.is_empty() {
            return;
        }
        (&*socket).write_all(&line.to_ascii_uppercase()).expect("the client reads");
    }
}

/// Answers one line in upper case, and closes.
fn shout_once(socket: &Socket) {
    let line = line_of(socket);
    (&*socket).write_all(&line.to_ascii_uppercase()).expect("the client reads");
    socket.close().expect("the client reads");
}

#[test]
fn openssl_opens_resumes_and_proves_who_it_is() {
    let test = "openssl_opens_resumes_and_proves_who_it_is";
    let Some(openssl) = installed(test, "openssl") else { return };
    let (certificates, files) = (Certificates::new(), Scratch::new());
    certificates.write(&files, None);
    std::fs::write(files.0.join("client.pem"), &certificates.client_chain).unwrap();
    files.write_private("client.key", &certificates.client_key, None);
    let tls = server_tls(&certificates)
        .alpn(["h2", "http/1.1"])
        .client_auth(ClientAuth::Optional)
        .add_client_root_pem(&certificates.authority)
        .unwrap();
    for (version, protocol) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        for own in [false, true] {
            let session = files.0.join(format!("session{version}{own}"));
            for resumes in [false, true] {
                let host = Host::new(serving(SecureTransport::On, tls.clone()));
                let mut command = bounded(&openssl);
                command.args(["s_client", version, "-ign_eof", "-verify_return_error"]);
                command.args(["-servername", "localhost", "-alpn", "http/1.1"]);
                command.arg("-connect").arg(host.address().to_string());
                command.arg("-CAfile").arg(files.0.join("ca.pem"));
                if own {
                    command.arg("-cert").arg(files.0.join("client.pem"));
                    command.arg("-key").arg(files.0.join("client.key"));
                }
                command.arg(if resumes { "-sess_in" } else { "-sess_out" }).arg(&session);
                let (output, info) = converse(host, &mut command, b"hello\n", |host| {
                    let socket = host.accept();
                    let info = socket.opened().expect("the client is good");
                    shout_once(&socket);
                    info
                });
                let said = text(&output.stdout);
                assert!(said.contains("HELLO"), "{protocol}: {said}{}", text(&output.stderr));
                let kind = if resumes { "Reused, " } else { "New, " };
                assert!(said.contains(&format!("{kind}{protocol}")), "{said}");
                assert!(said.contains("ALPN protocol: http/1.1"), "{said}");
                let seen = info.tls().unwrap();
                assert_eq!((seen.resumed(), info.server_name()), (resumes, Some("localhost")));
                // OpenSSL sends the authority's certificate too.
                assert_eq!(seen.peer_certificates().len(), if own { 2 } else { 0 });
            }
        }
    }
}

#[test]
fn openssl_may_not_renegotiate() {
    let test = "openssl_may_not_renegotiate";
    let Some(openssl) = installed(test, "openssl") else { return };
    let (certificates, files) = (Certificates::new(), Scratch::new());
    certificates.write(&files, None);
    let host = Host::new(serving(SecureTransport::On, server_tls(&certificates)));
    let mut command = bounded(&openssl);
    command.args(["s_client", "-tls1_2", "-verify_return_error", "-servername", "localhost"]);
    command.arg("-connect").arg(host.address().to_string());
    command.arg("-CAfile").arg(files.0.join("ca.pem"));
    // A line that is only an R makes it renegotiate.
    let inputs: [&[u8]; 4] = [b"hello\n", b"R\n", b"again\n", b""];
    let (output, (line, end, sent)) = converse_slowly(host, &mut command, &inputs, |host| {
        let socket = host.accept();
        let line = line_of(&socket);
        let end = (&socket).read(&mut [0]).map_err(|error| error.to_string());
        let info = socket.opened().expect("the first handshake has succeeded");
        assert_eq!(info.tls().expect("it is TLS").version(), TlsVersion::Tls12);
        (line, end, socket.stats().bytes_read)
    });
    let (said, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(errors.contains("RENEGOTIATING"), "it tried: {said}{errors}");
    assert!(errors.contains("no renegotiation"), "{said}{errors}");
    assert_eq!((&line[..], sent), (&b"hello\n"[..], 6));
    let end = end.expect_err("OpenSSL ends the connection with an alert");
    assert!(end.contains("alert handshake_failure"), "{end}");
}

#[test]
fn curl_downloads_and_uploads_megabytes() {
    let test = "curl_downloads_and_uploads_megabytes";
    let Some(curl) = installed(test, "curl") else { return };
    let (certificates, files) = (Certificates::new(), Scratch::new());
    certificates.write(&files, None);
    let content: Vec<u8> = (0..5_000_000_u32).map(|at| (at % 251) as u8).collect();
    std::fs::write(files.0.join("content"), &content).unwrap();
    for version in [["--tls-max", "1.2"], ["--tlsv1.3", "--http1.1"]] {
        let host = Host::new(serving(SecureTransport::On, server_tls(&certificates)));
        let mut command = bounded(&curl);
        command.args(["--silent", "--show-error", "--noproxy", "*", "--http1.1", "-H", "Expect:"]);
        command.args(version).arg("--cacert").arg(files.0.join("ca.pem"));
        command.arg("-T").arg(files.0.join("content"));
        command.arg(format!("https://localhost:{}/", host.address().port()));
        let expected = content.clone();
        let (output, ()) = converse(host, &mut command, b"", move |host| {
            let socket = host.accept();
            while line_of(&socket) != b"\r\n" {}
            let mut body = vec![0; expected.len()];
            (&socket).read_exact(&mut body).expect("the client sends everything");
            assert!(body == expected, "the body is the file");
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
            (&socket).write_all(&[head, body].concat()).expect("the client reads");
            socket.close().expect("the client reads");
        });
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(output.stdout == content, "{} bytes", output.stdout.len());
    }
}

#[test]
fn python_ends_a_session_with_close_notify() {
    let test = "python_ends_a_session_with_close_notify";
    let Some(python) = installed(test, "python3") else { return };
    let (certificates, files) = (Certificates::new(), Scratch::new());
    certificates.write(&files, None);
    let host = Host::new(serving(SecureTransport::On, server_tls(&certificates)));
    let script = "
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
plain = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
secure = context.wrap_socket(plain, server_hostname='localhost')
secure.sendall(b'hello\\n' * 100000)
got = b''
while len(got) < 600000:
    got += secure.recv(65536)
assert got == b'HELLO\\n' * 100000
print(secure.version())
secure.unwrap().close()
";
    let mut command = bounded(&python);
    command.args(["-c", script]).arg(host.address().port().to_string());
    command.arg(files.0.join("ca.pem"));
    let (output, closed) = converse(host, &mut command, b"", |host| {
        let socket = host.accept();
        let mut all = Vec::new();
        while all.len() < 600_000 {
            all.extend(line_of(&socket));
        }
        (&socket).write_all(&all.to_ascii_uppercase()).expect("the client reads");
        assert_eq!((&socket).read(&mut [0]).expect("it ends with close_notify"), 0);
        socket.close().expect("the client is there");
        socket.closed()
    });
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("TLSv1."), "{}", text(&output.stdout));
    closed.expect("both sides ended cleanly");
}

#[test]
fn gnutls_talks_to_a_socket_that_is_the_server() {
    let test = "gnutls_talks_to_a_socket_that_is_the_server";
    let Some(gnutls) = installed(test, "gnutls-cli") else { return };
    let (certificates, files) = (Certificates::new(), Scratch::new());
    certificates.write(&files, None);
    for priority in ["NORMAL:-VERS-ALL:+VERS-TLS1.2", "NORMAL:-VERS-ALL:+VERS-TLS1.3"] {
        let host = Host::new(serving(SecureTransport::On, server_tls(&certificates)));
        let mut command = bounded(&gnutls);
        command.arg("--x509cafile").arg(files.0.join("ca.pem"));
        command.args(["--priority", priority, "--port"]).arg(host.address().port().to_string());
        command.arg("localhost");
        let (output, ()) = converse(host, &mut command, b"hello\n", |host| {
            shout_once(&host.accept());
        });
        let said = text(&output.stdout);
        assert!(
            said.contains("HELLO") && said.contains("Status: The certificate is trusted"),
            "{said}"
        );
    }
}

#[test]
fn go_resumes_a_session() {
    let test = "go_resumes_a_session";
    let Some(go) = installed(test, "go") else { return };
    let (certificates, files) = (Certificates::new(), Scratch::new());
    certificates.write(&files, None);
    let program = r#"
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	pem, err := os.ReadFile(os.Args[2])
	check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	config := &tls.Config{RootCAs: roots, ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	for i := 0; i < 2; i++ {
		conn, err := tls.Dial("tcp", os.Args[1], config)
		check(err)
		_, err = conn.Write([]byte("hello\n"))
		check(err)
		line, err := bufio.NewReader(conn).ReadString('\n')
		check(err)
		fmt.Println(line, conn.ConnectionState().DidResume)
		check(conn.Close())
	}
}
"#;
    std::fs::write(files.0.join("client.go"), program).unwrap();
    let built = bounded(&go)
        .args(["build", "-o", "client", "client.go"])
        .current_dir(&files.0)
        .envs([("GOFLAGS", "-p=2"), ("GOTOOLCHAIN", "local"), ("GO111MODULE", "off")])
        .env("HOME", &files.0)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", text(&built.stderr));
    let host = Host::new(serving(SecureTransport::On, server_tls(&certificates)));
    let mut command = bounded(&files.0.join("client"));
    command.arg(host.address().to_string()).arg(files.0.join("ca.pem"));
    let (output, resumed) = converse(host, &mut command, b"", |host| {
        [(); 2].map(|()| {
            let socket = host.accept();
            shout(&socket);
            socket.opened().unwrap().tls().unwrap().resumed()
        })
    });
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(said.contains("HELLO\n false") && said.contains("HELLO\n true"), "{said}");
    assert_eq!(resumed, [false, true]);
}

// -------------------------------------------------------------------- STARTTLS

/// Reads lines until one is this command, ignoring case, and answers the others.
fn await_command(mut socket: &Socket, command: &str, answer: &[u8]) {
    loop {
        let line = String::from_utf8(line_of(socket)).expect("it is ASCII");
        if line.trim_end().eq_ignore_ascii_case(command) {
            return;
        }
        assert!(!line.is_empty(), "the client gives up");
        socket.write_all(answer).expect("the client reads");
    }
}

/// Speaks a protocol up to its request for TLS. Returns the go-ahead.
fn until_request(protocol: &str, mut socket: &Socket) -> io::Result<&'static [u8]> {
    Ok(match protocol {
        "smtp" => {
            socket.write_all(b"220 mail.test ESMTP\r\n")?;
            await_command(socket, "STARTTLS", b"250-mail.test\r\n250 STARTTLS\r\n");
            b"220 Ready\r\n"
        }
        "imap" => {
            socket.write_all(b"* OK ready\r\n")?;
            let answer = b"* CAPABILITY IMAP4rev1 STARTTLS\r\n. OK done\r\n";
            await_command(socket, ". STARTTLS", answer);
            b". OK begin\r\n"
        }
        "pop3" => {
            socket.write_all(b"+OK ready\r\n")?;
            await_command(socket, "STLS", b"-ERR\r\n");
            b"+OK begin\r\n"
        }
        "postgres" => {
            let mut request = [0; 8];
            socket.read_exact(&mut request)?;
            assert_eq!(request, [0, 0, 0, 8, 4, 210, 22, 47], "an SSLRequest");
            b"S"
        }
        "ldap" => {
            let mut head = [0; 2];
            socket.read_exact(&mut head)?;
            let mut request = vec![0; usize::from(head[1])];
            socket.read_exact(&mut request)?;
            assert!(text(&request[7..]).contains("1.3.6.1.4.1.1466.20037"), "{request:?}");
            // An ExtendedResponse of success (RFC 4511, section 4.14.2).
            b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00"
        }
        "xmpp" => {
            let mut tag = Vec::new();
            while !text(&tag).contains("<stream:stream") || !tag.ends_with(b">") {
                socket.reader().read_until(b'>', &mut tag, 4096)?;
            }
            socket.write_all(
                b"<stream:stream xmlns:stream='http://etherx.jabber.org/streams' \
                  xmlns='jabber:client' version='1.0'><stream:features>\
                  <starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>",
            )?;
            let mut request = Vec::new();
            socket.reader().read_until(b'>', &mut request, 4096)?;
            assert!(text(&request).contains("<starttls"), "{}", text(&request));
            b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
        }
        other => unreachable!("no test speaks {other}"),
    })
}

#[test]
fn openssl_upgrades_by_every_protocol() {
    let test = "openssl_upgrades_by_every_protocol";
    let Some(openssl) = installed(test, "openssl") else { return };
    let (certificates, files) = (Certificates::new(), Scratch::new());
    certificates.write(&files, None);
    for protocol in ["smtp", "imap", "pop3", "postgres", "ldap", "xmpp"] {
        let (output, ()) = upgrade(&openssl, protocol, &certificates, &files);
        let said = text(&output.stdout);
        assert!(said.contains("HELLO"), "{protocol}: {said}{}", text(&output.stderr));
    }
}

fn upgrade(
    openssl: &Path,
    protocol: &'static str,
    certificates: &Certificates,
    files: &Scratch,
) -> (Output, ()) {
    let host = Host::new(serving(SecureTransport::StartTls, server_tls(certificates)));
    let mut command = bounded(openssl);
    command.args(["s_client", "-quiet", "-verify_return_error", "-servername", "localhost"]);
    command.args(["-starttls", protocol]);
    command.arg("-connect").arg(host.address().to_string());
    command.arg("-CAfile").arg(files.0.join("ca.pem"));
    converse(host, &mut command, b"hello\n", move |host| {
        let plain = host.accept();
        let go_ahead = until_request(protocol, &plain).expect("the client speaks the protocol");
        let secure = plain.start_tls_after(go_ahead).expect("nothing is unread");
        assert_eq!(secure.opened().expect("the client is good").server_name(), Some("localhost"));
        shout_once(&secure);
    })
}
