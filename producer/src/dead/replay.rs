//! The job that a replay makes of a dead one. Pure.

use evalfleet_proto::Timestamp;
use evalfleet_proto::ids::{ImageRef, JobId, Lane};
use evalfleet_proto::job::{Job, LimitError};
use evalfleet_proto::units::ByteSize;
use std::time::Duration;

/// What a replay asks otherwise than the dead job did; `None` leaves it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The lane.
    pub lane: Option<Lane>,
    /// The priority, 0 to 9.
    pub priority: Option<u8>,
    /// The image.
    pub image: Option<ImageRef>,
    /// Time on the clock.
    pub wall: Option<Duration>,
    /// Time on the processors.
    pub cpu: Option<Duration>,
    /// Memory.
    pub memory: Option<ByteSize>,
    /// Processes and threads.
    pub processes: Option<u32>,
    /// Growth of the disk.
    pub disk: Option<ByteSize>,
    /// Output.
    pub output: Option<ByteSize>,
}

/// The id of the `nth` replay of a job, from 1.
pub fn replay_id(dead: JobId, nth: u32) -> JobId {
    dead.derived("replay", nth)
}

/// The `nth` job that repeats `dead`: the same question but for `changes`, asked `now`, as if never tried.
///
/// Its id is derived from the dead job's own: a replay that is interrupted, or made again by mistake, is
/// the same job, and a replay that dies has replays of its own. A deadline that has passed is dropped, or
/// the replay could only expire.
///
/// # Errors
/// When a changed limit cannot be kept.
pub fn replay_of(dead: &Job, changes: &Changes, nth: u32, now: Timestamp) -> Result<Job, LimitError> {
    let mut limits = dead.limits.clone();
    limits.wall = changes.wall.unwrap_or(limits.wall);
    limits.cpu = changes.cpu.unwrap_or(limits.cpu);
    limits.memory = changes.memory.unwrap_or(limits.memory);
    limits.processes = changes.processes.unwrap_or(limits.processes);
    limits.disk = changes.disk.unwrap_or(limits.disk);
    limits.output = changes.output.unwrap_or(limits.output);
    limits.check()?;
    Ok(Job {
        id: replay_id(dead.id, nth),
        replay_of: Some(dead.id),
        attempts: Vec::new(),
        submitted: now,
        deadline: dead.deadline.filter(|deadline| *deadline > now),
        lane: changes.lane.clone().unwrap_or_else(|| dead.lane.clone()),
        priority: changes.priority.unwrap_or(dead.priority),
        image: changes.image.clone().unwrap_or_else(|| dead.image.clone()),
        limits,
        ..dead.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use evalfleet_proto::job::Attempt;
    use evalfleet_proto::status::Cause;
    use evalfleet_proto::submission::{Defaults, Submission};

    fn dead() -> Job {
        let defaults = Defaults { image: "base".parse().unwrap(), now: Timestamp::UNIX_EPOCH };
        let mut job = Submission::command(["true"]).into_job(&defaults).unwrap();
        job.deadline = Some(Timestamp::from_second(10).unwrap());
        job.attempts.push(Attempt {
            number: 1,
            worker: "w".to_owned(),
            cause: Cause::Infrastructure,
            error: "the VM died".to_owned(),
            ended: Timestamp::UNIX_EPOCH,
        });
        job
    }

    fn replay(dead: &Job, nth: u32, second: i64) -> Job {
        replay_of(dead, &Changes::default(), nth, Timestamp::from_second(second).unwrap()).unwrap()
    }

    #[test]
    fn a_replay_asks_the_same_again_under_an_id_of_its_own() {
        let (dead, now) = (dead(), Timestamp::from_second(100).unwrap());
        let replay = replay(&dead, 1, 100);
        assert_eq!((replay.replay_of, replay.attempt(), replay.submitted), (Some(dead.id), 1, now));
        assert_eq!((&replay.task, replay.deadline), (&dead.task, None));
        assert_ne!(replay.id, dead.id);
    }

    #[test]
    fn a_repeated_replay_is_the_same_job_and_a_replay_of_a_replay_is_another() {
        let dead = dead();
        let first = replay(&dead, 1, 5);
        assert_eq!(first.id, replay(&dead, 1, 7).id);
        assert_eq!(first.deadline, dead.deadline);
        assert_ne!(first.id, replay(&dead, 2, 5).id, "unless a second one is wanted");
        let second = replay(&first, 1, 5);
        assert_eq!(second.replay_of, Some(first.id));
        assert!(second.id != first.id && second.id != dead.id);
    }

    #[test]
    fn what_is_to_be_otherwise_is_and_the_rest_stays() {
        let (dead, now) = (dead(), Timestamp::UNIX_EPOCH);
        let changes = Changes {
            lane: Some(Lane::urgent()),
            wall: Some(Duration::from_secs(77)),
            memory: Some(ByteSize::mib(512)),
            ..Changes::default()
        };
        let changed = replay_of(&dead, &changes, 1, now).unwrap();
        assert_eq!((changed.lane, changed.limits.wall), (Lane::urgent(), Duration::from_secs(77)));
        assert_eq!((changed.limits.memory, changed.limits.cpu), (ByteSize::mib(512), dead.limits.cpu));
        let impossible = Changes { wall: Some(Duration::ZERO), ..Changes::default() };
        assert!(replay_of(&dead, &impossible, 1, now).unwrap_err().to_string().contains("wall"));
    }
}
