//! Describes a connection on standard error.

use std::io::{self, Write};

use sockeye::{SocketInfo, Timings};

use crate::exit::say;

/// Reports both addresses and the time that connecting took.
pub fn connected(info: &SocketInfo) {
    #[cfg(unix)]
    if let Some(path) = info.unix_address() {
        let process = info.peer_credentials().and_then(|peer| Some((peer.uid, peer.pid?)));
        let process = process.map_or_else(String::new, |(uid, pid)| {
            format!(", where process {pid} of user {uid} listens")
        });
        say(format_args!("connected to {path:?}{process} ({})", took(info.timings())));
        return;
    }
    let shown = |address: Option<_>| match address {
        Some(address) => format!("{address}"),
        None => String::from("an unknown address"),
    };
    let remote = match info.proxy_address() {
        Some(proxy) => format!("{} through the proxy {proxy}", info.requested()),
        None => shown(info.remote_address()),
    };
    let local = shown(info.local_address());
    say(format_args!("connected to {remote} from {local} ({})", took(info.timings())));
}

/// Reports the negotiated TLS parameters.
pub fn secured(info: &SocketInfo) {
    let Some(tls) = info.tls() else { return };
    let (suite, code) = (tls.cipher_suite_name(), tls.cipher_suite());
    let alpn =
        info.alpn().map_or_else(|| String::from("none"), |name| name.escape_ascii().to_string());
    let sizes: Vec<String> = tls.peer_certificates().map(|der| der.len().to_string()).collect();
    say(format_args!("  protocol      {}", tls.version()));
    say(format_args!("  cipher suite  {suite} ({code:#06x})"));
    say(format_args!("  ALPN          {alpn}"));
    say(format_args!("  session       {}", if tls.resumed() { "resumed" } else { "new" }));
    say(format_args!("  handshake     {:.1?}", info.timings().handshake));
    say(format_args!("  certificates  {}, of {} bytes", sizes.len(), sizes.join(", ")));
}

/// Prints the server's certificates as PEM, its own first.
pub fn certificates(info: &SocketInfo) {
    let Some(tls) = info.tls() else { return };
    let text: String = tls.peer_certificates().map(pem).collect();
    // Standard error may be closed: ignore the error.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Encodes a certificate as PEM (RFC 7468).
fn pem(der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    // 48 bytes make a line of 64 characters; 3 bytes make a group of 4.
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let mut bytes = [0; 4];
            bytes[1..=group.len()].copy_from_slice(group);
            let bits = u32::from_be_bytes(bytes);
            for place in 0..4 {
                let index = bits >> (18 - 6 * place) & 63;
                let is_padding = place > group.len();
                text.push(if is_padding { '=' } else { char::from(ALPHABET[index as usize]) });
            }
        }
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}

/// Formats the durations of the connection steps.
pub fn took(timings: Timings) -> String {
    let Timings { resolve, connect, .. } = timings;
    if resolve.is_zero() {
        return format!("no lookup, connect {connect:.1?}");
    }
    format!("lookup {resolve:.1?}, connect {connect:.1?}")
}
