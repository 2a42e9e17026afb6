//! Social insurance numbers. Source: Government of Canada: nine digits with the Luhn check; none begins
//! with 8, and 0 is not issued.

use super::super::number::Number;
use super::super::{Text, luhn};

const NAMES: [&str; 4] = ["sin", "social insurance", "assurance sociale", "nas"];

pub(in super::super) fn is_sin(number: &Number<'_>, text: Text<'_>) -> bool {
    number.digits.len() == 9
        && !matches!(number.digits, [b'0' | b'8', ..])
        && luhn(number.digits)
        && text.mentions(number.start, &NAMES)
}
