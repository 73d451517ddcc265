//! Output and exit codes of the example `connect` over TLS and of the example `starttls`. The servers are rustls
//! servers in threads.
#![cfg(unix)]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Output;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::example::{run, stderr_text, text};

/// The longest time that a step may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

// ---------------------------------------------------------------------------- TLS from the start

#[test]
fn the_connect_tool_speaks_tls_from_the_start() {
    let name = "the_connect_tool_speaks_tls_from_the_start";
    let (address, server) = serve(|stream| echo(secure(stream)));
    let tool = Tool::new(&["--tls", "--alpn", "h2,echo/1", "-v"]).trusting();
    let Some(output) = tool.run(name, address, "salmon") else { return };
    let message = stderr_text(&output);
    assert_eq!(output.stdout, b"salmon", "{message}");
    for line in [
        "connect:   protocol      TLS 1.3\n",
        "connect:   cipher suite  TLS13_",
        " (0x13",
        "connect:   ALPN          echo/1\n",
        "connect:   session       new\n",
        "connect:   handshake     ",
        "connect:   certificates  2, of ",
        "6 bytes sent, 6 bytes received\n",
    ] {
        assert!(message.contains(line), "{line:?} is missing in:\n{message}");
    }
    assert_eq!(output.status.code(), Some(0));
    server.end();
}

#[test]
fn the_connect_tool_is_quiet_over_tls_by_default() {
    let name = "the_connect_tool_is_quiet_over_tls_by_default";
    for args in [&["--tls"][..], &["--tls", "--server-name=fish.test"]] {
        let (address, server) = serve(|stream| echo(secure(stream)));
        let Some(output) = Tool::new(args).trusting().run(name, address, "salmon") else { return };
        assert_eq!(stderr_text(&output), "");
        assert_eq!(output.stdout, b"salmon");
        assert_eq!(output.status.code(), Some(0));
        server.end();
    }
}

#[test]
fn the_connect_tool_names_an_https_proxy_that_it_does_not_trust() {
    let name = "the_connect_tool_names_an_https_proxy_that_it_does_not_trust";
    let (address, server) = serve(|stream| {
        assert!(echo(secure(stream)).is_err(), "the client does not trust this proxy");
        Ok(())
    });
    let url = format!("https://alice:pa55word@{address}/");
    let Some(output) = Tool::new(&["--proxy", &url]).run(name, address, "") else { return };
    check_failed(&output, 6, &format!("cannot secure the connection to proxy {address}: "));
    assert!(!stderr_text(&output).contains("pa55word"));
    server.end();
}

#[test]
fn the_connect_tool_trusts_the_authority_of_an_https_proxy() {
    let name = "the_connect_tool_trusts_the_authority_of_an_https_proxy";
    let (address, server) = serve(|stream| {
        let mut tls = secure(stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            tls.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"CONNECT 192.0.2.1:7 HTTP/1.1\r\n"));
        tls.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        echo(tls)
    });
    let (url, authority) = (format!("https://{address}"), Pem::new(&IDENTITY.authority));
    let tool = Tool::new(&["--proxy", &url, "--proxy-ca", authority.path()]);
    let target = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 7));
    let Some(output) = tool.run(name, target, "salmon") else { return };
    assert_eq!((stderr_text(&output), text(&output.stdout)), ("", "salmon"));
    assert_eq!(output.status.code(), Some(0));
    server.end();
}

#[test]
fn the_connect_tool_prints_the_certificates_as_pem() {
    let name = "the_connect_tool_prints_the_certificates_as_pem";
    let (address, server) = serve(|stream| echo(secure(stream)));
    let tool = Tool::new(&["--tls", "--show-certs"]).trusting();
    let Some(output) = tool.run(name, address, "") else { return };
    let printed: Vec<CertificateDer<'_>> =
        CertificateDer::pem_slice_iter(&output.stderr).map(Result::unwrap).collect();
    assert_eq!(printed, IDENTITY.chain);
    // Other tools may wrap the lines at a different length.
    let others: String = IDENTITY.pem.lines().map(|line| format!("{line}\n")).collect();
    assert_eq!(stderr_text(&output), others);
    assert_eq!(output.status.code(), Some(0));
    server.end();
}

