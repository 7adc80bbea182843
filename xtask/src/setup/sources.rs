//! Reads a machine's apt sources and derives those of a private apt: same mirror, same keyring, other suites beside the own.
use std::path::Path;

/// One source of Debian's main archive, ready to be written to a file with this ending.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// `list` (one line) or `sources` (deb822).
    pub format: &'static str,
    /// The file's text.
    pub text: String,
}

impl Source {
    /// The same mirror's Ubuntu, where it has that beside Debian; its packages are signed with the keys in a file.
    pub fn of_ubuntu(&self, suite: &str, keyring: &Path) -> Option<Self> {
        let uri = self.text.split_whitespace().find(|word| word.contains(":/"))?;
        let mirror = uri.trim_end_matches('/').strip_suffix("/debian")?;
        let text = format!(
            "Types: deb\nURIs: {mirror}/ubuntu\nSuites: {suite}\nComponents: main\nSigned-By: {}\n",
            keyring.display()
        );
        Some(Self { format: "sources", text })
    }
}

/// The main-archive sources in a one-line file (`deb [options] uri suite components`), with suites added to its own.
pub fn from_list(text: &str, own_suite: &str, extra_suites: &[&str]) -> Vec<Source> {
    text.lines().filter_map(|line| one_line(line, own_suite, extra_suites)).collect()
}

/// The main-archive sources in a deb822 file, with suites added to its own.
pub fn from_deb822(text: &str, own_suite: &str, extra_suites: &[&str]) -> Vec<Source> {
    stanzas(text).iter().filter_map(|stanza| deb822(stanza, own_suite, extra_suites)).collect()
}

fn one_line(line: &str, own_suite: &str, extra_suites: &[&str]) -> Option<Source> {
    let rest = line.trim().strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let rest = rest.split_once(" #").map_or(rest, |(before, _)| before);
    let (options, rest) = match rest.strip_prefix('[') {
        Some(inside) => inside.split_once(']').map(|(options, rest)| (format!("[{options}] "), rest))?,
        None => (String::new(), rest),
    };
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    if !is_debian(suite, own_suite) || !words.any(|component| component == "main") {
        return None;
    }
    let line = |suite| format!("deb {options}{uri} {suite} main\n");
    Some(Source { format: "list", text: all(suite, extra_suites).map(line).collect() })
}

/// The fields of one deb822 stanza; a continued value keeps its line breaks (an inline key has many).
type Stanza = Vec<(String, String)>;

fn stanzas(text: &str) -> Vec<Stanza> {
    let mut stanzas = vec![Stanza::new()];
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some(stanza) = stanzas.last_mut() else { continue };
        if line.trim().is_empty() {
            stanzas.push(Stanza::new());
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = stanza.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            stanza.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    stanzas
}

fn deb822(stanza: &Stanza, own_suite: &str, extra_suites: &[&str]) -> Option<Source> {
    let has = |field: &str, word: &str| value(stanza, field).split_whitespace().any(|one| one == word);
    let suite = value(stanza, "suites").split_whitespace().find(|suite| is_debian(suite, own_suite))?;
    if value(stanza, "enabled") == "no" || !has("types", "deb") || !has("components", "main") {
        return None;
    }
    let suites = all(suite, extra_suites).collect::<Vec<_>>().join(" ");
    let mut text = format!("Types: deb\nSuites: {suites}\nComponents: main\n");
    for (name, value) in stanza.iter().filter(|(name, _)| !REPLACED.contains(&name.as_str())) {
        text.push_str(&format!("{name}: {value}\n"));
    }
    Some(Source { format: "sources", text })
}

/// A suite, and the others that are not the same.
fn all<'a>(suite: &'a str, others: &[&'a str]) -> impl Iterator<Item = &'a str> {
    std::iter::once(suite).chain(others.iter().copied().filter(move |other| *other != suite))
}

/// The fields that the private source states itself.
const REPLACED: [&str; 4] = ["types", "suites", "components", "enabled"];

fn value<'a>(stanza: &'a Stanza, field: &str) -> &'a str {
    stanza.iter().find(|(name, _)| name == field).map_or("", |(_, value)| value)
}

/// Whether a suite is one of Debian's whole releases, not one of its updates, backports or somebody else's.
fn is_debian(suite: &str, own_suite: &str) -> bool {
    suite == own_suite || ["oldstable", "stable", "testing", "unstable", "sid"].contains(&suite)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEB822: &str = "\
Types: deb
# a comment
URIs: https://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian.gpg

Types: deb
URIs: https://mirror.example/debian-security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: https://off.example/debian
Suites: bookworm
Components: main
";

    #[test]
    fn deb822_keeps_mirror_and_keyring() {
        let sources = from_deb822(DEB822, "bookworm", &["later", "bookworm"]);
        assert_eq!(
            sources,
            [Source {
                format: "sources",
                text: "Types: deb\nSuites: bookworm later\nComponents: main\n\
                       uris: https://mirror.example/debian\nsigned-by: /usr/share/keyrings/debian.gpg\n"
                    .to_owned()
            }]
        );
    }

    #[test]
    fn an_inline_key_survives() {
        let text = "Types: deb\nURIs: file:/d\nSuites: sid\nComponents: main\nSigned-By:\n KEY\n .\n MORE\n";
        let sources = from_deb822(text, "forky", &["later"]);
        assert!(sources[0].text.ends_with("signed-by: \n KEY\n .\n MORE\n"), "{}", sources[0].text);
    }

    #[test]
    fn ubuntu_is_sought_beside_debian() {
        let keyring = Path::new("/k.gpg");
        for text in [
            "uris: https://mirror.example/debian/\n",
            "deb [arch=amd64] https://mirror.example/debian sid main\n",
        ] {
            let source =
                Source { format: "list", text: text.to_owned() }.of_ubuntu("noble", keyring).unwrap();
            assert_eq!(
                source.text,
                "Types: deb\nURIs: https://mirror.example/ubuntu\nSuites: noble\nComponents: main\nSigned-By: /k.gpg\n"
            );
        }
        let alone = Source { format: "list", text: "deb http://debian.example/ sid main\n".to_owned() };
        assert_eq!(alone.of_ubuntu("noble", keyring), None);
    }

    #[test]
    fn one_line_keeps_options() {
        let text = "# deb http://off.example/debian bookworm main\n\
                    deb-src http://mirror.example/debian bookworm main\n\
                    deb [signed-by=/k.gpg arch=amd64] http://mirror.example/debian bookworm main contrib # why\n\
                    deb http://other.example/docker bookworm stable\n";
        let sources = from_list(text, "bookworm", &["later", "bookworm"]);
        assert_eq!(
            sources,
            [Source {
                format: "list",
                text: "deb [signed-by=/k.gpg arch=amd64] http://mirror.example/debian bookworm main\n\
                       deb [signed-by=/k.gpg arch=amd64] http://mirror.example/debian later main\n"
                    .to_owned()
            }]
        );
    }
}
