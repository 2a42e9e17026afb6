use std::collections::BTreeMap;
use std::process::Command;

use super::segment::{self, Lines};
use super::*;
use crate::accounting::record::{AttemptOutcome, UsageSource};
use crate::clock::Clock;
use crate::domain::money::NanoUsd;
use crate::domain::tokens::TokenUsage;
use record::{Record, decode};

fn start(clock: &Clock) -> AttemptStart {
    AttemptStart {
        id: clock.new_id(),
        request_id: clock.new_id(),
        attempt: 1,
        admitted_at: clock.now(),
        organization_id: clock.new_id(),
        workspace_id: clock.new_id(),
        api_key_id: Some(clock.new_id()),
        user_id: Some(clock.new_id()),
        configuration_id: clock.new_id(),
        configuration: "chat\nbot".to_owned(),
        route: "chat_completions".to_owned(),
        model_asked: Some("m\u{2028}".to_owned()),
        model: "gpt-4o-mini".to_owned(),
        client_request_id: None,
        policies: vec![clock.new_id(), clock.new_id()],
        metadata: BTreeMap::from([("team".to_owned(), "search".to_owned())]),
        reserved: Some(NanoUsd::from_nanos(123_456_789)),
        price_version: Some("catalogue:1:openai/gpt-4o-mini".to_owned()),
    }
}

fn end(start: &AttemptStart) -> AttemptEnd {
    AttemptEnd {
        id: start.id,
        outcome: AttemptOutcome::Completed,
        status: Some(200),
        code: None,
        model_used: Some("gpt-4o-mini-2024-07-18".to_owned()),
        usage: TokenUsage { input: Some(12), output: Some(34), ..TokenUsage::default() },
        usage_source: UsageSource::Provider,
        cost: Some(NanoUsd::from_nanos(-7)),
        first_byte_ms: Some(250),
        duration_ms: Some(1_000),
        violated: Vec::new(),
    }
}

fn options(directory: &std::path::Path) -> JournalOptions {
    JournalOptions { reserve_bytes: 4096, ..JournalOptions::new(directory.to_owned(), 1 << 30) }
}

fn open(options: JournalOptions) -> Arc<Journal> {
    let lock = DirectoryLock::take(&options.directory).unwrap();
    Journal::open(options, lock, 1, Readiness::default()).unwrap()
}

fn read(directory: &std::path::Path) -> Vec<Option<Record>> {
    let mut records = Vec::new();
    for (number, len) in segment::list(directory).unwrap() {
        let mut lines = Lines::open(directory, number, 0, len).unwrap();
        let mut line = Vec::new();
        while lines.next(&mut line).unwrap() {
            records.push(decode(&line));
        }
    }
    records
}