#[test]
fn the_connect_tool_exits_with_6_if_a_certificate_or_a_handshake_fails() {
    let name = "the_connect_tool_exits_with_6_if_a_certificate_or_a_handshake_fails";
    let trusting = |args: &[&str]| Tool::new(args).trusting();
    for (tool, fault) in [
        (Tool::new(&["--tls"]), "is from an authority that is not trusted"),
        (trusting(&["--tls", "--server-name", "cat.test"]), "cat.test"),
        (trusting(&["--tls", "--alpn", "h2"]), "application protocol"),
    ] {
        // The handshake fails on the server's side, too.
        let (address, server) = serve(|stream| {
            assert!(echo(secure(stream)).is_err());
            Ok(())
        });
        let Some(output) = tool.run(name, address, "secret") else { return };
        check_failed(&output, 6, fault);
        server.end();
    }
    let (address, server) = serve(|mut stream| stream.write_all(b"220 in plaintext\r\n"));
    let Some(output) = trusting(&["--tls"]).run(name, address, "") else { return };
    check_failed(&output, 6, "the server did not answer in TLS");
    server.end();
}

#[test]
fn the_connect_tool_exits_with_3_if_an_end_over_tls_may_be_a_truncation() {
    let name = "the_connect_tool_exits_with_3_if_an_end_over_tls_may_be_a_truncation";
    let (address, server) = serve(|stream| {
        let mut tls = secure(stream);
        tls.write_all(b"half a tru")?;
        tls.flush()?;
        end(&tls.sock)
    });
    let Some(output) = Tool::new(&["--tls"]).trusting().run(name, address, "") else { return };
    assert!(stderr_text(&output).contains("without close_notify"), "{}", stderr_text(&output));
    assert_eq!(output.stdout, b"half a tru");
    assert_eq!(output.status.code(), Some(3));
    server.end();
}

#[test]
fn the_connect_tool_exits_with_4_if_the_handshake_or_dialogue_times_out() {
    let name = "the_connect_tool_exits_with_4_if_the_handshake_or_dialogue_times_out";
    // The kernel accepts the connection, but no server ever answers.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    for args in [&["--tls"][..], &["--starttls", "smtp"], &["--starttls=postgres"]] {
        let tool = Tool::new(args).with(&["--timeout=0.2"]);
        let Some(output) = tool.run(name, address, "") else { return };
        check_failed(&output, 4, "timeout");
    }
    // Each line starts in time, but the dialogue does not finish in time.
    let (address, server) = serve(|mut stream| {
        while stream.write_all(b"220-still\r\n").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    });
    let tool = Tool::new(&["--starttls", "smtp", "--timeout", "0.2"]);
    let Some(output) = tool.run(name, address, "") else { return };
    check_failed(&output, 4, "timeout or deadline");
    server.end();
}

// ---------------------------------------------------------------------------------- by an upgrade

#[test]
fn the_connect_tool_upgrades_with_each_protocol() {
    let name = "the_connect_tool_upgrades_with_each_protocol";
    for (protocol, script) in [("smtp", SMTP), ("imap", IMAP), ("postgres", POSTGRES)] {
        let (address, server) = serve(move |mut stream| {
            play(&mut stream, script)?;
            echo(secure(stream))
        });
        let tool = Tool::new(&["--starttls", protocol, "-v"]).trusting();
        let Some(output) = tool.run(name, address, "salmon") else { return };
        let message = stderr_text(&output);
        assert_eq!(output.stdout, b"salmon", "{protocol}: {message}");
        let said = if protocol == "postgres" { "server: 'S'" } else { "STARTTLS\"" };
        for line in [said, "protocol      TLS 1.3", "6 bytes sent, 6 bytes received"] {
            assert!(message.contains(line), "{protocol}: {line:?} is missing in:\n{message}");
        }
        assert_eq!(output.status.code(), Some(0), "{protocol}");
        server.end();
    }
}

