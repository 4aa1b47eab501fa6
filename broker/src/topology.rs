//! Declaring the topology: a deploy step, and the first start of a single machine.

use crate::{Error, Session};
use evalfleet_proto::topology::Topology;

impl Session {
    /// Declares every exchange, queue and binding; what is there already stays as it is.
    ///
    /// # Errors
    /// When something of the same name is there with other arguments, or the connection breaks.
    pub async fn declare(&self, topology: &Topology) -> Result<(), Error> {
        self.open_channel().await?.declare(topology).await
    }
}
