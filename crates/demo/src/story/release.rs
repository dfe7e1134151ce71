//! A release that goes well: a new version takes over step by step, by itself, and no user goes back and forth.
//!
//! Shares are those of the answers during a step. They lie near the step's percent and not on it: users are put on an
//! arm by a hash of their keys, and these users are always the same ones.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::Value;

use super::start::{is_well, start_backend};
use super::{LIMIT, Story, ms};
use crate::conf::{BACKENDS, C1, Releases, SHOP};
use crate::load::{USER, user_key};
use crate::stage::until;
use crate::tell::thousands;
use base::clock;
use base::units::Nanos;

/// The steps: their percent, and the allowed share of the answers.
const STEPS: [(u32, RangeInclusive<f64>); 3] = [(5, 3.0..=7.0), (25, 20.0..=30.0), (100, 98.0..=100.0)];
/// The latency of the backends: a tail so long that the fraction of a millisecond by which a new process or a busy
/// machine slows one of them cannot decide a release.
const SPREAD: &str = "spread=24ms";
/// The longest wait for a step, which takes longer if a busy machine slows the load down.
const STEP_LIMIT: Duration = Duration::from_secs(30);
/// The time that requests of the step before have to be answered.
const MOMENT: Duration = Duration::from_millis(100);
/// The time for which shares are counted; with the moment before it, less than a step lasts.
const LOOK: Duration = Duration::from_millis(600);

impl Story<'_> {
    pub(super) async fn good_release(&mut self) -> Result<(), String> {
        self.tell.act("A release: v2 takes over from 5 % to 25 % to 100 % of the users, by itself");
        for backend in 0..SHOP {
            self.knob(backend, SPREAD).await?;
        }
        self.new_version(C1).await?;
        self.book.follow(BACKENDS[C1]);
        (self.conf.releases, self.conf.typo, self.conf.routes) = (Releases::V2, false, vec![]);
        let began = self.release().await?;
        for (n, (percent, near)) in STEPS.into_iter().enumerate() {
            self.step(n + 1, percent, near, began).await?;
        }
        self.list_releases().await?;
        let state = self.admin.release("v2").await?["state"].clone();
        self.promise(state == "promoted", format!("v2 is {}", state.as_str().unwrap_or_default()));
        self.turn("release of v3").await?;
        let followed = self.book.followed();
        let (users, strays) = (thousands(followed.users.len() as u64), thousands(followed.strays));
        self.promise(
            followed.strays == 0 && !followed.users.is_empty(),
            format!("{users} users were put on v2, and {strays} of their later requests met another version"),
        );
        Ok(())
    }

    /// Starts the backend of a new version.
    pub(super) async fn new_version(&mut self, backend: usize) -> Result<(), String> {
        self.backends.push(start_backend(&self.conf, backend)?);
        is_well(&self.conf, backend).await?;
        self.knob(backend, SPREAD).await?;
        let (name, address) = (BACKENDS[backend], self.conf.servers[backend]);
        let pid = self.backends.last().map_or(0, |process| process.id());
        self.tell
            .say(format_args!("backend {name}   {address}   pid {pid}   answers in 0 to 24 ms, as the others now do"));
        Ok(())
    }

    /// Pushes the release that the configuration names; returns when that began.
    pub(super) async fn release(&mut self) -> Result<Nanos, String> {
        let saved = self.push()?;
        self.tell.say("pushed:");
        self.tell.quote(self.conf.release().trim_start());
        Ok(saved)
    }

    /// Waits for a step, and until it is over.
    async fn step(&mut self, step: usize, percent: u32, near: RangeInclusive<f64>, began: Nanos) -> Result<(), String> {
        let admin = self.admin;
        let at = async || admin.release("v2").await.ok().filter(|release| release["step"] == step);
        let release = until(&format!("v2 to reach step {step}"), LIMIT, at).await?;
        let after = ms(clock::now().since(began));
        let right = release["percent"].as_f64() == Some(f64::from(percent));
        self.promise(right, format!("step {step}, {percent} % of the users, came by itself after {after}"));
        tokio::time::sleep(MOMENT).await;
        let counts = self.shares(LOOK).await;
        let share = counts.percent(BACKENDS[C1]);
        self.promise(near.contains(&share), format!("of {} answers v2 gave {share:.1} %", counts.answered));
        if step < STEPS.len() {
            self.list_releases().await?;
        }
        if step == 1 {
            self.explain_a_user().await?;
        }
        let over = async || admin.release("v2").await.ok().filter(|release| is_over(release, step));
        let waited = until(&format!("step {step} of v2 to be over"), STEP_LIMIT, over).await;
        if waited.is_err() {
            self.list_releases().await?;
        }
        waited.map(drop)
    }

    /// Prints why one of the users that the new version has answered is on it.
    async fn explain_a_user(&mut self) -> Result<(), String> {
        let followed = self.book.followed();
        let user = user_key(*followed.users.first().ok_or("no user is on v2")?);
        let (file, url) = (self.folder.at("gateway.toml"), format!("{}/orders/1", self.visitor.door.origin()));
        let file = file.to_string_lossy();
        let header = format!("{USER}: {user}");
        let (found, said) =
            self.tollgate.tool(&self.folder, &["explain", "-c", &file, "GET", &url, "-H", &header]).await?;
        self.tell.say(format_args!("tollgate explain -c gateway.toml GET {url} -H '{header}'"));
        self.tell.quote(&said);
        let has = |name: &str, value: &str| {
            said.lines().any(|line| line.split_once(' ').is_some_and(|(n, v)| n == name && v.trim() == value))
        };
        let right = found && has("arm", "canary") && has("upstream", "v2");
        self.promise(right, format!("explain puts {user} on v2, where the load was answered by {}", BACKENDS[C1]));
        Ok(())
    }

    /// Prints the state of the releases.
    pub(super) async fn list_releases(&mut self) -> Result<(), String> {
        let url = format!("http://{}", self.admin.0);
        let (listed, said) = self.tollgate.tool(&self.folder, &["release", "list", "--admin", &url]).await?;
        self.tell.say(format_args!("tollgate release list --admin {url}"));
        self.tell.quote(&said);
        listed.then_some(()).ok_or_else(|| format!("`tollgate release list` failed: {said}"))
    }
}

fn is_over(release: &Value, step: usize) -> bool {
    release["step"] != step || release["state"] != "running"
}
