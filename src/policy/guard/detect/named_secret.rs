//! Values that look random, after a name that tells a secret: `password=`, `"api_key": `, `Bearer `.

use super::super::category::Category;
use super::super::placeholder;
use super::{Detection, Text, distinct};

/// What a telling name contains, in lower case.
pub(in super::super) const NAMES: [&str; 13] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "api-key",
    "access_key",
    "bearer",
    "credential",
    "private_key",
];

/// The longest rest of a name, in bytes: `secret` may begin `secret_access_key`.
const MAX_NAME_REST: usize = 24;
/// The longest value, in bytes.
const MAX_VALUE: usize = 512;
/// The shortest value, in bytes.
const MIN_VALUE: usize = 8;
/// A value of this length that is not a password looks random from this entropy on, in bits a
/// character: 20 random hexadecimal digits have about 3.3, English words about 2.8.
const MIN_TOKEN: usize = 16;
const MIN_ENTROPY: f64 = 3.0;

/// A secret after the telling name at `start..end`, and where the run of characters ends that can be one.
pub(in super::super) fn find(
    text: Text<'_>,
    start: usize,
    end: usize,
) -> (Option<Detection>, usize) {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let name_end = text.run_end(end, MAX_NAME_REST, is_name);
    let name = text.slice(start..name_end);
    let word_start = text.run_start(start, MAX_NAME_REST, is_name);
    if is_of_page(text.slice(word_start..start)) {
        return (None, name_end);
    }
    let Some(separator_end) = separator(text, name_end, starts_with(name, "bearer")) else {
        return (None, name_end);
    };
    let is_value = |byte: u8| {
        byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'`' | b'<' | b'>' | b',' | b'\\')
    };
    let run_end = text.run_end(separator_end, MAX_VALUE, is_value);
    let mut value_end = run_end;
    while matches!(text.before(value_end), Some(b'.' | b';' | b')' | b']' | b'}' | b'&' | b':')) {
        value_end -= 1;
    }
    // A parameter of a URL or of a connection string ends with the next one.
    let value = text.slice(separator_end..value_end);
    let is_query = matches!(text.before(start), Some(b'?' | b'&'));
    let ends = |byte: &u8| *byte == b';' || (*byte == b'&' && is_query);
    let length = value.iter().position(ends).filter(|at| *at >= MIN_VALUE);
    let value_end = length.map_or(value_end, |length| separator_end + length);
    let is_secret = is_secret(text.slice(separator_end..value_end), is_password(name));
    let found = is_secret.then(|| Detection {
        range: separator_end..value_end,
        category: category(text, start, name),
    });
    (found, run_end)
}

/// A text that is a secret as a whole because of its name: the value of a JSON member.
pub(in super::super) fn find_whole(text: Text<'_>) -> Option<Detection> {
    let name = NAMES.iter().find_map(|name| {
        let windows = &mut text.name.windows(name.len());
        windows.find(|window| window.eq_ignore_ascii_case(name.as_bytes()))
    })?;
    let value = text.bytes;
    let is_value = value.len() <= MAX_VALUE
        && value.iter().all(u8::is_ascii_graphic)
        && !is_of_page(text.name);
    (is_value && is_secret(value, is_password(name)))
        .then(|| Detection { range: 0..value.len(), category: category(text, 0, name) })
}

/// Whether the name tells where a list goes on: `next_page_token`, `continuationToken`.
fn is_of_page(name: &[u8]) -> bool {
    ["page", "next", "continuation", "sync"].iter().any(|word| {
        name.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word.as_bytes()))
    })
}

/// Where the value begins that is assigned to the name.
fn separator(text: Text<'_>, name_end: usize, is_scheme: bool) -> Option<usize> {
    let is_blank = |byte: u8| matches!(byte, b' ' | b'\t');
    let is_quote = |byte: u8| matches!(byte, b'"' | b'\'' | b'`' | b'\\' | b']' | b'*');
    let quote_end = text.run_end(name_end, 4, is_quote);
    let at = text.run_end(quote_end, 4, is_blank);
    let sign_end = text.run_end(at, 3, |byte| matches!(byte, b'=' | b':' | b'>'));
    let words_end = || text.from(at).starts_with(b"is ").then_some(at + 2);
    let value = if sign_end > at {
        sign_end
    } else {
        words_end().or((is_scheme && at > quote_end).then_some(at))?
    };
    let value = text.run_end(value, 4, is_blank);
    let value = text.run_end(value, 4, is_quote);
    // `Authorization: Bearer x` under the name of a token.
    Some(if text.from(value).starts_with(b"Bearer ") { value + "Bearer ".len() } else { value })
}

fn starts_with(name: &[u8], prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
}

fn is_password(name: &[u8]) -> bool {
    starts_with(name, "pass") || starts_with(name, "pwd")
}

