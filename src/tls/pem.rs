//! Reads certificates and private keys from PEM (RFC 7468), with errors that name the faulty part.

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use self::sections::{Kind, Section, sections};
pub(super) use self::trust::Purpose;
use super::certificate_message::own_fault;
use super::subject_key::SubjectKey;
use crate::error::{Error, Result};

mod der_kind;
mod key_fault;
mod mistaken;
mod sections;
mod trust;

/// Parses all certificates of the text. There is at least one, and each can be a root for this purpose.
pub(super) fn roots(text: &[u8], purpose: Purpose) -> Result<Vec<CertificateDer<'static>>> {
    let sections = certificate_sections(text)?;
    let refused = (1..).zip(&sections).find(|(_, it)| !trust::allows(&it.settings, purpose));
    if let Some((place, _)) = refused {
        let name = purpose.name();
        return Err(Error::invalid_options(format!(
            "certificate {place} of the PEM text is marked as not trusted for {name}"
        )));
    }
    let roots: Vec<_> =
        sections.into_iter().map(|section| CertificateDer::from(section.content)).collect();
    for (place, root) in (1..).zip(&roots) {
        if let Err(error) = RootCertStore::empty().add(root.clone()) {
            let fault = own_fault(&error);
            return Err(Error::invalid_options(format!(
                "certificate {place} of the PEM text can't be used as a root: {fault}"
            )));
        }
    }
    Ok(roots)
}

/// Parses all certificates of the text, which need not be roots. There is at least one.
pub(super) fn servers(text: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let servers = certificates(text)?;
    for (place, server) in (1..).zip(&servers) {
        if SubjectKey::of(server).is_none() {
            return Err(Error::invalid_options(format!(
                "certificate {place} of the PEM text can't be used: it is not well-formed"
            )));
        }
    }
    Ok(servers)
}

/// A certificate chain of this side, leaf first and not empty, and its private key.
#[derive(PartialEq, Eq)]
pub(super) struct ChainAndKey {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl ChainAndKey {
    pub(super) fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self> {
        Ok(ChainAndKey { chain: certificates(chain)?, key: private_key(key)? })
    }

    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(super) fn leaf(&self) -> &CertificateDer<'static> {
        self.chain.first().expect("the chain is not empty")
    }

    /// Converts to the rustls type. Parses the key and checks that it belongs to the leaf, which messages call `what`.
    pub(super) fn certified_key(
        &self,
        provider: &CryptoProvider,
        what: &str,
    ) -> Result<CertifiedKey> {
        let key = provider.key_provider.load_private_key(self.key.clone_key()).map_err(|_| {
            let fault = key_fault::explain(&self.key);
            Error::invalid_options(format!("the private key can't be used: {fault}"))
        })?;
        // Not rustls' own comparison, because it parses no certificates of version 1. The peer decides on them.
        let belongs = |certificate: &CertificateDer<'_>| match key.public_key() {
            Some(public) => {
                SubjectKey::of(certificate).is_some_and(|it| it.encoded == public.as_ref())
            }
            // The provider does not tell.
            None => true,
        };
        if !belongs(self.leaf()) {
            let owner = (2..).zip(&self.chain[1..]).find(|(_, other)| belongs(other));
            let order = match owner {
                Some((place, _)) => {
                    format!(", but to certificate {place}: the leaf must come first")
                }
                None => String::new(),
            };
            return Err(Error::invalid_options(format!(
                "the private key does not belong to {what}{order}"
            )));
        }
        Ok(CertifiedKey::new(self.chain.clone(), key))
    }
}

/// Parses all revocation lists of the text. There is at least one.
pub(super) fn revocation_lists(text: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>> {
    let sections = sections(text)?;
    if sections.iter().all(|section| section.kind != Kind::RevocationList) {
        return Err(Error::invalid_options(mistaken::no_revocation_list(text, &sections)));
    }
    let found = sections.into_iter().filter(|section| section.kind == Kind::RevocationList);
    Ok(found.map(|section| CertificateRevocationListDer::from(section.content)).collect())
}

/// Parses all certificates of the text. Keys, revocation lists and parameters may be beside them.
fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let sections = certificate_sections(text)?;
    Ok(sections.into_iter().map(|section| CertificateDer::from(section.content)).collect())
}

/// Parses all certificates of a system's text that its administrator trusts for servers.
#[cfg(any(feature = "native-roots", feature = "platform-verifier"))]
pub(super) fn trusted(text: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let mut sections = certificate_sections(text)?;
    sections.retain(|section| trust::allows(&section.settings, Purpose::Servers));
    Ok(sections.into_iter().map(|section| CertificateDer::from(section.content)).collect())
}

/// Finds the certificates of the text, of which there is at least one.
fn certificate_sections(text: &[u8]) -> Result<Vec<Section>> {
    let mut sections = sections(text)?;
    if sections.iter().any(|section| section.kind == Kind::Pkcs7) {
        return Err(Error::invalid_options(mistaken::PKCS7));
    }
    if sections.iter().all(|section| section.kind != Kind::Certificate) {
        return Err(Error::invalid_options(mistaken::no_certificate(text, &sections)));
    }
    sections.retain(|section| section.kind == Kind::Certificate);
    Ok(sections)
}

