//! Cookies and headers that cohorts look at.
#![no_main]

use http::{HeaderMap, HeaderValue, header};
use libfuzzer_sys::fuzz_target;
use gray::cohort::{UserSet, user_hash};
use base::said::first_cookie;

fuzz_target!(|input: (Vec<&[u8]>, &str, Vec<&[u8]>)| {
    let (lines, name, users) = input;
    let mut headers = HeaderMap::new();
    for line in lines {
        if let Ok(line) = HeaderValue::from_bytes(line) {
            headers.append(header::COOKIE, line);
        }
    }
    if let Some(value) = first_cookie(&headers, name) {
        assert!(!value.contains(&b';'));
    }
    let set = UserSet::new(users.iter().copied());
    assert!(users.iter().all(|user| set.holds(user_hash(user))));
});
