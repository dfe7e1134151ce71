//! A release that goes wrong: the new version fails, no user sees it, and it is taken back.
//!
//! The backend itself counts how soon that is, since it knows when its last request came.

use std::time::Duration;

use super::{LIMIT, Story, ms};
use crate::backend::Account;
use crate::conf::{C2, Releases};
use crate::stage::{until, within};
use crate::tell::thousands;
use base::clock;
use base::units::Nanos;

/// The longest that a failing version may serve: a failure of less than two seconds is a hiccup of its server, and
/// stable answers meanwhile.
const SOON: Duration = Duration::from_millis(3500);
/// The time after that in which no request may reach it.
const QUIET: Duration = Duration::from_secs(2);

impl Story<'_> {
    pub(super) async fn bad_release(&mut self) -> Result<(), String> {
        self.tell.act("A release that fails: v3 answers nothing but 503, and is taken back");
        self.new_version(C2).await?;
        self.conf.releases = Releases::V3;
        let began = self.release().await?;
        self.tell.say("with that push v2 is the upstream of the routes, and the shop's first one is gone");
        let admin = self.admin;
        let on = async || admin.release("v3").await.ok().filter(|release| release["percent"] == 10.0);
        until("v3 to be released", LIMIT, on).await?;
        let first = async || self.knob(C2, "").await.ok().filter(|account| account.answered > 0).map(drop);
        until("v3 to get requests", LIMIT, first).await?;
        self.tell.say(format_args!(
            "v3 gets the requests of 10 % of the users, {} after the push",
            ms(clock::now().since(began))
        ));
        tokio::time::sleep(Duration::from_secs(1)).await;

        let turned = clock::now();
        let healthy = self.knob(C2, "fail=100").await?;
        let address = self.conf.servers[C2];
        self.tell.say(format_args!("POST http://{address}/knobs?fail=100, after {} good answers", healthy.answered));
        let back = async || admin.release("v3").await.ok().filter(|release| release["state"] == "rolled_back");
        let release = until("v3 to be taken back", LIMIT, back).await?;
        let after = clock::now().since(turned);
        self.promise(after <= SOON, format!("v3 was taken back {} after that", ms(after)));
        let (last, account) = self.last_request(turned).await?;
        let quiet = last <= SOON;
        self.promise(
            quiet,
            format!("its last request came {} after that, then none for {} s", ms(last), QUIET.as_secs()),
        );
        self.turn("payments").await?;
        let (failed, now) = (account.failed, admin.release("v3").await?);
        let rescued = now["rescued"].as_u64().unwrap_or_default();
        self.promise(
            rescued > 0 && rescued == failed && now["not_rescued"] == 0,
            format!("{} requests failed on v3, v2 answered {} of them", thousands(failed), thousands(rescued)),
        );
        self.list_releases().await?;
        self.show_report(release["report"].as_str().unwrap_or_default()).await
    }

    /// Waits until v3 gets no more requests; returns the latest time at which its last one can have come, and its
    /// counts.
    async fn last_request(&self, since: Nanos) -> Result<(Duration, Account), String> {
        let (mut seen, mut last) = (0, since);
        let mut look = async || loop {
            let account = self.knob(C2, "").await?;
            if account.answered > seen {
                (seen, last) = (account.answered, clock::now());
            }
            if clock::now().since(last) >= QUIET {
                return Ok::<_, String>(account);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let account = within("requests to v3 to end", LIMIT, look()).await??;
        Ok((last.since(since), account))
    }

    async fn show_report(&mut self, id: &str) -> Result<(), String> {
        let admin = self.admin;
        let page = until("the report", LIMIT, async || admin.report(id).await).await?;
        self.tell.say(format_args!("GET /api/v1/reports/{id}, as text/markdown:"));
        self.tell.quote(&page);
        let named = page.contains("v3 was taken back") && page.contains("the whole canary, status 503");
        self.promise(named, "the report names v3, all of it, and the status 503");
        Ok(())
    }
}
