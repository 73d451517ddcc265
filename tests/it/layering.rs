//! Imports point downward only, and each system crate is named in its own layer only.
//! The tests read the sources as text. They skip comments, literals and code for unit tests only, resolve `use` trees,
//! and treat paths within code as imports.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

// -------------------------------------------------------------------- the rules

/// The layers from bottom to top. A layer may use itself and the layers below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    Data,
    Machine,
    Driver,
    Socket,
    /// The crate root and its documentation, which combine the layers.
    Root,
}

/// Returns the layer of a module directly below the root. The simulator is in the driver's layer.
fn layer(module: &str) -> Option<Layer> {
    match module {
        "address" | "egress" | "error" | "failpoint" | "info" | "options" | "panic" | "process"
        | "resolver" | "timings" | "tls" => Some(Layer::Data),
        "machine" => Some(Layer::Machine),
        "driver" | "sim" => Some(Layer::Driver),
        "socket" => Some(Layer::Socket),
        "lib" | "guide" | "ureq" => Some(Layer::Root),
        _ => None,
    }
}

/// The crates that only the driver names.
const SYSTEM: [&str; 5] = ["dns_lookup", "mio", "nix", "socket2", "rustix"];

/// The file with the egress rules' only question to the system.
const LOCAL_FILE: &str = "egress/local/route.rs";
const LOCAL: &str = "rustix";

/// The files in the machine and in `tls` that may name these crates.
const TLS_FILES: [&str; 2] = ["machine/tls.rs", "machine/tls/session_loan.rs"];
const TLS: [&str; 4] = ["aws_lc_rs", "ring", "rustls", "webpki_roots"];
/// The TLS server that talks to the simulator's machines.
const SERVER_FILE: &str = "sim/tls.rs";

/// Items that the machine may not use: threads, sockets, clocks, and collections with a random order.
const NOT_IN_THE_MACHINE: [&str; 6] = [
    "std::thread",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::time::Instant::now",
    "std::collections::HashMap",
    "std::collections::HashSet",
];

#[test]
fn imports_point_downward_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    collect(&root.join("src"), "", &mut sources);
    assert!(
        sources.iter().any(|(path, _)| path.starts_with("machine/")),
        "found no file of the machine"
    );
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("a manifest");
    let faults = faults(&sources, &dependencies(&manifest));
    let list: Vec<String> = faults.iter().map(Fault::to_string).collect();
    assert!(list.is_empty(), "\n{}\n", list.join("\n"));
}

fn collect(folder: &Path, prefix: &str, into: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("it stays readable").path();
        let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
        if path.is_dir() {
            collect(&path, &format!("{prefix}{name}/"), into);
        } else if name.ends_with(".rs") {
            into.push((
                format!("{prefix}{name}"),
                fs::read_to_string(&path).expect("sources are text"),
            ));
        }
    }
}

/// Returns the names of the dependencies, as code spells them.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines() {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            inside = section.ends_with("dependencies") && !section.ends_with("dev-dependencies");
        } else if let (true, Some((name, _))) = (inside, line.split_once('=')) {
            let name = name.trim();
            if !name.is_empty()
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
            {
                names.insert(name.replace('-', "_"));
            }
        }
    }
    names
}

/// A path that its file must not name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    file: String,
    line: usize,
    path: String,
    rule: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src/{}:{}: {}: {}", self.file, self.line, self.path, self.rule)
    }
}

fn faults(sources: &[(String, String)], dependencies: &BTreeSet<String>) -> Vec<Fault> {
    let exports = sources
        .iter()
        .find(|(path, _)| path == "lib.rs")
        .map(|(_, text)| root_exports(text))
        .unwrap_or_default();
    let tests = test_modules(sources);
    let mut faults = Vec::new();
    for (file, text) in sources {
        if is_within(file, &tests) {
            continue;
        }
        let module = modules_of(file);
        let top = module.first().map_or("lib", String::as_str);
        let Some(own) = layer(top) else {
            let rule = "has no layer: give it one in tests/it/layering.rs";
            faults.push(Fault { file: file.clone(), line: 1, path: top.to_owned(), rule });
            continue;
        };
        for (line, path) in paths(text, &module) {
            if let Some(rule) = broken_rule(file, top, own, &path, &exports, dependencies) {
                faults.push(Fault { file: file.clone(), line, path: path.join("::"), rule });
            }
        }
    }
    faults
}

