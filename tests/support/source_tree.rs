//! The library's source files and what each of them imports, read as text.
//!
//! Unit tests are left out: what has `#[cfg(test)]`, and the files of such modules. A path counts
//! where it is used, in a `use` declaration or in code. A name that a module only passes on with
//! `use` is followed to the file that defines it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs,
    path::Path,
};

/// A module of the library: a file, and what its code names.
pub(crate) struct SourceFile {
    /// Relative to `src`, such as `db/mod.rs`.
    pub(crate) path: String,
    /// The module's path without `crate`, such as `["db", "ledger"]`.
    pub(crate) module: Vec<String>,
    /// Paths in code, and those of `use` declarations that the code or nobody but it uses.
    pub(crate) imports: BTreeSet<Vec<String>>,
    /// What each name of a `use` declaration stands for.
    names: HashMap<String, Vec<String>>,
}

/// Every file of the library but those of unit tests.
pub(crate) struct SourceTree {
    pub(crate) files: Vec<SourceFile>,
    by_module: HashMap<Vec<String>, usize>,
}

impl SourceTree {
    /// Reads the files of `src`.
    pub(crate) fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut sources = Vec::new();
        collect(&root, &root, &mut sources);
        Self::of(&sources)
    }

    /// A tree of files: paths relative to `src`, and contents.
    pub(crate) fn of(sources: &[(String, String)]) -> Self {
        let parsed: Vec<(&String, Vec<String>, Parsed)> = sources
            .iter()
            .map(|(path, source)| (path, module_of(path), Parsed::of(source)))
            .collect();
        let test_modules: HashSet<Vec<String>> = parsed
            .iter()
            .flat_map(|(_, module, parsed)| {
                parsed
                    .test_modules
                    .iter()
                    .map(move |name| joined(module, std::slice::from_ref(name)))
            })
            .collect();
        let is_test =
            |module: &[String]| (1..=module.len()).any(|n| test_modules.contains(&module[..n]));
        let files: Vec<SourceFile> = parsed
            .into_iter()
            .filter(|(_, module, _)| !is_test(module))
            .map(|(path, module, parsed)| parsed.into_file(path.clone(), module))
            .collect();
        let by_module =
            files.iter().enumerate().map(|(index, file)| (file.module.clone(), index)).collect();
        Self { files, by_module }
    }

    /// The file that defines what a path of `crate` names. Absent for paths of other crates.
    pub(crate) fn file_of(&self, path: &[String]) -> Option<&SourceFile> {
        let mut path = path.to_vec();
        // Names that are passed on form no circle in code that compiles.
        loop {
            let (first, rest) = path.split_first()?;
            if first != "crate" {
                return None;
            }
            let depth =
                (0..=rest.len()).rev().find(|&n| self.by_module.contains_key(&rest[..n]))?;
            let file = &self.files[self.by_module[&rest[..depth]]];
            match rest.get(depth).and_then(|name| file.names.get(name)) {
                Some(target) if target.first().is_some_and(|first| first == "crate") => {
                    path = joined(target, &rest[depth + 1..]);
                }
                _ => return Some(file),
            }
        }
    }

    /// The files of one room that import each other in a circle, each circle sorted by path, with what
    /// each file imports from the others. Imports between a module and the modules in it do not count:
    /// these share one task, and the inner ones see all of the outer one.
    pub(crate) fn circles(&self) -> Vec<BTreeMap<&str, BTreeSet<String>>> {
        let mut edges: BTreeMap<&str, BTreeMap<&str, BTreeSet<String>>> = BTreeMap::new();
        for file in &self.files {
            let targets = edges.entry(&file.path).or_default();
            for import in &file.imports {
                if let Some(target) = self.file_of(import)
                    && target.path != file.path
                    && room(&target.path) == room(&file.path)
                    && !target.module.starts_with(&file.module)
                    && !file.module.starts_with(&target.module)
                {
                    targets.entry(&target.path).or_default().insert(import.join("::"));
                }
            }
        }
        let reachable: BTreeMap<&str, BTreeSet<&str>> =
            edges.keys().map(|path| (*path, reachable_from(path, &edges))).collect();
        let mut circles = Vec::new();
        let mut seen = BTreeSet::new();
        for (path, targets) in &reachable {
            if !targets.contains(path) || seen.contains(path) {
                continue;
            }
            let members: Vec<&str> =
                targets.iter().filter(|other| reachable[*other].contains(path)).copied().collect();
            seen.extend(members.iter().copied());
            circles.push(
                members
                    .iter()
                    .map(|member| {
                        let inside = edges[member].iter().filter(|(to, _)| members.contains(to));
                        (*member, inside.flat_map(|(_, names)| names.clone()).collect())
                    })
                    .collect(),
            );
        }
        circles
    }
}

