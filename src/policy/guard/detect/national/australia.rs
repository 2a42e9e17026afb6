//! Tax file numbers. Source: Australian Taxation Office, "TFN validation": nine digits with weights,
//! a multiple of 11.

use super::super::number::Number;
use super::super::{Text, weighted};

const NAMES: [&str; 3] = ["tfn", "tax file number", "tax file no"];

pub(in super::super) fn is_tfn(number: &Number<'_>, text: Text<'_>) -> bool {
    number.digits.len() == 9
        && weighted(number.digits, &[1, 4, 3, 7, 5, 8, 6, 9, 10]).is_multiple_of(11)
        && text.mentions(number.start, &NAMES)
}
