//! The files that listening sockets leave in the file system.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockAddr};

use crate::driver::sys::socket::nonblocking_socket;
use crate::egress::FileId;
use crate::unix::UnixAddress;

/// The file of a bound socket. A successor may have put its own socket at the same path since, which is another file.
#[derive(Debug)]
pub(crate) struct BoundPath {
    /// Absolute, because the current directory may change.
    path: PathBuf,
    file: FileId,
}

/// Returns the identity of the file at a path, without following a symbolic link.
fn id_at(path: &Path) -> io::Result<FileId> {
    path.symlink_metadata().map(|found| (found.dev(), found.ino()))
}

/// Returns the identity of the socket to which a path leads. It follows symbolic links, as connect(2) does.
pub(crate) fn file_of(address: &UnixAddress) -> Option<FileId> {
    let path = Path::new(OsStr::from_bytes(address.path_bytes()?));
    path.metadata().ok().map(|found| (found.dev(), found.ino()))
}

impl BoundPath {
    /// Finds the file that bind(2) has just made at an absolute path.
    pub(super) fn new(path: PathBuf) -> io::Result<Self> {
        Ok(BoundPath { file: id_at(&path)?, path })
    }

    /// Returns the identity of the file.
    pub(super) fn file(&self) -> FileId {
        self.file
    }

    /// Gives the file these permissions, unless it has them. No client can connect before listen(2).
    pub(super) fn set_mode(&self, mode: u32) -> io::Result<()> {
        let present = self.path.symlink_metadata()?.permissions().mode() & 0o777;
        if present == mode {
            return Ok(());
        }
        if id_at(&self.path)? != self.file {
            return Err(io::Error::other("another file has replaced the path"));
        }
        fs::set_permissions(&self.path, Permissions::from_mode(mode))
    }

    /// Removes the file, unless another one has its path. The check and the removal are not atomic.
    pub(crate) fn remove(&self) {
        if id_at(&self.path).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Number of connections that a stale socket refuses. Only Linux has an error of its own for a full queue. On other
/// systems a server that is alive but busy refuses too, for a moment.
const PROBES: u32 = if cfg!(any(target_os = "linux", target_os = "android")) { 1 } else { 5 };
/// The time between two of them.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);

/// Removes the file of a socket that refuses connections. Returns whether it did. Every doubt leaves the file alone.
pub(super) fn remove_stale(path: &Path, address: &SockAddr) -> bool {
    let Ok(found) = path.symlink_metadata() else { return false };
    let file = (found.dev(), found.ino());
    if !found.file_type().is_socket() {
        return false;
    }
    for probe in 0..PROBES {
        if probe > 0 {
            thread::sleep(PROBE_INTERVAL);
        }
        let connected = nonblocking_socket(Domain::UNIX, None).and_then(|it| it.connect(address));
        match connected {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Ok(()) | Err(_) => return false,
        }
    }
    id_at(path).is_ok_and(|now| now == file) && fs::remove_file(path).is_ok()
}
