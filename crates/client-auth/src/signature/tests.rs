//! Signatures against the vectors of RFC 9421, and against those who forge them.

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use http::HeaderMap;

use super::input::{COMPONENTS_MAX, LABELS_MAX, twice};
use super::*;

const NOW: u64 = 1_800_000_000;
const SECRET: &[u8] = b"a secret of enough bytes";
const WINDOW: Window = Window { now_s: NOW, skew_s: 300 };
const ME: Found = Found { app: 3, key: 1 };
const DIGEST: &str = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
const COVERED: &str = "(\"@method\" \"@target-uri\" \"content-digest\")";

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, value.parse().unwrap());
    }
    headers
}

fn known(keyid: &str) -> Signer<'static> {
    match keyid {
        "k1" | "acme/k1" => Signer::One(ME, SECRET),
        "both" => Signer::Several,
        _ => Signer::Nobody,
    }
}

fn request(headers: &HeaderMap) -> Request<'_> {
    Request { method: "POST", scheme: "https", authority: "api.example.com", target: "/orders?a=1", headers }
}

/// The signature of a base, written by hand in each test, so that no code of ours says what the base is.
fn tag(base: &str) -> String {
    BASE64.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), base.as_bytes()))
}

fn base_of(parameters: &str) -> String {
    format!(
        "\"@method\": POST\n\"@target-uri\": https://api.example.com/orders?a=1\n\"content-digest\": {DIGEST}\n\
         \"@signature-params\": {parameters}"
    )
}

fn parameters() -> String {
    format!("{COVERED};created={NOW};keyid=\"k1\";nonce=\"n-1\"")
}

/// A request with these parameters, signed well.
fn signed(parameters: &str) -> HeaderMap {
    let tag = tag(&base_of(parameters));
    headers(&[
        ("content-digest", DIGEST),
        ("signature-input", &format!("sig1={parameters}")),
        ("signature", &format!("sig1=:{tag}:")),
    ])
}

fn judge(headers: &HeaderMap) -> Result<Signed, SignatureError> {
    verify(&request(headers), true, WINDOW, known)
}

#[test]
fn the_hmac_of_the_rfc_holds_over_its_base() {
    // RFC 9421, appendix B.2.5. It does not cover what we ask for, so it is judged by its parts.
    let input = "sig-b25=(\"date\" \"@authority\" \"content-type\");created=1618884473;keyid=\"test-shared-secret\"";
    let headers = headers(&[
        ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
        ("content-type", "application/json"),
        (
            "content-digest",
            "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:",
        ),
        ("signature-input", input),
        ("signature", "sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:"),
    ]);
    let request = Request {
        method: "POST",
        scheme: "https",
        authority: "example.com",
        target: "/foo?param=Value&Pet=dog",
        headers: &headers,
    };
    let inputs = Input::all(input).unwrap();
    let base = base(&request, "example.com", &inputs[0]).unwrap();
    let expected = "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@authority\": example.com\n\
                    \"content-type\": application/json\n\"@signature-params\": (\"date\" \"@authority\" \
                    \"content-type\");created=1618884473;keyid=\"test-shared-secret\"";
    assert_eq!(base, expected);
    let secret = "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==";
    let key = hmac::Key::new(hmac::HMAC_SHA256, &BASE64.decode(secret).unwrap());
    let tag = tag_of("sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:", "sig-b25").unwrap().unwrap();
    assert!(hmac::verify(&key, base.as_bytes(), &tag).is_ok());
    let then = Window { now_s: 1_618_884_480, skew_s: 300 };
    assert_eq!(verify(&request, true, then, known), Err(SignatureError::NoNonce));
}

