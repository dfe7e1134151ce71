//! The resolution of names in tables: an upstream, a route, a limit.
//!
//! An unknown name is a finding with the nearest known one; of two equally near ones the first by name wins. Indices
//! are those of the form, which are those of the model where there are no findings.

use std::collections::HashMap;

use super::Check;
use crate::file::scalar::{Name, Word};
use crate::file::{ConfigForm, Item};
use crate::findings::suggest;

/// Findings after which names are no longer compared with each other, which is slow where there are thousands.
const SUGGESTIONS: usize = 100;

/// The names of all tables of a kind.
pub(super) struct Names<'f> {
    kind: &'static str,
    /// What a table of this kind needs at least.
    example: &'static str,
    indices: HashMap<&'f str, usize>,
}

impl<'f> Names<'f> {
    pub(super) fn upstreams(form: &'f ConfigForm) -> Names<'f> {
        Names::of("upstream", "servers = [\"127.0.0.1:9001\"]", &form.upstreams)
    }

    pub(super) fn routes(form: &'f ConfigForm) -> Names<'f> {
        Names::of("route", "upstream = \"name\"", &form.routes)
    }

    pub(super) fn auths(form: &'f ConfigForm) -> Names<'f> {
        Names::of("auth", "kind = \"api_key\"", &form.auths)
    }

    pub(super) fn limits(form: &'f ConfigForm) -> Names<'f> {
        Names::of("limit", "rate = \"100/s\"", &form.limits)
    }

    pub(super) fn cohorts(form: &'f ConfigForm) -> Names<'f> {
        Names::of("cohort", "users_file = \"cohorts/staff.txt\"", &form.cohorts)
    }

    /// The index of a table, if there is one of this name.
    pub(super) fn index(&self, name: &Name) -> Option<usize> {
        self.indices.get(&*name.0).copied()
    }

    fn of<T>(kind: &'static str, example: &'static str, items: &'f [Item<T>]) -> Names<'f> {
        Names { kind, example, indices: items.iter().enumerate().map(|(index, item)| (&*item.name, index)).collect() }
    }
}

impl Check<'_, '_> {
    /// The index of the table with this name.
    pub(super) fn named(&mut self, name: &Word<Name>, names: &Names<'_>) -> Option<usize> {
        if let Some(index) = names.index(&name.value.0) {
            return Some(index);
        }
        let (Name(wanted), Names { kind, example, indices }) = (&name.value.0, names);
        let hint = match indices.len() {
            0 => format!("add it: [{kind}.{wanted}] {example}"),
            _ if self.findings.count() > SUGGESTIONS => format!("it must be the name of an existing `[{kind}.NAME]`"),
            _ => {
                let mut known: Vec<&str> = indices.keys().copied().collect();
                known.sort_unstable();
                suggest(wanted, &known, &format!("{kind}s"))
            }
        };
        self.findings.at(&name.span, format!("there is no {kind} `{wanted}`"), hint);
        None
    }
}
