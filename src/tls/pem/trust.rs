//! The settings of OpenSSL's trusted certificates: the purposes for which a root may be used, or not.

use crate::tls::der::{OBJECT_IDENTIFIER, Reader, SEQUENCE};

/// What a root verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Purpose {
    Servers,
    Clients,
}

impl Purpose {
    /// Returns the identifier of the purpose (RFC 5280, section 4.2.1.12).
    fn identifier(self) -> &'static [u8] {
        match self {
            Purpose::Servers => &[0x2b, 6, 1, 5, 5, 7, 3, 1],
            Purpose::Clients => &[0x2b, 6, 1, 5, 5, 7, 3, 2],
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Purpose::Servers => "servers",
            Purpose::Clients => "clients",
        }
    }
}

const ANY_PURPOSE: &[u8] = &[0x55, 29, 37, 0];

/// Returns whether the settings are one sequence.
pub(super) fn is_well_formed(settings: &[u8]) -> bool {
    let mut reader = Reader(settings);
    reader.expect(SEQUENCE).is_some() && reader.0.is_empty()
}

/// Returns whether the settings let a certificate be a root for a purpose. A certificate without settings may be.
pub(super) fn allows(settings: &[u8], purpose: Purpose) -> bool {
    let Some(content) = Reader(settings).expect(SEQUENCE) else { return settings.is_empty() };
    let concerns = |list: &[u8]| {
        let mut list = Reader(list);
        std::iter::from_fn(|| list.expect(OBJECT_IDENTIFIER))
            .any(|it| it == purpose.identifier() || it == ANY_PURPOSE)
    };
    let mut parts = Reader(content);
    while let Some((tag, list)) = parts.next() {
        let is_refused = match tag {
            SEQUENCE => !concerns(list),
            REJECTED => concerns(list),
            // A name for people, and other settings.
            _ => false,
        };
        if is_refused {
            return false;
        }
    }
    true
}

/// Implicitly tagged with 0.
const REJECTED: u8 = 0xa0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::pem::roots;
    use crate::tls::testing::{Authority, encode_base64};

    #[test]
    fn a_root_is_used_only_for_the_purposes_that_its_settings_allow() {
        let root = Authority::new("settings");
        let text = |label: &str, settings: &[u8]| {
            let content = encode_base64(&[root.der(), settings].concat());
            format!("-----BEGIN {label}-----\n{content}\n-----END {label}-----\n")
        };
        let verdict = |text: &str, purpose| match roots(text.as_bytes(), purpose) {
            Ok(_) => String::from("accepted"),
            Err(error) => error.to_string(),
        };
        let list = |tag: u8, identifiers: &[&[u8]]| {
            let parts = identifiers.iter().flat_map(|it| {
                [&[OBJECT_IDENTIFIER, u8::try_from(it.len()).unwrap()], *it].concat()
            });
            let content: Vec<u8> = parts.collect();
            [&[tag, u8::try_from(content.len()).unwrap()], &*content].concat()
        };
        let settings = |parts: &[Vec<u8>]| {
            let content = parts.concat();
            [&[SEQUENCE, u8::try_from(content.len()).unwrap()], &*content].concat()
        };
        let (servers, clients) = (Purpose::Servers.identifier(), Purpose::Clients.identifier());
        let mail: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 4];
        let alias = || vec![0x0c, 1, b'a'];
        for (settings, for_servers, for_clients) in [
            (Vec::new(), true, true),
            (settings(&[]), true, true),
            (settings(&[alias()]), true, true),
            (settings(&[list(SEQUENCE, &[servers])]), true, false),
            (settings(&[list(SEQUENCE, &[clients, servers])]), true, true),
            (settings(&[list(SEQUENCE, &[ANY_PURPOSE])]), true, true),
            (settings(&[list(SEQUENCE, &[mail]), alias()]), false, false),
            (settings(&[list(REJECTED, &[servers])]), false, true),
            (settings(&[list(REJECTED, &[mail])]), true, true),
            (settings(&[list(REJECTED, &[ANY_PURPOSE])]), false, false),
            (settings(&[list(SEQUENCE, &[servers]), list(REJECTED, &[servers])]), false, false),
        ] {
            let text = text("TRUSTED CERTIFICATE", &settings);
            for (purpose, allowed) in
                [(Purpose::Servers, for_servers), (Purpose::Clients, for_clients)]
            {
                let name = purpose.name();
                let refused =
                    format!("certificate 1 of the PEM text is marked as not trusted for {name}");
                let expected = if allowed { "accepted" } else { &refused };
                assert_eq!(verdict(&text, purpose), expected, "{settings:x?}");
            }
        }
        let broken = "certificate 1 of the PEM text is broken: other bytes follow it";
        for (label, settings) in [
            ("CERTIFICATE", settings(&[])),
            ("X509 CERTIFICATE", vec![0]),
            ("TRUSTED CERTIFICATE", vec![0]),
            ("TRUSTED CERTIFICATE", [settings(&[]), vec![0]].concat()),
        ] {
            assert_eq!(verdict(&text(label, &settings), Purpose::Servers), broken);
        }
    }
}
