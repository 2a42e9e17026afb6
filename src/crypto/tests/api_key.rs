//! The text form of keys, their hashes and their digests.

use proptest::prelude::*;

use super::*;
use crate::crypto::system_random;

fn fresh() -> NewApiKey {
    ApiKeyText::generate(&mut system_random).unwrap()
}

#[test]
fn a_made_key_has_its_form() {
    let key = fresh();
    let text = key.text.expose();
    assert_eq!(text.len(), KEY_CHARS);
    assert_eq!(KEY_CHARS, 65);
    assert!(text.starts_with(&format!("tg_{}_", key.lookup_id)));
    assert_eq!(ApiKeyText::parse(text).unwrap().lookup_id(), key.lookup_id);
    assert_eq!(key.lookup_id.as_str().parse::<LookupId>().unwrap(), key.lookup_id);
    assert!(key.short_key.chars().count() < 12);
    assert!(text.starts_with(key.short_key.trim_end_matches('…')));
}

#[test]
fn each_fault_has_its_name() {
    let key = fresh();
    let text = key.text.expose();
    for (altered, error) in [
        (String::new(), KeyFormatError::Prefix),
        (text.replacen("tg_", "sk_", 1), KeyFormatError::Prefix),
        (format!("{text}0"), KeyFormatError::Length),
        (text[..64].to_owned(), KeyFormatError::Length),
        (format!("{PREFIX}{}", "x".repeat(1 << 20)), KeyFormatError::Length),
        (text.replacen('_', "-", 2).replacen("tg-", "tg_", 1), KeyFormatError::Characters),
        (format!("{}é", &text[..63]), KeyFormatError::Characters),
        (format!("{}000000", &text[..59]), KeyFormatError::Checksum),
    ] {
        assert_eq!(ApiKeyText::parse(&altered).unwrap_err(), error, "{altered}");
    }
}

#[test]
fn the_hash_verifies_its_own_key_only() {
    let (key, other) = (fresh(), fresh());
    let phc = hash_secret(&key.parsed, &mut system_random).unwrap();
    assert!(phc.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{phc}");
    assert!(verify_secret(&ApiKeyText::parse(key.text.expose()).unwrap(), &phc));
    assert!(!verify_secret(&other.parsed, &phc));
    assert!(!verify_secret(&key.parsed, "not a hash"));
    assert_ne!(phc, hash_secret(&key.parsed, &mut system_random).unwrap());
}

#[test]
fn digests_belong_to_a_key_and_a_process() {
    let (key, other) = (fresh(), fresh());
    let digester = KeyDigester::new(&mut system_random).unwrap();
    let digest = digester.digest(&key.parsed);
    assert!(digest.matches(&digester.digest(&key.parsed)));
    assert!(!digest.matches(&digester.digest(&other.parsed)));
    let elsewhere = KeyDigester::new(&mut system_random).unwrap();
    assert!(!digest.matches(&elsewhere.digest(&key.parsed)));
}

#[test]
fn debug_shows_no_secret() {
    let key = fresh();
    let digester = KeyDigester::new(&mut system_random).unwrap();
    let shown = format!("{key:?} {digester:?} {:?}", digester.digest(&key.parsed));
    assert!(!shown.contains(&key.text.expose()[BEFORE_SECRET..BEFORE_CHECKSUM]), "{shown}");
}

#[test]
fn no_key_without_randomness() {
    let mut broken = |_: &mut [u8]| Err(RandomError);
    assert_eq!(ApiKeyText::generate(&mut broken).unwrap_err(), RandomError);
    assert!(hash_secret(&fresh().parsed, &mut broken).is_err());
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(text in "\\PC*") {
        prop_assert!(ApiKeyText::parse(&text).is_err());
    }

    #[test]
    fn any_text_of_our_prefix_is_read_without_panic(text in "tg_[0-9A-Za-z_é]{0,80}") {
        prop_assert!(ApiKeyText::parse(&text).is_err());
    }

    #[test]
    fn made_keys_parse(seed in any::<[u8; 32]>(), lookup in any::<[u8; 32]>()) {
        let mut calls = 0usize;
        let mut random = |buffer: &mut [u8]| {
            for (i, byte) in buffer.iter_mut().enumerate() {
                *byte = if buffer_is_secret(calls) { seed[i % 32] } else { lookup[calls % 32] % 248 };
            }
            calls += 1;
            Ok(())
        };
        let key = ApiKeyText::generate(&mut random).unwrap();
        let parsed = ApiKeyText::parse(key.text.expose()).unwrap();
        prop_assert_eq!(parsed.lookup_id(), key.lookup_id);
        prop_assert_eq!(&parsed.secret[..], &key.parsed.secret[..]);
    }

    #[test]
    fn one_wrong_character_is_always_refused(at in 0..KEY_CHARS, with in "[ -~]") {
        let key = fresh();
        let mut text = key.text.expose().to_owned();
        prop_assume!(text[at..=at] != with);
        text.replace_range(at..=at, &with);
        prop_assert!(ApiKeyText::parse(&text).is_err());
    }
}

/// The generator asks for the lookup id's characters one by one, then for the secret.
fn buffer_is_secret(calls: usize) -> bool {
    calls == LOOKUP_CHARS
}