/// Whether the value looks random and is no code, variable or example.
fn is_secret(value: &[u8], is_password: bool) -> bool {
    let is_code = value.iter().any(|byte| matches!(byte, b'(' | b'{' | b'['))
        || value.starts_with(b"$")
        || value.starts_with(b"%")
        || value.windows(2).any(|pair| pair == b"::" || pair == b"->");
    let has = |is: fn(&u8) -> bool| value.iter().any(is);
    let is_mixed = has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic);
    if value.len() < MIN_VALUE || !is_mixed || is_code || placeholder::is_placeholder(value) {
        return false;
    }
    let is_random = value.len() >= MIN_TOKEN && entropy(value) >= MIN_ENTROPY;
    // A person's password is short, and has more than digits and small letters.
    let is_chosen = is_password && distinct(value) >= 6;
    is_random || is_chosen
}

/// Datadog's keys have no form but their name; AWS's secret keys neither.
fn category(text: Text<'_>, start: usize, name: &[u8]) -> Category {
    let before = text.slice(start.saturating_sub(24)..start + name.len());
    let contains = |word: &str| {
        [before, text.name].into_iter().any(|name| {
            name.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word.as_bytes()))
        })
    };
    if contains("datadog") || contains("dd_api") || contains("dd_app") || contains("dd-api") {
        Category::DatadogKey
    } else if contains("aws_") {
        Category::AwsKey
    } else {
        Category::NamedSecret
    }
}

/// Shannon's entropy of the bytes, in bits a byte.
fn entropy(value: &[u8]) -> f64 {
    let mut counts = [0_u16; 256];
    for byte in value {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count = count.saturating_add(1);
        }
    }
    let length = value.len() as f64;
    let share = |count: u16| f64::from(count) / length;
    counts
        .into_iter()
        .filter(|count| *count > 0)
        .map(|count| -share(count) * share(count).log2())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_in(text: &str) -> Option<&str> {
        let lower = text.to_ascii_lowercase();
        NAMES.iter().find_map(|name| {
            let start = lower.find(name)?;
            let found = find(Text::new(text.as_bytes()), start, start + name.len()).0?;
            Some(&text[found.range])
        })
    }

    #[test]
    fn assigned_values() {
        let value = "k3Jx9Qz7Lm2Vt8Rb4Nw6";
        for text in [
            "API_KEY=%",
            "api-key: %",
            "\"api_key\": \"%\"",
            "\\\"api_key\\\":\\\"%\\\"",
            "secret_access_key = '%'",
            "Authorization: Bearer %",
            "https://example.com/?token=%&x=1",
            "my token is % ok",
            "password => %",
            "`client_secret`: `%`",
        ] {
            assert_eq!(find_in(&text.replace('%', value)), Some(value), "{text}");
        }
        assert_eq!(find_in("password: Tr0ub4dor&3"), Some("Tr0ub4dor&3"));
        assert_eq!(find_in("Pwd=S0mmer2024;Server=x"), Some("S0mmer2024"));
    }

    #[test]
    fn code_and_examples() {
        for text in [
            "max_tokens: 4096",
            "token = tokenizer.next_token2()",
            "password: ${DB_PASSWORD_1}",
            "secret: config::secret_1_of_2",
            "api_key = os.environ['KEY1']",
            "the password is required",
            "token bucket algorithm v2",
            "password: ********1a",
            "secret: TG_SECRET_ABCDEFGH2345",
            "bearer of bad news 12345678",
            "\"next_page_token\": \"k3Jx9Qz7Lm2Vt8Rb4Nw6\"",
        ] {
            assert_eq!(find_in(text), None, "{text}");
        }
    }

    #[test]
    fn whole_values_have_the_name_of_their_member() {
        let find = |name: &str, value: &str| {
            let text = Text { bytes: value.as_bytes(), name: name.as_bytes() };
            find_whole(text).map(|found| found.category)
        };
        assert_eq!(find("dbPassword", "hunter2hunter2"), Some(Category::NamedSecret));
        assert_eq!(
            find("DD_API_KEY", "0123456789abcdef0123456789abcdef"),
            Some(Category::DatadogKey)
        );
        assert_eq!(find("aws_secret_access_key", "k3Jx9Qz7Lm2Vt8Rb4Nw6"), Some(Category::AwsKey));
        assert_eq!(find("token_count", "4096"), None);
        assert_eq!(find("nextPageToken", "k3Jx9Qz7Lm2Vt8Rb4Nw6"), None);
        assert_eq!(find("city", "k3Jx9Qz7Lm2Vt8Rb4Nw6"), None);
    }

    #[test]
    fn entropy_in_bits() {
        assert_eq!(entropy(b"aaaa"), 0.0);
        assert_eq!(entropy(b"abcd"), 2.0);
    }
}
