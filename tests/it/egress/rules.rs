//! The syntax of rules, and their combined effect.

use sockeye::{EgressRules, ErrorKind};

#[test]
fn the_bases_match_their_names() {
    let all = EgressRules::allow_all();
    let nothing = EgressRules::deny_all();
    for address in ["8.8.8.8:443", "10.0.0.1:25", "[::1]:1", "0.0.0.0:80", "[ff02::1]:65535"] {
        allows(&all, address);
        allows(&EgressRules::default(), address);
        refuses(&nothing, address);
    }
    let public = EgressRules::public_only();
    allows(&public, "8.8.8.8:25");
    allows(&public, "104.16.0.1:443");
    allows(&public, "[2606:4700::1]:443");
    refuses(&public, "10.0.0.1:443");
    let workers = EgressRules::workers();
    allows(&workers, "8.8.8.8:443");
    allows(&workers, "[2001:4860:4860::8888]:443");
    refuses(&workers, "8.8.8.8:25");
    refuses(&workers, "[2001:4860:4860::8888]:25");
    refuses(&workers, "104.16.0.1:443");
    refuses(&workers, "[2606:4700::1]:443");
    refuses(&workers, "[64:ff9b::104.16.0.1]:443");
    refuses(&workers, "10.0.0.1:443");
}

#[test]
fn the_last_matching_rule_decides() {
    let rules = EgressRules::allow_all();
    let rules = rules.deny_net("10.0.0.0/8").unwrap();
    let rules = rules.allow_net("10.1.0.0/16").unwrap();
    let rules = rules.deny_net("10.1.2.3").unwrap();
    allows(&rules, "9.255.255.255:80");
    refuses(&rules, "10.0.0.0:80");
    allows(&rules, "10.1.0.0:80");
    refuses(&rules, "10.1.2.3:80");
    allows(&rules, "10.1.2.4:80");
    // A later, wider rule decides, too.
    let rules = rules.allow_net("10.0.0.0/8").unwrap();
    allows(&rules, "10.1.2.3:80");
    let rules = rules.deny_net("0.0.0.0/0").unwrap();
    refuses(&rules, "9.255.255.255:80");
    allows(&rules, "[2600::1]:80");

    let rules = EgressRules::allow_all().deny_port(80).allow_port(80).deny_port(81);
    allows(&rules, "10.0.0.1:80");
    refuses(&rules, "10.0.0.1:81");
}

#[test]
fn an_allow_rule_lifts_a_denial_and_restricts_nothing() {
    let rules = EgressRules::allow_all().allow_port(443).allow_net("10.0.0.0/8").unwrap();
    allows(&rules, "11.0.0.1:80");
    let rules = EgressRules::workers().allow_port(25);
    allows(&rules, "8.8.8.8:25");
    refuses(&rules, "104.16.0.1:25");
    let rules = rules.allow_net("104.16.0.0/24").unwrap();
    allows(&rules, "104.16.0.1:25");
    refuses(&rules, "104.16.1.1:25");
    let rules = EgressRules::public_only().allow_net("127.0.0.1").unwrap();
    allows(&rules, "127.0.0.1:80");
    allows(&rules, "[::ffff:127.0.0.1]:80");
    refuses(&rules, "127.0.0.2:80");
    refuses(&rules, "[::1]:80");
}

#[test]
fn with_deny_all_the_port_and_the_address_have_to_be_allowed() {
    let rules = EgressRules::deny_all().allow_net("198.51.100.0/24").unwrap();
    refuses(&rules, "198.51.100.1:443");
    let rules = rules.allow_port(443);
    allows(&rules, "198.51.100.1:443");
    refuses(&rules, "198.51.100.1:80");
    refuses(&rules, "198.51.101.1:443");
    refuses(&EgressRules::deny_all().allow_port(443), "198.51.100.1:443");
    // Rules about hosts apply to the requested text, so they have no effect here.
    let rules = rules.deny_host("198.51.100.1").unwrap();
    allows(&rules, "198.51.100.1:443");
}

#[test]
fn an_ipv4_address_is_refused_in_all_its_spellings() {
    let rules = EgressRules::allow_all().deny_net("10.0.0.0/8").unwrap();
    for ip in [
        "::ffff:10.1.2.3",
        "::10.1.2.3",
        "::ffff:0:10.1.2.3",
        "64:ff9b::10.1.2.3",
        "64:ff9b:1:a01:2:300::",
        "64:ff9b:1:a01:2:3ff:ffff:ffff",
        "64:ff9b:1:a01:ff02:300::",
        "64:ff9b:1:ff0a:1:203::",
        "64:ff9b:1:ffff:a:102:300:0",
        "64:ff9b:1:ffff::10.1.2.3",
        "64:ff9b:1::10.1.2.3",
        "2002:a01:203::1",
        "2001:0:a01:203::8.8.8.8",
        "2001:0:808:808:0:ffff:f5fe:fdfc",
        "fe80::5efe:10.1.2.3",
        "2600::200:5efe:10.1.2.3",
    ] {
        refuses(&rules, &format!("[{ip}]:80"));
        // The rule refused the address inside, and nothing else.
        let lifted = rules.clone().allow_net("10.1.2.3").unwrap();
        allows(&lifted, &format!("[{ip}]:80"));
    }
    for ip in ["::ffff:11.1.2.3", "64:ff9b::11.1.2.3", "2002:b01:203::", "a01:203::", "::1"] {
        allows(&rules, &format!("[{ip}]:80"));
    }
}

