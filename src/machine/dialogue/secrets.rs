//! What no text may repeat of a proxy's answer.

use std::sync::Arc;

use crate::proxy::Proxy;

/// The length of a part of a secret that a text may not repeat, in bytes. Less is no secret any more, and would be in
/// nearly every text.
const PART: usize = 4;

/// The username, the password and the values of headers that the proxy gets. A peer may send back what it got.
#[derive(Clone, Default)]
pub(super) struct Secrets(Arc<[Box<[u8]>]>);

impl Secrets {
    pub(super) fn of(proxy: &Proxy) -> Self {
        let mut secrets = Vec::new();
        if let Some(credentials) = proxy.own_credentials() {
            let basic = credentials.basic();
            secrets.extend([credentials.username(), credentials.password()].map(to_secret));
            secrets.push(to_secret(after_scheme(&basic)));
        }
        for (name, value) in proxy.headers() {
            let is_authorization = name.to_ascii_lowercase().ends_with("authorization");
            secrets.push(to_secret(if is_authorization { after_scheme(value) } else { value }));
        }
        secrets.retain(|secret| !secret.is_empty());
        Secrets(secrets.into())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether a text has a part of a secret, in any case.
    pub(super) fn are_in(&self, text: &[u8]) -> bool {
        let text = text.to_ascii_lowercase();
        self.0.iter().any(|secret| {
            let length = secret.len().min(PART);
            let mut parts: Vec<&[u8]> = text.windows(length).collect();
            parts.sort_unstable();
            secret.windows(length).any(|part| parts.binary_search(&part).is_ok())
        })
    }
}

fn to_secret(text: &str) -> Box<[u8]> {
    text.trim().to_ascii_lowercase().into_bytes().into()
}

/// Returns what follows the name of the scheme, which is public.
fn after_scheme(value: &str) -> &str {
    value.trim().split_once(' ').map_or(value, |(_, secret)| secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_secret_is_found_in_any_case() {
        let proxy = Proxy::http("proxy.test:1")
            .and_then(|proxy| proxy.credentials("Al", "pa55word"))
            .and_then(|proxy| proxy.header("Proxy-Authorization", "Bearer t0ken"))
            .and_then(|proxy| proxy.header("X-Key", "v4lue"))
            .unwrap();
        let secrets = Secrets::of(&proxy);
        for (text, expected) in [
            ("al", true),
            ("fatal", true),
            ("pa5", false),
            ("pa55", true),
            ("xx 5WOR", true),
            ("w-o-r-d", false),
            ("Bearer", false),
            ("0ken", true),
            ("V4LU", true),
            ("X-Key", false),
            // Of the Basic value.
            ("QWw6", true),
            ("", false),
        ] {
            assert_eq!(secrets.are_in(text.as_bytes()), expected, "{text}");
        }
        let none = Secrets::of(&Proxy::http("proxy.test:1").unwrap());
        assert!(none.is_empty() && !none.are_in(b"anything"));
    }
}
