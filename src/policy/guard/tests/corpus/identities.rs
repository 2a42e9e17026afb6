//! Numbers of people and accounts, with check digits that are computed here by their specifications.

use super::{Kind, Random, grouped, other_last_digit};
use crate::policy::guard::category::Category;

pub(super) fn values(digits: &str) -> Vec<u64> {
    digits.bytes().map(|byte| u64::from(byte - b'0')).collect()
}

pub(super) fn sum(digits: &str, weights: &[u64]) -> u64 {
    values(digits).iter().zip(weights).map(|(digit, weight)| digit * weight).sum()
}

/// A number whose last digit makes it pass a test.
pub(super) fn with_check_digit(digits: &str, passes: impl Fn(&str) -> bool) -> Option<String> {
    (0..10).map(|check| format!("{digits}{check}")).find(|number| passes(number))
}

/// Random numbers until one can have a check digit.
pub(super) fn number(
    random: &mut Random,
    beginning: &str,
    length: usize,
    passes: fn(&str) -> bool,
) -> String {
    loop {
        let digits = format!("{beginning}{}", random.digits(length - 1 - beginning.len()));
        if let Some(number) = with_check_digit(&digits, passes) {
            return number;
        }
    }
}

pub(super) fn luhn(number: &str) -> bool {
    let doubled = |(place, digit): (usize, &u64)| match place % 2 {
        0 => *digit,
        _ => digit * 2 / 10 + digit * 2 % 10,
    };
    values(number).iter().rev().enumerate().map(doubled).sum::<u64>() % 10 == 0
}

pub(super) fn date(random: &mut Random) -> (u64, u64, u64) {
    (1950 + random.below(50), 1 + random.below(12), 1 + random.below(28))
}

fn card(random: &mut Random) -> String {
    let (beginning, length) = random.pick(&[
        ("4", 16),
        ("51", 16),
        ("2345", 16),
        ("37", 15),
        ("6011", 16),
        ("36", 14),
        ("3530", 16),
        ("62", 16),
    ]);
    number(random, beginning, length, luhn)
}

fn written_card(random: &mut Random, card: &str) -> String {
    match (card.len(), random.below(3)) {
        (16, 0) => grouped(card, &[4, 4, 4, 4], " "),
        (16, 1) => grouped(card, &[4, 4, 4, 4], "-"),
        (15, 0) => grouped(card, &[4, 6, 5], " "),
        _ => card.to_owned(),
    }
}

/// ISO 13616, with the check digits computed on the whole number in decimal.
fn iban(random: &mut Random) -> String {
    let (country, length) =
        random.pick(&[("DE", 18), ("GB", 18), ("FR", 23), ("NL", 14), ("PL", 24), ("MT", 27)]);
    let account = random.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", length);
    let decimal: String = format!("{account}{country}00")
        .chars()
        .map(|character| character.to_digit(36).unwrap().to_string())
        .collect();
    let rest = values(&decimal).iter().fold(0, |rest, digit| (rest * 10 + digit) % 97);
    format!("{country}{:02}{account}", 98 - rest)
}

fn verhoeff(number: &str) -> bool {
    // The product in D5, and the permutation applied again and again.
    let product = |a: u64, b: u64| match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => 5 + (a + b - 5) % 5,
        (false, true) => 5 + (a - 5 + 5 - b) % 5,
        (false, false) => (a + 5 - b) % 5,
    };
    let permute = |digit: u64| [1, 5, 7, 6, 2, 8, 3, 0, 9, 4][digit as usize];
    let check = values(number).iter().rev().enumerate().fold(0, |check, (place, digit)| {
        product(check, (0..place % 8).fold(*digit, |digit, _| permute(digit)))
    });
    check == 0
}

fn cpf(number: &str) -> bool {
    let digit = |count: u64| {
        let weights: Vec<u64> = (2..count + 2).rev().collect();
        sum(number, &weights) * 10 % 11 % 10
    };
    let values = values(number);
    values[9] == digit(9) && values[10] == digit(10)
}

