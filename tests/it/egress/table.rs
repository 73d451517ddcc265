//! The tables of special ranges, which are generated from the texts next to them. The texts name their sources.
//! After a change of such a text, `UPDATE_EXPECT=1 cargo test --test it egress::table` rewrites
//! `src/egress/special.rs`.

use std::fmt::Write;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// A row of a text.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) network: IpAddr,
    pub(super) prefix: u8,
    pub(super) allowed: bool,
    pub(super) registry: String,
    pub(super) label: String,
    pub(super) note: String,
}

#[test]
fn the_table_matches_its_sources() {
    let path = folder().join("special.rs");
    let generated = generate();
    if std::env::var_os("UPDATE_EXPECT").is_some_and(|value| value == "1") {
        fs::write(&path, &generated).expect("the sources can be written");
    }
    let present = fs::read_to_string(&path).expect("the table exists").replace("\r\n", "\n");
    for (line, (present, generated)) in present.lines().zip(generated.lines()).enumerate() {
        assert_eq!(present, generated, "line {} of src/egress/special.rs", line + 1);
    }
    assert_eq!(present.len(), generated.len(), "src/egress/special.rs is shorter or longer");
}

#[test]
fn ranges_are_unique_and_have_no_bits_beyond_their_prefix() {
    let rows: Vec<Row> =
        special_ranges().into_iter().chain(cloud_ranges()).chain(cloudflare_ranges()).collect();
    for (at, row) in rows.iter().enumerate() {
        assert_eq!(row.network, last_of(row).0, "{row:?} has bits beyond its prefix");
        let again = |other: &Row| (other.network, other.prefix) == (row.network, row.prefix);
        assert!(!rows[..at].iter().any(again), "{row:?} is a duplicate");
    }
}

#[test]
fn departures_from_the_registry_have_a_reason() {
    for row in special_ranges() {
        let expected = match row.registry.as_str() {
            "true" => true,
            "false" | "n/a" | "-" => false,
            other => panic!("the registry has no value {other}"),
        };
        assert!(row.allowed == expected || !row.note.is_empty(), "{row:?}");
        assert!(!row.allowed || expected, "{row:?} is wider than the registry");
    }
}

/// Returns the rows of `special-ranges.txt`.
pub(super) fn special_ranges() -> Vec<Row> {
    let rows = rows("special-ranges.txt", |columns| {
        let [range, decision, registry, name, rfcs, note] = columns[..] else {
            panic!("six columns are expected: {columns:?}");
        };
        let (network, prefix) = range_of(range);
        let allowed = match decision {
            "allow" => true,
            "deny" => false,
            other => panic!("{other} is not a decision"),
        };
        assert!(rfcs.starts_with("RFC "), "{columns:?}");
        let label = format!("{name}, {rfcs}");
        Row { network, prefix, allowed, registry: registry.into(), label, note: note.into() }
    });
    assert!(rows.len() > 20, "the table is complete");
    rows
}

/// Returns the rows of `cloud-ranges.txt`.
pub(super) fn cloud_ranges() -> Vec<Row> {
    rows("cloud-ranges.txt", |columns| {
        let [range, label, note] = columns[..] else {
            panic!("three columns are expected: {columns:?}");
        };
        let (network, prefix) = range_of(range);
        let (registry, label) = (String::new(), label.to_owned());
        assert!(!note.is_empty(), "{columns:?}");
        Row { network, prefix, allowed: false, registry, label, note: note.into() }
    })
}

/// If another table denied the row anyway, its reason would be hidden.
#[test]
fn ranges_of_clouds_would_be_allowed_otherwise() {
    for row in cloud_ranges() {
        let (first, last) = last_of(&row);
        for other in special_ranges() {
            let (from, to) = last_of(&other);
            let apart = first.is_ipv4() != from.is_ipv4() || last < from || to < first;
            assert!(apart || other.allowed, "{row:?} is in {other:?}");
        }
    }
}

/// Returns the rows of `cloudflare-ranges.txt`.
pub(super) fn cloudflare_ranges() -> Vec<Row> {
    rows("cloudflare-ranges.txt", |columns| {
        let (network, prefix) = range_of(columns[0]);
        let (registry, label) = (String::new(), String::from("Cloudflare"));
        Row { network, prefix, allowed: false, registry, label, note: String::new() }
    })
}

/// Returns the first and last addresses of a range.
pub(super) fn last_of(row: &Row) -> (IpAddr, IpAddr) {
    let prefix = u32::from(row.prefix);
    match row.network {
        IpAddr::V4(ip) => {
            let host = u32::MAX.checked_shr(prefix).unwrap_or(0);
            (IpAddr::V4((ip.to_bits() & !host).into()), IpAddr::V4((ip.to_bits() | host).into()))
        }
        IpAddr::V6(ip) => {
            let host = u128::MAX.checked_shr(prefix).unwrap_or(0);
            (IpAddr::V6((ip.to_bits() & !host).into()), IpAddr::V6((ip.to_bits() | host).into()))
        }
    }
}

fn generate() -> String {
    let mut out = String::from(HEAD);
    let (v4, v6): (Vec<Row>, Vec<Row>) =
        special_ranges().into_iter().partition(|row| row.network.is_ipv4());
    table(&mut out, "IPV4", v4);
    table(&mut out, "IPV6", v6);
    table(&mut out, "CLOUD", cloud_ranges());
    table(&mut out, "CLOUDFLARE", cloudflare_ranges());
    out
}

const HEAD: &str = "\
//! Tables of special-purpose addresses, which decide about an address that no rule matches.
//!
//! Generated from `special-ranges.txt`, `cloud-ranges.txt` and `cloudflare-ranges.txt`. Do not edit: change those
//! files, and run `UPDATE_EXPECT=1 cargo test --test it egress::table`.
//!
//! Rows are sorted by first address and then by prefix length.

use super::cidr::Net;
use super::ranges::Range;
";

fn table(out: &mut String, name: &str, mut rows: Vec<Row>) {
    rows.sort_by_key(|row| (row.network, row.prefix));
    write!(out, "\n#[rustfmt::skip]\npub(super) static {name}: &[Range] = &[\n").unwrap();
    for Row { network, prefix, allowed, label, .. } in rows {
        let verdict = if allowed { "allow" } else { "deny" };
        let net = match network {
            IpAddr::V4(ip) => format!("v4({:?}, {prefix})", ip.octets()),
            IpAddr::V6(ip) => {
                let groups = ip.segments().map(|group| match group {
                    0 => String::from("0"),
                    group => format!("{group:#x}"),
                });
                format!("v6([{}], {prefix})", groups.join(", "))
            }
        };
        writeln!(out, "    Range::{verdict}(Net::{net}, {label:?}),").unwrap();
    }
    out.push_str("];\n");
}

fn rows(file: &str, row: impl Fn(Vec<&str>) -> Row) -> Vec<Row> {
    let text = fs::read_to_string(folder().join(file)).expect("the source exists");
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let rows: Vec<Row> = lines.map(|line| row(line.split('|').map(str::trim).collect())).collect();
    assert!(!rows.is_empty(), "{file} has rows");
    rows
}

fn range_of(text: &str) -> (IpAddr, u8) {
    let (network, prefix) = text.split_once('/').expect("a slash");
    (network.parse().expect("it is an address"), prefix.parse().expect("a prefix"))
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/egress")
}
