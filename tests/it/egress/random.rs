//! Ten million addresses, under rules of all kinds, checked against a second implementation.
//! Addresses and rules are drawn from the whole range, and more often from critical places: the edges of special ranges
//! and of rules, and addresses with embedded IPv4 addresses.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;

use fastrand::Rng;
use sockeye::EgressRules;

use super::model::{BASES, Base, Model, VERDICTS, Verdict};
use super::table::{Row, cloud_ranges, cloudflare_ranges, last_of, special_ranges};

const THREADS: u64 = 2;
const RULES: usize = 4_000;
const ADDRESSES: usize = 1_250;

#[test]
fn ten_million_addresses_get_the_verdict_of_a_second_implementation() {
    let counts = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|seed| scope.spawn(move || compare(seed))).collect();
        threads.into_iter().map(|thread| thread.join().expect("they agree")).collect::<Vec<_>>()
    });
    let mut total = 0;
    for base in BASES {
        for verdict in VERDICTS {
            let count: usize =
                counts.iter().map(|counts| counts.get(&(base, verdict)).unwrap_or(&0)).sum();
            assert!(count > 10_000, "{base:?} decided {verdict:?} only {count} times");
            total += count;
        }
    }
    assert_eq!(total, 10_000_000);
}

/// The number of times that rules of a base reached a verdict.
type Counts = HashMap<(Base, Verdict), usize>;

fn compare(seed: u64) -> Counts {
    println!("seed {seed}");
    let mut random = Rng::with_seed(seed);
    let special = special_ranges().into_iter().chain(cloud_ranges());
    let special: Vec<Row> = special.chain(cloudflare_ranges()).collect();
    let mut counts = Counts::new();
    for _ in 0..RULES {
        let mut draw = Draw { random: &mut random, special: &special, nets: Vec::new() };
        let (base, rules, model) = draw.rules();
        for _ in 0..ADDRESSES {
            let address = draw.address();
            let verdict = model.judge(address);
            assert_eq!(
                rules.allows(address),
                verdict == Verdict::Allowed,
                "seed {seed}: {address}, expected {verdict:?} from {rules:?}"
            );
            *counts.entry((base, verdict)).or_default() += 1;
        }
    }
    counts
}

struct Draw<'a> {
    random: &'a mut Rng,
    special: &'a [Row],
    /// The first and last addresses of the nets in the rules.
    nets: Vec<(IpAddr, IpAddr)>,
}

