//! The checks of `[cohort.NAME]`.
//!
//! A rule has one condition. A key that has no effect beside it is refused, since its author thought it would.
//! `users` reads the file of users.

use std::sync::Arc;

use http::HeaderValue;

use super::Check;
use crate::file::Item;
use crate::file::cohort as form;
use crate::file::located::{Located, Table};
use crate::file::scalar::{FromText, Word};
use crate::source_map::Span;
use gray::settings::{Cohort, Rule};

const RULES: &str = "exactly one of header, cookie, app, percent";

impl Check<'_, '_> {
    pub(super) fn cohort(&mut self, item: &Item<form::CohortForm>) -> Cohort {
        let form = &item.form;
        let some = "any = [{ header = \"x-beta\", equals = \"1\" }]";
        match &form.any {
            None if form.users_file.is_none() && item.whole => {
                let hint = format!("add `users_file = \"cohorts/staff.txt\"`, or `{some}`, or both");
                self.findings.at(&item.span, "the cohort names nobody", hint);
            }
            Some(any) if any.value.is_empty() && item.whole => {
                self.findings.at(&any.span, "`any` is empty", format!("add a rule: {some}; or remove it"));
            }
            _ => {}
        }
        let rules = form.any.iter().flat_map(|any| &any.value);
        let any = rules.filter_map(|rule| self.rule(rule, item)).collect();
        let users = form.users_file.as_ref().and_then(|file| self.users(file));
        Cohort { name: Arc::from(&*item.name), users, any, place: self.places.place(&item.span) }
    }

    fn rule(
        &mut self,
        Located { span, value: rule }: &Located<Table<form::RuleForm>>,
        item: &Item<form::CohortForm>,
    ) -> Option<Rule> {
        let form = &rule.0;
        let header = form.header.as_ref().map(|at| ("header", &at.span));
        let cookie = form.cookie.as_ref().map(|at| ("cookie", &at.span));
        let app = form.app.as_ref().map(|at| ("app", &at.span));
        let percent = form.percent.as_ref().map(|at| ("percent", &at.span));
        let asked: Vec<_> = [header, cookie, app, percent].into_iter().flatten().collect();
        if asked.is_empty() && item.whole {
            self.findings.at(span, "the rule asks for nothing", RULES);
        }
        for (name, span) in asked.iter().skip(1) {
            let message = format!("`{name}` beside `{}`: a rule asks for one thing", asked[0].0);
            self.findings.at(span, message, format!("{RULES}; make another rule of it"));
        }
        self.beside(form.equals.as_ref(), "equals", "header or cookie", &asked, &["header", "cookie"]);
        self.beside(form.salt.as_ref(), "salt", "percent", &asked, &["percent"]);
        if let (Some(&("header" | "cookie", _)), None) = (asked.first(), &form.equals) {
            self.missing(item.whole, span, "equals", "equals = \"1\"");
        }
        let percent = || {
            let salt = form.salt.as_ref().map_or_else(|| item.name.clone(), |at| at.value.0.clone());
            Some(Rule::Percent { share: form.percent.as_ref()?.value.0, salt })
        };
        match (&form.header, &form.cookie, &form.app) {
            (Some(name), ..) => Some(Rule::Header(name.value.0.clone(), self.value(form.equals.as_ref()?, "")?)),
            (_, Some(name), _) => {
                let value = self.value(form.equals.as_ref()?, ";")?;
                Some(Rule::Cookie(name.value.0.0.clone(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            }
            (_, _, Some(app)) => Some(Rule::App(app.value.0.0.clone())),
            (None, None, None) => percent(),
        }
    }

    /// Refuses a key beside which there is none of the keys that it belongs to.
    fn beside(&mut self, key: Option<&Word<String>>, name: &str, of: &str, asked: &[(&str, &Span)], with: &[&str]) {
        let alone = !asked.is_empty() && !asked.iter().any(|(asked, _)| with.contains(asked));
        if let Some(at) = key.filter(|_| alone) {
            self.findings.at(&at.span, format!("`{name}` says nothing here: it belongs to {of}"), "remove it");
        }
    }

    /// A value that a request can carry in one piece.
    fn value(&mut self, equals: &Word<String>, ends: &str) -> Option<HeaderValue> {
        let text = &equals.value.0;
        let value = HeaderValue::from_text(text).ok().filter(|_| !text.contains(|letter| ends.contains(letter)));
        if value.is_none() {
            let hint = "no blanks around it, no control characters, and in a cookie no `;`";
            self.findings.at(&equals.span, "no request can carry this value", hint);
        }
        value
    }
}
