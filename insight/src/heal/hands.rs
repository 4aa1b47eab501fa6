//! What healings do to the fleet. All of it may be done twice: that changes nothing.

use super::detect::image::IMAGE;
use super::detect::tool::TOOL;
use super::detect::worker::WORKER;
use crate::desk::Desk;
use crate::problem::Problem;
use evalfleet::toolbox::{Entry, Quarantine};
use evalfleet_images::digest::Digest;
use evalfleet_images::store::Store;
use evalfleet_proto::Timestamp;
use evalfleet_proto::control::REASON_CHARS_MAX;
use evalfleet_proto::healing::{Change, Healing, Remedy};
use evalfleet_proto::ids::WorkerId;
use evalfleet_service::settings::Settings;

/// Who applies remedies, and takes them back.
pub trait Hands: Send + Sync {
    /// Applies a healing's remedy.
    fn apply(&self, healing: &Healing) -> impl Future<Output = Result<(), Problem>> + Send;

    /// Takes it back.
    fn undo(&self, healing: &Healing) -> impl Future<Output = Result<(), Problem>> + Send;
}

/// The hands of a fleet.
#[derive(Debug)]
pub struct OfFleet<'a> {
    desk: &'a Desk,
    quarantine: Quarantine,
    images: Store,
}

impl<'a> OfFleet<'a> {
    /// Hands that reach workers over the broker that `desk` has, and what is on the machine that `settings` describe.
    pub fn new(desk: &'a Desk, settings: &Settings) -> Self {
        Self {
            desk,
            quarantine: Quarantine::in_dir(&settings.state_dir()),
            images: Store::new(settings.images_dir()),
        }
    }

    fn quarantine(&self, healing: &Healing) -> Result<(), Problem> {
        let tool = of(healing, TOOL)?.to_owned();
        let first = healing.evidence.iter().find_map(|one| one.evaluations.first());
        let evaluation = *first.ok_or_else(|| unknown(healing))?;
        let because = because(healing);
        let entry = Entry { tool, evaluation, because, since: Timestamp::now() };
        self.quarantine.put(entry).map_err(|error| Problem::unavailable(format!("the quarantine: {error}")))
    }

    fn release(&self, healing: &Healing) -> Result<(), Problem> {
        let tool = of(healing, TOOL)?;
        let failed = |error| Problem::unavailable(format!("the quarantine: {error}"));
        // Who put it there for another reason means it still.
        let is_ours = |entry: &Entry| entry.because == because(healing);
        if self.quarantine.of(tool).map_err(failed)?.as_ref().is_some_and(is_ours) {
            self.quarantine.release(tool).map_err(failed)?;
        }
        Ok(())
    }

    /// Makes an image's name mean `to`, where it means `from`.
    fn switch(&self, healing: &Healing, from: &str, to: &str) -> Result<(), Problem> {
        let name = of(healing, IMAGE)?;
        let digest = |text: &str| {
            let digits = text.trim_start_matches("sha256:").to_owned();
            Digest::try_from(digits).map_err(|error| Problem::misfit(error.to_string()))
        };
        let (from, to) = (digest(from)?, digest(to)?);
        let means = self.images.switch(name, &from, &to).map_err(|error| {
            let problem = if matches!(error, evalfleet_images::store::Error::Locked(_)) {
                Problem::unavailable
            } else {
                Problem::misfit
            };
            problem(error.to_string())
        })?;
        if means.as_ref() == Some(&to) {
            return Ok(());
        }
        Err(Problem::misfit(format!(
            "the image {name} means neither {from} nor {to} any more: it was built anew"
        )))
    }
}

/// What the list of tools in quarantine says.
fn because(healing: &Healing) -> String {
    format!("{} (healing {})", healing.message, healing.id)
}

fn of<'h>(healing: &'h Healing, attribute: &str) -> Result<&'h str, Problem> {
    healing.subject.strip_prefix(attribute).ok_or_else(|| unknown(healing))
}