fn broken_rule(
    file: &str,
    top: &str,
    own: Layer,
    path: &[String],
    exports: &BTreeMap<String, String>,
    dependencies: &BTreeSet<String>,
) -> Option<&'static str> {
    let first = path[0].as_str();
    if first == "crate" {
        if own == Layer::Root {
            return None;
        }
        let name = path.get(1)?.as_str();
        if name == "*" {
            return Some("imports everything from the root");
        }
        let module = exports.get(name).map_or(name, String::as_str);
        // Only the root itself may use its own macros and constants, which have no layer.
        let Some(used) = layer(module) else {
            return Some("imports a name of the root that belongs to no layer");
        };
        if module == "lib" || module == "guide" || used > own {
            return Some("points upward");
        }
        if used == own && module != top && (module == "sim" || top == "sim") {
            return Some("the simulator and the driver may not import each other");
        }
        return None;
    }
    if SYSTEM.contains(&first) && (file, first) != (LOCAL_FILE, LOCAL) {
        return (own != Layer::Driver || top == "sim").then_some("only the driver may name it");
    }
    if TLS.contains(&first) && !TLS_FILES.contains(&file) && file != SERVER_FILE {
        if top != "tls" && own != Layer::Machine {
            return Some("only the TLS files may name it");
        }
        if top == "tls" && path.last().is_some_and(|name| name.ends_with("Connection")) {
            return Some("only machine/tls.rs may name a rustls connection");
        }
    }
    if own == Layer::Machine {
        if TLS_FILES.contains(&file) && TLS.contains(&first) {
            return None;
        }
        if dependencies.contains(first) {
            return Some("the machine may use no crate except its TLS crates");
        }
        let whole = path.join("::");
        let named = |banned: &str| {
            let tail = banned.split("::").skip(2).collect::<Vec<_>>().join("::");
            whole == banned
                || whole.starts_with(&format!("{banned}::"))
                || (tail.contains("::")
                    && (whole == tail || whole.starts_with(&format!("{tail}::"))))
        };
        if NOT_IN_THE_MACHINE.iter().any(|banned| named(banned)) {
            return Some("the machine has no access to the system");
        }
        for glob in ["std::net::*", "std::collections::*"] {
            if whole == glob {
                return Some("the machine may not import this whole module");
            }
        }
    }
    None
}

/// Maps each name that the root re-exports to its module.
fn root_exports(text: &str) -> BTreeMap<String, String> {
    let tokens = tokens(text);
    let mut exports = BTreeMap::new();
    for (at, token) in tokens.iter().enumerate() {
        if token.text == "use" {
            for (_, path) in use_tree(&tokens, at + 1) {
                let path: Vec<_> =
                    path.into_iter().filter(|part| part != "crate" && part != "self").collect();
                if let [module, .., name] = &path[..] {
                    exports.insert(name.clone(), module.clone());
                }
            }
        }
    }
    exports
}

/// Returns the modules of a file: `machine/tls.rs` is `machine::tls`, `machine/mod.rs` is `machine`, and `lib.rs` is
/// the root.
fn modules_of(file: &str) -> Vec<String> {
    let stem = file.trim_end_matches(".rs");
    let mut parts: Vec<String> = stem.split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| last == "mod") || parts == ["lib"] {
        parts.pop();
    }
    parts
}

/// Returns the modules that a `#[cfg(test)] mod name;` declares, as `machine/tests`.
fn test_modules(sources: &[(String, String)]) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    for (file, text) in sources {
        let all = raw_tokens(text);
        for at in 0..all.len() {
            let Some(after) = test_attribute(&all, at) else { continue };
            let [module, name, end, ..] = &all[after..] else { continue };
            if module.text == "mod" && end.text == ";" {
                let mut path = modules_of(file);
                path.push(name.text.clone());
                modules.insert(path.join("/"));
            }
        }
    }
    modules
}

