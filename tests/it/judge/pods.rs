//! Servers that stand still now and then, or are cold: chance puts users on a version, and not servers.

use std::time::Duration;

use super::*;

/// Equal servers, of which one is the canary's, that each stand still about once a minute.
#[derive(Clone, Copy)]
struct Pods {
    servers: u64,
    pause_ms: u64,
    /// Whether what comes meanwhile fails, and stable answers, instead of waiting.
    fails: bool,
    /// How long the canary's is cold: a third of its answers take 80 ms longer.
    cold_s: u64,
    settle: Duration,
}

/// Requests a second before the pods.
const POD_REQUESTS: u64 = 200;

impl Pods {
    /// A release of so many seconds at the share that one of the servers has.
    fn release(self, latencies: &[f32], seed: u64, seconds: u64) -> (Vec<Finding>, u64) {
        let settings = Settings { false_alarm: FALSE_ALARM, slo_micros: Some(500_000), routes: 1 };
        let mut random = fastrand::Rng::with_seed(mixed(9, seed));
        let mut judge = Judge::new(settings, Nanos(0));
        judge.share_changed(1.0 / self.servers as f64, 1, Nanos(0));
        // None begins with the release: whoever is never good is dead.
        let mut pauses: Vec<u64> = (0..self.servers).map(|_| random.u64(5_000..60_000)).collect();
        let mut found = vec![];
        for n in 0..seconds * POD_REQUESTS {
            let at_ms = n * 1_000 / POD_REQUESTS;
            let user = mixed(mixed(10, seed), random.u64(..1_000_000));
            let on_canary = (mixed(8, user) as f64) < u64::MAX as f64 / self.servers as f64;
            let server = if on_canary { 0 } else { random.u64(1..self.servers) };
            let pause = &mut pauses[server as usize];
            if at_ms >= *pause + self.pause_ms {
                *pause = at_ms + random.u64(30_000..90_000);
            }
            let waits = (*pause + self.pause_ms).saturating_sub(at_ms).min(self.pause_ms) * u64::from(at_ms >= *pause);
            let fails = self.fails && waits > 0;
            let cold = on_canary && at_ms < self.cold_s * 1_000 && random.u64(..3) == 0;
            let micros =
                latencies[random.usize(..POINTS)] as u32 + waits as u32 * 1_000 + if cold { 80_000 } else { 0 };
            judge.observe(&Seen {
                user,
                micros: if fails { 1_000 } else { micros },
                server: 1 + server as u32,
                status: if fails { 0 } else { 200 },
                route: 0,
                cohorts: 0,
                app: 0,
                step: 1,
                arm: if on_canary { Arm::Canary } else { Arm::Stable },
                ending: if fails { Ending::Reset } else { Ending::Good },
                saved: fails,
                warm: !on_canary || at_ms >= self.settle.as_millis() as u64,
                judged: true,
            });
            if (n + 1) % (POD_REQUESTS / TICKS) == 0 {
                found.extend(judge.tick(Nanos((n + 1) * 1_000_000_000 / POD_REQUESTS), [0; 2]));
            }
        }
        (found, seconds * POD_REQUESTS)
    }
}

const PODS: Pods = Pods { servers: 20, pause_ms: 0, fails: false, cold_s: 0, settle: Duration::from_secs(30) };

fn pods(world: Pods, count: usize, seconds: u64) -> Told {
    let latencies = latencies();
    told(runs(count, |seed| world.release(&latencies, seed, seconds)))
}

#[test]
fn a_server_that_stands_still_now_and_then_convicts_nobody() {
    for world in
        [Pods { pause_ms: 600, ..PODS }, Pods { pause_ms: 1_000, fails: true, ..PODS }, Pods { cold_s: 25, ..PODS }]
    {
        let told = pods(world, 6, 900);
        assert!(told.worse + told.guard + told.ratio == 0, "{told:?}");
    }
}

#[test]
#[ignore = "long: scripts/test --long"]
fn false_alarms_where_servers_stand_still_or_are_cold() {
    println!("| harmless; 20 servers, 200 requests/s, 5 %, ten minutes | releases | worse | guard | ratio |");
    println!("|---|---|---|---|---|");
    let row = |name: String, world: Pods| {
        const COUNT: usize = 2_000;
        let Told { worse, guard, ratio, .. } = pods(world, COUNT, 600);
        println!("| {name} | {COUNT} | {worse} | {guard} | {ratio} |");
        assert!(worse <= COUNT / 1_000 && guard + ratio <= COUNT / 100, "{name}: {worse} {guard} {ratio}");
    };
    for pause_ms in [0, 150, 300, 600] {
        row(format!("each stands still for {pause_ms} ms a minute"), Pods { pause_ms, ..PODS });
    }
    row("each drops its requests for 1 s a minute".into(), Pods { pause_ms: 1_000, fails: true, ..PODS });
    for cold_s in [3, 8, 30] {
        row(format!("the canary's is cold for {cold_s} s"), Pods { cold_s, ..PODS });
    }
    let settle = Duration::from_secs(60);
    row("the canary's is cold for 60 s, `settle` of as much".into(), Pods { cold_s: 60, settle, ..PODS });
}
