//! Three other readers of the same bytes: `httparse` (Pingora's), the `http` crate (what holds the target), and
//! `http_desync_guardian`, which says of a head whether servers would agree on it.
//!
//! Where the guardian is looser than the judge nothing is asked of it. Nowhere is it stricter, as far as its own cases
//! and the mutations go.

use std::path::PathBuf;
use std::process::Command;

use http_desync_guardian::RequestSafetyTier as Tier;
use http_desync_guardian::request_analyzer::HttpRequestData;

use super::*;

const MUTATIONS: usize = 60_000;

/// One of the guardian's cases has many headers.
const ROOMY: Limits = Limits { head_max: 65536, headers_max: 100, uri_max: 16384 };

/// Parts that attacks are made of.
const PIECES: [&str; 34] = [
    "\r\n",
    "\n",
    "\r",
    "\0",
    " ",
    "\t",
    ":",
    ",",
    ";",
    "\u{e9}",
    "\u{17f}",
    "_",
    "-",
    "#",
    "\\",
    "\"",
    "%0d%0a",
    "?",
    "//",
    "..",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: ",
    "transfer_encoding: chunked\r\n",
    "Host: a\r\n",
    "Host: b\r\n",
    "Connection: close, host\r\n",
    "Upgrade: websocket\r\n",
    "Expect: 100-continue\r\n",
    "HTTP/1.1",
    "HTTP/1.0",
    "GET ",
    "http://a",
];

fn mutated(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut head = ACCEPTED[random.usize(..ACCEPTED.len())].0.as_bytes().to_vec();
    for _ in 0..random.usize(0..4) {
        let at = random.usize(..=head.len());
        let end = (at + random.usize(..6)).min(head.len());
        match random.u8(..6) {
            0 if at < head.len() => head[at] = random.u8(..),
            1 => drop(head.drain(at..end)),
            2 => drop(head.splice(at..end, random.choice(PIECES).unwrap_or_default().bytes())),
            3 => drop(head.splice(at..at, random.choice(PIECES).unwrap_or_default().bytes())),
            // A whole line, at the start of another.
            4 => {
                let starts: Vec<usize> =
                    head.windows(2).enumerate().filter(|(_, w)| w == b"\r\n").map(|(i, _)| i + 2).collect();
                if let Some(start) = random.choice(starts) {
                    head.splice(start..start, random.choice(PIECES).unwrap_or_default().bytes());
                }
            }
            _ if at < end => {
                let copy = head[at..end].to_vec();
                head.splice(at..at, copy);
            }
            _ => {}
        }
    }
    head
}

/// What must hold of every head that the judge accepts.
fn holds(bytes: &[u8], head: &Head<'_>) {
    let shown = bytes[..head.length].escape_ascii().to_string();
    let text = &bytes[..head.length];
    let forbidden = |pair: &[u8]| {
        (pair[0] == b'\r') != (pair[1] == b'\n')
            || pair[0].is_ascii_control() && !matches!(pair[0], b'\r' | b'\n' | b'\t')
    };
    assert!(!text.windows(2).any(forbidden), "{shown}");

    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    assert_eq!(request.parse(bytes), Ok(httparse::Status::Complete(head.length)), "{shown}");
    assert_eq!(request.method.map(str::as_bytes), Some(head.method), "{shown}");
    assert_eq!(request.path.map(str::as_bytes), Some(head.target), "{shown}");
    assert_eq!(request.version, Some(u8::from(head.version == Version::Http11)), "{shown}");
    let values = |name: &str| {
        let named = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value).collect::<Vec<_>>()
    };
    assert_eq!(values("host"), [head.host], "{shown}");
    let framing = match (&values("content-length")[..], &values("transfer-encoding")[..]) {
        ([], []) => Framing::None,
        ([length], []) => Framing::Length(std::str::from_utf8(length).unwrap().parse().unwrap()),
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        other => panic!("{other:?} in {shown}"),
    };
    assert_eq!(framing, head.framing, "{shown}");
    assert!(
        request.headers.iter().all(|header| http::HeaderName::from_bytes(header.name.as_bytes()).is_ok()),
        "{shown}"
    );
    assert!(request.headers.iter().all(|header| http::HeaderValue::from_bytes(header.value).is_ok()), "{shown}");
    let uri = http::Uri::try_from(head.target).unwrap_or_else(|e| panic!("{e}: {shown}"));
    if head.target.starts_with(b"/") {
        assert_eq!(uri.to_string().as_bytes(), head.target, "{shown}");
    }

    let text = text.strip_prefix(b"\r\n").unwrap_or(text);
    let found = HttpRequestData::analyze_raw_request(text);
    assert!(found.tier <= Tier::Acceptable, "{:?} {:?}: {shown}", found.tier, found.reason);
}