/// Checks whether the file is one of these modules or below one.
fn is_within(file: &str, modules: &BTreeSet<String>) -> bool {
    let own = modules_of(file);
    (1..=own.len()).any(|length| modules.contains(&own[..length].join("/")))
}

// -------------------------------------------------------------------- paths in a text

/// Returns every path of more than one part and every imported path, with `self` and `super` resolved.
fn paths(text: &str, module: &[String]) -> Vec<(usize, Vec<String>)> {
    let tokens = tokens(text);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let token = &tokens[at];
        if token.text == "use" || (token.text == "extern" && next_is(&tokens, at, "crate")) {
            let start = if token.text == "use" { at + 1 } else { at + 2 };
            found.extend(use_tree(&tokens, start));
            while at < tokens.len() && tokens[at].text != ";" {
                at += 1;
            }
        } else if token.is_word() && !(at > 0 && tokens[at - 1].text == "::") {
            let mut path = vec![token.text.clone()];
            let line = token.line;
            while next_is(&tokens, at, "::") && tokens.get(at + 2).is_some_and(Token::is_word) {
                path.push(tokens[at + 2].text.clone());
                at += 2;
            }
            if path.len() > 1 {
                found.push((line, path));
            }
        } else if token.text == "::"
            && tokens.get(at + 1).is_some_and(Token::is_word)
            && !(at > 0 && is_path_end(&tokens[at - 1]))
        {
            // In code, the part after the colons of `::mio::Poll` begins the path.
            let mut path = vec![tokens[at + 1].text.clone()];
            let line = token.line;
            at += 1;
            while next_is(&tokens, at, "::") && tokens.get(at + 2).is_some_and(Token::is_word) {
                path.push(tokens[at + 2].text.clone());
                at += 2;
            }
            found.push((line, path));
        }
        at += 1;
    }
    found.into_iter().map(|(line, path)| (line, absolute(path, module))).collect()
}

fn is_path_end(token: &Token) -> bool {
    token.is_word() || token.text == ">"
}

fn next_is(tokens: &[Token], at: usize, text: &str) -> bool {
    tokens.get(at + 1).is_some_and(|token| token.text == text)
}

/// Resolves a path: `super::x` in `machine::tls` is `crate::machine::x`.
fn absolute(path: Vec<String>, module: &[String]) -> Vec<String> {
    let mut base = module.to_vec();
    let mut rest = &path[..];
    match rest[0].as_str() {
        "self" => rest = &rest[1..],
        "super" => {
            while rest.first().is_some_and(|part| part == "super") {
                base.pop();
                rest = &rest[1..];
            }
        }
        _ => return path,
    }
    let mut whole = vec!["crate".to_owned()];
    whole.extend(base);
    whole.extend(rest.iter().cloned());
    whole
}

/// Returns the paths of the `use` tree that begins at `at`.
fn use_tree(tokens: &[Token], at: usize) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    let mut at = at;
    branch(tokens, &mut at, &[], &mut found);
    found
}

fn branch(
    tokens: &[Token],
    at: &mut usize,
    prefix: &[String],
    found: &mut Vec<(usize, Vec<String>)>,
) {
    let mut path = prefix.to_vec();
    let mut line = tokens.get(*at).map_or(0, |token| token.line);
    while let Some(token) = tokens.get(*at) {
        match token.text.as_str() {
            "::" => {}
            "{" => {
                *at += 1;
                while tokens.get(*at).is_some_and(|token| token.text != "}") {
                    branch(tokens, at, &path, found);
                    if tokens.get(*at).is_some_and(|token| token.text == ",") {
                        *at += 1;
                    }
                }
                *at += 1;
                return;
            }
            // The alias of an import does not change its origin.
            "as" => *at += 1,
            "self" if !path.is_empty() => {}
            "," | ";" | "}" => break,
            _ => {
                line = token.line;
                path.push(token.text.clone());
            }
        }
        *at += 1;
    }
    if !path.is_empty() {
        found.push((line, path));
    }
}

