//! Words that tell what a number is.

use std::ops::Range;

use super::super::category::{Categories, Category};
use super::Text;

/// How far before a number its name may stand, in bytes.
const DISTANCE: usize = 48;

/// The words, and what numbers after them are. ASCII letters are in lower case and stand for both cases,
/// others only for themselves.
const WORDS: [(Category, &[&str]); 17] = [
    (
        Category::Phone,
        &[
            "phone",
            "telephone",
            "tel",
            "mobile",
            "cell",
            "call",
            "fax",
            "whatsapp",
            "sms",
            "phone_number",
            "phonenumber",
            "telefon",
            "telefono",
            "handy",
            "tlf",
        ],
    ),
    (Category::UsSsn, &["ssn", "social security", "socialsecurity", "social_security"]),
    (Category::BrCpf, &["cpf", "cadastro de pessoa"]),
    (Category::BrCnpj, &["cnpj"]),
    (Category::CaSin, &["sin", "social insurance", "assurance sociale", "nas"]),
    (Category::InAadhaar, &["aadhaar", "aadhar", "adhaar", "uidai", "uid"]),
    (
        Category::JpMyNumber,
        &["my number", "mynumber", "my_number", "individual number", "マイナンバー"],
    ),
    (
        Category::KrRrn,
        &["rrn", "resident registration", "주민등록번호", "주민번호", "외국인등록번호"],
    ),
    (Category::AuTfn, &["tfn", "tax file number", "tax file no"]),
    (
        Category::DeTaxId,
        &[
            "steuer-id",
            "steuerid",
            "steuer_id",
            "steuer-idnr",
            "idnr",
            "steueridentifikationsnummer",
            "identifikationsnummer",
            "tax id",
        ],
    ),
    (Category::NlBsn, &["bsn", "burgerservicenummer", "sofinummer", "citizen service number"]),
    (Category::PlPesel, &["pesel"]),
    (
        Category::TrKimlik,
        &[
            "kimlik",
            "kİmlİk",
            "tckimlik",
            "kimlikno",
            "tckimlikno",
            "tckn",
            "tc no",
            "tc_no",
            "tcno",
        ],
    ),
    (
        Category::ZaId,
        &[
            "south african id",
            "sa id",
            "rsa id",
            "id number",
            "id_number",
            "idnumber",
            "identity number",
        ],
    ),
    (Category::ArCuit, &["cuit", "cuil"]),
    (Category::RuInn, &["inn", "инн", "ИНН", "номер налогоплательщика"]),
    (Category::RuSnils, &["snils", "снилс", "СНИЛС"]),
];

/// All words, and what numbers after them are.
pub(in super::super) fn words() -> impl Iterator<Item = (&'static str, Category)> {
    WORDS.iter().flat_map(|(category, words)| words.iter().map(|word| (*word, *category)))
}

/// The words that tell what the numbers of a text are.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// What the name of the text says.
    of_text: Categories,
    /// In the order of their ends.
    words: Vec<Word>,
    /// The first word that may stand before the next number.
    next: usize,
}

/// A word in the text that no letter follows.
#[derive(Debug)]
struct Word {
    start: usize,
    end: usize,
    category: Category,
    /// Whether a letter stands before it.
    is_part: bool,
}

impl Names {
    /// Adds a word in the name of the text.
    pub(super) fn add_of_text(&mut self, name: &[u8], range: Range<usize>, category: Category) {
        if Word::new(name, range, category).is_some_and(|word| !word.is_part) {
            self.of_text.insert(category);
        }
    }

    /// Adds a word in the text. It does not end before the last one.
    pub(super) fn add(&mut self, text: &[u8], range: Range<usize>, category: Category) {
        // Those that are behind are dropped when there are many.
        if self.next > 1024 {
            self.words.drain(..self.next);
            self.next = 0;
        }
        self.words.extend(Word::new(text, range, category));
    }

