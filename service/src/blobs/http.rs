//! HTTP for a bucket: over the TLS that the broker is reached by, and every request within a time limit, its
//! content included.

use async_trait::async_trait;
use http_body_util::{BodyExt as _, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::rt::TokioExecutor;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpService,
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

/// The largest answer: a content is read whole.
const BODY_BYTES_MAX: usize = 4 << 30;
/// Limit on making a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes clients whose requests take `limit` at most.
#[derive(Debug)]
pub(super) struct Connector {
    limit: Duration,
}

impl Connector {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let tls =
            tls().map_err(|error| object_store::Error::Generic { store: "S3", source: Box::new(error) })?;
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT.min(self.limit)));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = legacy::Client::builder(TokioExecutor::new()).build(connector);
        Ok(HttpClient::new(Service { client, limit: self.limit }))
    }
}

fn tls() -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    // A host that trusts nobody can still reach a bucket without TLS.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
}

#[derive(Debug)]
struct Service {
    client: legacy::Client<HttpsConnector<Tcp>, HttpRequestBody>,
    limit: Duration,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = async {
            let (head, body) =
                self.client.request(request).await.map_err(|error| failed(&error))?.into_parts();
            let broken = |error: Box<dyn Error + Send + Sync>| {
                HttpError::new(HttpErrorKind::Interrupted, Cause(innermost(&*error)))
            };
            let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(broken)?.to_bytes();
            Ok(HttpResponse::from_parts(head, body.into()))
        };
        match tokio::time::timeout(self.limit, answer).await {
            Ok(answer) => answer,
            Err(_) => {
                let cause = format!("no answer within {} ms", self.limit.as_millis());
                Err(HttpError::new(HttpErrorKind::Timeout, Cause(cause)))
            }
        }
    }
}

/// What went wrong at the bottom: what is above it says little.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Cause(String);

fn failed(error: &legacy::Error) -> HttpError {
    let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Interrupted };
    HttpError::new(kind, Cause(innermost(error)))
}

fn innermost(mut error: &(dyn Error + 'static)) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
