//! Binds the sessions that a server resumes to the certificate that it presents.
//!
//! rustls resumes a session whatever certificate it would present now. So a client could continue with an identity that
//! was replaced or removed. The two sides would then compute different channel bindings (RFC 5929, section 4).

use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::hash::{Hash, HashAlgorithm};
use rustls::server::{ProducesTickets, StoresServerSessions};

use super::hello::with_current;
use super::peer_certificates::sha256;

/// The maximum size of a session, in bytes. Most of it is the client's certificates. A larger ticket would make a
/// ClientHello that a server refuses, and larger sessions would let clients use up memory.
const MAX_SESSION: usize = 4096;

/// The length of a SHA-256 digest.
const DIGEST: usize = 32;

/// Tickets or stored sessions, each with the digest of the leaf.
pub(super) struct BoundSessions<S: ?Sized> {
    sessions: Arc<S>,
    hash: &'static dyn Hash,
}

impl<S: ?Sized> BoundSessions<S> {
    /// Returns `None` if the provider has no SHA-256.
    pub(super) fn new(sessions: Arc<S>, provider: &CryptoProvider) -> Option<Self> {
        Some(BoundSessions { sessions, hash: sha256(provider)? })
    }

    /// Returns the digest of the leaf that the server presents in the handshake that is being processed.
    fn digest(&self) -> Option<[u8; DIGEST]> {
        debug_assert_eq!(self.hash.algorithm(), HashAlgorithm::SHA256);
        let leaf = with_current(|hello| hello.leaf.clone())??;
        self.hash.hash(&leaf).as_ref().try_into().ok()
    }

    fn bind(&self, session: &[u8]) -> Option<Vec<u8>> {
        if session.len() > MAX_SESSION {
            return None;
        }
        Some([&self.digest()?[..], session].concat())
    }

    fn unbind(&self, bound: Vec<u8>) -> Option<Vec<u8>> {
        let (digest, session) = bound.split_at_checked(DIGEST)?;
        (digest == self.digest()?).then(|| session.to_vec())
    }
}

impl ProducesTickets for BoundSessions<dyn ProducesTickets> {
    fn enabled(&self) -> bool {
        self.sessions.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.sessions.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.sessions.encrypt(&self.bind(plain)?)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.unbind(self.sessions.decrypt(cipher)?)
    }
}

impl StoresServerSessions for BoundSessions<dyn StoresServerSessions> {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.bind(&value).is_some_and(|bound| self.sessions.put(key, bound))
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.unbind(self.sessions.get(key)?)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.unbind(self.sessions.take(key)?)
    }

    fn can_cache(&self) -> bool {
        self.sessions.can_cache()
    }
}

impl<S: ?Sized> fmt::Debug for BoundSessions<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundSessions").finish_non_exhaustive()
    }
}
