//! Names that the system's resolver knows without a name server: `localhost` and the names in the hosts file.
//!
//! This decides only which threads look up a name. The answer always comes from the system's resolver.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::sync::{Mutex, TryLockError};

use crate::driver::sys::hosts::{Version, path, version};

/// The maximum number of bytes of the hosts file to read. Later names are looked up like any other.
const MAX_BYTES: u64 = 256 * 1024;

/// Returns whether a name needs no name server. Reads the hosts file if it has changed.
pub(crate) fn is_local(name: &str) -> bool {
    let name = normalized(name);
    is_localhost(&name) || is_in_hosts_file(&name)
}

/// Returns whether a name is `localhost` or below it (RFC 6761, section 6.3).
fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

fn normalized(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// The names in one version of the hosts file.
struct HostsFile {
    version: Version,
    names: HashSet<Box<str>>,
}

fn is_in_hosts_file(name: &str) -> bool {
    // This is std's lock and not the driver's, because no model has a hosts file. It is held while the file is read,
    // and never taken under another lock.
    static CACHE: Mutex<Option<HostsFile>> = Mutex::new(None);
    let mut known = match CACHE.try_lock() {
        Ok(known) => known,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        // Another thread is reading the file, or was reading it when this process was forked.
        Err(TryLockError::WouldBlock) => return read().is_some_and(|it| it.names.contains(name)),
    };
    let version = path().and_then(|path| path.metadata().ok()).map(|it| version(&it));
    if known.as_ref().map(|known| known.version) != version {
        *known = read();
    }
    known.as_ref().is_some_and(|known| known.names.contains(name))
}

fn read() -> Option<HostsFile> {
    let file = File::open(path()?).ok()?;
    let version = version(&file.metadata().ok()?);
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(HostsFile { version, names: names(&String::from_utf8_lossy(&bytes)) })
}

fn names(text: &str) -> HashSet<Box<str>> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    // The first word is the address.
    let names = lines.flat_map(|line| line.split_whitespace().skip(1));
    names.map(|name| normalized(name).into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_and_names_below_it_are_local_in_any_spelling() {
        for name in ["localhost", "LocalHost", "localhost.", "a.localhost", "a.b.LOCALHOST."] {
            assert!(is_local(name), "{name}");
        }
        for name in ["localhost.example.test", "notlocalhost", "localhost..", "local.host", ""] {
            assert!(!is_localhost(&normalized(name)), "{name}");
        }
    }

    #[test]
    fn the_names_of_a_hosts_file_are_all_but_the_first_word_of_a_line() {
        let text = "127.0.0.1 localhost\n\
                    # 10.0.0.1 comment\n\
                    10.0.0.2\tOne.Test two.test. # three.test\n\
                    fe80::1%lo0 four.test\r\n\
                    10.0.0.3\n\n";
        let mut known: Vec<_> = names(text).into_iter().collect();
        known.sort();
        let expected = ["four.test", "localhost", "one.test", "two.test"];
        assert_eq!(known, expected.map(Box::from));
    }
}
