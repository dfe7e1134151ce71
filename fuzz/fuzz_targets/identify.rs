//! What is believed of a client's and a proxy's headers.
#![no_main]

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use libfuzzer_sys::fuzz_target;
use config::source::Source;
use tollgate::proxy::identify;
use tollgate::runtime::snapshot::Snapshot;
use base::said;
use tollgate::telemetry::Registry;
use base::units::Nanos;

const CONFIG: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
    [trusted]\nproxies = [\"10.0.0.0/8\", \"fd00::/8\"]\n[route.all]\nrespond = { status = 200 }\n";

static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| {
    let source = Source::from_parts(PathBuf::from("/nonexistent"), vec![("fuzz.toml".into(), CONFIG.into())]);
    let loaded = config::load_source(source).expect("a valid configuration");
    let registry = Arc::new(Registry::default());
    Snapshot::new(Arc::new(loaded.config), Default::default(), None, vec![], &registry, Nanos(0))
});

fuzz_target!(|input: (Vec<(u8, &[u8])>, &str)| {
    let names = ["x-forwarded-for", "x-forwarded-proto", "x-request-id", "host"];
    let mut headers = HeaderMap::new();
    for (name, value) in input.0 {
        let name = HeaderName::from_static(names[usize::from(name) % names.len()]);
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    let client = identify::client(&SNAPSHOT, &headers, [10, 0, 0, 1].into());
    assert!(client.is_ipv4() || client.to_canonical() == client);
    let _ = identify::forwarded_scheme(&headers);
    let id = identify::request_id(&headers);
    assert!(!id.is_empty() && id.len() <= 128 && id.as_bytes().iter().all(u8::is_ascii_graphic));
    let _ = said::host(said::authority(&Uri::from_static("/"), &headers));
    let _ = said::host(input.1);
});
