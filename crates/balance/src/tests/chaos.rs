//! Thousands of random events against what must hold whatever happens, seeded so that a failure can be run again.

use super::*;

/// A pool, the leases on it, and its past.
struct World {
    client: Client,
    pool: Pool<usize>,
    held: Vec<Lease<usize>>,
    seconds: f64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut client = Client::new(seed);
        let pool = pool(random_settings(&mut client.draws), &random_weights(&mut client.draws));
        World { client, pool, held: vec![], seconds: 0.0 }
    }

    fn step(&mut self) {
        let now = at(self.seconds);
        let draws = &mut self.client.draws;
        match draws.below(20) {
            0 => {
                let settings = random_settings(draws);
                self.pool = Pool::new(settings, specs(&random_weights(draws)), Some(&self.pool), now);
            }
            1 => {
                let member = draws.below(self.pool.members().len().max(1) as u64) as usize;
                let healthy = draws.below(2) == 0;
                if let Some(member) = self.pool.members().get(member) {
                    member.state.set_healthy(healthy, now);
                }
            }
            2 => self.seconds += draws.below(20_000) as f64 / 1_000.0,
            3..8 if !self.held.is_empty() => {
                let lease = self.held.swap_remove(draws.below(self.held.len() as u64) as usize);
                match draws.below(4) {
                    0 => lease.succeeded(Duration::from_micros(draws.below(100_000)), now),
                    1 | 2 => drop(lease.failed(now)),
                    _ => {}
                }
            }
            _ => self.pick(now),
        }
        self.check(now);
    }

    fn pick(&mut self, now: Nanos) {
        let mut tried = Tried::new();
        for lease in &self.held {
            if self.client.draws.below(8) == 0 {
                lease.mark(&mut tried);
            }
        }
        let limit = self.pool.settings().max_in_flight;
        let fine = |m: &Arc<Member<usize>>| m.weight > 0 && m.state.usable(now) && m.state.has_room(limit);
        let best = self.pool.members().iter().any(|m| fine(m) && !tried.holds(m.state.id));
        let some = self.pool.members().iter().any(|m| m.weight > 0 && m.state.has_room(limit));
        let up: Vec<_> = self.pool.members().iter().filter(|m| fine(m)).map(|m| m.address).collect();
        let up_but_full = self.pool.members().iter().any(|m| m.weight > 0 && m.state.usable(now));
        self.client.now = now;
        match self.client.retry(&self.pool, &tried) {
            Ok(lease) => {
                assert!(!best || (up.contains(&lease.address) && !tried.holds(lease.state.id)), "not the best");
                self.held.push(lease);
            }
            Err(_) => assert!(!some || (up.is_empty() && up_but_full), "refused without need"),
        }
    }

    fn check(&self, now: Nanos) {
        for member in self.pool.members() {
            let held = self.held.iter().filter(|lease| Arc::ptr_eq(&lease.state, &member.state)).count();
            assert_eq!(member.state.in_flight() as usize, held);
            let probing = member.state.cold.probing.load(std::sync::atomic::Ordering::Relaxed);
            assert!(!probing || held > 0, "a probation's place leaked");
        }
        let up = self.pool.members().iter().any(|m| m.weight > 0 && m.state.is_up(now));
        let carrying = self.pool.members().iter().any(|m| m.weight > 0);
        assert_eq!(self.pool.is_panicking(now), carrying && !up);
    }
}

fn random_settings(draws: &mut random::Draws) -> Settings {
    let mut settings = settings(all_balances()[draws.below(5) as usize].clone());
    settings.slow_start = [None, Some(30 * SECOND)][draws.below(2) as usize];
    settings.max_in_flight = [None, Some(1), Some(4)][draws.below(3) as usize];
    settings.outlier.consecutive_failures = [0, 1, 3][draws.below(3) as usize];
    settings.outlier.max_ejected = Share::percent([0.0, 50.0, 100.0][draws.below(3) as usize]).unwrap();
    settings
}

fn random_weights(draws: &mut random::Draws) -> Vec<u16> {
    (0..draws.below(7)).map(|_| [0, 1, 1, 5, 90][draws.below(5) as usize]).collect()
}

#[test]
fn whatever_happens() {
    for seed in 0..40 {
        let mut world = World::new(seed);
        for step in 0..1_500 {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.step()));
            assert!(outcome.is_ok(), "seed {seed}, step {step}");
        }
    }
}
