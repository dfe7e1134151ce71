//! `[ledger]`: what it means, what its author is told, what a running gateway takes over of it.

mod channels;

use std::time::Duration;

use rust_decimal::Decimal;

use super::*;
use crate::diff::Diff;
use crate::model::Action;
use crate::model::ledger::{Rounding, Store};
use crate::restart_required;
use providers::{hmac, standardwebhooks, stripe, wechatpay};

/// The least of a ledger.
const LEAST: &str = "[ledger]\nencryption_key_files = [\"secrets-example/ledger.key\"]\n";
/// A merchant of it.
const SHOP: &str =
    "[ledger.merchant.shop]\nurl = \"https://shop.example.com/\"\nsecret_file = \"secrets-example/shop.whsec\"\n";

/// A ledger with one channel of this text, and its merchant.
fn channel(text: &str) -> String {
    format!("{LEAST}{SHOP}[ledger.channel.card]\nmerchant = \"shop\"\n{text}")
}

#[track_caller]
fn tells(text: &str, expected: &[&str]) {
    assert_eq!(found(text), expected, "\n{text}");
}

/// What is found of a text whose folder holds these files.
fn with_files(text: &str, files: &[(&str, &[u8])]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).expect("written");
    }
    let text = format!("{text}\n[[listener]]\naddress = \"127.0.0.1:1\"\n");
    let source = Source::from_parts(folder.path().to_owned(), vec![("a.toml".into(), text)]);
    let findings = load_source(source).err().unwrap_or_default();
    findings.iter().map(|it| format!("{}:{} {} -> {}", it.line, it.column, it.message, it.hint)).collect()
}

#[test]
fn the_least_ledger_has_the_documented_defaults() {
    let ledger = meant(LEAST).ledger.expect("a ledger");
    assert_eq!(ledger.address, "127.0.0.1:9700".parse().expect("an address"));
    assert_eq!((ledger.embedded, ledger.token, ledger.batch_max), (true, None, 256));
    assert_eq!(ledger.store, Store::Sqlite(conf().join("state/ledger.db")));
    assert_eq!(ledger.state_dir, conf().join("state"));
    assert_eq!(ledger.encryption_keys.len(), 1);
    assert_eq!(ledger.encryption_keys[0].0.len(), 32);
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let first = [5, 300, 1800].map(Duration::from_secs);
    assert_eq!(ledger.delivery_backoff, [&first[..], &[2, 5, 10, 14, 20, 24].map(hours)[..]].concat());
    assert_eq!(ledger.delivery_timeout, Duration::from_secs(15));
    assert!(ledger.channels.is_empty() && ledger.merchants.is_empty());
    let spelt_out = meant(&format!("{LEAST}store_password_file = \"\"\ntoken_file = \"\"\nembedded = true"));
    assert_eq!(spelt_out.ledger.expect("a ledger").token, None);
    assert_eq!(meant("").ledger, None);
}

#[test]
fn the_reference_means_what_it_says() {
    let config = load(&conf().join("reference.toml")).expect("it loads").config;
    let ledger = config.ledger.expect("a ledger");
    let names: Vec<&str> = ledger.channels.iter().map(|channel| channel.provider.provider.name).collect();
    assert_eq!(names, providers::ALL.map(|provider| provider.name), "one channel of each");
    let fee = ledger.channels[0].fee.clone().expect("a fee");
    assert_eq!((fee.percent, fee.fixed_minor, fee.minimum_minor), (Decimal::new(6, 1), 30, 1));
    assert_eq!((fee.rounding, &ledger.channels[1].fee), (Rounding::HalfEven, &None));
    let values = |at: usize| &ledger.channels[at].provider.values;
    assert_eq!(values(0).text(&stripe::ACCOUNT), Some("acct_1032D82eZvKYlo2C"));
    let secret = &values(0).files(&stripe::SECRETS)[0].0;
    assert!(secret.starts_with(b"whsec_") && secret.last() != Some(&b'\n'));
    assert_eq!(values(2).files(&wechatpay::API_V3_KEY)[0].0.len(), 32);
    assert_eq!(values(2).serials(&wechatpay::PLATFORM_KEYS)[0].0, "PUB_KEY_ID_0119000000002024");
    assert_eq!(values(3).files(&standardwebhooks::SECRETS)[0].0.len(), 32);
    assert_eq!(values(3).files(&standardwebhooks::PUBLIC_KEYS).len(), 1);
    let of = |key| values(4).text(key);
    assert_eq!([&hmac::ID, &hmac::ORDER, &hmac::AMOUNT].map(of), ["id", "out_trade_no", "amount_minor"].map(Some));
    assert_eq!([&hmac::AMOUNT_UNIT, &hmac::CURRENCY, &hmac::KIND].map(of), ["minor", "currency", "kind"].map(Some));
    assert_eq!([&hmac::ENCODING, &hmac::PREFIX].map(of), ["hex", ""].map(Some));
    assert!(ledger.merchants[0].token.is_some() && ledger.merchants[0].secret.0.len() == 32);
    let read = config.files.iter().filter(|path| path.starts_with(conf().join("secrets-example"))).count();
    assert!(read >= 17, "every file is watched: {:?}", config.files);
}

