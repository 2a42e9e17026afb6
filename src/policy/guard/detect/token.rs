//! Tokens that begin with what names their issuer.
//!
//! Sources: the issuers' documentation of their token formats, and the public rules of secret scanners
//! where an issuer documents none.

use super::super::category::Category;
use super::{Detection, Text, distinct};

/// The characters of a token after its prefix.
#[derive(Debug, Clone, Copy)]
enum Characters {
    /// Letters and digits.
    Alphanumeric,
    /// Letters, digits, `_` and `-`: base64url, in most cases.
    Url,
    /// Letters, digits, `_`, `-` and `.`.
    Dotted,
    /// Letters, digits, `+`, `/` and `=`: base64.
    Base64,
    /// Capital letters and the digits 2 to 7: base32.
    Base32,
}

/// The longest token, in bytes after the prefix.
const MAX_LENGTH: usize = 512;
/// A real token has more different characters; what has fewer is an example such as `sk-xxxxxxxx`.
const MIN_DISTINCT: usize = 8;

/// The form of a token: its prefix, what follows, and the least and most that follows, in bytes.
#[derive(Debug)]
pub(in super::super) struct TokenForm {
    pub(in super::super) prefix: &'static str,
    pub(in super::super) category: Category,
    characters: Characters,
    min: usize,
    max: usize,
}

const fn form(
    prefix: &'static str,
    category: Category,
    characters: Characters,
    min: usize,
    max: usize,
) -> TokenForm {
    TokenForm { prefix, category, characters, min, max }
}

use Category::{
    AnthropicKey, AwsKey, AzureKey, GithubToken, GitlabToken, GoogleKey, ModelProviderKey,
    NpmToken, OpenAiKey, PypiToken, SendgridKey, SlackToken, StripeKey,
};
use Characters::{Alphanumeric, Base32, Base64, Dotted, Url};

