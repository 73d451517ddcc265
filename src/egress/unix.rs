//! Which Unix-domain addresses may be dialled.

use crate::error::{Error, Result};
use crate::unix::UnixAddress;

/// The Unix-domain addresses that a rule allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UnixRule {
    /// The components of a path. Allows that path, and everything below it.
    Path(Vec<Box<[u8]>>),
    /// An abstract name.
    Abstract(Box<[u8]>),
}

impl UnixRule {
    pub(super) fn parse(prefix: &str) -> Result<Self> {
        let invalid = |reason: &str| {
            Error::invalid_options(format!(
                "the rule {prefix:?} for Unix-domain addresses is invalid: {reason}"
            ))
        };
        if prefix.contains('\0') {
            return Err(invalid("it contains NUL"));
        }
        if let Some(name) = prefix.strip_prefix('@') {
            return match name {
                "" => Err(invalid("the abstract name is empty")),
                name => Ok(UnixRule::Abstract(name.as_bytes().into())),
            };
        }
        match components(prefix.as_bytes()) {
            Ok(components) => Ok(UnixRule::Path(components.map(Box::from).collect())),
            Err(reason) => Err(invalid(reason)),
        }
    }

    /// Returns whether the rule allows an address, of which only the text is known. Nothing looks at the file system.
    pub(super) fn allows(&self, address: &UnixAddress) -> bool {
        match (self, address.path_bytes(), address.abstract_bytes()) {
            (UnixRule::Path(prefix), Some(path), _) => components(path)
                .is_ok_and(|mut path| prefix.iter().all(|expected| path.next() == Some(expected))),
            (UnixRule::Abstract(name), _, Some(bytes)) => **name == *bytes,
            (UnixRule::Path(_), None, _) | (UnixRule::Abstract(_), _, None) => false,
        }
    }
}

/// Returns the components of a path. A path that is relative, or leads back by `..`, may be anywhere. So is one with
/// `.`, because no program needs it.
fn components(path: &[u8]) -> Result<impl Iterator<Item = &[u8]>, &'static str> {
    let Some(below_root) = path.strip_prefix(b"/") else { return Err("the path is not absolute") };
    // A repeated or trailing slash changes nothing.
    let components = || below_root.split(|byte| *byte == b'/').filter(|it| !it.is_empty());
    if components().any(|component| component == b"." || component == b"..") {
        return Err("the path contains `.` or `..`");
    }
    Ok(components())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::EgressRules;
    use crate::error::ErrorKind;

    #[track_caller]
    fn check(rules: &EgressRules, paths: &[(&str, bool)]) {
        for &(path, expected) in paths {
            let address = match path.strip_prefix('@') {
                Some(name) => UnixAddress::from_abstract_name(name),
                None => UnixAddress::from_pathname(path),
            };
            let allowed = match rules.check_unix(&address.unwrap(), |_| None) {
                Ok(()) => true,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Denied);
                    false
                }
            };
            assert_eq!(allowed, expected, "{path}");
        }
    }

    #[test]
    fn whole_components_are_compared_as_written() {
        let rules = EgressRules::deny_all().allow_unix("/run/a").unwrap();
        check(
            &rules,
            &[
                ("/run/a", true),
                ("/run/a/", true),
                ("/run/a/b.sock", true),
                ("/run//a/b.sock", true),
                ("//run/a", true),
                ("/run/ab", false),
                ("/run/A", false),
                ("/run", false),
                ("/", false),
                ("/run/b", false),
                ("/var/run/a", false),
                ("run/a", false),
                ("a", false),
                ("/run/a/../b", false),
                ("/run/a/..", false),
                ("/run/b/../a", false),
                ("/run/./a", false),
                ("/run/a/.", false),
                ("./run/a", false),
                ("/run/a/..b", true),
            ],
        );
    }

    #[test]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn an_abstract_name_is_compared_whole() {
        let rules = EgressRules::public_only().allow_unix("@agent").unwrap();
        check(
            &rules,
            &[
                ("@agent", true),
                ("@agent2", false),
                ("@agen", false),
                ("@@agent", false),
                ("agent", false),
                ("/agent", false),
            ],
        );
        // Such a name looks like a path, and is none.
        let rules = EgressRules::public_only().allow_unix("/").unwrap();
        check(&rules, &[("@/run/a", false), ("@run", false), ("/run/a", true), ("run/a", false)]);
    }

    #[test]
    fn any_restriction_denies_every_unix_domain_address() {
        let restricted = [
            EgressRules::deny_all(),
            EgressRules::public_only(),
            EgressRules::workers(),
            EgressRules::allow_all().deny_port(25),
            EgressRules::allow_all().deny_net("10.0.0.0/8").unwrap(),
            EgressRules::allow_all().deny_host("a.test").unwrap(),
            EgressRules::allow_all().deny_own_listeners(),
            EgressRules::allow_all().own_listener("127.0.0.1:80".parse().unwrap()),
            EgressRules::public_only().allow_net("0.0.0.0/0").unwrap(),
        ];
        for rules in restricted {
            check(&rules, &[("/run/a", false)]);
            check(&rules.allow_unix("/run").unwrap(), &[("/run/a", true), ("/var/a", false)]);
        }
    }

    #[test]
    fn a_rule_restricts_nothing_by_itself() {
        check(&EgressRules::allow_all(), &[("/run/a", true), ("a", true), ("/a/../b", true)]);
        let rules = EgressRules::allow_all().allow_unix("/run").unwrap();
        check(&rules, &[("/run/a", true), ("/var/a", true), ("a", true)]);
    }

    #[test]
    fn a_rule_is_an_absolute_path_or_a_name() {
        for prefix in ["", "run", "./run", "../run", "/run/..", "/run/../a", "/./run", "@", "/a\0"]
        {
            let error = EgressRules::deny_all().allow_unix(prefix).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{prefix:?}");
        }
        for prefix in ["/", "/run", "/run/", "//run", "/run/...", "@a", "@@", "@/a"] {
            assert!(EgressRules::deny_all().allow_unix(prefix).is_ok(), "{prefix:?}");
        }
    }

    #[test]
    fn the_message_names_the_address() {
        let address = UnixAddress::from_pathname("/run/a").unwrap();
        let error = EgressRules::deny_all().check_unix(&address, |_| None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no rule allows unix:/run/a: proxy request failed, cannot connect to the specified address \
             (unix:/run/a)"
        );
    }
}