#[test]
fn the_connect_tool_exits_with_1_if_the_server_declines_the_upgrade() {
    let name = "the_connect_tool_exits_with_1_if_the_server_declines_the_upgrade";
    for (protocol, script, fault) in [
        ("smtp", &[Say("554 go away\r\n")][..], "it says \"554 go away\""),
        ("smtp", &[Say("2200 eh\r\n")], "it says \"2200 eh\""),
        ("smtp", &[Say("220\r\n"), Hear("EHLO localhost\r\n"), Say("502 no\r\n")], "\"502 no\""),
        ("smtp", SMTP_REFUSAL, "it says \"454 4.7.0 \\u{1b}[1mTLS not available\""),
        ("smtp", &[Say("220 half a li")], "the server ends the connection"),
        ("smtp", &[SayTimes(200, LONG)], "a line of more than 8192 bytes"),
        ("imap", &[Say("* PREAUTH welcome\r\n")], "it says \"* PREAUTH welcome\""),
        ("imap", &[Say("* OKAY\r\n")], "it says \"* OKAY\""),
        ("imap", IMAP_REFUSAL, "it says \"a1 BAD what?\""),
        ("imap", &[SayTimes(101, "* OK\r\n"), Hear("a1 STARTTLS\r\n")], "more than 100 lines"),
        ("postgres", &[Hear(SSL_REQUEST), Say("N")], "it says \"N\""),
        ("postgres", &[Hear(SSL_REQUEST)], "the server ends the connection"),
    ] {
        let (address, server) = serve(move |mut stream| {
            play(&mut stream, script)?;
            end(&stream)
        });
        let tool = Tool::new(&["--starttls", protocol]).trusting();
        let Some(output) = tool.run(name, address, "secret") else { return };
        check_failed(&output, 1, fault);
        server.end();
    }
}

#[test]
fn the_connect_tool_exits_with_6_if_plaintext_follows_the_go_ahead() {
    let name = "the_connect_tool_exits_with_6_if_plaintext_follows_the_go_ahead";
    for (protocol, script, injected) in [
        ("smtp", SMTP, "220 ready\r\n250 injected\r\n"),
        ("imap", IMAP, "a1 OK ready\r\n* CAPABILITY injected\r\n"),
        ("postgres", POSTGRES, "SR"),
    ] {
        let (address, server) = serve(move |mut stream| {
            let (_, before) = script.split_last().expect("the last part is the go-ahead");
            play(&mut stream, before)?;
            stream.write_all(injected.as_bytes())?;
            let mut rest = Vec::new();
            // The read ends with a FIN or a reset.
            let _ = stream.read_to_end(&mut rest);
            assert_eq!(rest, b"", "no byte follows");
            Ok(())
        });
        let tool = Tool::new(&["--starttls", protocol]).trusting();
        let Some(output) = tool.run(name, address, "secret") else { return };
        check_failed(&output, 6, "plaintext from the peer was unread");
        server.end();
    }
}

#[test]
fn the_connect_tool_exits_with_6_if_the_handshake_after_an_upgrade_fails() {
    let name = "the_connect_tool_exits_with_6_if_the_handshake_after_an_upgrade_fails";
    let (address, server) = serve(|mut stream| {
        play(&mut stream, SMTP)?;
        assert!(echo(secure(stream)).is_err(), "the client does not trust this server");
        Ok(())
    });
    let Some(output) = Tool::new(&["--starttls=smtp"]).run(name, address, "secret") else { return };
    check_failed(&output, 6, "is from an authority that is not trusted");
    server.end();

    // Plaintext injected during the handshake.
    let (address, server) = serve(|mut stream| {
        play(&mut stream, SMTP)?;
        stream.read_exact(&mut [0])?;
        stream.write_all(b"250 injected\r\n")?;
        end(&stream)
    });
    let tool = Tool::new(&["--starttls=smtp"]).trusting();
    let Some(output) = tool.run(name, address, "secret") else { return };
    check_failed(&output, 6, "the server did not answer in TLS");
    server.end();
}

// ------------------------------------------------------------------------------------------- misuse

