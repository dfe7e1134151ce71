//! Files of users and secrets: what is read, what is refused and where, and what is read again.

use std::fmt::Write;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use gray::cohort::{UserSet, user_hash};

/// A folder with a file `users`.
struct Folder(tempfile::TempDir);

impl Folder {
    fn with(content: &[u8]) -> Folder {
        let folder = Folder(tempfile::tempdir().expect("a folder"));
        folder.write(content);
        folder
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("users")
    }

    fn write(&self, content: &[u8]) {
        fs::write(self.path(), content).expect("written");
        // A file that changed just now is not remembered.
        std::thread::sleep(Duration::from_millis(40));
    }

    fn load(&self) -> Result<Loaded, Vec<Finding>> {
        self.load_text("[cohort.c]\nusers_file = \"users\"")
    }

    fn load_text(&self, text: &str) -> Result<Loaded, Vec<Finding>> {
        let text = format!("{text}\n[[listener]]\naddress = \"127.0.0.1:1\"\n");
        load_source(Source::from_parts(self.0.path().to_owned(), vec![("a.toml".into(), text)]))
    }

    fn users(&self) -> Arc<UserSet> {
        let loaded = self.load().unwrap_or_else(|findings| panic!("{findings:?}"));
        assert_eq!(loaded.config.files, [self.path()]);
        loaded.config.cohorts[0].users.clone().expect("users")
    }

    /// Every finding as `file:line:column text: message`.
    fn found(&self) -> Vec<String> {
        let findings = self.load().expect_err("it is refused");
        assert!(findings.iter().all(|it| !it.hint.is_empty()));
        let name = |file: &str| file.rsplit('/').next().unwrap_or_default().to_owned();
        let line = |it: &Finding| format!("{}:{}:{} {}: {}", name(&it.file), it.line, it.column, it.text, it.message);
        findings.iter().map(line).collect()
    }
}

#[test]
fn a_file_holds_a_user_a_line() {
    let folder =
        Folder::with("\u{feff}ann\r\n\n  bob \t\n# eve\n \t # eve\n\u{fc}lo x\nann\n\u{3000}\nlast".as_bytes());
    let users = folder.users();
    for user in ["ann", "bob", "\u{fc}lo x", "\u{3000}", "last"] {
        assert!(users.holds(user_hash(user.as_bytes())), "{user}");
    }
    for stranger in ["eve", "# eve", "", "ann\r", " bob"] {
        assert!(!users.holds(user_hash(stranger.as_bytes())), "{stranger}");
    }
    assert_eq!(users.len(), 5);
    for nobody in ["", "\n\n", "# only a comment", "\u{feff}"] {
        assert!(Folder::with(nobody.as_bytes()).users().is_empty(), "{nobody:?}");
    }
    let long = "x".repeat(1024);
    assert_eq!(Folder::with(format!("  {long}  ").as_bytes()).users().len(), 1);
}

#[test]
fn junk_is_found_in_the_file_of_users_itself() {
    let long = "y".repeat(1025);
    let mut content = format!("fine\n  b\u{fc}\tc\nx\u{7f}\n{long}\n").into_bytes();
    content.extend_from_slice(b"\xffx\n \xc3\xbcb\xc3\n");
    let folder = Folder::with(&content);
    let cut = "y".repeat(120);
    assert_eq!(
        folder.found(),
        [
            "users:2:5 b\u{fc}\u{fffd}c: the user key holds the control character U+0009".to_owned(),
            "users:3:2 x\u{fffd}: the user key holds the control character U+007F".to_owned(),
            format!("users:4:1 {cut}: the user key is longer than 1024 bytes"),
            "users:5:1 \u{fffd}x: the user key is not UTF-8 from here on".to_owned(),
            "users:6:4 \u{fc}b\u{fffd}: the user key is not UTF-8 from here on".to_owned(),
        ]
    );
    let findings = folder.load().expect_err("it is refused");
    assert_eq!(findings[0].file, folder.path().display().to_string());
    // Once it is mended it loads, though it was refused before.
    folder.write(b"fine\n");
    assert_eq!(folder.users().len(), 1);
}

#[test]
fn much_junk_is_counted() {
    let folder = Folder::with("ok\n".repeat(5).as_bytes());
    folder.write(format!("{}{}", "ok\n".repeat(5), "\u{1}\n".repeat(100)).as_bytes());
    let found = folder.found();
    assert_eq!(found.len(), 21);
    assert_eq!(found[19], "users:25:1 \u{fffd}: the user key holds the control character U+0001");
    assert_eq!(found[20], "users:26:1 : and 80 more lines that are no user keys");
}

