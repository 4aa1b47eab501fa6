//! The supply of VMs on real QEMUs: what a spare costs, and what executes it.

use super::Test;
use super::shift::Shift;
use super::yard::Yard;
use evalfleet_proto::units::ByteSize;
use evalfleet_service::settings::Accelerator;
use evalfleet_worker::supply::Supply;

pub(crate) const ALL: &[(&str, Test)] = &[
    ("supply::a_spare_takes_little_memory", a_spare_takes_little_memory),
    ("supply::never_more_than_two_qemus", never_more_than_two_qemus),
    ("supply::a_qemu_that_does_not_start_says_why", a_qemu_that_does_not_start_says_why),
    ("supply::kvm_is_believed_once_a_vm_boots_in_it", kvm_is_believed_once_a_vm_boots_in_it),
];

/// What an idle spare of 512 MiB may take for itself, beyond its translations.
const SPARE_BYTES_MAX: u64 = 32 << 20;
/// The same under KVM, which makes private what the guest only reads or touches while it wakes: 62 MiB were
/// seen in the lab, 45 of them the guest's.
const SPARE_BYTES_MAX_KVM: u64 = 80 << 20;
/// Few enough translations that a spare with them fits into that as a whole.
const FEW: ByteSize = ByteSize::mib(4);

fn a_spare_takes_little_memory(yard: &Yard) {
    let configured = yard.settings().qemu.translations_max;
    let usual = spare_kib(yard, configured) << 10;
    let (most, translations) = match yard.template().machine().accelerator {
        evalfleet_worker::vm::Accelerator::Kvm => (SPARE_BYTES_MAX_KVM, 0),
        evalfleet_worker::vm::Accelerator::Tcg => (SPARE_BYTES_MAX, configured.bytes()),
    };
    let bound = most + translations;
    assert!(
        usual <= bound,
        "an idle spare takes {usual} bytes for itself, with {configured} of translations"
    );
    let little = spare_kib(yard, FEW) << 10;
    assert!(little <= most, "an idle spare takes {little} bytes for itself, with {FEW}");
}

fn a_qemu_that_does_not_start_says_why(yard: &Yard) {
    let mut settings = yard.settings().clone();
    "no-such-processor".clone_into(&mut settings.qemu.cpu);
    let refusal = yard.wait(async {
        let mut supply = Supply::new(&settings, &"astray".parse().expect("a name")).expect("a folder");
        let refused = supply.warm_up(&settings.client.image).await.expect_err("there is no such processor");
        supply.discard().await;
        refused.to_string()
    });
    assert!(refusal.contains("no-such-processor"), "{refusal}");
}

/// What an idle spare has for itself: pages that are nobody else's and not its template's file.
fn spare_kib(yard: &Yard, translations_max: ByteSize) -> u64 {
    let shift = Shift::with(yard, |settings| {
        settings.qemu.translations_max = translations_max;
        // With few translations everything is translated again and again: how long that takes is no matter here.
        settings.qemu.reset_timeout *= 4;
    });
    let pid = shift.wait_until(|status| status.spare == "ready").spare_pid.expect("it has a process");
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).expect("it is there");
    let (mut mapping, mut sizes) = (String::new(), Vec::new());
    for line in smaps.lines() {
        if let Some(rest) = line.strip_prefix("Private_Dirty:") {
            let kib: u64 = rest.trim().trim_end_matches(" kB").parse().expect("a number");
            sizes.push((kib, mapping.clone()));
        } else if !line.split_ascii_whitespace().next().is_some_and(|word| word.ends_with(':')) {
            mapping = line.to_owned();
        }
    }
    let sum = sizes.iter().map(|(kib, _)| kib).sum();
    sizes.sort_unstable();
    eprintln!("an idle spare with {translations_max} for translations: {sum} KiB, of which");
    for (kib, mapping) in sizes.iter().rev().take(8) {
        eprintln!("  {kib:>8} KiB  {mapping}");
    }
    shift.end();
    sum
}

fn never_more_than_two_qemus(yard: &Yard) {
    let mut shift = Shift::begin(yard);
    for scenario in [None, Some("cold"), None] {
        let mut job = shift.script("sleep 1");
        job.scenario = scenario.map(ToOwned::to_owned);
        let report = shift.evaluate(&job);
        assert_eq!(report.cause, None, "{report:?}");
        assert!(shift.qemus().len() <= 2, "{:?}", shift.qemus());
    }
    let counts = shift.supply().borrow().counts;
    assert_eq!(counts.claims, 3);
    assert!(counts.waits >= 2, "a job of another kind has to wait: {counts:?}");
    shift.end();
}

fn kvm_is_believed_once_a_vm_boots_in_it(yard: &Yard) {
    let boots = |accelerator| {
        let mut settings = yard.settings().clone();
        settings.qemu.accelerator = accelerator;
        yard.wait(async {
            let mut supply = Supply::new(&settings, &"prober".parse().expect("a name")).expect("a folder");
            let made = supply.warm_up(&settings.client.image).await;
            supply.discard().await;
            made.map(|template| template.machine().accelerator.as_str())
        })
    };
    let kvm = boots(Accelerator::Kvm);
    eprintln!("KVM alone: {kvm:?}");
    let auto = boots(Accelerator::Auto).expect("one of them works");
    assert_eq!(auto, if kvm.is_ok() { "kvm" } else { "tcg" });
    if let Err(why) = kvm {
        assert!(!why.to_string().is_empty());
    }
}
