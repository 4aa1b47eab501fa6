//! A bucket of S3, or of what speaks like it, as its settings and the environment describe it.

use super::Error;
use super::credentials::{self, Found};
use super::http::Connector;
use crate::settings::blobs::{Blobs, Bucket, check_endpoint};
use object_store::aws::AmazonS3Builder;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};
use std::sync::Arc;
use std::time::Duration;

/// The region of a bucket for which nobody named one.
const REGION: &str = "us-east-1";

/// A bucket that was not spoken to yet.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) store: Arc<dyn ObjectStore>,
    /// What people call it.
    pub(super) place: String,
    /// Whether it rests on the host having a role, which nobody knows before the host was asked.
    pub(super) by_role: bool,
}

/// Makes a bucket's store; nothing is asked of it yet.
///
/// # Errors
/// When the environment names a server that is none, or there are no credentials.
pub(super) fn open(
    settings: &Blobs,
    bucket: &Bucket,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Opened, Error> {
    let named = |own: &str, others: &[&str]| {
        let own = Some(own.to_owned()).filter(|own| !own.is_empty());
        own.or_else(|| others.iter().find_map(|name| environment(name)))
    };
    let endpoint = named(&settings.endpoint, &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
    let place = match &endpoint {
        Some(endpoint) => format!("{bucket} of {endpoint}"),
        None => bucket.to_string(),
    };
    let settings_are = |why: String| Error::Settings { place: place.clone(), why };
    if let Some(endpoint) = &endpoint {
        let wrong = |why| settings_are(format!("its server {why}"));
        check_endpoint(endpoint, settings.allow_http).map_err(wrong)?;
    }
    let region = named(&settings.region, &["AWS_REGION", "AWS_DEFAULT_REGION"]);
    let retry = RetryConfig {
        max_retries: settings.retries,
        retry_timeout: settings.timeout,
        backoff: BackoffConfig { max_backoff: Duration::from_secs(5), ..BackoffConfig::default() },
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&bucket.name)
        .with_region(region.as_deref().unwrap_or(REGION))
        .with_retry(retry)
        .with_allow_http(settings.allow_http)
        // Contents go one by one, and not every server knows how to remove several.
        .with_disable_bulk_delete(true)
        .with_http_connector(Connector::new(settings.timeout));
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    let missing = |why: String| Error::NoCredentials { place: place.clone(), why };
    let found = credentials::find(&settings.credentials_file, environment).map_err(missing)?;
    let by_role = found == Found::Role;
    let store = found.give(builder).build().map_err(|error| settings_are(error.to_string()))?;
    let store: Arc<dyn ObjectStore> = match bucket.prefix.as_str() {
        "" => Arc::new(store),
        prefix => Arc::new(PrefixStore::new(store, prefix)),
    };
    Ok(Opened { store, place, by_role })
}
