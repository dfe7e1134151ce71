//! The report as a Markdown page: the headline says what happened and what was done, the rest why.
//!
//! Names come from the configuration and are shown as they are, without characters that would break a table or a line.

use super::sentence::{count, failing, millis, percent, plural};
use super::{Action, ArmView, Evidence, IncidentFacts, Kind, Point, Report};

/// Heights of a sparkline.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Rows of the table of evidence.
const ROWS: usize = 8;

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let facts = &report.facts;
    let mut page = format!("# {}\n\n{}\n\n", headline(facts), sentence(&report.verdict));
    page.push_str(&done(facts));
    page.push_str(&arms(facts));
    page.push_str(&places(facts));
    page.push_str(&evidence(facts));
    page.push_str(&changed(facts));
    page.push_str(&format!("\n## Next\n\n{}\n\nReport `{}`\n", sentence(&report.next), report.id));
    page
}

fn headline(facts: &IncidentFacts) -> String {
    let release = line(&facts.release);
    match (facts.kind, facts.action) {
        (_, Action::RolledBack) => format!("{release} was taken back"),
        (Kind::NoEvidence, Action::Held) => format!("{release} is held: no evidence"),
        (Kind::Untrusted, Action::Held) => format!("{release} is held: the comparison cannot be trusted"),
        (_, Action::Held) => format!("{release} is held"),
        (Kind::Outside, Action::Reported) => format!("{release}: both arms fail, the cause is outside"),
        (Kind::Shared, Action::Reported) => format!("{release}: both arms fail since it got more users"),
        (Kind::Watch, Action::Reported) => format!("{release} does worse than stable did"),
        (_, Action::Reported) => format!("{release}: something is wrong, nothing was changed"),
    }
}

/// The action, and the number of users who were harmed.
fn done(facts: &IncidentFacts) -> String {
    let change = &facts.change;
    let step = format!("step {} of {}, {} % of users", change.step, change.steps, change.percent);
    let action = match facts.action {
        Action::RolledBack => format!("Rolled back from {step}; everybody is on stable."),
        Action::Held => format!("Held at {step}; it goes no further by itself."),
        Action::Reported => format!("Nothing was changed; it is at {step}."),
    };
    let mut out = format!("- **When**: {}", facts.at);
    if let Some(since) = &facts.since {
        out.push_str(&format!(", bad since {since}"));
    }
    out.push_str(&format!("\n- **Done**: {action}\n"));
    out.push_str(&format!(
        "- **Harm**: {} met a failure of the canary; {} rescued by stable, {} not\n",
        plural(facts.users_harmed, "user"),
        plural(facts.rescued, "failure"),
        count(facts.not_rescued)
    ));
    if facts.include.requests > 0 {
        let (errors, requests) = (count(facts.include.errors), plural(facts.include.requests, "request"));
        out.push_str(&format!("- **Included cohorts**, not judged: {errors} of {requests} failed\n"));
    }
    out
}

fn arms(facts: &IncidentFacts) -> String {
    let mut out =
        "\n| arm | requests | users | failed | share | p50 | p99 |\n|---|---:|---:|---:|---:|---:|---:|\n".to_owned();
    for (name, arm) in [("stable", &facts.arms.stable), ("canary", &facts.arms.canary)] {
        let ArmView { requests, users, errors, p50_ms, p99_ms } = *arm;
        let (requests, users, errors) = (count(requests), count(users), count(errors));
        let (share, p50, p99) = (failing(arm), millis(p50_ms), millis(p99_ms));
        out.push_str(&format!("| {name} | {requests} | {users} | {errors} | {share} | {p50} | {p99} |\n"));
    }
    out
}

fn places(facts: &IncidentFacts) -> String {
    if let Some(outside) = &facts.outside {
        let named = [("upstream", &outside.upstream), ("route", &outside.route), ("status", &outside.status)];
        let mut out = "\n## Where\n\n".to_owned();
        for (name, value) in named.into_iter().filter(|(_, value)| !value.is_empty()) {
            out.push_str(&format!("- {name} {}\n", line(value)));
        }
        let (stable, canary) = (percent(outside.stable_share), percent(outside.canary_share));
        return out + &format!("- {stable} of stable's requests fail, {canary} of the canary's\n");
    }
    if facts.places.is_empty() {
        return String::new();
    }
    let mut out = "\n## Where\n\n".to_owned();
    for (at, place) in facts.places.iter().enumerate() {
        let share = percent(place.explains);
        let (text, requests) = (line(&place.text), plural(place.requests, "request"));
        out.push_str(&format!("{}. {text} ({share} of the excess, in {requests})\n", at + 1));
    }
    out
}

fn evidence(facts: &IncidentFacts) -> String {
    let Evidence { errors, refusals, latency, feedback } = facts.evidence;
    let threshold = number(facts.threshold);
    let mut out = format!("\n## Evidence\n\nA verdict needs {threshold}; 1 says nothing.\n\n");
    out.push_str("| signal | now | over time, logarithmic |\n|---|---:|---|\n");
    let signal = |name: &str, now: f64, of: fn(&Evidence) -> f64| {
        let bars: String = facts.trajectory.iter().map(|point| bar(of(&point.evidence), facts.threshold)).collect();
        format!("| {name} | {} | {bars} |\n", number(now))
    };
    out.push_str(&signal("errors", errors, |evidence| evidence.errors));
    out.push_str(&signal("refusals", refusals, |evidence| evidence.refusals));
    out.push_str(&signal("latency", latency, |evidence| evidence.latency));
    out.push_str(&signal("feedback", feedback, |evidence| evidence.feedback));
    let rows = facts.trajectory.len().min(ROWS);
    if rows > 1 {
        out.push_str(
            "\n| at | % of users | errors | refusals | latency | feedback |\n|---|---:|---:|---:|---:|---:|\n",
        );
        for row in 0..rows {
            let Point { at, evidence, percent } = &facts.trajectory[row * (facts.trajectory.len() - 1) / (rows - 1)];
            let Evidence { errors, refusals, latency, feedback } = *evidence;
            let [errors, refusals, latency, feedback] = [errors, refusals, latency, feedback].map(number);
            out.push_str(&format!("| {at} | {percent} | {errors} | {refusals} | {latency} | {feedback} |\n"));
        }
    }
    out
}

fn changed(facts: &IncidentFacts) -> String {
    let change = &facts.change;
    let names = |names: &[String]| names.iter().map(|name| format!("`{}`", line(name))).collect::<Vec<_>>().join(", ");
    let mut out = "\n## What was released\n\n".to_owned();
    out.push_str(&format!("- canary `{}` instead of {}\n", line(&change.canary), names(&change.stable)));
    out.push_str(&format!("- routes {}\n- started {}\n", names(&change.routes), change.started_at));
    let (user, hash, salt) = (names(&change.user), &change.hash, line(&change.salt));
    out.push_str(&format!("- users by {user}, hash {hash}, salt `{salt}`\n"));
    out
}

/// The height of the evidence between 1 and the threshold, by its logarithm.
fn bar(value: f64, threshold: f64) -> char {
    let height = value.max(1.0).ln() / threshold.max(2.0).ln();
    BARS[((height * (BARS.len() - 1) as f64) as usize).min(BARS.len() - 1)]
}

/// An e-value for display.
fn number(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{v:.1e}"),
        v if v >= 100.0 => count(v.round() as u64),
        v => format!("{v:.2}"),
    }
}

/// A sentence that may contain names.
fn sentence(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// Text that is safe in a line of a table or a list.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || matches!(c, '|' | '`') { ' ' } else { c }).collect()
}
