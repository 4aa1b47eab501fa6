//! Every strategy gives a VM that is clean, is itself, and whose effects can be read.
//!
//! Another QEMU can be put to the same trials: `EVALFLEET_TEST_SETTINGS='QEMU__BINARY=/path'`. Those
//! that its version cannot serve soundly must be refused then.

use super::Test;
use super::shift::Shift;
use super::yard::Yard;
use evalfleet_proto::effect::Change;
use evalfleet_proto::status::Status;
use evalfleet_service::settings::Strategy as Wanted;
use evalfleet_worker::vm::{Strategy, accelerator};

pub(crate) const ALL: &[(&str, Test)] = &[
    ("strategies::auto", |yard| serves(yard, Wanted::Auto)),
    ("strategies::template_clone", |yard| serves(yard, Wanted::TemplateClone)),
    ("strategies::mapped_ram", |yard| serves(yard, Wanted::MappedRam)),
    ("strategies::snapshot_load", |yard| serves(yard, Wanted::SnapshotLoad)),
    ("strategies::cold_boot", |yard| serves(yard, Wanted::ColdBoot)),
];

fn serves(yard: &Yard, wanted: Wanted) {
    let version = yard.wait(accelerator::qemu_version(&yard.settings().qemu.binary)).expect("a QEMU");
    let Ok(strategy) = Strategy::choose(wanted, &version) else {
        eprintln!("QEMU {version} does not serve {wanted:?} soundly, and that is said");
        return;
    };
    let mut shift = Shift::with(yard, |settings| settings.qemu.strategy = wanted);
    let ask = "cat /etc/machine-id; uname -n; head -c 16 /dev/urandom | od -An -tx1; date +%s; \
               test ! -e /workspace/mark && echo mark > /workspace/mark && rm /etc/hostname";
    let mut seen: Vec<Vec<String>> = Vec::new();
    for _ in 0..3 {
        let job = shift.script(ask);
        let report = shift.evaluate(&job);
        let now = evalfleet_proto::Timestamp::now().as_second();
        assert_eq!(report.status, Status::Passed, "{report:?}");
        let changes: Vec<_> = report.effects.iter().map(|it| (it.path.as_str(), it.change)).collect();
        assert_eq!(changes, [("/etc/hostname", Change::Deleted), ("/workspace/mark", Change::Created)]);
        let reset = report.provenance.reset.as_ref().expect("it says how it was reset");
        assert_eq!(reset.strategy, strategy.as_str());
        assert_eq!(reset.pages_checked > 0, strategy.maps_memory());
        let lines: Vec<String> = report.stdout.text.lines().map(ToOwned::to_owned).collect();
        let clock: i64 = lines[3].parse().expect("seconds");
        assert!((now - clock).abs() <= 5, "its clock says {clock}, ours {now}");
        assert!(lines[0].len() == 32 && lines[0] != "0".repeat(32), "a machine-id: {lines:?}");
        for other in &seen {
            for (what, (one, another)) in lines.iter().zip(other).take(3).enumerate() {
                assert_ne!(one, another, "line {what} of two VMs");
            }
        }
        seen.push(lines);
    }
    shift.end();
}
