//! `allow` and `deny`: which clients may use a route. `deny` wins.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::access::holds;
use crate::check::{Check, spelt};
use crate::diff::differing;
use crate::file::route::RouteForm;

/// The client networks of a route.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Access {
    /// Networks that may use the route; empty for all.
    pub allow: Vec<IpNet>,
    /// Networks that may not.
    pub deny: Vec<IpNet>,
}

impl Access {
    /// Checks both lists. An empty `allow` would let all clients in, which is hardly what its author meant.
    pub(super) fn check(check: &mut Check<'_, '_>, form: &RouteForm, whole: bool) -> Access {
        if let Some(allow) = form.allow.as_ref().filter(|allow| allow.value.is_empty() && whole) {
            let hint = "name the networks that may use the route, or remove `allow` to let all in";
            check.findings.at(&allow.span, "`allow` is empty", hint);
        }
        let allow = form.allow.as_ref().map_or_else(Vec::new, |allow| spelt(&allow.value));
        Access { allow, deny: spelt(&form.deny) }
    }

    pub(super) fn changed(&self, old: &Access) -> Vec<&'static str> {
        let Access { allow, deny } = self;
        differing([("allow", old.allow != *allow), ("deny", old.deny != *deny)])
    }

    /// Whether all clients may use the route.
    pub fn is_open(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    /// Whether a client is kept out. A client with an unknown address could be one that is denied.
    pub fn keeps_out(&self, client: IpAddr) -> bool {
        let unknown = !self.deny.is_empty() && client.is_unspecified();
        unknown || holds(&self.deny, client) || (!self.allow.is_empty() && !holds(&self.allow, client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deny_wins_and_an_unknown_client_is_denied() {
        let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect();
        let access = Access { allow: nets(&["10.0.0.0/8"]), deny: nets(&["10.9.0.0/16"]) };
        let kept_out = |client: &str| access.keeps_out(client.parse().unwrap());
        assert!(!kept_out("10.1.2.3") && kept_out("10.9.1.1") && kept_out("192.0.2.1") && kept_out("0.0.0.0"));
        assert!(!kept_out("::ffff:10.1.2.3"), "an IPv4 client of an IPv6 socket");
        assert!(Access::default().is_open() && !Access::default().keeps_out("0.0.0.0".parse().unwrap()));
    }
}
