//! Users who come unequally often: regulars beside visitors, pollers beside people.

use super::*;

/// Regulars who ask every second and never fail, beside visitors who come once.
#[derive(Clone, Copy)]
struct Mixed {
    regulars: u64,
    /// Visitors in a second.
    visitors: f64,
    /// Part of them that fails, on either arm.
    fail: f64,
    share: f64,
    hours: u64,
}

/// The worlds in which the share that is seen in a second stood for the share that the step was designed with: half of
/// the harmless releases were taken back there.
const MIXED: [Mixed; 7] = [
    Mixed { regulars: 0, visitors: 20.0, fail: 0.02, share: 0.05, hours: 4 },
    Mixed { regulars: 10, visitors: 0.5, fail: 0.1, share: 0.05, hours: 4 },
    Mixed { regulars: 20, visitors: 0.5, fail: 0.05, share: 0.01, hours: 24 },
    Mixed { regulars: 5, visitors: 1.0, fail: 0.03, share: 0.25, hours: 4 },
    Mixed { regulars: 100, visitors: 5.0, fail: 0.02, share: 0.05, hours: 4 },
    Mixed { regulars: 500, visitors: 20.0, fail: 0.02, share: 0.05, hours: 4 },
    Mixed { regulars: 2_000, visitors: 100.0, fail: 0.01, share: 0.01, hours: 8 },
];

impl Mixed {
    /// A release in such a world, for a part of its hours; what was found, and how many requests it had.
    fn release(self, seed: u64, part: f64) -> (Vec<Finding>, u64) {
        let settings = Settings { false_alarm: FALSE_ALARM, slo_micros: None, routes: 1 };
        let mut random = fastrand::Rng::with_seed(mixed(6, seed));
        let mut judge = Judge::new(settings, Nanos(0));
        judge.share_changed(self.share, 1, Nanos(0));
        let (mut found, mut requests, mut visitors) = (vec![], 0, 0.0);
        let mut number = self.regulars;
        for second in 0..(self.hours as f64 * 3_600.0 * part) as u64 {
            let mut see = |number: u64, fails: bool| {
                let user = mixed(mixed(7, seed), number);
                let on_canary = (mixed(8, user) as f64) < self.share * u64::MAX as f64;
                judge.observe(&Sample {
                    user,
                    micros: 10_000,
                    server: 1 + u32::from(on_canary),
                    status: if fails { 500 } else { 200 },
                    route: 0,
                    cohorts: 0,
                    app: 0,
                    step: 1,
                    arm: if on_canary { Arm::Canary } else { Arm::Stable },
                    ending: if fails { Ending::Failed(AttemptFailure::Status) } else { Ending::Good },
                    saved: false,
                    warm: true,
                    judged: true,
                });
                requests += 1;
            };
            (0..self.regulars).for_each(|regular| see(regular, false));
            visitors += self.visitors;
            while visitors >= 1.0 {
                visitors -= 1.0;
                number += 1;
                see(number, random.f64() < self.fail);
            }
            for quarter in 1..=TICKS {
                found.extend(judge.tick(Nanos((second * TICKS + quarter) * 1_000_000_000 / TICKS), [0; 2]));
            }
        }
        (found, requests)
    }
}