#[test]
fn a_ledger_needs_keys_that_are_keys() {
    let missing = "1:1 `encryption_key_files` is missing -> add it: encryption_key_files = [\"secrets/ledger.key\"], \
                   made by `openssl rand -hex 32`";
    tells("[ledger]\nembedded = false", &[missing]);
    tells(
        "[ledger]\nencryption_key_files = []",
        &["2:24 `encryption_key_files` is empty -> name at least one file; `openssl rand -hex 32` makes its content"],
    );
    let make = "make one: openssl rand -hex 32 > the file, or head -c 32 /dev/urandom | xxd -p -c 32 > the file";
    let text = "[ledger]\nencryption_key_files = [\"short\", \"odd\", \"none\", \"a\", \"b\"]";
    let key = "ab".repeat(32);
    let files: [(&str, &[u8]); 4] = [
        ("short", b"abc123\n"),
        ("odd", b"this is no key at all\n"),
        ("a", key.as_bytes()),
        ("b", &[key.to_uppercase().as_bytes(), b"\r\n"].concat()),
    ];
    let all = with_files(text, &files);
    assert_eq!(all.len(), 4, "{all:#?}");
    assert_eq!(all[0], format!("2:25 the key has 6 hex digits, not 64 -> {make}"));
    assert_eq!(all[1], format!("2:34 the key is not 64 hex digits: it has 21 bytes, not all are -> {make}"));
    assert!(all[2].starts_with("2:41 the file cannot be read: No such file"), "{}", all[2]);
    assert_eq!(all[3], "2:54 this key is there twice -> the other one is at a.toml:2; keep one");
}

#[test]
fn values_of_a_ledger_are_judged_one_by_one() {
    tells(
        &format!(
            "{LEAST}batch_max = 0\ndelivery_backoff = [\"5s\", \"0s\", \"x\"]\ndelivery_timeout = \"0s\"\nstor = \"x\"\n\
             embedded = 1"
        ),
        &[
            "3:13 `0` is out of range -> a whole number from 1 to 4096",
            "4:27 this must be longer than nothing -> such as \"1s\"",
            "4:33 `x` is not a duration -> such as \"250ms\", \"2s\", \"5m\" or \"1h\"",
            "5:20 this must be longer than nothing -> such as \"1s\"",
            "6:1 unknown key `stor` -> did you mean `store`? allowed here: address, embedded, store, \
             store_password_file, encryption_key_files, token_file, batch_max, delivery_backoff, delivery_timeout, \
             channel, merchant",
            "7:12 expected true or false, found integer `1` -> write it without quotes",
        ],
    );
    tells(
        &format!("{LEAST}batch_max = 4097\ndelivery_backoff = []"),
        &[
            "3:13 `4097` is out of range -> a whole number from 1 to 4096",
            // What is empty is told once the rest was understood.
        ],
    );
    tells(
        &format!("{LEAST}delivery_backoff = []"),
        &[
            "3:20 `delivery_backoff` is empty -> name the wait before each further try, such as [\"5s\", \"5m\", \"30m\"]",
        ],
    );
    tells("ledger = 3", &["1:10 `ledger` must be a table, not an integer -> put its keys below a `[header]`"]);
    tells(
        &format!("{LEAST}channel = 3"),
        &["3:11 `channel` must hold tables -> give each one a name: `[ledger.channel.orders]`"],
    );
}

