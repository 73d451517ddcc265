//! Tables of special-purpose addresses, which decide about an address that no rule matches.
//!
//! Generated from `special-ranges.txt`, `cloud-ranges.txt` and `cloudflare-ranges.txt`. Do not edit: change those
//! files, and run `UPDATE_EXPECT=1 cargo test --test it egress::table`.
//!
//! Rows are sorted by first address and then by prefix length.

use super::cidr::Net;
use super::ranges::Range;

#[rustfmt::skip]
pub(super) static IPV4: &[Range] = &[
    Range::deny(Net::v4([0, 0, 0, 0], 8), "This network, RFC 791"),
    Range::deny(Net::v4([0, 0, 0, 0], 32), "This host on this network, RFC 1122"),
    Range::deny(Net::v4([10, 0, 0, 0], 8), "Private-Use, RFC 1918"),
    Range::deny(Net::v4([100, 64, 0, 0], 10), "Shared Address Space, RFC 6598"),
    Range::deny(Net::v4([127, 0, 0, 0], 8), "Loopback, RFC 1122"),
    Range::deny(Net::v4([169, 254, 0, 0], 16), "Link Local, RFC 3927"),
    Range::deny(Net::v4([172, 16, 0, 0], 12), "Private-Use, RFC 1918"),
    Range::deny(Net::v4([192, 0, 0, 0], 24), "IETF Protocol Assignments, RFC 6890"),
    Range::deny(Net::v4([192, 0, 0, 0], 29), "IPv4 Service Continuity Prefix, RFC 7335"),
    Range::deny(Net::v4([192, 0, 0, 8], 32), "IPv4 dummy address, RFC 7600"),
    Range::deny(Net::v4([192, 0, 0, 9], 32), "Port Control Protocol Anycast, RFC 7723"),
    Range::deny(Net::v4([192, 0, 0, 10], 32), "Traversal Using Relays around NAT Anycast, RFC 8155"),
    Range::deny(Net::v4([192, 0, 0, 170], 32), "NAT64/DNS64 Discovery, RFC 8880, RFC 7050"),
    Range::deny(Net::v4([192, 0, 0, 171], 32), "NAT64/DNS64 Discovery, RFC 8880, RFC 7050"),
    Range::deny(Net::v4([192, 0, 2, 0], 24), "Documentation (TEST-NET-1), RFC 5737"),
    Range::allow(Net::v4([192, 31, 196, 0], 24), "AS112-v4, RFC 7535"),
    Range::allow(Net::v4([192, 52, 193, 0], 24), "AMT, RFC 7450"),
    Range::deny(Net::v4([192, 88, 99, 0], 24), "Deprecated (6to4 Relay Anycast), RFC 7526"),
    Range::deny(Net::v4([192, 88, 99, 2], 32), "6a44-relay anycast address, RFC 6751"),
    Range::deny(Net::v4([192, 168, 0, 0], 16), "Private-Use, RFC 1918"),
    Range::allow(Net::v4([192, 175, 48, 0], 24), "Direct Delegation AS112 Service, RFC 7534"),
    Range::deny(Net::v4([198, 18, 0, 0], 15), "Benchmarking, RFC 2544"),
    Range::deny(Net::v4([198, 51, 100, 0], 24), "Documentation (TEST-NET-2), RFC 5737"),
    Range::deny(Net::v4([203, 0, 113, 0], 24), "Documentation (TEST-NET-3), RFC 5737"),
    Range::deny(Net::v4([224, 0, 0, 0], 4), "Multicast, RFC 5771"),
    Range::deny(Net::v4([240, 0, 0, 0], 4), "Reserved, RFC 1112"),
    Range::deny(Net::v4([255, 255, 255, 255], 32), "Limited Broadcast, RFC 8190, RFC 919"),
];

