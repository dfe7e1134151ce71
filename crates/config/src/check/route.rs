//! The checks of `[route.NAME]`.
//!
//! A route has exactly one action. Regexes are compiled here, at most [`MAX_REGEXES`] in all, since each of them is
//! tried for every request that could match it. Which of two routes wins is not decided here; `route_conflicts` checks
//! that there is always a winner, and `unreachable` that each route can win.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use regex::Regex;

use super::names::Names;
use super::{Check, number, spelt, twice};
use crate::file::http::RoutePath;
use crate::file::route as form;
use crate::file::{ConfigForm, Item};
use crate::filter::{Filters, headers};
use crate::model::{Action, HostPattern, PathPattern, Route};
use crate::source_map::Span;

/// The most regexes of all routes together.
pub const MAX_REGEXES: usize = 100;

/// The other tables that routes refer to.
struct RouteContext<'f> {
    upstreams: Names<'f>,
    auths: Names<'f>,
    limits: Names<'f>,
    /// Whether `[ledger]` exists, or could: a table that was not understood may be that one.
    ledger: bool,
    regexes: usize,
}

impl Check<'_, '_> {
    pub(super) fn routes(&mut self, form: &ConfigForm) -> Vec<Route> {
        let mut context = RouteContext {
            upstreams: Names::upstreams(form),
            auths: Names::auths(form),
            limits: Names::limits(form),
            ledger: form.ledger.is_some() || !form.whole,
            regexes: 0,
        };
        let (mut routes, mut spans) = (Vec::new(), Vec::new());
        for item in &form.routes {
            if let Some(route) = self.route(item, &mut context) {
                routes.push(route);
                spans.push(&item.span);
            }
        }
        self.ambiguous(&routes, &spans);
        self.unreachable(&routes, &spans);
        routes
    }

    fn route(&mut self, item: &Item<form::RouteForm>, context: &mut RouteContext<'_>) -> Option<Route> {
        let form = &item.form;
        let hosts = self.hosts(form);
        let paths = self.paths(form, context);
        let headers = headers::pairs(self, &form.headers);
        let filters = Filters::check(self, item);
        let action = self.action(item, context);
        let auths = self.all_named("auth", &form.auth, &context.auths);
        let limits = self.all_named("limit", &form.limits, &context.limits);
        Some(Route {
            name: Arc::from(&*item.name),
            hosts,
            paths,
            methods: spelt(&form.methods),
            headers,
            scheme: form.scheme.as_ref().map(|at| at.value.0),
            action: action?,
            filters,
            auths,
            limits,
            place: self.places.place(&item.span),
        })
    }

    fn hosts(&mut self, form: &form::RouteForm) -> Vec<HostPattern> {
        self.listed_twice("host", twice(form.hosts.iter().map(|at| (&at.value.0.0, &at.span))));
        if let Some(any) = form.hosts.iter().find(|at| at.value.0.0.is_none() && form.hosts.len() > 1) {
            let hint = "keep \"*\" alone, or make two routes: a host that is named beats \"*\"";
            self.findings.at(&any.span, "`*` takes every host, the others beside it mean nothing", hint);
        }
        form.hosts.iter().filter_map(|at| at.value.0.0.clone()).collect()
    }

    fn paths(&mut self, form: &form::RouteForm, context: &mut RouteContext<'_>) -> Vec<PathPattern> {
        self.listed_twice("path", twice(form.paths.iter().map(|at| (&at.value.0, &at.span))));
        let mut paths = Vec::new();
        for at in &form.paths {
            match &at.value.0 {
                RoutePath::Exact(path) => paths.push(PathPattern::Exact(path.clone())),
                RoutePath::Prefix(path) => paths.push(PathPattern::Prefix(path.clone())),
                RoutePath::Regex(regex) => paths.extend(self.regex(regex, &at.span, context).map(PathPattern::Regex)),
            }
        }
        paths
    }

