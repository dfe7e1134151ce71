//! The control rule: what a window of answers says about the limit.
//!
//! All latencies are means in microseconds. `base` is the latency without a queue, as far as it is known. With the
//! limit reached, latency ÷ `base` is the ratio of the requests in flight to those that the servers work on. [`FULL`]
//! to [`LONG`] is where it should be, enough to keep the servers busy and not more than a client would notice. Above,
//! the limit is lowered to [`AIM`] times that work; below, it is raised. With the limit not reached there is nothing to
//! decide, and the latency is the current `base`.
//!
//! A limit that is lowered by more than a trifle, and a measurement of `base`, are experiments: the next window is
//! compared with this one. Rounding is upwards, so small limits do not stick. Time runs in windows: a window begins
//! when the requests admitted under the limit before have been answered.

use std::time::Duration;

/// The limit while nothing is known. High, as refusing is the worse mistake.
const FIRST: u32 = 256;
/// A limit that is not reached falls to this, or to `ROOM` times what was in flight, whichever is more.
const REST: f64 = 64.0;
const ROOM: f64 = 4.0;
/// The least limit: one request at work and one that waits.
const LEAST: f64 = 2.0;
const MOST: f64 = 65_536.0;

/// A limit that is reached is raised where latency is below this multiple of `base`.
const FULL: f64 = 1.4;
/// The multiple that it is lowered to.
const AIM: f64 = 1.8;
/// Above this multiple it is lowered.
const LONG: f64 = 2.3;
/// The deepest cut at once, as a share of the limit; the second where the window itself shows the queue.
const DEEPEST: f64 = 0.5;
const DEEPEST_SEEN: f64 = 0.1;
/// The factor by which a limit is raised.
const RAISE: f64 = 1.5;
/// A change that an experiment can tell from chance.
const NOTABLE: f64 = 0.85;

/// Where latency rises by less than this share of the rise of requests in flight, there is no queue.
const QUEUED: f64 = 0.4;

/// The share of refused requests that counts as an overload.
const OVERLOAD: f64 = 0.1;
/// The share of requests given up that counts as an overload.
const LOST: f64 = 0.1;
/// The factor by which the limit is lowered where there is nothing else to judge by.
const ON_LOSS: f64 = 0.8;

/// Seconds of overload after which `base` is measured.
const STALE: f64 = 10.0;
/// The same before it ever was measured: the first answers may have met a queue already.
const UNMEASURED: f64 = 2.0;
/// Or the growth of the answer rate since then: the servers have become quicker, or more.
const QUICKER: f64 = 1.2;
/// The share of the servers' work that is admitted during a measurement.
const BELOW: f64 = 0.9;
/// A measurement that kept more than this share of the throughput was still above the knee.
const UNHURT: f64 = 0.97;

/// The factor by which it then goes deeper, and how often at most.
const DEEP: f64 = 0.75;
const DEEPER: u32 = 16;

/// Seconds in which `base` follows a latency that rose without a queue, and one that fell.
const RISE: f64 = 5.0;
const FALL: f64 = 1.0;
/// Seconds, or latencies, that are looked back on for a queue that comes and goes.
const RECENT: f64 = 4.0;
const RECENT_LATENCIES: f64 = 20.0;
/// How much the requests in flight must have varied, as a share of them, before latency is regressed on them.
const VARIED: f64 = 0.1;
/// Seconds in which an unused limit falls, and a low one is forgotten.
const FORGET: f64 = 15.0;

/// Answers that a window needs; with `POOR` a window that took long ends too.
const ANSWERS: u32 = 16;
const POOR: u32 = 4;
/// Answers after which a window ends whatever its error is; the sums have room for no more.
pub(super) const MOST_ANSWERS: u32 = 4_096;
/// The error of the mean, as a share of it, that is small enough.
const ERROR: f64 = 0.04;

/// The measurements of a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Its length in seconds.
    pub elapsed: f64,
    /// Answers that came in time.
    pub answered: u32,
    /// The mean of their latencies, in microseconds.
    pub mean: f64,
    /// Their latencies, and the requests in flight with each when it was admitted.
    pub moments: Moments,
    /// Requests that were given up.
    pub lost: u32,
    /// Requests over the limit.
    pub refused: u32,
    /// Requests under the limit.
    pub admitted: u32,
    /// The most in flight.
    pub peak: u32,
}

/// Sums over answers: their number, latency `y` and requests in flight `x`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moments {
    pub n: f64,
    pub y: f64,
    pub yy: f64,
    pub x: f64,
    pub xx: f64,
    pub xy: f64,
}

/// The settings of the next window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Next {
    pub limit: u32,
    /// The time until the answers to the requests admitted before have come.
    pub settle: Duration,
    /// The least time to measure.
    pub measure: Duration,
}

/// An experiment, with what it is compared with.
#[derive(Clone, Copy, Debug)]
enum Trial {
    /// The limit was lowered because of a queue; with the limit and the point before.
    Lowered { limit: f64, before: Point },
    /// `base` is being measured; with the limit to go back to, the point before, and how often it went deeper.
    Measuring { back: f64, before: Point, deeper: u32 },
}

