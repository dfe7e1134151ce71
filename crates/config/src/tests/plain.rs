//! A build without the ledger.

use super::*;

#[test]
fn a_ledger_in_the_process_is_a_finding_and_one_elsewhere_is_none() {
    let ledger = "[ledger]\nembedded = EMBEDDED\nstore = \"postgres://u@h/db\"\n\
                  encryption_key_files = [\"secrets-example/ledger.key\"]";
    let found = found(&ledger.replace("EMBEDDED", "true"));
    assert!(found[0].starts_with("1:1 this build has no ledger -> take `[ledger]` out"), "{found:?}");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(!meant(&ledger.replace("EMBEDDED", "false")).ledger.expect("a ledger").embedded);
}
