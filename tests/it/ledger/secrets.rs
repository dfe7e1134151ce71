//! Nothing personal and nothing secret in the open: not in the store, its log or its anchor, not in what the process
//! says, not in answers and figures. What is meant to be in the open is: numbers of payments and orders.
//!
//! Texts are searched for as they were sent, and as base64 and form encoding would spell them.

use std::fs;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD_NO_PAD, Engine};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::senders::Senders;
use crate::support::eventually;
use crate::support::ledger::{Ledger, Process, files};
use crate::support::post;
use crate::support::providers::{CHANNELS, PLANTED, keys, standard_key};

/// A text in the spellings in which it could stand somewhere.
fn spellings(text: &str) -> Vec<Vec<u8>> {
    // Whatever stands before it, one of three shifts is how base64 has it; its edges depend on the neighbours.
    let shifted = (0..3).map(|shift| {
        let coded = BASE64_STANDARD_NO_PAD.encode([&[0; 3][..shift], text.as_bytes()].concat());
        coded.as_bytes()[4..coded.len() - 4].to_vec()
    });
    let form = utf8_percent_encode(text, NON_ALPHANUMERIC).to_string().into_bytes();
    shifted.chain([text.as_bytes().to_vec(), form]).collect()
}

fn has(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Refusals of every kind, which might tell what they were about.
fn refusals(process: &Process) -> Vec<u8> {
    let mut said = vec![];
    for channel in CHANNELS {
        let path = format!("/callbacks/{}", channel.name());
        let texts = [PLANTED.join("&"), format!("{{\"payer\": {:?}", PLANTED[0]), format!("sign={}", PLANTED[1])];
        for text in texts {
            for kind in ["application/json", "application/x-www-form-urlencoded"] {
                let request = post(&path, text.clone()).header("content-type", kind).header("x-note", PLANTED[4]);
                let request = request.header("x-signature", PLANTED[2]).header("stripe-signature", PLANTED[2]);
                let request = request.header("webhook-id", PLANTED[1]).header("wechatpay-signature", PLANTED[2]);
                let answer = process.ask(&request).unwrap();
                assert!(matches!(answer.status, 400 | 401), "{}", answer.text());
                said.extend(format!("{:?}", answer.headers).bytes());
                said.extend(answer.body);
            }
        }
    }
    for path in ["/metrics", "/openapi.json", "/healthz", "/readyz"] {
        said.extend(process.ask(&crate::support::get(path)).unwrap().body);
    }
    let wrong = crate::support::get("/v1/orders").header("authorization", format!("Bearer {}", PLANTED[0]));
    let answer = process.ask(&wrong).unwrap();
    assert_eq!(answer.status, 401);
    said.extend(answer.body);
    said
}

#[test]
fn nothing_personal_and_no_secret_is_in_the_open() {
    let (ledger, mut process) = Ledger::start();
    let mut senders = Senders::begin(21, Duration::from_millis(30), &[process.port]);
    senders.acknowledge(200);
    let acknowledged = senders.finish();
    let mut places = vec![("answers".to_owned(), refusals(&process))];
    // It is written each second.
    eventually("the anchor is there", || ledger.path("state/ledger.anchor").exists().then_some(()));
    // The log is there as long as the process is.
    let mut read = |when: &str| {
        for path in files(&ledger.path("state")) {
            places.push((format!("{} {when}", path.display()), fs::read(&path).unwrap()));
        }
    };
    read("while it runs");
    process.kill9();
    read("after kill -9");
    process.run(&ledger.disk);
    read("started again");
    for end in ["err", "out"] {
        let name = format!("ledger1.{end}");
        places.push((name.clone(), fs::read(ledger.path(&name)).unwrap()));
    }
    let output = ledger.cli(&["export", "--format", "csv"]);
    places.push(("the export".to_owned(), [output.stdout, output.stderr].concat()));
    for text in PLANTED.iter().copied().chain(ledger.secrets.iter().map(String::as_str)) {
        for spelling in spellings(text) {
            let found = places.iter().find(|(_, bytes)| has(bytes, &spelling)).map(|(place, _)| place);
            assert_eq!(found, None, "{text:?} stands there");
        }
    }
    // Keys are read as bytes too.
    let encryption = &ledger.secrets[0];
    let byte = |at: usize| u8::from_str_radix(&encryption[2 * at..2 * at + 2], 16).unwrap();
    for raw in [standard_key(&keys().standard), (0..32).map(byte).collect()] {
        let found = places.iter().find(|(_, bytes)| has(bytes, &raw)).map(|(place, _)| place);
        assert_eq!(found, None, "a key stands there");
    }
    for name in ["ledger.db", "ledger.db-wal", "ledger.anchor"] {
        assert!(places.iter().any(|(place, _)| place.contains(name)), "{name} was not searched");
    }
    let payment = acknowledged.iter().find(|callback| callback.refund.is_none()).unwrap();
    for text in [payment.number(), &payment.out_trade_no] {
        let found = places.iter().any(|(place, bytes)| place.contains("ledger.db") && has(bytes, text.as_bytes()));
        assert!(found, "{text} is meant to be there");
    }
}

#[test]
fn spellings_find_a_text_whatever_stands_beside_it() {
    let text = PLANTED[0];
    for before in ["", "a", "ab", "abc"] {
        let coded = BASE64_STANDARD_NO_PAD.encode(format!("{before}{text} after"));
        assert!(spellings(text).iter().any(|spelling| has(coded.as_bytes(), spelling)), "{before}");
    }
}
