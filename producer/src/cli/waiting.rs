//! Tells on the terminal why a command stands still: whoever waits wants to know for what.

use evalfleet_broker::Link;
use std::sync::Arc;
use std::time::Duration;

/// How often is looked.
const GLANCE: Duration = Duration::from_millis(500);
/// What passes by itself within so many looks is not worth a line.
const LOOKS: u32 = 4;

/// Says what `link` waits for, once for each reason, until the command ends.
pub(super) async fn tell(link: Arc<Link>) {
    let (mut looks, mut told) = (0, None);
    loop {
        tokio::time::sleep(GLANCE).await;
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
