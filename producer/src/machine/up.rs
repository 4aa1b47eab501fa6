//! `up`: in the foreground, or split off and watched until everything is ready.

use super::down::clean_up_after;
use super::files::{log_path, make_private_dir, open_log, tail};
use super::process::Process;
use super::record::{Asked, Lock, Machine, PartRecord};
use super::{Error, Order, Plan, State, Stop, Supervisor};
use evalfleet_service::settings::Settings;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::sync::watch;

/// How often the watcher of a split-off supervisor looks.
const LOOK: Duration = Duration::from_millis(100);
/// Lines of a log that an error shows.
const TAIL_LINES: usize = 12;

/// What came of `up`.
#[derive(Debug)]
pub enum Upped {
    /// Everything is ready, and goes on without us.
    Ready(Box<Machine>),
    /// It was up before.
    Already(Option<Process>, Option<Box<Machine>>),
    /// It was up, and has been stopped.
    Ended,
}

/// Runs the machine in this process until `stop`, telling `tell` the news.
///
/// # Errors
/// When something that is needed is missing; nothing is running then.
pub async fn run_here(
    settings: &Settings,
    order: &Order,
    stop: Stop,
    mut tell: impl FnMut(String),
) -> Result<Upped, Error> {
    let state_dir = settings.state_dir();
    let failed = |source| Error::State { dir: state_dir.clone(), source };
    let _lock = match Lock::ask(&state_dir).map_err(failed)? {
        Asked::Got(lock) => lock,
        Asked::Held(holder) => {
            return Ok(Upped::Already(holder, Machine::read(&state_dir).map(Box::new)));
        }
    };
    if clean_up_after(&state_dir).await > 0 {
        tell("stopped what an earlier supervisor had left behind".to_owned());
    }
    let plan = Plan::make(settings, order)?;
    let (supervisor, shown) = Supervisor::new(plan);
    let telling = tell_news(shown, &mut tell);
    tokio::select! {
        biased;
        () = supervisor.run(stop) => {}
        () = telling => {}
    }
    Machine::forget(&state_dir);
    Ok(Upped::Ended)
}

async fn tell_news(mut shown: watch::Receiver<Machine>, tell: &mut impl FnMut(String)) {
    let mut before: Option<Machine> = None;
    loop {
        if shown.changed().await.is_err() {
            // The supervisor ends when it has ended; this has nothing more to say.
            std::future::pending::<()>().await;
        }
        let machine = shown.borrow_and_update().clone();
        news(before.as_ref(), &machine).into_iter().for_each(&mut *tell);
        before = Some(machine);
    }
}

/// What is worth telling between two states of a machine.
pub fn news(before: Option<&Machine>, now: &Machine) -> Vec<String> {
    let earlier = |part: &PartRecord| {
        before.and_then(|before| before.parts.iter().find(|other| other.name == part.name))
    };
    let mut lines = Vec::new();
    for part in &now.parts {
        let then = earlier(part);
        let known = then.is_some_and(|then| (then.state, then.restarts) == (part.state, part.restarts));
        if known || (then.is_none() && part.state == State::Stopped) {
            continue;
        }
        let mut line = format!("{:<12} {}", part.name, part.state.as_str());
        if part.state == State::Ready
            && let Some(then) = then
            && let Ok(took) = Duration::try_from(part.since.duration_since(then.since))
        {
            line += &format!(" after {:.1} s", took.as_secs_f64());
        }
        if matches!(part.state, State::Starting | State::Failed)
            && let Some(end) = part.detail.get("last_end").and_then(|end| end.as_str())
        {
            line += &format!(" (again: {end})");
        }
        lines.push(line);
    }
    if now.parts.iter().all(|part| part.state == State::Ready) && !now.parts.is_empty() {
        lines.push(match &now.api {
            Some(api) => format!("everything is ready: {api}"),
            None => "everything is ready".to_owned(),
        });
    }
    lines
}

