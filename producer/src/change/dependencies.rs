//! What a project depends on, by the files that usually say so. Pure.
//!
//! Only names count: that a change brings a *new* name is what its reader must hear of.

use serde_json::Value;
use std::collections::BTreeSet;

/// The names that the file `path` with the content `text` depends on; `None` where it is no such file.
/// A file that does not parse depends on nothing: whatever reads it will fail, in the VM.
pub(super) fn of(path: &str, text: &str) -> Option<BTreeSet<String>> {
    let file = path.rsplit('/').next().unwrap_or(path);
    match file {
        "Cargo.toml" => Some(cargo(&toml(text))),
        "Cargo.lock" | "poetry.lock" | "uv.lock" => Some(lock(&toml(text))),
        "pyproject.toml" => Some(pyproject(&toml(text))),
        "package.json" => {
            let sections = ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies"];
            let document: Value = serde_json::from_str(text).unwrap_or_default();
            Some(sections.iter().flat_map(|section| keys(&document[*section])).collect())
        }
        "go.mod" => Some(text.lines().filter_map(go_requirement).collect()),
        _ if file.starts_with("requirements") && file.ends_with(".txt") => {
            Some(text.lines().filter_map(requirement).collect())
        }
        _ => None,
    }
}

fn toml(text: &str) -> Value {
    toml::from_str(text).unwrap_or_default()
}

fn keys(table: &Value) -> Vec<String> {
    table.as_object().map(|table| table.keys().cloned().collect()).unwrap_or_default()
}

fn cargo(manifest: &Value) -> BTreeSet<String> {
    let mut places = vec![manifest, &manifest["workspace"]];
    if let Some(targets) = manifest["target"].as_object() {
        places.extend(targets.values());
    }
    let sections = ["dependencies", "dev-dependencies", "build-dependencies"];
    places.iter().flat_map(|place| sections.iter().flat_map(|section| keys(&place[*section]))).collect()
}

fn lock(lock: &Value) -> BTreeSet<String> {
    let packages = lock["package"].as_array().into_iter().flatten();
    packages.filter_map(|package| package["name"].as_str()).map(ToOwned::to_owned).collect()
}

fn pyproject(document: &Value) -> BTreeSet<String> {
    let project = &document["project"];
    let optional =
        project["optional-dependencies"].as_object().into_iter().flat_map(|groups| groups.values());
    let groups = document["dependency-groups"].as_object().into_iter().flat_map(|groups| groups.values());
    let lists = [&project["dependencies"], &document["build-system"]["requires"]].into_iter();
    let listed = lists.chain(optional).chain(groups).filter_map(Value::as_array).flatten();
    let mut names: BTreeSet<String> = listed.filter_map(Value::as_str).filter_map(requirement).collect();
    names.extend(keys(&document["tool"]["poetry"]["dependencies"]));
    names
}

/// `requests[socks] >= 2 ; python_version > "3"` is `requests`; a URL is itself.
fn requirement(line: &str) -> Option<String> {
    let line = line.split('#').next().unwrap_or_default().trim();
    if line.is_empty() {
        return None;
    }
    if line.starts_with('-') || line.contains("://") {
        return Some(line.to_owned());
    }
    let name: String =
        line.chars().take_while(|letter| letter.is_alphanumeric() || "._-".contains(*letter)).collect();
    (!name.is_empty()).then(|| name.to_lowercase().replace(['_', '.'], "-"))
}

fn go_requirement(line: &str) -> Option<String> {
    let line = line.trim().trim_start_matches("require").trim();
    let (name, version) = line.split_once(' ')?;
    (name.contains('.') && version.trim_start().starts_with('v')).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str, text: &str) -> Vec<String> {
        of(path, text).unwrap().into_iter().collect()
    }

    #[test]
    fn names_are_found_in_every_kind_of_file() {
        let cargo = "[dependencies]\nserde = '1'\n[target.'cfg(unix)'.dev-dependencies]\nnix = '1'\n[workspace.dependencies]\na = '1'";
        assert_eq!(names("sub/Cargo.toml", cargo), ["a", "nix", "serde"]);
        assert_eq!(names("Cargo.lock", "[[package]]\nname = 'x'\n[[package]]\nname = 'y'"), ["x", "y"]);
        assert_eq!(names("package.json", r#"{"dependencies": {"left-pad": "1"}}"#), ["left-pad"]);
        let python = "[project]\ndependencies = ['Requests[socks]>=2', 'a_b']\n[project.optional-dependencies]\nx = ['c']";
        assert_eq!(names("pyproject.toml", python), ["a-b", "c", "requests"]);
        assert_eq!(names("requirements-dev.txt", "# no\nfoo==1 # why\n\n-e ."), ["-e .", "foo"]);
        assert_eq!(names("go.mod", "module m\nrequire (\n\tgithub.com/a/b v1.2.3\n)"), ["github.com/a/b"]);
        assert!(of("src/main.rs", "").is_none());
        assert_eq!(names("Cargo.toml", "not toml ["), [""; 0]);
    }
}
