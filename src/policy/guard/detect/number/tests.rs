//! How numbers are found in texts, and that the shortcuts leave none out.

use proptest::prelude::*;

use super::super::super::category::Group;
use super::super::names;
use super::*;

/// The number that begins with the digit at `start` of a text.
pub(in super::super) fn find_in(text: &str, start: usize, wanted: Categories) -> Option<Detection> {
    Finder::new(text, wanted).find(start)
}

/// A text, and the numbers in it.
struct Finder<'a> {
    text: Text<'a>,
    numbers: Numbers,
}

impl<'a> Finder<'a> {
    fn new(text: &'a str, wanted: Categories) -> Self {
        let mut numbers = Numbers::new(wanted);
        for (word, category) in words_in(text) {
            numbers.add_word(text.as_bytes(), word, category);
        }
        Self { text: Text::new(text.as_bytes()), numbers }
    }

    fn find(&mut self, start: usize) -> Option<Detection> {
        let end = self.text.run_end(start, usize::MAX, |byte| byte.is_ascii_digit());
        self.numbers.find(self.text, start..end, next_group(self.text, end).as_ref())
    }
}

/// The words that tell what numbers are, in the order of their ends.
fn words_in(text: &str) -> Vec<(Range<usize>, Category)> {
    let lower = text.to_ascii_lowercase();
    let mut found = Vec::new();
    for (word, category) in names::words() {
        let places =
            (0..lower.len()).filter(|at| lower.as_bytes()[*at..].starts_with(word.as_bytes()));
        found.extend(places.map(|at| (at..at + word.len(), category)));
    }
    found.sort_by_key(|(word, _)| word.end);
    found
}

/// The same without any shortcut: every check of every length.
fn find_plainly(text: &str, start: usize, wanted: Categories) -> Option<Detection> {
    let text = Text::new(text.as_bytes());
    if is_fraction(text, start) {
        return None;
    }
    let (mut digits, mut sizes, mut gaps, mut ends) = (vec![], vec![], vec![], vec![]);
    let mut next = Some(start);
    while let Some(at) = next {
        let end = text.run_end(at, usize::MAX, |byte| byte.is_ascii_digit());
        if digits.len() + end - at > 20 || sizes.len() == 8 || !text.ends_word(end) {
            break;
        }
        digits.extend_from_slice(text.slice(at..end));
        sizes.push((end - at) as u8);
        ends.push(end);
        let gap = gap(text, end);
        gaps.extend(gap.map(|(gap, _)| gap));
        next = gap.map(|(_, next)| next);
    }
    let before = &text.bytes[start.saturating_sub(48)..start];
    let before = String::from_utf8_lossy(before);
    let is_letter = |char: Option<char>| {
        char.is_some_and(|char| {
            char.is_ascii_alphabetic() || ('\u{400}'..'\u{480}').contains(&char)
        })
    };
    let whole = words_in(&before).into_iter().filter(|(word, _)| {
        !is_letter(before[..word.start].chars().next_back())
            && !is_letter(before[word.end..].chars().next())
    });
    let names: Categories = whole.map(|(_, category)| category).collect();
    (1..=sizes.len()).rev().find_map(|count| {
        let total = sizes[..count].iter().map(|size| usize::from(*size)).sum::<usize>();
        let number = Number {
            digits: &digits[..total],
            groups: &sizes[..count],
            gaps: &gaps[..count - 1],
            text,
            start,
            end: ends[count - 1],
            names,
        };
        let check = CHECKS.iter().find(|check| {
            wanted.contains(check.category) && check.digits.contains(&total) && (check.is)(&number)
        })?;
        let is_phone = check.category == Category::Phone;
        let start = if is_phone { phone::start(&number) } else { start };
        Some(Detection { range: start..number.end, category: check.category })
    })
}

#[test]
fn the_longest_number_wins() {
    let find = |text, start| find_in(text, start, Categories::of_group(Group::Pii));
    let found = find("4111 1111 1111 1111 12/27", 0).unwrap();
    assert_eq!(found, Detection { range: 0..19, category: Category::PaymentCard });
    assert_eq!(find("123 456", 0), None);
    assert_eq!(find("0.4111111111111111", 2), None);
}

/// Digits, gaps and words that numbers are made of, and numbers themselves.
fn piece() -> impl Strategy<Value = String> {
    let gaps =
        vec!["", " ", "-", ".", "/", "(", " (", ")", ") ", "  ", " - ", "\u{a0}", "\u{2013}"];
    let others = vec![
        ", ",
        "\n",
        "+",
        "+(",
        "x",
        "tel ",
        "SSN: ",
        "cpf ",
        "hotel",
        "uid=",
        "BSN ",
        "ИНН ",
        "kimlik no ",
    ];
    let numbers = vec![
        "4111 1111 1111 1111 ",
        "378282246310005",
        "123-45-6789",
        "111.444.777-35",
        "11.222.333/0001-81",
        "1 84 12 76 451 089 46",
        "2345 6789 0124",
        "110105194912310021",
        "900101-1234568",
        "12 345 678 903",
        "44051401359",
        "030/12345678",
        "06 12 34 56 78",
        "0049 30 901820",
        "8 912 345-67-89",
        "8001015009087",
        "800101 5009 08 7",
        "10000000146",
        "20-05536168-2",
        "7707083893",
        "112-233-445 95",
        "(11) 91234-5678",
        "1-800-555-0199",
    ];
    let owned = |all: Vec<&'static str>| prop::sample::select(all).prop_map(str::to_owned);
    let digits = prop_oneof![
        8 => "[0-9]{1,4}",
        2 => "[0-9]{5,21}",
        2 => "0[0-9]{1,4}",
    ];
    prop_oneof![
        6 => (digits, owned(gaps)).prop_map(|(digits, gap)| digits + &gap),
        1 => owned(others),
        1 => owned(numbers),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn shortcuts_change_nothing(
        pieces in prop::collection::vec(piece(), 1..30),
        wanted in any::<u32>(),
    ) {
        let text = pieces.concat();
        let wanted = match wanted % 4 {
            0 => (0..).zip(&CHECKS).filter(|(place, _)| wanted >> place & 1 == 1)
                .map(|(_, check)| check.category).collect(),
            _ => Categories::of_group(Group::Pii),
        };
        let mut finder = Finder::new(&text, wanted);
        let is_digit = |at: usize| text.as_bytes()[at].is_ascii_digit();
        for start in (0..text.len()).filter(|at| is_digit(*at) && (*at == 0 || !is_digit(at - 1))) {
            prop_assert_eq!(finder.find(start), find_plainly(&text, start, wanted), "{} in {}", start, text);
        }
    }
}
