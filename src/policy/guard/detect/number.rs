//! Numbers as people write them: groups of digits with separators.
//!
//! Most numbers are none of those that are looked for, which is told by the sizes of their groups: see
//! [`SHAPES`]. Only then their digits are checked.

use std::ops::{Range, RangeInclusive};

use super::super::category::{Categories, Category};
pub(super) use super::groups::Gap;
use super::groups::{Groups, MAX_DIGITS as MAX_GROUPED, gap};
use super::names::Names;
use super::{Detection, Text, national, payment_card, phone, us_ssn};

/// The fewest and the most digits of a number that means something.
const MIN_DIGITS: usize = 7;
const MAX_DIGITS: usize = 19;

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
const CHECKS: [Check; 20] = [
    // Before the cards: those born in the forties have numbers that a card could have.
    check(Category::ZaId, 13..=13, national::south_africa::is_id),
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
    check(Category::TrKimlik, 11..=11, national::turkey::is_kimlik),
    check(Category::ArCuit, 11..=11, national::argentina::is_cuit),
    check(Category::RuInn, 10..=12, national::russia::is_inn),
    check(Category::RuSnils, 11..=11, national::russia::is_snils),
    // After those that a name or form tells, since it has neither.
    check(Category::PlPesel, 11..=11, national::poland::is_pesel),
    check(Category::NlBsn, 9..=9, national::netherlands::is_bsn),
    check(Category::CaSin, 9..=9, national::canada::is_sin),
    check(Category::AuTfn, 9..=9, national::australia::is_tfn),
    check(Category::Phone, 7..=17, phone::is_phone),
];

/// The place of a check in the list.
const fn place(category: Category) -> usize {
    let mut place = 0;
    while CHECKS[place].category as u32 != category as u32 {
        place += 1;
    }
    place
}

/// Checks, a bit each.
const fn bits(categories: &[Category]) -> u32 {
    let mut bits = 0;
    let mut index = 0;
    while index < categories.len() {
        bits |= 1 << place(categories[index]);
        index += 1;
    }
    bits
}

const CARD: u32 = bits(&[Category::PaymentCard]);
const PHONE: u32 = bits(&[Category::Phone]);
/// What digits without separators can be without a name.
const BARE: u32 = bits(&[
    Category::PaymentCard,
    Category::ZaId,
    Category::FrNir,
    Category::CnResidentId,
    Category::PlPesel,
]);

/// The checks that a number of so many digits can pass.
const BY_TOTAL: [u32; MAX_DIGITS + 1] = {
    let mut table = [0; MAX_DIGITS + 1];
    let mut place = 0;
    while place < CHECKS.len() {
        let mut total = *CHECKS[place].digits.start();
        while total <= *CHECKS[place].digits.end() {
            table[total] |= 1 << place;
            total += 1;
        }
        place += 1;
    }
    table
};

/// Sizes of groups by which a number is told, and what it can be.
struct Shape {
    /// The sizes, a byte each.
    sizes: u64,
    /// The bytes that have a size.
    mask: u64,
    checks: u32,
}

const fn shape<const N: usize>(sizes: [u8; N], checks: u32) -> Shape {
    let mut bytes = [0; 8];
    let mut mask = [0; 8];
    let mut place = 0;
    while place < N {
        bytes[place] = sizes[place];
        mask[place] = 0xff;
        place += 1;
    }
    Shape { sizes: u64::from_le_bytes(bytes), mask: u64::from_le_bytes(mask), checks }
}

