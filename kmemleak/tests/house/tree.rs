//! A tree of sources, as text without comments and literals, and the arrows between its files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Methods of types of other crates that have a namesake in ours.
const NAMESAKES: [&str; 8] = ["all", "clear", "clone", "eq", "get", "id", "map", "store"];

/// A source file.
pub struct File {
    /// Its module: `checker::claim` for `checker/claim.rs` and for `checker/claim/mod.rs`.
    pub module: String,
    /// Whether it is a `mod.rs`, or the crate's root.
    pub is_face: bool,
    /// Its text; comments, strings and what is for tests alone are blank.
    pub code: String,
    /// Lines, comments and all.
    pub lines: usize,
}

impl File {
    /// A file at `path` below the source folder, with this text.
    pub fn new(path: &str, text: &str) -> Self {
        let stem = path.trim_end_matches(".rs");
        let module = stem.trim_end_matches("/mod").replace('/', "::");
        Self {
            is_face: path.ends_with("mod.rs") || ["lib", "main"].contains(&stem),
            module,
            code: without_tests(&blanked(text)),
            lines: text.lines().count(),
        }
    }

    /// The number of the line at an offset.
    pub fn line_of(&self, offset: usize) -> usize {
        self.code[..offset].matches('\n').count() + 1
    }

    /// Where a word stands in the code.
    pub fn mentions<'f>(&'f self, word: &'f str) -> impl Iterator<Item = usize> + 'f {
        let is_letter =
            |letter: Option<char>| letter.is_some_and(|it| it.is_alphanumeric() || it == '_');
        self.code.match_indices(word).filter_map(move |(at, _)| {
            let whole = !is_letter(self.code[..at].chars().next_back())
                && (!word.ends_with(char::is_alphanumeric)
                    || !is_letter(self.code[at + word.len()..].chars().next()));
            whole.then_some(at)
        })
    }

    /// The modules that its paths begin with: `crate::…`, `self::…` and `super::…`, in `use` lines and elsewhere.
    fn paths(&self) -> Vec<(usize, String)> {
        let mut paths = Vec::new();
        for root in ["crate::", "super::", "self::"] {
            for at in self.mentions(root) {
                if self.code[..at].ends_with("::") {
                    continue;
                }
                let rest = &self.code[at..];
                let statement = self.code[..at]
                    .rsplit(['{', '}', ';'])
                    .next()
                    .unwrap_or_default();
                let end = match statement.contains("use ") {
                    true => rest.find(';').unwrap_or(rest.len()),
                    false => rest
                        .find(|letter: char| !letter.is_alphanumeric() && !"_:".contains(letter))
                        .unwrap_or(rest.len()),
                };
                expand("", &rest[..end], &mut |path| {
                    paths.push((self.line_of(at), self.absolute(path)))
                });
            }
        }
        paths
    }

    /// A path from the crate's root on.
    fn absolute(&self, path: &str) -> String {
        let mut here: Vec<&str> = self.module.split("::").collect();
        let mut segments = path.split("::").peekable();
        match segments.next() {
            Some("crate") => here.clear(),
            Some("super") => drop(here.pop()),
            _ => {}
        }
        while segments.peek() == Some(&"super") {
            segments.next();
            here.pop();
        }
        here.into_iter()
            .chain(segments)
            .collect::<Vec<_>>()
            .join("::")
    }
}

/// Shows each path of a `use` tree.
fn expand(prefix: &str, tree: &str, show: &mut dyn FnMut(&str)) {
    let Some((head, list)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        return show(&format!("{prefix}{}", path.trim_end_matches("::self")));
    };
    let prefix = format!("{prefix}{}", head.trim());
    let (mut depth, mut from) = (0, 0);
    let list = &list[..list.rfind('}').unwrap_or(list.len())];
    for (at, letter) in list.char_indices().chain([(list.len(), ',')]) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !list[from..at].trim().is_empty() {
                    expand(&prefix, list[from..at].trim(), show);
                }
                from = at + 1;
            }
            _ => {}
        }
    }
}

