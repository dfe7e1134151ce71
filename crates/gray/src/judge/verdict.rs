//! The verdict: the combined evidence, and when it is enough to find the canary worse.

use super::common_cause::Whose;
use super::signals::SignalEvidence;
use super::{Finding, Judge, SHORT, restarted_test};
use base::units::Nanos;

/// The evidence was enough; the decision waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crossing {
    at: Nanos,
    signal: &'static str,
    e: f64,
}

impl Judge {
    /// Notes that the evidence is enough.
    pub(super) fn cross(&mut self, now: Nanos) {
        let (evidence, e) = (self.evidence(), self.combined());
        if !self.decided && self.crossing.is_none() && e >= self.enough() {
            self.crossing = Some(Crossing { at: now, signal: evidence.strongest(), e });
        }
    }

    /// Decides once the wait after a crossing is over.
    pub(super) fn decide(&mut self, now: Nanos) {
        let Some(crossing) = self.crossing.filter(|crossing| now.since(crossing.at) >= SHORT) else { return };
        self.crossing = None;
        if !matches!(crossing.signal, "latency" | "refusals")
            && let Some((window, stable, canary)) = self.both_fail()
        {
            if self.tell_outside(&window, stable, canary) == Whose::Nobodys {
                self.evidence.acquit();
                self.begin_episode();
            }
            return;
        }
        // Where blame is not allowed yet, the question comes again with each window.
        if self.may_blame() || self.overwhelming() {
            self.decided = true;
            self.found.push_back(Finding::Worse {
                signal: crossing.signal,
                e: crossing.e,
                hit: self.servers.of_canary(now),
            });
        }
    }

    /// Drops the evidence against the canary and every doubt, so that it can be found worse again: an operator looked
    /// into it and lets it go on.
    pub fn acquit(&mut self) {
        self.evidence.acquit();
        self.guard.acquit();
        self.begin_episode();
        (self.crossing, self.decided, self.doubts) = (None, false, [false; 2]);
    }

    /// Begins an episode: every user may count again for its signals.
    pub(super) fn begin_episode(&mut self) {
        self.episodes = self.episodes.after(0);
        self.servers.end_episode();
    }

    /// The e-value at which the evidence is enough.
    pub fn enough(&self) -> f64 {
        1.0 / self.settings.false_alarm
    }

    /// The combined evidence: that of the release's whole life, which has most of the false-alarm probability, or
    /// that of the running episode.
    fn combined(&self) -> f64 {
        let life = (1.0 - restarted_test::PART) * self.evidence.evidence().combined();
        let episode: f64 = self.episodes.parts(self.settings.false_alarm).iter().sum();
        life.max(episode * self.enough())
    }

    /// The e-values by group of signals: of the release's whole life or of the running episode, whichever is larger,
    /// with what an episode needs beyond the former divided out.
    pub fn evidence(&self) -> SignalEvidence {
        let life = self.evidence.evidence();
        let parts = self.episodes.parts(self.settings.false_alarm).map(|part| part * self.enough());
        match parts.iter().sum::<f64>() > (1.0 - restarted_test::PART) * life.combined() {
            true => SignalEvidence { feedback: life.feedback, ..SignalEvidence::of_parts(parts) },
            false => life,
        }
    }
}