/// The shapes of numbers that neither a name, a plus sign, a zero nor a parenthesis before them tells, in
/// the order of their first sizes. Payment cards are not among them: they have many.
const SHAPES: [Shape; 15] = [
    shape([1, 2, 2, 2, 3, 3, 2], bits(&[Category::FrNir])),
    shape([1, 3, 3, 4], PHONE),
    shape([1, 3, 3, 2, 2], PHONE),
    shape([2, 3, 3, 4, 2], bits(&[Category::BrCnpj])),
    shape([2, 3, 3, 3], bits(&[Category::DeTaxId])),
    shape([2, 8, 1], bits(&[Category::ArCuit])),
    shape([3, 2, 4], bits(&[Category::UsSsn])),
    shape([3, 3, 3, 2], bits(&[Category::BrCpf, Category::RuSnils])),
    shape([3, 3, 4], PHONE),
    shape([3, 4, 4], PHONE),
    shape([4, 4, 4], bits(&[Category::InAadhaar])),
    shape([5, 5], PHONE),
    shape([6, 7], bits(&[Category::KrRrn])),
    shape([6, 4, 3], bits(&[Category::ZaId])),
    shape([6, 4, 2, 1], bits(&[Category::ZaId])),
];

/// The number of shapes whose first group is smaller than a size.
const SMALLER: [usize; 8] = {
    let mut table = [0; 8];
    let mut size = 0;
    while size < table.len() {
        let mut place = 0;
        while place < SHAPES.len() {
            let is_smaller = (SHAPES[place].sizes as usize & 0xff) < size;
            assert!(!is_smaller || table[size] == place, "the shapes are in order");
            table[size] += is_smaller as usize;
            place += 1;
        }
        size += 1;
    }
    table
};

/// The sizes that the second group of one of the shapes can have, a bit each, by the size of the first.
const SECOND_SIZES: [u16; 8] = {
    let mut table = [0; 8];
    let mut place = 0;
    while place < SHAPES.len() {
        let sizes = SHAPES[place].sizes.to_le_bytes();
        table[sizes[0] as usize] |= 1 << sizes[1];
        place += 1;
    }
    table
};

/// The shapes that groups of these sizes can have, by the first of them.
fn shapes_of(sizes: u64) -> &'static [Shape] {
    let first = (sizes & 0xff) as usize;
    let (from, to) = (SMALLER.get(first).copied(), SMALLER.get(first + 1).copied());
    from.zip(to).and_then(|(from, to)| SHAPES.get(from..to)).unwrap_or_default()
}

/// A number, or its first groups.
#[derive(Debug)]
pub(super) struct Number<'a> {
    /// ASCII digits, without separators.
    pub(super) digits: &'a [u8],
    /// The number of digits of each group.
    pub(super) groups: &'a [u8],
    /// What stands between the groups; one less than groups.
    pub(super) gaps: &'a [Gap],
    pub(super) text: Text<'a>,
    /// Its place in the text.
    pub(super) start: usize,
    pub(super) end: usize,
    /// What the words before it say that it is.
    names: Categories,
}

impl Number<'_> {
    /// Whether these are the groups' sizes, with the same gap between all of them.
    pub(super) fn is_grouped(&self, groups: &[u8], gaps: &[Gap]) -> bool {
        let first = self.gaps.first();
        self.groups == groups
            && first.is_some_and(|first| gaps.contains(first))
            && self.gaps.iter().all(|gap| Some(gap) == first)
    }

    /// Whether a word before the number says that it is of this category.
    pub(super) fn is_named(&self, category: Category) -> bool {
        self.names.contains(category)
    }

    /// Whether the digits stand without separators.
    pub(super) fn is_bare(&self) -> bool {
        self.gaps.is_empty()
    }
}

fn checks_of(categories: Categories) -> u32 {
    let checks = CHECKS.iter().enumerate();
    let of_these = checks.filter(|(_, check)| categories.contains(check.category));
    of_these.fold(0, |bits, (place, _)| bits | 1 << place)
}

/// Finds the numbers of a text.
#[derive(Debug)]
pub(in super::super) struct Numbers {
    groups: Groups,
    names: Names,
    /// The checks of wanted categories.
    wanted: u32,
}

impl Numbers {
    pub(in super::super) fn new(wanted: Categories) -> Self {
        Self { groups: Groups::default(), names: Names::default(), wanted: checks_of(wanted) }
    }

    /// Adds a word in the name of the text that may tell what its numbers are.
    pub(in super::super) fn add_name(&mut self, name: &[u8], word: Range<usize>, of: Category) {
        self.names.add_of_text(name, word, of);
    }

