//! How long national numbers are, by calling code (ITU-T E.164). Made of libphonenumber's metadata 9.0.43
//! (Apache License 2.0), `possibleLength` of all numbers of all regions with the code; numbers of fewer than
//! six digits, which only short codes and a few small networks have, are left out.

/// Lengths in digits, and the calling codes whose numbers have them.
const LENGTHS: &[(&[usize], &[u32])] = &[
    (&[7, 10], &[1, 960]),
    (&[10, 14], &[7]),
    (&[8, 9, 10], &[20, 60, 855, 856, 964, 970, 976]),
    (&[6, 7, 8, 9, 10], &[27, 48, 64, 95, 880]),
    (&[10, 11, 12], &[30, 234]),
    (&[6, 7, 8, 9, 10, 11], &[31, 352, 375, 595]),
    (&[8, 9], &[32, 36, 51, 213, 224, 233, 237, 250, 258, 264, 268, 377, 382, 387, 591, 962, 963]),
    (
        &[9],
        &[
            33, 34, 93, 94, 211, 212, 218, 221, 240, 242, 244, 249, 251, 255, 256, 260, 261, 262,
            351, 590, 594, 596, 979, 992, 994, 995, 998,
        ],
    ),
    (&[6, 7, 8, 9, 10, 11, 12], &[39, 358, 381, 598, 971]),
    (&[6, 9], &[40, 508, 681]),
    (&[9, 12], &[41, 870]),
    (&[6, 7, 8, 9, 10, 11, 12, 13], &[43, 49]),
    (&[7, 9, 10], &[44, 263]),
    (
        &[8],
        &[
            45, 47, 216, 222, 223, 226, 227, 228, 232, 235, 236, 253, 257, 266, 350, 356, 357, 370,
            371, 373, 374, 389, 505, 509, 686, 800, 808, 973, 993,
        ],
    ),
    (&[6, 7, 8, 9, 10, 12], &[46, 61]),
    (&[10], &[52, 58, 225, 229]),
    (&[6, 7, 8, 10], &[53]),
    (&[10, 11], &[54]),
    (&[8, 9, 10, 11], &[55, 593]),
    (&[9, 10, 11], &[56]),
    (&[8, 10, 11], &[57, 65, 977]),
    (&[7, 8, 9, 10, 11, 12, 13], &[62]),
    (&[6, 8, 9, 10, 11, 12, 13], &[63, 82]),
    (&[8, 9, 10, 13], &[66]),
    (&[8, 9, 10, 11, 12, 13], &[81, 91]),
    (&[7, 8, 9, 10], &[84, 243, 254, 353]),
    (&[7, 8, 9, 10, 11, 12], &[86, 882, 972]),
    (&[7, 10, 12, 13], &[90]),
    (&[8, 9, 10, 11, 12], &[92, 383, 883]),
    (&[6, 7, 10], &[98, 685]),
    (&[7, 9], &[220, 245, 265, 354, 423]),
    (&[7, 8, 10], &[230, 267, 372]),
    (&[7, 8, 9], &[231, 385, 967, 968]),
    (&[7], &[238, 239, 246, 248, 269, 291, 297, 592, 673, 674, 676, 677, 678, 680, 683, 691, 692]),
    (&[7, 8], &[241, 599, 670, 675, 853, 961, 965, 975]),
    (&[6], &[247, 298, 299, 672, 687]),
    (&[6, 7, 8, 9], &[252, 355]),
    (&[], &[290, 500, 682]),
    (&[6, 7, 8, 9, 12], &[359]),
    (&[6, 8, 9], &[376, 689]),
    (&[8, 10], &[378, 506, 850]),
    (&[9, 10], &[380, 881, 966, 996]),
    (&[6, 7, 8], &[386]),
    (&[9, 10, 11, 12], &[420]),
    (&[6, 7, 9], &[421]),
    (&[7, 11], &[501, 679]),
    (&[8, 11], &[502, 504]),
    (&[7, 8, 11], &[503]),
    (&[7, 8, 10, 11], &[507]),
    (&[6, 7], &[597, 688, 690]),
    (&[6, 7, 8, 9, 11], &[852]),
    (&[12], &[878]),
    (&[7, 8, 9, 10, 11], &[886]),
    (&[11], &[888]),
    (&[7, 8, 9, 11], &[974]),
];

/// The length of the calling code that the digits begin with, if the rest can be a number of it.
pub(super) fn calling_code(digits: &[u8]) -> Option<usize> {
    // No code is the beginning of another.
    (1..=3).find(|length| {
        let (Some(code), national) = (digits.get(..*length), digits.len().saturating_sub(*length))
        else {
            return false;
        };
        let code = code.iter().fold(0, |code, byte| code * 10 + super::digit(*byte));
        LENGTHS.iter().any(|(lengths, codes)| codes.contains(&code) && lengths.contains(&national))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_lengths_of_their_country() {
        for (number, code) in [
            ("14155552671", Some(1)),
            ("1415555267", None),
            ("79123456789", Some(1)),
            ("33612345678", Some(2)),
            ("3361234567", None),
            ("442079460958", Some(2)),
            ("85221234567", Some(3)),
            ("3461234567", None),
            ("999123456789", None),
            ("", None),
        ] {
            assert_eq!(calling_code(number.as_bytes()), code, "{number}");
        }
    }

    #[test]
    fn no_code_begins_another() {
        let codes: Vec<String> =
            LENGTHS.iter().flat_map(|(_, codes)| codes.iter().map(u32::to_string)).collect();
        assert_eq!(codes.len(), 215);
        for code in &codes {
            let others = codes.iter().filter(|other| *other != code);
            assert!(others.clone().all(|other| !other.starts_with(code.as_str())), "{code}");
        }
    }
}