/// A mean latency and the requests in flight with it.
#[derive(Clone, Copy, Debug)]
struct Point {
    load: f64,
    mean: f64,
}

/// The control of a limit.
#[derive(Debug)]
pub(super) struct Control {
    limit: f64,
    /// The latency without a queue; `None` before the first window.
    base: Option<f64>,
    trial: Option<Trial>,
    /// Seconds of overload since `base` was measured.
    stale: f64,
    /// Answers per second at that time.
    rate: f64,
    /// The moments of the last seconds.
    recent: Moments,
}

impl Window {
    /// The standard error of the mean.
    fn error(&self) -> f64 {
        self.moments.spread() / f64::from(self.answered.max(1)).sqrt()
    }

    fn is_lost(&self) -> bool {
        f64::from(self.lost) > LOST * f64::from(self.answered.max(self.admitted))
    }

    /// A lower bound of the answers per second.
    fn rate(&self) -> f64 {
        let n = f64::from(self.answered);
        (n - 2.0 * n.sqrt()).max(0.0) / self.elapsed
    }

    fn is_overload(&self) -> bool {
        f64::from(self.refused) >= OVERLOAD * f64::from(self.refused + self.admitted)
    }
}

impl Moments {
    /// Keeps a share of the old sums and adds the new ones.
    fn add(&mut self, other: &Moments, keep: f64) {
        self.n = self.n * keep + other.n;
        self.y = self.y * keep + other.y;
        self.yy = self.yy * keep + other.yy;
        self.x = self.x * keep + other.x;
        self.xx = self.xx * keep + other.xx;
        self.xy = self.xy * keep + other.xy;
    }

    /// The mean of the requests in flight.
    fn load(&self) -> f64 {
        self.x / self.n.max(1.0)
    }

    /// The standard deviation of the latencies.
    fn spread(&self) -> f64 {
        let n = self.n.max(1.0);
        (self.yy / n - (self.y / n).powi(2)).max(0.0).sqrt()
    }

    /// The rise of latency in percent for one percent more in flight, and its error; `None` where the number in flight
    /// hardly varied. Least squares.
    fn rise(&self) -> Option<(f64, f64)> {
        let n = self.n.max(1.0);
        let (x, y) = (self.x / n, self.y / n);
        let varied = self.xx / n - x * x;
        if varied <= (VARIED * x).powi(2) {
            return None;
        }
        let slope = (self.xy / n - x * y) / varied;
        Some((slope * x / y, self.spread() / (varied * n).sqrt() * x / y))
    }
}

impl Control {
    pub fn new() -> (Control, Next) {
        let control = Control {
            limit: f64::from(FIRST),
            base: None,
            trial: None,
            stale: 0.0,
            rate: 0.0,
            recent: Moments::default(),
        };
        let first = Next { limit: FIRST, settle: Duration::ZERO, measure: Duration::from_millis(20) };
        (control, first)
    }

    /// Whether the window has enough answers to judge by.
    pub fn is_told_enough(&self, window: &Window) -> bool {
        let long = window.elapsed >= (4e-6 * window.mean).max(1.0);
        match window.answered {
            MOST_ANSWERS.. => true,
            // The very first answers meet the shortest queue.
            ANSWERS.. if self.base.is_none() => true,
            ANSWERS.. => long || window.error() <= ERROR * window.mean,
            POOR.. => long,
            _ => window.lost >= POOR,
        }
    }

    /// Judges a window.
    pub fn decide(&mut self, window: &Window) -> Next {
        let before = self.limit;
        let horizon = RECENT.max(RECENT_LATENCIES * 1e-6 * window.mean);
        self.recent.add(&window.moments, (-window.elapsed / horizon).exp());
        match (self.trial.take(), window.refused > 0) {
            _ if window.is_lost() => self.lost(window),
            (Some(trial), true) if window.answered >= POOR => self.judge(trial, window),
            (Some(Trial::Measuring { back, .. }), _) => self.limit = back,
            (_, true) if window.answered >= POOR => self.reached(window),
            (_, true) => {}
            (_, false) => self.not_reached(window),
        }
        let least = if matches!(self.trial, Some(Trial::Measuring { .. })) { 1.0 } else { LEAST };
        self.limit = self.limit.clamp(least, MOST);
        next(before, self.limit, window)
    }

    /// So many requests were given up, by clients or by time limits, that the limit is too high
    /// whether it was reached or not.
    fn lost(&mut self, window: &Window) {
        self.limit = self.limit.min(f64::from(window.peak));
        match window.answered {
            POOR.. => self.reached(window),
            _ => self.limit = (self.limit * ON_LOSS).ceil(),
        }
    }

