//! `openssl s_server` with the certificates of `tests/corpus`: what each of three settings makes of each.

use std::fs;
use std::path::{Path, PathBuf};

use sockeye::{Error, SecureTransport, SocketOptions, TlsOptions, TlsVersion};

use super::harness::{LIMIT, Scratch, Server, bounded, installed, start};

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)
}

fn serve(openssl: &Path, name: &str, version: TlsVersion) -> Server {
    start(Scratch::new(), "ACCEPT", |_, [port]| {
        let mut command = bounded(openssl);
        // Otherwise it ends with its standard input.
        command.args(["s_server", "-www", "-accept", &format!("127.0.0.1:{port}")]);
        // Otherwise it refuses to load a short key and a signature with SHA-1.
        command.args(["-cipher", "DEFAULT@SECLEVEL=0"]);
        command.arg(if version == TlsVersion::Tls12 { "-tls1_2" } else { "-tls1_3" });
        command.arg("-cert").arg(corpus(&format!("{name}.crt")));
        command.arg("-key").arg(corpus(&format!("{name}.key")));
        command
    })
}

/// Connects, and returns "accepted" or the message without the address.
fn outcome(server: &Server, tls: TlsOptions) -> String {
    let tls = tls.server_name("localhost");
    let options =
        SocketOptions::new().secure_transport(SecureTransport::On).tls(tls).connect_timeout(LIMIT);
    let opened = || -> Result<(), Error> {
        let socket = sockeye::connect_with(server.address(), options)?;
        socket.opened()?;
        socket.close()
    };
    match opened() {
        Ok(()) => String::from("accepted"),
        Err(error) => {
            let message = error.to_string();
            let after = message.split_once(&format!("{}: ", server.address()));
            after.map_or(message.clone(), |(_, message)| message.to_owned())
        }
    }
}

const ACCEPTED: &str = "accepted";
const SHORT: &str = "its key is too short (RSA with 1024 bits, not 2048 to 8192)";
const VERSION_1: &str = "it is of X.509 version 1 or 2";
const AUTHORITY: &str = "is an authority's (CA:TRUE)";
const ROOT: &str = "openssl-req-x509-ca.pem";

/// The certificate, the root that is added for it, and parts of the outcomes: with that root, with `trust_only_pem`, and
/// with `danger_accept_invalid_certs`. Without the root, none is accepted.
const CASES: [(&str, &str, [&str; 3]); 17] = [
    ("openssl-ca", ROOT, [ACCEPTED; 3]),
    ("openssl-1.1-genrsa", ROOT, [ACCEPTED; 3]),
    ("openssl-ecparam", ROOT, [ACCEPTED; 3]),
    ("openssl-genpkey-p384", ROOT, [ACCEPTED; 3]),
    ("openssl-genpkey-ed25519", ROOT, [ACCEPTED; 3]),
    ("easyrsa-server", "easyrsa-ca.crt", [ACCEPTED; 3]),
    ("openssl-x509-req", ROOT, [VERSION_1, ACCEPTED, ACCEPTED]),
    ("openssl-x509-req-signkey", "openssl-x509-req-signkey.crt", [VERSION_1, ACCEPTED, ACCEPTED]),
    ("postgresql-server", "postgresql-root.crt", [VERSION_1, ACCEPTED, ACCEPTED]),
    ("mysql-server", "mysql-ca.pem", [VERSION_1, ACCEPTED, ACCEPTED]),
    ("openssl-req-x509", "openssl-req-x509.crt", [AUTHORITY, ACCEPTED, ACCEPTED]),
    ("postgresql-self-signed", "postgresql-self-signed.crt", [AUTHORITY, ACCEPTED, ACCEPTED]),
    ("device-common-name-only", "device-common-name-only.crt", [VERSION_1, ACCEPTED, ACCEPTED]),
    ("device-rsa-1024", "device-rsa-1024.crt", [SHORT; 3]),
    ("device-sha-1", "device-sha-1.crt", ["signed with SHA-1", ACCEPTED, ACCEPTED]),
    (
        "device-unknown-critical",
        "device-unknown-critical.crt",
        ["critical extension", ACCEPTED, ACCEPTED],
    ),
    ("device-expired", "device-expired.crt", ["until 1980-01-01", ACCEPTED, ACCEPTED]),
];

#[test]
fn openssl_serves_certificates_as_people_have_them() {
    let Some(openssl) = installed("openssl_serves_certificates", "openssl") else { return };
    let mut wrong = Vec::new();
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        for (name, root, expected) in CASES {
            let server = serve(&openssl, name, version);
            let read = |name: &str| fs::read(corpus(name)).expect("the corpus has it");
            let with_root = TlsOptions::new().add_root_pem(read(root)).expect("it can be a root");
            let only = TlsOptions::new().trust_only_pem(read(&format!("{name}.crt")));
            let any = TlsOptions::new().danger_accept_invalid_certs(true);
            let settings = [with_root, only.expect("it is a certificate"), any];
            for (setting, (tls, expected)) in settings.into_iter().zip(expected).enumerate() {
                let found = outcome(&server, tls);
                let is_expected = match expected {
                    ACCEPTED => found == ACCEPTED,
                    part => found.contains(part),
                };
                if !is_expected {
                    wrong.push(format!("{name}, {version}, setting {setting}: {found}"));
                }
            }
            let found = outcome(&server, TlsOptions::new());
            if found == ACCEPTED {
                wrong.push(format!("{name}, {version}: accepted without a root"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
