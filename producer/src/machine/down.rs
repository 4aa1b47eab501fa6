//! `down`: ends exactly what `up` started, and what a dead supervisor left.

use super::Error;
use super::process::{Process, boot_id};
use super::record::{Asked, Lock, Machine};
use super::up::news;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a supervisor may take to drain its parts.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long a part of a dead supervisor may take.
const ORPHAN_GRACE: Duration = Duration::from_secs(15);

/// What came of `down`.
#[derive(Debug, PartialEq, Eq)]
pub enum Downed {
    /// It was up, and is no more.
    Stopped,
    /// It was not up; so many processes of a dead supervisor were ended.
    NotUp(usize),
}

/// Ends the machine of `state_dir`, telling `tell` the news.
///
/// # Errors
/// When the state directory cannot be used, or the supervisor does not end even when killed.
pub async fn down(state_dir: &Path, mut tell: impl FnMut(String)) -> Result<Downed, Error> {
    let failed = |source| Error::State { dir: state_dir.to_owned(), source };
    if !state_dir.exists() {
        return Ok(Downed::NotUp(0));
    }
    let asked = Instant::now();
    let mut told = false;
    let mut before: Option<Machine> = None;
    let mut holder = None;
    loop {
        match Lock::ask(state_dir).map_err(failed)? {
            Asked::Got(_lock) => {
                let orphans = clean_up_after(state_dir).await;
                return Ok(if told { Downed::Stopped } else { Downed::NotUp(orphans) });
            }
            Asked::Held(who) => holder = who.or(holder),
        }
        if let Some(supervisor) = holder {
            if !told {
                supervisor.terminate();
                told = true;
            }
            if asked.elapsed() > PATIENCE {
                tell(format!("the supervisor (pid {}) takes too long, and is killed", supervisor.pid));
                kill(supervisor).await?;
            }
        } else if asked.elapsed() > PATIENCE {
            return Err(Error::Stubborn { pid: 0 });
        }
        if let Some(machine) = Machine::read(state_dir) {
            if before.is_some() {
                news(before.as_ref(), &machine).into_iter().for_each(&mut tell);
            }
            before = Some(machine);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn kill(supervisor: Process) -> Result<(), Error> {
    if supervisor.is_alive() {
        // Its children are in groups of their own and are cleaned up next.
        rustix::process::Pid::from_raw(supervisor.pid)
            .map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
    }
    let until = Instant::now() + Duration::from_secs(5);
    while supervisor.is_alive() {
        if Instant::now() > until {
            return Err(Error::Stubborn { pid: supervisor.pid });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Ends what a dead supervisor left, and counts it. Only for the holder of the lock.
pub(super) async fn clean_up_after(state_dir: &Path) -> usize {
    let Some(machine) = Machine::read(state_dir) else { return 0 };
    let mut ended = 0;
    // After a boot, every pid is somebody else's.
    if machine.boot == boot_id() {
        for part in machine.parts.iter().rev() {
            let Some(process) = part.process().filter(|process| process.group_is_alive()) else { continue };
            tracing::info!(part = %part.name, pid = process.pid, "stopping an orphan");
            process.stop(ORPHAN_GRACE).await;
            ended += 1;
        }
    }
    Machine::forget(state_dir);
    ended
}
