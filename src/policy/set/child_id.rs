//! The ids of children: computed, so that all replicas count in the same bucket before a child has a row.

use sha2::{Digest, Sha256};

use crate::domain::ids::PolicyId;

/// The id of a default policy's child for a subject, and for a value of its metadata key.
pub fn child_id(parent: PolicyId, subject: &str, header: Option<&str>) -> PolicyId {
    let mut digest = Sha256::new();
    digest.update(parent.uuid().as_bytes());
    // The subject's id has no zero byte, so the header's value cannot be confused with it.
    digest.update(subject.as_bytes());
    digest.update([0]);
    if let Some(value) = header {
        digest.update(value.as_bytes());
    }
    let mut bytes = [0; 16];
    for (byte, hashed) in bytes.iter_mut().zip(digest.finalize()) {
        *byte = hashed;
    }
    PolicyId::from(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

/// The bucket that all subjects beyond the maximum number of children share.
pub fn overflow_id(parent: PolicyId) -> PolicyId {
    child_id(parent, "", None)
}