#[test]
fn what_cannot_be_read_is_found_where_it_is_named() {
    let folder = Folder::with(b"");
    let at = |folder: &Folder| {
        let findings = folder.load().expect_err("it is refused");
        assert_eq!(findings.len(), 1, "{findings:?}");
        (findings[0].file.clone(), findings[0].line, findings[0].column, findings[0].message.clone())
    };
    fs::remove_file(folder.path()).expect("removed");
    let (file, line, column, message) = at(&folder);
    assert_eq!((&*file, line, column), ("a.toml", 2, 14));
    assert!(message.starts_with("the file cannot be read: No such file"), "{message}");
    fs::create_dir(folder.path()).expect("made");
    assert_eq!(at(&folder).3, "the file cannot be read: it is not a regular file");
    fs::remove_dir(folder.path()).expect("removed");
    let pipe = std::process::Command::new("mkfifo").arg(folder.path()).status().expect("mkfifo");
    assert!(pipe.success());
    assert_eq!(at(&folder).3, "the file cannot be read: it is not a regular file");
    fs::remove_file(folder.path()).expect("removed");
    // A hole takes no room.
    fs::File::create(folder.path()).and_then(|file| file.set_len((512 << 20) + 1)).expect("made");
    assert_eq!(at(&folder).3, "the file cannot be read: it is larger than 512 MiB");
}

#[test]
fn a_million_users_load_once_and_junk_among_them_is_found() {
    let mut text = String::new();
    (0..1_000_000).for_each(|n| writeln!(text, "user-{n}@example.com").expect("written"));
    let folder = Folder::with(text.as_bytes());
    let users = folder.users();
    assert_eq!(users.len(), 1_000_000);
    assert!(users.holds(user_hash(b"user-0@example.com")) && users.holds(user_hash(b"user-999999@example.com")));
    assert!(Arc::ptr_eq(&users, &folder.users()), "a file that did not change is not read again");
    // The same length: only the times of change tell.
    folder.write(text.replace("user-777776@", "user-77\u{7}776").as_bytes());
    assert_eq!(
        folder.found(),
        ["users:777777:8 user-77\u{fffd}776example.com: the user key holds the control character U+0007"]
    );
}

#[test]
fn a_set_is_shared_until_its_file_changes() {
    let folder = Folder::with(b"ann\n");
    let first = folder.users();
    let text =
        "[cohort.c]\nusers_file = \"users\"\n[cohort.d]\nusers_file = \"./users\"\n[cohort.e]\nusers_file = \"users\"";
    let cohorts = folder.load_text(text).expect("it loads").config.cohorts;
    let same = cohorts.iter().map(|it| Arc::ptr_eq(&first, it.users.as_ref().expect("users"))).collect::<Vec<_>>();
    assert_eq!(same, [true, true, true]);
    // In place and of the same length, then by a rename, then gone and back.
    folder.write(b"bob\n");
    let second = folder.users();
    assert!(second.holds(user_hash(b"bob")) && !second.holds(user_hash(b"ann")));
    fs::write(folder.0.path().join("new"), b"eve\n").expect("written");
    fs::rename(folder.0.path().join("new"), folder.path()).expect("renamed");
    let third = folder.users();
    assert!(third.holds(user_hash(b"eve")) && !third.holds(user_hash(b"bob")));
    assert!(first.holds(user_hash(b"ann")), "who holds the old set keeps it");
}

#[test]
fn loads_at_the_same_time_agree() {
    let folder = Folder::with("ann\nbob\n".repeat(1000).as_bytes());
    std::thread::scope(|scope| {
        let loads: Vec<_> = (0..8).map(|_| scope.spawn(|| folder.users())).collect();
        for load in loads {
            assert_eq!(load.join().expect("no panic").len(), 2);
        }
    });
}

#[test]
fn a_webhook_secret_is_decoded_and_never_shown() {
    let notify = "[notify.n]\nurl = \"http://a\"\nsecret_file = \"users\"";
    // 24 bytes; some tools leave the padding of other lengths away.
    let good = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    for content in
        [good.to_owned(), format!("{good}\n"), format!("{good}\r\n"), format!("{good}AA=="), format!("{good}AA")]
    {
        let folder = Folder::with(content.as_bytes());
        let config = folder.load_text(notify).unwrap_or_else(|findings| panic!("{content:?}: {findings:?}")).config;
        let secret = config.notify[0].secret.clone().expect("a secret");
        assert_eq!(&secret.0[..2], [0x31, 0xf2]);
        assert_eq!(config.files, [folder.path()]);
        assert!(!format!("{config:?}").contains("MfKQ9r8"));
    }
    let short = &good[..good.len() - 4];
    let base64 = "what follows `whsec_` in the webhook secret is not base64";
    let unnamed = "the webhook secret does not begin with `whsec_`";
    for (content, expected) in [
        (short.to_owned(), "the webhook secret has 21 bytes, not 24 to 64"),
        (format!("{good}{}", "A".repeat(56)), "the webhook secret has 66 bytes, not 24 to 64"),
        (format!("{good}!"), base64),
        (format!("{good} "), base64),
        (format!("{good}\n\n"), base64),
        (good.replace("whsec_", ""), unnamed),
        (String::new(), unnamed),
    ] {
        let findings = Folder::with(content.as_bytes()).load_text(notify).expect_err("it is refused");
        assert_eq!(findings.len(), 1);
        assert_eq!((findings[0].line, findings[0].column, &*findings[0].message), (3, 15, expected));
        assert!(!format!("{findings:?}").contains("MfKQ9r8"), "{findings:?}");
    }
}
