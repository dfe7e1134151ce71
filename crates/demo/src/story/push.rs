//! Configurations change under load: a new route, ten pushes in a row, one with a typo, and the way back.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use super::{LIMIT, Story, ms, shares};
use crate::stage::until;

/// The time for which old and new may overlap before shares are counted.
const MOMENT: Duration = Duration::from_millis(200);
const PUSHES: u64 = 10;
/// Lines of the history that are shown.
const SHOWN: usize = 5;

impl Story<'_> {
    pub(super) async fn new_route(&mut self) -> Result<(), String> {
        self.tell.act("A push under load: a new route, and twice the weight for b1");
        let before = self.visitor.status("/offers/1").await?;
        self.tell.say(format_args!("GET /offers/1 is answered {before}"));
        self.conf.routes = vec!["offers".into()];
        self.conf.weights = [2, 1, 1];
        let saved = self.push()?;
        let after = self.served("/offers/1", saved).await?;
        let revision = self.admin.revision().await?;
        self.promise(before == 404, format!("/offers/1 answers {} after the file was saved", ms(after)));
        tokio::time::sleep(MOMENT).await;
        let counts = self.shares(Duration::from_secs(2)).await;
        self.tell.say(format_args!("revision {revision} serves; shares: {}", shares(&counts)));
        self.promise((44.0..=56.0).contains(&counts.percent("b1")), "b1 answers half, as its weight says");
        self.turn("ten pushes in a row").await?;
        Ok(())
    }

    pub(super) async fn ten_pushes(&mut self) -> Result<(), String> {
        self.tell.act("Ten pushes in a row, one each 100 ms: routes come and go, weights change");
        let first = self.admin.revision().await?;
        let mut ticks = interval(Duration::from_millis(100));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut times = vec![];
        for n in 1..=PUSHES {
            ticks.tick().await;
            self.conf.routes = vec!["offers".into(), format!("push-{n}")];
            self.conf.weights = if n % 2 == 1 { [1, 1, 2] } else { [1; 3] };
            let saved = self.push()?;
            times.push(self.served(&format!("/push-{n}/1"), saved).await?);
        }
        let revision = self.admin.revision().await?;
        times.sort_unstable();
        let (half, worst) = (ms(times[times.len() / 2]), ms(times[times.len() - 1]));
        self.tell.say(format_args!("from save to answer: {half} in the middle, {worst} at worst"));
        let all = revision == first + PUSHES;
        self.promise(all, format!("each of ten pushes was served: revision {first} became {revision}"));
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.turn("a bad push").await?;
        Ok(())
    }

    pub(super) async fn bad_push(&mut self) -> Result<(), String> {
        self.tell.act("A bad push: a key is misspelt");
        let before = self.admin.revision().await?;
        self.conf.typo = true;
        self.push()?;
        let admin = self.admin;
        let refused = async || admin.config().await.ok().filter(|config| !config["last_error"].is_null());
        let config = until("the gateway to refuse the file", LIMIT, refused).await?;
        self.tell.say("GET /api/v1/config says in last_error:");
        let findings = config["last_error"]["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
        findings.iter().for_each(|finding| self.tell.quote(&described(finding)));
        self.promise(
            findings.iter().any(|finding| finding["text"].as_str().is_some_and(|text| text.contains("adress"))),
            "the finding names the file, the line and the misspelt key",
        );
        tokio::time::sleep(Duration::from_secs(2)).await;
        let after = self.admin.revision().await?;
        self.promise(after == before, format!("revision {before} goes on as it was"));
        let status = self.visitor.status(&format!("/push-{PUSHES}/1")).await?;
        self.promise(status == 200, "its routes still answer");
        self.turn("the way back").await?;
        Ok(())
    }

    pub(super) async fn way_back(&mut self) -> Result<(), String> {
        self.tell.act("The way back: config rollback");
        let last = self.admin.revision().await?;
        let to = last.saturating_sub(PUSHES).to_string();
        let url = format!("http://{}", self.admin.0);
        let (done, said) = self.tollgate.tool(&self.folder, &["config", "rollback", &to, "--admin", &url]).await?;
        self.tell.say(format_args!("tollgate config rollback {to} --admin {url}"));
        self.tell.quote(&said);
        let now = self.admin.revision().await?;
        self.promise(done && now.to_string() == to, format!("revision {to} is served again"));
        let (kept, gone) =
            (self.visitor.status("/offers/1").await?, self.visitor.status(&format!("/push-{PUSHES}/1")).await?);
        self.promise((kept, gone) == (200, 404), "its route answers, and the route of a later push is gone");
        let (_, history) = self.tollgate.tool(&self.folder, &["config", "history", "--admin", &url]).await?;
        self.tell.say(format_args!("tollgate config history --admin {url}"));
        self.tell.quote(&shortened(&history));
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.turn("release of v2").await?;
        Ok(())
    }
}

/// A finding, as `tollgate check` shows it.
fn described(finding: &Value) -> String {
    let text = |key: &str| finding[key].as_str().unwrap_or_default();
    let file = text("file").rsplit('/').next().unwrap_or_default();
    let place = format!("{file}:{}:{}", finding["line"], finding["column"]);
    format!("{place}: {}\n    {}\n    hint: {}", text("message"), text("text"), text("hint"))
}

/// The header of a table, its first and its last lines.
fn shortened(table: &str) -> String {
    let lines: Vec<&str> = table.lines().collect();
    if lines.len() <= 2 * SHOWN {
        return table.to_owned();
    }
    let left_out = format!("  … {} more", lines.len() - 2 * SHOWN + 1);
    let parts = [&lines[..SHOWN], &[&*left_out], &lines[lines.len() - SHOWN + 1..]];
    parts.concat().join("\n")
}
