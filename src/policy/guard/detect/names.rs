//! Words that tell what a number is.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use super::super::category::{Categories, Category};
use super::super::tables;
use super::{Text, automaton};

/// How far before a number its name may stand, in bytes.
const DISTANCE: usize = 48;

/// The words, in lower case, and what numbers after them are.
const WORDS: [(Category, &[&str]); 12] = [
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
];

struct Words {
    automaton: AhoCorasick,
    categories: Vec<Category>,
}

/// Built at first use.
static AUTOMATON: LazyLock<Words> = LazyLock::new(|| {
    let words =
        || WORDS.iter().flat_map(|(category, words)| words.iter().map(|word| (*category, *word)));
    let automaton = automaton(words().map(|(_, word)| word));
    tables::built(automaton.memory_usage());
    Words { automaton, categories: words().map(|(category, _)| category).collect() }
});

/// What the words shortly before a place, or in the name of the text, say that a number is.
pub(super) fn find(text: Text<'_>, place: usize) -> Categories {
    let before = text.slice(place.saturating_sub(DISTANCE)..place);
    let mut found = Categories::default();
    for bytes in [before, text.name] {
        add(bytes, &mut found);
    }
    found
}

/// Adds what words in the text say that have no letter on either side.
fn add(bytes: &[u8], found: &mut Categories) {
    // In a list of numbers there are no words.
    if !bytes.iter().any(|byte| byte.is_ascii_alphabetic() || !byte.is_ascii()) {
        return;
    }
    let text = Text::new(bytes);
    let is_letter = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphabetic());
    let words = &*AUTOMATON;
    for word in words.automaton.find_overlapping_iter(bytes) {
        let category = words.categories.get(word.pattern().as_usize());
        if !is_letter(text.before(word.start())) && !is_letter(text.at(word.end())) {
            category.into_iter().for_each(|category| found.insert(*category));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let text = Text { bytes: b"12", name: b"sin" };
        assert_eq!(find(text, 0), [Category::CaSin].into_iter().collect());
    }
}
