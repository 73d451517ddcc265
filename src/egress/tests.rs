//! Tests of the egress rules: host rules, and the messages of refusals.

use std::net::SocketAddr;

use super::EgressRules;
use crate::address::SocketAddress;
use crate::error::{Error, ErrorKind, Fault, Result};

const REFUSED: &str = "proxy request failed, cannot connect to the specified address";

#[test]
fn rules_are_unrestricted_if_they_can_refuse_nothing() {
    let allow = EgressRules::allow_all;
    assert!(allow().is_unrestricted());
    assert!(EgressRules::default().is_unrestricted());
    assert!(allow().allow_port(1).allow_net("::/0").unwrap().is_unrestricted());
    assert!(allow().allow_host("a").unwrap().is_unrestricted());

    assert!(!allow().deny_port(25).is_unrestricted());
    assert!(!allow().deny_net("10.0.0.0/8").unwrap().is_unrestricted());
    assert!(!allow().deny_host("a").unwrap().is_unrestricted());
    assert!(!allow().own_listener("127.0.0.1:1".parse().unwrap()).is_unrestricted());
    assert!(!EgressRules::deny_all().is_unrestricted());
    assert!(!EgressRules::public_only().is_unrestricted());
    assert!(!EgressRules::workers().is_unrestricted());
}

#[test]
fn the_last_rule_that_matches_a_host_decides() {
    let rules = EgressRules::allow_all()
        .deny_host("*.example.com")
        .and_then(|rules| rules.allow_host("*.public.example.com"))
        .and_then(|rules| rules.deny_host("db.public.example.com"))
        .and_then(|rules| rules.deny_host("10.0.0.1"))
        .unwrap();
    names(&rules, &["example.com", "a.public.example.com", "example.org", "10.0.0.2", "::1"]);
    no_name(&rules, "a.Example.com", "the host a.Example.com is denied by the rule *.example.com");
    no_name(
        &rules,
        "DB.public.example.com.",
        "the host DB.public.example.com. is denied by the rule db.public.example.com",
    );
    no_name(&rules, "public.example.com", "the rule *.example.com");
    no_name(&rules, "10.0.0.1", "the host 10.0.0.1 is denied by the rule 10.0.0.1");
    no_name(&rules, "::ffff:a00:1", "the host ::ffff:a00:1 is denied by the rule 10.0.0.1");
    names(&rules.allow_host("*.com").unwrap(), &["db.public.example.com", "a.example.com"]);
}

#[test]
fn with_deny_all_a_host_needs_its_own_rule() {
    let rules = EgressRules::deny_all().allow_port(80).allow_host("*.example.com").unwrap();
    names(&rules, &["a.example.com", "b.a.EXAMPLE.com."]);
    no_name(&rules, "example.com", "no rule allows the host example.com");
    no_name(&rules, "10.0.0.1", "no rule allows the host 10.0.0.1");
    let rules = rules.allow_net("0.0.0.0/0").unwrap();
    no_name(&rules, "10.0.0.1", "no rule allows the host 10.0.0.1");
    let rules = rules.allow_host("10.0.0.1").and_then(|rules| rules.allow_host("[::2]")).unwrap();
    names(&rules, &["10.0.0.1", "::ffff:10.0.0.1", "::2", "0:0::0:2"]);
    no_name(&rules, "::3", "no rule allows the host ::3");
}

#[test]
fn host_checks_include_the_port() {
    let rules = EgressRules::allow_all().deny_port(80).allow_host("example.com").unwrap();
    no_name(&rules, "example.com", "port 80 is denied by a rule");
    let rules = EgressRules::deny_all().allow_host("example.com").unwrap();
    no_name(&rules, "example.com", "no rule allows port 80");
    assert!(judged(&rules.allow_port(80), "example.com:80".parse()).is_ok());
    let message =
        judged(&EgressRules::workers(), "example.com:25".parse()).unwrap_err().to_string();
    let page = "Connections to port 25 are prohibited";
    assert_eq!(message, format!("port 25 is denied by a rule: {page} (example.com:25)"));
}

#[test]
fn a_denial_names_the_address_and_the_range() {
    let public = EgressRules::public_only();
    denies(&public, "10.0.0.1:80", "10.0.0.1 is in 10.0.0.0/8 (Private-Use, RFC 1918)");
    denies(&public, "192.0.0.9:80", "is in 192.0.0.9/32 (Port Control Protocol Anycast, RFC 7723)");
    denies(&public, "[::1]:80", "::1 is in ::1/128 (Loopback Address, RFC 4291)");
    denies(&public, "[fd00::1]:80", "fd00::1 is in fc00::/7 (Unique-Local, RFC 4193, RFC 8190)");
    denies(&public, "[4000::1]:80", "4000::1 is outside 2000::/3 (Global Unicast, RFC 4291)");
    denies(&public, "[2002:808:808::]:80", "2002:808:808:: is in 2002::/16 (6to4, RFC 3056)");
    denies(&EgressRules::workers(), "104.16.0.1:80", "104.16.0.1 is in 104.16.0.0/13 (Cloudflare)");
    denies(
        &EgressRules::workers(),
        "[2606:4700::1]:80",
        "2606:4700::1 is in 2606:4700::/32 (Cloudflare)",
    );
}

