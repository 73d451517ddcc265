//! Names under `.test`, as in the scenarios. `good`, `under_score`, `xn--bcher-kva`, `private` and all names under
//! `wild` are 127.0.0.1; `v6` is `::1`; `dual` is both; `multi` and `bhfirst` are two addresses of 127.0.0.0/8. No
//! other name is known, and the system's resolver is not asked.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use sockeye::{Connector, ConnectorBuilder, EgressRules};

pub const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
pub const MULTI: [IpAddr; 2] = [local(2), local(3)];
pub const BHFIRST: [IpAddr; 2] = [local(4), local(5)];

const fn local(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

/// The result of a lookup.
pub type Answer = Box<dyn Fn() -> io::Result<Vec<IpAddr>> + Send + Sync>;

/// The names, and a record of the lookups.
pub struct Names {
    connector: Connector,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Names {
    pub fn new() -> Names {
        Names::and(Vec::new())
    }

    /// Adds a name with these addresses, in this order.
    pub fn with(name: &'static str, addresses: &[IpAddr]) -> Names {
        let addresses = addresses.to_vec();
        Names::and(vec![(name, Box::new(move || Ok(addresses.clone())))])
    }

    /// Adds names that precede the others.
    pub fn and(first: Vec<(&'static str, Answer)>) -> Names {
        Names::by(Connector::builder(), first)
    }

    /// Like [`with`](Names::with), for a program that may dial public addresses only.
    pub fn public_only(name: &'static str, addresses: &[IpAddr]) -> Names {
        let addresses = addresses.to_vec();
        let answer: Answer = Box::new(move || Ok(addresses.clone()));
        Names::by(Connector::builder().egress(EgressRules::public_only()), vec![(name, answer)])
    }

    fn by(builder: ConnectorBuilder, first: Vec<(&'static str, Answer)>) -> Names {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&asked);
        let resolver = move |name: &str| {
            notes.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
            let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
            match first.iter().find(|(known, _)| *known == name) {
                Some((_, answer)) => answer(),
                None => look_up(&name),
            }
        };
        let connector = builder.resolver(resolver).build();
        Names { connector: connector.expect("the rules are valid"), asked }
    }

    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Returns the names that were looked up, as they were requested.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn look_up(name: &str) -> io::Result<Vec<IpAddr>> {
    let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("no such name: {name}"));
    match name.strip_suffix(".test").ok_or_else(unknown)? {
        "good" | "under_score" | "xn--bcher-kva" | "private" => Ok(vec![V4]),
        "v6" => Ok(vec![V6]),
        "dual" => Ok(vec![V6, V4]),
        "multi" => Ok(MULTI.to_vec()),
        "bhfirst" => Ok(BHFIRST.to_vec()),
        other if other.ends_with(".wild") => Ok(vec![V4]),
        _ => Err(unknown()),
    }
}
