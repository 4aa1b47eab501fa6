//! What a job is let reach: its own list, as far as the operator's covers it. Pure.

use crate::vm::net::{Bounds, Policy};
use evalfleet_proto::network::{Destination, Network};
use evalfleet_service::permit::beyond;
use evalfleet_service::settings::Worker;

/// It asks for more than there is to be had here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the job asks to reach {0}, which this worker's operator does not allow: the setting worker.network_allow says what is"
)]
pub struct Beyond(Destination);

/// Works out what a job may reach.
///
/// # Errors
/// When the operator does not allow all of it: the request's fault.
pub fn policy(network: &Network, settings: &Worker) -> Result<Policy, Beyond> {
    let asked = network.destinations();
    match beyond(&settings.network_allow(), asked) {
        Some(destination) => Err(Beyond(destination.clone())),
        None => Ok(Policy {
            allow: asked.to_vec(),
            bounds: Bounds {
                connections: settings.network_connections,
                bytes: settings.network_bytes,
                rate: settings.network_rate,
            },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evalfleet_service::settings::{Layers, Settings};

    fn settings(allow: &str) -> Worker {
        let file = Some(format!("[worker]\nnetwork_allow = {allow}\nnetwork_connections = 3"));
        Settings::from_layers(&Layers { file, ..Layers::default() }).unwrap().worker
    }

    #[test]
    fn without_the_operators_word_a_job_reaches_nothing() {
        let asked: Network = "allow=a.org:443".parse().unwrap();
        let refused = policy(&asked, &settings("[]")).unwrap_err().to_string();
        assert!(refused.contains("a.org:443") && refused.contains("worker.network_allow"), "{refused}");
        assert_eq!(policy(&Network::None, &settings("[]")).unwrap().allow, []);
    }

    #[test]
    fn within_it_a_job_reaches_what_it_asked_for_and_no_more() {
        let asked: Network = "allow=a.org:443".parse().unwrap();
        let granted = policy(&asked, &settings(r#"["*:443"]"#)).unwrap();
        assert_eq!((granted.allow, granted.bounds.connections), (asked.destinations().to_vec(), 3));
    }
}
