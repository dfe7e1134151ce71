//! The decoder of the tree: it turns tables into forms, and serde's errors into findings.
//!
//! Serde stops at the first error. So the offending node is reported, cut out of the tree, and the table read again:
//! what is left at the end is the form of everything that could be understood. At most `ROUNDS` errors of one table are
//! told apart. Of two nodes at the same place the inner one is cut out.

use providers::Provider;
use providers::configured::{ConfigKey, Shape};
use serde::Deserialize;
use serde::de::{DeserializeSeed, IntoDeserializer};
use serde_spanned::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue, ValueDeserializer};

use super::ledger::channel::{ChannelForm, ProviderKey, TextOf, Written};
use super::located::NOT_YET;
use super::merge::Tree;
use super::scalar::{Word, shown};
use super::{ConfigForm, Item, defaults};
use crate::findings::{Findings, suggest};
use crate::source_map::Span;

/// The most errors of one table before it is given up.
const ROUNDS: usize = 32;

/// Every table of this version, by its name at the top level.
pub const TABLES: [&str; 15] = [
    "server", "listener", "admin", "trusted", "log", "reload", "upstream", "route", "auth", "app", "limit", "cohort",
    "release", "notify", "ledger",
];

/// Tables of later versions.
pub const LATER: [&str; 2] = ["flag", "flags"];

type Node<'s> = Spanned<DeValue<'s>>;
type NodeKey<'s> = Spanned<DeString<'s>>;

/// Reads the whole tree.
pub fn document(tree: Tree<'_>, findings: &mut Findings<'_>) -> ConfigForm {
    let mut form = ConfigForm { whole: tree.whole, ..ConfigForm::default() };
    let mut decoder = Decoder { findings, parsed: tree.whole };
    let mut root = tree.root;
    defaults::fill(&mut root);
    for (key, node) in root {
        match key.get_ref().as_ref() {
            "server" => form.server = Some(decoder.item(&key, node)),
            "admin" => form.admin = Some(decoder.item(&key, node)),
            "trusted" => form.trusted = Some(decoder.item(&key, node)),
            "log" => form.log = Some(decoder.item(&key, node)),
            "reload" => form.reload = Some(decoder.item(&key, node)),
            "upstream" => form.upstreams = decoder.named(&key, node),
            "route" => form.routes = decoder.named(&key, node),
            "auth" => form.auths = decoder.named(&key, node),
            "app" => form.apps = decoder.named(&key, node),
            "limit" => form.limits = decoder.named(&key, node),
            "cohort" => form.cohorts = decoder.named(&key, node),
            "release" => form.releases = decoder.named(&key, node),
            "notify" => form.notify = decoder.named(&key, node),
            "ledger" => decoder.ledger(&key, node, &mut form),
            "listener" => {
                form.whole &= node.get_ref().is_array();
                form.listeners = decoder.list(&key, node);
            }
            name if LATER.contains(&name) => decoder.not_yet(&key),
            name => {
                form.whole = false;
                decoder.unknown(&key.span(), name, &TABLES);
            }
        }
    }
    form
}

struct Decoder<'f, 'p> {
    findings: &'f mut Findings<'p>,
    /// Whether the files were valid TOML; if not, what was recovered of a line may be anything.
    parsed: bool,
}

impl Decoder<'_, '_> {
    /// Decodes one table.
    fn item<T: Default + for<'de> Deserialize<'de>>(&mut self, key: &NodeKey<'_>, node: Node<'_>) -> Item<T> {
        self.item_beside(key, node, &[])
    }

    /// The same for a table in which keys are allowed that were taken out: findings offer them too.
    fn item_beside<T: Default + for<'de> Deserialize<'de>>(
        &mut self,
        key: &NodeKey<'_>,
        node: Node<'_>,
        also: &[&str],
    ) -> Item<T> {
        let (name, span) = (key.get_ref().to_string(), node.span());
        if !node.get_ref().is_table() {
            let message =
                format!("`{}` must be a table, not {}", shown(&name), with_article(node.get_ref().type_str()));
            self.note(&span, &message, "put its keys below a `[header]`");
            return Item { name, span: key.span(), form: T::default(), whole: false };
        }
        let (form, whole) = self.rounds(node, also, T::deserialize);
        Item { name, span, whole: whole && self.parsed, form: form.unwrap_or_default() }
    }

