//! The judge of a release: whether the canary is worse than stable, whether it is safe, or that neither can be told.
//!
//! Chance assigns users, not requests, to an arm. So the judge counts a user's *first* bad event in the release: a
//! client that always fails would otherwise count a thousand times for its arm. Each such event is a bet on the arm
//! that chance gave to the user, by the step's design share. One judge belongs to one thread and to one set of routes.
//! Time advances in ticks, so a window ends as exactly as the ticks allow.
//!
//! For thresholds below p99 a user's first answer is the one that counts. A fault that appears later, to users who
//! already had an answer, is left to the episodes, to p99 and above, to the objective and to errors.
//!
//! A window ends early, after 250 ms, once five users of the canary failed for the first time in the episode. To a test
//! of first events that is a look like any other.
//!
//! When the evidence is enough, the judge waits for another 250 ms before it decides: a fault behind both arms may show
//! on one of them first. A common cause acquits the canary of what was seen so far. Ties: a broken model comes before
//! blame, and the findings of one tick are returned one per tick, oldest first.
//!
//! | module | is |
//! |---|---|
//! | `restarted_test` | the same test anew every half minute, for users who have already counted |
//! | `evidence` | the e-process of one signal |
//! | `common_cause` | faults that are not the canary's, and comparisons that cannot be trusted |
//! | `signals` | the signals, their weights, the guard |
//! | `users` | the users that the judge follows |
//! | `exposure` | what a request counts as |
//! | `refusals` | which refusals are usual |
//! | `servers` | what hits a server and not its users |
//! | `window` | the counts of one window |
//! | `quantiles` | frozen thresholds, and the quantiles that are shown |
//! | `sample_ratio` | the test of the split (sample ratio mismatch) |
//! | `safety` | evidence for a promotion |
//! | `change_detection` | stable during a release, the canary after it |
//! | `verdict` | the combined evidence, and when it is enough |

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::report::ArmView;
use crate::sample::{Arm, Sample};
use base::units::Nanos;

mod change_detection;
mod common_cause;
mod evidence;
mod exposure;
mod quantiles;
mod refusals;
mod restarted_test;
mod safety;
mod sample_ratio;
mod servers;
mod signals;
mod users;
mod verdict;
mod window;

#[cfg(test)]
mod tests;

pub use evidence::{Bet, Process};
pub use exposure::Told;
pub use safety::Safety;
pub use servers::Hit;
pub use signals::SignalEvidence;
pub use window::Cause;

use change_detection::{Baseline, Detector};
use exposure::{Exposure, Failures};
use quantiles::{Limits, Shown, Thresholds, Took};
use refusals::Refusals;
use restarted_test::RestartedTest;
use sample_ratio::SampleRatio;
use servers::Servers;
use signals::{Comparison, FEEDBACK, Guard};
use users::{At, FirstEvent, LEARNT, Users};
use verdict::Crossing;
use window::{EvidenceCell, EvidenceCounts, UserCounts, Window};

/// The length of a window.
const WINDOW: Duration = Duration::from_secs(1);

/// How long answers are not timed after the share has changed. New connections and cold caches slow a canary for a
/// moment when it gets its first users, or many more. Errors count at once.
const SETTLE: Duration = Duration::from_secs(3);

/// The share of an arm's users whose servers must be warm. Where fewer of one arm than of the other are timed, the slow
/// answers of the other would stand alone.
const WARM: f64 = 0.9;

/// The least length of a window that ends early, and how long the judge waits before it decides.
const SHORT: Duration = Duration::from_millis(250);

/// First failures on the canary that end a window early.
const BURST: u32 = 5;

/// Failing users of stable without which no cause is outside: fewer are chance.
const OUTSIDE_USERS: u64 = 5;

/// A canary whose share of failing users is more than this many times stable's suffers from more than an outside cause.
const ALIKE: f64 = 2.0;

/// What the judge is asked to hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The probability, over the whole life of the release, that a harmless canary is found worse.
    pub false_alarm: f64,
    /// The objective (SLO) for answers, in microseconds.
    pub slo_micros: Option<u32>,
    /// The number of routes of the release.
    pub routes: usize,
}