#[test]
fn the_ledger_has_an_address_of_its_own() {
    tells(
        &format!("[admin]\n{LEAST}address = \"0.0.0.0:9900\""),
        &["4:11 the admin listener has `0.0.0.0:9900` already -> the other one is at a.toml:1; keep one"],
    );
    tells(
        &format!("{LEAST}address = \"127.0.0.1:8080\""),
        &["3:11 a listener has `127.0.0.1:8080` already -> the other one is at a.toml:5; keep one"],
    );
    tells(
        &format!("{LEAST}address = \"127.0.0.1:0\""),
        &["3:11 the ledger cannot have port 0 -> such as \"127.0.0.1:9700\": routes and callers must find it"],
    );
    tells(
        &format!("{LEAST}[upstream.ledger]\nservers = [\"127.0.0.1:9700\"]"),
        &["3:1 an upstream cannot be called `ledger` beside `[ledger]`: metrics could not tell them apart -> give it \
           another name"],
    );
    meant("[upstream.ledger]\nservers = [\"127.0.0.1:9700\"]");
}

#[test]
fn an_address_that_does_not_read_hides_nothing_else() {
    let told = found(&format!("{LEAST}address = \"x\"\nstore = \"mysql:\"\n"));
    assert!(
        told.len() == 2 && told[0].starts_with("3:11 `x` is not") && told[1].starts_with("4:9 `mysql:`"),
        "{told:?}"
    );
    let told = found("[admin]\naddress = \"x\"\ntoken_file = \"none\"\n");
    assert!(told.len() == 2 && told[0].starts_with("2:11 `x` is not") && told[1].starts_with("3:14 "), "{told:?}");
}

#[test]
fn a_store_is_a_file_or_a_database_and_its_url_has_no_password() {
    let hint = "\"sqlite:ledger.db\" (a file in state_dir), or \"postgres://user@host/db\"";
    let only = "only a path follows `sqlite:`, such as \"sqlite:ledger.db\"";
    for (store, expected) in [
        ("ledger.db", format!("`ledger.db` is not a store -> {hint}")),
        ("mysql://u:geheim@h/db", format!("`mysql://u:***@h/db` is not a store -> {hint}")),
        ("sqlite:", format!("`sqlite:` names no file -> {only}")),
        ("sqlite://ledger.db", format!("`sqlite://ledger.db` names no file -> {only}")),
        ("sqlite::memory:", format!("`sqlite::memory:` names no file -> {only}")),
        ("sqlite:x.db?mode=ro", format!("`sqlite:x.db?mode=ro` names no file -> {only}")),
        ("postgres:///db", format!("the store's URL names no host -> {hint}")),
        (
            "postgres://u:geheim@h/db",
            "the store's URL carries a password -> take it out of the URL and name a file with `store_password_file`"
                .to_owned(),
        ),
        (
            "postgresql://u@h/db?password=geheim",
            "the store's URL carries a password -> take it out of the URL and name a file with `store_password_file`"
                .to_owned(),
        ),
    ] {
        tells(&format!("{LEAST}store = \"{store}\""), &[&format!("3:9 {expected}")]);
        let text = format!("{LEAST}store = \"{store}\"\n[[listener]]\naddress = \"127.0.0.1:1\"\n");
        let findings = load_texts(&[&text]).expect_err("it is refused");
        assert!(!format!("{findings:?}").contains("geheim"), "{findings:?}");
    }
    let store = |text: &str| meant(&format!("{LEAST}{text}")).ledger.expect("a ledger").store;
    assert_eq!(store("store = \"sqlite:/var/lib/l.db\""), Store::Sqlite("/var/lib/l.db".into()));
    assert_eq!(store("store = \"sqlite:books/l.db\""), Store::Sqlite(conf().join("state/books/l.db")));
    let password = "store = \"postgres://u@h:5432/db\"\nstore_password_file = \"secrets-example/ledger.token\"";
    let Store::Postgres { url, password: Some(password) } = store(password) else { panic!("no password") };
    assert_eq!((&*url, password.0.len()), ("postgres://u@h:5432/db", 64));
    tells(
        &format!("{LEAST}store_password_file = \"secrets-example/ledger.token\""),
        &["3:23 a SQLite store has no password -> remove it, or name a store such as \"postgres://user@host/db\""],
    );
}

