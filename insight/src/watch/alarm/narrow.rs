//! Who is to blame for what is confirmed, before people are told: what all that is bad has alike, or the first of several
//! versions that is worse. Pure.

use super::{Alarm, Deed, ROUND, clock};
use crate::watch::bisect::Bisect;
use crate::watch::culprit::{culprit, is_of_another, is_of_origin};
use evalfleet_proto::Timestamp;
use evalfleet_proto::alert::{Culprit, Rerun};
use std::time::Duration;

/// How long people wait for the first version that is worse.
const NARROW: Duration = Duration::from_secs(900);

impl Alarm {
    /// Runs again what lies between the last version that was well and the first that is known to be bad, once all is
    /// decided (`at`). None where there is nothing (more) to find out; without deeds while an answer is waited for.
    pub(super) fn narrow(&mut self, at: Timestamp, now: Timestamp) -> Option<Vec<Deed>> {
        if self.bisect.is_none() {
            self.bisect = self.begin_bisect();
        }
        let bisect = self.bisect.as_ref()?;
        let patience = clock(self.alert.suspected).saturating_add(self.bounds.life.confirm_within);
        if clock(now) >= patience.min(clock(at) + NARROW) {
            return None;
        }
        if self.pending().any(|rerun| rerun.between.is_some()) {
            return Some(Vec::new());
        }
        let (of, value) = bisect.next()?;
        let room = self.room().min(ROUND - 1);
        let asked = self.asked();
        let deed = |nth| {
            let id = self.alert.id.rerun(of, nth);
            let (between, worker, outcome) = (Some(value.clone()), None, None);
            self.alert.reruns.push(Rerun { id, of, before: false, between, worker, outcome });
            Deed::Rerun { alert: self.alert.id, of, id }
        };
        let deeds: Vec<Deed> = (asked..asked + room).map(deed).collect();
        if deeds.is_empty() {
            return None;
        }
        Some(std::iter::once(self.record()).chain(deeds).collect())
    }

    /// None where versions, agents and images are not to blame, or cannot be told apart.
    fn begin_bisect(&mut self) -> Option<Bisect> {
        let lineage = std::mem::take(&mut self.lineage);
        let (bad, good) = (&self.witnesses.0, &self.witnesses.1);
        let last = bad.iter().rev().find(|one| self.bad.contains(&one.id))?;
        if self.bounds.reruns_max == 0 || !is_of_another(last, good) {
            return None;
        }
        Bisect::new(&lineage, last.id, self.evidence.rates(), |one| self.fine(one))
    }

    /// What changed when it began, as far as what was run again bears it out.
    pub(super) fn culprit(&self) -> Option<Culprit> {
        let (bad, good) = (&self.witnesses.0, &self.witnesses.1);
        let alike = || culprit(self.alert.kind, bad, good).or_else(|| self.alert.culprit.clone());
        let found = match &self.bisect {
            // Whatever is new in all that is bad, the first of it may have come earlier.
            Some(bisect) => {
                bisect.culprit().or_else(|| alike().filter(|found| !is_of_origin(&found.attribute)))
            }
            None => alike(),
        }?;
        (!self.is_control_bad() || found.attribute == "worker").then_some(found)
    }
}
