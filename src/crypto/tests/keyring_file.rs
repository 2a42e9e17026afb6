//! The file of master keys: creation, permissions, rotation.

use super::*;
use crate::crypto::system_random;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn new_ring() -> Keyring {
    Keyring::generate(&mut system_random).unwrap()
}

#[test]
fn created_for_its_owner_only_and_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("master.key");
    let ring = new_ring();
    create(&path, &ring).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(read(&path).unwrap().0.active_id(), ring.active_id());

    let error = create(&path, &new_ring()).unwrap_err();
    assert!(matches!(error, KeyringFileError::Exists { .. }), "{error}");
    assert_eq!(read(&path).unwrap().0.active_id(), ring.active_id());
}

#[test]
fn rotation_keeps_the_old_key_and_the_mode() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("master.key");
    let ring = new_ring();
    create(&path, &ring).unwrap();
    let before = version(&path).unwrap();
    let rotated = rotate(&path, &mut system_random).unwrap();
    assert_ne!(rotated.active_id(), ring.active_id());
    assert!(rotated.contains(ring.active_id()));
    assert_eq!(mode(&path), 0o600);
    assert_ne!(version(&path).unwrap(), before);
    assert_eq!(read(&path).unwrap().0.to_text().expose(), rotated.to_text().expose());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn one_rotation_at_a_time_and_a_failed_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("master.key");
    let ring = new_ring();
    create(&path, &ring).unwrap();
    let half_made = dir.path().join("master.key.rotating");
    fs::write(&half_made, "").unwrap();
    let error = rotate(&path, &mut system_random).unwrap_err();
    assert!(error.to_string().contains("remove the file"), "{error}");
    fs::remove_file(&half_made).unwrap();

    let mut broken = |_: &mut [u8]| Err(RandomError);
    assert!(rotate(&path, &mut broken).is_err());
    assert!(!half_made.exists());
    assert_eq!(read(&path).unwrap().0.active_id(), ring.active_id());
}

#[test]
fn a_link_stays_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let (target, link) = (dir.path().join("real.key"), dir.path().join("link.key"));
    create(&target, &new_ring()).unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let rotated = rotate(&link, &mut system_random).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(read(&target).unwrap().0.active_id(), rotated.active_id());
}

#[test]
fn errors_say_which_file() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none.key");
    assert!(matches!(read(&missing).unwrap_err(), KeyringFileError::Missing { .. }));
    assert!(matches!(
        rotate(&missing, &mut system_random).unwrap_err(),
        KeyringFileError::Missing { .. }
    ));
    let bad = dir.path().join("bad.key");
    fs::write(&bad, "# one\nnonsense\n").unwrap();
    let said = read(&bad).unwrap_err().to_string();
    assert!(said.contains("bad.key") && said.contains("line 2"), "{said}");
}