#[test]
fn what_was_written_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(options(directory.path()));
    let (first, second) = (start(&Clock::default()), start(&Clock::default()));
    journal.start(&first).unwrap();
    journal.blocked(&second, &end(&second)).unwrap();
    journal.seal();
    journal.end(end(&first));
    journal.end(end(&first));
    let expected = [
        Record::Start(Box::new(first.clone())),
        Record::Blocked(Box::new(second.clone()), Box::new(end(&second))),
        Record::End(Box::new(end(&first))),
    ];
    assert_eq!(read(directory.path()), expected.map(Some));
    assert_eq!(journal.records(), 3);
    let mode = |path: &std::path::Path| {
        std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions()) & 0o777
    };
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[test]
fn a_line_that_is_cut_or_changed_anywhere_is_none() {
    let mut line = Vec::new();
    let start = start(&Clock::default());
    encode(RecordRef::Start(&start), &mut line).unwrap();
    let line = &line[1..];
    assert_eq!(decode(line), Some(Record::Start(Box::new(start))));
    for cut in 0..line.len() - 1 {
        assert_eq!(decode(&line[..cut]), None, "{cut}");
    }
    assert!(decode(&line[..line.len() - 1]).is_some(), "only its line feed is missing");
    for at in 0..line.len() - 1 {
        for bit in 0..8 {
            let mut changed = line.to_vec();
            changed[at] ^= 1 << bit;
            // A digit in the other letter case says the same.
            let same = changed[..8].eq_ignore_ascii_case(&line[..8]) && changed[8..] == line[8..];
            assert_eq!(decode(&changed).is_some(), same, "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn a_directory_is_one_process_alone() {
    let directory = tempfile::tempdir().unwrap();
    let lock = DirectoryLock::take(directory.path()).unwrap();
    let said = DirectoryLock::take(directory.path()).unwrap_err().to_string();
    assert!(said.contains("another process"), "{said}");
    lock.release();
    DirectoryLock::take(directory.path()).unwrap();
}

#[test]
fn beyond_the_bound_nothing_begins_and_everything_ends() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path());
    options.max_bytes = 4096;
    let journal = open(options);
    let mut running = Vec::new();
    let refused = loop {
        let start = start(&Clock::default());
        match journal.start(&start) {
            Ok(()) => running.push(start),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, JournalFull::Bound);
    assert!(journal.readiness.is_journal_full());
    for start in &running {
        journal.end(end(start));
    }
    assert_eq!(read(directory.path()).len(), running.len() * 2);
    journal.forget(journal.bytes());
    journal.recover_room(true);
    assert!(!journal.readiness.is_journal_full());
    journal.start(&start(&Clock::default())).unwrap();
}

/// Runs itself once more in a process whose files can't grow beyond 16 KiB, as on a full disk:
/// write(2) is cut short first and then fails with EFBIG.
#[test]
fn a_full_disk_takes_the_ends_of_what_runs() {
    const DIRECTORY: &str = "TOLLGATE_JOURNAL_TEST";
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return on_a_full_disk(PathBuf::from(directory));
    }
    let directory = tempfile::tempdir().unwrap();
    let script = "trap '' XFSZ; ulimit -f 32; exec \"$0\" \"$@\" 2>&1";
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(["accounting::journal::tests::a_full_disk_takes_the_ends_of_what_runs", "--exact"])
        .env(DIRECTORY, directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn on_a_full_disk(directory: PathBuf) {
    let journal = open(options(&directory));
    let mut running = Vec::new();
    let refused = loop {
        let start = start(&Clock::default());
        match journal.start(&start) {
            Ok(()) => running.push(start),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, JournalFull::Disk);
    assert!(journal.readiness.is_journal_full());
    assert!(running.len() > 10, "{}", running.len());
    assert_eq!(journal.start(&running[0]), Err(JournalFull::Disk), "shed until there is room");
    for start in &running {
        journal.end(end(start));
    }
    assert!(!directory.join("reserve").exists(), "given up");
    let records = read(&directory);
    assert!(records.iter().all(Option::is_some), "nothing is torn");
    assert_eq!(records.len(), running.len() * 2);
    assert!(journal.seal().unwritten.is_empty());
    journal.recover_room(false);
    assert!(journal.readiness.is_journal_full());
    journal.recover_room(true);
    assert!(!journal.readiness.is_journal_full());
    assert!(directory.join("reserve").exists(), "made anew");
    journal.start(&start(&Clock::default())).unwrap();
}

#[test]
fn ends_that_no_disk_takes_are_kept_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(options(directory.path()));
    let start = start(&Clock::default());
    journal.start(&start).unwrap();
    journal.seal();
    // Neither the old file nor a new one can be written.
    let unwritable = std::fs::File::open(segment::path(directory.path(), 2)).unwrap();
    journal.replace_file(unwritable);
    std::fs::write(segment::path(directory.path(), 3), "").unwrap();
    journal.end(end(&start));
    assert_eq!(journal.start(&start), Err(JournalFull::Disk));
    assert!(journal.has_unwritten());
    assert_eq!(journal.seal().unwritten, [end(&start)]);
}

#[test]
fn many_threads_write_whole_lines() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path());
    options.segment_bytes = 8192;
    let journal = open(options);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let start = start(&Clock::default());
                    journal.start(&start).unwrap();
                    journal.end(end(&start));
                }
            });
        }
    });
    let mut open = std::collections::HashSet::new();
    for record in read(directory.path()) {
        match record.unwrap() {
            Record::Start(start) => assert!(open.insert(start.id)),
            Record::End(end) => assert!(open.remove(&end.id), "an end stands after its start"),
            Record::Blocked(..) => unreachable!(),
        }
    }
    assert!(open.is_empty());
    assert_eq!(journal.records(), 3_200);
    let bytes: u64 = segment::list(directory.path()).unwrap().iter().map(|(_, len)| len).sum();
    assert_eq!(journal.bytes(), bytes);
}