// -------------------------------------------------------------------- text to tokens

#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    text: String,
    line: usize,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text.starts_with(|first: char| first.is_alphabetic() || first == '_')
    }
}

/// Returns the tokens of the code that is compiled outside of unit tests.
fn tokens(text: &str) -> Vec<Token> {
    let all = raw_tokens(text);
    let mut kept = Vec::new();
    let mut at = 0;
    while at < all.len() {
        match test_attribute(&all, at) {
            Some(after) => at = item_end(&all, after),
            None => {
                kept.push(all[at].clone());
                at += 1;
            }
        }
    }
    kept
}

/// Returns the start of the item after `#[cfg(test)]` and further attributes at `at`.
fn test_attribute(tokens: &[Token], at: usize) -> Option<usize> {
    let matches = |wanted: &[&str]| {
        tokens.len() >= at + wanted.len()
            && wanted.iter().zip(&tokens[at..]).all(|(text, token)| token.text == *text)
    };
    let mut after = if matches(&["#", "[", "cfg", "(", "test", ")", "]"]) {
        at + 7
    } else if matches(&["#", "[", "test", "]"]) {
        at + 4
    } else {
        return None;
    };
    while tokens.get(after).is_some_and(|token| token.text == "#") {
        while tokens.get(after).is_some_and(|token| token.text != "]") {
            after += 1;
        }
        after += 1;
    }
    Some(after)
}