/// Comments and literals become blanks; lines stay.
fn blanked(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let end = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(literal) = rest.strip_prefix('"') {
            let mut escaped = false;
            let close = literal.find(|letter| {
                let closes = letter == '"' && !escaped;
                escaped = letter == '\\' && !escaped;
                closes
            });
            close.map_or(rest.len(), |close| close + 2)
        } else if rest.starts_with("r#\"") {
            rest.find("\"#").map_or(rest.len(), |close| close + 2)
        } else if rest.starts_with("'\"'") || rest.starts_with("'{'") || rest.starts_with("'}'") {
            3
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        code[at..at + end]
            .iter_mut()
            .filter(|byte| **byte != b'\n')
            .for_each(|byte| *byte = b' ');
        at += end;
    }
    String::from_utf8(code).expect("whole characters were replaced")
}

/// What is for tests alone becomes blank: from `#[cfg(test)]` to the end of the item.
fn without_tests(code: &str) -> String {
    let mut left = code.to_owned();
    while let Some(start) = left.find("#[cfg(test)]") {
        let mut depth = 0;
        let end = left[start..].char_indices().find_map(|(at, letter)| {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            (depth == 0 && (letter == '}' || letter == ';')).then_some(start + at + 1)
        });
        let end = end.unwrap_or(left.len());
        let blank: String = left[start..end]
            .chars()
            .map(|letter| if letter == '\n' { '\n' } else { ' ' })
            .collect();
        left.replace_range(start..end, &blank);
    }
    left
}

/// All files of a source folder.
pub struct Tree(pub Vec<File>);

impl Tree {
    /// Reads a folder; files and folders of tests are left out.
    pub fn read(root: &Path) -> Self {
        let mut files = Vec::new();
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("a folder of sources") {
                let path = entry.expect("an entry").path();
                let name = path
                    .strip_prefix(root)
                    .expect("below")
                    .to_str()
                    .expect("text")
                    .to_owned();
                if path.is_dir() {
                    if !path.ends_with("tests") {
                        folders.push(path);
                    }
                } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
                    let text = std::fs::read_to_string(&path).expect("a source");
                    files.push(File::new(&name, &text));
                }
            }
        }
        files.sort_by(|one, other| one.module.cmp(&other.module));
        Self(files)
    }

    /// The file that a path leads to.
    fn file(&self, path: &str) -> Option<&File> {
        let mut path = path;
        loop {
            if let Some(file) = self.0.iter().find(|file| file.module == path) {
                return Some(file);
            }
            path = path.rsplit_once("::")?.0;
        }
    }

    /// Who names whom: from, line, to. A folder's face and what lies in the folder are one: between them there is none.
    pub fn arrows(&self) -> Vec<(&File, usize, &File)> {
        let mut arrows = Vec::new();
        for file in &self.0 {
            for (line, path) in file.paths() {
                if let Some(to) = self.file(&path)
                    && !within(file, to)
                    && !within(to, file)
                {
                    arrows.push((file, line, to));
                }
            }
        }
        arrows
    }

    /// Who calls whose methods, of those methods that have one file alone.
    pub fn calls(&self) -> Vec<(&File, usize, &File, String)> {
        let mut owners: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for file in &self.0 {
            for (at, _) in file.code.match_indices("fn ") {
                let name = file.code[at + 3..]
                    .split(['(', '<'])
                    .next()
                    .unwrap_or_default();
                owners.entry(name).or_default().insert(&file.module);
            }
        }
        let mut calls = Vec::new();
        for file in &self.0 {
            for (at, _) in file.code.match_indices('.') {
                let name = file.code[at + 1..].split('(').next().unwrap_or_default();
                if !NAMESAKES.contains(&name)
                    && let Some(owner) = owners.get(name)
                    && owner.len() == 1
                    && let Some(to) = owner.first().and_then(|owner| self.file(owner))
                    && to.module != file.module
                {
                    calls.push((file, file.line_of(at), to, name.to_owned()));
                }
            }
        }
        calls
    }
}

fn within(inner: &File, outer: &File) -> bool {
    let below = inner.module.strip_prefix(outer.module.as_str());
    inner.module == outer.module
        || outer.is_face && below.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}
