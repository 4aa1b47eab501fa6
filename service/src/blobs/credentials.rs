//! Credentials for a bucket, found where AWS's own tools find them.
//!
//! The file that the settings name comes first, then the keys of the environment, a web identity, the shared
//! file, the container's role, and last the host's own.

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key};
use std::path::{Path, PathBuf};

/// What a web identity and a container's role rest on.
const IDENTITY: [(&str, Key); 4] = [
    ("AWS_WEB_IDENTITY_TOKEN_FILE", Key::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", Key::RoleArn),
    ("AWS_ROLE_SESSION_NAME", Key::RoleSessionName),
    ("AWS_ENDPOINT_URL_STS", Key::StsEndpoint),
];
const CONTAINER: [(&str, Key); 3] = [
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", Key::ContainerCredentialsRelativeUri),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", Key::ContainerCredentialsFullUri),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", Key::ContainerAuthorizationTokenFile),
];

/// Where credentials come from.
#[derive(PartialEq, Eq)]
pub(super) enum Found {
    /// Here they are.
    Keys { id: String, secret: String, token: Option<String> },
    /// They are fetched, as these say.
    Fetched(Vec<(Key, String)>),
    /// Nobody said anything: the host may have a role.
    Role,
}

impl Found {
    /// Tells the store.
    pub(super) fn give(self, builder: AmazonS3Builder) -> AmazonS3Builder {
        match self {
            Self::Keys { id, secret, token } => {
                let builder = builder.with_access_key_id(id).with_secret_access_key(secret);
                token.into_iter().fold(builder, |builder, token| builder.with_token(token))
            }
            Self::Fetched(pairs) => {
                pairs.into_iter().fold(builder, |builder, (key, value)| builder.with_config(key, value))
            }
            Self::Role => builder,
        }
    }
}

/// Looks for credentials; `file` is the one that the settings name, and may be empty.
///
/// # Errors
/// Says where none were found that should be there.
pub(super) fn find(file: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Found, String> {
    let named = |name: &str| environment(name).filter(|value| !value.is_empty());
    let profile = named("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
    if !file.as_os_str().is_empty() {
        return of_profile(file, &profile)?
            .ok_or_else(|| format!("{} has no keys of the profile {profile:?}", file.display()));
    }
    match (named("AWS_ACCESS_KEY_ID"), named("AWS_SECRET_ACCESS_KEY")) {
        (Some(id), Some(secret)) => return Ok(Found::Keys { id, secret, token: named("AWS_SESSION_TOKEN") }),
        (Some(_), None) => {
            return Err("AWS_ACCESS_KEY_ID is set, and AWS_SECRET_ACCESS_KEY is not".to_owned());
        }
        (None, Some(_)) => {
            return Err("AWS_SECRET_ACCESS_KEY is set, and AWS_ACCESS_KEY_ID is not".to_owned());
        }
        (None, None) => {}
    }
    let all = |names: &[(&str, Key)]| {
        names.iter().filter_map(|(name, key)| Some((*key, named(name)?))).collect::<Vec<_>>()
    };
    if named("AWS_WEB_IDENTITY_TOKEN_FILE").is_some() && named("AWS_ROLE_ARN").is_some() {
        return Ok(Found::Fetched(all(&IDENTITY)));
    }
    let home = || Some(PathBuf::from(named("HOME")?).join(".aws/credentials"));
    let shared = named("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from).or_else(home);
    if let Some(shared) = shared.filter(|file| file.exists())
        && let Some(found) = of_profile(&shared, &profile)?
    {
        return Ok(found);
    }
    let container = all(&CONTAINER);
    if !container.is_empty() {
        return Ok(Found::Fetched(container));
    }
    if named("AWS_EC2_METADATA_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        return Err(format!(
            "none in the environment, none of the profile {profile:?} in ~/.aws/credentials"
        ));
    }
    Ok(Found::Role)
}

fn of_profile(file: &Path, profile: &str) -> Result<Option<Found>, String> {
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    Ok(keys_of(&text, profile))
}

/// The keys of one profile: `[name]`, and below it `aws_access_key_id = …` and its like.
fn keys_of(text: &str, profile: &str) -> Option<Found> {
    let (mut here, mut id, mut secret, mut token) = (false, None, None, None);
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            here = name.trim() == profile;
        } else if let (true, Some((name, value))) = (here, line.split_once('=')) {
            let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
            match name.trim() {
                "aws_access_key_id" => id = value,
                "aws_secret_access_key" => secret = value,
                "aws_session_token" => token = value,
                _ => {}
            }
        }
    }
    Some(Found::Keys { id: id?, secret: secret?, token })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# mine\n[default]\naws_access_key_id = A\naws_secret_access_key=b=c\n\n[other]\n\
                        aws_access_key_id = O\naws_secret_access_key = p\naws_session_token = t\n[half]\naws_access_key_id = H\n";

    fn keys(id: &str, secret: &str, token: Option<&str>) -> Found {
        Found::Keys { id: id.to_owned(), secret: secret.to_owned(), token: token.map(str::to_owned) }
    }

    fn found(file: &Path, environment: &[(&str, &str)]) -> Result<Found, String> {
        let pairs: Vec<(String, String)> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        find(file, &|name| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.clone()))
    }

    fn is(found: Result<Found, String>, expected: &Found) -> bool {
        found.is_ok_and(|found| found == *expected)
    }

    #[test]
    fn they_are_found_where_awss_tools_find_them_and_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("credentials");
        std::fs::write(&file, FILE).unwrap();
        let path = file.display().to_string();
        let (none, shared) = (Path::new(""), ("AWS_SHARED_CREDENTIALS_FILE", path.as_str()));
        let own = [("AWS_ACCESS_KEY_ID", "E"), ("AWS_SECRET_ACCESS_KEY", "f")];
        assert!(is(found(&file, &own), &keys("A", "b=c", None)));
        assert!(is(found(&file, &[("AWS_PROFILE", "other")]), &keys("O", "p", Some("t"))));
        assert!(is(found(none, &[own[0], own[1], shared]), &keys("E", "f", None)));
        assert!(is(found(none, &[shared]), &keys("A", "b=c", None)));
        let identity = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_ARN", "r"), shared];
        let said = vec![(Key::WebIdentityTokenFile, "/t".to_owned()), (Key::RoleArn, "r".to_owned())];
        assert!(is(found(none, &identity), &Found::Fetched(said)));
        assert!(is(found(none, &[]), &Found::Role));
        assert!(is(found(none, &[shared, ("AWS_PROFILE", "half")]), &Found::Role));
    }

    #[test]
    fn what_is_missing_is_named() {
        let (none, missing) = (Path::new(""), Path::new("/nonexistent/credentials"));
        let refused =
            |file: &Path, environment: &[(&str, &str)]| found(file, environment).err().unwrap_or_default();
        assert!(refused(none, &[("AWS_ACCESS_KEY_ID", "E")]).contains("AWS_SECRET_ACCESS_KEY is not"));
        assert!(refused(none, &[("AWS_EC2_METADATA_DISABLED", "true")]).contains("none in the environment"));
        assert!(refused(missing, &[]).contains("/nonexistent/credentials"));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("credentials");
        std::fs::write(&file, FILE).unwrap();
        assert!(refused(&file, &[("AWS_PROFILE", "third")]).contains("third"));
    }
}