#[test]
fn an_address_and_the_one_inside_it_both_have_to_be_allowed() {
    let rules = EgressRules::deny_all().allow_port(80);
    let outside = rules.clone().allow_net("64:ff9b::/96").unwrap();
    let inside = rules.clone().allow_net("10.0.0.0/8").unwrap();
    let both = outside.clone().allow_net("10.0.0.0/8").unwrap();
    let address = "[64:ff9b::10.0.0.1]:80";
    refuses(&outside, address);
    refuses(&inside, address);
    allows(&both, address);
    // Both addresses in a Teredo address have to be allowed.
    let teredo =
        rules.allow_net("2001::/32").and_then(|rules| rules.allow_net("10.0.0.1")).unwrap();
    allows(&teredo, "[2001:0:a00:1::f5ff:fffe]:80");
    refuses(&teredo, "[2001:0:a00:2::f5ff:fffe]:80");
    refuses(&teredo, "[2001:0:a00:1::f5ff:fffd]:80");
}

#[test]
fn a_local_translator_can_be_allowed_in_every_layout() {
    let rules = EgressRules::public_only().allow_net("64:ff9b:1::/48").unwrap();
    for ip in [
        "64:ff9b:1:808:8:800::",
        "64:ff9b:1:8:8:808::",
        "64:ff9b:1::8:808:800:0",
        "64:ff9b:1::8.8.8.8",
    ] {
        allows(&rules, &format!("[{ip}]:80"));
    }
    for ip in [
        "64:ff9b:1:a00:0:100::",
        "64:ff9b:1:a:0:1::",
        "64:ff9b:1::a:0:100:0",
        "64:ff9b:1::10.0.0.1",
    ] {
        refuses(&rules, &format!("[{ip}]:80"));
    }
}

#[test]
fn a_mapped_address_is_an_ipv4_address_and_in_no_ipv6_net() {
    let rules = EgressRules::allow_all().deny_net("::/0").unwrap();
    refuses(&rules, "[::1]:80");
    allows(&rules, "[::ffff:10.0.0.1]:80");
    let rules = EgressRules::allow_all().deny_net("::ffff:10.0.0.0/104").unwrap();
    refuses(&rules, "10.0.0.1:80");
    refuses(&rules, "[::ffff:10.0.0.1]:80");
    allows(&rules, "11.0.0.1:80");
    let rules = EgressRules::allow_all().deny_net("::ffff:0:0/96").unwrap();
    refuses(&rules, "11.0.0.1:80");
    allows(&rules, "[::1]:80");
}

#[test]
fn the_scope_of_an_address_makes_no_difference_to_rules() {
    let rules = EgressRules::allow_all().deny_net("fe80::1").unwrap();
    refuses(&rules, "[fe80::1]:80");
    refuses(&rules, "[fe80::1%7]:80");
    allows(&rules, "[fe80::2%7]:80");
}

#[test]
fn an_invalid_rule_is_refused_with_its_fault() {
    invalid(EgressRules::allow_all().deny_net("10.0.0.1/8"), "10.0.0.0/8 may be meant");
    invalid(EgressRules::allow_all().allow_net("10.0.0.0/33"), "greater than 32");
    invalid(EgressRules::allow_all().allow_net("example.com"), "not an IPv4 or IPv6 address");
    invalid(EgressRules::allow_all().deny_host("*foo.com"), "a star may only stand");
    invalid(EgressRules::allow_all().allow_host("10.0.0.0/8"), "allow_net or deny_net");
    invalid(EgressRules::allow_all().allow_host(""), "empty");
}

#[test]
fn rules_are_equal_if_they_were_built_alike() {
    let made = || EgressRules::workers().deny_host("Example.com.").unwrap().deny_port(80);
    assert_eq!(made(), made());
    assert_eq!(made(), EgressRules::workers().deny_host("example.COM").unwrap().deny_port(80));
    assert_ne!(made(), EgressRules::public_only().deny_host("example.com").unwrap().deny_port(80));
    assert_ne!(made(), made().allow_port(80));
}

#[track_caller]
fn allows(rules: &EgressRules, address: &str) {
    assert!(rules.allows(address.parse().expect(address)), "{address} by {rules:?}");
}

#[track_caller]
fn refuses(rules: &EgressRules, address: &str) {
    assert!(!rules.allows(address.parse().expect(address)), "{address} by {rules:?}");
}

#[track_caller]
fn invalid(rules: sockeye::Result<EgressRules>, fault: &str) {
    let error = rules.expect_err(fault);
    assert_eq!(error.kind(), ErrorKind::InvalidOptions);
    assert!(error.to_string().contains(fault), "{error}");
}
