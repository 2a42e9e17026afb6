//! Reads groups of digits with separators. Each group is read once, although a number may begin with each
//! of those before it.

use super::Text;

/// The most digits and groups of a number that is looked at.
pub(super) const MAX_DIGITS: usize = 20;
pub(super) const MAX_GROUPS: usize = 8;

const ONES: u64 = u64::from_ne_bytes([1; 8]);

/// What separates two groups of digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gap {
    Blank,
    /// A hyphen or a dash.
    Hyphen,
    Dot,
    Slash,
    /// A parenthesis, and perhaps a blank or hyphen.
    Parenthesis,
}

impl Gap {
    const ALL: [Self; 5] = [Self::Blank, Self::Hyphen, Self::Dot, Self::Slash, Self::Parenthesis];
}

/// Groups of digits from a place on: all that fit, and perhaps one more.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Where the first group begins.
    start: usize,
    count: usize,
    /// The number of digits of each group, a byte each.
    sizes: u64,
    /// What follows each group by its place in [`Gap::ALL`], and its length in bytes, a byte each.
    gaps: u64,
    widths: u64,
    /// The number of digits of all groups.
    total: usize,
    /// Where the group after the last one begins, if there is one.
    next: Option<usize>,
}

impl Groups {
    /// Reads the groups from the digit at `start`, while a digit follows. A group that a letter follows is
    /// left out.
    pub(super) fn read(&mut self, text: Text<'_>, start: usize) {
        while self.count > 0 && self.start < start {
            self.drop_first();
        }
        if self.start != start || (self.count == 0 && self.next.is_none()) {
            *self = Self { start, next: Some(start), ..Self::default() };
        }
        while self.count < MAX_GROUPS
            && self.total < MAX_DIGITS
            && let Some(at) = self.next
        {
            self.next = self.read_group(text, at);
        }
    }

    fn drop_first(&mut self) {
        let size = (self.sizes & 0xff) as usize;
        self.total -= size;
        self.start += size + (self.widths & 0xff) as usize;
        self.sizes >>= 8;
        self.widths >>= 8;
        self.gaps >>= 8;
        self.count -= 1;
    }

    /// Adds the group at a place. Returns where the next one begins.
    fn read_group(&mut self, text: Text<'_>, start: usize) -> Option<usize> {
        let end = text.digits_end(start, MAX_DIGITS + 1);
        let size = end - start;
        if size > MAX_DIGITS || text.at(end).is_some_and(|byte| byte.is_ascii_alphabetic()) {
            return None;
        }
        let shift = 8 * self.count;
        self.sizes |= (size as u64) << shift;
        self.total += size;
        self.count += 1;
        let (gap, next) = gap(text, end)?;
        self.gaps |= (gap as u64) << shift;
        self.widths |= ((next - end) as u64) << shift;
        Some(next)
    }

    /// The digits of each group, a byte each; zeros after the last group.
    pub(super) fn sizes(&self) -> u64 {
        self.sizes
    }

    /// The digits up to the end of each group, a byte each. After the last group it is the same again.
    pub(super) fn totals(&self) -> u64 {
        self.sizes.wrapping_mul(ONES)
    }

    /// Copies the digits of the first groups, without separators.
    pub(super) fn copy_digits(&self, text: Text<'_>, count: usize, digits: &mut [u8; MAX_DIGITS]) {
        let (sizes, widths) = (self.sizes.to_le_bytes(), self.widths.to_le_bytes());
        let mut rest = text.from(self.start);
        let mut places = digits.iter_mut();
        for (size, width) in sizes.into_iter().zip(widths).take(count) {
            let (group, after) = rest.split_at_checked(size.into()).unwrap_or_default();
            places.by_ref().zip(group).for_each(|(place, digit)| *place = *digit);
            rest = after.get(width.into()..).unwrap_or_default();
        }
    }