impl Draw<'_> {
    fn rules(&mut self) -> (Base, EgressRules, Model) {
        let base = self.random.choice(BASES).expect("the list is not empty");
        let mut model = Model::new(base);
        let mut rules = match base {
            Base::All => EgressRules::allow_all(),
            Base::Nothing => EgressRules::deny_all(),
            Base::Public => EgressRules::public_only(),
            Base::Workers => EgressRules::workers(),
        };
        for _ in 0..self.random.usize(0..8) {
            let net = self.net();
            let allow = self.random.bool();
            model.net(&net, allow);
            rules = if allow { rules.allow_net(&net) } else { rules.deny_net(&net) }.expect(&net);
        }
        for _ in 0..self.random.usize(0..4) {
            let port = self.port();
            let allow = self.random.bool();
            model.port(port, allow);
            rules = if allow { rules.allow_port(port) } else { rules.deny_port(port) };
        }
        (base, rules, model)
    }

    /// Returns a net in a user's notation.
    fn net(&mut self) -> String {
        let ip = self.ip();
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let prefix = match self.random.u8(0..6) {
            0 => most,
            1 => self.random.u8(0..4),
            2 => 8 * self.random.u8(0..=most / 8),
            3 if most == 128 => self.random.u8(96..=128),
            _ => self.random.u8(0..=most),
        };
        let row = Row {
            network: ip,
            prefix,
            allowed: false,
            registry: String::new(),
            label: String::new(),
            note: String::new(),
        };
        let (first, last) = last_of(&row);
        self.nets.push((first, last));
        format!("{first}/{prefix}")
    }

    fn port(&mut self) -> u16 {
        self.random.choice([25, 80, 443]).expect("the list is not empty")
    }

    fn address(&mut self) -> SocketAddr {
        (self.ip(), self.port()).into()
    }

    fn ip(&mut self) -> IpAddr {
        match self.random.u8(0..16) {
            0..5 => self.v4().into(),
            5..7 => self.near_a_special_range(),
            7..9 => self.near_a_rule(),
            9 => Ipv6Addr::from_bits(self.random.u128(..)).into(),
            10 => Ipv6Addr::from_bits(self.random.u128(..) >> 3 | 1 << 125).into(),
            11 => self.isatap(),
            _ => self.embedding(),
        }
    }

    fn v4(&mut self) -> Ipv4Addr {
        let near = match self.random.u8(0..4) {
            0 => self.near_a_special_range(),
            1 => self.near_a_rule(),
            _ => IpAddr::V4(self.random.u32(..).into()),
        };
        match near {
            IpAddr::V4(ip) => ip,
            IpAddr::V6(_) => self.random.u32(..).into(),
        }
    }

    fn near_a_special_range(&mut self) -> IpAddr {
        let row = self.random.choice(self.special).expect("the list is not empty");
        self.near(last_of(row))
    }

    fn near_a_rule(&mut self) -> IpAddr {
        match self.random.choice(&self.nets) {
            Some(&net) => self.near(net),
            None => self.near_a_special_range(),
        }
    }

    /// Returns an address inside a range, or directly before or after it.
    fn near(&mut self, range: (IpAddr, IpAddr)) -> IpAddr {
        let place = self.random.u8(0..8);
        match range {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                let (first, last) = (first.to_bits(), last.to_bits());
                let bits = match place {
                    0 => first.wrapping_sub(1),
                    1 => last.wrapping_add(1),
                    2 => first,
                    3 => last,
                    _ => self.random.u32(first..=last),
                };
                IpAddr::V4(bits.into())
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                let (first, last) = (first.to_bits(), last.to_bits());
                let bits = match place {
                    0 => first.wrapping_sub(1),
                    1 => last.wrapping_add(1),
                    2 => first,
                    3 => last,
                    _ => self.random.u128(first..=last),
                };
                IpAddr::V6(bits.into())
            }
            mixed => panic!("{mixed:?} is not a range"),
        }
    }

    /// Returns an IPv4 address under any prefix in ISATAP format.
    fn isatap(&mut self) -> IpAddr {
        let prefix = match self.near_a_special_range() {
            IpAddr::V6(ip) => ip.to_bits() >> 64,
            IpAddr::V4(_) => u128::from(self.random.u64(..) >> 3 | 1 << 61),
        };
        let mark = self.random.choice([0x0000_5efe, 0x0200_5efe]).expect("the list is not empty");
        let v4 = u128::from(self.v4().to_bits());
        IpAddr::V6((prefix << 64 | mark << 32 | v4).into())
    }

    /// Returns an IPv4 address inside an IPv6 address whose other bits are random.
    fn embedding(&mut self) -> IpAddr {
        let v4 = u128::from(self.v4().to_bits());
        let around = if self.random.bool() { 0 } else { self.random.u128(..) };
        let low = |count: u32| around & ((1 << count) - 1);
        let local = 0x0064_ff9b_0001_u128 << 80;
        let bits = match self.random.u8(0..10) {
            0 => 0xffff << 32 | v4,
            1 => v4,
            2 => 0xffff << 48 | v4,
            3 => 0x0064_ff9b << 96 | v4,
            4 => local | (v4 >> 16) << 64 | (v4 & 0xffff) << 40 | low(40),
            5 => local | low(80) >> 72 << 72 | (v4 >> 24) << 64 | (v4 & 0xff_ffff) << 32 | low(32),
            6 => local | low(80) >> 64 << 64 | v4 << 24 | low(24),
            7 => local | low(80) >> 32 << 32 | v4,
            8 => 0x2002 << 112 | v4 << 80 | low(80),
            _ => {
                let server = u128::from(self.v4().to_bits());
                0x2001 << 112 | server << 64 | (low(64) >> 32) << 32 | (!v4 & 0xffff_ffff)
            }
        };
        IpAddr::V6(bits.into())
    }
}