/// A reason not to trust the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Two random halves of stable differ: the model is wrong.
    Guard,
    /// The canary has more or fewer users than its share says.
    Ratio,
}

/// What a tick found; each finding is returned once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Finding {
    /// The canary is worse.
    Worse {
        /// The strongest group of signals: `errors`, `refusals`, `latency` or `feedback`.
        signal: &'static str,
        /// The combined e-value at the moment of the decision.
        e: f64,
        /// On how many of its servers.
        hit: Hit,
    },
    /// Both arms fail: the cause is outside of the release.
    Outside {
        /// How most of stable's users failed.
        cause: Cause,
        /// The share of stable's recently active users who failed.
        stable: f64,
        /// The same share of the canary.
        canary: f64,
    },
    /// Nothing that the judge says about the canary can be trusted; with the e-value of the doubt.
    Untrusted(Doubt, f64),
    /// Both arms fail since the canary got more users: the canary may harm something that both use.
    Shared {
        /// How most of stable's users failed.
        cause: Cause,
        /// The share of stable's recently active users who failed.
        stable: f64,
        /// The same share of the canary.
        canary: f64,
        /// The time since the share became larger.
        after: Duration,
    },
    /// All users are on the canary, and more of them fail, or wait, than did on stable.
    Watch {
        /// What they meet.
        of: Watched,
        /// The share of recently active users who meet it.
        canary: f64,
        /// Stable's share, from the time when there was a stable.
        baseline: f64,
    },
}

/// What the judge watches where all users are on the canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Failures.
    Failures,
    /// Answers above stable's p95.
    Slowness,
}

/// What survives a restart, so that restarting does not give a false alarm another chance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PersistedJudge {
    evidence: Comparison,
    guard: Guard,
    baseline: Option<f64>,
    #[serde(default)]
    episodes: u32,
    /// The share of stable's users whose answers are slow, and the thresholds, by route; older builds kept neither.
    #[serde(default)]
    slow: Option<f64>,
    #[serde(default)]
    limits: Vec<Limits>,
}

/// The judge of one release.
pub struct Judge {
    settings: Settings,
    now: Nanos,
    opened: Nanos,
    /// Number of the open window.
    number: u32,
    /// Number of the step.
    step: u16,
    /// Expected share of judged users on the canary.
    share: f64,
    /// When that share has settled.
    settled: Nanos,
    /// When it last became larger.
    grew: Option<Nanos>,
    /// Whether the open window's answers are timed: it began after that, and both arms' servers were warm then.
    timed: bool,
    users: Users,
    met: [u64; 2],
    /// First failures on the canary, before the open window.
    harmed: u64,
    thresholds: Thresholds,
    shown: [Shown; 2],
    servers: Servers,
    refusals: Refusals,
    /// Bad feedback in the open window.
    spoken: EvidenceCounts,
    failures: Failures,
    /// The open window and the two before it.
    recent: [Window; 3],
    in_step: UserCounts,
    evidence: Comparison,
    guard: Guard,
    episodes: RestartedTest,
    ratio: SampleRatio,
    baseline: Baseline,
    usually_slow: Baseline,
    stable: Detector,
    canary: Detector,
    canary_slow: Detector,
    crossing: Option<Crossing>,
    /// Since when both arms fail in a step that may have caused it.
    alike: Option<Nanos>,
    /// The canary was found worse.
    decided: bool,
    doubts: [bool; 2],
    found: VecDeque<Finding>,
}

impl Judge {
    /// How many users a judge follows at most.
    pub const USERS: usize = users::MOST;

