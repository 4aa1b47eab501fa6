//! The ways to a clean VM that are compared.

use evalfleet_proto::units::ByteSize;
use evalfleet_service::settings::{Settings, Strategy};

/// A way to a clean VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// A QEMU of its own that boots and warms up.
    ColdBoot,
    /// A QEMU of its own that loads an internal snapshot.
    SnapshotLoad,
    /// A QEMU of its own that loads memory and devices from one file.
    MappedRam,
    /// A clone that is asked for only now.
    OnDemand,
    /// The same with four times the memory.
    LargeOnDemand,
    /// A clone that stands ready.
    Spare,
    /// The same with four times the memory.
    LargeSpare,
    /// A clone that stands ready, while its successor is being made: what a worker does.
    SpareAtWork,
    /// `snapshot-load` in one QEMU.
    OneQemu,
    /// No reset: one more command in a guest that runs, the floor under all of them.
    Running,
}

/// Which template a way takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Clone,
    Large,
    ColdBoot,
    SnapshotLoad,
    MappedRam,
}

impl Kind {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Self; 5] =
        [Self::Clone, Self::Large, Self::ColdBoot, Self::SnapshotLoad, Self::MappedRam];

    /// The settings that make such a template.
    pub(super) fn settings(self, of: &Settings) -> Settings {
        let mut settings = of.clone();
        settings.qemu.strategy = match self {
            Self::Clone | Self::Large => Strategy::TemplateClone,
            Self::ColdBoot => Strategy::ColdBoot,
            Self::SnapshotLoad => Strategy::SnapshotLoad,
            Self::MappedRam => Strategy::MappedRam,
        };
        if self == Self::Large {
            settings.qemu.memory = ByteSize(4 * settings.qemu.memory.bytes());
        }
        settings
    }

    /// Names its folder.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Clone => "clone",
            Self::Large => "large",
            Self::ColdBoot => "cold",
            Self::SnapshotLoad => "snapshot",
            Self::MappedRam => "mapped",
        }
    }
}

impl Way {
    /// All of them, in the order of the table.
    pub(super) const ALL: [Self; 10] = [
        Self::ColdBoot,
        Self::SnapshotLoad,
        Self::MappedRam,
        Self::OnDemand,
        Self::LargeOnDemand,
        Self::Spare,
        Self::LargeSpare,
        Self::SpareAtWork,
        Self::OneQemu,
        Self::Running,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ColdBoot => "cold boot",
            Self::SnapshotLoad => "snapshot-load, a QEMU of its own",
            Self::MappedRam => "mapped-ram, a QEMU of its own",
            Self::OnDemand => "clone, made on demand",
            Self::LargeOnDemand => "clone, made on demand, four times the memory",
            Self::Spare => "clone, spare ready",
            Self::LargeSpare => "clone, spare ready, four times the memory",
            Self::SpareAtWork => "clone, spare ready, its successor being made",
            Self::OneQemu => "snapshot-load, the same QEMU",
            Self::Running => "no reset, in a guest that runs",
        }
    }

    /// The template that it takes.
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::ColdBoot => Kind::ColdBoot,
            Self::SnapshotLoad => Kind::SnapshotLoad,
            Self::MappedRam => Kind::MappedRam,
            Self::LargeOnDemand | Self::LargeSpare => Kind::Large,
            Self::OnDemand | Self::Spare | Self::SpareAtWork | Self::OneQemu | Self::Running => Kind::Clone,
        }
    }

    /// Whether the VM stands before it is asked for.
    pub(super) fn is_ahead(self) -> bool {
        matches!(self, Self::Spare | Self::LargeSpare | Self::SpareAtWork | Self::Running)
    }
}