#[test]
fn the_connect_tool_exits_with_2_if_the_tls_options_are_wrong() {
    let name = "the_connect_tool_exits_with_2_if_the_tls_options_are_wrong";
    let broken = Pem::new("no certificate here");
    let (broken, ca) = (broken.path(), Pem::new(&IDENTITY.authority));
    let ca = ca.path();
    for (args, fault) in [
        (&["--tls", "--starttls", "smtp"][..], "--tls and --starttls exclude each other"),
        (&["--ca", "ca.pem"], "--ca needs --tls or --starttls beside it"),
        (&["--alpn=h2"], "--alpn needs --tls or --starttls beside it"),
        (&["--server-name", "a.test"], "--server-name needs --tls or --starttls beside it"),
        (&["--show-certs"], "--show-certs needs --tls or --starttls beside it"),
        (&["--starttls"], "--starttls needs a protocol after it"),
        (&["--starttls", "gopher"], "--starttls \"gopher\" is none of smtp, imap and postgres"),
        (&["--tls", "--ca"], "--ca needs a file after it"),
        (&["--tls", "--ca", "/nowhere/ca.pem"], "--ca \"/nowhere/ca.pem\": "),
        (&["--tls", "--ca", broken], "no certificate in the PEM text"),
        (&["--tls", "--ca", broken], &format!("--ca {broken:?}: ")),
        (&["--proxy-ca", broken], "--proxy-ca needs --proxy beside it"),
        (&["--proxy", "https://a.test", "--proxy-ca", broken], &format!("--proxy-ca {broken:?}: ")),
        (&["--proxy", "http://a.test", "--proxy-ca", ca], "--proxy-ca needs an https proxy"),
        (&["--insecure"], "--insecure needs --tls or --starttls beside it"),
        (&["--cert", "c.pem", "--key", "k.pem"], "--cert needs --tls or --starttls beside it"),
        (&["--tls", "--cert", "c.pem"], "--cert needs --key beside it"),
        (&["--tls", "--key", "k.pem"], "--key needs --cert beside it"),
        (&["--tls", "--cert", "/nowhere/c.pem", "--key", "/nowhere/k.pem"], "/nowhere/c.pem"),
        (&["-4", "-6"], "-4 and -6 exclude each other"),
        (&["--half-open", "--no-half-close"], "--half-open and --no-half-close exclude each other"),
        (&["--tls", "--alpn", "h2,,http/1.1"], "is 0 bytes long"),
        (&["--starttls=imap", "--server-name", "not a name"], "is not a DNS name"),
        (&["--tls=yes"], "unknown option \"--tls=yes\""),
    ] {
        // Nothing listens on port 1, and the tool does not connect.
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let Some(output) = Tool::new(args).run(name, address, "") else { return };
        check_failed(&output, 2, fault);
    }
}

// ------------------------------------------------------------------------------------- other options

#[test]
fn the_connect_tool_presents_a_client_certificate() {
    let name = "the_connect_tool_presents_a_client_certificate";
    let (cert, key) = (Pem::new(&IDENTITY.pem), Pem::new(&IDENTITY.key_pem));
    let demanding = |stream| {
        let session = ServerConnection::new(Arc::clone(&IDENTITY.demanding)).unwrap();
        StreamOwned::new(session, stream)
    };
    let (address, server) = serve(move |stream| {
        let mut tls = demanding(stream);
        tls.read_exact(&mut [0])?;
        assert_eq!(tls.conn.peer_certificates(), Some(&IDENTITY.chain[..]));
        echo(tls)
    });
    let tool = Tool::new(&["--tls", "--cert", cert.path(), "--key", key.path()]).trusting();
    let Some(output) = tool.run(name, address, "salmon") else { return };
    assert_eq!(output.stdout, b"almon", "{}", stderr_text(&output));
    assert_eq!(output.status.code(), Some(0));
    server.end();

    let (address, server) = serve(move |stream| {
        let mut tls = demanding(stream);
        tls.read_exact(&mut [0]).expect_err("there is no certificate");
        let _ = tls.flush();
        end(&tls.sock)
    });
    let Some(output) = Tool::new(&["--tls"]).trusting().run(name, address, "") else { return };
    check_failed(&output, 3, "certificate");
    server.end();
}

#[test]
fn the_connect_tool_accepts_any_certificate_if_it_is_told_to() {
    let name = "the_connect_tool_accepts_any_certificate_if_it_is_told_to";
    let (address, server) = serve(|stream| echo(secure(stream)));
    let tool = Tool::new(&["--tls", "--insecure"]);
    let Some(output) = tool.run(name, address, "salmon") else { return };
    assert_eq!(output.stdout, b"salmon", "{}", stderr_text(&output));
    assert_eq!(output.status.code(), Some(0));
    server.end();
}

/// Such a server takes the half-close for a hang-up.
#[test]
fn the_connect_tool_sends_no_end_if_it_is_told_not_to() {
    let name = "the_connect_tool_sends_no_end_if_it_is_told_not_to";
    let answering = |mut stream: TcpStream| {
        stream.read_exact(&mut [0; 7])?;
        stream.set_read_timeout(Some(Duration::from_millis(300)))?;
        match stream.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => panic!("there is more input"),
            Err(_) => stream.write_all(b"answer").and_then(|()| end(&stream)),
        }
    };
    for (args, answer) in [(&[][..], ""), (&["--no-half-close"], "answer")] {
        let (address, server) = serve(answering);
        let Some(output) = Tool::new(args).run(name, address, "salmon\n") else { return };
        assert_eq!(text(&output.stdout), answer, "{}", stderr_text(&output));
        assert_eq!(output.status.code(), Some(0));
        server.end();
    }
}

