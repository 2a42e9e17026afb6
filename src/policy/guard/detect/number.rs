//! Numbers as people write them: groups of digits with separators.

use std::cell::OnceCell;
use std::ops::RangeInclusive;

use super::super::category::{Categories, Category};
use super::{Found, Text, names, national, payment_card, phone, us_ssn};

/// The most digits and groups of a number that is looked at.
const MAX_DIGITS: usize = 20;
const MAX_GROUPS: usize = 8;
/// The fewest digits of a number that means something.
pub(in super::super) const MIN_DIGITS: usize = 7;

/// What a number is checked for.
struct Check {
    category: Category,
    /// How many digits it can have.
    digits: RangeInclusive<usize>,
    is: fn(&Number<'_>) -> bool,
}

const fn check(
    category: Category,
    digits: RangeInclusive<usize>,
    is: fn(&Number<'_>) -> bool,
) -> Check {
    Check { category, digits, is }
}

/// All checks, in the order of their precedence.
const CHECKS: [Check; 15] = [
    check(Category::PaymentCard, 13..=19, payment_card::is_card),
    check(Category::UsSsn, 9..=9, us_ssn::is_ssn),
    check(Category::BrCnpj, 14..=14, national::brazil::is_cnpj),
    check(Category::BrCpf, 11..=11, national::brazil::is_cpf),
    check(Category::FrNir, 15..=15, national::france::is_nir),
    check(Category::InAadhaar, 12..=12, national::india::is_aadhaar),
    check(Category::CnResidentId, 18..=18, national::china::is_resident_id),
    check(Category::JpMyNumber, 12..=12, national::japan::is_my_number),
    check(Category::KrRrn, 13..=13, national::korea::is_rrn),
    check(Category::DeTaxId, 11..=11, national::germany::is_tax_id),
    check(Category::PlPesel, 11..=11, national::poland::is_pesel),
    check(Category::NlBsn, 9..=9, national::netherlands::is_bsn),
    check(Category::CaSin, 9..=9, national::canada::is_sin),
    check(Category::AuTfn, 9..=9, national::australia::is_tfn),
    check(Category::Phone, 7..=17, phone::is_phone),
];

/// A number, or its first groups.
#[derive(Debug)]
pub(super) struct Number<'a> {
    /// ASCII digits, without separators.
    pub(super) digits: &'a [u8],
    /// The number of digits of each group.
    pub(super) groups: &'a [usize],
    /// What stands between the groups; one less than groups.
    pub(super) gaps: &'a [Gap],
    pub(super) text: Text<'a>,
    /// Its place in the text.
    pub(super) start: usize,
    pub(super) end: usize,
    /// What the words before it say that it is, once somebody asked.
    names: &'a OnceCell<Categories>,
}

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

impl Number<'_> {
    /// Whether these are the groups' sizes, with the same gap between all of them.
    pub(super) fn is_grouped(&self, groups: &[usize], gaps: &[Gap]) -> bool {
        let first = self.gaps.first();
        self.groups == groups
            && first.is_some_and(|first| gaps.contains(first))
            && self.gaps.iter().all(|gap| Some(gap) == first)
    }

    /// Whether a word before the number says that it is of this category.
    pub(super) fn is_named(&self, category: Category) -> bool {
        self.names.get_or_init(|| names::find(self.text, self.start)).contains(category)
    }

    /// Whether the digits stand without separators.
    pub(super) fn is_bare(&self) -> bool {
        self.gaps.is_empty()
    }
}

/// The groups that were read from a text.
#[derive(Debug, Default)]
struct Groups {
    digits: [u8; MAX_DIGITS],
    length: usize,
    sizes: [usize; MAX_GROUPS],
    gaps: [Option<Gap>; MAX_GROUPS],
    /// Of each group.
    ends: [usize; MAX_GROUPS],
    /// The digits up to each group's end.
    totals: [usize; MAX_GROUPS],
    count: usize,
}

/// The longest number of a wanted category that begins with the digit at `start`.
pub(in super::super) fn find(text: Text<'_>, start: usize, wanted: Categories) -> Option<Found> {
    let groups = read(text, start)?;
    let names = OnceCell::new();
    let mut gaps = [Gap::Blank; MAX_GROUPS];
    for (gap, read) in gaps.iter_mut().zip(groups.gaps.iter().flatten()) {
        *gap = *read;
    }
    for count in (1..=groups.count).rev() {
        let total = groups.totals.get(count - 1).copied().unwrap_or_default();
        if total < MIN_DIGITS {
            return None;
        }
        let number = Number {
            digits: groups.digits.get(..total)?,
            groups: groups.sizes.get(..count)?,
            gaps: gaps.get(..count - 1)?,
            text,
            start,
            end: groups.ends.get(count - 1).copied()?,
            names: &names,
        };
        let is_it = |check: &&Check| {
            wanted.contains(check.category) && check.digits.contains(&total) && (check.is)(&number)
        };
        if let Some(Check { category, .. }) = CHECKS.iter().find(is_it) {
            let start = if *category == Category::Phone { phone::start(&number) } else { start };
            return Some(Found { range: start..number.end, category: *category });
        }
    }
    None
}