    /// For a release without history; the canary's share is 0.
    pub fn new(settings: Settings, now: Nanos) -> Judge {
        Judge {
            settings,
            now,
            opened: now,
            number: 0,
            step: 0,
            share: 0.0,
            settled: now,
            grew: None,
            timed: true,
            users: Users::default(),
            met: [0; 2],
            harmed: 0,
            thresholds: Thresholds::new(settings.routes.max(1), settings.slo_micros),
            shown: [Shown::new(), Shown::new()],
            servers: Servers::default(),
            refusals: Refusals::default(),
            spoken: EvidenceCounts::default(),
            failures: Failures::default(),
            recent: Default::default(),
            in_step: UserCounts::default(),
            evidence: Comparison::default(),
            guard: Guard::default(),
            episodes: RestartedTest::default(),
            ratio: SampleRatio::new(0.0),
            baseline: Baseline::of_failures(),
            usually_slow: Baseline::of_slowness(),
            stable: Detector::default(),
            canary: Detector::default(),
            canary_slow: Detector::default(),
            crossing: None,
            alike: None,
            decided: false,
            doubts: [false; 2],
            found: VecDeque::new(),
        }
    }

    /// Takes changed settings. Evidence and users stay, and so does the number of routes. A changed objective takes
    /// effect with the next window.
    pub fn set(&mut self, settings: Settings) {
        self.settings = Settings { routes: self.settings.routes, ..settings };
    }

    /// From now on the share `canary` of the judged users, 0 to 1, is on the canary. The open window ends, and a step
    /// of this number begins with its own ratio test and safety.
    pub fn share_changed(&mut self, canary: f64, step: u16, now: Nanos) {
        self.now = now;
        self.close(now);
        self.servers.end_step();
        let before = std::mem::replace(&mut self.share, canary.clamp(0.0, 1.0));
        if self.share > before {
            self.grew = Some(now);
        }
        (self.settled, self.timed) = (now.after(SETTLE), false);
        self.step = step;
        self.in_step = UserCounts::default();
        self.ratio = SampleRatio::new(self.share);
        self.evidence.change();
        // Without a control nothing shows when an outage of both arms ends; with one the canary is not watched alone.
        if self.share < 1.0 {
            (self.canary, self.canary_slow) = (Detector::default(), Detector::default());
        } else {
            self.stable = Detector::default();
        }
    }

    fn at(&self) -> At {
        At { window: self.number, step: self.step, episode: self.episodes.number() as u16 }
    }

    /// Counts a request that ended; returns what it was its user's first of.
    pub fn observe(&mut self, seen: &Sample) -> Told {
        if usize::from(seen.route) >= self.settings.routes.max(1) {
            return Told::default();
        }
        self.shown[seen.arm as usize].count(seen);
        self.servers.asked(seen, self.step, self.now);
        if !seen.judged {
            return Told::default();
        }
        let (at, took) = (self.at(), Took::of(seen));
        let user = self.users.at(seen.user, at);
        if let (Arm::Stable, Some(Took::Exactly(micros)), true) = (seen.arm, took, user.may_tell(LEARNT)) {
            // One answer per user: the answers to a client that polls are not what people get.
            user.tell(LEARNT);
            self.thresholds.learn(seen.route, micros, seen.warm);
        }
        if user.first(FirstEvent::of(seen.arm)) {
            self.met[seen.arm as usize] += 1;
        }
        let known = self.in_step.active[seen.arm as usize];
        let mut hearing = Exposure {
            user,
            thresholds: &self.thresholds,
            refusals: &mut self.refusals,
            servers: &mut self.servers,
            failures: &mut self.failures,
            window: &mut self.recent[0],
            in_step: &mut self.in_step,
            timed: self.timed,
            told: Told::default(),
        };
        hearing.note(seen);
        if seen.step == self.step {
            hearing.hear(seen, took);
        }
        let told = hearing.told;
        // A forgotten user is new again, and would count twice on the same arm.
        if self.in_step.active[seen.arm as usize] > known && self.users.forgotten == 0 {
            self.ratio.count(seen.arm);
        }
        told
    }

    /// Counts the feedback of a judged user about the arm that they are on now.
    pub fn feedback(&mut self, user: u64, arm: Arm, bad: bool) {
        let at = self.at();
        let known = self.users.at(user, at);
        if bad && known.may_tell(FEEDBACK) {
            known.tell(FEEDBACK);
            self.spoken.event(FEEDBACK, EvidenceCell::of(arm, user));
        }
    }