    /// Adds a word in the text. All words before a number have to be added before it is looked at, in
    /// the order of their ends.
    pub(in super::super) fn add_word(&mut self, text: &[u8], word: Range<usize>, of: Category) {
        self.names.add(text, word, of);
    }

    /// The longest number of a wanted category that begins with the digits at `first`, which are not
    /// before those of the last call, and goes on with the [`next_group`].
    #[inline]
    pub(in super::super) fn find(
        &mut self,
        text: Text<'_>,
        first: Range<usize>,
        next: Option<&Range<usize>>,
    ) -> Option<Detection> {
        let start = first.start;
        if self.wanted == 0 || is_fraction(text, start) {
            return None;
        }
        let has_plus = matches!(text.before(start), Some(b'+' | b'('));
        let names = self.names.find(start);
        if names.is_empty() && !has_plus && !can_begin_number(text, &first, next) {
            return None;
        }
        let is_phone = has_plus || begins_with_zeros(text, &first, next);
        self.find_form(text, start, is_phone, names)
    }

    /// The longest number at a place whose form or one of the names tells it.
    fn find_form(
        &mut self,
        text: Text<'_>,
        start: usize,
        is_phone: bool,
        names: Categories,
    ) -> Option<Detection> {
        self.groups.read(text, start);
        let groups = &self.groups;
        let (sizes, totals) = (groups.sizes(), groups.totals());
        let mut always = if is_phone { PHONE } else { 0 };
        if !names.is_empty() {
            always |= checks_of(names);
        }
        let cards = card_counts(sizes, totals, payment_card::lengths(text.from(start)));
        let trunk = if text.at(start) == Some(b'0') { trunk_counts(totals) } else { 0 };
        let mut counts = counts_of(totals, groups.count());
        if always == 0 {
            // Digits without separators, or in groups that tell something.
            counts &= 0x80 | cards | trunk | shape_counts(sizes);
        }
        if counts == 0 {
            return None;
        }
        let mut digits = [0; MAX_GROUPED];
        groups.copy_digits(text, 8 - counts.leading_zeros() as usize / 8, &mut digits);
        let group_sizes = sizes.to_le_bytes();
        while counts != 0 {
            let bit = 63 - counts.leading_zeros();
            counts ^= 1 << bit;
            let count = bit as usize / 8 + 1;
            let total = (totals >> (bit - 7) & 0xff) as usize;
            let is_marked = |marks: u64| marks >> bit & 1 == 1;
            let by_shape = match count {
                1 => BARE,
                _ => {
                    let sizes = sizes & (u64::MAX >> (63 - bit));
                    let shapes = shapes_of(sizes).iter().filter(|shape| shape.sizes == sizes);
                    shapes.fold(
                        if is_marked(cards) { CARD } else { 0 }
                            | if is_marked(trunk) { PHONE } else { 0 },
                        |bits, shape| bits | shape.checks,
                    )
                }
            };
            let mut checks = BY_TOTAL.get(total).copied().unwrap_or_default()
                & self.wanted
                & (always | by_shape);
            if checks == 0 {
                continue;
            }
            let gaps = groups.gaps();
            let number = Number {
                digits: digits.get(..total)?,
                groups: group_sizes.get(..count)?,
                gaps: gaps.get(..count - 1)?,
                text,
                start,
                end: groups.end(count),
                names,
            };
            while checks != 0 {
                let check = CHECKS.get(checks.trailing_zeros() as usize)?;
                checks &= checks - 1;
                if (check.is)(&number) {
                    let is_phone = check.category == Category::Phone;
                    let start = if is_phone { phone::start(&number) } else { start };
                    return Some(Detection { range: start..number.end, category: check.category });
                }
            }
        }
        None
    }
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);

/// Marks the bytes that are at least `least`. All are below 128.
const fn at_least(bytes: u64, least: u8) -> u64 {
    (bytes | HIGH).wrapping_sub(ONES * least as u64) & HIGH
}

/// Marks how many groups have together as many digits as a number can have: the highest bit of byte 0 for
/// one group, of byte 1 for two.
const fn counts_of(totals: u64, count: usize) -> u64 {
    let all = if count == 0 { 0 } else { u64::MAX >> (64 - 8 * count) };
    at_least(totals, MIN_DIGITS as u8) & !at_least(totals, MAX_DIGITS as u8 + 1) & all
}