/// A hundred clients that poll, beside people, of whom the canary fails a part. Steps of 5, 25, 50 and 100 %, ten minutes
/// each at least: whether it comes to everybody within a day.
fn reaches_everybody(visitors: f64, fail: f64, seed: u64) -> bool {
    let settings = Settings { false_alarm: FALSE_ALARM, slo_micros: None, routes: 1 };
    let (mut random, mut judge) = (fastrand::Rng::with_seed(mixed(11, seed)), Judge::new(settings, Nanos(0)));
    let steps = [0.05, 0.25, 0.5];
    let (mut step, mut began, mut number, mut due) = (0, 0, 100, 0.0);
    judge.share_changed(steps[0], 1, Nanos(0));
    for second in 0..24 * 3_600 {
        let mut see = |number: u64, may_fail: bool, random: &mut fastrand::Rng| {
            let user = mixed(mixed(12, seed), number);
            let on_canary = (mixed(8, user) as f64) < steps[step] * u64::MAX as f64;
            let fails = may_fail && on_canary && random.f64() < fail;
            judge.observe(&Sample {
                user,
                micros: 10_000,
                server: 1 + u32::from(on_canary),
                status: if fails { 500 } else { 200 },
                route: 0,
                cohorts: 0,
                app: 0,
                step: step as u16 + 1,
                arm: if on_canary { Arm::Canary } else { Arm::Stable },
                ending: if fails { Ending::Failed(AttemptFailure::Status) } else { Ending::Good },
                saved: fails,
                warm: true,
                judged: true,
            });
        };
        (0..100).for_each(|poller| see(poller, false, &mut random));
        due += visitors;
        while due >= 1.0 {
            due -= 1.0;
            number += 1;
            see(number, true, &mut random);
        }
        let now = Nanos((second + 1) * 1_000_000_000);
        if judge.tick(now, [0; 2]).is_some() {
            return false;
        }
        let safe = judge.safe().is_some_and(|safety| safety.is_safe()) && judge.users_of_step() >= 20;
        if second - began >= 600 && safe {
            (step, began) = (step + 1, second);
            let Some(share) = steps.get(step) else { return true };
            judge.share_changed(*share, step as u16 + 1, now);
        }
    }
    false
}

/// What harmless releases in these worlds were told.
fn mixed_worlds(world: Mixed, count: usize, part: f64) -> Told {
    told(runs(count, |seed| world.release(seed, part)))
}

#[test]
fn regulars_beside_visitors_convict_nobody() {
    for world in &MIXED[1..4] {
        let told = mixed_worlds(*world, 20, 0.25);
        assert!(told.worse + told.guard + told.ratio == 0, "{told:?}");
    }
}

#[test]
fn pollers_make_no_step_safe() {
    let reached = runs(6, |seed| reaches_everybody(0.1, 0.1, seed)).into_iter().filter(|reached| *reached).count();
    assert!(reached <= 1, "{reached} of 6");
}

#[test]
#[ignore = "long: scripts/test --long"]
fn false_alarms_where_users_come_unequally_often() {
    println!("| harmless; regulars ask each second, visitors once | releases | requests | worse | guard | ratio |");
    println!("|---|---|---|---|---|---|");
    for (world, count) in MIXED.into_iter().zip([2_000, 2_000, 300, 2_000, 400, 60, 8]) {
        let Told { worse, guard, ratio, requests, .. } = mixed_worlds(world, count, 1.0);
        let Mixed { regulars, visitors, fail, share, hours } = world;
        let (fail, share) = (fail * 100.0, share * 100.0);
        println!(
            "| {regulars} regulars, {visitors} visitors/s, {fail} % fail, {share} %, {hours} h | {count} | {requests} \
             | {worse} | {guard} | {ratio} |"
        );
        assert!(worse <= count.div_ceil(1_000) && guard + ratio <= count.div_ceil(100), "{worse} {guard} {ratio}");
    }
}

#[test]
#[ignore = "long: scripts/test --long"]
fn how_often_a_harmful_canary_comes_to_everybody_beside_pollers() {
    println!("| 100 pollers; the canary fails a part of people's visits | visitors/s | reaches 100 % |");
    println!("|---|---|---|");
    for fail in [0.1, 0.2] {
        for visitors in [0.05, 0.1, 0.3] {
            let reached =
                runs(100, |seed| reaches_everybody(visitors, fail, seed)).into_iter().filter(|it| *it).count();
            println!("| {fail} | {visitors} | {reached} of 100 |");
            assert!(reached <= 5, "{reached}");
        }
    }
}