    fn regex(&mut self, regex: &str, span: &Span, context: &mut RouteContext<'_>) -> Option<Regex> {
        context.regexes += 1;
        if context.regexes > MAX_REGEXES {
            if context.regexes == MAX_REGEXES + 1 {
                let message = format!("there are more than {MAX_REGEXES} regexes in all routes");
                self.findings.at(span, message, "use exact paths and prefixes: any number of them costs the same");
            }
            return None;
        }
        let compiled = Regex::new(regex);
        if let Err(error) = &compiled {
            // The crate's message draws the pattern with a mark below it; its last line says what is wrong.
            let message = error.to_string();
            let reason = message.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            self.findings.at(span, format!("the regex is not valid: {reason}"), "the syntax is that of docs.rs/regex");
        }
        compiled.ok()
    }

    fn listed_twice(&mut self, what: &str, found: Vec<(&Span, &Span)>) {
        for (again, first) in found {
            self.collision(again, &format!("this {what} is listed twice"), first);
        }
    }

    fn action(&mut self, item: &Item<form::RouteForm>, context: &RouteContext<'_>) -> Option<Action> {
        let form = &item.form;
        let upstream = form.upstream.as_ref().map(|at| ("upstream", &at.span));
        let redirect = form.redirect.as_ref().map(|at| ("redirect", &at.span));
        let respond = form.respond.as_ref().map(|at| ("respond", &at.span));
        let ledger = form.ledger.as_ref().filter(|at| at.value).map(|at| ("ledger", &at.span));
        let written: Vec<_> = [upstream, redirect, respond, ledger].into_iter().flatten().collect();
        for (name, span) in written.iter().skip(1) {
            let message = format!("`{name}` beside `{}`: a route does one thing", written[0].0);
            self.findings.at(span, message, "keep exactly one of upstream, redirect, respond, ledger");
        }
        if written.is_empty() && item.whole {
            let hint = "add exactly one of `upstream = \"name\"`, `redirect = { to = ... }`, \
                        `respond = { status = 200 }`, `ledger = true`";
            self.findings.at(&item.span, "the route does nothing", hint);
        }
        let redirect = form.redirect.as_ref().map(|at| self.redirect(&at.span, &at.value.0, item.whole));
        let respond = form.respond.as_ref().map(|at| self.respond(&at.value.0));
        let upstream = form.upstream.as_ref().map(|at| self.named(at, &context.upstreams).map(Action::Upstream));
        let ledger = ledger.map(|(_, span)| self.handed_over(span, context));
        upstream.or(redirect).or(respond).or(ledger).flatten()
    }

    fn handed_over(&mut self, span: &Span, context: &RouteContext<'_>) -> Option<Action> {
        if !context.ledger {
            let hint = "add it: [ledger] encryption_key_files = [\"secrets/ledger.key\"], or use `upstream = \"name\"`";
            self.findings.at(span, "there is no `[ledger]` to hand the request to", hint);
        }
        Some(Action::Ledger)
    }

    fn redirect(&mut self, span: &Span, form: &form::RedirectForm, whole: bool) -> Option<Action> {
        let code = number(&form.status);
        if let Some(at) = form.status.as_ref().filter(|_| ![301, 302, 303, 307, 308].contains(&code)) {
            self.findings.at(&at.span, format!("`{code}` is not a status of a redirect"), "301, 302, 303, 307 or 308");
        }
        if form.to.is_none() {
            self.missing(whole, span, "to", "to = \"https://{host}{path}{query}\"");
        }
        Some(Action::Redirect { to: form.to.as_ref()?.value.0.0.clone(), status: status(code)? })
    }

    fn respond(&mut self, form: &form::RespondForm) -> Option<Action> {
        let code = number(&form.status);
        let body = form.body.as_ref().map_or("", |at| &at.value.0);
        if let Some(at) = form.body.as_ref().filter(|_| matches!(code, 204 | 205 | 304) && !body.is_empty()) {
            self.findings.at(
                &at.span,
                format!("an answer with status {code} has no body"),
                "remove `body`, or use 200",
            );
        }
        let headers = headers::to_write(self, &form.headers, "set");
        Some(Action::Respond { status: status(code)?, body: Bytes::copy_from_slice(body.as_bytes()), headers })
    }
}

fn status(code: u64) -> Option<StatusCode> {
    StatusCode::from_u16(u16::try_from(code).ok()?).ok()
}
