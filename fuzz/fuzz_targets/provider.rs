//! Payment callbacks whose signature is right: what a stranger's own account could make a provider send.
//!
//! Those that RSA signs (Alipay, WeChat Pay) are beyond a fuzzer's pace; their readers are in `form`.
#![no_main]

use std::sync::Arc;

use base::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use config::model::ledger::{Channel, Encoding, Fields, Hmac, Provider};
use http::{HeaderMap, HeaderName, HeaderValue};
use providers::Prepared;
use providers::receive::Received;
use providers::verify::VerifyError;
use libfuzzer_sys::fuzz_target;
use ring::hmac;

const NOW_S: u64 = 1_700_000_000;
const KEY: &[u8] = b"0123456789abcdef01234567";

fn tag(parts: &[&[u8]]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY), &parts.concat()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn verify(provider: Provider, headers: &[(&'static str, &[u8])], body: &[u8]) -> Result<(), VerifyError> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let Ok(value) = HeaderValue::from_bytes(value) else { return Ok(()) };
        map.append(HeaderName::from_static(name), value);
    }
    let channel = Channel { name: "shop-1".into(), provider, merchant: "shop".into(), require_order: true, fee: None };
    let received = Received::new(map, Bytes::copy_from_slice(body), NOW_S * 1000);
    Prepared::new(Arc::new(channel)).verify(received, NOW_S * 1000).map(drop)
}

fuzz_target!(|input: (u8, &[u8], &[u8])| {
    let (which, header, body) = input;
    let secrets = vec![Secret(Arc::from(KEY))];
    let now = NOW_S.to_string();
    let result = match which % 5 {
        0 => {
            let signature = format!("t={now},v1={}", hex(&tag(&[now.as_bytes(), b".", body])));
            verify(Provider::Stripe { secrets, account: None }, &[("stripe-signature", signature.as_bytes())], body)
        }
        1 => {
            let signature = format!("v1,{}", STANDARD.encode(tag(&[b"m.", now.as_bytes(), b".", body])));
            let headers = [
                ("webhook-id", &b"m"[..]),
                ("webhook-timestamp", now.as_bytes()),
                ("webhook-signature", signature.as_bytes()),
            ];
            verify(Provider::StandardWebhooks { secrets, public_keys: vec![] }, &headers, body)
        }
        2 => {
            let signature = hex(&tag(&[body]));
            let (header_name, media) = (HeaderName::from_static("x-signature"), header);
            let provider = Hmac {
                secrets,
                header: header_name,
                encoding: Encoding::Hex,
                format: None,
                prefix: String::new(),
                fields: Fields {
                    id: "id".into(),
                    order: "out_trade_no".into(),
                    amount: "amount_minor".into(),
                    major: false,
                    currency: "currency".into(),
                    kind: "kind".into(),
                },
            };
            verify(Provider::Hmac(provider), &[("content-type", media), ("x-signature", signature.as_bytes())], body)
        }
        // Signatures that are not right: their headers are read before.
        3 => {
            let _ = verify(Provider::Stripe { secrets, account: None }, &[("stripe-signature", header)], body);
            return;
        }
        _ => {
            let headers =
                [("webhook-id", &b"m"[..]), ("webhook-timestamp", now.as_bytes()), ("webhook-signature", header)];
            let _ = verify(Provider::StandardWebhooks { secrets, public_keys: vec![] }, &headers, body);
            return;
        }
    };
    assert!(!matches!(result, Err(VerifyError::Forged(_) | VerifyError::Expired { .. })), "{result:?}");
});