    /// No request was refused, so there is nothing to decide.
    fn not_reached(&mut self, window: &Window) {
        self.stale = 0.0;
        if window.answered < POOR {
            return;
        }
        let base = self.base.get_or_insert(window.mean);
        // A queue that comes and goes below the limit is not the servers' own latency either.
        let queued = window.mean > *base && self.recent.rise().is_some_and(|(rise, _)| rise > QUEUED);
        if !queued {
            let time = if window.mean > *base { RISE } else { FALL };
            *base += (window.mean - *base) * part(window.elapsed, time);
        }
        let rest = (ROOM * f64::from(window.peak)).max(REST);
        if rest < self.limit || window.mean < *base * FULL {
            self.limit += (rest - self.limit) * part(window.elapsed, FORGET);
        }
    }

    /// Requests were refused: decides whether they would have waited in a queue.
    fn reached(&mut self, window: &Window) {
        let Window { mean, .. } = *window;
        let base = *self.base.get_or_insert(mean);
        if mean < base {
            self.base = Some(base + (mean - base) * part(window.elapsed, FALL));
        }
        let queue = mean / base;
        self.stale = if window.is_overload() { self.stale + window.elapsed } else { 0.0 };
        if (mean - 2.0 * window.error()) / base > LONG {
            if !window.is_lost() && window.moments.rise().is_some_and(is_none) {
                self.base = Some(mean);
                self.limit = (self.limit * RAISE).ceil();
                return;
            }
            self.lower(window);
        } else if queue < FULL {
            self.limit = (self.limit * RAISE).ceil();
        } else if self.is_stale(window) {
            self.measure(window);
        }
    }

    /// Whether `base` is to be measured. That is possible only where requests are refused anyway.
    fn is_stale(&self, window: &Window) -> bool {
        let was_measured = self.rate > 0.0;
        let quicker = was_measured && window.rate() > QUICKER * self.rate;
        self.stale > if was_measured { STALE } else { UNMEASURED } || self.stale > 0.0 && quicker
    }

    /// Lowers the limit because of a queue.
    fn lower(&mut self, window: &Window) {
        let load = window.moments.load();
        let queue = window.mean / self.base.unwrap_or(window.mean);
        let deepest = self.limit * if window.moments.rise().is_some_and(is_queue) { DEEPEST_SEEN } else { DEEPEST };
        let lowered = (load * AIM / queue).max(deepest).ceil().min(self.limit);
        if lowered < self.limit * NOTABLE {
            self.trial = Some(Trial::Lowered { limit: self.limit, before: Point { load, mean: window.mean } });
        }
        self.limit = lowered;
    }

    /// Judges an experiment. It compares the requests that each answer was really in flight with: some of them were
    /// still admitted under the limit before.
    fn judge(&mut self, trial: Trial, window: &Window) {
        let Window { mean, .. } = *window;
        let load = window.moments.load();
        match trial {
            Trial::Lowered { limit, before } => {
                let (less, faster) = ((load / before.load).ln(), (mean / before.mean).ln());
                // With a queue all of the change shows in the latency, and without one nothing of it.
                if less.abs() < -NOTABLE.ln() || faster / less >= 0.5 {
                    return self.reached(window);
                }
                self.base = Some(mean);
                self.limit = limit;
            }
            Trial::Measuring { back, before, deeper } => {
                let throughput = (load / before.load) * (before.mean / mean);
                self.base = Some(mean);
                self.stale = 0.0;
                if throughput > UNHURT && deeper < DEEPER && self.limit > 1.0 {
                    self.trial = Some(Trial::Measuring { back, before, deeper: deeper + 1 });
                    self.limit = (self.limit * DEEP).floor();
                    return;
                }
                let work = before.load * mean / before.mean;
                self.limit = (work * AIM).ceil().min(back);
            }
        }
    }

    /// Lowers the limit to a little less than the servers work on, for one window.
    fn measure(&mut self, window: &Window) {
        let before = Point { load: window.moments.load(), mean: window.mean };
        let work = before.load * self.base.unwrap_or(before.mean) / before.mean;
        self.trial = Some(Trial::Measuring { back: self.limit, before, deeper: 0 });
        self.rate = f64::from(window.answered) / window.elapsed;
        self.limit = (work * BELOW).floor();
    }
}

/// Whether latency is seen to rise with the requests in flight.
fn is_queue((rise, error): (f64, f64)) -> bool {
    rise - error > QUEUED
}

/// Whether it is seen not to rise.
fn is_none((rise, error): (f64, f64)) -> bool {
    error < QUEUED / 2.0 && rise + error < QUEUED
}

/// The share of a way that is gone in `seconds`, where `time` seconds leave 1/e of it.
fn part(seconds: f64, time: f64) -> f64 {
    1.0 - (-seconds / time).exp()
}

fn next(before: f64, limit: f64, window: &Window) -> Next {
    let changed = (limit - before).abs() >= 1.0;
    let slowest = (window.mean + 2.0 * window.moments.spread()) * (limit / before).max(1.0);
    let settle = if changed { slowest * 1e-6 } else { 0.0 };
    Next {
        limit: limit as u32,
        settle: Duration::from_secs_f64(settle.min(60.0)),
        measure: Duration::from_secs_f64((window.mean * 1e-6).clamp(0.02, 1.0)),
    }
}