#[test]
fn the_connect_tool_uses_one_family_if_it_is_told_to() {
    let name = "the_connect_tool_uses_one_family_if_it_is_told_to";
    let (address, server) = serve(|stream| end(&stream));
    let Some(output) = Tool::new(&["-4"]).run(name, address, "") else { return };
    assert_eq!(output.status.code(), Some(0), "{}", stderr_text(&output));
    server.end();
    let Some(output) = Tool::new(&["-6"]).run(name, address, "") else { return };
    check_failed(&output, 2, "family");
}

#[test]
fn the_connect_tool_says_its_version() {
    let Some(output) = run("the_connect_tool_says_its_version", "connect", &["--version"], "")
    else {
        return;
    };
    let version = format!("connect (sockeye) {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((text(&output.stdout), output.status.code()), (version.as_str(), Some(0)));
}

#[test]
fn the_forward_example_adds_tls_and_takes_it_off() {
    let Some(output) = run("the_forward_example_adds_tls_and_takes_it_off", "forward", &[], "")
    else {
        return;
    };
    let shown = text(&output.stdout);
    assert!(shown.contains("the answer: \"over two forwards\""), "{shown}");
    assert_eq!((stderr_text(&output), output.status.code()), ("", Some(0)));
}

// --------------------------------------------------------------------------- the example `starttls`

#[test]
fn the_starttls_example_shows_an_upgrade_and_two_that_are_refused() {
    let name = "the_starttls_example_shows_an_upgrade_and_two_that_are_refused";
    let Some(output) = run(name, "starttls", &[], "") else { return };
    let shown = text(&output.stdout);
    for part in [
        "S: +OK begin TLS\n   TLS 1.3, TLS13_",
        "C: PASS upstream",
        "more than a go-ahead was said: \"+OK 1 666\\r\\n\"\n   bytes that were sent after STLS: 0",
        "start_tls: UnreadPlaintext, ",
    ] {
        assert!(shown.contains(part), "{part:?} is missing in:\n{shown}");
    }
    assert_eq!(shown.matches("PASS").count(), 1, "a password was sent in plaintext:\n{shown}");
    assert_eq!(stderr_text(&output), "");
    assert_eq!(output.status.code(), Some(0));
}

// ------------------------------------------------------------------------------------- the dialogues

/// A part of a dialogue, from the server's point of view.
#[derive(Clone, Copy)]
enum Part {
    Say(&'static str),
    SayTimes(usize, &'static str),
    Hear(&'static str),
}

use Part::{Hear, Say, SayTimes};

const LONG: &str = "220 tell me more, and more, and even more than that";

const SSL_REQUEST: &str = "\x00\x00\x00\x08\x04\u{d2}\x16\x2f";

const SMTP: &[Part] = &[
    Say("220-mail.test\r\n220 ESMTP\r\n"),
    Hear("EHLO localhost\r\n"),
    Say("250-mail.test\r\n250-STARTTLS\r\n250 8BITMIME\r\n"),
    Hear("STARTTLS\r\n"),
    Say("220 2.0.0 go ahead\r\n"),
];

const SMTP_REFUSAL: &[Part] = &[
    Say("220 mail.test\r\n"),
    Hear("EHLO localhost\r\n"),
    Say("250 mail.test\r\n"),
    Hear("STARTTLS\r\n"),
    Say("454 4.7.0 \x1b[1mTLS not available\r\n"),
];

const IMAP: &[Part] = &[
    Say("* OK [CAPABILITY IMAP4rev2 STARTTLS] ready\r\n"),
    Hear("a1 STARTTLS\r\n"),
    Say("* CAPABILITY IMAP4rev2\r\na1 ok begin\r\n"),
];

const IMAP_REFUSAL: &[Part] =
    &[Say("* OK ready\r\n"), Hear("a1 STARTTLS\r\n"), Say("* NO never\r\na1 BAD what?\r\n")];

const POSTGRES: &[Part] = &[Hear(SSL_REQUEST), Say("S")];

/// Plays a script; each character up to U+00FF is one byte.
fn play(stream: &mut TcpStream, script: &[Part]) -> io::Result<()> {
    let bytes = |text: &str| text.chars().map(|c| u8::try_from(c).unwrap()).collect::<Vec<u8>>();
    for &part in script {
        match part {
            // The client may have ended the connection already.
            Say(text) => drop(stream.write_all(&bytes(text))),
            SayTimes(times, text) => drop(stream.write_all(&bytes(text).repeat(times))),
            Hear(text) => {
                let mut heard = vec![0; bytes(text).len()];
                stream.read_exact(&mut heard)?;
                assert_eq!(heard, bytes(text));
            }
        }
    }
    Ok(())
}

// -------------------------------------------------------------------------------------- the servers

/// The server's certificate for `127.0.0.1` and `fish.test`, and that of its authority.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    /// The whole chain.
    pem: String,
    /// The authority's certificate only.
    authority: String,
    key_pem: String,
    config: Arc<ServerConfig>,
    /// The same with a demand for a client certificate of that authority.
    demanding: Arc<ServerConfig>,
}

static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "Authority of the tool's tests");
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);

    let names = ["127.0.0.1", "fish.test"].map(String::from);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let chain = vec![leaf.der().clone(), authority.der().clone()];
    let key_pem = key.serialize_pem();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = || {
        ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
    };
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        Arc::clone(&provider),
    );
    let demanding = builder()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain.clone(), key.clone_key())
        .unwrap();
    let mut config = builder().with_no_client_auth().with_single_cert(chain.clone(), key).unwrap();
    config.alpn_protocols = vec![b"echo/1".to_vec()];
    let (pem, authority) = (leaf.pem() + &authority.pem(), authority.pem());
    let (config, demanding) = (Arc::new(config), Arc::new(demanding));
    Identity { chain, pem, authority, key_pem, config, demanding }
});