#[test]
fn a_merchant_has_a_url_outside_and_a_secret() {
    tells(
        &format!("{LEAST}[ledger.merchant.Shop]\n[ledger.merchant.b]\nurl = \"ftp://x\"\nallow_privat = true"),
        &[
            "3:1 `Shop` is no name for a merchant -> small letters, digits, `_` and `-`: it stands in URLs and accounts",
            "3:1 `secret_file` is missing -> add it: secret_file = \"secrets/shop.whsec\"",
            "3:1 `url` is missing -> add it: url = \"https://shop.example.com/payments\"",
            "5:7 `ftp://x` is not a URL -> such as \"http://127.0.0.1:9300/alerts\": http or https, and a host",
            "6:1 unknown key `allow_privat` -> did you mean `allow_private`? allowed here: url, secret_file, token_file, \
             allow_private",
        ],
    );
    let url = |url: &str, more: &str| {
        format!("{LEAST}[ledger.merchant.a]\nurl = \"{url}\"\nsecret_file = \"secrets-example/shop.whsec\"\n{more}")
    };
    for (private, shown) in [
        ("http://127.0.0.1:9100/", "127.0.0.1"),
        ("http://0x7f.1/", "127.0.0.1"),
        ("http://10.1.2.3/", "10.1.2.3"),
        ("http://169.254.169.254/latest", "169.254.169.254"),
        ("http://0.0.0.0/", "0.0.0.0"),
        ("https://[::1]/", "::1"),
        ("https://[::ffff:10.0.0.1]/", "::ffff:10.0.0.1"),
        ("https://[fd00::1]/", "fd00::1"),
        ("http://224.0.0.1/", "224.0.0.1"),
        ("http://192.0.2.1/", "192.0.2.1"),
    ] {
        let expected = format!(
            "4:7 `{shown}` is a loopback, private or reserved address -> name a public host, or add `allow_private = \
             true` where this one is meant"
        );
        tells(&url(private, ""), &[&expected]);
        meant(&url(private, "allow_private = true"));
    }
    for public in ["https://shop.example.com/", "https://8.8.8.8/", "http://localhost:9100/"] {
        meant(&url(public, "allow_private = false"));
    }
}

#[test]
fn no_two_have_the_same_token() {
    let token = "token_file = \"secrets-example/ledger.token\"\n";
    let other = SHOP.replace("shop]", "other]");
    let expected = |line: u32, first: u32| {
        format!(
            "{line}:14 this token is another's too: whose a call is could not be told -> the other one is at \
             a.toml:{first}; `openssl rand -hex 32` makes one"
        )
    };
    tells(&format!("{LEAST}{token}{SHOP}{token}{other}{token}"), &[&expected(7, 3), &expected(11, 7)]);
    meant(&format!("{LEAST}{token}{SHOP}token_file = \"secrets-example/shop.token\"\n{other}"));
}

#[test]
fn a_route_leads_to_the_ledger_where_there_is_one() {
    tells(
        "[route.a]\nledger = true",
        &["2:10 there is no `[ledger]` to hand the request to -> add it: [ledger] encryption_key_files = \
           [\"secrets/ledger.key\"], or use `upstream = \"name\"`"],
    );
    tells(
        &format!("{LEAST}[route.a]\nrespond = {{}}\nledger = true\n[route.b]\nledger = false\nhosts = [\"b\"]"),
        &[
            "5:10 `ledger` beside `respond`: a route does one thing -> keep exactly one of upstream, redirect, respond, \
             ledger",
            "6:1 the route does nothing -> add exactly one of `upstream = \"name\"`, `redirect = { to = ... }`, `respond \
             = { status = 200 }`, `ledger = true`",
        ],
    );
    tells(
        &format!(
            "{LEAST}[route.a]\nledger = true\n[upstream.b]\nservers = [\"127.0.0.1:1\"]\n[release.r]\nroutes = [\"a\"]\n\
             canary = \"b\"\nsteps = [{{ percent = 1 }}]"
        ),
        &[
            "8:11 route `a` forwards to no upstream: it has no stable version -> name routes with an `upstream`; a canned \
           answer has no versions",
        ],
    );
    let config = meant(&format!("{LEAST}[route.a]\nledger = true\nstrip_prefix = \"/pay\""));
    assert_eq!(config.routes[0].action, Action::Ledger);
}