fn cnpj(number: &str) -> bool {
    let digit = |count: u64| {
        let weights: Vec<u64> = (0..count).map(|place| 2 + (count - 1 - place) % 8).collect();
        sum(number, &weights) * 10 % 11 % 10
    };
    let values = values(number);
    values[12] == digit(12) && values[13] == digit(13)
}

pub(super) fn two_check_digits(
    random: &mut Random,
    beginning: &str,
    length: usize,
    passes: fn(&str) -> bool,
) -> String {
    let digits = format!("{beginning}{}", random.digits(length - beginning.len()));
    (0..100).map(|check| format!("{digits}{check:02}")).find(|number| passes(number)).unwrap()
}

fn written_cpf(number: &str) -> String {
    format!("{}-{}", grouped(number, &[3, 3, 3], "."), &number[9..])
}

fn written_cnpj(number: &str) -> String {
    format!("{}/{}-{}", grouped(number, &[2, 3, 3], "."), &number[8..12], &number[12..])
}

fn chinese_id(random: &mut Random) -> String {
    let (year, month, day) = date(random);
    let digits = format!("11010{}{year}{month:02}{day:02}{}", random.below(10), random.digits(3));
    let weights: Vec<u64> = (0..17).map(|place| 2_u64.pow(17 - place) % 11).collect();
    let check = (12 - sum(&digits, &weights) % 11) % 11;
    format!("{digits}{}", if check == 10 { "X".to_owned() } else { check.to_string() })
}

fn korean(random: &mut Random) -> String {
    let (year, month, day) = date(random);
    let digits =
        format!("{:02}{month:02}{day:02}{}{}", year % 100, 1 + random.below(2), random.digits(5));
    let check = (11 - sum(&digits, &[2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5]) % 11) % 10;
    format!("{}-{}{check}", &digits[..6], &digits[6..])
}

fn pesel(random: &mut Random) -> String {
    let (year, month, day) = date(random);
    let digits = format!("{:02}{month:02}{day:02}{}", year % 100, random.digits(4));
    let check = (10 - sum(&digits, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3]) % 10) % 10;
    format!("{digits}{check}")
}

fn nir(random: &mut Random) -> String {
    let digits = format!(
        "{}{}{:02}{}",
        1 + random.below(2),
        random.digits(2),
        1 + random.below(12),
        number(random, "7", 8, |_| true)
    );
    let rest = digits.parse::<u64>().unwrap() % 97;
    format!("{digits}{:02}", 97 - rest)
}

