//! Tells on the terminal why a command stands still: whoever waits wants to know for what.

use evalfleet_broker::Link;
use std::sync::Weak;
use std::time::Duration;

/// How often is looked.
const GLANCE: Duration = Duration::from_millis(500);
/// What passes by itself within so many looks is not worth a line.
const LOOKS: u32 = 4;

/// Says what `link` waits for, once for each reason, until it is gone or the program ends.
pub(super) async fn tell(link: Weak<Link>) {
    let (mut looks, mut told) = (0, None);
    loop {
        tokio::time::sleep(GLANCE).await;
        // One of the REPL's commands ends before the REPL does.
        let Some(link) = link.upgrade() else { return };
        let reason = link.waits_for();
        looks = if reason.is_some() { looks + 1 } else { 0 };
        if reason.is_none() && told.take().is_some() {
            eprintln!("evalfleet: it goes on");
        }
        if looks >= LOOKS
            && reason != told
            && let Some(reason) = &reason
        {
            eprintln!("evalfleet: waiting: {reason}");
            told = Some(reason.clone());
        }
    }
}
