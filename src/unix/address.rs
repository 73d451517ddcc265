//! The address of a Unix-domain socket.

use std::fmt;
use std::sync::Arc;

#[cfg(unix)]
use crate::error::{Error, ErrorKind, Result};

/// The maximum number of bytes of a path or a name. The system adds one to each.
#[cfg(unix)]
const MAX_LEN: usize =
    if cfg!(any(target_os = "linux", target_os = "android")) { 107 } else { 103 };

/// The address of a Unix-domain socket: a path, or a name in the abstract namespace of Linux.
///
/// It has no text form that [`connect`](crate::connect) accepts, so that untrusted text can never name one.
///
/// ```
/// use std::path::Path;
/// use sockeye::UnixAddress;
///
/// let address = UnixAddress::from_pathname("/run/postgresql/.s.PGSQL.5432")?;
/// assert_eq!(address.as_pathname(), Some(Path::new("/run/postgresql/.s.PGSQL.5432")));
/// assert!(UnixAddress::from_pathname("").is_err());
/// assert!(sockeye::connect("unix:/run/postgresql/.s.PGSQL.5432").is_err());
/// # Ok::<(), sockeye::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
#[doc(alias("sockaddr_un", "AF_UNIX", "AF_LOCAL", "SocketAddr"))]
pub struct UnixAddress {
    name: Name,
}

/// The bytes of an address. A clone shares them.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Name {
    Path(Arc<[u8]>),
    Abstract(Arc<[u8]>),
}

#[cfg(unix)]
impl UnixAddress {
    /// Creates the address of a path. A relative path is looked up from the current directory when it is used.
    ///
    /// # Errors
    /// [`InvalidAddress`](crate::ErrorKind::InvalidAddress) unless the path has 1 to 107 bytes on Linux, or 1 to 103 on
    /// other systems, none of them NUL.
    #[doc(alias("from_path"))]
    pub fn from_pathname(path: impl AsRef<std::path::Path>) -> Result<Self> {
        use std::os::unix::ffi::OsStrExt;
        let bytes = path.as_ref().as_os_str().as_bytes();
        check_len("path", bytes)?;
        if bytes.contains(&0) {
            let shown = bytes.escape_ascii();
            return Err(invalid(format!("the path of a Unix-domain socket contains NUL: {shown}")));
        }
        Ok(UnixAddress { name: Name::Path(bytes.into()) })
    }

    /// Creates the address of a name in the abstract namespace, which only Linux has. The name may contain any bytes.
    ///
    /// Such names have no permissions: any local process in the same network namespace may bind or connect to them. So
    /// a client should check [`peer_credentials`](crate::SocketInfo::peer_credentials), and a server
    /// [`allow_uids`](crate::ListenOptions::allow_uids).
    ///
    /// # Errors
    /// [`InvalidAddress`](crate::ErrorKind::InvalidAddress) unless the name has 1 to 107 bytes.
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) on other systems than Linux.
    pub fn from_abstract_name(name: impl AsRef<[u8]>) -> Result<Self> {
        if !cfg!(any(target_os = "linux", target_os = "android")) {
            let message = "this operating system has no abstract Unix-domain addresses";
            return Err(Error::invalid_options(message));
        }
        let name = name.as_ref();
        check_len("abstract name", name)?;
        Ok(UnixAddress { name: Name::Abstract(name.into()) })
    }

    /// Returns the path, or `None` for an abstract name.
    #[must_use]
    pub fn as_pathname(&self) -> Option<&std::path::Path> {
        use std::os::unix::ffi::OsStrExt;
        self.path_bytes().map(|bytes| std::path::Path::new(std::ffi::OsStr::from_bytes(bytes)))
    }

    /// Returns the abstract name, without the NUL that the system puts before it, or `None` for a path.
    #[must_use]
    pub fn as_abstract_name(&self) -> Option<&[u8]> {
        self.abstract_bytes()
    }
}

impl UnixAddress {
    /// Returns the bytes of a path.
    pub(crate) fn path_bytes(&self) -> Option<&[u8]> {
        match &self.name {
            Name::Path(bytes) => Some(bytes),
            Name::Abstract(_) => None,
        }
    }

