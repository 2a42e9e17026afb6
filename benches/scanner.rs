//! `cargo bench --bench scanner`: how fast a guard with all built-in detectors scans texts, in MB/s on one
//! core. `-- --quick` is a smoke run.
//!
//! The texts are the same in each run. Nothing here asserts a time: numbers are for people to read.
#![expect(clippy::print_stdout, reason = "the table is this program's output")]

use std::fmt::Write;
use std::time::{Duration, Instant};

use tollgate::policy::guard::entities::Entities;
use tollgate::policy::guard::policy::{Guard, GuardConfig};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const CONFIG: &str = r#"{"version":1,"detect":{"secrets":true,"pii":true}}"#;
const WORDS: [&str; 16] = [
    "the", "gateway", "answers", "every", "request", "of", "a", "caller", "with", "one", "policy",
    "and", "keeps", "count", "before", "model",
];
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const RUST: &str = concat!(
    include_str!("gateway.rs"),
    include_str!("targets.rs"),
    include_str!("measure.rs"),
    include_str!("upstream.rs"),
);
const MARKDOWN: &str = concat!(
    include_str!("../docs/operations.md"),
    include_str!("../docs/data-policy.md"),
    include_str!("../docs/options.md"),
);

/// A kind of text: its name, and what adds a piece of it.
type Kind = (&'static str, fn(&mut Random, &mut String) -> std::fmt::Result);

const KINDS: [Kind; 18] = [
    ("words", |random, text| write!(text, "{} ", random.word())),
    ("Rust source", |_, text| text.write_str(RUST)),
    ("Markdown", |_, text| text.write_str(MARKDOWN)),
    ("JSON", |random, text| {
        let (id, score) = (random.below(100_000), random.below(10_000));
        let (first, second, uuid) = (random.word(), random.word(), random.uuid());
        write!(
            text,
            r#"{{"id":{id},"name":"{first} {second}","score":0.{score},"uuid":"{uuid}","tags":["{second}"]}},"#
        )
    }),
    ("base64", |random, text| {
        for _ in 0..76 {
            let digit = BASE64.get(random.below(64) as usize).copied().unwrap_or_default();
            text.push(char::from(digit));
        }
        text.write_char('\n')
    }),
    ("log of a gateway", |random, text| {
        let time = random.time();
        let (uuid, bytes) = (random.uuid(), random.below(100_000));
        let (status, ms) = (200 + random.below(5), random.below(3000));
        writeln!(
            text,
            "2026-11-{time}Z  INFO proxy request completed request_id={uuid} status={status} ms={ms} bytes={bytes}"
        )
    }),
    ("log of a web server", |random, text| {
        let address = [(); 3].map(|()| random.below(256).to_string()).join(".");
        let (time, path, id) = (random.time(), random.word(), random.below(100_000));
        let (status, bytes) = (200 + random.below(5), random.below(100_000));
        writeln!(
            text,
            r#"10.{address} - - [{time}] "GET /v1/{path}/{id} HTTP/1.1" {status} {bytes} "-" "Mozilla/5.0 (X11; Linux x86_64; rv:128.0)""#
        )
    }),
    ("log of a system", |random, text| {
        let (time, pid, ms) = (random.time(), random.below(40_000), random.below(1000));
        let (first, second) = (random.word(), random.word());
        writeln!(text, "Nov {time} host1 daemon[{pid}]: {first} {second} in {ms} ms")
    }),
    ("numbers and commas", |random, text| write!(text, "{}, ", random.number())),
    ("numbers and blanks", |random, text| write!(text, "{} ", random.number())),
    ("fractions", |random, text| {
        write!(text, "{}.{:06} ", random.below(100), random.below(1_000_000))
    }),
    ("table of dates and numbers", |random, text| {
        let (id, day, count) = (random.below(1_000_000), 1 + random.below(28), random.number());
        writeln!(text, "{id},2026-11-{day:02},{count},{}", random.below(100))
    }),
    ("dates", |random, text| {
        write!(text, "2026-{:02}-{:02} ", 1 + random.below(12), 1 + random.below(28))
    }),
    ("times of day", |random, text| {
        let (hour, minute, second) = (random.below(24), random.below(60), random.below(60));
        write!(text, "{hour:02}:{minute:02}:{second:02} ")
    }),
    ("versions", |random, text| {
        write!(text, "{}.{}.{} ", random.below(20), random.below(100), random.below(1000))
    }),
    ("hex dump", |random, text| {
        write!(text, "{:08x} ", random.below(1 << 24) & !15)?;
        (0..16).try_for_each(|_| write!(text, " {:02x}", random.below(256)))?;
        text.write_str("  |................|\n")
    }),
    ("short numbers and commas", |random, text| write!(text, "{}, ", 10 + random.below(90))),
    ("numbers like parts of cards", |random, text| write!(text, "{} ", 1000 + random.below(9000))),
];

/// Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) % end
    }

    fn word(&mut self) -> &'static str {
        WORDS.get(self.below(WORDS.len() as u64) as usize).copied().unwrap_or_default()
    }

    /// A number of 1 to 12 digits.
    fn number(&mut self) -> u64 {
        let digits = 1 + self.below(12) as u32;
        self.below(10_u64.pow(digits))
    }

    fn uuid(&mut self) -> String {
        let [first, second] = [self.below(1 << 48), self.below(1 << 48)];
        let (low, high) = (second & 0xffff, second >> 16);
        format!("{high:08x}-{low:04x}-4e01-9c55-{first:012x}")
    }

    /// The day and the time of day.
    fn time(&mut self) -> String {
        let (day, hour) = (1 + self.below(28), self.below(24));
        let (minute, second) = (self.below(60), self.below(60));
        format!("{day:02}T{hour:02}:{minute:02}:{second:02}")
    }
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    // Cargo passes `--bench` from `cargo bench` only.
    if !given("--bench") {
        println!("not run: start this with `cargo bench --bench scanner`");
        return Ok(());
    }
    let (size, time) = match given("--quick") {
        true => (64 << 10, Duration::ZERO),
        false => (4 << 20, Duration::from_millis(500)),
    };
    let config: GuardConfig = serde_json::from_str(CONFIG)?;
    let guard = Guard::new(&[config]).map_err(|error| format!("{error:?}"))?;
    let guard = guard.ok_or("the guard detects nothing")?;
    println!("\n{:30}{:>8}{:>10}", "the guard's scanner", "MB/s", "findings");
    for (name, add) in KINDS {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut text = String::new();
        while text.len() < size {
            add(&mut random, &mut text)?;
        }
        let began = Instant::now();
        let mut best = Duration::MAX;
        let mut findings = 0;
        while best == Duration::MAX || began.elapsed() < time {
            let began = Instant::now();
            let report = guard.check_text(text.as_bytes(), &Entities::default(), &|| true)?;
            best = best.min(began.elapsed());
            findings = report.found.values().sum();
        }
        let speed = text.len() as f64 / best.as_secs_f64() / 1e6;
        println!("{name:30}{speed:>8.0}{findings:>10}");
    }
    Ok(())
}