/// All forms. A longer prefix stands before the shorter one that it begins with.
pub(in super::super) const FORMS: [TokenForm; 68] = [
    form("sk-ant-", AnthropicKey, Url, 24, MAX_LENGTH),
    form("sk-or-v1-", ModelProviderKey, Alphanumeric, 48, 80),
    form("sk-proj-", OpenAiKey, Url, 24, MAX_LENGTH),
    form("sk-svcacct-", OpenAiKey, Url, 24, MAX_LENGTH),
    form("sk-admin-", OpenAiKey, Url, 24, MAX_LENGTH),
    form("sk-None-", OpenAiKey, Url, 24, MAX_LENGTH),
    form("sk-", OpenAiKey, Alphanumeric, 32, 64),
    form("xai-", ModelProviderKey, Alphanumeric, 64, 100),
    form("gsk_", ModelProviderKey, Alphanumeric, 48, 64),
    form("hf_", ModelProviderKey, Alphanumeric, 30, 44),
    form("r8_", ModelProviderKey, Alphanumeric, 32, 48),
    form("pplx-", ModelProviderKey, Alphanumeric, 40, 64),
    form("fw_", ModelProviderKey, Alphanumeric, 20, 40),
    form("csk-", ModelProviderKey, Alphanumeric, 40, 64),
    form("tgp_v1_", ModelProviderKey, Url, 32, 64),
    form("nvapi-", ModelProviderKey, Url, 50, 90),
    form("lsv2_pt_", ModelProviderKey, Url, 40, 60),
    form("lsv2_sk_", ModelProviderKey, Url, 40, 60),
    form("AKIA", AwsKey, Base32, 16, 16),
    form("ASIA", AwsKey, Base32, 16, 16),
    form("ABIA", AwsKey, Base32, 16, 16),
    form("ACCA", AwsKey, Base32, 16, 16),
    form("ABSK", AwsKey, Base64, 100, 300),
    form("bedrock-api-key-", AwsKey, Base64, 60, MAX_LENGTH * 4),
    form("ghp_", GithubToken, Alphanumeric, 36, 255),
    form("gho_", GithubToken, Alphanumeric, 36, 255),
    form("ghu_", GithubToken, Alphanumeric, 36, 255),
    form("ghs_", GithubToken, Alphanumeric, 36, 255),
    form("ghr_", GithubToken, Alphanumeric, 36, 255),
    form("github_pat_", GithubToken, Url, 60, 255),
    form("glpat-", GitlabToken, Dotted, 20, 300),
    form("gldt-", GitlabToken, Dotted, 20, 300),
    form("glrt-", GitlabToken, Dotted, 20, 300),
    form("glcbt-", GitlabToken, Dotted, 20, 300),
    form("glptt-", GitlabToken, Dotted, 20, 300),
    form("glft-", GitlabToken, Dotted, 20, 300),
    form("glagent-", GitlabToken, Dotted, 20, 300),
    form("gloas-", GitlabToken, Dotted, 20, 300),
    form("glsoat-", GitlabToken, Dotted, 20, 300),
    form("glimt-", GitlabToken, Dotted, 20, 300),
    form("glffct-", GitlabToken, Dotted, 20, 300),
    form("AIza", GoogleKey, Url, 35, 35),
    form("AQ.Ab8", GoogleKey, Url, 32, 120),
    form("ya29.", GoogleKey, Dotted, 20, MAX_LENGTH * 4),
    form("GOCSPX-", GoogleKey, Url, 28, 28),
    form("AccountKey=", AzureKey, Base64, 40, 100),
    form("SharedAccessKey=", AzureKey, Base64, 40, 100),
    form("xoxb-", SlackToken, Url, 20, 255),
    form("xoxp-", SlackToken, Url, 20, 255),
    form("xoxa-", SlackToken, Url, 20, 255),
    form("xoxr-", SlackToken, Url, 20, 255),
    form("xoxs-", SlackToken, Url, 20, 255),
    form("xoxc-", SlackToken, Url, 20, 255),
    form("xoxe-", SlackToken, Url, 20, 255),
    form("xoxe.", SlackToken, Url, 20, 255),
    form("xapp-", SlackToken, Url, 20, 255),
    form("hooks.slack.com/services/", SlackToken, Base64, 30, 80),
    form("sk_live_", StripeKey, Alphanumeric, 16, 255),
    form("sk_test_", StripeKey, Alphanumeric, 16, 255),
    form("rk_live_", StripeKey, Alphanumeric, 16, 255),
    form("rk_test_", StripeKey, Alphanumeric, 16, 255),
    form("whsec_", StripeKey, Base64, 24, 100),
    form("SG.", SendgridKey, Dotted, 66, 66),
    form("ddapp_", Category::DatadogKey, Alphanumeric, 34, 40),
    form("ddpat_", Category::DatadogKey, Url, 30, 80),
    form("npm_", NpmToken, Alphanumeric, 36, 36),
    form("pypi-AgEIcHlwaS5vcmc", PypiToken, Url, 50, MAX_LENGTH),
    form("pypi-AgENdGVzdC5weXBpLm9yZw", PypiToken, Url, 50, MAX_LENGTH),
];

/// A token of this form whose prefix begins at `start`, in the letter case that matched.
pub(in super::super) fn find(form: &TokenForm, text: Text<'_>, start: usize) -> Option<Detection> {
    let body = start + form.prefix.len();
    if text.slice(start..body) != form.prefix.as_bytes() || !text.starts_word(start) {
        return None;
    }
    let mut end = text.run_end(body, form.max + 1, |byte| form.characters.contain(byte));
    // The full stop of a sentence is no part of a token.
    while matches!(text.before(end), Some(b'.' | b'-')) && end > body {
        end -= 1;
    }
    let length = end - body;
    let is_whole = match form.characters {
        Characters::Base64 => true,
        _ => text.ends_word(end),
    };
    let is_token = (form.min..=form.max).contains(&length)
        && is_whole
        && distinct(text.slice(body..end)) >= MIN_DISTINCT
        && (form.category != SendgridKey || text.at(body + 22) == Some(b'.'));
    is_token.then_some(Detection { range: start..end, category: form.category })
}

