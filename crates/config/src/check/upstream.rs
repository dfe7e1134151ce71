//! The checks of `[upstream.NAME]`.
//!
//! Servers come from exactly one source and are distinct. TLS must verify one name: servers at several addresses need
//! `sni` unless nothing is verified.

use std::sync::Arc;
use std::time::Duration;

use super::{Check, duration, number, share, table, twice};
use crate::file::Item;
use crate::file::located::Located;
use crate::file::upstream::{self as form, Failure};
use crate::model::{Health, Member, Retry, Servers, Timeouts, Upstream, UpstreamTls};
use crate::source_map::Span;
use balance::attempt::FailureSet;
use balance::settings::{Balance, HashKey, Outlier};

impl Check<'_, '_> {
    pub(super) fn upstream(&mut self, item: &Item<form::UpstreamForm>) -> Option<Upstream> {
        let form = &item.form;
        let servers = self.servers(item);
        let tls = form.tls.as_ref().and_then(|tls| self.upstream_tls(tls.span.clone(), &tls.value.0, servers.as_ref()));
        let health = form.health.as_ref().map(|health| self.health(&health.value.0));
        let outlier = self.outlier(table(&form.outlier, &form::OutlierForm::default()));
        let hash_key = form.hash_key.as_ref().map_or(HashKey::Ip, |at| at.value.0.clone());
        Some(Upstream {
            name: Arc::from(&*item.name),
            servers: servers?,
            balance: match form.balance.as_ref().map(|at| at.value.0) {
                None | Some(form::Balance::RoundRobin) => Balance::RoundRobin,
                Some(form::Balance::Random) => Balance::Random,
                Some(form::Balance::LeastRequest) => Balance::LeastRequest,
                Some(form::Balance::PeakEwma) => Balance::PeakEwma,
                Some(form::Balance::Hash) => Balance::Hash(hash_key),
            },
            slow_start: form.slow_start.as_ref().map(|at| at.value.0).filter(|time| !time.is_zero()),
            max_requests_per_server: form.max_requests_per_server.as_ref().map(|at| at.value.0 as u32),
            tls,
            http2: form.http2.unwrap_or_default(),
            adaptive: form.adaptive.unwrap_or_default(),
            health,
            outlier,
            timeout: timeouts(table(&form.timeout, &form::TimeoutForm::default())),
            retry: retry(table(&form.retry, &form::RetryForm::default())),
            place: self.places.place(&item.span),
        })
    }

    fn servers(&mut self, item: &Item<form::UpstreamForm>) -> Option<Servers> {
        match (&item.form.servers, &item.form.dns) {
            (Some(_), Some(dns)) => {
                let hint = "keep one of them: fixed addresses, or a name";
                self.findings.at(&dns.span, "an upstream has either `servers` or `dns`, not both", hint);
                None
            }
            (Some(servers), None) => Some(Servers::Static(self.members(servers, item.whole))),
            (None, Some(dns)) => self.dns(&dns.span, &dns.value.0, item.whole),
            (None, None) => {
                if item.whole {
                    let hint =
                        "add `servers = [\"127.0.0.1:9001\"]`, or `dns = { name = \"orders.internal\", port = 8080 }`";
                    self.findings.at(&item.span, "the upstream has neither `servers` nor `dns`", hint);
                }
                None
            }
        }
    }

    fn members(&mut self, servers: &Located<Vec<Located<form::Entry>>>, whole: bool) -> Vec<Member> {
        if servers.value.is_empty() && whole {
            self.findings.at(&servers.span, "`servers` is empty", "name at least one server; weight 0 drains one");
        }
        let mut members = Vec::new();
        for entry in &servers.value {
            match entry.value.address {
                Some(address) if address.port() == 0 => {
                    self.findings.at(&entry.span, "a server cannot have port 0", "such as \"127.0.0.1:9001\"");
                }
                // The range of the form is that of the type, so the default never replaces a larger number.
                Some(address) => members.push(Member { address, weight: weight(entry.value.weight) }),
                None => self.missing(whole, &entry.span, "address", "{ address = \"127.0.0.1:9001\", weight = 2 }"),
            }
        }
        let addresses = servers.value.iter().filter_map(|entry| Some((entry.value.address?, &entry.span)));
        for (again, first) in twice(addresses) {
            self.collision(again, "this server is listed twice", first);
        }
        members
    }

    fn dns(&mut self, span: &Span, form: &form::DnsForm, whole: bool) -> Option<Servers> {
        let refresh = duration(&form.refresh);
        if let Some(at) = form.refresh.as_ref().filter(|_| refresh < Duration::from_secs(1)) {
            self.findings.at(&at.span, "`refresh` must be at least one second", "such as \"5s\"");
        }
        if form.name.is_none() {
            self.missing(whole, span, "name", "name = \"orders.internal\"");
        }
        if form.port.is_none() {
            self.missing(whole, span, "port", "port = 8080");
        }
        let name = Arc::from(&*form.name.as_ref()?.value.0.0);
        Some(Servers::Dns { name, port: u16::try_from(form.port.as_ref()?.value.0).ok()?, refresh })
    }

    fn upstream_tls(&mut self, span: Span, form: &form::TlsForm, servers: Option<&Servers>) -> Option<UpstreamTls> {
        let ca = form.ca.as_ref().map(|file| self.certificates(file));
        let verify = form.verify.unwrap_or_default();
        let sni = match (&form.sni, servers?) {
            (Some(sni), _) => sni.value.0.0.clone(),
            (None, Servers::Dns { name, .. }) => name.to_string(),
            (None, Servers::Static(members)) => {
                let first = members.first()?.address;
                if verify && members.iter().any(|member| member.address.ip() != first.ip()) {
                    let hint = "add `sni = \"orders.internal\"`: the name that all their certificates carry";
                    self.findings.at(&span, "servers at several addresses need one name to verify", hint);
                }
                first.ip().to_string()
            }
        };
        Some(UpstreamTls { sni, ca: ca.flatten(), verify })
    }

    fn health(&mut self, form: &form::HealthForm) -> Health {
        Health {
            path: form.path.as_ref().map(|at| at.value.0.0.clone()),
            interval: self.positive(&form.interval),
            timeout: self.positive(&form.timeout),
            unhealthy_after: number(&form.unhealthy_after) as u32,
            healthy_after: number(&form.healthy_after) as u32,
        }
    }

    fn outlier(&mut self, form: &form::OutlierForm) -> Outlier {
        Outlier {
            consecutive_failures: number(&form.consecutive_failures) as u32,
            eject_for: self.positive(&form.eject_for),
            max_ejected: share(&form.max_ejected_percent),
        }
    }
}

fn weight(written: Option<u64>) -> u16 {
    written.and_then(|weight| u16::try_from(weight).ok()).unwrap_or_default()
}

fn timeouts(form: &form::TimeoutForm) -> Timeouts {
    let limit = |written| Some(duration(written)).filter(|time| !time.is_zero());
    Timeouts {
        connect: limit(&form.connect),
        first_byte: limit(&form.first_byte),
        read: limit(&form.read),
        write: limit(&form.write),
        total: limit(&form.total),
    }
}

fn retry(form: &form::RetryForm) -> Retry {
    Retry { attempts: number(&form.attempts) as u32, on: failures(&form.on), budget: share(&form.budget_percent) }
}

/// The failures that `on` lists.
pub(super) fn failures(on: &Option<Vec<Located<Failure>>>) -> FailureSet {
    on.iter().flatten().map(|at| (at.value.0, at.value.1)).collect()
}
