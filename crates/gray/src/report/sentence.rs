//! The sentences of a report: the verdict, and what to do next.

use super::{Action, ArmView, IncidentFacts, Kind};

/// The finding as a sentence, followed by the caller's reason.
pub(super) fn verdict(facts: &IncidentFacts) -> String {
    let canary = &facts.change.canary;
    let finding = match facts.kind {
        Kind::Worse => format!("{canary} is worse than stable: {}.", difference(facts)),
        Kind::Outside => format!("Both arms fail: the cause is outside of the release{}.", outside(facts)),
        Kind::Shared => {
            format!("Both arms fail since {canary} got {} % of the users{}.", facts.change.percent, outside(facts))
        }
        Kind::Untrusted => "The two arms cannot be compared, so nothing was concluded about the canary.".to_owned(),
        Kind::Watch => {
            format!("{canary} does worse than stable did before.")
        }
        Kind::NoEvidence => format!(
            "Step {} of {} got no evidence that {canary} is safe within the time it had: {} from {}.",
            facts.change.step,
            facts.change.steps,
            plural(facts.arms.canary.requests, "request"),
            plural(facts.arms.canary.users, "user"),
        ),
    };
    match facts.reason.as_str() {
        "" => finding,
        reason => {
            let (first, rest) = reason.split_at(reason.chars().next().map_or(0, char::len_utf8));
            format!("{finding} {}{rest}.", first.to_uppercase())
        }
    }
}

/// What to do, in a sentence or two.
pub(super) fn next(facts: &IncidentFacts) -> String {
    let resume = format!("`tollgate release resume {}`", facts.release);
    let place = facts.places.first().filter(|place| !place.parts.is_empty());
    let look = match place {
        Some(place) => format!("Look first at {}.", place.text.split(": ").next().unwrap_or(&place.text)),
        None => format!("Look at {}.", facts.change.canary),
    };
    match (facts.kind, facts.action) {
        (Kind::Worse | Kind::Watch, Action::RolledBack) => format!(
            "{look} Nothing else is urgent: everybody is on stable. A changed definition starts by itself; the same one \
             only with {resume}, at step one."
        ),
        (Kind::Worse | Kind::Watch, Action::Held) => format!(
            "{look} Users are still on the canary: take them back with `tollgate release abort {}`, or go on with {resume}.",
            facts.release
        ),
        (Kind::Worse | Kind::Watch, Action::Reported) => format!(
            "{look} Nothing was changed: take the release back with `tollgate release abort {}` if it harms.",
            facts.release
        ),
        (Kind::Shared, Action::RolledBack) => format!(
            "Everybody is on stable. If stable is well now, {} takes too much of something that both use; if it still fails, \
             the release was only near by. A changed definition starts by itself; the same one with {resume}.",
            facts.change.canary
        ),
        (Kind::Shared, _) => format!(
            "Users are still on the canary: take them back with `tollgate release abort {}`, and see whether stable \
             recovers, or go on with {resume}.",
            facts.release
        ),
        (Kind::Outside, _) => {
            "Mend what both arms depend on; the release was left where it is, and the judge goes on.".to_owned()
        }
        (Kind::Untrusted, _) => format!(
            "Find out why the arms differ before trusting any figure here: a cache or a crash in front of the count, or \
             users that are not split as planned. Then go on with {resume}."
        ),
        (Kind::NoEvidence, _) => format!(
            "Give it more traffic or more time (`judge.max_wait`, `judge.min_users`), go on with {resume}, or take the \
             next step with `tollgate release promote {}`.",
            facts.release
        ),
    }
}

/// How the canary differs, by the signal with the strongest evidence.
fn difference(facts: &IncidentFacts) -> String {
    let (stable, canary, evidence) = (&facts.arms.stable, &facts.arms.canary, &facts.evidence);
    let others = evidence.refusals.max(evidence.latency).max(evidence.feedback);
    if evidence.errors >= others {
        return format!("{}, of stable {}", failed(canary), percent(share_of(stable)));
    }
    if evidence.refusals >= others {
        return "it refuses more of its users (4xx)".to_owned();
    }
    if evidence.feedback >= others {
        return "its users gave worse feedback".to_owned();
    }
    match (canary.p99_ms, stable.p99_ms) {
        (Some(canary_p99), Some(stable_p99)) => format!(
            "it is slower, p99 {} against {}, median {} against {}",
            millis(Some(canary_p99)),
            millis(Some(stable_p99)),
            millis(canary.p50_ms),
            millis(stable.p50_ms)
        ),
        _ => "it is slower".to_owned(),
    }
}

fn outside(facts: &IncidentFacts) -> String {
    let Some(outside) = &facts.outside else { return String::new() };
    let mut said = String::new();
    for (name, value) in [("upstream", &outside.upstream), ("route", &outside.route), ("status", &outside.status)] {
        if !value.is_empty() {
            said.push_str(&format!("{} {name} {value}", if said.is_empty() { "," } else { "" }));
        }
    }
    let (stable, canary) = (percent(outside.stable_share), percent(outside.canary_share));
    format!("{said} ({stable} of stable's requests fail, {canary} of the canary's)")
}

fn failed(arm: &ArmView) -> String {
    let share = percent(share_of(arm));
    format!("{} of its {} failed ({share})", count(arm.errors), plural(arm.requests, "request"))
}

fn share_of(arm: &ArmView) -> f64 {
    arm.errors as f64 / arm.requests.max(1) as f64
}

/// The share of an arm's requests that failed, for display.
pub(super) fn failing(arm: &ArmView) -> String {
    percent(share_of(arm))
}

/// `12,345`
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 user`, `2 users`
pub(super) fn plural(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// `34.3 %`; small shares keep two figures.
pub(super) fn percent(fraction: f64) -> String {
    let percent = fraction * 100.0;
    match percent {
        0.0 => "0 %".to_owned(),
        p if p < 0.1 => format!("{p:.3} %"),
        p if p < 1.0 => format!("{p:.2} %"),
        p => format!("{p:.1} %"),
    }
}

/// `12.3 ms`; a dash without a measurement.
pub(super) fn millis(ms: Option<f64>) -> String {
    match ms {
        None => "–".to_owned(),
        Some(ms) if ms < 10.0 => format!("{ms:.1} ms"),
        Some(ms) => format!("{} ms", count(ms.round() as u64)),
    }
}
