//! Payment callbacks whose signature is right: what a stranger's own account could make a provider send.
//!
//! Those that RSA signs (Alipay, WeChat Pay) are beyond a fuzzer's pace; their readers are in `form`.
#![no_main]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use providers::configured::{Configured, Names};
use providers::receive::Received;
use providers::verify::VerifyError;
use providers::{hmac as generic, standardwebhooks, stripe};
use ring::hmac;

const NOW_S: u64 = 1_700_000_000;
const KEY: &[u8] = b"0123456789abcdef01234567";

fn tag(parts: &[&[u8]]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY), &parts.concat()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn verify(provider: &Configured, headers: &[(&'static str, &[u8])], body: &[u8]) -> Result<(), VerifyError> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let Ok(value) = HeaderValue::from_bytes(value) else { return Ok(()) };
        map.append(HeaderName::from_static(name), value);
    }
    let received = Received::new(map, Bytes::copy_from_slice(body), NOW_S * 1000);
    provider.prepare(&Names { channel: "shop-1", merchant: "shop" }).verify(received, NOW_S * 1000).map(drop)
}

fuzz_target!(|input: (u8, &[u8], &[u8])| {
    let (which, header, body) = input;
    let stripe = Configured::new(&stripe::PROVIDER, [(&stripe::SECRETS, [KEY].into())]);
    let webhooks = Configured::new(&standardwebhooks::PROVIDER, [(&standardwebhooks::SECRETS, [KEY].into())]);
    let now = NOW_S.to_string();
    let result = match which % 5 {
        0 => {
            let signature = format!("t={now},v1={}", hex(&tag(&[now.as_bytes(), b".", body])));
            verify(&stripe, &[("stripe-signature", signature.as_bytes())], body)
        }
        1 => {
            let signature = format!("v1,{}", STANDARD.encode(tag(&[b"m.", now.as_bytes(), b".", body])));
            let headers = [
                ("webhook-id", &b"m"[..]),
                ("webhook-timestamp", now.as_bytes()),
                ("webhook-signature", signature.as_bytes()),
            ];
            verify(&webhooks, &headers, body)
        }
        2 => {
            let signature = hex(&tag(&[body]));
            let keys = [(&generic::SECRETS, [KEY].into()), (&generic::HEADER, "x-signature".into())];
            let generic = Configured::new(&generic::PROVIDER, keys);
            verify(&generic, &[("content-type", header), ("x-signature", signature.as_bytes())], body)
        }
        // Signatures that are not right: their headers are read before.
        3 => {
            let _ = verify(&stripe, &[("stripe-signature", header)], body);
            return;
        }
        _ => {
            let headers =
                [("webhook-id", &b"m"[..]), ("webhook-timestamp", now.as_bytes()), ("webhook-signature", header)];
            let _ = verify(&webhooks, &headers, body);
            return;
        }
    };
    assert!(!matches!(result, Err(VerifyError::Forged(_) | VerifyError::Expired { .. })), "{result:?}");
});