impl Characters {
    fn contain(self, byte: u8) -> bool {
        byte.is_ascii_alphanumeric() && !matches!(self, Self::Base32)
            || match self {
                Self::Alphanumeric => false,
                Self::Url => matches!(byte, b'_' | b'-'),
                Self::Dotted => matches!(byte, b'_' | b'-' | b'.'),
                Self::Base64 => matches!(byte, b'+' | b'/' | b'='),
                Self::Base32 => matches!(byte, b'A'..=b'Z' | b'2'..=b'7'),
            }
    }
}

/// What stands in the middle of a client secret of Microsoft Entra, after three characters and a digit.
pub(in super::super) const ENTRA_MARK: &str = "Q~";

/// A client secret of Microsoft Entra: three characters, a digit, `Q~`, and 31 to 34 characters. `mark`
/// is the place of `Q~`.
pub(in super::super) fn find_entra_secret(text: Text<'_>, mark: usize) -> Option<Detection> {
    let is_character =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'~' | b'.' | b'-');
    let start = mark.checked_sub(4)?;
    let head = text.slice(start..mark);
    let end = text.run_end(mark + 2, 35, is_character);
    let is_secret = head.iter().all(|byte| is_character(*byte))
        && head.last().is_some_and(u8::is_ascii_digit)
        && text.starts_word(start)
        && text.ends_word(end)
        && (31..=34).contains(&(end - mark - 2))
        && distinct(text.slice(mark..end)) >= MIN_DISTINCT;
    is_secret.then_some(Detection { range: start..end, category: AzureKey })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value that is found in the text at the first occurrence of a form's prefix.
    fn found(text: &str) -> Option<(&str, Category)> {
        FORMS.iter().find_map(|form| {
            let found = find(form, Text::new(text.as_bytes()), text.find(form.prefix)?)?;
            Some((&text[found.range], found.category))
        })
    }

    #[test]
    fn tokens_end_where_their_characters_do() {
        let body = "abcDEF0123456789ghiJKL0123456789mnop";
        let key = format!("sk-ant-api03-{body}_-x");
        assert_eq!(found(&format!("Use {key}.")), Some((key.as_str(), AnthropicKey)));
        let key = format!("ghp_{body}");
        assert_eq!(found(&format!("({key})")), Some((key.as_str(), GithubToken)));
        assert_eq!(found("AKIAIOSFODNN7EXAMPLE,"), Some(("AKIAIOSFODNN7EXAMPLE", AwsKey)));
        let webhook = "hooks.slack.com/services/T00AB00CD/B00EF00GH/abcdefghijklmnopqrstuvwx";
        assert_eq!(found(&format!("https://{webhook}")), Some((webhook, SlackToken)));
    }

    #[test]
    fn near_misses() {
        for text in [
            "sk-ant-short",
            "task-abcDEF0123456789ghiJKL0123456789mnop",
            "ghp_abcDEF0123456789ghiJKL0123456789mno",
            "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "AKIAIOSFODNN7EXAMPLE0",
            "AKIAiosfodnn7example",
            "SG.abcdefghijklmnopqrstuvwxyz0123456789",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }

    #[test]
    fn entra_secrets() {
        let secret = "aB38Q~xYz0123456789abcdefghijklmnopqrs.";
        let find = |text: &str| find_entra_secret(Text::new(text.as_bytes()), text.find("Q~")?);
        assert_eq!(find(&format!(" {secret}")).map(|found| found.range), Some(1..1 + secret.len()));
        assert_eq!(find("aB3xQ~xYz0123456789abcdefghijklmnopqrs."), None);
        assert_eq!(find("8Q~xYz0123456789"), None);
    }
}
