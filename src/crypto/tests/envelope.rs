//! Sealing and opening, and what must not open.

use super::*;
use crate::crypto::system_random;

fn id(byte: u8) -> Uuid {
    Uuid::from_bytes([byte; 16])
}

fn context() -> SecretContext {
    SecretContext { owner_id: id(1), secret_id: id(2), version: 3 }
}

fn data_key() -> DataKey {
    DataKey::generate(&mut system_random).unwrap()
}

fn keyring() -> Keyring {
    Keyring::generate(&mut system_random).unwrap()
}

#[test]
fn a_secret_opens_in_its_place() {
    let key = data_key();
    for value in [&b""[..], b"sk-secret", &[7; 65536]] {
        let sealed = seal(&key, &context(), value, &mut system_random).unwrap();
        assert_eq!(sealed[0], FORMAT);
        assert_eq!(sealed.len(), 1 + NONCE_BYTES + value.len() + TAG_BYTES);
        assert_eq!(open(&key, &context(), &sealed).unwrap().expose(), value);
    }
}

#[test]
fn a_moved_secret_does_not_open() {
    let key = data_key();
    let sealed = seal(&key, &context(), b"sk-secret", &mut system_random).unwrap();
    for moved in [
        SecretContext { owner_id: id(9), ..context() },
        SecretContext { secret_id: id(9), ..context() },
        SecretContext { version: 4, ..context() },
        SecretContext { owner_id: id(2), secret_id: id(1), version: 3 },
    ] {
        assert_eq!(open(&key, &moved, &sealed).unwrap_err(), EnvelopeError::DoesNotOpen);
    }
    assert_eq!(open(&data_key(), &context(), &sealed).unwrap_err(), EnvelopeError::DoesNotOpen);
}

#[test]
fn an_altered_or_cut_blob_does_not_open() {
    let key = data_key();
    let sealed = seal(&key, &context(), b"sk-secret", &mut system_random).unwrap();
    for at in 0..sealed.len() {
        let mut altered = sealed.clone();
        altered[at] ^= 0x40;
        assert!(open(&key, &context(), &altered).is_err(), "byte {at}");
        assert!(open(&key, &context(), &sealed[..at]).is_err(), "cut at {at}");
    }
    let mut later = sealed;
    later[0] = 2;
    assert_eq!(open(&key, &context(), &later).unwrap_err(), EnvelopeError::UnknownFormat(2));
}

#[test]
fn sealing_twice_differs() {
    let key = data_key();
    let seal_once = || seal(&key, &context(), b"same", &mut system_random).unwrap();
    assert_ne!(seal_once(), seal_once());
    let mut broken = |_: &mut [u8]| Err(RandomError);
    assert!(seal(&key, &context(), b"same", &mut broken).is_err());
}

#[test]
fn a_data_key_opens_in_its_place_only() {
    let (ring, key) = (keyring(), data_key());
    let wrapped = wrap_data_key(&ring, &key, id(1), id(5), &mut system_random).unwrap();
    assert_eq!(wrapped.master_key_id, ring.active_id());
    let opened = unwrap_data_key(&ring, &wrapped, id(1), id(5)).unwrap();
    assert_eq!(opened.0.key, key.0.key);

    let fails = |wrapped: &WrappedDataKey, workspace, data_key| {
        unwrap_data_key(&ring, wrapped, workspace, data_key).unwrap_err()
    };
    assert_eq!(fails(&wrapped, id(9), id(5)), EnvelopeError::DoesNotOpen);
    assert_eq!(fails(&wrapped, id(1), id(9)), EnvelopeError::DoesNotOpen);
    for at in 0..wrapped.sealed.len() {
        let mut altered = wrapped.clone();
        altered.sealed[at] ^= 1;
        fails(&altered, id(1), id(5));
    }
}

#[test]
fn another_master_key_does_not_open_it() {
    let (ring, key) = (keyring(), data_key());
    let wrapped = wrap_data_key(&ring, &key, id(1), id(5), &mut system_random).unwrap();
    let other = keyring();
    assert_eq!(
        unwrap_data_key(&other, &wrapped, id(1), id(5)).unwrap_err(),
        EnvelopeError::UnknownMasterKey(ring.active_id().to_owned())
    );
    // The right id over the wrong bytes, and the wrong id over the right bytes.
    let impostor = other.to_text().expose().replace(other.active_id(), ring.active_id());
    let impostor = Keyring::parse(&impostor).unwrap();
    assert_eq!(
        unwrap_data_key(&impostor, &wrapped, id(1), id(5)).unwrap_err(),
        EnvelopeError::DoesNotOpen
    );
    let renamed = ring.to_text().expose().replace(ring.active_id(), "renamed");
    let renamed = Keyring::parse(&renamed).unwrap();
    let relabelled = WrappedDataKey { master_key_id: "renamed".into(), ..wrapped };
    assert_eq!(
        unwrap_data_key(&renamed, &relabelled, id(1), id(5)).unwrap_err(),
        EnvelopeError::DoesNotOpen
    );
}

#[test]
fn rotation_rewraps_and_secrets_still_open() {
    let (mut ring, key) = (keyring(), data_key());
    let sealed = seal(&key, &context(), b"sk-secret", &mut system_random).unwrap();
    let wrapped = wrap_data_key(&ring, &key, id(1), id(5), &mut system_random).unwrap();
    let rewrap = |ring: &Keyring, wrapped: &WrappedDataKey| {
        rewrap_data_key(ring, wrapped, id(1), id(5), &mut system_random).unwrap()
    };
    assert!(rewrap(&ring, &wrapped).is_none());
    ring.add_new_active(&mut system_random).unwrap();
    let rewrapped = rewrap(&ring, &wrapped).unwrap();
    assert_eq!(rewrapped.master_key_id, ring.active_id());
    for blob in [&wrapped, &rewrapped] {
        let opened = unwrap_data_key(&ring, blob, id(1), id(5)).unwrap();
        assert_eq!(open(&opened, &context(), &sealed).unwrap().expose(), b"sk-secret");
    }
}

#[test]
fn purposes_share_no_key() {
    let key = data_key();
    let sealed = derive(&key.0.key, SEAL_LABEL);
    assert_ne!(sealed, key.0.fingerprint);
    assert_ne!(sealed, key.0.key);
}

#[test]
fn fingerprints_are_short_keyed_and_steady() {
    let (key, other) = (data_key(), data_key());
    let mark = fingerprint(&key, b"sk-secret");
    assert_eq!(mark.len(), 12);
    assert!(mark.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(mark, fingerprint(&key, b"sk-secret"));
    assert_ne!(mark, fingerprint(&key, b"sk-secres"));
    assert_ne!(mark, fingerprint(&other, b"sk-secret"));
}

#[test]
fn debug_shows_nothing() {
    assert_eq!(format!("{:?}", data_key()), "DataKey(..)");
}