#[test]
fn derived_components_are_those_of_the_rfc() {
    // RFC 9421, sections 2.2.1 to 2.2.8.
    let headers = headers(&[
        ("host", "WWW.Example.com"),
        ("x-empty", ""),
        ("x-two", "  a \t"),
        ("x-two", "b,c"),
        ("x-odd", "caf\u{e9}"),
    ]);
    let request = Request {
        method: "GET",
        scheme: "https",
        authority: "WWW.Example.com:443",
        target: "/path?param=value&foo=bar&baz=batman&qux=&b%61n%20d=a%2bb+c&foo=2&var=this%20is%20a%20big%0Amultiline",
        headers: &headers,
    };
    let one = |component: &str| {
        let text = format!("s=({component})");
        let inputs = Input::all(&text).unwrap();
        let base = base(&request, &request.normal_authority(), &inputs[0])?;
        let first = base.lines().next().unwrap();
        assert!(first.starts_with(component), "{first}");
        Some(first[component.len() + 2..].to_owned())
    };
    let query = &request.target[5..];
    for (component, expected) in [
        ("\"@method\"", Some("GET")),
        ("\"@target-uri\"", Some(&*format!("https://www.example.com{}", request.target))),
        ("\"@authority\"", Some("www.example.com")),
        ("\"@scheme\"", Some("https")),
        ("\"@request-target\"", Some(request.target)),
        ("\"@path\"", Some("/path")),
        ("\"@query\"", Some(query)),
        ("\"@query-param\";name=\"param\"", Some("value")),
        ("\"@query-param\";name=\"qux\"", Some("")),
        ("\"@query-param\";name=\"ban%20d\"", Some("a%2Bb%20c")),
        ("\"@query-param\";name=\"var\"", Some("this%20is%20a%20big%0Amultiline")),
        ("\"@query-param\";name=\"foo\"", None),
        ("\"@query-param\";name=\"absent\"", None),
        ("\"@query-param\"", None),
        ("\"@query-param\";name=param", None),
        ("\"@status\"", None),
        ("\"@signature-params\"", None),
        ("\"@unknown\"", None),
        ("\"x-two\"", Some("a, b,c")),
        ("\"x-empty\"", Some("")),
        ("\"x-odd\"", None),
        ("\"x-absent\"", None),
        ("\"X-Two\"", None),
        ("\"x-two\";sf", None),
        ("\"x-two\";bs", None),
        ("\"x-two\";key=\"a\"", None),
        ("\"@method\";req", None),
        ("\"x-two\";tr", None),
    ] {
        assert_eq!(one(component).as_deref(), expected, "{component}");
    }
}

#[test]
fn targets_are_signed_as_they_were_sent() {
    let headers = HeaderMap::new();
    for (authority, scheme, target, expected) in [
        ("a.b", "http", "/", Some("http://a.b/")),
        ("a.b:8080", "http", "/x//y/../z?", Some("http://a.b:8080/x//y/../z?")),
        ("a.b:80", "http", "/%7e", Some("http://a.b/%7e")),
        ("a.b:80", "https", "/", Some("https://a.b:80/")),
        ("a.b", "http", "http://a.b", Some("http://a.b/")),
        ("a.b", "http", "http://a.b?q", Some("http://a.b/?q")),
        ("a.b", "https", "http://a.b/x?q=http://c", Some("https://a.b/x?q=http://c")),
        ("[::1]:80", "http", "/", Some("http://[::1]/")),
        ("a.b", "http", "*", None),
        ("a.b", "http", "/caf\u{e9}", None),
        ("a.b", "http", "/a\nb", None),
    ] {
        let request = Request { method: "GET", scheme, authority, target, headers: &headers };
        let inputs = Input::all("s=(\"@target-uri\")").unwrap();
        let base = base(&request, &request.normal_authority(), &inputs[0]);
        let first = base.as_ref().map(|base| base.lines().next().unwrap_or_default());
        assert_eq!(first, expected.map(|uri| format!("\"@target-uri\": {uri}")).as_deref(), "{target}");
    }
}

#[test]
fn a_request_signed_well_is_of_its_key() {
    let expected = Signed { by: ME, nonce: b"n-1"[..].into(), created: NOW, covers_body: true };
    assert_eq!(judge(&signed(&parameters())), Ok(expected));
    for more in [";alg=\"hmac-sha256\"", ";tag=\"orders\"", ";x", ";x=1.5;y=:AA==:;z=?0", &format!(";expires={NOW}")] {
        assert!(judge(&signed(&format!("{}{more}", parameters()))).is_ok(), "{more}");
    }
    let app = parameters().replace("k1", "acme/k1");
    assert!(judge(&signed(&app)).is_ok());
    // The client's spelling of the list is not signed, its meaning is.
    let mut spaced = signed(&parameters());
    let odd = format!(
        "  sig1=( \"@method\"   \"@target-uri\" \"content-digest\" );created={NOW}; keyid=\"k1\"; nonce=\"n-1\""
    );
    spaced.insert("signature-input", odd.parse().unwrap());
    assert!(judge(&spaced).is_ok());
}

