//! The end: the gateway is told to stop, answers the requests in flight, and has logged every answer.

use std::time::Duration;

use super::{LIMIT, Story, ms};
use crate::conf::BACKENDS;
use crate::stage::until;
use crate::tell::thousands;
use base::clock;

impl Story<'_> {
    pub(super) async fn graceful_stop(&mut self) -> Result<(), String> {
        self.tell.act("SIGTERM: a graceful stop");
        // Slow answers, so that there is something in flight.
        for backend in 0..BACKENDS.len() {
            self.knob(backend, "delay=200ms").await?;
        }
        tokio::time::sleep(Duration::from_millis(600)).await;
        let dropped = self.admin.metrics().await?.sum("tollgate_log_dropped_total", &[]);
        self.visitor.connection = None;
        let load = self.load.take().ok_or("there is no load")?;
        load.leave();
        let in_flight = self.book.in_flight();
        let begun = clock::now();
        self.gateway.terminate()?;
        self.tell.say(format_args!("kill -TERM {} with {in_flight} requests in flight", self.gateway.id()));
        let gateway = &mut self.gateway;
        let status = until("the gateway to end", LIMIT, async || gateway.ended()).await?;
        let after = ms(clock::now().since(begun));
        self.promise(status.success(), format!("the gateway ended by itself after {after}: {status}"));
        let left = load.left(LIMIT).await;
        self.promise(left, "every connection was closed after its last answer");
        self.settle(self.phase).await?;

        let answered: u64 = self.book.all().iter().map(|phase| phase.answered).sum();
        let answers = answered + self.visitor.answers;
        let log = self.folder.at("access.log");
        let text = std::fs::read_to_string(&log).map_err(|e| format!("{}: {e}", log.display()))?;
        let lines = text.lines().count() as u64;
        let (lines_said, answers_said) = (thousands(lines), thousands(answers));
        self.promise(
            lines == answers && dropped == 0,
            format!("the access log has {lines_said} lines for {answers_said} answers"),
        );
        Ok(())
    }
}
