//! The upstream of routes with `ledger = true`: the ledger's own address, and limits that keep its promise.
//!
//! A provider sends again after no answer, and also after a 503. So an attempt ends early enough that the client gets
//! its answer within five seconds. There is one server, which is never ejected, and nothing is tried twice except after
//! a dead pooled connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use balance::attempt::FailureSet;
use balance::settings::{Balance, Outlier};
use base::units::Share;
use config::model::ledger::UPSTREAM;
use config::model::{Action, Config, Member, Retry, Servers, Timeouts, Upstream};

/// Connect timeout.
const CONNECT: Duration = Duration::from_secs(1);
/// Total time. The ledger itself gives up after four seconds; a limit fires up to a sixteenth of it late, and the
/// answer must be out before five have passed.
const TOTAL: Duration = Duration::from_millis(4_600);

/// The upstream of the ledger, if a route needs one.
pub(super) fn upstream(config: &Config) -> Option<Upstream> {
    let ledger = config.ledger.as_ref().filter(|_| config.routes.iter().any(|r| r.action == Action::Ledger))?;
    let nothing = Share::percent(0.0).unwrap_or(Share::ALL);
    Some(Upstream {
        name: Arc::from(UPSTREAM),
        servers: Servers::Static(vec![Member { address: reached(ledger.address), weight: 1 }]),
        balance: Balance::RoundRobin,
        slow_start: None,
        max_requests_per_server: None,
        tls: None,
        adaptive: false,
        http2: false,
        health: None,
        outlier: Outlier { consecutive_failures: 0, eject_for: CONNECT, max_ejected: nothing },
        timeout: Timeouts {
            connect: Some(CONNECT),
            first_byte: None,
            read: Some(TOTAL),
            write: Some(TOTAL),
            total: Some(TOTAL),
        },
        retry: Retry { attempts: 1, on: FailureSet::default(), budget: nothing },
        place: ledger.place.clone(),
    })
}

/// The address at which a listener at this address is reached from here.
fn reached(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_everywhere_is_reached_here() {
        for (address, here) in
            [("0.0.0.0:9700", "127.0.0.1:9700"), ("[::]:9700", "[::1]:9700"), ("192.0.2.7:1", "192.0.2.7:1")]
        {
            assert_eq!(reached(address.parse().unwrap()), here.parse().unwrap());
        }
    }
}