#[test]
fn an_authority_may_be_signed_as_the_host_has_it() {
    let parameters = format!("(\"@method\" \"@target-uri\");created={NOW};keyid=\"k1\";nonce=\"n\"");
    for (spelt, holds) in [("Api.Example.com:443", true), ("api.example.com", true), ("api.example.com:443", false)] {
        let base = format!("\"@method\": GET\n\"@target-uri\": https://{spelt}/\n\"@signature-params\": {parameters}");
        let headers =
            headers(&[("signature-input", &format!("s={parameters}")), ("signature", &format!("s=:{}:", tag(&base)))]);
        let request = Request {
            method: "GET",
            scheme: "https",
            authority: "Api.Example.com:443",
            target: "/",
            headers: &headers,
        };
        assert_eq!(verify(&request, false, WINDOW, known).is_ok(), holds, "{spelt}");
    }
}

#[test]
fn without_a_body_no_digest_is_needed_and_with_one_it_is() {
    let parameters = format!("(\"@method\" \"@target-uri\");created={NOW};keyid=\"k1\";nonce=\"n\"");
    let base = format!(
        "\"@method\": POST\n\"@target-uri\": https://api.example.com/orders?a=1\n\"@signature-params\": {parameters}"
    );
    let headers =
        headers(&[("signature-input", &format!("s={parameters}")), ("signature", &format!("s=:{}:", tag(&base)))]);
    let bare = verify(&request(&headers), false, WINDOW, known).unwrap();
    assert!(!bare.covers_body);
    assert_eq!(verify(&request(&headers), true, WINDOW, known), Err(SignatureError::Uncovered));
    // Whoever covers it is held to it.
    let covered = verify(&request(&signed(&self::parameters())), false, WINDOW, known).unwrap();
    assert!(covered.covers_body);
}

#[test]
fn no_byte_of_what_is_signed_can_be_changed() {
    let good = signed(&parameters());
    assert!(judge(&good).is_ok());
    let changed = |text: &str, at: usize, flip: u8| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] ^= flip;
        String::from_utf8(bytes).ok().filter(|text| text.bytes().all(|byte| (32..127).contains(&byte)))
    };
    let mut tried = 0;
    for name in ["signature-input", "signature", "content-digest"] {
        let value = good[name].to_str().unwrap();
        // A label names, it is not signed.
        for at in if name == "content-digest" { 0 } else { 5 }..value.len() {
            for flip in [1, 2, 4, 8, 16, 32] {
                let Some(value) = changed(value, at, flip) else { continue };
                let mut headers = good.clone();
                headers.insert(name, value.parse().unwrap());
                tried += 1;
                assert!(judge(&headers).is_err(), "{name}: {value}");
            }
        }
    }
    for (method, scheme, authority, target) in [
        ("post", "https", "api.example.com", "/orders?a=1"),
        ("PUT", "https", "api.example.com", "/orders?a=1"),
        ("POST", "http", "api.example.com", "/orders?a=1"),
        ("POST", "https", "api.example.com:444", "/orders?a=1"),
        ("POST", "https", "api.example.con", "/orders?a=1"),
        ("POST", "https", "api.example.com", "/orders?a=2"),
        ("POST", "https", "api.example.com", "/orders?a=1&"),
        ("POST", "https", "api.example.com", "/orders/?a=1"),
        ("POST", "https", "api.example.com", "/Orders?a=1"),
        ("POST", "https", "api.example.com", "/%6frders?a=1"),
    ] {
        let request = Request { method, scheme, authority, target, headers: &good };
        assert_eq!(
            verify(&request, true, WINDOW, known),
            Err(SignatureError::Wrong),
            "{method} {scheme} {authority}{target}"
        );
    }
    assert!(tried > 500, "{tried}");
}

