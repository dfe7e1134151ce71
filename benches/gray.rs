//! What a running release costs: the bucket, a cohort, the whole decision, and the judge's look at a request.
//!
//! A decision may take 150 ns at most. Users are asked in no order. The headers that a decision looks
//! at have just been read from the network, so there are only as many requests as stay in the cache.

use std::hint::black_box;
use std::sync::Arc;

use base::units::Nanos;
use config::model::Config;
use config::source::Source;
use config::{load, load_source};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use gray::assignment::{Assignment, RequestView, border_at};
use gray::bucket::Hash;
use gray::cohort::{UserSet, user_hash};
use gray::judge::{Judge, Settings};
use gray::sample::{Arm, Ending, Sample};
use gray::settings::Cohort;
use gray::shared_state::{SharedState, Stage};
use http::{HeaderMap, HeaderValue};

const USERS: usize = 1 << 16;
/// Requests whose headers stay in the cache.
const REQUESTS: usize = 256;

fn names() -> Vec<String> {
    (0..USERS).map(|n| format!("user-{:08x}", n.wrapping_mul(0x9e37_79b9))).collect()
}

fn bucket(c: &mut Criterion) {
    let names = names();
    let mut group = c.benchmark_group("bucket");
    let hashes = [Hash::Xxh3, Hash::GrowthBook2, Hash::Unleash, Hash::LaunchDarkly, Hash::Flagd2, Hash::Nginx];
    for hash in hashes {
        let mut next = 0;
        group.bench_function(format!("{hash:?}"), |b| {
            b.iter(|| {
                next = (next + 1) % USERS;
                hash.position(b"orders-v2", black_box(names[next].as_bytes()))
            });
        });
    }
}

/// A set of a million users.
fn million() -> UserSet {
    let names: Vec<String> = (0..1_000_000).map(|n| format!("member-{n}")).collect();
    UserSet::new(names.iter().map(|name| name.as_bytes()))
}

fn cohort(c: &mut Criterion) {
    let set = million();
    let hashes: Vec<u64> = names().iter().map(|name| user_hash(name.as_bytes())).collect();
    let mut next = 0;
    c.bench_function("cohort/million", |b| {
        b.iter(|| {
            next = (next + 1) % USERS;
            set.holds(black_box(hashes[next]))
        });
    });
}

/// A configuration whose cohort has a file of a million users, which is another file each time.
fn users_file(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let text = |n: u32| (0..1_000_000).map(|user| format!("user-{n}-{user}@example.com\n")).collect::<String>();
    let config = "[[listener]]\naddress = \"127.0.0.1:8080\"\n[cohort.vip]\nusers_file = \"users\"\n";
    let file = folder.path().join("gateway.toml");
    std::fs::write(&file, config).expect("written");
    let mut group = c.benchmark_group("users_file");
    let mut next = 0;
    group.sample_size(10).bench_function("million", |b| {
        b.iter_batched(
            || {
                next += 1;
                std::fs::write(folder.path().join("users"), text(next)).expect("written");
            },
            |()| load(&file).expect("a configuration without findings"),
            BatchSize::PerIteration,
        );
    });
}

/// A release with a cohort of a million users, one by header and one by percent.
fn config() -> Config {
    let text = r#"
        [[listener]]
        address = "127.0.0.1:8080"
        [upstream.stable]
        servers = ["127.0.0.1:9001"]
        [upstream.canary]
        servers = ["127.0.0.1:9002"]
        [route.orders]
        upstream = "stable"
        [cohort.vip]
        any = [{ header = "x-vip", equals = "1" }]
        [cohort.beta]
        any = [{ header = "x-beta", equals = "1" }, { percent = 5, salt = "beta" }]
        [release.orders-v2]
        routes = ["orders"]
        canary = "canary"
        user = ["header:x-user-id", "ip"]
        include = ["beta"]
        exclude = ["vip"]
        steps = [{ percent = 10 }]
    "#;
    let source = Source::from_parts(".".into(), vec![("bench.toml".into(), text.into())]);
    let mut config = load_source(source).expect("a configuration without findings").config;
    let place = config.cohorts[0].place.clone();
    config.cohorts.push(Cohort { name: "staff".into(), users: Some(Arc::new(million())), any: vec![], place });
    config.releases[0].include.push(config.cohorts.len() - 1);
    config
}

fn decision(c: &mut Criterion) {
    let config = config();
    let live = Arc::new(SharedState::default());
    let border = border_at(&config.releases[0], 0);
    live.set_stage(Stage { border, open: true, unkeyed: false, step: 1 });
    let plan = Assignment::new(&config.releases[0], config.cohorts.len(), live);
    let requests: Vec<HeaderMap> = names()
        .into_iter()
        .take(REQUESTS)
        .map(|name| {
            let mut headers = HeaderMap::new();
            headers.insert("host", HeaderValue::from_static("api.example.com"));
            headers.insert("user-agent", HeaderValue::from_static("bench"));
            headers.insert("x-user-id", HeaderValue::from_str(&name).expect("a valid value"));
            headers
        })
        .collect();
    let mut next = 0;
    c.bench_function("decision", |b| {
        b.iter(|| {
            next = (next + 1) % REQUESTS;
            let asked = RequestView::of(&requests[next]);
            plan.decide(&config.cohorts, black_box(&asked))
        });
    });
}

/// A window of 10,000 requests of users out of a hundred thousand, a tenth of them on the canary.
fn judge(c: &mut Criterion) {
    let seen: Vec<Sample> = (0..10_000_u64)
        .map(|n| {
            let user = user_hash(&(n * 7919 % 100_000).to_le_bytes());
            Sample {
                user,
                micros: 1_000 + (user % 5_000) as u32,
                server: 1,
                status: 200,
                route: 0,
                cohorts: 0,
                app: 0,
                step: 1,
                arm: if user.is_multiple_of(10) { Arm::Canary } else { Arm::Stable },
                ending: Ending::Good,
                saved: false,
                warm: true,
                judged: true,
            }
        })
        .collect();
    let mut group = c.benchmark_group("judge");
    group.throughput(Throughput::Elements(seen.len() as u64));
    let settings = || Settings { false_alarm: 0.001, slo_micros: Some(300_000), routes: 1 };
    let warm = || {
        let mut judge = Judge::new(settings(), Nanos(0));
        judge.share_changed(0.1, 1, Nanos(0));
        seen.iter().for_each(|seen| _ = judge.observe(seen));
        judge.tick(Nanos(1_000_000_000), [0, 0]);
        judge
    };
    group.bench_function("window", |b| {
        b.iter_batched(
            warm,
            |mut judge| {
                seen.iter().for_each(|seen| _ = black_box(judge.observe(black_box(seen))));
                let found = judge.tick(Nanos(2_000_000_000), [0, 0]);
                (found, judge)
            },
            BatchSize::PerIteration,
        );
    });
}

criterion_group!(benches, bucket, cohort, users_file, decision, judge);
criterion_main!(benches);
