//! The roots of the system.

use std::collections::HashSet;
use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::Path;

use once_cell::race::OnceBox;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use rustls_native_certs::load_native_certs;

use super::pem;
use crate::error::{Error, Result};
use crate::panic::catch_panic;
use crate::process::PerProcess;

/// Returns the roots of the system, or those that the environment names. Reads them once per process, unless it fails.
pub(super) fn load() -> Result<&'static [TrustAnchor<'static>]> {
    static LOADED: PerProcess<OnceBox<Vec<TrustAnchor<'static>>>> = PerProcess::new();
    let loaded = LOADED.get(|_| OnceBox::new()).get_or_try_init(|| {
        let set = |variable| env::var_os(variable).filter(|value| !value.is_empty());
        let (file, folders) = (set(FILE), set(FOLDERS));
        let roots = match (file, folders) {
            (None, None) => Ok(of_system()),
            (file, folders) => of_environment(file.as_deref(), folders.as_deref()),
        };
        roots.map(Box::new)
    })?;
    Ok(loaded)
}

fn of_system() -> Vec<TrustAnchor<'static>> {
    let found = load_native_certs();
    for error in found.errors.iter().take(MAX_LOGGED) {
        warn(&format_args!("a part of the system's roots is left out: {error}"));
    }
    parse(found.certs)
}

/// Calls the program's logger, which may panic.
fn warn(message: &dyn fmt::Display) {
    catch_panic(|| log::warn!("{message}"));
}

/// Reads the file and the folders that the variables name. At least one is set. Everything has to be readable.
fn of_environment(
    file: Option<&OsStr>,
    folders: Option<&OsStr>,
) -> Result<Vec<TrustAnchor<'static>>> {
    let mut certificates = Vec::new();
    if let Some(file) = file {
        certificates.extend(read(FILE, Path::new(file))?);
    }
    for folder in folders.iter().flat_map(env::split_paths) {
        if !folder.as_os_str().is_empty() {
            certificates.extend(read_folder(&folder)?);
        }
    }
    // A folder of certificates often has a bundle of them too.
    certificates.sort_unstable_by(|one, other| one.as_ref().cmp(other.as_ref()));
    certificates.dedup();
    let roots = parse(certificates);
    if !roots.is_empty() {
        return Ok(roots);
    }
    let named = [(FILE, file), (FOLDERS, folders)];
    let named = named.iter().filter_map(|(variable, value)| Some((variable, (*value)?)));
    let named: Vec<_> = named
        .map(|(variable, value)| format!("{variable}={}", Path::new(value).display()))
        .collect();
    Err(Error::invalid_options(format!(
        "no roots to trust: {} has no certificate that can be a root",
        named.join(" with ")
    )))
}

/// Reads the certificates of one file, of which there is at least one.
fn read(variable: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let text = fs::read(path).map_err(|error| unusable(variable, path, &error))?;
    pem::trusted(&text).map_err(|error| unusable(variable, path, &error))
}

/// Reads every file of a folder that has a certificate. `openssl rehash` adds a second name for each.
fn read_folder(folder: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let failed = |error| unusable(FOLDERS, folder, &error);
    let mut certificates = Vec::new();
    let mut seen = HashSet::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        // A link that leads nowhere is of no use to anyone.
        let Ok(path) = entry.map_err(failed)?.path().canonicalize() else { continue };
        if !path.is_file() || !seen.insert(path.clone()) {
            continue;
        }
        let text = fs::read(&path).map_err(|error| unusable(FOLDERS, &path, &error))?;
        if pem::mentions_certificate(&text) {
            let found = pem::trusted(&text);
            certificates.extend(found.map_err(|error| unusable(FOLDERS, &path, &error))?);
        }
    }
    Ok(certificates)
}

fn unusable(variable: &str, path: &Path, fault: &dyn fmt::Display) -> Error {
    let path = path.display();
    Error::invalid_options(format!(
        "the roots that {variable} names can't be used: {path}: {fault}"
    ))
}

/// Returns the certificates that can be roots. A bundle often has some that cannot.
fn parse(certificates: Vec<CertificateDer<'static>>) -> Vec<TrustAnchor<'static>> {
    let mut store = RootCertStore::empty();
    let (_, unusable) = store.add_parsable_certificates(certificates);
    if unusable > 0 {
        warn(&format_args!("{unusable} roots are left out, because they are malformed"));
    }
    store.roots
}

const FILE: &str = "SSL_CERT_FILE";
/// A list of folders.
const FOLDERS: &str = "SSL_CERT_DIR";

/// The maximum number of errors to log. A directory may have thousands of unreadable files.
const MAX_LOGGED: usize = 8;
