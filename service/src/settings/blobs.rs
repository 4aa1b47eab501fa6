//! `[blobs]`: where large contents are: a folder, or a bucket of S3 or of what speaks like it.

use evalfleet_proto::units;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// `[blobs]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blobs {
    pub(super) dir: PathBuf,
    url: String,
    /// The bucket's server, empty for Amazon's.
    pub endpoint: String,
    /// Whether that may be spoken to without TLS.
    pub allow_http: bool,
    /// The bucket's region, empty for what the environment says.
    pub region: String,
    /// The file with the credentials, empty for where AWS's own tools look.
    pub credentials_file: PathBuf,
    /// Limit on one request to the bucket, its content included.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
    /// How often a request is made again that failed for no reason of its own.
    pub retries: usize,
}

impl Blobs {
    /// The bucket, where there is one; else contents are in a folder. What does not parse was refused with the settings.
    pub fn bucket(&self) -> Option<Bucket> {
        self.url.parse().ok()
    }

    /// Says what is wrong with these settings, each key by its name.
    pub(super) fn check(&self, wrong: &mut Vec<String>) {
        let url = if self.url.is_empty() { Ok(()) } else { self.url.parse::<Bucket>().map(drop) };
        if let Err(error) = url {
            wrong.push(format!("blobs.url: {error}"));
        }
        if let Err(why) = check_endpoint(&self.endpoint, self.allow_http) {
            wrong.push(format!("blobs.endpoint {why}"));
        }
        if self.url.is_empty() && !self.endpoint.is_empty() {
            wrong.push("blobs.endpoint is named, and blobs.url names no bucket".to_owned());
        }
        if self.timeout.is_zero() {
            wrong.push("blobs.timeout must be more than nothing".to_owned());
        }
        if self.retries > 20 {
            wrong.push(format!("blobs.retries is {}, and may be 20 at most", self.retries));
        }
    }
}

/// Says why a bucket's server cannot be spoken to at `endpoint`; empty is Amazon's.
pub(crate) fn check_endpoint(endpoint: &str, allow_http: bool) -> Result<(), String> {
    let host = |rest: &str| rest.split('/').next().is_some_and(|host| !host.is_empty());
    match endpoint.split_once("://") {
        None if endpoint.is_empty() => Ok(()),
        Some(("https", rest)) if host(rest) => Ok(()),
        Some(("http", rest)) if host(rest) && allow_http => Ok(()),
        Some(("http", rest)) if host(rest) => Err(format!(
            "is {endpoint}, and whoever is on the way reads along: name it as https://…, or set blobs.allow_http"
        )),
        Some(_) | None => Err(format!("is {endpoint:?}, and must look like https://minio.example.org:9000")),
    }
}

/// A bucket, and where in it the contents begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// What the contents' keys begin with, without a slash at either end; may be empty.
    pub prefix: String,
}

/// No bucket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} must look like s3://bucket or s3://bucket/prefix")]
pub struct NoBucket(String);

impl FromStr for Bucket {
    type Err = NoBucket;

    fn from_str(text: &str) -> Result<Self, NoBucket> {
        let rest = text.strip_prefix("s3://").ok_or_else(|| NoBucket(text.to_owned()))?;
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let ordinary = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let fits = !name.is_empty()
            && name.len() <= 255
            && name.chars().all(ordinary)
            && (prefix.is_empty()
                || prefix.split('/').all(|part| !part.is_empty() && part.chars().all(ordinary)));
        let bucket = Self { name: name.to_owned(), prefix: prefix.to_owned() };
        if fits { Ok(bucket) } else { Err(NoBucket(text.to_owned())) }
    }
}

impl std::fmt::Display for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        write!(f, "s3://{}{slash}{}", self.name, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_has_a_name_and_may_have_a_prefix() {
        let bucket = |text: &str| text.parse::<Bucket>().map(|bucket| (bucket.to_string(), bucket.prefix));
        assert_eq!(bucket("s3://b"), Ok(("s3://b".to_owned(), String::new())));
        assert_eq!(
            bucket("s3://b.c/fleet/one/"),
            Ok(("s3://b.c/fleet/one".to_owned(), "fleet/one".to_owned()))
        );
        for wrong in ["", "b", "s3://", "s3:///x", "s3://b//x", "s3://b/x y", "gs://b", "s3://b?x"] {
            assert!(bucket(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_server_is_named_whole_and_without_tls_only_where_that_is_said() {
        for right in ["", "https://s3.example.org", "https://s3.example.org:9000/"] {
            assert_eq!(check_endpoint(right, false), Ok(()));
        }
        assert!(check_endpoint("http://minio:9000", false).unwrap_err().contains("blobs.allow_http"));
        assert_eq!(check_endpoint("http://minio:9000", true), Ok(()));
        for wrong in ["minio:9000", "https://", "ftp://x"] {
            assert!(check_endpoint(wrong, true).unwrap_err().contains("must look like"), "{wrong}");
        }
    }
}
