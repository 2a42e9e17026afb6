//! Derivation of keys for different purposes from one key, and keyed hashes.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit};
use sha2::Sha256;
use zeroize::Zeroizing;

/// HKDF-SHA256 without salt, since the input is uniform. The label separates the purposes.
pub(crate) fn derive(key: &[u8; 32], label: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut derived = Zeroizing::new([0; 32]);
    #[expect(clippy::expect_used, reason = "HKDF-SHA256 produces up to 255 times 32 bytes")]
    Hkdf::<Sha256>::new(None, key)
        .expand(label, derived.as_mut())
        .expect("32 bytes are within HKDF's limit");
    derived
}

/// HMAC-SHA256 under a key.
pub(crate) fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    // HMAC pads a short key with zeros to its block of 64 bytes. A key of exactly one block cannot fail.
    let mut block = Zeroizing::new([0; 64]);
    for (place, byte) in block.iter_mut().zip(key) {
        *place = *byte;
    }
    Hmac::new(&(*block).into())
}

#[cfg(test)]
mod tests {
    use hmac::Mac;

    use super::*;

    /// RFC 4231 has no key of 32 bytes; padding one of 20 with zeros gives the same block.
    #[test]
    fn keyed_is_hmac() {
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let mut mac = keyed(&key);
        mac.update(b"Hi There");
        let digest = mac.finalize().into_bytes();
        assert_eq!(digest[..4], [0xb0, 0x34, 0x4c, 0x61]);
    }

    #[test]
    fn labels_separate_purposes() {
        assert_ne!(derive(&[1; 32], b"a"), derive(&[1; 32], b"b"));
        assert_ne!(derive(&[1; 32], b"a"), derive(&[2; 32], b"a"));
        assert_eq!(derive(&[1; 32], b"a"), derive(&[1; 32], b"a"));
    }
}
