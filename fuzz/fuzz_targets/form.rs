//! Readers of callbacks' bodies by themselves: forms, fields of JSON, amounts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use providers::normalise;
use providers::{alipay, form, json, stripe};

const PATHS: [&[&str]; 4] = [&["id"], &["a", "b"], &["a", "c"], &["amount", "total"]];

fuzz_target!(|body: &[u8]| {
    let parameters = form::parse(body);
    assert!(parameters.is_none_or(|parameters| parameters.len() <= form::PARAMETERS_MAX));
    let _ = alipay::AlipayMessage::read(body);
    let _ = stripe::StripeMessage::read(body);
    if let Some(found) = json::pick(body, &PATHS) {
        for raw in found {
            let _ = (json::text(raw), json::scalar(raw), json::minor(raw, 2), json::minor(raw, 0));
        }
    }
    if let Ok(text) = std::str::from_utf8(body) {
        for digits in 0..4 {
            let _ = (normalise::minor(Some(text), digits), normalise::minor_of_number(text, digits));
        }
        let _ = (normalise::currency(Some(text)), normalise::rfc3339(Some(text)), normalise::china(Some(text)));
        let _ = (normalise::is_name(text), normalise::key(text), normalise::kind(text));
    }
});
