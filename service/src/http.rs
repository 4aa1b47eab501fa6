//! Clients of HTTP: the one place that makes them.
//!
//! `reqwest` without a chosen cryptography panics when a client is made, even one for plain HTTP; here it is the one
//! that the broker's and the bucket's connections use. Whose certificates are trusted is what the host trusts.

/// A client of the fleet's own parts: no proxy of the environment stands between them.
pub fn builder() -> reqwest::ClientBuilder {
    outside().no_proxy()
}

/// A client of what is not the fleet's own, by the environment's proxy where it names one.
pub fn outside() -> reqwest::ClientBuilder {
    // Whoever was first wins, and it is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    reqwest::Client::builder()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_client_can_be_made_any_number_of_times() {
        for _ in 0..2 {
            assert!(super::builder().build().is_ok());
        }
    }
}
