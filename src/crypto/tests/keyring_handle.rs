//! Reloading master keys while serving.

use super::*;
use crate::crypto::system_random;

fn new_ring() -> Keyring {
    Keyring::generate(&mut system_random).unwrap()
}

#[test]
fn a_key_that_another_process_added_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("master.key");
    let server = KeyringHandle::create_file(&path, &new_ring()).unwrap();
    let command = KeyringHandle::load(KeyringSource::File(path)).unwrap();
    let id = command.rotate(&mut system_random).unwrap().active_id().to_owned();
    assert!(!server.get().contains(&id));
    assert_eq!(server.with_key(&id).unwrap().active_id(), id);
    // At once again, though a second has not passed: the file is another one.
    let id = command.rotate(&mut system_random).unwrap().active_id().to_owned();
    assert_eq!(server.clone().with_key(&id).unwrap().active_id(), id);
}

#[test]
fn an_unchanged_file_is_read_once_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let handle = KeyringHandle::create_file(&dir.path().join("master.key"), &new_ring()).unwrap();
    let now = Instant::now();
    let later = now + Duration::from_secs(5);
    assert_eq!(handle.reload_at(now).unwrap(), Reload::Unchanged);
    assert_eq!(handle.reload_at(later).unwrap(), Reload::Read);
    assert_eq!(handle.reload_at(later + Duration::from_millis(900)).unwrap(), Reload::Unchanged);
    assert_eq!(handle.reload_at(later + Duration::from_secs(1)).unwrap(), Reload::Read);
}

#[test]
fn a_file_that_went_away_leaves_the_keys() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("master.key");
    let ring = new_ring();
    let handle = KeyringHandle::create_file(&path, &ring).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(handle.with_key("mk-unknown").is_err());
    assert!(handle.get().contains(ring.active_id()));
}

#[test]
fn the_environment_parts_lines_with_semicolons() {
    let mut ring = new_ring();
    ring.add_new_active(&mut system_random).unwrap();
    let text = ring.to_text().expose().lines().skip(1).collect::<Vec<_>>().join(";");
    let handle = KeyringHandle::load(KeyringSource::Environment(text.as_str().into())).unwrap();
    assert_eq!(handle.get().ids().count(), 2);
    assert_eq!(handle.reload().unwrap(), Reload::Unchanged);
    let error = handle.with_key("mk-unknown").unwrap_err().to_string();
    assert!(error.contains("mk-unknown") && error.contains(ring.active_id()), "{error}");
    assert!(matches!(handle.rotate(&mut system_random).unwrap_err(), KeyringError::NotAFile));
    let shown = format!("{handle:?} {:?}", handle.source());
    assert!(!shown.contains(text.split(' ').nth(1).unwrap().split(';').next().unwrap()));
}
