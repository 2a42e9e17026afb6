//! Numbers of people of further countries, with check digits that are computed here by their specifications.

use super::identities::{date, luhn, number, sum, two_check_digits, values, with_check_digit};
use super::{Kind, Random, grouped, other_last_digit};
use crate::policy::guard::category::Category;

fn curp(random: &mut Random) -> String {
    let state = random.pick(&["AS", "BC", "DF", "JC", "MC", "NE", "VZ", "ZS"]);
    let month = 1 + random.below(12);
    curp_with(random, state, month)
}

fn curp_with(random: &mut Random, state: &str, month: u64) -> String {
    let (year, _, day) = date(random);
    let (consonants, vowels) = ("BCDFGHJKLMNPQRSTVWXYZ", "AEIOUX");
    let code = format!(
        "{}{}{}{:02}{month:02}{day:02}{}{state}{}{}",
        random.text(consonants, 1),
        random.text(vowels, 1),
        random.text(consonants, 2),
        year % 100,
        random.text("HMX", 1),
        random.text(consonants, 3),
        random.digits(1),
    );
    // The place of each character in the alphabet with Ñ, and weights from 18 down.
    let alphabet: Vec<char> = "0123456789ABCDEFGHIJKLMNÑOPQRSTUVWXYZ".chars().collect();
    let value = |character| alphabet.iter().position(|other| *other == character).unwrap();
    let sum: usize =
        code.chars().zip((2..=18).rev()).map(|(character, weight)| value(character) * weight).sum();
    format!("{code}{}", (10 - sum % 10) % 10)
}

fn kimlik(number: &str) -> bool {
    let values = values(number);
    let odd: u64 = values.iter().step_by(2).take(5).sum();
    let even: u64 = values.iter().skip(1).step_by(2).take(4).sum();
    values[9] == (odd * 7 + 90 - even) % 10
        && values[10] == values.iter().take(10).sum::<u64>() % 10
}

fn south_african(random: &mut Random) -> String {
    let (year, month, day) = date(random);
    let beginning = format!(
        "{:02}{month:02}{day:02}{}{}{}",
        year % 100,
        random.digits(4),
        random.below(2),
        8 + random.below(2)
    );
    let id = with_check_digit(&beginning, luhn).unwrap();
    match random.below(3) {
        0 => grouped(&id, &[6, 4, 3], " "),
        1 => grouped(&id, &[6, 4, 2, 1], " "),
        _ => id,
    }
}

fn cuit(number: &str) -> bool {
    sum(number, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1]).is_multiple_of(11)
}

fn cuit_number(random: &mut Random) -> String {
    let kind = random.pick(&["20", "23", "24", "25", "26", "27", "30", "33", "34"]);
    number(random, kind, 11, cuit)
}

fn inn(random: &mut Random) -> String {
    match random.below(2) {
        0 => number(random, "77", 10, |number| {
            sum(number, &[2, 4, 10, 3, 5, 9, 4, 6, 8]) % 11 % 10 == values(number)[9]
        }),
        _ => two_check_digits(random, "50", 10, |number| {
            let values = values(number);
            values[10] == sum(number, &[7, 2, 4, 10, 3, 5, 9, 4, 6, 8]) % 11 % 10
                && values[11] == sum(number, &[3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8]) % 11 % 10
        }),
    }
}

fn snils(random: &mut Random) -> String {
    let number = two_check_digits(random, "1", 9, |number| {
        let rest = sum(number, &[9, 8, 7, 6, 5, 4, 3, 2, 1]) % 101 % 100;
        number.ends_with(&format!("{rest:02}"))
    });
    format!("{} {}", grouped(&number, &[3, 3, 3], "-"), &number[9..])
}

pub(super) fn kinds() -> Vec<Kind> {
    let kind = |category, name, value, near_miss| Kind { category, name, value, near_miss };
    vec![
        kind(Category::MxCurp, "", curp, |random| match random.below(3) {
            0 => other_last_digit(&curp(random)),
            // No such state, and no such month.
            1 => curp_with(random, "XX", 1),
            _ => curp_with(random, "DF", 13),
        }),
        kind(
            Category::TrKimlik,
            "T.C. Kimlik No: ",
            |random| two_check_digits(random, "1", 9, kimlik),
            |random| other_last_digit(&two_check_digits(random, "1", 9, kimlik)),
        ),
        kind(Category::ZaId, "", south_african, |random| match random.below(2) {
            0 => other_last_digit(&south_african(random)),
            _ => number(random, "8513015", 13, luhn),
        }),
        kind(
            Category::ArCuit,
            "",
            |random| grouped(&cuit_number(random), &[2, 8, 1], "-"),
            |random| match random.below(2) {
                0 => grouped(&other_last_digit(&cuit_number(random)), &[2, 8, 1], "-"),
                _ => grouped(&number(random, "11", 11, cuit), &[2, 8, 1], "-"),
            },
        ),
        kind(Category::RuInn, "ИНН ", inn, |random| other_last_digit(&inn(random))),
        kind(Category::RuSnils, "", snils, |random| other_last_digit(&snils(random))),
    ]
}