#[test]
fn what_must_be_there_is_asked_for() {
    let all = parameters();
    let without = |part: &str| all.replace(part, "");
    let (created, nonce) = (format!(";created={NOW}"), ";nonce=\"n-1\"");
    let (long, late, early) = ("x".repeat(257), NOW + 301, NOW - 301);
    for (parameters, expected) in [
        (without(&created), SignatureError::NoCreated),
        (without(nonce), SignatureError::NoNonce),
        (without(";keyid=\"k1\""), SignatureError::NoKeyid),
        (without("\"@method\" "), SignatureError::Uncovered),
        (without("\"@target-uri\" "), SignatureError::Uncovered),
        (without(" \"content-digest\""), SignatureError::Uncovered),
        (all.replace("\"content-digest\"", "\"content-digest\";sf"), SignatureError::Uncovered),
        (all.replace("\"@target-uri\"", "\"@path\""), SignatureError::Uncovered),
        (all.replace(&created, ";created=\"now\""), SignatureError::NoCreated),
        (all.replace(&created, ";created=-5"), SignatureError::NoCreated),
        (all.replace(&created, ";created=1.5"), SignatureError::NoCreated),
        (all.replace(&created, &format!(";created={late}")), SignatureError::Skewed),
        (all.replace(&created, &format!(";created={early}")), SignatureError::Skewed),
        (all.replace("n-1", ""), SignatureError::NoNonce),
        (all.replace("n-1", &long), SignatureError::NoNonce),
        (all.replace("\"n-1\"", "7"), SignatureError::NoNonce),
        (all.replace("\"k1\"", "k1"), SignatureError::NoKeyid),
        (all.replace("k1", &long), SignatureError::NoKeyid),
        (all.replace("k1", "k2"), SignatureError::Wrong),
        (all.replace("k1", ""), SignatureError::Wrong),
        (all.replace("k1", "both"), SignatureError::Ambiguous),
        (format!("{all};alg=\"rsa-pss-sha512\""), SignatureError::Algorithm),
        (format!("{all};alg=\"none\""), SignatureError::Algorithm),
        (format!("{all};alg=hmac-sha256"), SignatureError::Algorithm),
        (format!("{all};expires={}", NOW - 1), SignatureError::Expired),
        (format!("{all};expires=\"never\""), SignatureError::Expired),
        (all.replace("content-digest\"", "content-digest\" \"x-absent\""), SignatureError::Component),
        (all.replace("content-digest\"", "content-digest\" \"@status\""), SignatureError::Component),
    ] {
        assert_eq!(judge(&signed(&parameters)), Err(expected), "{parameters}");
    }
    for edge in [NOW + 300, NOW - 300] {
        assert!(judge(&signed(&all.replace(&created, &format!(";created={edge}")))).is_ok());
    }
}