/// Reads groups while a digit follows. A group that a letter follows is left out, and so is a decimal
/// fraction.
fn read(text: Text<'_>, start: usize) -> Option<Groups> {
    if text.before(start) == Some(b'.')
        && start >= 2
        && text.at(start - 2).is_some_and(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    let mut groups = Groups::default();
    let mut at = start;
    loop {
        let end = text.run_end(at, MAX_DIGITS + 1, |byte| byte.is_ascii_digit());
        let size = end - at;
        let places = groups.digits.get_mut(groups.length..groups.length + size);
        let (Some(places), true) = (places, groups.count < MAX_GROUPS && text.ends_word(end))
        else {
            break;
        };
        // A few bytes, for which a call would take longer.
        places.iter_mut().zip(text.slice(at..end)).for_each(|(place, byte)| *place = *byte);
        groups.length += size;
        for (values, value) in [
            (&mut groups.sizes, size),
            (&mut groups.ends, end),
            (&mut groups.totals, groups.length),
        ] {
            if let Some(place) = values.get_mut(groups.count) {
                *place = value;
            }
        }
        groups.count += 1;
        let Some((gap, next)) = gap(text, end) else { break };
        if let Some(place) = groups.gaps.get_mut(groups.count - 1) {
            *place = Some(gap);
        }
        at = next;
    }
    (groups.count > 0).then_some(groups)
}

/// Whether another group of digits may follow.
pub(in super::super) fn has_gap(text: Text<'_>, at: usize) -> bool {
    matches!(text.at(at), Some(b' ' | b'-' | b'.' | b'/' | b'(' | b')' | 0xc2 | 0xe2))
}

/// Whether three dots follow within the rest of an IPv4 address.
pub(in super::super) fn has_dots(text: Text<'_>, at: usize) -> bool {
    text.at(at) == Some(b'.')
        && text.from(at).iter().take(12).filter(|byte| **byte == b'.').count() >= 3
}

/// The separator at a place, and where the digit after it stands.
fn gap(text: Text<'_>, at: usize) -> Option<(Gap, usize)> {
    let is_space = |byte: u8| byte == b' ';
    let (gap, next) = match text.from(at) {
        [b')', b' ' | b'-', ..] => (Gap::Parenthesis, at + 2),
        [b')', ..] => (Gap::Parenthesis, at + 1),
        [b' ', b'(', ..] => (Gap::Parenthesis, at + 2),
        [b'(', ..] => (Gap::Parenthesis, at + 1),
        [b' ', b'-', b' ', ..] => (Gap::Hyphen, at + 3),
        [b' ', ..] => (Gap::Blank, text.run_end(at, 2, is_space)),
        [b'-', ..] => (Gap::Hyphen, at + 1),
        [b'.', ..] => (Gap::Dot, at + 1),
        [b'/', ..] => (Gap::Slash, at + 1),
        // A no-break space, in UTF-8.
        [0xc2, 0xa0, ..] => (Gap::Blank, at + 2),
        // A figure, thin or narrow no-break space; a hyphen, a dash.
        [0xe2, 0x80, 0x87 | 0x89 | 0xaf, ..] => (Gap::Blank, at + 3),
        [0xe2, 0x80, 0x90..=0x95, ..] => (Gap::Hyphen, at + 3),
        _ => return None,
    };
    text.at(next).is_some_and(|byte| byte.is_ascii_digit()).then_some((gap, next))
}

#[cfg(test)]
mod tests {
    use super::super::super::category::Group;
    use super::*;

    #[test]
    fn groups_and_gaps() {
        let text = "12 (34) 5-6\u{a0}7.8/9x";
        let groups = read(Text::new(text.as_bytes()), 0).unwrap();
        assert_eq!(&groups.digits[..groups.length], b"12345678");
        let gaps: Vec<Gap> = groups.gaps.iter().flatten().copied().collect();
        let expected =
            [Gap::Parenthesis, Gap::Parenthesis, Gap::Hyphen, Gap::Blank, Gap::Dot, Gap::Slash];
        assert_eq!(gaps, expected);
        assert_eq!(groups.count, 6);
        assert!(read(Text::new(b"0.12345678"), 2).is_none());
        assert!(read(Text::new(b"123456789012345678901"), 0).is_none());
        assert!(read(Text::new(b"12a"), 0).is_none());
    }

    #[test]
    fn the_longest_number_wins() {
        let find =
            |text: &str| find(Text::new(text.as_bytes()), 0, Categories::of_group(Group::Pii));
        let found = find("4111 1111 1111 1111 12/27").unwrap();
        assert_eq!(found, Found { range: 0..19, category: Category::PaymentCard });
        assert_eq!(find("123 456"), None);
    }
}