/// Returns the position after the item at `at`, which ends with `;` or its closing brace.
fn item_end(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0_usize;
    for (offset, token) in tokens[at..].iter().enumerate() {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth = depth.saturating_sub(1);
                if depth == 0 && token.text == "}" {
                    return at + offset + 1;
                }
            }
            ";" | "," if depth == 0 => return at + offset + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Splits a text into words, `::` and single characters, without comments and literals.
fn raw_tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let rest = &chars[at..];
        let length = match rest {
            ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => block_comment(rest),
            ['"', ..] => string(rest, 0),
            ['b' | 'c', '"', ..] => string(rest, 1),
            ['r', '"' | '#', ..] if raw_string(rest, 1).is_some() => {
                raw_string(rest, 1).expect("the prefix was checked")
            }
            ['b' | 'c', 'r', '"' | '#', ..] if raw_string(rest, 2).is_some() => {
                raw_string(rest, 2).expect("the prefix was checked")
            }
            ['b', '\'', ..] => 1 + character(&rest[1..]),
            ['\'', ..] => character(rest),
            [':', ':', ..] => {
                tokens.push(Token { text: "::".to_owned(), line });
                2
            }
            [first, ..] if first.is_alphanumeric() || *first == '_' => {
                let length = rest
                    .iter()
                    .position(|c| !c.is_alphanumeric() && *c != '_')
                    .unwrap_or(rest.len());
                tokens.push(Token { text: rest[..length].iter().collect(), line });
                length
            }
            [first, ..] => {
                if !first.is_whitespace() {
                    tokens.push(Token { text: first.to_string(), line });
                }
                1
            }
            [] => unreachable!("the position is within the text"),
        };
        line += rest[..length].iter().filter(|c| **c == '\n').count();
        at += length;
    }
    tokens
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Returns the length of a literal whose quote is at `start`.
fn string(rest: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// Returns the length of a raw literal whose prefix begins at `start`, or `None` for a raw identifier.
fn raw_string(rest: &[char], start: usize) -> Option<usize> {
    let signs = rest[start..].iter().take_while(|c| **c == '#').count();
    if rest.get(start + signs) != Some(&'"') {
        return None;
    }
    let mut at = start + signs + 1;
    while at < rest.len() {
        if rest[at] == '"'
            && rest[at + 1..].iter().take(signs).filter(|c| **c == '#').count() == signs
        {
            return Some(at + 1 + signs);
        }
        at += 1;
    }
    Some(rest.len())
}

/// Returns the length of a character literal, or of the quote of a lifetime.
fn character(rest: &[char]) -> usize {
    match rest {
        ['\'', '\\', ..] => {
            rest[3..].iter().position(|c| *c == '\'').map_or(rest.len(), |end| end + 4)
        }
        ['\'', _, '\'', ..] => 3,
        _ => 1,
    }
}

// -------------------------------------------------------------------- tests of the rules

/// Returns the violations in one made-up file, together with a root that re-exports some names.
fn found(file: &str, text: &str) -> Vec<(usize, String)> {
    let root = "mod driver; mod machine; pub use crate::socket::{Socket, Reader}; pub use error::Error; pub use self::info::Stats;";
    let sources = [("lib.rs".to_owned(), root.to_owned()), (file.to_owned(), text.to_owned())];
    let dependencies = dependencies(
        "[dependencies]\nmio = \"1\"\nlog = \"0.4\"\nrustls = { version = \"0.23\" }\nwebpki-roots = \"1\"\n",
    );
    faults(&sources, &dependencies).into_iter().map(|fault| (fault.line, fault.path)).collect()
}

#[track_caller]
fn check(file: &str, text: &str, expected: &[(usize, &str)]) {
    let found = found(file, text);
    let found: Vec<(usize, &str)> =
        found.iter().map(|(line, path)| (*line, path.as_str())).collect();
    assert_eq!(found, expected, "in {file}: {text}");
}

#[test]
fn an_upward_import_is_found() {
    check("machine/mod.rs", "use crate::driver::Loop;", &[(1, "crate::driver::Loop")]);
    check("error.rs", "use crate::machine::Fault;", &[(1, "crate::machine::Fault")]);
    check(
        "driver/mod.rs",
        "\n\npub(crate) use crate::socket::Shared;",
        &[(3, "crate::socket::Shared")],
    );
    check("options.rs", "use crate::sim::Plan;", &[(1, "crate::sim::Plan")]);
}

#[test]
fn a_downward_import_is_fine() {
    check(
        "socket/mod.rs",
        "use crate::driver::Loop; use crate::machine::Machine; use crate::{error::Error, info::Stats};",
        &[],
    );
    check(
        "driver/mod.rs",
        "use mio::Poll; use crate::machine::Machine; use rustix::event::poll;",
        &[],
    );
    check(
        "machine/flow.rs",
        "use std::collections::BTreeMap; use crate::error::ErrorKind; use super::state::State;",
        &[],
    );
    check("sim/mod.rs", "use crate::machine::Machine;", &[]);
    check("error.rs", "use crate::address::SocketAddress;", &[]);
}

#[test]
fn a_use_tree_is_resolved() {
    check(
        "machine/happy_eyeballs.rs",
        "use crate::{\n    error::Error,\n    driver::{self, dial as call, slab::{Row}},\n};",
        &[(3, "crate::driver"), (3, "crate::driver::dial"), (3, "crate::driver::slab::Row")],
    );
    check("error.rs", "use {std::io, crate::machine::{self}};", &[(1, "crate::machine")]);
}

#[test]
fn a_path_within_code_is_an_import() {
    check("machine/mod.rs", "fn f() { crate::driver::wake(1); }", &[(1, "crate::driver::wake")]);
    check("info.rs", "fn f(x: Vec<crate::socket::Socket>) {}", &[(1, "crate::socket::Socket")]);
    check("error.rs", "impl From<::mio::Token> for E {}", &[(1, "mio::Token")]);
}

#[test]
fn a_name_of_the_root_belongs_to_its_original_module() {
    check("driver/mod.rs", "use crate::{Error, Socket, Stats};", &[(1, "crate::Socket")]);
    check("machine/mod.rs", "use crate::unheard_of;", &[(1, "crate::unheard_of")]);
    check("machine/mod.rs", "use crate::*;", &[(1, "crate::*")]);
}

#[test]
fn super_and_self_are_resolved() {
    check("machine/tls.rs", "use super::super::driver::Loop;", &[(1, "crate::driver::Loop")]);
    check("machine/mod.rs", "use super::socket::Shared;", &[(1, "crate::socket::Shared")]);
    check("machine/mod.rs", "use self::tls::Session;", &[]);
}

#[test]
fn system_crates_belong_to_the_driver() {
    check("socket/mod.rs", "use mio::net::TcpStream;", &[(1, "mio::net::TcpStream")]);
    check(
        "socket/wait.rs",
        "fn f() { rustix::event::poll(&mut [], 0); }",
        &[(1, "rustix::event::poll")],
    );
    check("options.rs", "extern crate socket2;", &[(1, "socket2")]);
    check("egress/local/route.rs", "use rustix::net::send;", &[]);
    check("egress/local/route.rs", "use mio::Token;", &[(1, "mio::Token")]);
    check("egress/local.rs", "use rustix::net::send;", &[(1, "rustix::net::send")]);
    check("sim/mod.rs", "use mio::Token;", &[(1, "mio::Token")]);
    check("lib.rs", "use mio;", &[(1, "mio")]);
}

#[test]
fn the_machine_is_pure() {
    check("machine/mod.rs", "use std::thread;", &[(1, "std::thread")]);
    check("machine/mod.rs", "use std::net::{IpAddr, TcpStream};", &[(1, "std::net::TcpStream")]);
    check(
        "machine/mod.rs",
        "use std::time::Instant; fn f() { Instant::now(); }",
        &[(1, "Instant::now")],
    );
    check(
        "machine/mod.rs",
        "use std::collections::{BTreeMap, HashMap};",
        &[(1, "std::collections::HashMap")],
    );
    check("machine/mod.rs", "use std::collections::*;", &[(1, "std::collections::*")]);
    check("machine/flow.rs", "use log::debug;", &[(1, "log::debug")]);
    check("machine/flow.rs", "use rustls::Connection;", &[(1, "rustls::Connection")]);
    check("machine/tls.rs", "use rustls::Connection; use webpki_roots::TLS_SERVER_ROOTS;", &[]);
    check("machine/tls.rs", "use mio::Poll;", &[(1, "mio::Poll")]);
    check("driver/mod.rs", "use rustls::ClientConfig;", &[(1, "rustls::ClientConfig")]);
    check("sim/world.rs", "use rustls::ServerConfig;", &[(1, "rustls::ServerConfig")]);
    check("sim/tls.rs", "use rustls::ServerConnection;", &[]);
    check(
        "tls/config.rs",
        "use rustls::{ClientConfig, ClientConnection};",
        &[(1, "rustls::ClientConnection")],
    );
}

#[test]
fn comments_literals_and_unit_tests_are_skipped() {
    check(
        "machine/mod.rs",
        "//! crate::driver::Loop\n/* std::thread /* crate::socket::A */ std::thread */ fn f() {}",
        &[],
    );
    check(
        "machine/mod.rs",
        "const A: &str = \"crate::driver::B\"; const C: &str = r#\"std::thread::D\"#;",
        &[],
    );
    check(
        "machine/mod.rs",
        "const A: char = '\"'; use std::thread; const B: char = '\\'';",
        &[(1, "std::thread")],
    );
    check("machine/mod.rs", "fn f<'a>(x: &'a u8) {} use std::thread;", &[(1, "std::thread")]);
    check(
        "machine/mod.rs",
        "#[cfg(test)]\nmod tests { use std::thread; fn f() { {} } }\nuse std::thread;",
        &[(3, "std::thread")],
    );
    check("machine/mod.rs", "#[cfg(not(test))]\nuse std::thread;", &[(2, "std::thread")]);
}

#[test]
fn a_file_without_a_layer_is_found() {
    check("helpers.rs", "fn f() {}", &[(1, "helpers")]);
    check("helpers/mod.rs", "fn f() {}", &[(1, "helpers")]);
}

#[test]
fn a_file_of_unit_tests_alone_is_skipped() {
    let sources = [
        ("machine/mod.rs".to_owned(), "#[cfg(test)]\nmod tests;".to_owned()),
        ("machine/tests.rs".to_owned(), "use std::thread; mod lives;".to_owned()),
        ("machine/tests/scenarios.rs".to_owned(), "use std::thread;".to_owned()),
    ];
    assert_eq!(faults(&sources, &BTreeSet::new()), []);
}
