//! Keys found, rotated and told apart.

use std::time::Instant;

use super::*;
use crate::apps::AppStatus;
use base::finding::Place;
use base::secret::Secret;

fn plain(text: &str) -> KeySecret {
    KeySecret::Plain(Secret(text.as_bytes().into()))
}

fn hashed(text: &str) -> KeySecret {
    KeySecret::Sha256(digest(&SHA256, text.as_bytes()).as_ref().try_into().unwrap())
}

fn app(name: &str, keys: Vec<(&str, KeySecret)>) -> App {
    let keys = keys.into_iter().map(|(id, secret)| AppKey { id: id.into(), secret }).collect();
    App { name: name.into(), status: AppStatus::Approved, keys, limits: vec![], place: Place::default() }
}

fn some_apps() -> Vec<App> {
    vec![
        app("acme", vec![("k1", plain("old")), ("k2", plain("new"))]),
        app("bolt", vec![("k1", hashed("bolt-key")), ("only", hashed("other"))]),
        app("none", vec![]),
        app("slash", vec![("acme/k1", plain("s1")), ("a/b", plain("s2")), ("solo", plain("s3"))]),
    ]
}

#[test]
fn every_key_of_an_app_finds_it_and_nothing_else_does() {
    let apps = some_apps();
    let keys = Keys::new(&apps);
    assert_eq!((keys.len(), keys.is_empty()), (7, false));
    for (sent, expected) in [
        ("old", Some((0, 0))),
        ("new", Some((0, 1))),
        ("bolt-key", Some((1, 0))),
        ("other", Some((1, 1))),
        ("s3", Some((3, 2))),
        ("", None),
        ("Old", None),
        ("old ", None),
        ("oldnew", None),
        ("k1", None),
    ] {
        assert_eq!(keys.find(sent.as_bytes()).map(|found| (found.app, found.key)), expected, "{sent}");
    }
    // The hash of a key is no key.
    assert_eq!(keys.find(digest(&SHA256, b"old").as_ref()), None);
    assert_eq!(Keys::default().find(b"old"), None);
    assert_eq!(Keys::new(&[]).find(b"old"), None);
    assert_eq!(keys.app(&apps, "bolt"), Some(1));
    assert_eq!(keys.app(&apps, "bol"), None);
}

#[test]
fn a_keyid_is_an_id_that_one_app_has_or_app_and_id() {
    let apps = some_apps();
    let keys = Keys::new(&apps);
    let asked = |keyid: &str| match keys.signer(&apps, keyid) {
        Signer::One(found, secret) => format!("{}.{} {}", found.app, found.key, String::from_utf8_lossy(secret)),
        Signer::Several => "several".to_owned(),
        Signer::Nobody => "nobody".to_owned(),
    };
    for (keyid, expected) in [
        ("k2", "0.1 new"),
        ("acme/k2", "0.1 new"),
        ("acme/k1", "0.0 old"),
        ("k1", "several"),
        ("bolt/k1", "nobody"),
        ("only", "nobody"),
        ("a/b", "3.1 s2"),
        ("slash/a/b", "3.1 s2"),
        ("slash/acme/k1", "3.0 s1"),
        ("solo", "3.2 s3"),
        ("bolt/k2", "nobody"),
        ("none/k1", "nobody"),
        ("acme", "nobody"),
        ("", "nobody"),
        ("/", "nobody"),
        ("/k1", "nobody"),
    ] {
        assert_eq!(asked(keyid), expected, "{keyid}");
    }
}

/// Run with `--ignored --nocapture` to read what a million keys cost.
#[test]
#[ignore = "a measurement"]
fn a_million_keys() {
    let apps: Vec<App> = (0..1_000_000)
        .map(|n| {
            let (name, key) = (format!("app-{n}"), format!("key-{n}"));
            app(&name, vec![(if n % 2 == 0 { "k1" } else { &name }, plain(&key))])
        })
        .collect();
    let start = Instant::now();
    let keys = Keys::new(&apps);
    println!("built in {:?}", start.elapsed());
    let slots: usize = [&keys.by_digest, &keys.by_app, &keys.by_id].iter().map(|s| s.slots.len() * 4).sum();
    println!("{} MiB", (keys.known.len() * size_of::<Known>() + slots) >> 20);
    let sent: Vec<String> = (0..1_000_000u64).map(|n| format!("key-{}", n * 7_919 % 1_000_000)).collect();
    let start = Instant::now();
    assert!(sent.iter().all(|key| keys.find(key.as_bytes()).is_some()));
    println!("{} ns for a key that is known", start.elapsed().as_nanos() / 1_000_000);
    let start = Instant::now();
    assert!(sent.iter().all(|key| keys.find(&key.as_bytes()[1..]).is_none()));
    println!("{} ns for one that is not", start.elapsed().as_nanos() / 1_000_000);
    let ids: Vec<String> = (0..1_000_000u64).map(|n| format!("app-{}", (n * 7_919 % 1_000_000) | 1)).collect();
    let start = Instant::now();
    assert!(ids.iter().all(|id| matches!(keys.signer(&apps, id), Signer::One(..))));
    println!("{} ns for a keyid", start.elapsed().as_nanos() / 1_000_000);
}
