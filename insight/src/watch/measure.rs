//! What is measured of an evaluation and watched, beside whether it passed: of whom it tells, in what unit, and from when
//! on more of it matters. Pure.

use super::sighting::Sighting;
use evalfleet_proto::alert::{Kind, Level};

const MIB: f64 = 1_048_576.0;
/// What is less more than this, as a share, interests nobody.
const MORE_MIN: f64 = 0.3;

/// Something that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Measure {
    /// The subject's own time on the clock, in milliseconds.
    Time,
    /// The most memory beyond the template, in bytes.
    Memory,
    /// Written to the disks, in bytes.
    Disk,
    /// Making the clean VM, in milliseconds.
    Reset,
}

impl Measure {
    /// Those that are the subject's own.
    pub(super) const OF_SUBJECTS: [Self; 3] = [Self::Time, Self::Memory, Self::Disk];

    /// What an alert of this kind is about; none where it is not about an amount.
    pub(super) fn of_kind(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Slower => Some(Self::Time),
            Kind::Memory => Some(Self::Memory),
            Kind::Disk => Some(Self::Disk),
            Kind::Reset => Some(Self::Reset),
            Kind::Failing | Kind::Unknown => None,
        }
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Time => Kind::Slower,
            Self::Memory => Kind::Memory,
            Self::Disk => Kind::Disk,
            Self::Reset => Kind::Reset,
        }
    }

    /// How much it was; none where that was not measured, or says nothing: what failed may have stopped early. A reset is
    /// nobody's doing, so it counts whatever came after it.
    pub(super) fn of(self, one: &Sighting) -> Option<f64> {
        let amount = match self {
            Self::Time => one.wall.as_secs_f64() * 1000.0,
            Self::Memory => one.memory as f64,
            Self::Disk => one.disk as f64,
            Self::Reset => one.reset.as_secs_f64() * 1000.0,
        };
        let counts = self == Self::Reset || one.outcome == Some(true);
        (counts && amount > 0.0).then_some(amount)
    }

    /// Whether so much more is worth a word.
    pub(super) fn matters(self, before: f64, after: f64) -> bool {
        let least = match self {
            Self::Time | Self::Reset => 20.0,
            Self::Memory => 8.0 * MIB,
            Self::Disk => MIB,
        };
        let more = after - before;
        more > before * MORE_MIN && more > least
    }

    /// What a level says of it.
    pub(super) fn at(self, level: &Level) -> Option<f64> {
        match self {
            Self::Time => level.wall_ms,
            Self::Memory => level.memory_bytes,
            Self::Disk => level.disk_bytes,
            Self::Reset => level.reset_ms,
        }
    }

    /// The level with this amount.
    pub(super) fn put(self, level: Level, amount: f64) -> Level {
        let amount = Some(amount);
        match self {
            Self::Time => Level { wall_ms: amount, ..level },
            Self::Memory => Level { memory_bytes: amount, ..level },
            Self::Disk => Level { disk_bytes: amount, ..level },
            Self::Reset => Level { reset_ms: amount, ..level },
        }
    }

    /// What became worse, as a sentence goes on after the name.
    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::Time => "takes longer",
            Self::Memory => "takes more memory",
            Self::Disk => "writes more to its disk",
            Self::Reset => "takes longer to make clean VMs",
        }
    }

    /// An amount with its unit.
    pub(super) fn in_words(self, amount: f64) -> String {
        match self {
            Self::Time | Self::Reset => format!("{amount:.0} ms"),
            Self::Memory | Self::Disk => format!("{:.1} MiB", amount / MIB),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::testing::one;
    use std::time::Duration;

    const ALL: [Measure; 4] = [Measure::Time, Measure::Memory, Measure::Disk, Measure::Reset];

    #[test]
    fn each_has_a_kind_and_a_place_of_its_own_in_a_level() {
        for measure in ALL {
            assert_eq!(Measure::of_kind(measure.kind()), Some(measure));
            let level = measure.put(Level::default(), 7.0);
            let said: Vec<_> = ALL.iter().filter_map(|other| other.at(&level)).collect();
            assert_eq!((measure.at(&level), said), (Some(7.0), vec![7.0]));
        }
        assert_eq!(Measure::of_kind(Kind::Failing), None);
    }

    #[test]
    fn what_failed_or_was_not_measured_says_nothing_but_of_its_reset() {
        let reset = Duration::from_millis(300);
        let failed = Sighting { outcome: Some(false), memory: 9, disk: 9, reset, ..one(0) };
        assert_eq!(ALL.map(|measure| measure.of(&failed)), [None, None, None, Some(300.0)]);
        let bare = Sighting { outcome: Some(true), wall: Duration::ZERO, ..one(0) };
        assert_eq!(ALL.map(|measure| measure.of(&bare)), [None; 4]);
    }

    #[test]
    fn little_more_is_nothing_however_large_its_share() {
        assert!(!Measure::Time.matters(5.0, 20.0) && Measure::Time.matters(100.0, 140.0));
        assert!(
            !Measure::Memory.matters(MIB, 4.0 * MIB) && !Measure::Memory.matters(100.0 * MIB, 120.0 * MIB)
        );
    }
}
