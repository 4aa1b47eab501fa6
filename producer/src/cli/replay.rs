//! `replay`: a recorded evaluation again, and where it diverges.

use super::args::ReplayArgs;
use super::failure::Failure;
use super::live::usage;
use super::report::{plain, short};
use super::{Context, emit, print_json};
use crate::client::{Client, Pending};
use crate::replay::divergence::{Comparison, Divergence, Outcome};
use crate::replay::noise::Measured;
use crate::replay::{Replay, Replayed};
use evalfleet_proto::control::Event;
use evalfleet_proto::ids::JobId;
use evalfleet_proto::status::Exit;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::fmt::Write as _;
use std::time::Duration;

/// Divergences after the first that people are shown.
const OTHERS_MAX: usize = 10;

pub(super) async fn replay(context: &Context, args: ReplayArgs) -> Result<Exit, Failure> {
    let replay = Replay::of(&context.settings, &args.id).await?;
    let client = context.client().await?;
    let done = tokio::select! {
        done = Box::pin(all(context, &client, &replay, &args)) => done,
        // The jobs go on: they are recorded whether anyone waits or not.
        _ = tokio::signal::ctrl_c() => {
            let why = "not waited for: what was submitted goes on, and `evalfleet cancel` calls it off";
            Err(Failure::new(Exit::Cancelled, why))
        }
    };
    client.close().await;
    let replays = done?;
    if context.json {
        print_json(&document(&replay, &replays), true)?;
    } else if replays.len() > 1 {
        emit(&summary(&replays))?;
    }
    Ok(exit(&replays))
}

/// Submits all of them and waits: as many run at once as there are workers.
async fn all(
    context: &Context,
    client: &Client,
    replay: &Replay,
    args: &ReplayArgs,
) -> Result<Vec<Replayed>, Failure> {
    let bar = Bar::new(args.times);
    let mut waiting = FuturesUnordered::new();
    for _ in 0..args.times {
        let pending = client.submit_job(&replay.job()).await?;
        if !context.json {
            bar.suspend(|| eprintln!("{} submitted, repeats {}", pending.id(), replay.original().id));
        }
        let pending = match args.patience {
            Some(patience) => pending.patience(patience),
            None => pending,
        };
        waiting.push(one(replay, pending, &bar));
    }
    let mut replays = Vec::new();
    while let Some(replayed) = waiting.next().await {
        let replayed = replayed?;
        bar.step();
        if !context.json {
            bar.suspend(|| emit(&told(replay.original().id, &replayed)))?;
        }
        replays.push(replayed);
    }
    bar.end();
    Ok(replays)
}

async fn one(replay: &Replay, pending: Pending, bar: &Bar) -> Result<Replayed, Failure> {
    let evaluation = pending.watch(|event| bar.tell(&event)).await?;
    Ok(replay.compare(&evaluation).await)
}

/// How far it is: on standard error, and only on a terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new(times: u32) -> Self {
        let bar = ProgressBar::new(u64::from(times));
        let style = ProgressStyle::with_template("{spinner} {pos}/{len} compared  {msg:.dim}");
        Self(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner())))
    }

    fn tell(&self, event: &Event) {
        if let Event::Progress { elapsed, cpu, memory_bytes, disk_written_bytes, .. } = event {
            self.0.set_message(usage(*elapsed, *cpu, *memory_bytes, *disk_written_bytes));
        }
    }

    fn step(&self) {
        self.0.inc(1);
    }

    fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.suspend(write)
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}

/// Any divergence is the answer; else whatever was not put to the test; else the same.
fn exit(replays: &[Replayed]) -> Exit {
    let exits = replays.iter().map(Replayed::exit);
    if replays.iter().any(|replayed| replayed.comparison.outcome == Outcome::Diverged) {
        return Exit::Subject;
    }
    exits.max_by_key(|exit| exit.code()).unwrap_or(Exit::Passed)
}

fn count(replays: &[Replayed], outcome: Outcome) -> usize {
    replays.iter().filter(|replayed| replayed.comparison.outcome == outcome).count()
}

fn document(replay: &Replay, replays: &[Replayed]) -> serde_json::Value {
    json!({
        "of": replay.original().id,
        "same": count(replays, Outcome::Same),
        "diverged": count(replays, Outcome::Diverged),
        "undecided": count(replays, Outcome::Undecided),
        "replays": replays,
    })
}

fn summary(replays: &[Replayed]) -> String {
    let of = |outcome| count(replays, outcome);
    let mut text = format!("{} of {} the same", of(Outcome::Same), replays.len());
    for (outcome, word) in [(Outcome::Diverged, "diverged"), (Outcome::Undecided, "undecided")] {
        if of(outcome) > 0 {
            let _ = write!(text, ", {} {word}", of(outcome));
        }
    }
    if of(Outcome::Same) > 0 && of(Outcome::Diverged) > 0 {
        text += ": it does not do the same each time";
    }
    text
}

