//! The broker's nodes, where there are several: one that is down is not missed until the next one is.

use super::Check;
use evalfleet_broker::{Options, Session};
use evalfleet_service::settings::Settings;
use std::time::Duration;

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Nothing for a broker of a single node: that is down as long as the fleet is, and `status` says so.
pub(super) async fn nodes(settings: &Settings) -> Option<Check> {
    let urls = &settings.broker.urls;
    if urls.len() < 2 {
        return None;
    }
    let silent = futures::future::join_all(urls.iter().map(|url| silence(settings, url))).await;
    let silent: Vec<String> = silent.into_iter().flatten().collect();
    if silent.is_empty() {
        return Some(Check::ok("broker", format!("all {} nodes of broker.urls answer", urls.len())));
    }
    let found =
        format!("{} of {} nodes answer; {}", urls.len() - silent.len(), urls.len(), silent.join("; "));
    let fix = "start them, or take them out of broker.urls; a queue on three nodes stands with two of them";
    Some(Check::warning("broker", found, fix))
}

/// Why a node does not answer, if it does not.
async fn silence(settings: &Settings, url: &str) -> Option<String> {
    let mut broker = settings.broker.clone();
    broker.urls = vec![url.to_owned()];
    broker.connect_timeout = broker.connect_timeout.min(PATIENCE);
    match Session::connect(&Options::new(&broker, "evalfleet doctor")).await {
        Ok(session) => {
            session.close().await;
            None
        }
        Err(error) => Some(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;
    use evalfleet_service::settings::Layers;

    fn settings(urls: &str) -> Settings {
        let text = format!("[broker]\nurls = {urls}\n");
        Settings::from_layers(&Layers { file: Some(text), ..Layers::default() }).unwrap()
    }

    #[tokio::test]
    async fn nodes_that_do_not_answer_are_named() {
        assert_eq!(nodes(&settings(r#"["amqp://u:s3cret@127.0.0.1:1/%2f"]"#)).await, None);
        let both = r#"["amqp://u:s3cret@127.0.0.1:1/%2f", "amqp://u:s3cret@127.0.0.1:2/%2f"]"#;
        let check = nodes(&settings(both)).await.unwrap();
        assert_eq!(check.verdict, Verdict::Warning);
        for part in ["0 of 2", "127.0.0.1:1", "127.0.0.1:2"] {
            assert!(check.found.contains(part), "{check}");
        }
        assert!(!check.found.contains("s3cret"), "{check}");
    }
}