    /// Reads a node, and again without what serde refuses; also whether nothing was refused.
    fn rounds<'s, T>(
        &mut self,
        mut node: Node<'s>,
        also: &[&str],
        read: impl Fn(ValueDeserializer<'s>) -> Result<T, toml::de::Error>,
    ) -> (Option<T>, bool) {
        let span = node.span();
        for round in 0..ROUNDS {
            let error = match read(node.clone().into_deserializer()) {
                Ok(form) => return (Some(form), round == 0),
                Err(error) => error,
            };
            let at = error.span().unwrap_or_else(|| span.clone());
            let is_own = |table: &DeTable<'_>| table.iter().any(|(key, _)| key.span() == at);
            let also = if node.get_ref().as_table().is_some_and(is_own) { also } else { &[] };
            let cut = cut_out(&mut node, &at);
            self.explain(error.message(), &at, cut.as_ref(), also);
            // An error without a node of its own cannot be cut out, and would be found again.
            if cut.is_none() || self.findings.full() {
                break;
            }
        }
        (None, false)
    }

    /// Decodes a channel: its provider's keys by what the providers declare, the others as any table.
    fn channel(&mut self, key: &NodeKey<'_>, mut node: Node<'_>) -> Item<ChannelForm> {
        let (mut keys, mut whole) = (vec![], true);
        let all = ConfigKey::all();
        if let DeValue::Table(table) = node.get_mut() {
            let provider = table.get("provider").and_then(|node| Provider::named(node.get_ref().as_str()?));
            for key in &all {
                let Some(value) = table.remove(key.name) else { continue };
                let span = value.span();
                let own = provider.and_then(|provider| provider.key(key.name)).unwrap_or(key);
                let (value, read) = self.provider_key(own, value);
                whole &= read;
                keys.extend(value.map(|value| ProviderKey { name: key.name, span, value }));
            }
        }
        let also: Vec<&str> = all.iter().map(|key| key.name).collect();
        let mut item: Item<ChannelForm> = self.item_beside(key, node, &also);
        item.form.keys = keys;
        item.whole &= whole;
        item
    }

    fn provider_key(&mut self, key: &ConfigKey, node: Node<'_>) -> (Option<Written>, bool) {
        match &key.shape {
            Shape::Text(kind) => {
                let (text, read) = self.rounds(node, &[], |value| TextOf(kind).deserialize(value));
                (text.map(Written::Text), read)
            }
            Shape::File(_) => {
                let (file, read) = self.rounds(node, &[], Word::deserialize);
                (file.map(|file| Written::Files(vec![file])), read)
            }
            Shape::Files(_) => {
                let (files, read) = self.rounds(node, &[], Vec::deserialize);
                (files.map(Written::Files), read)
            }
            Shape::Serials(_) => {
                let (serials, read) = self.rounds(node, &[], Vec::deserialize);
                (serials.map(Written::Serials), read)
            }
        }
    }

    /// Decodes `[ledger]`, and each of the named tables in it by itself.
    fn ledger(&mut self, key: &NodeKey<'_>, mut node: Node<'_>, form: &mut ConfigForm) {
        let DeValue::Table(table) = node.get_mut() else {
            form.ledger = Some(self.item(key, node));
            return;
        };
        let channels = table.remove_entry("channel");
        let merchants = table.remove_entry("merchant");
        form.ledger = Some(self.item(key, node));
        form.whole &= [&channels, &merchants].into_iter().flatten().all(|(_, node)| node.get_ref().is_table());
        form.channels =
            channels.map_or_else(Vec::new, |(key, node)| self.named_in("ledger.", &key, node, Self::channel));
        form.merchants =
            merchants.map_or_else(Vec::new, |(key, node)| self.named_in("ledger.", &key, node, Self::item));
    }

    /// Decodes every table of `[[listener]]`.
    fn list<T: Default + for<'de> Deserialize<'de>>(&mut self, key: &NodeKey<'_>, node: Node<'_>) -> Vec<Item<T>> {
        let span = node.span();
        let DeValue::Array(array) = node.into_inner() else {
            let name = key.get_ref();
            self.note(
                &span,
                &format!("`{name}` must be a list of tables"),
                &format!("write each one below `[[{name}]]`"),
            );
            return Vec::new();
        };
        array.into_iter().map(|node| self.item(key, node)).collect()
    }

    /// Decodes every table of `[upstream.NAME]`, `[route.NAME]` and their like, in the order written.
    fn named<T: Default + for<'de> Deserialize<'de>>(&mut self, key: &NodeKey<'_>, node: Node<'_>) -> Vec<Item<T>> {
        self.named_in("", key, node, Self::item)
    }

