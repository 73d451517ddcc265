//! A minimal DER reader (X.690), which finds the issuer and subject of a certificate.
//!
//! The input comes from an untrusted peer, so anything unexpected ends the search with `None`. The names only
//! explain why a certificate was refused. `binding` uses the reader too.

/// The encoded names of a certificate; two names are equal if their bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CertificateNames<'a> {
    pub(super) issuer: &'a [u8],
    pub(super) subject: &'a [u8],
}

impl<'a> CertificateNames<'a> {
    /// Extracts the names from an X.509 certificate (RFC 5280, section 4.1).
    pub(super) fn of(certificate: &'a [u8]) -> Option<Self> {
        let mut inner = behind_serial_number(certificate)?;
        let _algorithm = inner.expect(SEQUENCE)?;
        let issuer = inner.expect(SEQUENCE)?;
        let _validity = inner.expect(SEQUENCE)?;
        let subject = inner.expect(SEQUENCE)?;
        Some(CertificateNames { issuer, subject })
    }

    pub(super) fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }
}

/// Returns a reader of the fields of an X.509 certificate of any version, behind its serial number (RFC 5280, section
/// 4.1).
pub(super) fn behind_serial_number(certificate: &[u8]) -> Option<Reader<'_>> {
    let mut outer = Reader(Reader(certificate).expect(SEQUENCE)?);
    let mut inner = Reader(outer.expect(SEQUENCE)?);
    let (tag, _) = inner.next()?;
    if tag == VERSION {
        inner.expect(INTEGER)?;
    } else if tag != INTEGER {
        return None;
    }
    Some(inner)
}

/// Returns the identifier and the value of an extension (RFC 5280, section 4.1).
pub(super) fn extension_parts(extension: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut fields = Reader(extension);
    let identifier = fields.expect(OBJECT_IDENTIFIER)?;
    let (mut tag, mut value) = fields.next()?;
    if tag == BOOLEAN {
        (tag, value) = fields.next()?;
    }
    (tag == OCTET_STRING).then_some((identifier, value))
}

/// Returns a name for messages: the common name, else the organisation, else the organisational unit. It is
/// printable and at most [`MAX_TEXT`] characters long.
pub(super) fn display_name(name: &[u8]) -> Option<String> {
    [COMMON_NAME, ORGANISATION, UNIT].into_iter().find_map(|wanted| attribute(name, wanted))
}

/// Makes a peer's text safe for a message: replaces unusual characters with `?` and truncates it to [`MAX_TEXT`]
/// characters.
pub(super) fn sanitize_text(text: &str) -> String {
    let mut clean: String = text
        .chars()
        .take(MAX_TEXT)
        .map(|c| if c.is_alphanumeric() || c == ' ' || c.is_ascii_punctuation() { c } else { '?' })
        .collect();
    if text.chars().nth(MAX_TEXT).is_some() {
        clean.pop();
        clean.push('…');
    }
    clean
}

/// Returns the last value of this attribute, which is the most specific one.
fn attribute(name: &[u8], wanted: [u8; 3]) -> Option<String> {
    let mut found = None;
    let mut sets = Reader(name);
    while let Some((SET, set)) = sets.next() {
        let mut pairs = Reader(set);
        while let Some((SEQUENCE, pair)) = pairs.next() {
            let mut pair = Reader(pair);
            if pair.expect(OBJECT_IDENTIFIER) == Some(&wanted) {
                found = pair.next().and_then(|(tag, value)| string(tag, value)).or(found);
            }
        }
    }
    found
}

fn string(tag: u8, value: &[u8]) -> Option<String> {
    // The cut bounds the work. It may split a character, which from_utf8_lossy then replaces.
    let text = match tag {
        UTF8_STRING | PRINTABLE_STRING | IA5_STRING => {
            String::from_utf8_lossy(&value[..value.len().min(4 * MAX_TEXT + 4)]).into_owned()
        }
        // T.61 by definition, but certificate authorities put Latin-1 there.
        TELETEX_STRING => value.iter().take(MAX_TEXT + 1).map(|&byte| char::from(byte)).collect(),
        BMP_STRING => {
            let units = value.chunks_exact(2).take(MAX_TEXT + 1).map(|pair| [pair[0], pair[1]]);
            char::decode_utf16(units.map(u16::from_be_bytes))
                .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect()
        }
        _ => return None,
    };
    let text = sanitize_text(text.trim());
    (!text.is_empty()).then_some(text)
}

/// Returns the length of the sequence at the beginning, with its header.
pub(super) fn encoded_length(bytes: &[u8]) -> Option<usize> {
    let mut reader = Reader(bytes);
    reader.expect(SEQUENCE).map(|_| bytes.len() - reader.0.len())
}

/// A reader over DER values; holds the unread bytes.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// Reads the tag and the content of the next value.
    pub(super) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], mut rest) = self.0.split_first_chunk()?;
        let mut length = usize::from(first);
        if first >= LONG_FORM {
            let bytes = usize::from(first - LONG_FORM);
            // Zero is the indefinite form, which DER forbids. No certificate needs more than three length bytes.
            if bytes == 0 || bytes > 3 {
                return None;
            }
            let (digits, after) = rest.split_at_checked(bytes)?;
            length = digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit));
            rest = after;
        }
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    pub(super) fn expect(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.next().and_then(|(tag, content)| (tag == wanted).then_some(content))
    }
}

/// The maximum length of a name in a message, in characters.
const MAX_TEXT: usize = 64;