/// A server for one connection, in a thread.
struct Server {
    done: mpsc::Receiver<io::Result<()>>,
}

fn serve(work: impl FnOnce(TcpStream) -> io::Result<()> + Send + 'static) -> (SocketAddr, Server) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, done) = mpsc::channel();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let _ = tell.send(work(stream));
    });
    (address, Server { done })
}

impl Server {
    #[track_caller]
    fn end(self) {
        match self.done.recv_timeout(LIMIT) {
            Ok(outcome) => outcome.unwrap(),
            Err(RecvTimeoutError::Timeout) => panic!("the server still runs"),
            Err(RecvTimeoutError::Disconnected) => panic!("the server panicked"),
        }
    }
}

type Secure = StreamOwned<ServerConnection, TcpStream>;

fn secure(stream: TcpStream) -> Secure {
    StreamOwned::new(ServerConnection::new(Arc::clone(&IDENTITY.config)).unwrap(), stream)
}

/// Echoes everything until the client ends, and then ends.
fn echo(mut tls: Secure) -> io::Result<()> {
    let mut heard = Vec::new();
    tls.read_to_end(&mut heard)?;
    tls.write_all(&heard)?;
    tls.conn.send_close_notify();
    tls.flush()?;
    end(&tls.sock)
}

/// Ends the TCP connection cleanly: it reads all data, because unread data would make the kernel send a reset.
fn end(mut stream: &TcpStream) -> io::Result<()> {
    // The shutdown fails if the client has already closed.
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
    Ok(())
}

// ----------------------------------------------------------------------------------------- the tool

/// The arguments of the example `connect` except the address, and the file that they name.
struct Tool {
    args: Vec<String>,
    _ca: Option<Pem>,
}

impl Tool {
    fn new(args: &[&str]) -> Self {
        Tool { args: Vec::new(), _ca: None }.with(args)
    }

    fn with(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    fn trusting(self) -> Self {
        let file = Pem::new(&IDENTITY.authority);
        let tool = self.with(&["--ca", file.path()]);
        Tool { _ca: Some(file), ..tool }
    }

    fn run(self, test: &str, address: SocketAddr, input: &str) -> Option<Output> {
        let address = address.to_string();
        let args: Vec<&str> =
            std::iter::once(address.as_str()).chain(self.args.iter().map(String::as_str)).collect();
        run(test, "connect", &args, input)
    }
}

/// Checks that the tool printed the fault and no data, and exited with this code.
#[track_caller]
fn check_failed(output: &Output, code: i32, fault: &str) {
    let message = stderr_text(output);
    assert!(
        message.starts_with("connect: ") && message.contains(fault),
        "no {fault:?} in:\n{message}"
    );
    assert!(
        !message.contains('\x1b'),
        "the server's control characters reached the terminal: {message:?}"
    );
    assert_eq!(text(&output.stdout), "");
    assert_eq!(output.status.code(), Some(code), "{message}");
}

/// A file with this text, removed when the value is dropped.
struct Pem(PathBuf);

impl Pem {
    fn new(text: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sockeye-tool-{}-{number}.pem", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).unwrap();
        Pem(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Pem {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