#[test]
fn a_denial_names_the_embedded_address() {
    let public = EgressRules::public_only();
    denies(
        &public,
        "[64:ff9b::a00:1]:80",
        "64:ff9b::a00:1 stands for 10.0.0.1, which is in 10.0.0.0/8 (Private-Use, RFC 1918)",
    );
    denies(
        &public,
        "[::ffff:127.0.0.1]:80",
        "::ffff:127.0.0.1 stands for 127.0.0.1, which is in 127.0.0.0/8 (Loopback, RFC 1122)",
    );
    denies(
        &EgressRules::workers(),
        "[64:ff9b::6810:1]:80",
        "64:ff9b::6810:1 stands for 104.16.0.1, which is in 104.16.0.0/13 (Cloudflare)",
    );
    let rules = EgressRules::allow_all().deny_net("10.0.0.0/9").unwrap();
    denies(
        &rules,
        "[2002:a7f:1::]:80",
        "2002:a7f:1:: stands for 10.127.0.1, which is in 10.0.0.0/9, which a rule denies",
    );
    let rules = EgressRules::deny_all().allow_port(80).allow_net("64:ff9b::/96").unwrap();
    denies(
        &rules,
        "[64:ff9b::a00:1]:80",
        "64:ff9b::a00:1 stands for 10.0.0.1, which no rule allows",
    );
}

#[test]
fn a_denial_names_the_rule() {
    let rules = EgressRules::allow_all().deny_port(81).deny_net("10.0.0.0/8").unwrap();
    denies(&rules, "10.0.0.1:80", "10.0.0.1 is in 10.0.0.0/8, which a rule denies");
    denies(&rules, "10.0.0.1:81", "port 81 is denied by a rule");
    let rules = rules.deny_net("fd00::1").unwrap();
    denies(&rules, "[fd00::1]:80", "fd00::1 is in fd00::1/128, which a rule denies");
    let rules = EgressRules::deny_all().allow_port(80);
    denies(&rules, "10.0.0.1:80", "no rule allows 10.0.0.1");
    denies(&rules, "[fd00::1]:80", "no rule allows fd00::1");
    denies(&rules, "10.0.0.1:81", "no rule allows port 81");
}

#[test]
fn port_25_has_its_own_message() {
    let address = "8.8.8.8:25".parse().unwrap();
    let text = |rules: EgressRules| match rules.denied_by(address) {
        Some(denial) => denial.text().to_string(),
        other => panic!("{other:?}"),
    };
    let denied = "port 25 is denied by a rule: Connections to port 25 are prohibited";
    assert_eq!(text(EgressRules::workers()), denied);
    assert_eq!(text(EgressRules::allow_all().deny_port(25)), denied);
    assert_eq!(
        text(EgressRules::deny_all()),
        "no rule allows port 25: Connections to port 25 are prohibited"
    );
    assert_eq!(EgressRules::workers().allow_port(25).check(address), Ok(()));
}

#[test]
fn an_own_listener_is_a_loop_whatever_the_rules_say() {
    let listener: SocketAddr = "127.0.0.1:25".parse().unwrap();
    for rules in [EgressRules::allow_all(), EgressRules::workers(), EgressRules::deny_all()] {
        let rules = rules.own_listener(listener).allow_net("127.0.0.0/8").unwrap().allow_port(25);
        assert_eq!(rules.check(listener), Err(Fault::OwnListener));
    }
    let rules = EgressRules::deny_all().own_listener(listener);
    assert_eq!(rules.check(listener), Err(Fault::OwnListener));
    let error = Error::from_fault(Fault::OwnListener);
    assert_eq!(error.kind(), ErrorKind::Loop);
    assert_eq!(error.to_string(), "TCP Loop detected: the address is a listener of this program");
}

