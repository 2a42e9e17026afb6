//! Callers' requests for a target of every other format.

use std::fs;
use std::path::Path;

use super::snapshots::Snapshots;
use super::{ALL, CALLERS, convert, name};

/// Requests of callers: format's folder, name, text.
pub(super) fn requests() -> Vec<(crate::llm::format::Format, String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/requests");
    let mut requests = Vec::new();
    for caller in CALLERS {
        let files = fs::read_dir(folder.join(name(caller))).unwrap();
        let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files {
            let stem = file.file_stem().unwrap().to_str().unwrap().to_owned();
            requests.push((caller, stem, fs::read_to_string(&file).unwrap()));
        }
    }
    requests
}

#[test]
fn requests_are_written_as_in_the_snapshots() {
    let mut snapshots = Snapshots::open("requests");
    for (caller, stem, json) in requests() {
        // What comes with the requests: errors, fields that were left out, and names that were replaced.
        let mut told = String::new();
        for target in ALL.into_iter().filter(|target| *target != caller) {
            let mut tell = |what: &str| told.push_str(&format!("{}: {what}\n", name(target)));
            match convert(&json, caller, target) {
                Ok(converted) => {
                    let file = format!("{}/{stem}.{}.json", name(caller), name(target));
                    snapshots.check(&file, &format!("{}\n", converted.json));
                    if !converted.dropped.is_empty() {
                        tell(&format!("left out {}", converted.dropped.join(", ")));
                    }
                }
                Err(error) => tell(&error.to_string()),
            }
        }
        snapshots.check(&format!("{}/{stem}.txt", name(caller)), &told);
    }
    snapshots.finish();
}