const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const TELETEX_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;
const BMP_STRING: u8 = 0x1e;
pub(super) const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// Explicitly tagged with 0.
pub(super) const VERSION: u8 = 0xa0;
/// The long form of a length: the low seven bits give the number of length bytes that follow.
const LONG_FORM: u8 = 0x80;

// Attribute types (RFC 5280, appendix A): 2.5.4.3, 2.5.4.10 and 2.5.4.11.
const COMMON_NAME: [u8; 3] = [0x55, 4, 3];
const ORGANISATION: [u8; 3] = [0x55, 4, 10];
const UNIT: [u8; 3] = [0x55, 4, 11];

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

    use super::super::testing::Authority;
    use super::*;

    #[test]
    fn names_are_found_in_a_real_certificate() {
        let authority = Authority::new("The Authority");
        let leaf = authority.leaf(["a.test"]);
        let (own, root) = (leaf.names(), authority.names());
        assert!(root.is_self_issued() && !own.is_self_issued());
        assert_eq!(own.issuer, root.subject);
        assert_eq!(display_name(own.issuer).as_deref(), Some("The Authority"));
        assert_eq!(display_name(own.subject).as_deref(), Some("a.test"));
    }

    #[test]
    fn a_name_is_its_common_name_or_organisation_or_unit() {
        let utf8 = |text: &str| DnValue::Utf8String(text.to_owned());
        let both = [(DnType::OrganizationName, utf8("Org")), (DnType::CommonName, utf8("Name"))];
        check(&both, Some("Name"));
        check(&both[..1], Some("Org"));
        check(&[(DnType::OrganizationalUnitName, utf8("Unit"))], Some("Unit"));
        check(&[(DnType::CountryName, utf8("XX"))], None);
        check(&[(DnType::CommonName, utf8(" "))], None);
        check(&[], None);
        let bmp = rcgen::string::BmpString::try_from("Bücher ÆØ").unwrap();
        check(&[(DnType::CommonName, DnValue::BmpString(bmp))], Some("Bücher ÆØ"));
        let teletex = rcgen::string::TeletexString::try_from("Tele").unwrap();
        check(&[(DnType::CommonName, DnValue::TeletexString(teletex))], Some("Tele"));
    }

    #[test]
    fn a_hostile_name_is_truncated_and_sanitised() {
        let utf8 = |text: &str| [(DnType::CommonName, DnValue::Utf8String(text.to_owned()))];
        check(&utf8("a\nb\x1b[31m\u{202e}\0"), Some("a?b?[31m??"));
        let cut = "x".repeat(63) + "…";
        check(&utf8(&"x".repeat(65)), Some(&cut));
        check(&utf8(&"x".repeat(10_000)), Some(&cut));
        check(&utf8(&"x".repeat(64)), Some(&"x".repeat(64)));
        check(&utf8(&"🦀".repeat(1_000)), Some(&("?".repeat(63) + "…")));
    }

    #[test]
    fn a_truncated_certificate_has_no_names() {
        let authority = Authority::new("Cut");
        let leaf = authority.leaf(["a.test"]);
        for length in 0..leaf.der().len() {
            assert_eq!(CertificateNames::of(&leaf.der()[..length]), None, "cut at {length}");
        }
        let longer = [leaf.der().as_ref(), &[0]].concat();
        assert_eq!(CertificateNames::of(&longer), Some(leaf.names()), "trailing bytes are ignored");
    }

    #[test]
    fn corrupted_certificates_do_not_panic() {
        let der = Authority::new("Changed").leaf(["a.test"]).der().to_vec();
        let mut random = fastrand::Rng::with_seed(1);
        let read = |der: &[u8]| {
            CertificateNames::of(der).map(|names| (display_name(names.issuer), names.subject.len()))
        };
        for place in 0..der.len() {
            for value in [0, 1, 0x30, 0x31, 0x7f, 0x80, 0x81, 0x83, 0x84, 0xff] {
                let mut changed = der.clone();
                changed[place] = value;
                read(&changed);
            }
        }
        for _ in 0..20_000 {
            let mut changed = der.clone();
            for _ in 0..random.usize(1..8) {
                let place = random.usize(..changed.len());
                changed[place] = random.u8(..);
            }
            changed.truncate(random.usize(..=changed.len()));
            if let Some((Some(text), _)) = read(&changed) {
                assert!(text.chars().count() <= MAX_TEXT && !text.contains(char::is_control));
            }
        }
    }

    #[test]
    fn only_lengths_that_fit_are_read() {
        let next = |bytes: &'static [u8]| Reader(bytes).next();
        assert_eq!(next(&[2, 1, 7, 9]), Some((2, &[7][..])));
        assert_eq!(next(&[2, 0x81, 1, 7]), Some((2, &[7][..])));
        assert_eq!(next(&[2, 0x83, 0, 0, 1, 7]), Some((2, &[7][..])));
        for bytes in [&[][..], &[2], &[2, 1], &[2, 0x80, 0, 0], &[2, 0x81], &[2, 0x82, 0]] {
            assert_eq!(next(bytes), None, "{bytes:?}");
        }
        assert_eq!(next(&[2, 0x84, 0, 0, 0, 1, 7]), None);
        assert_eq!(next(&[2, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(next(&[2, 0x83, 0xff, 0xff, 0xff, 0]), None);
    }

    fn check(name: &[(DnType, DnValue)], expected: Option<&str>) {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in name {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let names = CertificateNames::of(certificate.der()).expect("it has names");
        assert_eq!(display_name(names.subject).as_deref(), expected);
    }
}
