//! Rejects certificate chains for which webpki's search for a trusted root would take too long.
//!
//! webpki tries every path that the names allow, and stops after 200,000 of them. Forty certificates with the same name
//! keep it busy for 200 ms. If the event loop drives the handshake, it serves no other socket during that time. The
//! certificates of ordinary servers allow a handful of paths.

use rustls::pki_types::CertificateDer;

use super::der::CertificateNames;

/// The maximum number of certificates that a search visits, counted per path. webpki takes about 1 µs per visit.
const MAX_STEPS: usize = 20_000;

/// The maximum number of issuers on a path in webpki.
const MAX_PATH_LEN: usize = 6;

/// Returns whether a search of every path from `leaf` through `others` would exceed the bound.
pub(super) fn are_tangled(leaf: &[u8], others: &[CertificateDer<'_>]) -> bool {
    let Some(leaf) = CertificateNames::of(leaf) else {
        // webpki can't parse it either.
        return false;
    };
    let others = others.iter().map(|other| CertificateNames::of(other)).collect();
    let mut search = Search { others, path: Vec::new(), looks_left: MAX_STEPS };
    search.walk(leaf.issuer).is_none()
}

struct Search<'a> {
    others: Vec<Option<CertificateNames<'a>>>,
    /// The issuers on the current path.
    path: Vec<usize>,
    looks_left: usize,
}

impl<'a> Search<'a> {
    /// Follows every path that starts at `issuer`. Returns `None` if there are too many.
    fn walk(&mut self, issuer: &'a [u8]) -> Option<()> {
        self.looks_left = self.looks_left.checked_sub(self.others.len())?;
        if self.path.len() == MAX_PATH_LEN {
            return Some(());
        }
        for index in 0..self.others.len() {
            let Some(names) = self.others[index] else { continue };
            if names.subject == issuer && !self.path.contains(&index) {
                self.path.push(index);
                self.walk(names.issuer)?;
                self.path.pop();
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Authority, Leaf};
    use super::*;

    #[test]
    fn certificates_of_ordinary_servers_are_not_tangled() {
        let root = Authority::new("Root");
        let leaf = root.leaf(["a.test"]);
        check(&leaf, &[], false);
        check(&leaf, &[&root], false);

        // The longest chain that webpki accepts, including the root, in the wrong order; then all of it twice.
        let mut chain = vec![root];
        for depth in 0..MAX_PATH_LEN {
            chain.push(chain[depth].below(&format!("Middle {depth}")));
        }
        let leaf = chain.last().expect("the chain has a root").leaf(["a.test"]);
        let once: Vec<_> = chain.iter().collect();
        check(&leaf, &once, false);
        check(&leaf, &[&once[..], &once[..]].concat(), false);
    }

    #[test]
    fn old_and_new_certificates_of_one_authority_are_not_tangled() {
        let (old, new) = (Authority::new("Root"), Authority::new("Root"));
        let renewed: Vec<_> = (0..4).map(|_| old.below("Root")).collect();
        let leaf = new.leaf(["a.test"]);
        let others = [&[&old, &new][..], &renewed.iter().collect::<Vec<_>>()].concat();
        check(&leaf, &others, false);
    }

    #[test]
    fn a_bundle_of_unrelated_roots_is_not_tangled() {
        let strangers: Vec<_> = (0..150).map(|n| Authority::new(&format!("Root {n}"))).collect();
        let others: Vec<_> = strangers.iter().collect();
        let middle = strangers[7].below("Middle");
        let leaf = middle.leaf(["a.test"]);
        check(&leaf, &[&[&middle], &others[..]].concat(), false);
    }

    #[test]
    fn many_certificates_with_the_same_name_are_tangled() {
        let maze: Vec<_> = (0..12).map(|_| Authority::new("Maze")).collect();
        let others: Vec<_> = maze.iter().collect();
        let leaf = maze[0].leaf(["a.test"]);
        check(&leaf, &others, true);
        // A single certificate can lead into the maze.
        let stranger = Authority::new("Stranger");
        let leaf = stranger.leaf(["a.test"]);
        check(&leaf, &others, false);
        let way_in = maze[3].below("Stranger");
        check(&leaf, &[&others[..], &[&way_in]].concat(), true);
    }

    #[test]
    fn malformed_certificates_count_as_visits_but_extend_no_path() {
        let garbage = CertificateDer::from(vec![0x30, 0x82, 0xff]);
        let leaf = Authority::new("Root").leaf(["a.test"]);
        assert!(!are_tangled(&garbage, std::slice::from_ref(&garbage)));
        assert!(!are_tangled(leaf.der(), &vec![garbage.clone(); MAX_STEPS]));
        assert!(are_tangled(leaf.der(), &vec![garbage; MAX_STEPS + 1]));
    }

    #[track_caller]
    fn check(leaf: &Leaf, others: &[&Authority], tangled: bool) {
        let others: Vec<_> = others.iter().map(|other| other.der().clone()).collect();
        assert_eq!(are_tangled(leaf.der(), &others), tangled);
    }
}
