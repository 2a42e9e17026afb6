//! Names that people choose. Each type checks its rules when it is parsed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A name that breaks the rules of its type. The text says what the rules are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidName(&'static str);

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schema(value_type = String)]
        pub struct $name(String);

        impl $name {
            /// Checks the text and takes it unchanged.
            pub fn parse(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                let check: fn(&str) -> Result<(), InvalidName> = $check;
                check(&text)?;
                Ok(Self(text))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The name of an organization, a workspace, a person or a key: 1 to 128 Unicode characters
    /// without control characters, not blank.
    DisplayName,
    |text| {
        check_length(text)?;
        check_printable(text)?;
        if text.trim().is_empty() {
            return Err(InvalidName("must not be blank"));
        }
        Ok(())
    }
);

name!(
    /// A model configuration's name, which is one segment of URLs: 1 to 128 Unicode characters
    /// without control characters, not `.` or `..`, which URL clients remove.
    ConfigurationName,
    |text| {
        check_length(text)?;
        check_printable(text)?;
        if matches!(text, "." | "..") {
            return Err(InvalidName("must not be '.' or '..', which URL clients remove"));
        }
        Ok(())
    }
);

name!(
    /// A provider secret's name: `[A-Za-z_][A-Za-z0-9_]{0,127}`.
    SecretName,
    |text| {
        let mut bytes = text.bytes();
        let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if first && text.len() <= 128 && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Ok(());
        }
        Err(InvalidName(
            "must match [A-Za-z_][A-Za-z0-9_]{0,127}: a letter or underscore, then letters, digits and underscores",
        ))
    }
);

name!(
    /// A workspace's handle, unique in its organization: `[a-z0-9]` and inner hyphens, 1 to 63 long.
    Handle,
    |text| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=63).contains(&text.len())
            && text.bytes().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-')
        {
            return Ok(());
        }
        Err(InvalidName(
            "must be 1 to 63 lower-case letters, digits or hyphens, and neither begin nor end with a hyphen",
        ))
    }
);

name!(
    /// An e-mail address, checked roughly: something, one `@`, something, at most 254 bytes (RFC
    /// 5321), no spaces or control characters.
    Email,
    |text| {
        let parts = text.split_once('@');
        let is_address = parts.is_some_and(|(local, host)| {
            !local.is_empty() && !host.is_empty() && !host.contains('@')
        });
        if !is_address || text.len() > 254 || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(InvalidName("must be an e-mail address such as ada@example.com"));
        }
        Ok(())
    }
);

fn check_length(text: &str) -> Result<(), InvalidName> {
    match text.chars().take(129).count() {
        1..=128 => Ok(()),
        _ => Err(InvalidName("must be 1 to 128 characters long")),
    }
}

fn check_printable(text: &str) -> Result<(), InvalidName> {
    if text.chars().any(char::is_control) {
        return Err(InvalidName("must not contain control characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_names_may_contain_any_printable_text() {
        for good in ["gpt 4o/mini", "50%+?", "名前", "...", "a"] {
            assert_eq!(ConfigurationName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a\nb", "\u{7f}", &"x".repeat(129)] {
            assert!(ConfigurationName::parse(bad).is_err(), "{bad:?}");
        }
        assert!(ConfigurationName::parse("é".repeat(128)).is_ok());
    }

    #[test]
    fn secret_names_are_identifiers() {
        for good in ["A", "_x9", "OPENAI_API_KEY", &"a".repeat(128)] {
            assert!(SecretName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "9a", "a-b", "a b", "é", &"a".repeat(129)] {
            assert!(SecretName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn handles_and_email_addresses_are_checked() {
        assert!(Handle::parse("team-1").is_ok());
        for bad in ["", "-a", "a-", "A", "a_b", &"a".repeat(64)] {
            assert!(Handle::parse(bad).is_err(), "{bad}");
        }
        assert!(Email::parse("a@b").is_ok());
        for bad in ["", "a", "@b", "a@", "a@b@c", "a b@c"] {
            assert!(Email::parse(bad).is_err(), "{bad}");
        }
    }
}
