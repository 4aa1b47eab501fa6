//! The job that a replay makes of a dead one.

use super::Letter;
use evalfleet_proto::Timestamp;
use evalfleet_proto::ids::JobId;
use evalfleet_proto::job::Job;

/// What a replay made of one letter.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The letter.
    pub letter: Letter,
    /// The job that repeats it.
    pub job: Option<JobId>,
    /// Why there is none.
    pub refused: Option<String>,
}

/// The job that repeats `dead`: the same question, asked `now`, as if never tried.
///
/// Its id is derived from the dead job's own: each job has one replay, and a replay that dies has one
/// of its own. A deadline that has passed is dropped, or the replay could only expire.
pub fn replay_of(dead: &Job, now: Timestamp) -> Job {
    Job {
        id: dead.id.derived("replay", 1),
        replay_of: Some(dead.id),
        attempts: Vec::new(),
        submitted: now,
        deadline: dead.deadline.filter(|deadline| *deadline > now),
        ..dead.clone()
    }
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

    #[test]
    fn a_replay_asks_the_same_again_under_an_id_of_its_own() {
        let (dead, now) = (dead(), Timestamp::from_second(100).unwrap());
        let replay = replay_of(&dead, now);
        assert_eq!((replay.replay_of, replay.attempt(), replay.submitted), (Some(dead.id), 1, now));
        assert_eq!((&replay.task, replay.deadline), (&dead.task, None));
        assert_ne!(replay.id, dead.id);
    }

    #[test]
    fn a_repeated_replay_is_the_same_job_and_a_replay_of_a_replay_is_another() {
        let (dead, now) = (dead(), Timestamp::from_second(5).unwrap());
        let replay = replay_of(&dead, now);
        assert_eq!(replay.id, replay_of(&dead, Timestamp::from_second(7).unwrap()).id);
        assert_eq!(replay.deadline, dead.deadline);
        let second = replay_of(&replay, now);
        assert_eq!(second.replay_of, Some(replay.id));
        assert!(second.id != replay.id && second.id != dead.id);
    }
}
