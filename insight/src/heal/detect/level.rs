//! What is not well as long as it can be seen so: a part that ended, a queue that stands still, results that nobody
//! records, a disk that is full, a template that failed. Pure.

use super::{Course, Finding, Known};
use crate::heal::rules::Rule;
use crate::heal::seen::{Disk, Part, Seen, Waiting};
use crate::heal::words;
use evalfleet_proto::Timestamp;
use evalfleet_proto::healing::{Detector, Evidence, Healing};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What is not well by `rule`, however often it was found.
pub(super) fn find(rule: &Rule, seen: &Seen, known: &Known<'_>) -> Vec<Finding> {
    let found = match rule.detector {
        Detector::DeadPart => parts(seen),
        Detector::StuckQueue => stuck(rule, seen, known.now),
        Detector::SilentRecorder => silent(rule, seen, known.now),
        Detector::FullDisk => disks(rule, seen, known.now),
        Detector::BadTemplate => templates(seen),
        Detector::BadWorker | Detector::PoisonTool | Detector::BadImage | Detector::Unknown => Vec::new(),
    };
    let is_fresh = |one: &Finding| known.counts(&one.subject, one.since) && one.since >= begin(known);
    found.into_iter().filter(is_fresh).collect()
}

fn begin(known: &Known<'_>) -> Timestamp {
    known.now.checked_sub(known.window).unwrap_or(Timestamp::MIN)
}

/// Parts that are not there, or that had to be started again.
fn parts(seen: &Seen) -> Vec<Finding> {
    let ended = |part: &&Part| part.restarts > 0 || part.state == "failed";
    let found = |part: &Part| {
        let how = part.last_end.as_deref().unwrap_or("it is not known how");
        Finding {
            subject: format!("part={}", part.name),
            since: part.since,
            first: format!("{} restarts", part.restarts),
            message: words::dead_part(&part.name, how),
            evidence: vec![
                Evidence::new(words::cut(&format!("it ended: {how}"))),
                Evidence {
                    count: Some(part.restarts.into()),
                    ..Evidence::new("times that it was started again")
                },
            ],
            change: None,
        }
    };
    seen.parts.iter().filter(ended).map(found).collect()
}

/// Queues whose jobs wait while no worker does anything.
fn stuck(rule: &Rule, seen: &Seen, now: Timestamp) -> Vec<Finding> {
    let Some(active) = seen.active else { return Vec::new() };
    let of_queue = |(name, waiting): (&String, &Waiting)| {
        let since = waiting.since.max(active);
        let is_stuck = name.starts_with("eval.jobs.") && passed(since, now) >= rule.lasts;
        is_stuck.then(|| {
            let mut evidence =
                vec![Evidence { count: Some(waiting.messages.into()), ..Evidence::new("jobs wait") }];
            evidence.extend(
                seen.unable.iter().map(|(worker, why)| {
                    Evidence::new(words::cut(&format!("{worker} can make no VM: {why}")))
                }),
            );
            Finding {
                subject: format!("queue={name}"),
                since,
                first: name.clone(),
                message: words::stuck_queue(name, waiting.messages, passed(since, now), seen.unable.len()),
                evidence,
                change: None,
            }
        })
    };
    seen.waiting.iter().filter_map(of_queue).collect()
}

/// Results that wait while nothing is recorded.
fn silent(rule: &Rule, seen: &Seen, now: Timestamp) -> Vec<Finding> {
    let queue = evalfleet_proto::topology::RESULTS_QUEUE;
    let (Some(waiting), Some(recorded)) = (seen.waiting.get(queue), seen.recorded) else { return Vec::new() };
    let since = waiting.since.max(recorded);
    if passed(since, now) < rule.lasts {
        return Vec::new();
    }
    let count = Evidence { count: Some(waiting.messages.into()), ..Evidence::new("results wait") };
    vec![Finding {
        subject: "part=recorder".to_owned(),
        since,
        first: queue.to_owned(),
        message: words::silent_recorder(waiting.messages, passed(since, now)),
        evidence: vec![count],
        change: None,
    }]
}

/// Disks that are nearly full.
fn disks(rule: &Rule, seen: &Seen, now: Timestamp) -> Vec<Finding> {
    let used = |free: u64, size: u64| 1.0 - free as f64 / size.max(1) as f64;
    let full = seen.disks.iter().filter(|disk| used(disk.free, disk.size) >= rule.share_min);
    let found = |disk: &Disk| Finding {
        subject: format!("disk={}", disk.path),
        since: disk.full_since.unwrap_or(now),
        first: disk.path.clone(),
        message: words::full_disk(&disk.path, disk.free, disk.size),
        evidence: vec![Evidence::new("bytes free").counted(disk.free, disk.size)],
        change: None,
    };
    full.map(found).collect()
}