fn german(random: &mut Random) -> String {
    // Nine different digits and one of them again, and not 0 at the beginning.
    let mut digits: Vec<u64> = (0..10).collect();
    for place in (1..10).rev() {
        digits.swap(place, random.below(place as u64 + 1) as usize);
    }
    digits.pop();
    digits.push(digits[4]);
    if digits[0] == 0 {
        digits.swap(0, 1);
    }
    let product = digits.iter().fold(10, |product, digit| {
        let sum = (digit + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    digits.push((11 - product) % 10);
    digits.iter().map(ToString::to_string).collect()
}

fn dni(random: &mut Random) -> String {
    let letters: Vec<char> = "TRWAGMYFPDXBNJZSQVHLCKE".chars().collect();
    let nie = random.below(4) as usize;
    let digits = random.digits(if nie == 3 { 8 } else { 7 });
    let number: usize = format!("{}{digits}", ["0", "1", "2", ""][nie]).parse().unwrap();
    format!("{}{digits}{}", ["X", "Y", "Z", ""][nie], letters[number % 23])
}

fn codice_fiscale(random: &mut Random) -> String {
    let consonants = "BCDFGLMNPRSTVZ";
    let code = format!(
        "{}{}{}{:02}{}{}",
        random.text(consonants, 6),
        random.digits(2),
        random.text("ABCDEHLMPRST", 1),
        1 + random.below(28) + 40 * random.below(2),
        random.text("ABCDEFGHIL", 1),
        random.digits(3)
    );
    // Decreto ministeriale 23 dicembre 1976: the values of characters at odd places, 0 to 9 and A to Z.
    let odd = [
        1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24,
        23,
    ];
    let sum: usize = code
        .bytes()
        .enumerate()
        .map(|(place, byte)| {
            let value = usize::from(if byte.is_ascii_digit() { byte - b'0' } else { byte - b'A' });
            if place % 2 == 0 { odd[value] } else { value }
        })
        .sum();
    format!("{code}{}", char::from(b'A' + (sum % 26) as u8))
}

fn other_last_letter(text: &str) -> String {
    let (rest, last) = text.split_at(text.len() - 1);
    let last = last.as_bytes()[0];
    format!("{rest}{}", char::from(b'A' + (last - b'A' + 1) % 26))
}

fn phone(random: &mut Random) -> String {
    let area = format!("{}{}{}", 2 + random.below(7), 2 + random.below(8), random.below(10));
    let rest = (format!("{}{}", 2 + random.below(8), random.digits(2)), random.digits(4));
    match random.below(7) {
        0 => format!("({area}) {}-{}", rest.0, rest.1),
        1 => format!("+1 {area} {} {}", rest.0, rest.1),
        2 => format!("{area}-{}-{}", rest.0, rest.1),
        3 => format!("+44 20 {} {}", random.digits(4), random.digits(4)),
        4 => format!("+49{}", number(random, "1", 11, |_| true)),
        5 => format!(
            "06 {} {} {} {}",
            random.digits(2),
            random.digits(2),
            random.digits(2),
            random.digits(2)
        ),
        _ => format!("+91 9{} {}", random.digits(4), random.digits(5)),
    }
}

fn not_a_phone(random: &mut Random) -> String {
    let (year, month, day) = date(random);
    match random.below(5) {
        0 => format!("{year}-{month:02}-{day:02} {:02}:{:02}", random.below(24), random.below(60)),
        1 => format!("{}{}", 2 + random.below(8), random.digits(9)),
        2 => format!("order-{}", random.digits(10)),
        3 => format!("{}.{}", random.digits(3), random.digits(8)),
        _ => format!("{:02}.{month:02}.{year}", day),
    }
}

pub(super) fn kinds() -> Vec<Kind> {
    let kind = |category, name, value, near_miss| Kind { category, name, value, near_miss };
    vec![
        kind(
            Category::PaymentCard,
            "",
            |random| {
                let card = card(random);
                written_card(random, &card)
            },
            |random| {
                let card = match random.below(2) {
                    0 => other_last_digit(&card(random)),
                    _ => number(random, "7", 16, luhn),
                };
                written_card(random, &card)
            },
        ),
        kind(
            Category::Iban,
            "",
            |random| match (iban(random), random.below(2)) {
                (iban, 0) => iban,
                (iban, _) => {
                    let groups: Vec<&str> = (0..iban.len())
                        .step_by(4)
                        .map(|at| &iban[at..iban.len().min(at + 4)])
                        .collect();
                    groups.join(" ")
                }
            },
            |random| {
                let iban = iban(random);
                let check: u64 = iban[2..4].parse().unwrap();
                format!("{}{:02}{}", &iban[..2], (check + 1) % 97, &iban[4..])
            },
        ),
        kind(
            Category::UsSsn,
            "",
            |random| {
                format!(
                    "{:03}-{:02}-{:04}",
                    1 + random.below(600),
                    1 + random.below(99),
                    1 + random.below(9999)
                )
            },
            |random| match random.below(4) {
                0 => format!(
                    "{}-{:02}-{:04}",
                    random.pick(&["000", "666"]),
                    1 + random.below(99),
                    1 + random.below(9999)
                ),
                1 => format!(
                    "9{:02}-{:02}-{:04}",
                    random.below(100),
                    1 + random.below(99),
                    1 + random.below(9999)
                ),
                2 => format!("{:03}-00-{:04}", 1 + random.below(600), 1 + random.below(9999)),
                _ => random.digits(9),
            },
        ),
        kind(
            Category::BrCpf,
            "",
            |random| written_cpf(&two_check_digits(random, "", 9, cpf)),
            |random| written_cpf(&other_last_digit(&two_check_digits(random, "", 9, cpf))),
        ),
        kind(
            Category::BrCnpj,
            "",
            |random| written_cnpj(&two_check_digits(random, "", 12, cnpj)),
            |random| written_cnpj(&other_last_digit(&two_check_digits(random, "", 12, cnpj))),
        ),
        kind(
            Category::CaSin,
            "Social insurance number: ",
            |random| grouped(&number(random, "5", 9, luhn), &[3, 3, 3], " "),
            |random| grouped(&other_last_digit(&number(random, "5", 9, luhn)), &[3, 3, 3], " "),
        ),
        kind(
            Category::InAadhaar,
            "",
            |random| grouped(&number(random, "4", 12, verhoeff), &[4, 4, 4], " "),
            |random| {
                grouped(&other_last_digit(&number(random, "4", 12, verhoeff)), &[4, 4, 4], " ")
            },
        ),
        kind(Category::CnResidentId, "", chinese_id, |random| {
            let id = chinese_id(random);
            if id.ends_with('X') { id.replace('X', "0") } else { other_last_digit(&id) }
        }),
        kind(
            Category::JpMyNumber,
            "My Number: ",
            |random| number(random, "", 12, my_number),
            |random| other_last_digit(&number(random, "", 12, my_number)),
        ),
        kind(Category::KrRrn, "", korean, |random| other_last_digit(&korean(random))),
        kind(
            Category::AuTfn,
            "Tax file number ",
            |random| grouped(&number(random, "1", 9, tfn), &[3, 3, 3], " "),
            |random| other_last_digit(&number(random, "1", 9, tfn)),
        ),
        kind(Category::EsDni, "", dni, |random| other_last_letter(&dni(random))),
        kind(Category::ItCodiceFiscale, "", codice_fiscale, |random| {
            other_last_letter(&codice_fiscale(random))
        }),
        kind(Category::FrNir, "", nir, |random| other_last_digit(&nir(random))),
        kind(Category::DeTaxId, "Steuer-ID: ", german, |random| other_last_digit(&german(random))),
        kind(
            Category::UkNino,
            "",
            |random| {
                format!(
                    "{}{}{}",
                    random.pick(&["AB", "CE", "JG", "WL"]),
                    random.digits(6),
                    random.text("ABCD", 1)
                )
            },
            |random| match random.below(3) {
                0 => format!("{}{}A", random.pick(&["GB", "NK", "DA", "AO"]), random.digits(6)),
                1 => format!("AB{}E", random.digits(6)),
                _ => format!("AB{}A", random.digits(5)),
            },
        ),
        kind(
            Category::NlBsn,
            "BSN ",
            |random| number(random, "1", 9, bsn),
            |random| other_last_digit(&number(random, "1", 9, bsn)),
        ),
        kind(Category::PlPesel, "", pesel, |random| other_last_digit(&pesel(random))),
        kind(Category::Phone, "", phone, not_a_phone),
    ]
}

fn my_number(number: &str) -> bool {
    let rest = sum(number, &[6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2]) % 11;
    values(number)[11] == if rest < 2 { 0 } else { 11 - rest }
}

fn bsn(number: &str) -> bool {
    let values = values(number);
    sum(number, &[9, 8, 7, 6, 5, 4, 3, 2]) % 11 == values[8]
}

fn tfn(number: &str) -> bool {
    sum(number, &[1, 4, 3, 7, 5, 8, 6, 9, 10]).is_multiple_of(11)
}
