//! Every YAML example of the guide and of README.md is accepted, and the one that the package has in comments.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::parse;

/// Where the examples have their files. They are not there when a test runs.
const PLACES: [&str; 3] =
    ["/etc/director/secrets/", "/etc/director/internal-ca.pem", "/usr/local/lib/director/"];
/// Sections that stand beside `services`.
const SECTIONS: [&str; 7] = ["probes", "maintenance_dir", "notify", "heartbeat", "http", "socket", "limits"];

/// An example, and the line that it begins in.
struct Example {
    line: usize,
    text: String,
}

fn examples(document: &str) -> Vec<Example> {
    let mut found = Vec::new();
    let mut open: Option<Example> = None;
    for (i, line) in document.lines().enumerate() {
        match (&mut open, line.trim()) {
            (None, "```yaml") => open = Some(Example { line: i + 2, text: String::new() }),
            (Some(_), "```") => found.extend(open.take()),
            (Some(example), _) => example.text.extend([line.trim_end(), "\n"]),
            (None, _) => {}
        }
    }
    assert!(open.is_none(), "a block that does not end");
    found
}

/// README.md and the pages of the guide, with their names.
fn documents() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let pages = std::fs::read_dir(root.join("docs/guide")).unwrap().map(|entry| entry.unwrap().path());
    let markdown = pages.filter(|path| path.extension().is_some_and(|end| end == "md"));
    let paths = markdown.chain([root.join("README.md")]);
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read_to_string(&path).unwrap())
    };
    paths.map(read).collect()
}

/// A whole configuration of what may be a part of one.
fn whole(example: &str) -> String {
    let first = example.split(':').next().unwrap_or_default();
    if first == "interfaces" {
        return example.to_owned();
    }
    let section = if SECTIONS.contains(&first) { example } else { "" };
    let in_service = if section.is_empty() { example } else { "" };
    let mut text = "interfaces: [eth0]\n\
                    vips: [{ address: 192.0.2.10/24, interface: eth0 }]\n"
        .to_owned();
    text.push_str(section);
    text.push_str(
        "services:\n  - name: example\n    address: 192.0.2.10\n    port: 80\n    forward: direct\n",
    );
    text.push_str("    reals: [{ address: 192.0.2.21 }, { address: 192.0.2.22 }]\n");
    in_service.lines().for_each(|line| text.extend(["    ", line, "\n"]));
    text
}

/// Puts `file` where the example names one.
fn with_file(example: &str, file: &Path) -> String {
    let is_end = |letter: char| letter.is_whitespace() || ",}]\"'".contains(letter);
    let replaced = |example: String, place: &&str| {
        let mut parts = example.split(place);
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            text.push_str(&file.display().to_string());
            text.push_str(&part[part.find(is_end).unwrap_or(part.len())..]);
        }
        text
    };
    PLACES.iter().fold(example.to_owned(), replaced)
}

/// A file that stands in for those that examples name.
pub(super) struct SampleFile(tempfile::TempPath);

impl SampleFile {
    pub(super) fn new() -> SampleFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"xyzzy\n").unwrap();
        let path = file.into_temp_path();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        SampleFile(path)
    }

    /// The text, with this file in the place of others.
    pub(super) fn stand_in(&self, text: &str) -> String {
        with_file(text, &self.0)
    }
}

/// Every example as a whole configuration, with its document and line.
pub(super) fn configurations() -> Vec<(String, usize, String)> {
    let mut found = Vec::new();
    for (name, document) in documents() {
        let whole = |Example { line, text }| (name.clone(), line, whole(&text));
        found.extend(examples(&document).into_iter().map(whole));
    }
    assert!(found.len() > 40, "only {} examples were found", found.len());
    found
}

/// The lines of a commented configuration with no comment sign before them: those that begin as keys do, and what belongs to them.
fn uncommented(text: &str) -> String {
    let from = text.find("# interfaces:").expect("a configuration begins with its interfaces");
    let is_key = |line: &str| {
        let name = line.split(':').next().unwrap_or_default();
        line.starts_with(' ')
            || !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    let lines =
        text[from..].lines().map(|line| line.strip_prefix("# ").filter(|line| is_key(line)).unwrap_or(line));
    lines.map(|line| line.to_owned() + "\n").collect()
}

#[test]
fn what_the_package_has_in_comments_is_a_configuration() {
    // What the package installs as /etc/director/director.yaml.
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/debian/director.yaml");
    let packaged = std::fs::read_to_string(file).unwrap();
    let loaded = parse(&uncommented(&packaged)).unwrap_or_else(|problems| panic!("{}", problems[0]));
    assert!(loaded.config.services.len() == 1 && loaded.config.heartbeat.is_some(), "{:?}", loaded.config);
    let as_it_is = parse(&packaged).unwrap_err();
    assert!(as_it_is[0].to_string().contains("empty"), "{}", as_it_is[0]);
}

#[test]
fn the_examples_of_the_documentation_are_accepted() {
    let file = SampleFile::new();
    for (name, line, text) in configurations() {
        if let Err(problems) = parse(&file.stand_in(&text)) {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            panic!("{name}:{line}:\n{text}\n{}", problems.join("\n"));
        }
    }
}

#[test]
fn each_type_of_check_has_an_example() {
    let documents = documents();
    let guide = &documents.iter().find(|(name, _)| name == "health-checks.md").unwrap().1;
    let all: String = examples(guide).into_iter().map(|example| example.text).collect();
    let problems = parse(&whole("check: { type: nonsense }\n")).unwrap_err();
    // "it is one of `on`, `off`, …"
    let types = problems[0].hint.clone().unwrap();
    let types: Vec<&str> = types.split('`').skip(1).step_by(2).collect();
    assert!(types.len() > 20, "{types:?}");
    for kind in types {
        let alike = match kind {
            "off" => "on",
            "http" => "https",
            "ldap" => "ldaps",
            other => other,
        };
        assert!(all.contains(&format!("type: {alike}")), "{kind}");
        assert!(
            guide.lines().any(|line| line.starts_with("### ") && line.contains(&format!("`{kind}`"))),
            "{kind}"
        );
    }
}
