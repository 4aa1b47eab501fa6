//! The Debian mirror that the host itself uses: whoever set one up for it wants images to come from there too.

use std::fs;
use std::path::Path;

/// Where a Debian host gets its packages from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    archive: String,
    has_updates: bool,
    security: Option<String>,
}

/// One archive of apt's sources: an address and its suites.
#[derive(Debug, Default)]
struct Source {
    uris: Vec<String>,
    suites: Vec<String>,
    /// It names packages (`deb`) of the component main, and is not switched off.
    useful: bool,
}

impl Mirror {
    /// Reads the host's settings below `etc`. None where the host is not Debian, or its sources are not plain.
    pub fn of_host(etc: &Path) -> Option<Self> {
        let release = fs::read_to_string(etc.join("os-release")).ok()?;
        let value = |key: &str| {
            let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
            Some(line.trim_matches('"').to_owned())
        };
        if value("ID")? != "debian" {
            return None;
        }
        Self::among(&sources(&etc.join("apt")), &value("VERSION_CODENAME")?)
    }

    fn among(sources: &[Source], codename: &str) -> Option<Self> {
        let address = |suite: String| {
            let source = sources.iter().find(|source| source.useful && source.suites.contains(&suite))?;
            source.uris.iter().find(|uri| uri.contains("://")).map(|uri| uri.trim_end_matches('/').to_owned())
        };
        Some(Self {
            archive: address(codename.to_owned())?,
            has_updates: address(format!("{codename}-updates")).is_some(),
            security: address(format!("{codename}-security")),
        })
    }

    /// Lines of a `sources.list` for `suite`, which need not be the host's.
    pub fn lines(&self, suite: &str, components: &[String]) -> Vec<String> {
        let components = components.join(" ");
        let mut lines = vec![format!("deb {} {suite} {components}", self.archive)];
        if ["sid", "unstable", "experimental"].contains(&suite) {
            return lines;
        }
        if self.has_updates {
            lines.push(format!("deb {} {suite}-updates {components}", self.archive));
        }
        if let Some(security) = &self.security {
            lines.push(format!("deb {security} {suite}-security {components}"));
        }
        lines
    }
}

/// apt's sources in `sources.list` and `sources.list.d`, in both of their forms.
fn sources(apt: &Path) -> Vec<Source> {
    let mut paths = vec![apt.join("sources.list")];
    let folder = fs::read_dir(apt.join("sources.list.d")).into_iter().flatten().flatten();
    let mut more: Vec<_> = folder.map(|entry| entry.path()).collect();
    more.sort();
    paths.extend(more);
    let mut sources = Vec::new();
    for path in paths {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("list") => sources.extend(text.lines().filter_map(one_line)),
            Some("sources") => sources.extend(stanzas(&text)),
            _ => {}
        }
    }
    sources
}

/// `deb [options] URI SUITE COMPONENT…`
fn one_line(line: &str) -> Option<Source> {
    let rest = line.split('#').next()?.trim().strip_prefix("deb ")?.trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => rest,
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let (uri, suite) = (words.next()?, words.next()?);
    Some(Source { uris: vec![uri], suites: vec![suite], useful: words.any(|component| component == "main") })
}

/// The deb822 form: stanzas of `Field: values`, apart by an empty line.
fn stanzas(text: &str) -> Vec<Source> {
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let stanzas = lines.split(|line| line.trim().is_empty()).filter(|stanza| !stanza.is_empty());
    stanzas
        .map(|stanza| {
            let values = |field: &str| -> Vec<String> {
                let found = stanza.iter().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case(field).then_some(value)
                });
                found.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
            };
            let has = |field: &str, value: &str| values(field).iter().any(|found| found == value);
            let useful = has("Types", "deb") && has("Components", "main") && !has("Enabled", "no");
            Source { uris: values("URIs"), suites: values("Suites"), useful }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(release: &str, files: &[(&str, &str)]) -> Option<Mirror> {
        let etc = tempfile::tempdir().unwrap();
        fs::create_dir_all(etc.path().join("apt/sources.list.d")).unwrap();
        fs::write(etc.path().join("os-release"), release).unwrap();
        for (name, text) in files {
            fs::write(etc.path().join("apt").join(name), text).unwrap();
        }
        Mirror::of_host(etc.path())
    }

    const DEBIAN: &str = "ID=debian\nVERSION_CODENAME=bookworm\n";

    #[test]
    fn both_forms_are_read_and_another_suite_is_taken_from_the_same_place() {
        let stanzas = "# ours\nTypes: deb deb-src\nURIs: http://mirror.test/debian/\n# inner\n\
                       Suites: bookworm bookworm-updates\nComponents: main\n\n\
                       Types: deb\nURIs: http://mirror.test/security\nSuites: bookworm-security\nComponents: main\n";
        let lines = "deb [arch=amd64 signed-by=/k.gpg] http://mirror.test/debian bookworm main contrib # note\n\
                     deb http://mirror.test/debian bookworm-updates main\n\
                     deb http://mirror.test/security bookworm-security main\n";
        let one = host(DEBIAN, &[("sources.list.d/debian.sources", stanzas)]).unwrap();
        let two = host(DEBIAN, &[("sources.list", lines)]).unwrap();
        assert_eq!(one, two);
        let expected = [
            "deb http://mirror.test/debian trixie main",
            "deb http://mirror.test/debian trixie-updates main",
            "deb http://mirror.test/security trixie-security main",
        ];
        assert_eq!(one.lines("trixie", &["main".to_owned()]), expected);
        assert_eq!(one.lines("sid", &["main".to_owned()]).len(), 1);
    }

    #[test]
    fn what_is_no_debian_archive_is_passed_over() {
        let foreign = "deb http://elsewhere.test stable main\n";
        let off = "Enabled: no\nTypes: deb\nURIs: http://off.test\nSuites: bookworm\nComponents: main\n";
        assert_eq!(host(DEBIAN, &[("sources.list", foreign), ("sources.list.d/a.sources", off)]), None);
        let ubuntu = "ID=ubuntu\nVERSION_CODENAME=noble\n";
        assert_eq!(host(ubuntu, &[("sources.list", "deb http://mirror.test/ubuntu noble main\n")]), None);
        assert_eq!(host("", &[]), None);
    }
}
