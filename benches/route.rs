//! What finding a route costs, among ten routes and among ten thousand.
//!
//! `cargo bench --bench route`. Half of the routes are hosts with a prefix each, half wildcard hosts; the requests ask
//! for all of them in turn, so that no look-up finds its tables warm from the one before it. Regexes are not measured:
//! they are tried one by one, and the more there are the longer it takes.

use std::hint::black_box;
use std::path::PathBuf;

use config::load_source;
use config::model::Scheme;
use config::router::{Request, Router};
use config::source::Source;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, Method};

const PREFIXES: usize = 10;

fn host(route: usize) -> String {
    let number = route / PREFIXES;
    if number.is_multiple_of(2) { format!("h{number:04}.bench.test") } else { format!("www.w{number:04}.bench.test") }
}

fn router(routes: usize) -> Router {
    let mut text = "[[listener]]\naddress = \"127.0.0.1:1\"\n".to_owned();
    for route in 0..routes {
        let host = host(route).replace("www.", "*.");
        text += &format!("[route.r{route}]\nhosts = [\"{host}\"]\npaths = [\"/api/p{}/*\"]\n", route % PREFIXES);
        text += "respond = { status = 204 }\n";
    }
    let source = Source::from_parts(PathBuf::from("bench.toml"), vec![("bench.toml".to_owned(), text)]);
    let config = load_source(source).expect("the configuration is right").config;
    assert_eq!(config.routes.len(), routes);
    Router::new(&config.routes)
}

fn find(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    for routes in [10, 1_000, 10_000] {
        let router = router(routes);
        let asked: Vec<_> = (0..routes).map(|i| (host(i), format!("/api/p{}/orders/17", i % PREFIXES))).collect();
        let headers = HeaderMap::new();
        // A stride without a common factor visits all of them, far apart.
        let mut next = 0;
        group.bench_function(BenchmarkId::new("find", routes), |bencher| {
            bencher.iter(|| {
                next = (next + 7_919) % routes;
                let (host, path) = &asked[next];
                let request = Request { host, path, method: &Method::GET, headers: &headers, scheme: Scheme::Http };
                let found = router.find(black_box(&request));
                assert_eq!(found, Some(next));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, find);
criterion_main!(benches);
