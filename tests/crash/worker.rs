//! A worker whose jobs end as planned.

use crate::plan::{FATE, Fate};
use evalfleet_proto::job::Job;
use evalfleet_tests::stand_in::{Answer, Comes};

/// Ends every job as its label says.
#[derive(Debug)]
pub(crate) struct AsPlanned;

impl Answer for AsPlanned {
    fn of(&mut self, job: &Job) -> Comes {
        let fate = job.labels.get(FATE).map(String::as_str);
        let ours = fate == Some(Fate::Hopeless.word())
            || (fate == Some(Fate::Retried.word()) && job.attempts.is_empty());
        if ours {
            Comes::Fault("as planned".to_owned())
        } else {
            Comes::Exits(i32::from(fate == Some(Fate::Fails.word())))
        }
    }
}