/// Templates that failed.
fn templates(seen: &Seen) -> Vec<Finding> {
    let found = |(key, (since, why)): (&String, &(Timestamp, String))| Finding {
        subject: format!("template={key}"),
        since: *since,
        first: key.clone(),
        message: words::bad_template(key, why),
        evidence: vec![Evidence::new(words::cut(why))],
        change: None,
    };
    seen.failed_templates.iter().map(found).collect()
}

fn passed(since: Timestamp, now: Timestamp) -> Duration {
    now.duration_since(since).try_into().unwrap_or(Duration::ZERO)
}

/// It is past once it is not seen any more.
pub(super) fn course(
    rule: &Rule,
    healing: &Healing,
    seen: &Seen,
    now: Timestamp,
    window: Duration,
) -> Course {
    if healing.detector == Detector::DeadPart {
        let part = seen.parts.iter().find(|part| healing.subject == format!("part={}", part.name));
        return match part {
            Some(part) if part.state == "ready" => {
                Course::Past(part.since, format!("{} is ready again", part.name))
            }
            Some(_) | None => Course::Open,
        };
    }
    let known = Known { now, window, open: BTreeSet::new(), ended: &BTreeMap::new() };
    let lasts = find(rule, seen, &known).iter().any(|one| one.subject == healing.subject);
    if lasts { Course::Open } else { Course::Past(now, "it is not seen any more".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heal::rules::RULES;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_750_000_000 + second).unwrap()
    }

    fn found(detector: Detector, seen: &Seen, now: i64, ended: Option<i64>) -> Vec<Finding> {
        let rule = RULES.iter().find(|rule| rule.detector == detector).unwrap();
        let ended = ended.map(|ended| ("part=gateway".to_owned(), at(ended))).into_iter().collect();
        let window = Duration::from_secs(900);
        find(rule, seen, &Known { now: at(now), window, open: BTreeSet::new(), ended: &ended })
    }

    fn part(state: &str, restarts: u32, since: i64) -> Seen {
        let (name, state) = ("gateway".to_owned(), state.to_owned());
        let last_end = Some("signal 9".to_owned());
        Seen { parts: vec![Part { name, state, restarts, since: at(since), last_end }], ..Seen::default() }
    }

    #[test]
    fn a_part_that_was_started_again_is_found_once_and_one_that_runs_is_not() {
        let of = |seen: &Seen, ended| found(Detector::DeadPart, seen, 100, ended).len();
        assert_eq!(of(&part("ready", 0, 50), None), 0);
        assert_eq!(of(&part("starting", 1, 50), None), 1);
        assert_eq!(of(&part("ready", 1, 90), None), 1);
        assert_eq!(of(&part("ready", 1, 90), Some(95)), 0, "it was healed");
        assert_eq!(of(&part("ready", 1, -900), None), 0, "that is long ago");
        let message = &found(Detector::DeadPart, &part("ready", 1, 90), 100, None)[0].message;
        assert!(message.contains("gateway") && message.contains("signal 9"), "{message}");
    }

    #[test]
    fn a_queue_is_stuck_where_jobs_wait_and_nothing_happens_for_a_while() {
        let waiting =
            |since, messages| [("eval.jobs.default".to_owned(), Waiting { messages, since: at(since) })];
        let seen = |since, active: Option<i64>| Seen {
            waiting: waiting(since, 7).into(),
            active: active.map(at),
            unable: [("w1".to_owned(), "no image".to_owned())].into(),
            ..Seen::default()
        };
        let of = |seen: &Seen, now| found(Detector::StuckQueue, seen, now, None);
        assert_eq!(of(&seen(0, Some(0)), 30).len(), 0);
        let stuck = of(&seen(0, Some(0)), 200);
        assert!(stuck[0].message.contains("7 jobs"), "{}", stuck[0].message);
        assert!(stuck[0].evidence.iter().any(|one| one.text.contains("no image")));
        assert_eq!(of(&seen(0, Some(190)), 200).len(), 0, "somebody works");
        assert_eq!(of(&seen(190, Some(0)), 200).len(), 0, "they have just come");
    }

    #[test]
    fn a_recorder_is_silent_where_results_wait_and_nothing_is_recorded() {
        let waiting = [("eval.results.recorder".to_owned(), Waiting { messages: 9, since: at(0) })];
        let seen = |recorded| Seen {
            waiting: waiting.clone().into(),
            recorded: Some(at(recorded)),
            ..Seen::default()
        };
        let of = |seen: &Seen, now| found(Detector::SilentRecorder, seen, now, None).len();
        assert_eq!((of(&seen(0), 10), of(&seen(0), 200), of(&seen(195), 200)), (0, 1, 0));
    }

    #[test]
    fn a_disk_is_full_where_hardly_anything_is_free() {
        let seen = |free| Seen {
            disks: vec![Disk { path: "/state".to_owned(), free, size: 1000, full_since: Some(at(0)) }],
            ..Seen::default()
        };
        let of = |seen: &Seen| found(Detector::FullDisk, seen, 10, None).len();
        assert_eq!((of(&seen(500)), of(&seen(20))), (0, 1));
    }
}
