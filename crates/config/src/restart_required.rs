//! Changes that need a restart: what a running gateway cannot take over from a new configuration, although it is valid.
//!
//! Sockets, threads, bounds of the process, the state folder and the ledger's books are chosen at start: a change of
//! them is a finding, and never applied by half. A revision that drops more routes or servers than
//! `reload.removal_max_percent` allows is refused unless it is forced.

use std::collections::HashSet;
use std::hash::Hash;

use crate::model::ledger::Ledger;
use crate::model::{Config, Servers, Upstream};
use base::finding::{Finding, Place};
use base::units::Share;

const HINT: &str = "run `tollgate upgrade -c CONF`: a new process takes this configuration and the sockets, and no request is \
                    dropped; or take this change out of it: the rest then applies at once";

/// The findings against replacing `running` by `new`.
pub fn findings(running: &Config, new: &Config, force: bool) -> Vec<Finding> {
    let mut findings = fixed(running, new);
    if !force {
        findings.extend(removals(running, new));
    }
    findings
}

fn fixed(running: &Config, new: &Config) -> Vec<Finding> {
    let mut findings = vec![];
    let mut refuse = |place: &Place, what: String| {
        findings.push(place.finding(format!("{what} needs `tollgate upgrade`: it is chosen at start"), HINT));
    };
    let (old, server) = (&running.server, &new.server);
    if old.threads != server.threads {
        refuse(&server.place, format!("a change of `threads` from {} to {}", old.threads, server.threads));
    }
    if old.state_dir != server.state_dir {
        refuse(&server.place, format!("a change of `state_dir` from {}", old.state_dir.display()));
    }
    if old.shutdown_grace != server.shutdown_grace {
        refuse(&server.place, format!("a change of `shutdown_grace` from {:?}", old.shutdown_grace));
    }
    if old.max_connections != server.max_connections {
        refuse(&server.place, format!("a change of `max_connections` from {}", old.max_connections));
    }
    if old.memory_max != server.memory_max {
        refuse(&server.place, format!("a change of `memory_max` from {} bytes", old.memory_max));
    }
    for listener in &new.listeners {
        if !running.listeners.iter().any(|l| l.address == listener.address) {
            refuse(&listener.place, format!("listening on {}", listener.address));
        }
    }
    for listener in &new.listeners {
        let Some(old) = running.listeners.iter().find(|l| l.address == listener.address) else { continue };
        let changed = [
            (old.h2c != listener.h2c, "h2c"),
            (old.proxy_protocol != listener.proxy_protocol, "proxy_protocol"),
            (old.tls.is_some() != listener.tls.is_some(), "TLS on or off"),
        ];
        for (_, what) in changed.into_iter().filter(|(changed, _)| *changed) {
            refuse(&listener.place, format!("a change of {what} at {}", listener.address));
        }
    }
    for gone in &running.listeners {
        if !new.listeners.iter().any(|l| l.address == gone.address) {
            refuse(
                &new.listeners.first().map(|l| l.place.clone()).unwrap_or_default(),
                format!("no longer listening on {}", gone.address),
            );
        }
    }
    let (old, admin) = (running.admin.as_ref(), new.admin.as_ref());
    if old.map(|a| a.address) != admin.map(|a| a.address) {
        let place = admin.map_or(&server.place, |admin| &admin.place);
        refuse(place, "a change of the admin address".to_owned());
    }
    let what = ledger(running.ledger.as_ref(), new.ledger.as_ref());
    let place = new.ledger.as_ref().map_or(&server.place, |ledger| &ledger.place);
    what.into_iter().for_each(|what| refuse(place, what));
    findings
}

/// Changes of the ledger that need a restart: its books and its address. The rest is swapped.
fn ledger(old: Option<&Ledger>, new: Option<&Ledger>) -> Vec<String> {
    let (old, new) = match (old, new) {
        (None, None) => return vec![],
        (None, Some(_)) => return vec!["a ledger that was not there".to_owned()],
        (Some(_), None) => return vec!["taking the ledger away".to_owned()],
        (Some(old), Some(new)) => (old, new),
    };
    let changed = [
        (old.address != new.address, format!("a change of `ledger.address` from {}", old.address)),
        (old.embedded != new.embedded, format!("a change of `ledger.embedded` from {}", old.embedded)),
        (old.store != new.store, "a change of the ledger's store".to_owned()),
        (old.encryption_keys != new.encryption_keys, "a change of the ledger's encryption keys".to_owned()),
    ];
    changed.into_iter().filter_map(|(changed, what)| changed.then_some(what)).collect()
}

fn removals(running: &Config, new: &Config) -> Vec<Finding> {
    let max = new.reload.removal_max;
    let routes = |config: &Config| config.routes.iter().map(|route| route.name.clone()).collect::<HashSet<_>>();
    let servers = |config: &Config| {
        let of = |upstream: &Upstream| match &upstream.servers {
            Servers::Static(members) => {
                members.iter().map(|m| (upstream.name.clone(), m.address.to_string())).collect()
            }
            Servers::Dns { name, port, .. } => vec![(upstream.name.clone(), format!("{name}:{port}"))],
        };
        config.upstreams.iter().flat_map(of).collect::<HashSet<_>>()
    };
    let checks =
        [("routes", dropped(&routes(running), &routes(new))), ("servers", dropped(&servers(running), &servers(new)))];
    let refuse = |(what, (gone, all)): (&str, (usize, usize))| {
        let share = Share::percent(100.0 * gone as f64 / all.max(1) as f64)?;
        (share > max).then(|| {
            new.server.place.finding(
                format!("this revision drops {gone} of {all} {what}, more than reload.removal_max_percent ({max})"),
                "reload with force if that is meant: POST /api/v1/config/reload?force=true",
            )
        })
    };
    checks.into_iter().filter_map(refuse).collect()
}

fn dropped<T: Hash + Eq>(old: &HashSet<T>, new: &HashSet<T>) -> (usize, usize) {
    (old.difference(new).count(), old.len())
}
