//! `NoProxy` against Go's own function, on random pairs of a list and a target.

use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sockeye::{NoProxy, SocketAddress};

use crate::support::{random_bytes, skip, spawn_call};

/// The number of pairs. `NO_PROXY_PAIRS` replaces it.
const PAIRS: usize = 100_000;
/// The bytes of randomness for each pair.
const SEED_BYTES: usize = 64;

#[test]
fn exceptions_match_as_in_go() {
    let test = "proxy::no_proxy::exceptions_match_as_in_go";
    let go = PathBuf::from(std::env::var_os("SOCKEYE_GO").unwrap_or_else(|| "go".into()));
    let env = |name| -> Option<String> {
        let output = Command::new(&go).args(["env", name]).stdin(Stdio::null()).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    // Before, names without a letter matched the ends of addresses too.
    let minor = |version: String| version.strip_prefix("go1.")?.split('.').next()?.parse().ok();
    if env("GOVERSION").and_then(minor).is_none_or(|minor: u32| minor < 27) {
        return skip(test, "no Go 1.27 or later: set SOCKEYE_GO");
    }
    let root = PathBuf::from(env("GOROOT").unwrap_or_default());
    let vendored = root.join("src/vendor/golang.org");
    if !vendored.join("x/net/http/httpproxy").is_dir() {
        return skip(test, "needs the sources of Go's library");
    }
    let pairs = std::env::var("NO_PROXY_PAIRS").map_or(PAIRS, |text| text.parse().unwrap());
    let program = build(&go, &vendored);
    let pairs: Vec<(String, String)> = (0..pairs).map(pair).collect();
    let mut input = String::new();
    for (list, target) in &pairs {
        let _ = writeln!(input, "{list}\t{target}");
    }
    let mut go = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = go.stdin.take().expect("it is piped");
    let writing = spawn_call(move || stdin.write_all(input.as_bytes()).expect("Go reads all"));
    let answers = go.wait_with_output().expect("it ends").stdout;
    writing.join();
    let answers: Vec<bool> =
        String::from_utf8(answers).expect("digits").lines().map(|it| it == "1").collect();
    assert_eq!(answers.len(), pairs.len());
    let direct = answers.iter().filter(|direct| **direct).count();
    assert!(direct * 20 > pairs.len(), "only {direct} of {} match", pairs.len());
    for ((list, target), expected) in pairs.iter().zip(answers) {
        let address: SocketAddress = target.parse().expect("the target is valid");
        let found = NoProxy::parse(list).matches(&address);
        assert_eq!(found, expected, "NO_PROXY={list:?}, {target}");
    }
}

/// Builds the program with the sources that Go's own library contains.
fn build(go: &Path, vendored: &Path) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no_proxy");
    // Go does not accept a link to its own sources.
    let source = folder.join("path/src");
    fs::create_dir_all(&source).unwrap();
    let copied = Command::new("cp").arg("-R").arg(vendored).arg(&source).status();
    assert!(copied.is_ok_and(|status| status.success()), "the sources can be copied");
    fs::write(folder.join("main.go"), include_str!("no_proxy.go")).unwrap();
    let built = Command::new(go)
        .args(["build", "-o", "no_proxy", "main.go"])
        .envs([("GOFLAGS", "-p=2"), ("GOTOOLCHAIN", "local"), ("GO111MODULE", "off")])
        .env("HOME", &folder)
        .env("GOPATH", folder.join("path"))
        .env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go"))
        .current_dir(&folder)
        .stdin(Stdio::null())
        .output()
        .expect("go runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    folder.join("no_proxy")
}

/// A source of choices.
struct Choices(std::vec::IntoIter<u8>);

impl Choices {
    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.0.next().unwrap_or(0)) % limit
    }

    fn of<'a>(&mut self, options: &[&'a str]) -> &'a str {
        options[self.below(options.len())]
    }
}

/// Returns a list and a target. They have parts in common, so that many match.
fn pair(seed: usize) -> (String, String) {
    let mut choices = Choices(random_bytes(seed as u64, SEED_BYTES).into_iter());
    let entries: Vec<String> = (0..1 + choices.below(3)).map(|_| entry(&mut choices)).collect();
    let list = entries.join(choices.of(&[",", ", ", " ,", ",,"]));
    let host = match choices.below(3) {
        0 => name(&mut choices),
        _ => match ip(&mut choices) {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        },
    };
    // Go always dials these directly.
    let host = if host.eq_ignore_ascii_case("localhost") { "a.b".to_owned() } else { host };
    (list, format!("{host}:{}", choices.of(&["80", "443"])))
}

fn entry(choices: &mut Choices) -> String {
    let ip = ip(choices);
    let port = choices.of(&["", "", "", ":80", ":443", ":", ":080", ":http"]);
    match choices.below(12) {
        0 => "*".repeat(choices.below(2)),
        1..=4 => format!("{}{}{port}", choices.of(&["", "", ".", "*.", "*", ".."]), name(choices)),
        5 => ip.to_string(),
        6 => format!("[{ip}]{port}"),
        7 => format!("{ip}{port}"),
        8..=10 => format!("{ip}/{}{}", choices.of(&["", "", "", "0", "+"]), choices.below(140)),
        _ => choices.of(&["[", "]:80", "a b", ":80", "1.2.3", "::", "/8", "a/8", "[a]:80"]).into(),
    }
}

fn name(choices: &mut Choices) -> String {
    let labels: Vec<_> = (0..1 + choices.below(3))
        .map(|_| choices.of(&["a", "b", "A", "com", "1", "localhost"]))
        .collect();
    labels.join(".")
}

/// Returns one of few addresses, none of them loopback.
fn ip(choices: &mut Choices) -> IpAddr {
    let last = choices.below(4) as u8;
    let v4 = Ipv4Addr::new(10, 0, 128 * choices.below(2) as u8, last);
    match choices.below(4) {
        0 | 1 => v4.into(),
        2 => v4.to_ipv6_mapped().into(),
        _ => Ipv6Addr::new(0x2001, 0xdb8, choices.below(2) as u16, 0, 0, 0, 0, last.into()).into(),
    }
}