/// The room of a file: its folder in `src`, or its own name.
pub(crate) fn room(path: &str) -> &str {
    path.split(['/', '.']).next().unwrap_or(path)
}

fn reachable_from<'a>(
    start: &'a str,
    edges: &BTreeMap<&'a str, BTreeMap<&'a str, BTreeSet<String>>>,
) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut next = vec![start];
    while let Some(path) = next.pop() {
        next.extend(edges[path].keys().filter(|target| found.insert(**target)));
    }
    found
}

fn collect(root: &Path, folder: &Path, sources: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            sources.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The module's path of a file: `db/mod.rs` and `db.rs` are `["db"]`.
fn module_of(path: &str) -> Vec<String> {
    let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
    if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

fn joined(first: &[String], second: &[String]) -> Vec<String> {
    first.iter().chain(second).cloned().collect()
}

/// What a file says, before its paths are made absolute.
#[derive(Default)]
struct Parsed {
    children: HashSet<String>,
    test_modules: Vec<String>,
    /// The paths of `use` declarations, whether each is visible outside the module, and the name that it gets.
    uses: Vec<(Vec<String>, bool, String)>,
    paths: BTreeSet<Vec<String>>,
    words: HashSet<String>,
}

impl Parsed {
    fn of(source: &str) -> Self {
        let mut parsed = Self::default();
        let tokens = without_tests(tokens(source), &mut parsed.test_modules);
        let word = |index: usize| tokens.get(index).map_or("", String::as_str);
        let mut index = 0;
        while index < tokens.len() {
            let token = word(index);
            let is_path =
                word(index + 1) == "::" && index.checked_sub(1).is_none_or(|i| word(i) != "::");
            if token == "use" && word(index + 1) != "<" {
                let public = index > 0 && matches!(word(index - 1), "pub" | ")");
                index = parsed.read_use(&tokens, index + 1, &[], public);
            } else if token == "mod" && word(index + 2) == ";" {
                parsed.children.insert(word(index + 1).to_owned());
                index += 2;
            } else if token == "in" && index > 1 && word(index - 2) == "pub" {
                // How far an item can be seen is no import.
                while !matches!(word(index), ")" | "") {
                    index += 1;
                }
            } else if is_identifier(token) && is_path {
                let mut path = vec![token.to_owned()];
                while word(index + 1) == "::" && is_identifier(word(index + 2)) {
                    path.push(word(index + 2).to_owned());
                    index += 2;
                }
                parsed.words.extend(path.iter().cloned());
                parsed.paths.insert(path);
                index += 1;
            } else {
                parsed.words.insert(token.to_owned());
                index += 1;
            }
        }
        parsed
    }

    /// Reads one tree of a `use` declaration, and returns where it ends.
    fn read_use(
        &mut self,
        tokens: &[String],
        mut index: usize,
        prefix: &[String],
        public: bool,
    ) -> usize {
        let mut path = prefix.to_vec();
        let mut name = None;
        while let Some(token) = tokens.get(index).map(String::as_str) {
            match token {
                "{" => {
                    index += 1;
                    while tokens.get(index).is_some_and(|token| token != "}") {
                        index = self.read_use(tokens, index, &path, public);
                        index += usize::from(tokens.get(index).is_some_and(|token| token == ","));
                    }
                    return index + 1;
                }
                "," | "}" | ";" => break,
                "as" => {
                    name = tokens.get(index + 1).cloned();
                    index += 1;
                }
                // The module itself: `a::{self, B}`.
                "self" if !path.is_empty() => {}
                "::" => {}
                word => path.push(word.to_owned()),
            }
            index += 1;
        }
        let name = name.or_else(|| path.last().cloned()).unwrap_or_default();
        self.uses.push((path, public, name));
        index
    }

    fn into_file(self, path: String, module: Vec<String>) -> SourceFile {
        let absolute = |path: &[String]| absolute(path, &module, &self.children);
        let names: HashMap<String, Vec<String>> =
            self.uses.iter().map(|(used, _, name)| (name.clone(), absolute(used))).collect();
        let mut imports: BTreeSet<Vec<String>> = self
            .paths
            .iter()
            .map(|path| {
                match path.split_first().and_then(|(first, rest)| Some((names.get(first)?, rest))) {
                    Some((module, rest)) => joined(module, rest),
                    None => absolute(path),
                }
            })
            .collect();
        let is_used =
            |(_, public, name): &&(Vec<String>, bool, String)| !public || self.words.contains(name);
        imports.extend(self.uses.iter().filter(is_used).map(|(used, ..)| absolute(used)));
        SourceFile { path, module, imports, names }
    }
}

/// A path from `crate` or from the name of another crate.
fn absolute(path: &[String], module: &[String], children: &HashSet<String>) -> Vec<String> {
    let here = || std::iter::once("crate".to_owned()).chain(module.iter().cloned());
    let supers = path.iter().take_while(|segment| *segment == "super").count();
    match path.first().map(String::as_str) {
        Some("super") => here()
            .take(1 + module.len().saturating_sub(supers))
            .chain(path[supers..].iter().cloned())
            .collect(),
        Some("self") => here().chain(path[1..].iter().cloned()).collect(),
        Some(first) if children.contains(first) => here().chain(path.iter().cloned()).collect(),
        _ => path.to_vec(),
    }
}

fn is_identifier(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Drops every item with `#[cfg(test)]`, and notes the modules among them that are files.
fn without_tests(tokens: Vec<String>, test_modules: &mut Vec<String>) -> Vec<String> {
    const CFG_TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::with_capacity(tokens.len());
    let mut index = 0;
    while index < tokens.len() {
        if !tokens[index..].iter().take(CFG_TEST.len()).eq(CFG_TEST.iter()) {
            kept.push(tokens[index].clone());
            index += 1;
            continue;
        }
        index += CFG_TEST.len();
        let start = index;
        let mut depth = 0;
        while let Some(token) = tokens.get(index) {
            match token.as_str() {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
            index += 1;
            if depth == 0 && matches!(token.as_str(), ";" | "}") {
                break;
            }
        }
        if let [.., keyword, name, end] = &tokens[start..index]
            && keyword == "mod"
            && end == ";"
        {
            test_modules.push(name.clone());
        }
    }
    kept
}

/// Identifiers, `::` and single other characters. Comments, texts and lifetimes are left out.
fn tokens(source: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(length) = text_length(rest) {
            length
        } else if first.is_alphabetic() || first == '_' {
            let length = word_length(rest);
            tokens.push(rest[..length].to_owned());
            length
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else if first.is_ascii_digit() {
            word_length(rest)
        } else {
            if !first.is_whitespace() {
                tokens.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

fn word_length(text: &str) -> usize {
    text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())
}

/// The length of a text, a character or a lifetime at the start.
fn text_length(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
        let after = rest.strip_prefix(prefix).unwrap_or("");
        let raw = prefix.ends_with('r');
        after.starts_with('"')
            || raw && after.starts_with('#') && after.trim_start_matches('#').starts_with('"')
            || matches!(*prefix, "b" | "") && after.starts_with('\'')
    })?;
    let body = &rest[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = body.len() - body.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(hashes));
        let start = hashes + 1;
        return Some(prefix.len() + start + body[start..].find(&end)? + end.len());
    }
    let quote = body.chars().next()?;
    if quote == '\'' && !body[1..].starts_with('\\') && body.chars().nth(2) != Some('\'') {
        return Some(1 + word_length(&body[1..]));
    }
    let mut escaped = false;
    let end = body[1..].find(|c| {
        let ends = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    Some(prefix.len() + 1 + end + 1)
}