#[test]
fn what_stands_twice_or_is_no_dictionary_is_refused() {
    let (good, all) = (signed(&parameters()), parameters());
    let tag = good["signature"].to_str().unwrap().to_owned();
    let many = (0..=LABELS_MAX).map(|n| format!("s{n}={all}")).collect::<Vec<_>>().join(", ");
    let wide = format!("sig1=({}){}", "\"a\" ".repeat(COMPONENTS_MAX + 1), &all[COVERED.len()..]);
    let tags = (0..=LABELS_MAX).map(|n| format!("s{n}=:AA==:")).collect::<Vec<_>>().join(", ");
    let with = |components: &str| format!("sig1={}", all.replace("\"@method\"", &format!("\"@method\" {components}")));
    for (input, signature, expected) in [
        (format!("sig1={all}, sig1={all}"), &*tag, SignatureError::Twice),
        (format!("sig1={all}"), &*format!("{tag}, {tag}"), SignatureError::Twice),
        (format!("sig1={all}"), &*format!("x=:AA==:, x=:AA==:, {tag}"), SignatureError::Twice),
        (format!("sig1={all};nonce=\"n-2\""), &tag, SignatureError::Twice),
        (with("\"@method\""), &tag, SignatureError::Twice),
        (with("\"@query-param\";name=\"a\" \"@query-param\";name=\"a\""), &tag, SignatureError::Twice),
        (with("\"@query-param\";name=\"a\";name=\"a\""), &tag, SignatureError::Component),
        (with("\"x\";a=1;a=2"), &tag, SignatureError::Component),
        (with("\"x\";sf \"x\";sf"), &tag, SignatureError::Component),
        (format!("sig2={all}"), &tag, SignatureError::Missing),
        (String::new(), &tag, SignatureError::Missing),
        (format!("sig1={all}"), "", SignatureError::Missing),
        ("sig1".into(), &tag, SignatureError::Malformed),
        ("sig1=\"x\"".into(), &tag, SignatureError::Malformed),
        ("sig1=(a b)".into(), &tag, SignatureError::Malformed),
        (format!("Sig1={all}"), &tag, SignatureError::Malformed),
        (format!("sig1={all},"), &tag, SignatureError::Malformed),
        (format!("sig1={}", &all[..40]), &tag, SignatureError::Malformed),
        (format!("sig1={all}"), "sig1=abc", SignatureError::Malformed),
        (format!("sig1={all}"), "sig1=:a:b:", SignatureError::Malformed),
        (format!("sig1={all}"), "sig1=(:AAAA:)", SignatureError::Malformed),
        (format!("sig1={all}"), "sig1=::", SignatureError::Wrong),
        (format!("sig1={all}"), "sig1=:AAAA:", SignatureError::Wrong),
        (many, &tag, SignatureError::TooMany),
        (wide, &tag, SignatureError::TooMany),
        (format!("sig1={all}{}", (0..14).map(|n| format!(";x{n}")).collect::<String>()), &tag, SignatureError::TooMany),
        (format!("sig1={all}"), &tags, SignatureError::TooMany),
        (format!("sig1={all};x=\"{}\"", "y".repeat(FIELD_MAX)), &tag, SignatureError::TooLong),
    ] {
        let mut headers = good.clone();
        headers.insert("signature-input", input.parse().unwrap());
        headers.insert("signature", signature.parse().unwrap());
        assert_eq!(judge(&headers), Err(expected), "{input:.200} / {signature}");
    }
    for missing in ["signature-input", "signature"] {
        let mut headers = good.clone();
        headers.remove(missing);
        assert_eq!(judge(&headers), Err(SignatureError::Missing));
        headers.insert(missing, http::HeaderValue::from_bytes(b"sig1=\xe9").unwrap());
        assert_eq!(judge(&headers), Err(SignatureError::Missing), "it is not ASCII");
    }
}

#[test]
fn of_several_signatures_the_first_of_a_key_of_ours_counts() {
    let (all, other) = (parameters(), parameters().replace("k1", "proxy"));
    let (mine, wrong) = (tag(&base_of(&all)), BASE64.encode([7; 32]));
    let stale = all.replace("n-1", "n-0");
    for (input, signature, expected) in [
        (format!("a={other}, b={all}"), format!("a=:{wrong}:, b=:{mine}:"), Ok(())),
        (format!("a=();created=1, b={all}"), format!("b=:{mine}:"), Ok(())),
        (format!("b={all}, a={other}"), format!("b=:{mine}:"), Ok(())),
        (format!("a={other}, b={all}"), format!("a=:{mine}:"), Err(SignatureError::Missing)),
        (format!("a={stale}, b={all}"), format!("a=:{wrong}:, b=:{mine}:"), Err(SignatureError::Wrong)),
        (format!("a={other}"), format!("a=:{mine}:"), Err(SignatureError::Wrong)),
    ] {
        let lines = [("content-digest", DIGEST), ("signature-input", &*input), ("signature", &*signature)];
        let result = judge(&headers(&lines)).map(|_| ());
        assert_eq!(result, expected, "{input}");
    }
    // Over several lines, as one list.
    let (a, b) = (format!("a={other}"), format!("b={all}"));
    let lines = [
        ("content-digest", DIGEST),
        ("signature-input", &*a),
        ("signature-input", &*b),
        ("signature", &*format!("b=:{mine}:")),
    ];
    assert!(judge(&headers(&lines)).is_ok());
}

/// What a stranger sends: the same components under several labels.
fn strangers(labels: usize, components: &str, parameters: &str) -> HeaderMap {
    let inputs = (0..labels).map(|n| format!("l{n}=({components}){parameters}")).collect::<Vec<_>>().join(", ");
    headers(&[("signature-input", &inputs), ("signature", "l0=:AA==:")])
}

