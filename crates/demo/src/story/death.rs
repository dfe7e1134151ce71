//! Backends misbehave: one is killed and comes back, and one becomes slow and fails.

use std::time::Duration;

use super::start::{is_well, start_backend};
use super::{LIMIT, Story, ms};
use crate::admin::is_in;
use crate::conf::BACKENDS;
use crate::stage::until;
use crate::tell::thousands;
use base::clock;

const B2: usize = 1;
const B3: usize = 2;

impl Story<'_> {
    pub(super) async fn one_dies(&mut self) -> Result<(), String> {
        self.tell.act("Backend b2 is killed, and comes back");
        let (admin, address) = (self.admin, self.conf.servers[B2]);
        let retries = admin.metrics().await?.retries();
        let pid = self.backends[B2].id();
        let begun = clock::now();
        self.backends[B2].kill()?;
        self.tell.say(format_args!("kill -9 {pid}"));

        let out = async || admin.server(address).await.ok().filter(|server| !is_in(server));
        until("the gateway to take b2 out", LIMIT, out).await?;
        self.promise(true, format!("b2 gets no more requests, {} after its death", ms(clock::now().since(begun))));
        let unhealthy = async || admin.server(address).await.ok().filter(|server| server["healthy"] == false);
        let server = until("the probes to find b2 dead", LIMIT, unhealthy).await?;
        self.tell.say("GET /api/v1/upstreams says:");
        self.tell.quote(&server.to_string());
        let metrics = admin.metrics().await?;
        self.tell.say("GET /metrics says:");
        let label: &str = &format!("server=\"{address}\"");
        let lines = metrics.lines("tollgate_upstream_healthy", &[label]).collect::<Vec<_>>().join("\n");
        self.tell.quote(&lines);
        tokio::time::sleep(Duration::from_secs(3)).await;

        let begun = clock::now();
        self.backends[B2] = start_backend(&self.conf, B2)?;
        is_well(&self.conf, B2).await?;
        self.tell.say(format_args!("b2 is started again, pid {}, on the same port", self.backends[B2].id()));
        let (book, phase) = (self.book.clone(), self.phase);
        let answers = || book.counts(phase).by_backend.get(BACKENDS[B2]).copied().unwrap_or_default();
        let before = answers();
        let back = async || admin.server(address).await.ok().filter(|s| is_in(s) && answers() > before).map(drop);
        until("b2 to get requests again", LIMIT, back).await?;
        self.promise(true, format!("b2 serves again, {} after its return", ms(clock::now().since(begun))));
        tokio::time::sleep(Duration::from_secs(2)).await;
        let retried = admin.metrics().await?.retries() - retries;
        self.turn("b3 slow and failing").await?;
        self.tell.say(format_args!("requests that met the dead b2 and were sent to another backend: {retried}"));
        Ok(())
    }

    pub(super) async fn one_fails(&mut self) -> Result<(), String> {
        self.tell.act("Backend b3 turns slow and answers 30 % with 503");
        let (admin, address) = (self.admin, self.conf.servers[B3]);
        let label = ["reason=\"status\""];
        let ejections = admin.server(address).await?["ejections"].as_u64().unwrap_or_default();
        let retries = admin.metrics().await?.sum("tollgate_retries_total", &label);
        self.knob(B3, "delay=20ms&fail=30").await?;
        self.tell.say(format_args!("POST http://{}/knobs?delay=20ms&fail=30", address));
        tokio::time::sleep(Duration::from_secs(5)).await;
        let retried = admin.metrics().await?.sum("tollgate_retries_total", &label) - retries;
        self.knob(B3, "delay=0ms&fail=0").await?;
        let back = async || admin.server(address).await.ok().filter(is_in);
        let server = until("b3 to get requests again", LIMIT, back).await?;
        let ejections = server["ejections"].as_u64().unwrap_or_default().saturating_sub(ejections);
        let counts = self.turn("a new route").await?;
        let share = counts.percent(BACKENDS[B3]);
        self.tell.say(format_args!("b3 gave {share:.1} % of the answers; failures put it out {ejections} times"));
        self.promise(retried > 0, format!("{} answers of 503 were retried on another backend", thousands(retried)));
        Ok(())
    }
}
