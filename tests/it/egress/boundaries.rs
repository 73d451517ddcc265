//! The boundaries of every special range, checked against the tables and against the RFCs.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use sockeye::{Connector, EgressRules, ErrorKind};

use super::model::inside;
use super::table::{Row, cloud_ranges, cloudflare_ranges, last_of, special_ranges};

#[test]
fn the_rules_follow_the_text_at_every_edge_of_special_ranges() {
    let rows = special_ranges();
    let rules = EgressRules::public_only();
    let mut seen = [0, 0];
    for row in &rows {
        for ip in edges(row) {
            let expected = allowed_by(&rows, ip);
            assert_eq!(allows(&rules, ip), expected, "{ip}, at an edge of {row:?}");
            seen[usize::from(expected)] += 1;
        }
    }
    // Addresses next to a range are usually public, and those inside are not.
    assert!(seen[0] > 100 && seen[1] > 40, "{seen:?}");
}

#[test]
fn the_rules_follow_the_text_at_every_edge_of_cloudflare_ranges() {
    let rows = cloudflare_ranges();
    let [public, workers] = [EgressRules::public_only(), EgressRules::workers()];
    for row in &rows {
        for ip in edges(row) {
            let expected = !rows.iter().any(|row| holds(row, ip));
            assert_eq!(allows(&workers, ip), expected, "{ip}, at an edge of {row:?}");
            assert!(allows(&public, ip), "{ip}, at an edge of {row:?}");
        }
    }
}

#[test]
fn the_rules_follow_the_text_at_every_edge_of_cloud_ranges() {
    let rows = cloud_ranges();
    for rules in [EgressRules::public_only(), EgressRules::workers()] {
        for row in &rows {
            for ip in edges(row) {
                let expected = !rows.iter().any(|row| holds(row, ip));
                assert_eq!(allows(&rules, ip), expected, "{ip}, at an edge of {row:?}");
            }
        }
    }
}

/// The addresses at which each cloud provides settings and secrets to a machine, from that cloud's documentation.
#[test]
fn the_metadata_services_of_clouds_are_denied() {
    let services = [
        ("Alibaba Cloud", "100.100.100.200"),
        ("AWS", "169.254.169.254"),
        ("AWS, IPv6", "fd00:ec2::254"),
        ("AWS, tasks of ECS", "169.254.170.2"),
        ("AWS, pods of EKS", "169.254.170.23"),
        ("AWS, pods of EKS, IPv6", "fd00:ec2::23"),
        ("AWS, name server", "169.254.169.253"),
        ("AWS, name server, IPv6", "fd00:ec2::253"),
        ("Azure, instance metadata", "169.254.169.254"),
        ("Azure, managed identities of App Service", "169.254.129.1"),
        ("Azure, platform services", "168.63.129.16"),
        ("DigitalOcean", "169.254.169.254"),
        ("Exoscale", "169.254.169.254"),
        ("Google Cloud", "169.254.169.254"),
        ("Google Cloud, IPv6", "fd20:ce::254"),
        ("Hetzner", "169.254.169.254"),
        ("Huawei Cloud", "169.254.169.254"),
        ("IBM Cloud", "169.254.169.254"),
        ("Linode", "169.254.169.254"),
        ("Linode, IPv6", "fd00:a9fe:a9fe::1"),
        ("OpenStack", "169.254.169.254"),
        ("OpenStack, IPv6", "fe80::a9fe:a9fe"),
        ("Oracle Cloud", "169.254.169.254"),
        ("Oracle Cloud, IPv6", "fd00:c1::a9fe:a9fe"),
        ("Oracle Cloud Classic", "192.0.0.192"),
        ("OVHcloud", "169.254.169.254"),
        ("Scaleway", "169.254.42.42"),
        ("Scaleway, IPv6", "fd00:42::42"),
        ("Tencent Cloud", "169.254.0.23"),
        ("Vultr", "169.254.169.254"),
    ];
    for (cloud, ip) in services {
        let ip: IpAddr = ip.parse().unwrap();
        let mut spellings = vec![ip];
        if let IpAddr::V4(ip) = ip {
            let [a, b, c, d] = ip.octets();
            let tail = (u16::from(a) << 8 | u16::from(b), u16::from(c) << 8 | u16::from(d));
            let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, tail.0, tail.1);
            let six_to_four = Ipv6Addr::new(0x2002, tail.0, tail.1, 0, 0, 0, 0, 1);
            spellings.extend([ip.to_ipv6_mapped(), nat64, six_to_four].map(IpAddr::V6));
        }
        for rules in [EgressRules::public_only(), EgressRules::workers()] {
            for ip in &spellings {
                assert!(!allows(&rules, *ip), "{cloud}: {ip}");
            }
        }
    }
}