    /// What the words shortly before a place, or in the name of the text, say that a number is. All words
    /// before the place have been added, and a place is not before the last one.
    #[inline]
    pub(super) fn find(&mut self, place: usize) -> Categories {
        // Most texts have none.
        if self.next >= self.words.len() {
            return self.of_text;
        }
        self.find_among_words(place)
    }

    fn find_among_words(&mut self, place: usize) -> Categories {
        let start = place.saturating_sub(DISTANCE);
        while self.words.get(self.next).is_some_and(|word| word.end <= start) {
            self.next += 1;
        }
        let words = self.words.get(self.next..).unwrap_or_default();
        let before = words.iter().take_while(|word| word.end <= place);
        // What stands before the first byte does not count.
        let whole = before.filter(|word| match word.start.cmp(&start) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => true,
            std::cmp::Ordering::Greater => !word.is_part,
        });
        whole.fold(self.of_text, |mut found, word| {
            found.insert(word.category);
            found
        })
    }
}

impl Word {
    fn new(text: &[u8], range: Range<usize>, category: Category) -> Option<Self> {
        let text = Text::new(text);
        let Range { start, end } = range;
        let is_letter = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphabetic());
        // Short words stand in long ones in Cyrillic, too. Its letters begin with one of two bytes in UTF-8.
        let is_cyrillic = |byte: Option<u8>| matches!(byte, Some(0xd0 | 0xd1));
        let is_part = is_letter(text.before(start))
            || start.checked_sub(2).is_some_and(|place| is_cyrillic(text.at(place)));
        let goes_on = is_letter(text.at(end)) || is_cyrillic(text.at(end));
        (!goes_on).then_some(Self { start, end, category, is_part })
    }
}

#[cfg(test)]
mod tests {
    use super::super::strings::Strings;
    use super::*;

    fn find(text: Text<'_>, place: usize) -> Categories {
        let strings = Strings::new(words().map(|(word, _)| word));
        let category = |word| words().nth(word).unwrap().1;
        let mut names = Names::default();
        strings.find(text.name, 0..text.name.len(), &mut strings.start(), |word, range| {
            names.add_of_text(text.name, range, category(word));
        });
        strings.find(text.bytes, 0..text.bytes.len(), &mut strings.start(), |word, range| {
            names.add(text.bytes, range, category(word));
        });
        names.find(place)
    }

    #[test]
    fn words_have_limits() {
        let is_named = |text: &[u8], category| find(Text::new(text), text.len()).contains(category);
        assert!(
            is_named(b"My BSN: ", Category::NlBsn) && is_named(b"bsn_number ", Category::NlBsn)
        );
        assert!(!is_named(b"absn ", Category::NlBsn) && !is_named(b"bsns ", Category::NlBsn));
        assert!(is_named(b"Social Security ", Category::UsSsn));
        assert!(is_named("マイナンバー".as_bytes(), Category::JpMyNumber));
        assert!(!is_named(&[b"tel".as_slice(), &[b' '; DISTANCE]].concat(), Category::Phone));
        let is_inn = |text: &str| is_named(text.as_bytes(), Category::RuInn);
        assert!(
            is_inn("Ваш ИНН: ") && !is_inn("длинный ") && !is_inn("длинн ") && !is_inn("иннах ")
        );
        let text = Text { bytes: b"12", name: b"sin" };
        assert_eq!(find(text, 0), [Category::CaSin].into_iter().collect());
    }

    #[test]
    fn many_words() {
        let text = "tel 1 ".repeat(5000);
        let text = Text::new(text.as_bytes());
        let phone = [Category::Phone].into_iter().collect();
        let mut names = Names::default();
        for start in (0..text.bytes.len()).step_by(6) {
            names.add(text.bytes, start..start + 3, Category::Phone);
            assert_eq!(names.find(start + 4), phone);
        }
        assert!(names.words.len() < 2048);
    }
}