    /// What follows each group; after the last one it means nothing.
    pub(super) fn gaps(&self) -> [Gap; MAX_GROUPS] {
        let gap = |place: u8| Gap::ALL.get(usize::from(place)).copied().unwrap_or(Gap::Blank);
        self.gaps.to_le_bytes().map(gap)
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The end of the first groups in the text.
    pub(super) fn end(&self, count: usize) -> usize {
        let at = |sums: u64, count: usize| match count {
            0 => 0,
            _ => (sums >> (8 * (count - 1)) & 0xff) as usize,
        };
        self.start + at(self.totals(), count) + at(self.widths.wrapping_mul(ONES), count - 1)
    }
}

/// The separator at a place, and where the digit after it stands.
#[inline]
pub(super) fn gap(text: Text<'_>, at: usize) -> Option<(Gap, usize)> {
    // Most digits are followed by one that is short, or by none.
    match text.from(at) {
        [byte, b'0'..=b'9', ..] => {
            let gap = match byte {
                b' ' => Gap::Blank,
                b'-' => Gap::Hyphen,
                b'.' => Gap::Dot,
                b'/' => Gap::Slash,
                b'(' | b')' => Gap::Parenthesis,
                _ => return None,
            };
            Some((gap, at + 1))
        }
        [b' ' | b')' | 0xc2 | 0xe2, ..] => long_gap(text, at),
        _ => None,
    }
}

/// The same for separators of several bytes.
fn long_gap(text: Text<'_>, at: usize) -> Option<(Gap, usize)> {
    let (gap, length) = match text.from(at) {
        [b')', b' ' | b'-', ..] | [b' ', b'(', ..] => (Gap::Parenthesis, 2),
        [b' ', b'-', b' ', ..] => (Gap::Hyphen, 3),
        [b' ', b' ', ..] => (Gap::Blank, 2),
        // A no-break space, in UTF-8.
        [0xc2, 0xa0, ..] => (Gap::Blank, 2),
        // A figure, thin or narrow no-break space; a hyphen, a dash.
        [0xe2, 0x80, 0x87 | 0x89 | 0xaf, ..] => (Gap::Blank, 3),
        [0xe2, 0x80, 0x90..=0x95, ..] => (Gap::Hyphen, 3),
        _ => return None,
    };
    let next = at + length;
    text.at(next).is_some_and(|byte| byte.is_ascii_digit()).then_some((gap, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_gaps() {
        let text = "12 (34) 5-6\u{a0}7.8/9x";
        let mut groups = Groups::default();
        groups.read(Text::new(text.as_bytes()), 0);
        assert_eq!(groups.count(), 6);
        let mut digits = [0; MAX_DIGITS];
        groups.copy_digits(Text::new(text.as_bytes()), 6, &mut digits);
        assert_eq!(&digits[..9], b"12345678\0");
        assert_eq!(groups.totals().to_le_bytes(), [2, 4, 5, 6, 7, 8, 8, 8]);
        let gaps = [Gap::Parenthesis, Gap::Parenthesis, Gap::Hyphen, Gap::Blank, Gap::Dot];
        assert_eq!(groups.gaps()[..5], gaps);
        assert_eq!([1, 3, 5].map(|count| groups.end(count)), [2, 9, 14]);
        for text in ["123456789012345678901", "12a"] {
            let mut groups = Groups::default();
            groups.read(Text::new(text.as_bytes()), 0);
            assert_eq!(groups.count(), 0, "{text}");
        }
    }

    #[test]
    fn later_groups_are_the_same_when_read_again() {
        let text = "1 22-333.4444/55555 666666 7777777 88888888 9 1 22 333 4444 a 5 6";
        let text = Text::new(text.as_bytes());
        let mut moving = Groups::default();
        for start in 0..text.bytes.len() {
            let is_digit = |at: Option<u8>| at.is_some_and(|byte| byte.is_ascii_digit());
            if !is_digit(text.at(start)) || is_digit(text.before(start)) || start % 3 == 0 {
                continue;
            }
            let mut fresh = Groups::default();
            moving.read(text, start);
            fresh.read(text, start);
            let fits = |groups: &Groups| {
                let totals = groups.totals().to_le_bytes();
                let count = totals.iter().take(groups.count()).filter(|sum| **sum <= 20).count();
                let mut digits = [0; MAX_DIGITS];
                groups.copy_digits(text, count, &mut digits);
                (
                    digits,
                    groups.gaps()[..count.saturating_sub(1)].to_vec(),
                    groups.end(count.max(1)),
                )
            };
            assert_eq!(fits(&moving), fits(&fresh), "{start}");
        }
    }
}
