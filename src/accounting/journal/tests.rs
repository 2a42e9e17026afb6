//! Appending, sealing and reading back; damaged files and full disks.

use std::process::Command;

use super::record::{Decoded, Record, decode};
use super::segment::{self, Piece, Pieces};
use super::*;
use crate::accounting::record::{AttemptOutcome, UsageSource};
use crate::clock::Clock;
use crate::domain::content_finding::{
    ContentFinding, ContentFindings, FindingAction, FindingPlace,
};
use crate::domain::money::NanoUsd;
use crate::domain::tokens::TokenUsage;

fn start(clock: &Clock) -> Arc<AttemptStart> {
    Arc::new(AttemptStart::sample(clock))
}

fn findings() -> ContentFindings {
    vec![ContentFinding {
        place: FindingPlace::Answer,
        category: "email".to_owned(),
        action: FindingAction::Mask,
        count: 3,
    }]
    .into()
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
        list_cost: Some(NanoUsd::from_nanos(9)),
        findings: findings(),
        price_version: Some("catalogue:1:openai/gpt-4o".to_owned()),
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

/// `None` for what is no record.
fn read(directory: &std::path::Path) -> Vec<Option<Record>> {
    let mut records = Vec::new();
    for (number, _) in segment::list(directory).unwrap() {
        let bytes = segment::read(directory, number).unwrap();
        records.extend(Pieces::of(&bytes, 0).map(|piece| match piece {
            Piece::Record(record) => Some(record),
            Piece::Damaged(_) | Piece::Truncated => None,
        }));
    }
    records
}

fn entry(start: &Arc<AttemptStart>) -> LedgerEntry {
    LedgerEntry { start: Arc::clone(start), end: end(start) }
}

#[test]
fn records_are_read_as_they_were_written() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(options(directory.path()));
    let (first, second) = (start(&Clock::default()), start(&Clock::default()));
    journal.start(Arc::clone(&first)).unwrap();
    journal.blocked(entry(&second)).unwrap();
    journal.seal();
    journal.end(end(&first));
    journal.end(end(&first));
    let expected = [
        Record::Start(Arc::clone(&first)),
        Record::Entry(Box::new(entry(&second))),
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

/// Earlier versions wrote no price's version, no list price and no findings at the end of an end.
#[test]
fn an_end_of_an_earlier_version_is_read() {
    let findings = ContentFindings::default();
    let end = AttemptEnd {
        price_version: None,
        list_cost: None,
        findings,
        ..end(&start(&Clock::default()))
    };
    for missing in 1..=3 {
        let mut record = Vec::new();
        encode_end(&end, &mut record);
        let payload = record[9..record.len() - missing].to_vec();
        record.truncate(1);
        record.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        record.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
        record.extend_from_slice(&payload);
        let expected = Decoded::Record(Record::End(Box::new(end.clone())), record.len());
        assert_eq!(decode(&record), expected, "{missing}");
    }
}

#[test]
fn a_record_that_is_cut_or_changed_anywhere_is_not_read() {
    let mut record = Vec::new();
    let start = start(&Clock::default());
    encode_start(&start, &mut record);
    assert_eq!(decode(&record), Decoded::Record(Record::Start(start), record.len()));
    for cut in 1..record.len() {
        assert_eq!(decode(&record[..cut]), Decoded::Truncated, "{cut}");
    }
    for at in 0..record.len() {
        for bit in 0..8 {
            let mut changed = record.clone();
            changed[at] ^= 1 << bit;
            let decoded = decode(&changed);
            assert!(!matches!(decoded, Decoded::Record(..)), "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn records_after_a_damaged_one_are_read() {
    let clock = Clock::default();
    let records: Vec<Vec<u8>> = (0..3)
        .map(|_| {
            let mut record = Vec::new();
            encode_start(&start(&clock), &mut record);
            record
        })
        .collect();
    let length = records[1].len();
    for at in 0..length {
        let mut bytes = records.concat();
        bytes[records[0].len() + at] ^= 0x55;
        let pieces = Pieces::of(&bytes, 0);
        let read: Vec<bool> = pieces.map(|piece| matches!(piece, Piece::Record(_))).collect();
        assert_eq!(read, [true, false, true], "byte {at}");
    }
    // The end of the file never reached the disk, or was written in part.
    for rest in [&[0; 4096][..], &records[2][..length / 2]] {
        let bytes = [&records[0], rest].concat();
        let pieces: Vec<Piece<'_>> = Pieces::of(&bytes, 0).collect();
        assert!(matches!(pieces[..], [Piece::Record(_), Piece::Truncated]));
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

/// Starts attempts until one is refused.
fn fill(journal: &Journal) -> (Vec<Arc<AttemptStart>>, JournalFull) {
    let mut running = Vec::new();
    loop {
        let start = start(&Clock::default());
        match journal.start(Arc::clone(&start)) {
            Ok(()) => running.push(start),
            Err(refused) => return (running, refused),
        }
    }
}

#[test]
fn beyond_the_bound_nothing_begins_and_everything_ends() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path());
    options.max_bytes = 4096;
    let journal = open(options);
    let (running, refused) = fill(&journal);
    assert_eq!(refused, JournalFull::Bound);
    assert!(journal.readiness.is_journal_full());
    for start in &running {
        journal.end(end(start));
    }
    assert_eq!(read(directory.path()).len(), running.len() * 2);
    let sealed = journal.seal();
    assert_eq!(sealed.finished.len(), running.len());
    journal.remove(&sealed.done).unwrap();
    journal.recover_room(true);
    assert!(!journal.readiness.is_journal_full());
    journal.start(start(&Clock::default())).unwrap();
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
    let (running, refused) = fill(&journal);
    assert_eq!(refused, JournalFull::Disk);
    assert!(journal.readiness.is_journal_full());
    assert!(running.len() > 10, "{}", running.len());
    assert_eq!(
        journal.start(Arc::clone(&running[0])),
        Err(JournalFull::Disk),
        "shed until there is room"
    );
    for start in &running {
        journal.end(end(start));
    }
    assert!(!directory.join("reserve").exists(), "given up");
    let records = read(&directory);
    assert!(records.iter().all(Option::is_some), "nothing is torn");
    assert_eq!(records.len(), running.len() * 2);
    assert!(!journal.seal().has_unwritten);
    journal.recover_room(false);
    assert!(journal.readiness.is_journal_full());
    journal.recover_room(true);
    assert!(!journal.readiness.is_journal_full());
    assert!(directory.join("reserve").exists(), "made anew");
    journal.start(start(&Clock::default())).unwrap();
}

#[test]
fn ends_that_no_disk_takes_are_kept_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(options(directory.path()));
    let start = start(&Clock::default());
    journal.start(Arc::clone(&start)).unwrap();
    journal.seal();
    // Neither the old file nor a new one can be written.
    let unwritable = std::fs::File::open(segment::path(directory.path(), 2)).unwrap();
    journal.replace_file(unwritable);
    std::fs::write(segment::path(directory.path(), 3), "").unwrap();
    journal.end(end(&start));
    assert_eq!(journal.start(Arc::clone(&start)), Err(JournalFull::Disk));
    assert!(journal.has_unwritten());
    let sealed = journal.seal();
    assert!(sealed.has_unwritten && sealed.done.contains(&1));
    assert_eq!(sealed.finished[0].entry, entry(&start));
}

/// A power cut would take what a failed fdatasync(2) did not make durable.
#[test]
fn a_start_whose_copy_may_not_be_durable_keeps_its_segment() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path());
    options.compact_after = Duration::ZERO;
    let journal = open(options);
    journal.start(start(&Clock::default())).unwrap();
    let remove_done = || journal.remove(&journal.seal().done).unwrap();
    remove_done();
    // What is written to it is gone, and it can't be synced.
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
    journal.replace_file(null);
    journal.compact().unwrap_err();
    remove_done();
    let first = segment::path(directory.path(), 1);
    assert!(first.exists());

    // It is written once more to a file that can be synced. The bad one is tried again before.
    for _ in 0..3 {
        let _ = journal.compact();
        remove_done();
    }
    assert!(!first.exists());
    assert_eq!(read(directory.path()).len(), 1);
}

#[test]
fn what_memory_has_no_room_for_can_be_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path());
    options.max_in_memory = 1;
    let journal = open(options);
    let starts: Vec<_> = (0..3).map(|_| start(&Clock::default())).collect();
    starts.iter().for_each(|start| journal.start(Arc::clone(start)).unwrap());
    starts.iter().for_each(|start| journal.end(end(start)));
    let sealed = journal.seal();
    let on_disk: Vec<bool> = sealed.finished.iter().map(|one| one.is_only_on_disk).collect();
    assert_eq!(on_disk, [false, true, true]);
    assert_eq!((sealed.to_read, sealed.done), (vec![1], vec![1]));
    let entries = starts[1..].iter().map(|start| Some(Record::Entry(Box::new(entry(start)))));
    assert_eq!(read(directory.path())[4..], entries.collect::<Vec<_>>());
    journal.release(1);
    journal.forget_entries(1);
    journal.blocked(entry(&starts[0])).unwrap();
    let sealed = journal.seal();
    assert!(sealed.to_read.is_empty());
    assert!(!sealed.finished[0].is_only_on_disk);
}

#[test]
fn many_threads_write_whole_records() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path());
    options.segment_bytes = 8192;
    let journal = open(options);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let start = start(&Clock::default());
                    journal.start(Arc::clone(&start)).unwrap();
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
            Record::Entry(_) => unreachable!(),
        }
    }
    assert!(open.is_empty());
    assert_eq!(journal.records(), 3_200);
    let bytes: u64 = segment::list(directory.path()).unwrap().iter().map(|(_, len)| len).sum();
    assert_eq!(journal.bytes(), bytes);
}