    /// Returns the bytes of an abstract name.
    pub(crate) fn abstract_bytes(&self) -> Option<&[u8]> {
        match &self.name {
            Name::Path(_) => None,
            Name::Abstract(bytes) => Some(bytes),
        }
    }

    /// Returns the form for messages, such as `unix:/run/x.sock` or `unix:@name`, in printable characters.
    pub(crate) fn text(&self) -> impl fmt::Display + '_ {
        let (prefix, bytes) = match &self.name {
            Name::Path(bytes) => ("unix:", bytes),
            Name::Abstract(bytes) => ("unix:@", bytes),
        };
        Text { prefix, bytes }
    }
}

/// Shows the address as `std` does: the path or name, and which of both it is.
impl fmt::Debug for UnixAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, kind) = match &self.name {
            Name::Path(bytes) => (bytes, "pathname"),
            Name::Abstract(bytes) => (bytes, "abstract"),
        };
        write!(f, "\"{}\" ({kind})", Text { prefix: "", bytes })
    }
}

/// The text of a name. Other processes choose names, so control characters are escaped.
struct Text<'a> {
    prefix: &'static str,
    bytes: &'a [u8],
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.prefix)?;
        for chunk in self.bytes.utf8_chunks() {
            write!(f, "{}{}", chunk.valid().escape_debug(), chunk.invalid().escape_ascii())?;
        }
        Ok(())
    }
}

#[cfg(unix)]
fn check_len(what: &str, bytes: &[u8]) -> Result<()> {
    match bytes.len() {
        0 => Err(invalid(format!("the {what} of a Unix-domain socket is empty"))),
        1..=MAX_LEN => Ok(()),
        len => Err(invalid(format!(
            "the {what} of a Unix-domain socket has {len} bytes; the maximum is {MAX_LEN}"
        ))),
    }
}

#[cfg(unix)]
fn invalid(message: String) -> Error {
    Error::with_message(ErrorKind::InvalidAddress, message)
}

#[cfg(all(test, unix))]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_path_has_a_length_and_no_nul() {
        let kind = |path: &str| UnixAddress::from_pathname(path).map_err(|error| error.kind());
        assert!(kind("x").is_ok());
        assert!(kind(&"x".repeat(MAX_LEN)).is_ok());
        for path in ["", "a\0b", "\0a", &"x".repeat(MAX_LEN + 1)] {
            assert_eq!(kind(path).unwrap_err(), ErrorKind::InvalidAddress, "{path:?}");
        }
    }

    #[test]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn an_abstract_name_has_a_length_and_may_have_any_bytes() {
        let kind =
            |name: &[u8]| UnixAddress::from_abstract_name(name).map_err(|error| error.kind());
        for name in [&b"a"[..], b"\0", b"/a", &[b'x'; MAX_LEN]] {
            let address = UnixAddress::from_abstract_name(name).unwrap();
            assert_eq!((address.as_abstract_name(), address.as_pathname()), (Some(name), None));
        }
        for name in [&b""[..], &[b'x'; MAX_LEN + 1]] {
            assert_eq!(kind(name).unwrap_err(), ErrorKind::InvalidAddress);
        }
    }

    #[test]
    fn a_path_and_an_abstract_name_differ() {
        let path = UnixAddress::from_pathname("a").unwrap();
        assert_eq!(path.as_pathname(), Some(Path::new("a")));
        assert_eq!(path, UnixAddress::from_pathname("a").unwrap());
        if let Ok(name) = UnixAddress::from_abstract_name("a") {
            assert_ne!(path, name);
            assert_eq!(format!("{name:?}"), "\"a\" (abstract)");
            assert_eq!(name.text().to_string(), "unix:@a");
        }
        assert_eq!(format!("{path:?}"), "\"a\" (pathname)");
    }

    #[test]
    fn a_message_shows_no_control_characters() {
        let text = |path: &str| UnixAddress::from_pathname(path).unwrap().text().to_string();
        assert_eq!(text("/run/x.sock"), "unix:/run/x.sock");
        assert_eq!(text("/run/ä\n\u{1b}[31m"), "unix:/run/ä\\n\\u{1b}[31m");
    }
}