#[test]
fn the_reason_names_the_service_of_the_cloud() {
    let connector = Connector::builder().egress(EgressRules::public_only()).build().unwrap();
    for host in ["168.63.129.16", "[::ffff:168.63.129.16]", "[64:ff9b::168.63.129.16]"] {
        let error = connector.connect(format!("{host}:80")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        let reason = "is in 168.63.129.16/32 (Azure platform services)";
        assert!(error.to_string().contains(reason), "{error}");
    }
    let rules = EgressRules::public_only().allow_net("168.63.129.16").unwrap();
    assert!(allows(&rules, "168.63.129.16".parse().unwrap()));
}

#[test]
fn rules_can_allow_and_deny_every_special_range() {
    for row in special_ranges().into_iter().chain(cloud_ranges()) {
        let (first, last) = last_of(&row);
        let net = format!("{first}/{}", row.prefix);
        let all = EgressRules::public_only().allow_net("0.0.0.0/0").unwrap();
        let lifted = all.allow_net(&net).unwrap();
        let denied = lifted.clone().deny_net(&net).unwrap();
        for ip in [first, last] {
            assert!(allows(&lifted, ip), "{ip} of {row:?}");
            assert!(!allows(&denied, ip), "{ip} of {row:?}");
        }
    }
}

#[test]
fn the_rules_for_ipv4_follow_the_rfcs() {
    // RFC 791 and RFC 1122, section 3.2.1.3: this network.
    denied("0.0.0.0", "0.255.255.255");
    allowed("1.0.0.0", "9.255.255.255");
    // RFC 1918: private networks.
    denied("10.0.0.0", "10.255.255.255");
    allowed("11.0.0.0", "100.63.255.255");
    // RFC 6598: shared by the customers of a carrier.
    denied("100.64.0.0", "100.127.255.255");
    allowed("100.128.0.0", "126.255.255.255");
    // RFC 1122, section 3.2.1.3: loopback.
    denied("127.0.0.0", "127.255.255.255");
    allowed("128.0.0.0", "169.253.255.255");
    // RFC 3927: the link, and the credentials of clouds.
    denied("169.254.0.0", "169.254.255.255");
    denied("169.254.169.254", "169.254.170.2");
    allowed("169.255.0.0", "172.15.255.255");
    // RFC 1918: private networks.
    denied("172.16.0.0", "172.31.255.255");
    allowed("172.32.0.0", "191.255.255.255");
    // RFC 6890: protocol assignments, including those of RFC 7335, 7600, 7723, 8155 and 7050.
    denied("192.0.0.0", "192.0.0.7");
    denied("192.0.0.8", "192.0.0.11");
    denied("192.0.0.170", "192.0.0.171");
    denied("192.0.0.172", "192.0.0.255");
    allowed("192.0.1.0", "192.0.1.255");
    // RFC 5737: documentation.
    denied("192.0.2.0", "192.0.2.255");
    allowed("192.0.3.0", "192.88.98.255");
    // RFC 7535 and RFC 7450: services on the Internet.
    allowed("192.31.195.255", "192.31.196.0");
    allowed("192.31.196.255", "192.31.197.0");
    allowed("192.52.193.0", "192.52.193.255");
    // RFC 7526: the former 6to4 relays; RFC 6751: those of 6a44.
    denied("192.88.99.0", "192.88.99.255");
    denied("192.88.99.1", "192.88.99.2");
    allowed("192.88.100.0", "192.167.255.255");
    // RFC 1918: private networks.
    denied("192.168.0.0", "192.168.255.255");
    allowed("192.169.0.0", "198.17.255.255");
    // RFC 7534.
    allowed("192.175.48.0", "192.175.48.255");
    // RFC 2544: benchmarks.
    denied("198.18.0.0", "198.19.255.255");
    allowed("198.20.0.0", "198.51.99.255");
    // RFC 5737: documentation.
    denied("198.51.100.0", "198.51.100.255");
    allowed("198.51.101.0", "203.0.112.255");
    denied("203.0.113.0", "203.0.113.255");
    allowed("203.0.114.0", "223.255.255.255");
    // RFC 5771: multicast; RFC 1112, section 4: reserved; RFC 919: broadcast.
    denied("224.0.0.0", "239.255.255.255");
    denied("240.0.0.0", "255.255.255.254");
    denied("255.255.255.255", "255.255.255.255");
}

#[test]
fn the_rules_for_ipv6_follow_the_rfcs() {
    // RFC 4291: unspecified, loopback, IPv4-compatible, and the reserved range after it.
    denied("::", "::1");
    denied("::2", "::ffff:ffff");
    denied("::8.8.8.8", "::1:0:0");
    denied("::fffe:ffff:ffff", "::1:0:0:0");
    // RFC 2765: IPv4-translated.
    denied("::fffe:ffff:ffff:ffff", "::ffff:0:0:0");
    denied("::ffff:0:8.8.8.8", "::ffff:0:ffff:ffff");
    denied("::ffff:1:0:0", "64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff");
    // RFC 4291: an IPv4-mapped address is the IPv4 address.
    denied("::ffff:0.0.0.0", "::ffff:0.255.255.255");
    allowed("::ffff:1.0.0.0", "::ffff:9.255.255.255");
    denied("::ffff:10.0.0.0", "::ffff:10.255.255.255");
    denied("::ffff:224.0.0.0", "::ffff:255.255.255.255");
    // RFC 6052: an IPv4 address behind a translator.
    denied("64:ff9b::", "64:ff9b::0.255.255.255");
    allowed("64:ff9b::1.0.0.0", "64:ff9b::9.255.255.255");
    denied("64:ff9b::10.0.0.0", "64:ff9b::10.255.255.255");
    allowed("64:ff9b::11.0.0.0", "64:ff9b::8.8.8.8");
    denied("64:ff9b::169.254.169.254", "64:ff9b::ffff:ffff");
    denied("64:ff9b::1:0:0", "64:ff9b:0:ffff:ffff:ffff:ffff:ffff");
    // RFC 8215: the same, within a local network.
    denied("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff");
    denied("64:ff9b:1::8.8.8.8", "64:ff9b:1:808:8:800::");
    denied("64:ff9b:2::", "ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    // RFC 6666 and RFC 9780: discard-only.
    denied("100::", "100::ffff:ffff:ffff:ffff");
    denied("100:0:0:1::", "100:0:0:1:ffff:ffff:ffff:ffff");
    denied("100:0:0:2::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    allowed("2000::", "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    // RFC 4380: Teredo.
    denied("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff");
    denied("2001:0:808:808::f7f7:f7f7", "2001:0:4136:e378:8000:63bf:3fff:fdd2");
    // RFC 7723, RFC 8155 and RFC 9665: anycast; and the addresses between them.
    denied("2001:1::", "2001:1::1");
    denied("2001:1::2", "2001:1::3");
    denied("2001:1::4", "2001:1:ffff:ffff:ffff:ffff:ffff:ffff");
    // RFC 5180: benchmarks.
    denied("2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff");
    denied("2001:2:1::", "2001:2:ffff:ffff:ffff:ffff:ffff:ffff");
    // RFC 7450: AMT.
    allowed("2001:3::", "2001:3:ffff:ffff:ffff:ffff:ffff:ffff");
    // RFC 7535: AS112.
    denied("2001:4::", "2001:4:111:ffff:ffff:ffff:ffff:ffff");
    allowed("2001:4:112::", "2001:4:112:ffff:ffff:ffff:ffff:ffff");
    denied("2001:4:113::", "2001:f:ffff:ffff:ffff:ffff:ffff:ffff");
    // RFC 4843, RFC 7343 and RFC 9374: identifiers; RFC 2928: the rest of the assignments.
    denied("2001:10::", "2001:1f:ffff:ffff:ffff:ffff:ffff:ffff");
    denied("2001:20::", "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff");
    denied("2001:30::", "2001:3f:ffff:ffff:ffff:ffff:ffff:ffff");
    denied("2001:40::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff");
    allowed("2001:200::", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff");
    // RFC 3849: documentation.
    denied("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff");
    allowed("2001:db9::", "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    // RFC 3056: 6to4.
    denied("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    denied("2002:808:808::", "2002:a00:1::1");
    allowed("2003::", "2620:4f:7fff:ffff:ffff:ffff:ffff:ffff");
    // RFC 7534.
    allowed("2620:4f:8000::", "2620:4f:8000:ffff:ffff:ffff:ffff:ffff");
    allowed("2620:4f:8001::", "3ffd:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    // RFC 3701: the former 6bone; RFC 9637: documentation.
    denied("3ffe::", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    denied("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff");
    allowed("3fff:1000::", "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    // RFC 4291, section 2.4: not allocated to hosts; RFC 9602: SRv6.
    denied("4000::", "5eff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    denied("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    denied("5f01::", "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    // RFC 4193: unique local, and the credentials of a cloud.
    denied("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    denied("fd00:ec2::254", "fe00::");
    // RFC 4291: the link; RFC 3879: the former site-local range.
    denied("fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe80::");
    denied("febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fec0::");
    // RFC 4291: multicast.
    denied("feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ff00::");
    denied("ff02::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    // RFC 5214: ISATAP, under any prefix.
    denied("2600::5efe:10.0.0.1", "2600::200:5efe:10.0.0.1");
    allowed("2600::5efe:8.8.8.8", "2600::200:5efe:8.8.8.8");
    allowed("2600::100:5efe:10.0.0.1", "2600::5eff:10.0.0.1");
}

/// Checks the first and last addresses of a denied range, or any two denied addresses.
fn denied(first: &str, last: &str) {
    check(first, false);
    check(last, false);
}

/// Checks the first and last addresses of an allowed range, or any two allowed addresses.
fn allowed(first: &str, last: &str) {
    check(first, true);
    check(last, true);
}

fn check(ip: &str, expected: bool) {
    let ip = ip.parse().expect(ip);
    assert_eq!(allows(&EgressRules::public_only(), ip), expected, "{ip}");
}

fn allows(rules: &EgressRules, ip: IpAddr) -> bool {
    rules.allows(SocketAddr::from((ip, 443)))
}

/// Returns the first and last addresses of a range and their neighbours.
fn edges(row: &Row) -> Vec<IpAddr> {
    let (first, last) = last_of(row);
    [before(first), Some(first), Some(last), after(last)].into_iter().flatten().collect()
}

fn before(ip: IpAddr) -> Option<IpAddr> {
    Some(match ip {
        IpAddr::V4(ip) => IpAddr::V4(ip.to_bits().checked_sub(1)?.into()),
        IpAddr::V6(ip) => IpAddr::V6(ip.to_bits().checked_sub(1)?.into()),
    })
}

fn after(ip: IpAddr) -> Option<IpAddr> {
    Some(match ip {
        IpAddr::V4(ip) => IpAddr::V4(ip.to_bits().checked_add(1)?.into()),
        IpAddr::V6(ip) => IpAddr::V6(ip.to_bits().checked_add(1)?.into()),
    })
}

/// Returns the decision of the text's rows for an address and the addresses inside it.
fn allowed_by(rows: &[Row], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let inside = inside(ip).into_iter().map(|bits| {
        let bits = u32::from_str_radix(bits.strip_prefix("4:").expect("an IPv4 address"), 2);
        IpAddr::V4(bits.expect("zeros and ones").into())
    });
    std::iter::once(ip).chain(inside).all(|ip| {
        match rows.iter().filter(|row| holds(row, ip)).max_by_key(|row| row.prefix) {
            Some(row) => row.allowed,
            None => match ip {
                IpAddr::V4(_) => true,
                IpAddr::V6(ip) => (0x2000..0x4000).contains(&ip.segments()[0]),
            },
        }
    })
}

fn holds(row: &Row, ip: IpAddr) -> bool {
    let (first, last) = last_of(row);
    first.is_ipv4() == ip.is_ipv4() && first <= ip && ip <= last
}
