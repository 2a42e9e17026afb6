//! Credentials, in the forms that their issuers document.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::{Kind, Random};
use crate::crypto::ApiKeyText;
use crate::policy::guard::category::Category;

const URL_CHARACTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";

/// A run that ends in a letter, as runs with punctuation may not end in it.
fn url_text(random: &mut Random, length: usize) -> String {
    format!("{}a", random.text(URL_CHARACTERS, length - 1))
}

fn bytes(random: &mut Random, length: usize) -> Vec<u8> {
    (0..length).map(|_| random.below(256) as u8).collect()
}

fn kind(
    category: Category,
    value: fn(&mut Random) -> String,
    near_miss: fn(&mut Random) -> String,
) -> Kind {
    Kind { category, name: "", value, near_miss }
}

pub(super) fn kinds() -> Vec<Kind> {
    vec![
        kind(
            Category::AnthropicKey,
            |random| {
                format!(
                    "sk-ant-{}-{}AA",
                    random.pick(&["api03", "admin01", "oat01"]),
                    url_text(random, 92)
                )
            },
            |random| format!("sk-{}-{}", random.pick(&["ants", "an", "ANT"]), url_text(random, 20)),
        ),
        kind(
            Category::OpenAiKey,
            |random| match random.below(3) {
                0 => format!(
                    "sk-{}T3BlbkFJ{}",
                    random.letters_and_digits(20),
                    random.letters_and_digits(20)
                ),
                1 => format!("sk-proj-{}T3BlbkFJ{}", url_text(random, 74), url_text(random, 74)),
                _ => format!("sk-svcacct-{}T3BlbkFJ{}", url_text(random, 74), url_text(random, 74)),
            },
            |random| match random.below(3) {
                0 => format!("sk-{}", "x".repeat(48)),
                1 => format!("sk-learn-{}", random.letters_and_digits(12)),
                _ => format!("disk-{}", random.letters_and_digits(48)),
            },
        ),
        kind(
            Category::ModelProviderKey,
            |random| match random.below(9) {
                0 => format!("xai-{}", random.letters_and_digits(80)),
                1 => format!("gsk_{}", random.letters_and_digits(52)),
                2 => format!("hf_{}", random.letters_and_digits(34)),
                3 => format!("r8_{}", random.letters_and_digits(37)),
                4 => format!("pplx-{}", random.letters_and_digits(48)),
                5 => format!("csk-{}", random.letters_and_digits(48)),
                6 => format!("sk-or-v1-{}", random.hex(64)),
                7 => format!("lsv2_pt_{}_{}", random.hex(32), random.hex(10)),
                _ => format!("nvapi-{}", url_text(random, 64)),
            },
            |random| match random.below(3) {
                0 => format!("hf_{}", random.text("abcdefgh_", 20)),
                1 => format!("gsk_{}", random.letters_and_digits(30)),
                _ => format!("xai-{}", random.letters_and_digits(20)),
            },
        ),
        kind(
            Category::AwsKey,
            |random| {
                format!(
                    "{}{}",
                    random.pick(&["AKIA", "ASIA"]),
                    random.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16)
                )
            },
            |random| match random.below(3) {
                0 => format!("AKIA{}", random.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 15)),
                1 => format!("AKIA{}", random.text("abcdefghijklmnopqrstuvwxyz", 16)),
                _ => format!("XAKIA{}", random.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16)),
            },
        ),
        kind(
            Category::GithubToken,
            |random| match random.below(2) {
                0 => format!(
                    "{}_{}",
                    random.pick(&["ghp", "gho", "ghu", "ghs", "ghr"]),
                    random.letters_and_digits(36)
                ),
                _ => format!(
                    "github_pat_{}_{}",
                    random.letters_and_digits(22),
                    random.letters_and_digits(59)
                ),
            },
            |random| match random.below(3) {
                0 => format!("ghp_{}", random.letters_and_digits(35)),
                1 => format!("ghx_{}", random.letters_and_digits(36)),
                _ => format!("github_pat_{}", random.letters_and_digits(22)),
            },
        ),
        kind(
            Category::GitlabToken,
            |random| {
                format!(
                    "{}-{}",
                    random.pick(&["glpat", "gldt", "glrt", "glptt", "glcbt"]),
                    url_text(random, 20)
                )
            },
            |random| format!("{}-{}", random.pick(&["glpat", "gl", "glxyz"]), url_text(random, 16)),
        ),
        kind(
            Category::GoogleKey,
            |random| match random.below(3) {
                0 => format!("AIza{}", url_text(random, 35)),
                1 => format!("GOCSPX-{}", url_text(random, 28)),
                _ => format!("ya29.{}", url_text(random, 150)),
            },
            |random| match random.below(2) {
                0 => format!("AIza{}", random.letters_and_digits(34)),
                _ => format!("aiza{}", random.letters_and_digits(35)),
            },
        ),
        kind(
            Category::AzureKey,
            |random| match random.below(2) {
                0 => {
                    format!("{}8Q~{}", random.letters_and_digits(3), random.letters_and_digits(34))
                }
                _ => format!("AccountKey={}", STANDARD.encode(bytes(random, 64))),
            },
            |random| match random.below(2) {
                0 => {
                    format!("{}8Q~{}", random.letters_and_digits(3), random.letters_and_digits(20))
                }
                _ => format!("AccountKeys={}", random.letters_and_digits(20)),
            },
        ),
        kind(
            Category::SlackToken,
            |random| match random.below(2) {
                0 => format!(
                    "xoxb-{}-{}-{}",
                    random.digits(12),
                    random.digits(12),
                    random.letters_and_digits(24)
                ),
                _ => format!(
                    "hooks.slack.com/services/T{}/B{}/{}",
                    random.digits(9),
                    random.digits(9),
                    random.letters_and_digits(24)
                ),
            },
            |random| match random.below(2) {
                0 => format!("xoxz-{}-{}", random.digits(12), random.letters_and_digits(24)),
                _ => format!("hooks.slack.com/docs/{}", random.letters_and_digits(24)),
            },
        ),
        kind(
            Category::StripeKey,
            |random| {
                format!(
                    "{}_{}",
                    random.pick(&["sk_live", "sk_test", "rk_live"]),
                    random.letters_and_digits(24)
                )
            },
            |random| {
                format!(
                    "{}_{}",
                    random.pick(&["pk_live", "sk_prod", "task_live"]),
                    random.letters_and_digits(24)
                )
            },
        ),
        kind(
            Category::SendgridKey,
            |random| format!("SG.{}.{}", url_text(random, 22), url_text(random, 43)),
            |random| format!("SG.{}.{}", url_text(random, 20), url_text(random, 43)),
        ),
        Kind {
            category: Category::DatadogKey,
            name: "DD_API_KEY=",
            value: |random| format!("{}a7", random.hex(30)),
            near_miss: |random| format!("${{{}}}", random.text("ABCDEFGH", 12)),
        },
        kind(
            Category::NpmToken,
            |random| format!("npm_{}", random.letters_and_digits(36)),
            |random| match random.below(2) {
                0 => format!("npm_{}", random.letters_and_digits(35)),
                _ => format!("npm_config_{}", random.text("abcdefgh", 10)),
            },
        ),
        kind(
            Category::PypiToken,
            |random| format!("pypi-AgEIcHlwaS5vcmc{}", url_text(random, 130)),
            |random| format!("pypi-{}", url_text(random, 130)),
        ),
        kind(
            Category::PrivateKey,
            |random| {
                let label = random.pick(&["", "RSA ", "EC ", "OPENSSH "]);
                let lines: Vec<String> =
                    (0..8).map(|_| STANDARD.encode(bytes(random, 48))).collect();
                format!(
                    "-----BEGIN {label}PRIVATE KEY-----\n{}\n-----END {label}PRIVATE KEY-----",
                    lines.join("\n")
                )
            },
            |random| {
                let label = random.pick(&["CERTIFICATE", "PUBLIC KEY", "CERTIFICATE REQUEST"]);
                format!(
                    "-----BEGIN {label}-----\n{}\n-----END {label}-----",
                    STANDARD.encode(bytes(random, 96))
                )
            },
        ),
        kind(
            Category::Jwt,
            |random| {
                let claims = format!(r#"{{"sub":"{}"}}"#, random.digits(8));
                let parts = [
                    r#"{"alg":"HS256","typ":"JWT"}"#.as_bytes(),
                    claims.as_bytes(),
                    &bytes(random, 32),
                ];
                parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
            },
            |random| match random.below(2) {
                0 => format!(
                    "{}.{}",
                    URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
                    random.letters_and_digits(20)
                ),
                _ => {
                    let parts = [r#"{"sub":"1234"}"#.as_bytes(), b"{}", &bytes(random, 32)];
                    parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
                }
            },
        ),
        kind(
            Category::ConnectionString,
            |random| {
                let scheme =
                    random.pick(&["postgres", "mysql", "mongodb+srv", "redis", "amqp", "https"]);
                format!("{scheme}://app:{}@db.example.com:5432/main", random.letters_and_digits(12))
            },
            |random| {
                let scheme = random.pick(&["postgres", "mysql", "https"]);
                match random.below(3) {
                    0 => format!("{scheme}://db.example.com:5432/{}", random.text("abc", 6)),
                    1 => format!(
                        "{scheme}://app:$DB_PASSWORD@db.example.com/{}",
                        random.text("abc", 6)
                    ),
                    _ => format!("{scheme}://app@db.example.com/{}", random.text("abc", 6)),
                }
            },
        ),
        kind(Category::GatewayKey, gateway_key, |random| {
            let key = gateway_key(random);
            let last = if key.ends_with('7') { '8' } else { '7' };
            format!("{}{last}", &key[..key.len() - 1])
        }),
        Kind {
            category: Category::NamedSecret,
            name: "client_secret: ",
            value: |random| format!("{}a7", random.letters_and_digits(30)),
            near_miss: |random| match random.below(4) {
                0 => format!("os.environ[{}1]", random.text("abc", 6)),
                1 => random.text("abcdefghijklmnopqrstuvwxyz", 24),
                2 => random.digits(6),
                _ => format!("${{{}_1}}", random.text("ABCDEF", 12)),
            },
        },
    ]
}

fn gateway_key(random: &mut Random) -> String {
    let mut fill = |buffer: &mut [u8]| {
        buffer.iter_mut().for_each(|byte| *byte = random.below(256) as u8);
        Ok(())
    };
    ApiKeyText::generate(&mut fill).unwrap().text.expose().to_owned()
}
