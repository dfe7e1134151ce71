//! The documents: short where a newcomer begins, complete where something is looked up, and without a dead link.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use base::metric::Name;
use base::refusals::Row;
use http_guard::violation::Violation;
use ledger::acknowledge::Rejection;
use tollgate::problem::Reason;

use super::root;

/// Bytes of a page that a newcomer reads as a whole.
const FIRST_PAGE_BYTES: usize = 8_192;
const FIRST_PAGES: [&str; 3] = ["README.md", "README.zh-CN.md", "ARCHITECTURE.md"];

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// Every document of the root and of `docs`, by its path from the root.
fn documents() -> BTreeMap<String, String> {
    let mut found = vec![];
    for folder in ["", "docs", "docs/decisions"] {
        for entry in fs::read_dir(root().join(folder)).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if name.ends_with(".md") {
                found.push(if folder.is_empty() { name } else { format!("{folder}/{name}") });
            }
        }
    }
    assert!(found.len() > 20, "{found:?}");
    found.into_iter().map(|file| (file.clone(), read(&file))).collect()
}

/// Lines that stand in no fenced block.
fn unfenced(text: &str) -> Vec<&str> {
    let mut kept = vec![];
    let mut fence = None;
    for line in text.lines() {
        let marks = ["```", "~~~"].into_iter().find(|marks| line.trim_start().starts_with(*marks));
        match (fence, marks) {
            (None, None) => kept.push(line),
            (None, Some(_)) => fence = marks,
            (Some(_), _) if marks == fence => fence = None,
            (Some(_), _) => {}
        }
    }
    kept
}

/// How many backticks a text begins with.
fn ticks(text: &str) -> usize {
    text.bytes().take_while(|byte| *byte == b'`').count()
}

/// Where a run of so many backticks stands, before the next empty line.
fn closing(text: &str, run: usize) -> Option<usize> {
    let block = text.split("\n\n").next().unwrap_or_default();
    let mut from = 0;
    while let Some(at) = block[from..].find('`').map(|found| from + found) {
        let length = ticks(&block[at..]);
        if length == run {
            return Some(at);
        }
        from = at + length;
    }
    None
}

/// The text without its code spans: what stands in one is no link.
fn without_code(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('`') {
        let run = ticks(&rest[at..]);
        let inside = &rest[at + run..];
        kept.push_str(&rest[..at]);
        rest = closing(inside, run).map_or(inside, |end| &inside[end + run..]);
    }
    kept.push_str(rest);
    kept
}

/// What the links and pictures of a document lead to.
fn links(text: &str) -> Vec<String> {
    let prose = without_code(&unfenced(text).join("\n"));
    let inline = prose.split("](").skip(1).filter_map(|rest| rest.split([')', ' ', '\n']).next());
    let named = prose.lines().filter(|line| line.starts_with('[')).filter_map(|line| line.split_once("]: "));
    let named = named.filter_map(|(_, target)| target.split_whitespace().next());
    inline.chain(named).map(str::to_owned).collect()
}

/// A heading as GitHub's anchors have it: letters, digits, `_` and `-` in lower case, and `-` for each blank.
fn anchor(title: &str) -> String {
    let lower = title.trim().to_lowercase();
    let kept = lower.chars().filter(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ' '));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The anchors of a document; the second heading of one name gets `-1`, and so on.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut found = BTreeSet::new();
    for line in unfenced(text) {
        let title = line.trim_start_matches('#');
        let depth = line.len() - title.len();
        if (1..=6).contains(&depth) && title.starts_with(' ') {
            let name = anchor(title);
            let count = counts.entry(name.clone()).or_default();
            found.insert(if *count == 0 { name } else { format!("{name}-{count}") });
            *count += 1;
        }
    }
    found
}

/// What is wrong with a link of a document.
fn broken(file: &str, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = match path {
        "" => root().join(file),
        _ => root().join(Path::new(file).parent().unwrap_or(Path::new(""))).join(path),
    };
    if !target.exists() {
        return Some(format!("{file}: {link} leads to no file"));
    }
    let document = target.extension().is_some_and(|extension| extension == "md");
    let known = !document || heading.is_empty() || anchors(&fs::read_to_string(&target).unwrap()).contains(heading);
    (!known).then(|| format!("{file}: {link} leads to no heading"))
}

/// Rows of metrics, as their tables say it.
fn metric_rows(names: &[&Name]) -> String {
    let row = |name: &&Name| {
        let labels = if name.labels.is_empty() { String::new() } else { format!("{{{}}}", name.labels.join(",")) };
        let kind = format!("{:?}", name.kind).to_lowercase();
        format!("| `{}{labels}` | {kind} | {} |\n", name.name, name.help)
    };
    names.iter().map(row).collect()
}

