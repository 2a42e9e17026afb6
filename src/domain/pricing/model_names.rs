//! Names of models, and the patterns and dated names that are found for them.

use std::cmp::Reverse;

use serde::Serialize;

use super::ANY;

/// How a model's name was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NameMatch {
    /// Character for character.
    Exact,
    /// Once its date, or `-latest`, was taken off its end.
    Undated,
    /// By a pattern with `*`.
    Pattern,
}

/// Whether the model that answered is the pinned one, dates and letter case aside.
pub fn is_same_model(pinned: &str, used: &str) -> bool {
    let undated = |model| without_date(model).unwrap_or(model);
    undated(pinned).eq_ignore_ascii_case(undated(used))
}

/// The candidate whose name fits the model best. `name` tells whether a candidate is for this very
/// provider, and its model or pattern.
pub(super) fn best<'a, T: 'a>(
    candidates: impl Iterator<Item = &'a T>,
    model: &str,
    name: impl Fn(&T) -> (bool, &str),
) -> Option<(&'a T, NameMatch)> {
    let undated = without_date(model);
    candidates
        .filter_map(|candidate| {
            let by = fit(name(candidate).1, model, undated)?;
            Some((candidate, by))
        })
        .min_by(|(one, one_by), (other, other_by)| {
            let rank = |candidate: &T, by: NameMatch| {
                let (this_provider, text) = name(candidate);
                let stars = text.matches(ANY).count();
                (by, Reverse(text.len() - stars), !this_provider, stars)
            };
            let order = rank(one, *one_by).cmp(&rank(other, *other_by));
            order.then_with(|| name(one).1.cmp(name(other).1))
        })
}

fn fit(pattern: &str, model: &str, undated: Option<&str>) -> Option<NameMatch> {
    if pattern == model {
        Some(NameMatch::Exact)
    } else if undated == Some(pattern) {
        Some(NameMatch::Undated)
    } else if pattern.contains(ANY) && matches(pattern, model) {
        Some(NameMatch::Pattern)
    } else {
        None
    }
}

/// Whether the whole text is of the pattern, in which `*` stands for any characters. Takes steps in
/// proportion to the product of both lengths at the most.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut begin) = (0, 0);
    // Where to go on when the last star has to take one byte more.
    let mut retry: Option<(usize, usize)> = None;
    while begin < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                retry = Some((at + 1, begin));
                at += 1;
            }
            Some(byte) if text.get(begin) == Some(byte) => {
                at += 1;
                begin += 1;
            }
            _ => match &mut retry {
                Some((after_star, from)) => {
                    *from += 1;
                    (at, begin) = (*after_star, *from);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(at).all(|byte| *byte == b'*')
}

/// The name without what marks one release of a model at its end: `-2024-08-06`, `-20250514`,
/// `@20250514` or `-latest`. None if it has nothing of the kind.
pub fn without_date(model: &str) -> Option<&str> {
    let undated = model.strip_suffix("-latest").or_else(|| {
        let year_first = |rest: &str| rest.starts_with("20");
        let shapes: [&[u8]; 3] = [b"-dddd-dd-dd", b"-dddddddd", b"@dddddddd"];
        shapes.into_iter().find_map(|shape| {
            let at = model.len().checked_sub(shape.len())?;
            let (name, date) = model.split_at_checked(at)?;
            let fits = date.bytes().zip(shape).all(|(byte, expected)| match expected {
                b'd' => byte.is_ascii_digit(),
                other => byte == *other,
            });
            (fits && date.get(1..).is_some_and(year_first)).then_some(name)
        })
    });
    undated.filter(|name| !name.is_empty())
}
