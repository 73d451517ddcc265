//! curl, and OpenSSL's way to name the files of a folder.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use super::server::Server;

pub struct Curl(());

/// Prints past the harness, which captures the output of tests. CI counts these lines.
fn skip(reason: &str) {
    // An error is ignored.
    let _ = writeln!(io::stderr(), "skipped: roots::curl: {reason}");
}

/// Returns curl, or prints a skip if it is not installed or does not verify with OpenSSL.
pub fn installed() -> Option<Curl> {
    let version = Command::new("curl").arg("--version").stdin(Stdio::null()).output();
    let Ok(version) = version else {
        skip("curl is not installed");
        return None;
    };
    // Others ignore the environment.
    if !String::from_utf8_lossy(&version.stdout).contains("OpenSSL/") {
        skip("curl was built without OpenSSL");
        return None;
    }
    Some(Curl(()))
}

/// Links the certificates of a folder by the hashes of their names. Prints a skip if openssl is missing.
pub fn rehash(folder: &Path) -> bool {
    let status = Command::new("openssl")
        .arg("rehash")
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match status {
        Ok(status) => {
            assert!(status.success(), "openssl rehash: {status}");
            true
        }
        Err(_) => {
            skip("openssl is not installed");
            false
        }
    }
}

impl Curl {
    /// Returns whether curl accepts the server's certificate for `localhost`, and what it prints.
    pub fn accepts(&self, server: &Server, variables: &[(&str, OsString)]) -> (bool, String) {
        let port = server.address().port();
        let mut curl = Command::new("curl");
        for name in ["SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE"] {
            curl.env_remove(name);
        }
        curl.args(["--disable", "--silent", "--show-error", "--noproxy", "*", "--max-time", "20"]);
        curl.args(["--resolve", &format!("localhost:{port}:127.0.0.1")]);
        curl.arg(format!("https://localhost:{port}/"));
        curl.envs(variables.iter().map(|(name, value)| (name, value)));
        let output = curl.stdin(Stdio::null()).output().expect("curl was there");
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        // CURLE_PEER_FAILED_VERIFICATION.
        let refused = output.status.code() == Some(60);
        assert!(output.status.success() || refused, "{}: {printed}", output.status);
        (output.status.success(), printed)
    }
}