/// Returns whether the text seems to have a certificate, well-formed or not.
#[cfg(any(feature = "native-roots", feature = "platform-verifier"))]
pub(super) fn mentions_certificate(text: &[u8]) -> bool {
    const LONGEST_LABEL: usize = 24;
    let contains = |text: &[u8], word: &[u8]| {
        text.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
    };
    let begin = b"BEGIN ";
    let places = text.windows(begin.len()).enumerate();
    places.filter(|(_, window)| window.eq_ignore_ascii_case(begin)).any(|(place, _)| {
        let label = &text[place..text.len().min(place + begin.len() + LONGEST_LABEL)];
        contains(label, b"CERTIFICATE") && !contains(label, b"REQUEST")
    })
}

/// Parses the one private key of the text. The errors quote nothing of the text, because it is a secret.
fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>> {
    let sections = sections(text)?;
    let keys = sections.iter().filter(|section| section.kind.is_private_key()).count();
    if keys > 1 {
        return Err(Error::invalid_options(format!(
            "the PEM text holds {keys} private keys: pass the one that belongs to the certificate"
        )));
    }
    let fault = mistaken::no_key(text, &sections);
    let found = sections.into_iter().find_map(|Section { kind, content, .. }| match kind {
        Kind::Pkcs8 => Some(PrivateKeyDer::Pkcs8(content.into())),
        Kind::Pkcs1 => Some(PrivateKeyDer::Pkcs1(content.into())),
        Kind::Sec1 => Some(PrivateKeyDer::Sec1(content.into())),
        _ => None,
    });
    found.ok_or_else(|| Error::invalid_options(fault))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::{Authority, encode_base64};

    /// Returns the base64 of a section's lines, without line ends.
    fn base64(pem: &str) -> String {
        pem.lines().filter(|line| !line.starts_with('-')).collect()
    }

    #[track_caller]
    fn certificates_of(text: impl AsRef<[u8]>) -> usize {
        certificates(text.as_ref()).map(|found| found.len()).expect("the text is well-formed")
    }

    #[track_caller]
    fn refused<T>(result: Result<T>, part: &str) {
        let message = result.err().expect("the text is refused").to_string();
        assert!(message.contains(part), "{message}");
    }

    #[test]
    fn certificates_are_read_as_people_have_them() {
        let (a, b) = (Authority::new("a").pem(), Authority::new("b").pem());
        let lines = base64(&a);
        let one_line = format!("-----BEGIN CERTIFICATE-----{lines}-----END CERTIFICATE-----");
        let texts = [
            ("as it should be", a.clone(), 1),
            ("two", a.clone() + &b, 2),
            ("a byte order mark", format!("\u{feff}{a}"), 1),
            ("CRLF", (a.clone() + &b).replace('\n', "\r\n"), 2),
            ("CR", (a.clone() + &b).replace('\n', "\r"), 2),
            ("blanks before each line", format!("    {}", a.replace('\n', "\n    ")), 1),
            ("blanks behind each line", a.replace('\n', " \t\n"), 1),
            ("blank lines", a.replace('\n', "\n\n"), 1),
            ("no line end between two", a.trim_end().to_owned() + &b, 2),
            ("no line end at all", one_line.clone(), 1),
            ("blanks for line ends", a.replace('\n', " "), 1),
            ("no line end at the end", a.trim_end().to_owned(), 1),
            ("X509 CERTIFICATE", a.replace("CERTIFICATE", "X509 CERTIFICATE"), 1),
            ("TRUSTED CERTIFICATE", a.replace("CERTIFICATE", "TRUSTED CERTIFICATE"), 1),
            ("text of openssl x509 -text", format!("Certificate:\n    Data: 1\n{a}"), 1),
            ("bag attributes", format!("Bag Attributes\n    friendlyName: a\n{a}"), 1),
            ("headers", one_line.replacen("-----M", "-----\nX: y\n\nM", 1), 1),
        ];
        let whole = certificates(a.as_bytes()).unwrap();
        for (what, text, count) in texts {
            let found = certificates(text.as_bytes());
            let found = found.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(found.len(), count, "{what}");
            assert_eq!(found[0], whole[0], "{what}");
        }
    }

    #[test]
    fn what_openssl_adds_to_a_trusted_certificate_is_dropped() {
        let der = certificates(Authority::new("a").pem().as_bytes()).unwrap().remove(0);
        let mut with_settings = der.to_vec();
        with_settings.extend([0x30, 0x03, 0x0c, 0x01, b'a']);
        let text = format!(
            "-----BEGIN TRUSTED CERTIFICATE-----\n{}\n-----END TRUSTED CERTIFICATE-----\n",
            encode_base64(&with_settings)
        );
        assert_eq!(certificates(text.as_bytes()).unwrap(), [der]);
    }

    #[test]
    fn keys_lists_and_parameters_may_stand_beside_certificates() {
        let authority = Authority::new("a");
        let leaf = authority.leaf(["a.test"]);
        let parameters =
            "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        let text = parameters.to_owned() + &leaf.key_pem() + &leaf.pem() + &authority.pem();
        assert_eq!(certificates_of(&text), 2);
        assert!(private_key(text.as_bytes()).is_ok());
        let two_keys = text.clone() + &leaf.key_pem();
        refused(private_key(two_keys.as_bytes()), "holds 2 private keys");
    }

    #[test]
    fn a_malformed_section_is_named_and_never_passed_over() {
        let a = Authority::new("a").pem();
        let begin = "-----BEGIN CERTIFICATE-----";
        for (text, part) in [
            (
                a.clone() + &a.replace(begin, "----BEGIN CERTIFICATE-----"),
                "1 of the 2 BEGIN lines of the PEM text is malformed",
            ),
            (
                a.clone() + &a.replace(begin, "-----begin certificate-----"),
                "1 of the 2 BEGIN lines of the PEM text is malformed",
            ),
            (
                a.clone() + &a.replace(begin, "–––BEGIN CERTIFICATE–––"),
                "1 of the 2 BEGIN lines of the PEM text is malformed",
            ),
            (
                a.replace("-----BEGIN CERTIFICATE", "BEGIN CERTIFICATE"),
                "the BEGIN line of the PEM text is malformed",
            ),
            (a.replace("CERTIFICATE-----\nM", "CERTIFICATE\nM"), "the BEGIN line of PEM section 1"),
            (a.clone() + begin, "certificate 2 of the PEM text is broken: its END line is missing"),
            (begin.to_owned() + &a, "certificate 1 of the PEM text is broken: its END line"),
            (a.replace("END CERTIFICATE", "END X509 CRL"), "another label"),
            (a.replace("CERTIFICATE", "SECRET"), "section 1 has the unknown label \"SECRET\""),
            (a.replace("CERTIFICATE", "secret"), "section 1 has an unknown label"),
            (
                format!("{begin}\n-----END CERTIFICATE-----"),
                "certificate 1 of the PEM text is broken: it is empty",
            ),
            (a.replace("CERTIFICATE", "PKCS7"), "openssl pkcs7"),
            (a.replace("CERTIFICATE", "CERTIFICATE REQUEST"), "a CA has yet to sign"),
        ] {
            refused(certificates(text.as_bytes()), part);
        }
    }

    #[test]
    fn a_text_of_another_kind_is_named() {
        let a = Authority::new("a").pem();
        let der = certificates(a.as_bytes()).unwrap().remove(0).to_vec();
        let utf16 = a.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let pkcs12 = [0x30, 0x05, 0x02, 0x01, 0x03, 0x05, 0x00].to_vec();
        let pkcs7 = [&[0x30, 0x0b, 0x06, 0x09][..], &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 7, 2]];
        for (text, part) in [
            (der, "it is a certificate in DER: convert it with `openssl x509 -inform der"),
            (utf16.clone(), "it is UTF-16"),
            ([&[0xFF, 0xFE][..], &utf16].concat(), "it is UTF-16"),
            (pkcs12, "it is PKCS #12"),
            (pkcs7.concat(), "it is PKCS #7 in DER"),
            (vec![0xFE, 0xED, 0xFE, 0xED, 0, 0], "a Java key store"),
            (b"/etc/ssl/certs/ca.pem".to_vec(), "it is a path"),
            (b"C:\\certs\\ca.cer\n".to_vec(), "it is a path"),
            (b"ca.crt".to_vec(), "it is a path"),
            (b"".to_vec(), "it is empty"),
            (b" \r\n".to_vec(), "it is blank"),
            (b"ssh-ed25519 AAAA me".to_vec(), "a public key of OpenSSH"),
            (b"PuTTY-User-Key-File-3: ssh-rsa".to_vec(), "a key of PuTTY"),
        ] {
            refused(certificates(&text), part);
        }
    }

    #[test]
    fn a_key_that_cannot_be_used_is_named() {
        let key = Authority::new("a").leaf(["a.test"]).key_pem();
        let label = |label: &str| key.replace("PRIVATE KEY", label);
        let header = "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n";
        let old = label("RSA PRIVATE KEY").replacen("KEY-----\n", header, 1);
        for (text, part) in [
            (label("ENCRYPTED PRIVATE KEY"), "encrypted"),
            (old, "encrypted"),
            (label("DSA PRIVATE KEY"), "a DSA key"),
            (label("OPENSSH PRIVATE KEY"), "the format of OpenSSH"),
            (label("PUBLIC KEY"), "it holds a public key"),
            ("key.pem".to_owned(), "it is a path"),
        ] {
            refused(private_key(text.as_bytes()), part);
        }
        let secret = base64(&key);
        let joined = format!("-----BEGIN PRIVATE KEY {secret}-----\n");
        let message = private_key(joined.as_bytes()).err().unwrap().to_string();
        assert!(!message.contains(&secret[..8]), "{message}");
    }
}