    /// The same for a table in a table; `outer` is its name with a dot.
    fn named_in<'s, T>(
        &mut self,
        outer: &str,
        key: &NodeKey<'_>,
        node: Node<'s>,
        read: impl Fn(&mut Self, &NodeKey<'s>, Node<'s>) -> Item<T>,
    ) -> Vec<Item<T>> {
        let (kind, span) = (key.get_ref(), node.span());
        let DeValue::Table(table) = node.into_inner() else {
            self.note(
                &span,
                &format!("`{kind}` must hold tables"),
                &format!("give each one a name: `[{outer}{kind}.orders]`"),
            );
            return Vec::new();
        };
        let mut entries: Vec<_> = table.into_iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, _) in &entries {
            if name.get_ref().is_empty() || name.get_ref().contains(char::is_control) {
                let message = format!("`{}` is no name for {}", shown(name.get_ref()), with_article(kind));
                self.note(&name.span(), &message, "a name is not empty and has no control characters");
            }
        }
        entries.into_iter().map(|(name, node)| read(self, &name, node)).collect()
    }

    /// Adds a finding for an error of serde, in this program's words.
    fn explain(&mut self, error: &str, at: &Span, cut: Option<&Cut>, also: &[&str]) {
        if self.findings.full() {
            return self.note(at, "", "");
        }
        if error == NOT_YET {
            let (span, name) = cut.map_or((at, "this"), |cut| (&cut.span, &*cut.key));
            return self.note(span, &format!("`{}` is {NOT_YET}", shown(name)), "remove it for now");
        }
        if let Some((key, allowed)) =
            error.strip_prefix("unknown field `").and_then(|rest| rest.rsplit_once("`, expected "))
        {
            // Serde lists the allowed names in backticks: every other piece between them is a name.
            let allowed: Vec<&str> = allowed.split('`').skip(1).step_by(2).chain(also.iter().copied()).collect();
            return self.unknown(at, key, &allowed);
        }
        if let Some((found, expected)) =
            error.strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected "))
        {
            return self.wrong_type(at, found, expected);
        }
        let (message, hint) = error.split_once('\n').unwrap_or((error, "see conf/reference.toml for what is allowed"));
        self.note(at, message, hint);
    }

    fn wrong_type(&mut self, at: &Span, found: &str, expected: &str) {
        let found = match found {
            "sequence" => "a list",
            "map" => "a table",
            found => found,
        };
        let (what, hint) = match expected {
            "a boolean" => ("true or false", "write it without quotes".to_owned()),
            "a sequence" => ("a list", "write it in brackets, such as [\"a\", \"b\"]".to_owned()),
            _ => match expected.split_once(", such as ") {
                Some((what, example)) => (what, format!("such as {example}")),
                None => (expected, "see conf/reference.toml for what is allowed".to_owned()),
            },
        };
        self.note(at, &format!("expected {what}, found {found}"), &hint);
    }

    fn unknown(&mut self, at: &Span, key: &str, allowed: &[&str]) {
        let hint = if self.findings.full() { String::new() } else { suggest(key, allowed, "allowed here") };
        self.note(at, &format!("unknown key `{}`", shown(key)), &hint);
    }

    fn not_yet(&mut self, key: &NodeKey<'_>) {
        self.note(&key.span(), &format!("`{}` is {NOT_YET}", key.get_ref()), "remove the table for now");
    }

    /// Adds a finding, unless it only repeats a syntax error on the same line.
    fn note(&mut self, at: &Span, message: &str, hint: &str) {
        if self.parsed || !self.findings.on_line_of(at) {
            self.findings.at(at, message, hint);
        }
    }
}

fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

/// A node that was cut out, by its key.
struct Cut {
    key: String,
    span: Span,
}

/// Cuts out the entry or element whose key or value is at `at`; inner ones first.
fn cut_out(node: &mut Node<'_>, at: &Span) -> Option<Cut> {
    match node.get_mut() {
        DeValue::Table(table) => cut_from_table(table, at),
        DeValue::Array(array) => {
            if let Some(cut) = array.iter_mut().find_map(|item| cut_out(item, at)) {
                return Some(cut);
            }
            let index = array.iter().position(|item| item.span() == *at)?;
            let items = std::mem::replace(array, DeArray::new()).into_iter().enumerate();
            *array = items.filter(|&(other, _)| other != index).map(|(_, item)| item).collect();
            Some(Cut { key: String::new(), span: at.clone() })
        }
        _ => None,
    }
}

fn cut_from_table(table: &mut DeTable<'_>, at: &Span) -> Option<Cut> {
    if let Some(cut) = table.iter_mut().find_map(|(_, value)| cut_out(value, at)) {
        return Some(cut);
    }
    let (key, _) = table.iter().find(|(key, value)| key.span() == *at || value.span() == *at)?;
    let cut = Cut { key: key.get_ref().to_string(), span: key.span() };
    let key = key.clone();
    table.remove(&key)?;
    Some(cut)
}