#[test]
fn the_system_is_asked_only_about_ports_of_unspecified_listeners() {
    let asks = |listener: &str, address: &str| {
        let rules = EgressRules::allow_all().own_listener(listener.parse().unwrap());
        rules.needs_local_check(address.parse().unwrap())
    };
    for listener in ["0.0.0.0:80", "[::]:80", "[::ffff:0.0.0.0]:80"] {
        assert!(asks(listener, "198.51.100.1:80"));
        assert!(asks(listener, "[2001:db8::1]:80"));
        assert!(!asks(listener, "198.51.100.1:81"));
    }
    assert!(!asks("198.51.100.1:80", "198.51.100.1:80"));
    assert!(!EgressRules::allow_all().needs_local_check("198.51.100.1:80".parse().unwrap()));
}

#[test]
fn host_rules_agree_with_a_second_implementation() {
    let mut random = fastrand::Rng::with_seed(1);
    let mut verdicts = [0, 0];
    for _ in 0..2_000 {
        let base_allows = random.bool();
        let mut rules = match base_allows {
            true => EgressRules::allow_all(),
            false => EgressRules::deny_all().allow_port(80),
        };
        let mut patterns = Vec::new();
        for _ in 0..random.usize(0..6) {
            let (host, allow) = (random_host(&mut random), random.bool());
            let star = if host.contains(':') || random.bool() { "" } else { "*." };
            let pattern = format!("{star}{host}");
            rules = match (star, host.starts_with("10."), allow) {
                // No name is below an address.
                ("*.", true, _) => continue,
                (_, _, true) => rules.allow_host(&pattern).unwrap(),
                (_, _, false) => rules.deny_host(&pattern).unwrap(),
            };
            patterns.push((pattern, allow));
        }
        for _ in 0..50 {
            let host = random_host(&mut random);
            let decisive = patterns.iter().rev().find(|(pattern, _)| is_about(pattern, &host));
            let expected = decisive.map_or(base_allows, |&(_, allow)| allow);
            let allowed = judged(&rules, SocketAddress::new(&*host, 80)).is_ok();
            assert_eq!(allowed, expected, "{host} by {patterns:?} over {base_allows}");
            verdicts[usize::from(allowed)] += 1;
        }
    }
    assert!(verdicts[0] > 10_000 && verdicts[1] > 10_000, "{verdicts:?}");
}

/// Returns a random host from a small set, so that patterns match often.
fn random_host(random: &mut fastrand::Rng) -> String {
    if random.u8(0..5) == 0 {
        let ips = ["10.0.0.1", "10.0.0.2", "::ffff:10.0.0.1", "::ffff:a00:2", "::2", "0:0::0:2"];
        return random.choice(ips).unwrap().to_owned();
    }
    let labels: Vec<&str> = (0..random.usize(1..5))
        .map(|_| random.choice(["a", "A", "b", "ab", "0b"]).unwrap())
        .collect();
    format!("{}{}", labels.join("."), random.choice(["", "."]).unwrap())
}

fn is_about(pattern: &str, host: &str) -> bool {
    let labels = |text: &str| -> Vec<String> {
        let text = match text {
            "::ffff:10.0.0.1" => "10.0.0.1",
            "::ffff:a00:2" => "10.0.0.2",
            "0:0::0:2" => "::2",
            text => text,
        };
        text.trim_end_matches('.').split('.').map(str::to_lowercase).collect()
    };
    let is_address = |text: &str| text.contains(':') || text.starts_with("10.");
    match pattern.strip_prefix("*.") {
        Some(_) if is_address(host) => false,
        Some(under) => {
            let (under, host) = (labels(under), labels(host));
            host.len() > under.len() && host.ends_with(&under)
        }
        None => labels(pattern) == labels(host),
    }
}

fn names(rules: &EgressRules, hosts: &[&str]) {
    for host in hosts {
        judged(rules, SocketAddress::new(*host, 80))
            .unwrap_or_else(|error| panic!("{host}: {error}"));
    }
}

fn judged(rules: &EgressRules, address: Result<SocketAddress>) -> Result<()> {
    rules.check_name(&address.expect("a valid address"))
}

fn no_name(rules: &EgressRules, host: &str, expected: &str) {
    let error = judged(rules, SocketAddress::new(host, 80)).expect_err(host);
    assert_eq!(error.kind(), ErrorKind::Denied);
    let message = error.to_string();
    assert!(message.contains(&format!("{expected}: {REFUSED}")), "{message}");
}

fn denies(rules: &EgressRules, address: &str, expected: &str) {
    let address = address.parse().unwrap();
    assert_eq!(rules.check(address), Err(Fault::Denied));
    let denial = rules.denied_by(address).expect("the rules deny the address");
    let text = denial.text().to_string();
    assert!(text.ends_with(&format!("{expected}: {REFUSED}")), "{text}");
    let error = Error::from_denial(&denial.text(), &"there");
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(error.to_string(), format!("{text} (there)"));
}
