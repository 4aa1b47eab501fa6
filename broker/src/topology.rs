//! Declaring the topology: a deploy step, and the first start of a single machine.

use crate::{Error, Session};
use evalfleet_proto::topology::Topology;

impl Session {
    /// Declares every exchange, queue and binding; what is there already stays as it is.
    ///
    /// A queue of an earlier version, which knew no bound for it, stays without one, and that is said.
    ///
    /// # Errors
    /// When something of the same name is there with other arguments, or the connection breaks.
    pub async fn declare(&self, topology: &Topology) -> Result<(), Error> {
        let mut topology = topology.clone();
        loop {
            // The broker closes the channel on which it refuses.
            match self.open_channel().await?.declare(&topology).await {
                Err(Error::Unlike { queue, reason }) if is_bound(&reason) => {
                    tracing::warn!(
                        queue,
                        "this queue is of an earlier version, and has no bound: delete it while it is empty, and it is made anew"
                    );
                    topology.queues.retain(|known| known.name != queue);
                }
                declared => return declared,
            }
        }
    }
}

/// Whether queues differ in their bound alone.
fn is_bound(reason: &str) -> bool {
    ["'x-max-length'", "'x-overflow'"].iter().any(|argument| reason.contains(argument))
}