/// A replay as people read it: whether it is the same, where it is not, and what else is known.
pub(crate) fn told(of: JobId, replayed: &Replayed) -> String {
    let comparison = &replayed.comparison;
    let headline = match (comparison.outcome, &comparison.first) {
        (Outcome::Same, _) => format!("{} the same as {of}", replayed.id),
        (Outcome::Undecided, _) => format!("{} undecided: it says nothing of {of}", replayed.id),
        (Outcome::Diverged, first) => {
            let place = first.as_ref().map(named).unwrap_or_default();
            format!("{} diverged from {of} at {place}", replayed.id)
        }
    };
    headline + &details(comparison, ["before", "now"])
}

/// Two results as people compare them; `sides` are their names.
pub(crate) fn told_of_two(comparison: &Comparison, sides: [&str; 2]) -> String {
    let [a, b] = sides;
    let headline = match (comparison.outcome, &comparison.first) {
        (Outcome::Same, _) => format!("{a} and {b} did the same"),
        (Outcome::Undecided, _) => format!("{b} says nothing of {a}"),
        (Outcome::Diverged, first) => {
            format!("{a} and {b} differ at {}", first.as_ref().map(named).unwrap_or_default())
        }
    };
    headline + &details(comparison, sides)
}

fn details(comparison: &Comparison, sides: [&str; 2]) -> String {
    let mut text = String::new();
    let width = sides.map(str::len).into_iter().max().unwrap_or_default() + 1;
    if let Some(first) = &comparison.first {
        for (side, found) in sides.into_iter().zip([&first.before, &first.now]) {
            let _ = write!(text, "\n  {:<width$} {}", format!("{side}:"), plain(found));
        }
    }
    for other in comparison.others.iter().take(OTHERS_MAX) {
        let (before, now) = (plain(&other.before), plain(&other.now));
        let _ = write!(text, "\n  also {}: {before} → {now}", named(other));
    }
    let more = comparison.others.len().saturating_sub(OTHERS_MAX) + comparison.omitted;
    if more > 0 {
        let _ = write!(text, "\n  also {more} more");
    }
    let outside: Vec<_> =
        comparison.measured.iter().filter(|one| one.time && one.outside).map(time).collect();
    if !outside.is_empty() {
        let _ = write!(text, "\n  time: {}", outside.join(", "));
    }
    for circumstance in &comparison.circumstances {
        let (before, now) = (plain(&circumstance.before), plain(&circumstance.now));
        let _ = write!(text, "\n  {}: {before} → {now}", circumstance.what);
    }
    for note in &comparison.notes {
        let _ = write!(text, "\n  note: {}", plain(note));
    }
    text
}

/// `stdout, line 2`.
fn named(divergence: &Divergence) -> String {
    let place = divergence.place.as_ref().map_or(String::new(), |place| format!(", {}", plain(place)));
    format!("{}{place}", divergence.at.as_str())
}

/// `wall_ms 21 ms → 900 ms, beyond what is usual`.
fn time(measured: &Measured) -> String {
    let ms = |value: f64| short(Duration::from_secs_f64(value.max(0.0) / 1000.0));
    let name = measured.metric.trim_end_matches("_ms");
    format!(
        "{name} {} → {}, where {} is usual at most",
        ms(measured.before),
        ms(measured.now),
        ms(measured.most)
    )
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::sample;
    use super::*;
    use crate::replay::divergence::compare;
    use evalfleet_proto::evaluation::Evaluation;

    fn replayed(change: impl Fn(&mut Evaluation)) -> Replayed {
        let mut now = sample();
        change(&mut now);
        let own_exit = Exit::of(now.status, now.cause);
        Replayed { id: now.id, comparison: compare(&sample(), &now, &[]), own_exit }
    }

    #[test]
    fn a_divergence_is_told_with_both_sides_and_nothing_that_a_terminal_obeys() {
        let one = replayed(|now| {
            "hello\u{1b}[2J".clone_into(&mut now.stdout.text);
            now.stdout.bytes = 9;
            now.provenance.qemu = Some("11.0".to_owned());
        });
        let text = told(sample().id, &one);
        for part in [
            "diverged from",
            "at stdout, line 1",
            "before: \"héllo\"",
            "now:    \"hello",
            "qemu: 10.0.2 → 11.0",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!text.contains('\u{1b}'), "{text:?}");
        assert!(told(sample().id, &replayed(|_| ())).contains("the same as"));
        let text = told_of_two(&one.comparison, ["#1", "#12"]);
        let expected = "#1 and #12 differ at stdout, line 1\n  #1:  \"héllo\"\n  #12: \"hello";
        assert!(text.starts_with(expected) && !text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn the_exit_code_says_whether_it_is_the_same() {
        use evalfleet_proto::status::{Cause, Status};
        let same = replayed(|_| ());
        let other = replayed(|now| "other".clone_into(&mut now.stdout.text));
        let lost = replayed(|now| (now.status, now.cause) = (Status::Dead, Some(Cause::Infrastructure)));
        assert_eq!(exit(std::slice::from_ref(&same)), Exit::Passed);
        assert_eq!(exit(&[same.clone(), lost.clone()]), Exit::Infrastructure);
        let mixed = [lost, other, same];
        assert_eq!(exit(&mixed), Exit::Subject);
        let text = summary(&mixed);
        assert_eq!(text, "1 of 3 the same, 1 diverged, 1 undecided: it does not do the same each time");
    }
}