/// Splits a supervisor off by starting this program again with `args`, and returns when everything is
/// ready. When a part fails, or the program ends, everything is stopped again.
///
/// # Errors
/// Names the part that failed, with the end of its log.
pub async fn up_detached(
    settings: &Settings,
    args: &[String],
    mut tell: impl FnMut(String),
) -> Result<Upped, Error> {
    let state_dir = settings.state_dir();
    let failed = |source| Error::State { dir: state_dir.clone(), source };
    match Lock::ask(&state_dir).map_err(failed)? {
        Asked::Held(holder) => {
            return Ok(Upped::Already(holder, Machine::read(&state_dir).map(Box::new)));
        }
        // The other process takes it: whoever is first has it.
        Asked::Got(lock) => drop(lock),
    }
    make_private_dir(&state_dir.join("logs")).map_err(failed)?;
    let log_file = log_path(&state_dir, "supervisor");
    let log = open_log(&log_file).map_err(failed)?;
    let exe = std::env::current_exe().map_err(Error::Spawn)?;
    let mut command = tokio::process::Command::new(exe);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(false);
    let mut child = command.spawn().map_err(Error::Spawn)?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());

    let mut before: Option<Machine> = None;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(gone(&log_file, &status.to_string()));
        }
        let machine = Machine::read(&state_dir).filter(|machine| Some(machine.supervisor.pid) == pid);
        if let Some(machine) = machine {
            news(before.as_ref(), &machine).into_iter().for_each(&mut tell);
            if let Some(part) = machine.parts.iter().find(|part| part.state == State::Failed) {
                let error = of_part(&state_dir, part);
                tell("stopping the rest".to_owned());
                super::down(&state_dir, &mut tell).await?;
                return Err(error);
            }
            if !machine.parts.is_empty() && machine.parts.iter().all(|part| part.state == State::Ready) {
                return Ok(Upped::Ready(Box::new(machine)));
            }
            before = Some(machine);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn of_part(state_dir: &Path, part: &PartRecord) -> Error {
    let log = log_path(state_dir, &part.name);
    let end = part.detail.get("last_end").and_then(|end| end.as_str()).unwrap_or("it is not ready in time");
    Error::Failed { part: part.name.clone(), end: end.to_owned(), tail: tail(&log, TAIL_LINES), log }
}

fn gone(log: &Path, end: &str) -> Error {
    let (part, end) = ("the supervisor".to_owned(), end.to_owned());
    Error::Failed { part, end, tail: tail(log, TAIL_LINES), log: log.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;
    use evalfleet_proto::Timestamp;
    use serde_json::json;

    fn machine(states: &[(&str, State, i64)]) -> Machine {
        let part = |(name, state, second): &(&str, State, i64)| PartRecord {
            name: (*name).to_owned(),
            kind: Kind::Worker,
            pid: None,
            began: None,
            state: *state,
            since: Timestamp::from_second(*second).unwrap(),
            restarts: 0,
            port: None,
            detail: json!({}),
        };
        Machine {
            state_dir: "/s".into(),
            boot: "b".to_owned(),
            supervisor: Process { pid: 1, began: 1 },
            since: Timestamp::UNIX_EPOCH,
            parts: states.iter().map(part).collect(),
            api: None,
        }
    }

    #[test]
    fn only_what_changed_is_news() {
        let before = machine(&[("broker", State::Starting, 1), ("worker-1", State::Stopped, 0)]);
        assert_eq!(news(None, &before), ["broker       starting"]);
        assert!(news(Some(&before), &before).is_empty());
        let after = machine(&[("broker", State::Ready, 15), ("worker-1", State::Starting, 15)]);
        assert_eq!(news(Some(&before), &after), ["broker       ready after 14.0 s", "worker-1     starting"]);
        let done = machine(&[("broker", State::Ready, 15), ("worker-1", State::Ready, 20)]);
        assert_eq!(news(Some(&after), &done), ["worker-1     ready after 5.0 s", "everything is ready"]);
    }
}