/// Marks in the same way how many groups a payment card can consist of: all have 3 to 6 digits, and
/// together one of the lengths, which are a bit each.
fn card_counts(sizes: u64, totals: u64, lengths: u32) -> u64 {
    let others = !(at_least(sizes, 3) & !at_least(sizes, 7)) & HIGH;
    let mut counts = match others {
        0 => HIGH,
        _ => HIGH & !(u64::MAX << (others.trailing_zeros() & !7)),
    };
    counts &= at_least(totals, 13) & !at_least(totals, MAX_DIGITS as u8 + 1);
    let mut cards = 0;
    while counts != 0 {
        let bit = counts.trailing_zeros();
        counts &= counts - 1;
        let total = totals >> (bit - 7) & 0xff;
        cards |= u64::from(lengths >> total & 1) << bit;
    }
    cards
}

/// Marks in the same way how many groups have together as many digits as a phone number with a trunk prefix.
const fn trunk_counts(totals: u64) -> u64 {
    at_least(totals, *phone::TRUNK_DIGITS.start() as u8)
        & !at_least(totals, *phone::TRUNK_DIGITS.end() as u8 + 1)
}

/// Marks in the same way how many groups have the sizes of a shape.
fn shape_counts(sizes: u64) -> u64 {
    shapes_of(sizes).iter().fold(0, |counts, shape| {
        // The highest bit of the last group.
        let mark = (shape.mask >> 1) + 1;
        counts | if sizes & shape.mask == shape.sizes { mark } else { 0 }
    })
}

/// Whether the digits at a place are those after the decimal point.
fn is_fraction(text: Text<'_>, start: usize) -> bool {
    text.before(start) == Some(b'.')
        && start >= 2
        && text.at(start - 2).is_some_and(|byte| byte.is_ascii_digit())
}

/// The digits of the next group after those that end at a place, if one follows.
pub(in super::super) fn next_group(text: Text<'_>, end: usize) -> Option<Range<usize>> {
    let (_, start) = gap(text, end)?;
    Some(start..text.digits_end(start, usize::MAX))
}

/// Whether a number may begin with these two groups that neither a name nor a plus sign tells. Most do not.
fn can_begin_number(text: Text<'_>, first: &Range<usize>, next: Option<&Range<usize>>) -> bool {
    let length = first.len();
    if BY_TOTAL.get(length).is_some_and(|checks| checks & BARE != 0) {
        return true;
    }
    let Some(second) = next.map(Range::len) else { return false };
    let is_card = (3..=6).contains(&length)
        && (3..=6).contains(&second)
        && payment_card::lengths(text.from(first.start)) != 0;
    is_card
        || is_shape(length, second)
        || begins_with_zeros(text, first, next)
        || phone::can_have_trunk_prefix(text, first, second)
}

/// Whether a number begins with the 00 that is dialled before a country's code.
fn begins_with_zeros(text: Text<'_>, first: &Range<usize>, next: Option<&Range<usize>>) -> bool {
    let second = || match first.len() {
        1 => next.map(|next| next.start),
        _ => Some(first.start + 1),
    };
    text.at(first.start) == Some(b'0') && second().is_some_and(|at| text.at(at) == Some(b'0'))
}

/// Whether one of the shapes begins with groups of these sizes.
fn is_shape(first: usize, second: usize) -> bool {
    SECOND_SIZES.get(first).is_some_and(|sizes| second < 16 && sizes >> second & 1 == 1)
}

/// Whether what follows the digits before a place can be the rest of an IPv4 address.
pub(in super::super) fn has_octets(text: Text<'_>, mut at: usize) -> bool {
    (0..3).all(|_| {
        let octet = at + 1;
        if text.at(at) == Some(b'.') {
            at = text.run_end(octet, 3, |byte| byte.is_ascii_digit());
        }
        at > octet
    })
}

#[cfg(test)]
pub(super) mod tests;