#[test]
fn what_strangers_make_us_do_is_bounded() {
    // 15 KB that took 60 ms: 6 signatures of 64 components, each with 16 parameters.
    let letters = ('a'..='o').map(String::from).collect::<Vec<_>>().join(";");
    let components: Vec<String> = (0..64).map(|n| format!("\"a\";{letters};p={n}")).collect();
    let large = strangers(6, &components.join(" "), "");
    assert!(large["signature-input"].len() > 14_000 && large["signature-input"].len() < FIELD_MAX);
    let asked = |headers: &HeaderMap| {
        let asked = std::cell::Cell::new(0);
        let signer = |keyid: &str| {
            asked.set(asked.get() + 1);
            known(keyid)
        };
        (verify(&request(headers), true, WINDOW, signer), asked.get())
    };
    assert_eq!(asked(&large), (Err(SignatureError::TooMany), 0));
    // The most that is read: a keyid a signature, and of one signature a comparison a pair.
    let all = parameters().replace("k1", "nobody");
    let parameters = &all[COVERED.len()..];
    let most = strangers(LABELS_MAX, &components[..COMPONENTS_MAX].join(" "), parameters);
    assert_eq!(asked(&most), (Err(SignatureError::Uncovered), LABELS_MAX));
    let names: Vec<String> = (0..COMPONENTS_MAX).map(|n| format!("\"x-{n}\"")).collect();
    let most = strangers(LABELS_MAX, &names.join(" "), parameters);
    let inputs = Input::all(most["signature-input"].to_str().unwrap()).unwrap();
    let mut compared = 0;
    twice(&inputs[0].components, |one, other| {
        compared += 1;
        one == other
    });
    assert_eq!(compared, COMPONENTS_MAX * (COMPONENTS_MAX - 1) / 2);
    assert_eq!(inputs.iter().map(|input| input.components.len()).sum::<usize>(), LABELS_MAX * COMPONENTS_MAX);
}

#[test]
fn what_others_sign_is_theirs() {
    let (all, mine) = (parameters(), tag(&base_of(&parameters())));
    let others = parameters()[COVERED.len()..].replace("k1", "proxy");
    // Parameters that are not known here, a component twice, a parameter twice: their readers may judge them.
    for covered in ["\"signature\";key=\"b\"", "\"content-digest\";req", "\"@method\" \"@method\"", "\"x\";a;a"] {
        let input = format!("a=({covered}){others};nonce=\"n-2\", b={all}");
        let tags = format!("a=:AA==:, b=:{mine}:");
        let lines = [("content-digest", DIGEST), ("signature-input", &*input), ("signature", &*tags)];
        assert!(judge(&headers(&lines)).is_ok(), "{input}");
    }
}

#[test]
fn a_query_is_read_once_for_all_its_covered_parameters() {
    let covered = |query: &str, names: &[&str]| {
        let headers = HeaderMap::new();
        let target = format!("/?{query}");
        let request = Request { target: &target, ..request(&headers) };
        let components: Vec<String> = names.iter().map(|name| format!("\"@query-param\";name=\"{name}\"")).collect();
        let text = format!("s=({})", components.join(" "));
        let base = base(&request, &request.normal_authority(), &Input::all(&text).unwrap()[0])?;
        Some(base.lines().take(names.len()).map(|line| line.rsplit_once(": ").unwrap().1.to_owned()).collect())
    };
    let values = |values: &[&str]| Some(values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>());
    assert_eq!(covered("a=1&b=2&c=3", &["c", "a", "b"]), values(&["3", "1", "2"]));
    assert_eq!(covered("b=2&&a=1&a=3", &["b"]), values(&["2"]));
    assert_eq!(covered("b=2&a=1&a=3", &["b", "a"]), None);
    assert_eq!(covered("b=2&a=1", &["b", "c"]), None);
    let long = |count: usize| (0..count).map(|n| format!("p{n}={n}")).collect::<Vec<_>>().join("&");
    assert_eq!(covered(&long(256), &["p255"]), values(&["255"]));
    assert_eq!(covered(&long(257), &["p0"]), None);
}
