//! Starts nginx with a test page.

use std::fs;
use std::path::Path;

use super::harness::{Scratch, Server, bounded, start, text};

/// Starts nginx with these files and these server blocks for its ports.
pub fn start_nginx<const N: usize>(
    nginx: &Path,
    files: Scratch,
    servers: impl Fn([u16; N]) -> String,
) -> Server {
    // nginx logs this line after it has bound its ports.
    start(files, "event method", |root, ports| {
        let config = root.join("nginx.conf");
        let (root, servers) = (root.display(), servers(ports));
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {root}/{kind};\n"))
            .concat();
        let text = format!(
            "daemon off; master_process off; pid {root}/pid; error_log stderr info;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; root {root}; {temporary}\n{servers}\n}}\n"
        );
        fs::write(&config, text).unwrap();
        let mut command = bounded(nginx);
        command.arg("-c").arg(&config).args(["-e", "stderr"]);
        command
    })
}

/// Returns a page that takes many reads.
pub fn page() -> String {
    (0..20_000).map(|line| format!("line {line}\n")).collect()
}

pub fn check_page(answer: &[u8]) {
    let answer = text(answer);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{:.300}", answer);
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(body == page(), "the body of {} bytes differs from the page", body.len());
}