/// Rows of refusals, by status.
fn refusal_rows(refusals: &[&Row], columns: fn(&Row) -> String) -> String {
    let mut sorted = refusals.to_vec();
    sorted.sort_by_key(|row| row.status);
    sorted.into_iter().map(columns).collect()
}

/// Compares the marked tables of a page with what the code says, or with `UPDATE=1` writes them.
fn assert_tables(file: &str, tables: &[String]) {
    const MARK: &str = "<!-- Written by a test: UPDATE=1 cargo test --test it tidy::docs -->";
    let there = read(file);
    let mut parts = there.split(MARK);
    let mut wanted = parts.next().unwrap().to_owned();
    let parts: Vec<&str> = parts.collect();
    assert_eq!(parts.len(), tables.len(), "{file}: the number of marked tables");
    for (part, table) in parts.into_iter().zip(tables) {
        let (_, after) = part.split_once("<!-- End -->").expect("the end of a table");
        wanted += &format!("{MARK}\n\n{table}\n<!-- End -->{after}");
    }
    if std::env::var_os("UPDATE").is_some_and(|value| !value.is_empty()) {
        fs::write(root().join(file), &wanted).unwrap();
    }
    assert!(read(file) == wanted, "{file}: UPDATE=1 cargo test --test it tidy::docs");
}

#[test]
fn the_page_of_metrics_says_what_the_tables_of_names_say() {
    let table = |names| format!("| metric | type | says |\n|---|---|---|\n{}", metric_rows(names));
    assert_tables("docs/metrics.md", &[tollgate::telemetry::names::ALL, ledger::names::ALL].map(table));
}

#[test]
fn the_page_of_errors_says_what_the_tables_of_refusals_say() {
    let reasons = refusal_rows(&Reason::ALL.map(Reason::row), |row| {
        format!("| {} | `{}` | {} | {} |\n", row.status, row.word, row.when.trim(), row.detail)
    });
    let violations = refusal_rows(&Violation::ALL.map(Violation::row), |row| {
        format!("| {} | `{}` | {} |\n", row.status, row.word, row.when.trim())
    });
    let rejections = refusal_rows(&Rejection::ALL.map(Rejection::row), |row| {
        format!("| {} | `{}` | {} |\n", row.status, row.word, row.when.trim())
    });
    let tables = [
        format!("| status | type | when | `detail` |\n|---|---|---|---|\n{reasons}"),
        format!("| status | `error` in the log | what the request has |\n|---|---|---|\n{violations}"),
        format!("| status | type | when |\n|---|---|---|\n{rejections}"),
    ];
    assert_tables("docs/errors.md", &tables);
}

#[test]
fn first_pages_are_short() {
    for file in FIRST_PAGES {
        let bytes = read(file).len();
        assert!(bytes <= FIRST_PAGE_BYTES, "{file} has {bytes} bytes, of {FIRST_PAGE_BYTES}: move something to docs/");
    }
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let documents = documents();
    let mut seen = 0;
    let mut dead: Vec<String> = vec![];
    for (file, text) in &documents {
        let links = links(text);
        seen += links.len();
        dead.extend(links.iter().filter_map(|link| broken(file, link)));
    }
    assert!(dead.is_empty(), "{dead:#?}");
    assert!(seen > 100, "only {seen} links were found");
}

#[test]
fn every_page_stands_in_an_index() {
    for (index, folder) in [("docs/README.md", "docs/"), ("docs/decisions/README.md", "docs/decisions/")] {
        let listed = links(&read(index));
        for file in documents().keys() {
            let page = file.strip_prefix(folder).filter(|page| !page.contains('/') && *page != "README.md");
            assert!(page.is_none_or(|page| listed.iter().any(|link| link == page)), "{index} does not list {file}");
        }
    }
}

#[test]
fn links_and_headings_are_read_as_github_reads_them() {
    let text = "# A `b_c`, D/E\n[x](one.md#a) and `[no](no.md)` ``a`b`` ![p](two.svg)\n\n```\n# no\n[no](no.md)\n```\n\
                ## Same\n## Same\n#no\n[named]: three.md \"title\"\n";
    assert_eq!(links(text), ["one.md#a", "two.svg", "three.md"]);
    assert_eq!(anchors(text), BTreeSet::from(["a-b_c-de", "same", "same-1"].map(str::to_owned)));
    assert_eq!(anchor("What is retried?"), "what-is-retried");
    assert_eq!(anchor("1 → 5 %"), "1--5-");
    assert_eq!(anchor("数据与命令"), "数据与命令");
}
