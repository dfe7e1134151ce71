//! Files that a configuration names: tokens and certificates.

use super::*;

/// A certificate of nobody, valid for a century; its key was thrown away.
const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBezCCASGgAwIBAgIURvkJoA20UzTmoRvsYzhC/JWPkQ4wCgYIKoZIzj0EAwIw\n\
EjEQMA4GA1UEAwwHdGVzdC1jYTAgFw0yNjExMjEwNDI2MTZaGA8yMTI2MTAyODA0\n\
MjYxNlowEjEQMA4GA1UEAwwHdGVzdC1jYTBZMBMGByqGSM49AgEGCCqGSM49AwEH\n\
A0IABHvoDGdl+QAt6uC6IYwSSanhRYBgI/jijoaiabA5nueK9hSckLQcgyopnhlT\n\
HdGaPTpyPGkNr+zQ9IJpr1Rk1bGjUzBRMB0GA1UdDgQWBBTycUuGOkibiYWMC2m4\n\
MfabdNTM6TAfBgNVHSMEGDAWgBTycUuGOkibiYWMC2m4MfabdNTM6TAPBgNVHRMB\n\
Af8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIQDpTuiInq0IyT7k2yhyLF5RZLXZ\n\
VpFPpx8a+mxZ0kk6UgIgHZnanixvea6uq7VeGTCV7nUTDD1R6yTKkTBxduFDTsM=\n\
-----END CERTIFICATE-----\n";

/// Loads a text whose folder holds `file` with this content; the message of the only finding, if any.
fn with_file(text: &str, content: &[u8]) -> Result<Loaded, String> {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("file"), content).expect("written");
    let text = format!("{text}\n[[listener]]\naddress = \"127.0.0.1:1\"\n");
    let source = Source::from_parts(folder.path().to_owned(), vec![("a.toml".into(), text)]);
    load_source(source).map_err(|findings| {
        assert_eq!(findings.len(), 1, "{findings:?}");
        findings[0].message.clone()
    })
}

#[test]
fn a_token_is_one_word_and_one_newline_is_cut() {
    let admin = "[admin]\ntoken_file = \"file\"";
    for content in ["secret", "secret\n", "secret\r\n"] {
        let loaded = with_file(admin, content.as_bytes()).expect("it loads");
        let token = loaded.config.admin.and_then(|admin| admin.token).expect("a token");
        assert_eq!(&*token.0, b"secret");
        assert_eq!(format!("{token:?}"), "Secret(..)");
        assert_eq!(loaded.config.files.len(), 1);
    }
    let refused = |content: &[u8]| with_file(admin, content).expect_err("it is refused");
    assert_eq!(refused(b""), "the token file is empty");
    assert_eq!(refused(b"\n"), "the token file is empty");
    assert_eq!(refused(b"one two"), "the token is not one word");
    assert_eq!(refused(b"one\n\n"), "the token is not one word");
    assert_eq!(refused(&[b'x'; 5000]), "the file cannot be read: it is larger than 4 KiB");
    let missing = with_file("[admin]\ntoken_file = \"none\"", b"").expect_err("it is refused");
    assert!(missing.starts_with("the file cannot be read: No such file"), "{missing}");
}

#[test]
fn certificates_are_parsed_before_a_handshake_needs_them() {
    let upstream = "[upstream.a]\nservers = [\"127.0.0.1:1\"]\ntls = { ca = \"file\" }";
    let loaded = with_file(upstream, CERTIFICATE.repeat(2).as_bytes()).expect("it loads");
    let tls = loaded.config.upstreams[0].tls.clone().expect("TLS");
    assert_eq!(tls.ca.map(|certificates| certificates.len()), Some(2));
    let refused = |content: &str| with_file(upstream, content.as_bytes()).expect_err("it is refused");
    assert_eq!(refused("nothing"), "the file holds no certificate");
    let broken = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    assert_eq!(refused(&format!("{CERTIFICATE}{broken}")), "certificate 2 in the file is not a valid one");
    assert!(refused("-----BEGIN CERTIFICATE-----\n!\n").starts_with("the file is not valid PEM: "));
}
