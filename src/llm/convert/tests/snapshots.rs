//! Files with what was written, which a person has read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// With this variable set, the files are written anew. Read what changes before you commit it.
const REWRITE: &str = "TOLLGATE_REWRITE_SNAPSHOTS";

/// The snapshots in a folder of `tests/fixtures/golden`.
pub(super) struct Snapshots {
    folder: PathBuf,
    seen: BTreeSet<PathBuf>,
    /// Paths of files that are not as they should be.
    different: Vec<String>,
}

impl Snapshots {
    pub(super) fn open(folder: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden");
        Self { folder: root.join(folder), seen: BTreeSet::new(), different: Vec::new() }
    }

    /// Compares the text with the file.
    pub(super) fn check(&mut self, name: &str, text: &str) {
        let path = self.folder.join(name);
        if env::var_os(REWRITE).is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
        } else if fs::read_to_string(&path).ok().as_deref() != Some(text) {
            self.different.push(name.to_owned());
        }
        self.seen.insert(path);
    }

    /// Sees that every snapshot is as its file, and every file belongs to a snapshot.
    pub(super) fn finish(self) {
        let mut unused = Vec::new();
        for folder in fs::read_dir(&self.folder).unwrap() {
            for file in fs::read_dir(folder.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                if self.seen.contains(&path) {
                    continue;
                }
                match env::var_os(REWRITE) {
                    Some(_) => fs::remove_file(&path).unwrap(),
                    None => unused.push(path),
                }
            }
        }
        assert!(
            self.different.is_empty() && unused.is_empty(),
            "set {REWRITE} to write snapshots anew: {:?} differ, {unused:?} are of no use",
            self.different
        );
    }
}