    /// Ends the window if it is due and returns one new finding, if any. `in_flight` is the number of requests of
    /// judged users in flight, by arm.
    pub fn tick(&mut self, now: Nanos, in_flight: [u64; 2]) -> Option<Finding> {
        self.now = now;
        let open = now.since(self.opened);
        if open >= WINDOW || open >= SHORT && self.failures.of_episode >= BURST {
            self.close(now);
        }
        self.doubt(in_flight);
        self.decide(now);
        self.found.pop_front()
    }

    /// Ends the open window.
    fn close(&mut self, now: Nanos) {
        let mut heard = self.servers.close(self.step, now);
        let [was_warm, all_warm] = [1, 0].map(|at| self.recent[at].warm().iter().all(|part| *part >= WARM));
        for (now, _) in [(false, was_warm), (true, all_warm)].into_iter().filter(|(_, warm)| !warm) {
            heard.forget_times(now);
        }
        heard.now.add(FEEDBACK, &std::mem::take(&mut self.spoken));
        if self.share > 0.0 && self.share < 1.0 {
            self.evidence.play(|signal| heard.said(signal, self.share));
            self.guard.play([&heard.before, &heard.now]);
            if self.episodes.play(&heard, self.share) {
                self.cross(now);
                self.begin_episode();
            }
        }
        let tally = self.recent[0].tally;
        self.watch(&tally);
        if !self.stable.lasts() {
            self.baseline.learn(tally.active[0], tally.failing[0]);
            self.usually_slow.learn(tally.timed.measured[0], tally.timed.slow[0]);
        }
        self.refusals.close();
        self.recent.rotate_right(1);
        self.recent[0] = Window::default();
        self.harmed += u64::from(self.failures.of_life);
        self.failures = Failures::default();
        self.thresholds.freeze(self.settings.slo_micros);
        self.number = self.number.wrapping_add(1);
        self.opened = now;
        self.timed = now >= self.settled && all_warm;
        self.cross(now);
    }

    /// Evidence of safety of this step; `None` where its share leaves one arm without judged users.
    pub fn safe(&self) -> Option<Safety> {
        (self.share > 0.0 && self.share < 1.0).then(|| Safety::of(&self.in_step))
    }

    /// Whether both arms fail at this time.
    pub fn outside(&self) -> bool {
        self.stable.lasts()
    }

    /// Distinct judged users by arm since the judge began; a user who moved counts on both.
    pub fn users(&self) -> [u64; 2] {
        self.met
    }

    /// Distinct judged users on the canary since the share last changed.
    pub fn users_of_step(&self) -> u64 {
        self.in_step.active[Arm::Canary as usize]
    }

    /// Users whose first failure was on the canary.
    pub fn harmed(&self) -> u64 {
        self.harmed + u64::from(self.failures.of_life)
    }

    /// Users who were forgotten because the judge's memory is bounded.
    pub fn forgotten(&self) -> u64 {
        self.users.forgotten
    }

    /// Stable and canary as they are shown.
    pub fn arms(&self) -> [ArmView; 2] {
        Arm::ALL.map(|arm| self.shown[arm as usize].view(self.met[arm as usize]))
    }

    /// The step began before this process did, so what fails now did not begin with the step.
    pub fn goes_on(&mut self) {
        self.grew = None;
    }

    /// What a restart needs.
    pub fn keep(&self) -> PersistedJudge {
        PersistedJudge {
            evidence: self.evidence.clone(),
            guard: self.guard.clone(),
            baseline: self.baseline.share(),
            episodes: self.episodes.number(),
            slow: self.usually_slow.share(),
            limits: self.thresholds.keep(),
        }
    }

    /// Takes over what an earlier process kept. Evidence against the canary is dropped, since the same users will count
    /// again; evidence for it stays.
    pub fn restore(&mut self, kept: &PersistedJudge) {
        self.evidence = kept.evidence.clone();
        self.evidence.acquit();
        self.guard = kept.guard.clone();
        self.guard.acquit();
        self.baseline.restore(kept.baseline);
        self.usually_slow.restore(kept.slow);
        self.thresholds.restore(&kept.limits);
        self.episodes = self.episodes.after(kept.episodes);
    }
}