#[test]
fn accepted_mutations_have_one_reading() {
    let mut random = fastrand::Rng::with_seed(0x7011_6a7e);
    let (mut accepted, mut refused) = (0, std::collections::BTreeSet::new());
    for _ in 0..MUTATIONS {
        let bytes = mutated(&mut random);
        let mut judge = Judge::default();
        let cut = random.usize(..=bytes.len());
        let first = said(judge.judge(&bytes[..cut], &LIMITS));
        match Judge::default().judge(&bytes, &LIMITS) {
            Judged::Accepted(head) => {
                accepted += 1;
                holds(&bytes, &head);
                let rest = if first == Said::Partial { said(judge.judge(&bytes, &LIMITS)) } else { first };
                assert_eq!(rest, Said::Accepted(head.length, head.framing), "{} cut at {cut}", bytes.escape_ascii());
            }
            Judged::Refused(refusal) => drop(refused.insert(refusal.fault.word())),
            Judged::Partial => {}
        }
    }
    assert!(accepted > MUTATIONS / 4, "{accepted}");
    assert!(refused.len() > 25, "{refused:?}");
}

/// One case that the guardian ships.
#[derive(Debug, Default)]
struct Case {
    name: String,
    parts: [String; 3],
    headers: Vec<(String, String)>,
    tier: String,
}

impl Case {
    /// Its head, with a `Host` where it has none: those cases are about something else.
    fn head(&self) -> Vec<u8> {
        let [method, uri, version] = &self.parts;
        let mut head = format!("{method} {uri} {version}\r\n");
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str("Host: a\r\n");
        }
        self.headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}:{value}\r\n")));
        head.push_str("\r\n");
        head.into_bytes()
    }
}

/// Reads a file of cases: a list of maps of scalars, of which each line holds one, and nothing else of YAML.
fn cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = vec![];
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let indent = line.len() - line.trim_start().len();
        let Some((key, value)) = line.trim_start().trim_start_matches("- ").split_once(':') else { continue };
        let value = scalar(value.trim());
        if indent == 0 {
            cases.push(Case { name: value, ..Case::default() });
            continue;
        }
        let case = cases.last_mut().expect("a case begins without indent");
        let place = ["method", "uri", "version"].iter().position(|part| *part == key);
        match (indent, key, place) {
            (2, _, Some(place)) => case.parts[place] = value,
            (_, "tier", _) if case.headers.is_empty() || indent == 4 => case.tier = value,
            (_, "name", _) => case.headers.push((value, String::new())),
            (_, "value", _) => case.headers.last_mut().expect("a value has a name").1 = value,
            _ => {}
        }
    }
    cases
}

/// A scalar: quoted twice with escapes, quoted once, or plain. The guardian's own tests then resolve escapes once more.
fn scalar(text: &str) -> String {
    let inner = |quote: char| text.strip_prefix(quote).and_then(|rest| rest.split_once(quote)).map(|(inner, _)| inner);
    match (text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')), inner('\'')) {
        (Some(twice), _) => unescaped(&unescaped(twice)),
        (None, Some(once)) => unescaped(once),
        (None, None) => unescaped(text.split(" #").next().unwrap_or_default().trim_end()),
    }
}

fn unescaped(text: &str) -> String {
    let mut chars = text.chars();
    let mut out = String::new();
    while let Some(char) = chars.next() {
        out.push(match (char, if char == '\\' { chars.next() } else { None }) {
            ('\\', Some('x')) => {
                let digits: String = chars.by_ref().take(2).collect();
                u8::from_str_radix(&digits, 16).map_or('?', char::from)
            }
            ('\\', Some('0')) => '\0',
            ('\\', Some('n')) => '\n',
            ('\\', Some('r')) => '\r',
            ('\\', Some('t')) => '\t',
            ('\\', Some(other)) => other,
            _ => char,
        });
    }
    out
}

/// Where the crate's files are, as the build tool says. It is asked about this machine only: of crates for others
/// nothing is on a fresh one.
fn shipped() -> PathBuf {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    command.args(["metadata", "--locked", "--format-version", "1", "--filter-platform", "host-tuple"]);
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo metadata");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let guardian = packages.iter().find(|package| package["name"] == "http_desync_guardian").expect("the guardian");
    PathBuf::from(guardian["manifest_path"].as_str().expect("a path")).with_file_name("tests")
}

#[test]
fn no_shipped_case_that_servers_disagree_on_is_accepted() {
    let (mut count, mut accepted, mut stricter) = (0, 0, vec![]);
    for file in std::fs::read_dir(shipped()).expect("the guardian ships its cases").map(|file| file.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        for case in cases(&text) {
            let head = case.head();
            let judged = said(Judge::default().judge(&head, &ROOMY));
            let tier = HttpRequestData::analyze_raw_request(&head).tier;
            let shown = format!("{}: {}", case.name, head.escape_ascii());
            assert!(["Compliant", "Acceptable", "Ambiguous", "Severe"].contains(&case.tier.as_str()), "{case:?}");
            assert_ne!(judged, Said::Partial, "{shown}");
            let one_reading = tier <= Tier::Acceptable && matches!(case.tier.as_str(), "Compliant" | "Acceptable");
            match judged {
                Said::Accepted(..) => {
                    assert!(one_reading, "{tier:?} accepted: {shown}");
                    accepted += 1;
                }
                _ if one_reading => stricter.push((format!("{judged:?}"), shown)),
                _ => {}
            }
            count += 1;
        }
    }
    for (judged, shown) in &stricter {
        println!("stricter: {judged} {shown}");
    }
    println!("{count} cases, {accepted} accepted, {} of one reading refused", stricter.len());
    assert!(count > 150 && accepted > 15, "{count} cases, {accepted} accepted");
}