fn worker(healing: &Healing) -> Result<WorkerId, Problem> {
    of(healing, WORKER)?.parse().map_err(|error| Problem::misfit(format!("{error}")))
}

fn change(healing: &Healing) -> Result<&Change, Problem> {
    healing.change.as_ref().ok_or_else(|| unknown(healing))
}

fn unknown(healing: &Healing) -> Problem {
    Problem::misfit(format!(
        "this build does not know how to {} {}",
        healing.remedy.as_str(),
        healing.subject
    ))
}

impl Hands for OfFleet<'_> {
    async fn apply(&self, healing: &Healing) -> Result<(), Problem> {
        match healing.remedy {
            Remedy::Drain => {
                let why = format!("healing {}: {}", healing.id, healing.message);
                let why: String = why.chars().take(REASON_CHARS_MAX).collect();
                self.desk.drain(&worker(healing)?, Some(&why)).await
            }
            Remedy::Quarantine => self.quarantine(healing),
            Remedy::RollBack => self.switch(healing, &change(healing)?.from, &change(healing)?.to),
            // A worker makes the template anew, the supervisor starts the part again, and that it was found is told.
            Remedy::Rebuild | Remedy::Restart | Remedy::Alert => Ok(()),
            Remedy::Unknown => Err(unknown(healing)),
        }
    }

    async fn undo(&self, healing: &Healing) -> Result<(), Problem> {
        match healing.remedy {
            Remedy::Drain => self.desk.resume(&worker(healing)?).await,
            Remedy::Quarantine => self.release(healing),
            Remedy::RollBack => self.switch(healing, &change(healing)?.to, &change(healing)?.from),
            Remedy::Rebuild | Remedy::Restart | Remedy::Alert | Remedy::Unknown => Err(unknown(healing)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evalfleet_proto::healing::State;
    use evalfleet_proto::ids::HealingId;
    use evalfleet_service::settings::Layers;

    fn settings(dir: &std::path::Path) -> Settings {
        let environment = vec![("EVALFLEET_STATE__DIR".to_owned(), dir.display().to_string())];
        Settings::from_layers(&Layers { environment, ..Layers::default() }).unwrap()
    }

    fn healing(remedy: Remedy, subject: &str) -> Healing {
        Healing {
            id: HealingId::of("x", subject, Timestamp::UNIX_EPOCH, "x"),
            subject: subject.to_owned(),
            remedy,
            ..crate::testing::healing(State::Proposed)
        }
    }

    #[tokio::test]
    async fn a_tool_is_put_away_and_let_out_as_often_as_it_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let (desk, list) = (Desk::new(&settings), Quarantine::in_dir(dir.path()));
        let hands = OfFleet::new(&desk, &settings);
        let one = healing(Remedy::Quarantine, "tool=bomb");
        for _ in 0..2 {
            hands.apply(&one).await.unwrap();
            assert!(list.of("bomb").unwrap().unwrap().because.contains(&one.id.to_string()));
        }
        for _ in 0..2 {
            hands.undo(&one).await.unwrap();
            assert_eq!(list.of("bomb").unwrap(), None);
        }
        // What somebody else put there stays.
        hands.apply(&one).await.unwrap();
        let other = Healing { message: "found bad by its cases".to_owned(), ..one.clone() };
        hands.undo(&other).await.unwrap();
        assert!(list.of("bomb").unwrap().is_some());
    }

    #[tokio::test]
    async fn what_is_not_known_is_refused_for_good_and_what_others_do_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let desk = Desk::new(&settings);
        let hands = OfFleet::new(&desk, &settings);
        for (remedy, subject) in [
            (Remedy::Unknown, "worker=a"),
            (Remedy::Quarantine, "worker=a"),
            (Remedy::Drain, "worker=a b"),
            (Remedy::RollBack, "image=base"),
        ] {
            let problem = hands.apply(&healing(remedy, subject)).await.unwrap_err();
            assert!(!problem.is_passing(), "{remedy:?}: {problem:?}");
        }
        hands.apply(&healing(Remedy::Restart, "part=gateway")).await.unwrap();
    }
}
