//! Who may ask: whoever has the token. Compared in constant time, so that its letters cannot be found
//! out one by one.

use crate::problem::Problem;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use evalfleet_proto::ids::Sha256;

/// The token, as its hash: comparing hashes tells nothing of how much was right.
#[derive(Debug, Clone, Copy)]
pub struct Token(Option<Sha256>);

impl Token {
    /// Reads the token's file; without one everybody on this machine may ask.
    ///
    /// # Errors
    /// When the file is named and cannot be read, or is empty.
    pub fn from_file(path: &std::path::Path) -> std::io::Result<Self> {
        if path.as_os_str().is_empty() {
            return Ok(Self(None));
        }
        let text = std::fs::read_to_string(path)?;
        match text.trim() {
            "" => Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "the token is empty")),
            token => Ok(Self(Some(Sha256::of(token.as_bytes())))),
        }
    }

    /// Whether there is one at all.
    pub fn is_set(self) -> bool {
        self.0.is_some()
    }

    fn admits(self, given: Option<&str>) -> bool {
        match (self.0, given) {
            (None, _) => true,
            (Some(token), Some(given)) => Sha256::of(given.as_bytes()) == token,
            (Some(_), None) => false,
        }
    }
}

/// Lets a request through that carries the token.
pub async fn guard(State(token): State<Token>, request: Request, next: Next) -> Response {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if token.admits(header.and_then(|value| value.strip_prefix("Bearer "))) {
        next.run(request).await
    } else {
        Problem::unauthorized().into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_opens() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "s3cret\n").unwrap();
        let token = Token::from_file(&file).unwrap();
        assert!(token.admits(Some("s3cret")));
        assert!(!token.admits(Some("s3cre")) && !token.admits(None));
        std::fs::write(&file, "\n").unwrap();
        assert!(Token::from_file(&file).is_err());
        assert!(Token::from_file(std::path::Path::new("")).unwrap().admits(None));
    }
}
