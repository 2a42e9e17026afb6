//! A bounded sample from all over a text that passes once and is of any length.
//!
//! The text is cut into runs of equal length, and of each run one block is kept, chosen at random.
//! When there is no room for another block, one of every two is let go, and runs are twice as long
//! from there on. So every block of the text is as likely to be kept as any other, and nobody can
//! put what is cheap where it will be looked at.

use bytes::Bytes;

use super::sample::{LONGEST_SAMPLE, Sample};

/// Bytes of a block. Each has its cuts, which cost about a token.
pub(super) const BLOCK: usize = 256;

const BLOCK_BYTES: u64 = BLOCK as u64;
const MOST_BLOCKS: usize = LONGEST_SAMPLE / BLOCK;

/// Collects the insides of JSON strings while they pass. Nothing is allocated before there is text.
#[derive(Debug)]
pub(crate) struct Spread {
    kept: Vec<u8>,
    /// Bytes that have passed.
    passed: u64,
    /// Bytes that have passed unseen.
    unseen: u64,
    /// Bytes of a run.
    run: u64,
    /// Where the current run ends, and where its block begins.
    run_end: u64,
    block: u64,
    dice: u64,
}

impl Default for Spread {
    /// For texts of which nobody knows beforehand what will stand where.
    fn default() -> Self {
        Self::new(0)
    }
}

impl Spread {
    /// `seed` is not to be known to whoever wrote the text.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            kept: Vec::new(),
            passed: 0,
            unseen: 0,
            run: BLOCK_BYTES,
            run_end: 0,
            block: 0,
            dice: seed,
        }
    }

    /// Takes the next part.
    pub(crate) fn take(&mut self, part: &[u8]) {
        let mut rest = part;
        while !rest.is_empty() {
            if self.passed == self.run_end {
                self.begin_run();
            }
            let block_end = self.block.saturating_add(BLOCK_BYTES);
            let is_kept = (self.block..block_end).contains(&self.passed);
            let end = match self.passed {
                passed if passed < self.block => self.block,
                _ if is_kept => block_end,
                _ => self.run_end,
            };
            let length = usize::try_from(end - self.passed).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at(length);
            if is_kept {
                self.keep(now);
            }
            self.passed = self.passed.saturating_add(now.len() as u64);
            rest = later;
        }
    }

    /// Counts what can't be looked at.
    pub(crate) fn pass_over(&mut self, length: u64) {
        self.unseen = self.unseen.saturating_add(length);
    }

    /// Forgets everything, and frees what it took.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.dice);
    }

    /// The sample of what has passed. It is handed over.
    pub(crate) fn strings(&mut self) -> Sample {
        let fresh = Self::new(self.dice);
        let Self { kept, passed, unseen, run, .. } = std::mem::replace(self, fresh);
        Sample::of_strings(Bytes::from(kept), passed.saturating_add(unseen), run > BLOCK_BYTES)
    }

    /// Whether no text has passed.
    pub(super) fn is_empty(&self) -> bool {
        self.passed == 0
    }

    fn begin_run(&mut self) {
        if self.kept.len() >= LONGEST_SAMPLE {
            self.thin();
        }
        let place = self.roll() % (self.run / BLOCK_BYTES);
        self.block = self.passed.saturating_add(place * BLOCK_BYTES);
        self.run_end = self.passed.saturating_add(self.run);
    }

    /// Lets one block of every two go.
    fn thin(&mut self) {
        for pair in 0..MOST_BLOCKS / 2 {
            let one = pair * 2 + usize::from(self.roll() & 1 == 1);
            self.kept.copy_within(one * BLOCK..(one + 1) * BLOCK, pair * BLOCK);
        }
        self.kept.truncate(LONGEST_SAMPLE / 2);
        self.run = self.run.saturating_mul(2);
    }

    fn keep(&mut self, part: &[u8]) {
        let needed = self.kept.len() + part.len();
        if needed > self.kept.capacity() {
            // Doubled, but not beyond the bound as it would be by itself.
            let capacity = (self.kept.capacity() * 2).clamp(needed, LONGEST_SAMPLE.max(needed));
            self.kept.reserve_exact(capacity - self.kept.len());
        }
        self.kept.extend_from_slice(part);
    }

    /// SplitMix64: well spread, and all that is asked of it is that it can't be foreseen.
    fn roll(&mut self) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.dice;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// How much memory is taken, in bytes.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.kept.capacity()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A text that says of every byte in which block it stands.
    fn numbered(blocks: usize) -> Vec<u8> {
        (0..blocks * BLOCK).map(|at| (at / BLOCK % 251) as u8).collect()
    }

    fn taken(text: &[u8], seed: u64, size: usize) -> Spread {
        let mut spread = Spread::new(seed);
        for part in text.chunks(size) {
            spread.take(part);
            assert!(spread.capacity() <= LONGEST_SAMPLE);
        }
        spread
    }

    #[test]
    fn a_short_text_is_kept_whole() {
        for length in [0, 1, BLOCK, BLOCK + 1, LONGEST_SAMPLE - 1, LONGEST_SAMPLE] {
            let text: Vec<u8> = (0..length).map(|at| (at % 253) as u8).collect();
            let spread = taken(&text, 7, 100);
            assert_eq!((spread.kept.as_slice(), spread.run), (text.as_slice(), BLOCK_BYTES));
        }
    }

    #[test]
    fn memory_is_taken_as_there_is_text() {
        let mut spread = Spread::default();
        spread.take(b"");
        assert_eq!(spread.capacity(), 0);
        spread.take(b"ab");
        assert!(spread.capacity() < 64);
        spread.pass_over(7);
        assert_eq!(spread.strings().whole(), 9);
        assert!(spread.strings().is_empty() && spread.is_empty());
    }

    #[test]
    fn every_block_is_as_likely_as_any_other() {
        const BLOCKS: usize = 600;
        let mut times = vec![0_u32; BLOCKS];
        let text: Vec<u8> = (0..BLOCKS)
            .flat_map(|block| {
                let number = (block as u16).to_be_bytes();
                number.into_iter().cycle().take(BLOCK)
            })
            .collect();
        for seed in 0..800 {
            let spread = taken(&text, seed << 32, 4096);
            for block in spread.kept.chunks_exact(BLOCK) {
                times[usize::from(u16::from_be_bytes([block[0], block[1]]))] += 1;
            }
        }
        // One of eight is kept: a hundred times, give or take six standard deviations.
        assert!(times.iter().all(|times| (44..=156).contains(times)), "{times:?}");
    }

    proptest! {
        #[test]
        fn one_block_of_every_run(blocks in 0..2_000_usize, seed in any::<u64>(), size in 1..5_000_usize) {
            let text = numbered(blocks);
            let spread = taken(&text, seed, size);
            prop_assert_eq!(spread.passed, text.len() as u64);
            let run = usize::try_from(spread.run).unwrap();
            // All but the last run have their block.
            let kept = spread.kept.len().div_ceil(BLOCK);
            prop_assert!(kept.abs_diff(text.len().div_ceil(run)) <= 1);
            prop_assert!(blocks <= MOST_BLOCKS || kept >= MOST_BLOCKS / 2);
            for (place, block) in spread.kept.chunks_exact(BLOCK).enumerate() {
                let run = &text[place * run..text.len().min((place + 1) * run)];
                prop_assert!(run.chunks(BLOCK).any(|one| one == block));
            }
            // However it comes in parts, it is the same.
            prop_assert_eq!(taken(&text, seed, usize::MAX).kept, spread.kept);
        }
    }
}