#[rustfmt::skip]
pub(super) static IPV6: &[Range] = &[
    Range::deny(Net::v6([0, 0, 0, 0, 0, 0, 0, 0], 96), "IPv4-compatible, deprecated, RFC 4291"),
    Range::deny(Net::v6([0, 0, 0, 0, 0, 0, 0, 0], 128), "Unspecified Address, RFC 4291"),
    Range::deny(Net::v6([0, 0, 0, 0, 0, 0, 0, 0x1], 128), "Loopback Address, RFC 4291"),
    Range::deny(Net::v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), "IPv4-mapped Address, RFC 4291"),
    Range::deny(Net::v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96), "IPv4-translated, RFC 2765, RFC 7915"),
    Range::allow(Net::v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), "IPv4-IPv6 Translat., RFC 6052"),
    Range::deny(Net::v6([0x64, 0xff9b, 0x1, 0, 0, 0, 0, 0], 48), "IPv4-IPv6 Translat., RFC 8215"),
    Range::deny(Net::v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), "Discard-Only Address Block, RFC 6666"),
    Range::deny(Net::v6([0x100, 0, 0, 0x1, 0, 0, 0, 0], 64), "Dummy IPv6 Prefix, RFC 9780"),
    Range::deny(Net::v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "IETF Protocol Assignments, RFC 2928"),
    Range::deny(Net::v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), "TEREDO, RFC 4380, RFC 8190"),
    Range::deny(Net::v6([0x2001, 0x1, 0, 0, 0, 0, 0, 0x1], 128), "Port Control Protocol Anycast, RFC 7723"),
    Range::deny(Net::v6([0x2001, 0x1, 0, 0, 0, 0, 0, 0x2], 128), "Traversal Using Relays around NAT Anycast, RFC 8155"),
    Range::deny(Net::v6([0x2001, 0x1, 0, 0, 0, 0, 0, 0x3], 128), "DNS-SD Service Registration Protocol Anycast, RFC 9665"),
    Range::deny(Net::v6([0x2001, 0x2, 0, 0, 0, 0, 0, 0], 48), "Benchmarking, RFC 5180"),
    Range::allow(Net::v6([0x2001, 0x3, 0, 0, 0, 0, 0, 0], 32), "AMT, RFC 7450"),
    Range::allow(Net::v6([0x2001, 0x4, 0x112, 0, 0, 0, 0, 0], 48), "AS112-v6, RFC 7535"),
    Range::deny(Net::v6([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28), "Deprecated (previously ORCHID), RFC 4843"),
    Range::deny(Net::v6([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28), "ORCHIDv2, RFC 7343"),
    Range::deny(Net::v6([0x2001, 0x30, 0, 0, 0, 0, 0, 0], 28), "Drone Remote ID Protocol Entity Tags (DETs) Prefix, RFC 9374"),
    Range::deny(Net::v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), "Documentation, RFC 3849"),
    Range::deny(Net::v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), "6to4, RFC 3056"),
    Range::allow(Net::v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48), "Direct Delegation AS112 Service, RFC 7534"),
    Range::deny(Net::v6([0x3ffe, 0, 0, 0, 0, 0, 0, 0], 16), "6bone, returned, RFC 3701"),
    Range::deny(Net::v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "Documentation, RFC 9637"),
    Range::deny(Net::v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), "Segment Routing (SRv6) SIDs, RFC 9602"),
    Range::deny(Net::v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), "Unique-Local, RFC 4193, RFC 8190"),
    Range::deny(Net::v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "Link-Local Unicast, RFC 4291"),
    Range::deny(Net::v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), "Site-Local, deprecated, RFC 3879"),
    Range::deny(Net::v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "Multicast, RFC 4291"),
];

#[rustfmt::skip]
pub(super) static CLOUD: &[Range] = &[
    Range::deny(Net::v4([168, 63, 129, 16], 32), "Azure platform services"),
];

#[rustfmt::skip]
pub(super) static CLOUDFLARE: &[Range] = &[
    Range::deny(Net::v4([103, 21, 244, 0], 22), "Cloudflare"),
    Range::deny(Net::v4([103, 22, 200, 0], 22), "Cloudflare"),
    Range::deny(Net::v4([103, 31, 4, 0], 22), "Cloudflare"),
    Range::deny(Net::v4([104, 16, 0, 0], 13), "Cloudflare"),
    Range::deny(Net::v4([104, 24, 0, 0], 14), "Cloudflare"),
    Range::deny(Net::v4([108, 162, 192, 0], 18), "Cloudflare"),
    Range::deny(Net::v4([131, 0, 72, 0], 22), "Cloudflare"),
    Range::deny(Net::v4([141, 101, 64, 0], 18), "Cloudflare"),
    Range::deny(Net::v4([162, 158, 0, 0], 15), "Cloudflare"),
    Range::deny(Net::v4([172, 64, 0, 0], 13), "Cloudflare"),
    Range::deny(Net::v4([173, 245, 48, 0], 20), "Cloudflare"),
    Range::deny(Net::v4([188, 114, 96, 0], 20), "Cloudflare"),
    Range::deny(Net::v4([190, 93, 240, 0], 20), "Cloudflare"),
    Range::deny(Net::v4([197, 234, 240, 0], 22), "Cloudflare"),
    Range::deny(Net::v4([198, 41, 128, 0], 17), "Cloudflare"),
    Range::deny(Net::v6([0x2400, 0xcb00, 0, 0, 0, 0, 0, 0], 32), "Cloudflare"),
    Range::deny(Net::v6([0x2405, 0x8100, 0, 0, 0, 0, 0, 0], 32), "Cloudflare"),
    Range::deny(Net::v6([0x2405, 0xb500, 0, 0, 0, 0, 0, 0], 32), "Cloudflare"),
    Range::deny(Net::v6([0x2606, 0x4700, 0, 0, 0, 0, 0, 0], 32), "Cloudflare"),
    Range::deny(Net::v6([0x2803, 0xf800, 0, 0, 0, 0, 0, 0], 32), "Cloudflare"),
    Range::deny(Net::v6([0x2a06, 0x98c0, 0, 0, 0, 0, 0, 0], 29), "Cloudflare"),
    Range::deny(Net::v6([0x2c0f, 0xf248, 0, 0, 0, 0, 0, 0], 32), "Cloudflare"),
];
