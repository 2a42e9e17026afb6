//! Types for secrets: zeroized when dropped, hidden in `Debug`, without `Display` and `Serialize`. The only
//! access is through methods named `expose`, so that a search finds every use.

use std::fmt;

use zeroize::Zeroizing;

/// Secret bytes.
#[derive(Clone, Default)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

/// Secret text.
#[derive(Clone, Default)]
pub struct SecretText(Zeroizing<String>);

impl SecretBytes {
    /// The bytes. Do not copy them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl SecretText {
    /// The text. Do not copy it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl From<&str> for SecretText {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretBytes(..)")
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretText(..)")
    }
}

/// For request bodies. There is no `Serialize`.
impl<'de> serde::Deserialize<'de> for SecretText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_secret() {
        let text = SecretText::from("sk-visible");
        let bytes = SecretBytes::from(b"sk-visible".to_vec());
        for shown in [format!("{text:?}"), format!("{bytes:?}"), format!("{:#?}", (&text, &bytes))]
        {
            assert!(!shown.contains("visible") && !shown.contains("115"), "{shown}");
        }
    }
}