#[test]
fn what_a_start_chose_is_kept_and_the_rest_may_swap() {
    let stripe = channel("provider = \"stripe\"\nsecret_files = [\"secrets-example/stripe.whsec\"]");
    let old = meant(&stripe);
    let refused = |new: &str| -> Vec<String> {
        let said = restart_required::findings(&old, &meant(new), false).into_iter();
        said.map(|it| it.message.replace(" needs `tollgate upgrade`: it is chosen at start", "")).collect()
    };
    let with = |key: &str| stripe.replacen("[ledger.merchant", &format!("{key}\n[ledger.merchant"), 1);
    assert_eq!(refused(&with("address = \"127.0.0.1:9701\"")), ["a change of `ledger.address` from 127.0.0.1:9700"]);
    assert_eq!(refused(&with("embedded = false")), ["a change of `ledger.embedded` from true"]);
    assert_eq!(refused(&with("store = \"sqlite:other.db\"")), ["a change of the ledger's store"]);
    let keys = stripe.replace("ledger.key\"", "ledger.key\", \"secrets-example/ledger-old.key\"");
    assert_eq!(refused(&keys), ["a change of the ledger's encryption keys"]);
    assert_eq!(refused(""), ["taking the ledger away"]);
    let appears = restart_required::findings(&meant(""), &old, false);
    assert!(appears[0].message.starts_with("a ledger that was not there needs `tollgate upgrade`"), "{appears:?}");

    let swapped = with(
        "batch_max = 9\ndelivery_timeout = \"1s\"\ndelivery_backoff = [\"1s\"]\n\
                        token_file = \"secrets-example/ledger.token\"",
    );
    let swapped = swapped.replace("/stripe.whsec", "/events.whsec").replace("shop.example", "x.example")
        + "\nfee = {percent=1}"
        + "\n[ledger.channel.p]\nmerchant = \"shop\"\nprovider = \"hmac\"\nheader = \"x\"\n\
           secret_files = [\"secrets-example/partner.hmac\"]";
    assert_eq!(refused(&swapped), Vec::<String>::new());
    let diff = Diff::between(&old, &meant(&swapped));
    let settings = ["ledger.token_file", "ledger.batch_max", "ledger.delivery_backoff", "ledger.delivery_timeout"];
    assert_eq!(diff.settings, settings);
    assert_eq!(
        diff.to_string().lines().skip(4).collect::<Vec<_>>(),
        ["+ channel p", "~ channel card: secret_files, fee", "~ merchant shop: url"]
    );
    assert!(Diff::between(&old, &meant(&stripe)).is_empty());
    let other = meant(&stripe.replace("provider = \"stripe\"", "provider = \"standardwebhooks\""));
    assert_eq!(Diff::between(&old, &other).to_string(), "~ channel card: provider");
}

#[test]
fn tables_of_a_ledger_may_stand_in_several_files() {
    let one = format!("{LEAST}[[listener]]\naddress = \"127.0.0.1:1\"\n");
    let two = "[ledger.channel.b]\nmerchant = \"shop\"\nprovider = \"stripe\"\n\
               secret_files = [\"secrets-example/stripe.whsec\"]\n";
    let loaded = load_texts(&[two, SHOP, &one]).expect("it merges");
    let ledger = loaded.config.ledger.expect("a ledger");
    assert_eq!((&*ledger.channels[0].name, &*ledger.merchants[0].name), ("b", "shop"));
}
