//! The promises of a gray release, kept before real backends: nobody notices a bad version, a user stays on one version,
//! and what was decided survives a restart.
//!
//! Most tests have one route, `shop`, with the upstreams `stable` and `canary` and the release `v2`, whose user key is
//! the header `x-user-id`. Faults are measured from their first failure to the state that the admin API shows. Times
//! that these short forms allow are for a machine that others use as well; the long forms allow what was promised.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::client::Answer;
use crate::support::wait::within;
use crate::support::*;

mod cohorts;
mod harm;
mod judge;
mod long;
mod nginx;
mod nobody_notices;
mod orders;
mod outside;
mod reports;
mod rescue;
mod restart;
mod steps;
mod sticky;

/// What a step may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A configuration with one release.
#[derive(Clone)]
pub struct Gray {
    stable: Vec<String>,
    canary: Vec<String>,
    steps: String,
    keys: String,
    tables: String,
}

/// A release between the servers of two upstreams, at 10 % for an hour.
pub fn gray(stable: &[String], canary: &[String]) -> Gray {
    let (stable, canary) = (stable.to_vec(), canary.to_vec());
    Gray { stable, canary, steps: String::new(), keys: String::new(), tables: String::new() }.steps(&[(10.0, "1h")])
}

/// The same between two backends.
pub fn between(stable: &Origin, canary: &Origin) -> Gray {
    gray(&[stable.address()], &[canary.address()])
}

impl Gray {
    /// With these steps, percent and hold.
    pub fn steps(mut self, steps: &[(f64, &str)]) -> Gray {
        let each = steps.iter().map(|(percent, hold)| format!("{{ percent = {percent}, hold = {hold:?} }}"));
        self.steps = each.collect::<Vec<_>>().join(", ");
        self
    }

    /// With a line more in the release's table.
    pub fn key(mut self, line: &str) -> Gray {
        self.keys = format!("{}{line}\n", self.keys);
        self
    }

    /// With other tables.
    pub fn table(mut self, text: &str) -> Gray {
        self.tables = format!("{}{text}\n", self.tables);
        self
    }

    /// As the file says it.
    pub fn text(&self) -> String {
        let user = if self.keys.contains("user = ") { "" } else { "user = [\"header:x-user-id\"]\n" };
        format!(
            r#"
            [upstream.stable]
            servers = {:?}
            [upstream.canary]
            servers = {:?}
            [route.shop]
            upstream = "stable"
            [release.v2]
            routes = ["shop"]
            canary = "canary"
            {user}steps = [{}]
            {}{}"#,
            self.stable, self.canary, self.steps, self.keys, self.tables
        )
    }

    /// A gateway with it.
    #[track_caller]
    pub fn start(&self) -> World {
        World::start(&self.text())
    }
}

/// `GET /api/v1/releases/v2`
#[track_caller]
pub fn view(world: &World) -> Value {
    let answer = world.admin(get("/api/v1/releases/v2"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// State, step from 1, and percent.
#[track_caller]
pub fn stands(world: &World) -> (String, u64, f64) {
    stands_in(&view(world))
}

fn stands_in(view: &Value) -> (String, u64, f64) {
    let state = view["state"].as_str().unwrap_or_default().to_owned();
    (state, view["step"].as_u64().unwrap_or_default(), view["percent"].as_f64().unwrap_or(f64::NAN))
}

/// `POST /api/v1/releases/v2/{order}`, obeyed or not.
#[track_caller]
pub fn try_order(world: &World, order: &str) -> Answer {
    world.admin(post(&format!("/api/v1/releases/v2/{order}"), ""))
}

/// An order that is obeyed: how the release stands then.
#[track_caller]
pub fn order(world: &World, order: &str) -> (String, u64, f64) {
    let answer = try_order(world, order);
    assert_eq!(answer.status, 200, "{order}: {}", answer.text());
    stands_in(&answer.json())
}

/// A gateway whose step began before it did: what fails soon after a step is the step's.
#[track_caller]
pub fn long_after_its_step(release: &Gray) -> World {
    let mut world = release.start();
    assert_eq!(stands(&world), ("running".into(), 1, 20.0));
    world.stop();
    assert!(world.run());
    world
}

/// Waits for a state.
#[track_caller]
pub fn becomes(world: &World, state: &str) -> Value {
    let seen = within(LONG, || Some(view(world)).filter(|view| view["state"] == state));
    seen.unwrap_or_else(|| panic!("never {state}: {:#}", view(world)))
}

/// The server that a user gets.
#[track_caller]
pub fn server_of(world: &World, user: &str) -> String {
    world.ask(by(user, "/")).server().to_owned()
}

/// Which of the users `u0` and on are on the canary, as the answers say.
#[track_caller]
pub fn on_canary(world: &World, users: usize) -> Vec<bool> {
    let mut connection = world.connect();
    let mut ask = |user: usize| {
        let answer = connection.ask(&by(&format!("u{user}"), "/")).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        match answer.server() {
            "canary" => true,
            "stable" => false,
            other => panic!("answered by {other}"),
        }
    };
    (0..users).map(&mut ask).collect()
}

/// The first of the users `u0` and on who is on the canary, or who is not.
#[track_caller]
pub fn a_user(world: &World, canary: bool) -> String {
    let user = on_canary(world, 200).iter().position(|on| *on == canary).expect("two hundred users are on both arms");
    format!("u{user}")
}

/// Rescues of an outcome.
#[track_caller]
pub fn rescues(world: &World, outcome: &str) -> f64 {
    world.metric("tollgate_rescues_total", &["release=\"v2\"", &format!("outcome={outcome:?}")])
}

/// Attempts at the canary's servers.
#[track_caller]
pub fn attempts_at_canary(world: &World) -> f64 {
    world.metric("tollgate_upstream_requests_total", &["upstream=\"canary\""])
}

/// Waits until the release is taken back; how long that took since the fault began.
#[track_caller]
pub fn taken_back(world: &World, crowd: &Users, began: impl Fn() -> Option<Instant>) -> Duration {
    let view = becomes(world, "rolled_back");
    let took = began().expect("the canary has failed").elapsed();
    assert_eq!(view["percent"], 0.0);
    crowd.lets_end();
    // What others have on its way to a server that hangs ends with its `first_byte` of 200 ms, and is counted then.
    std::thread::sleep(Duration::from_millis(300));
    let attempts = attempts_at_canary(world);
    crowd.goes_round();
    assert_eq!(attempts_at_canary(world), attempts, "a request reached the canary after it was taken back");
    took
}
