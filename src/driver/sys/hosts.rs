//! The hosts file: where it is, and how to tell one version of it from another.

use std::fs::Metadata;
use std::path::PathBuf;
use std::time::SystemTime;

/// The time of the last change, the length and, if there is one, the number of the file.
pub(crate) type Version = (Option<SystemTime>, u64, u64);

/// Returns what identifies one version of a file.
#[cfg(unix)]
pub(crate) fn version(metadata: &Metadata) -> Version {
    use std::os::unix::fs::MetadataExt;
    (metadata.modified().ok(), metadata.len(), metadata.ino())
}

#[cfg(not(unix))]
pub(crate) fn version(metadata: &Metadata) -> Version {
    (metadata.modified().ok(), metadata.len(), 0)
}

/// Returns the path of the hosts file.
#[cfg(unix)]
pub(crate) fn path() -> Option<PathBuf> {
    let path = if cfg!(target_os = "android") { "/system/etc/hosts" } else { "/etc/hosts" };
    Some(path.into())
}

#[cfg(not(unix))]
pub(crate) fn path() -> Option<PathBuf> {
    let root = std::env::var_os("SystemRoot")?;
    Some(PathBuf::from(root).join(r"System32\drivers\etc\hosts"))
}
