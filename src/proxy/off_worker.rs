//! Work that may take long is not done by the worker, which has other requests.

use actix_web::web::block;

use super::error::ProxyError;

/// Work on a longer text is done on a thread of its own, in bytes.
const MAX_INLINE: usize = 64 * 1024;

/// Does work on a text of this length.
pub async fn off_worker<T: Send + 'static>(
    length: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ProxyError> {
    match length > MAX_INLINE {
        true => block(work).await.map_err(|_| ProxyError::Internal),
        false => Ok(work()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn long_texts_are_not_scanned_by_the_worker() {
        let worker = std::thread::current().id();
        let thread_for =
            async |length| off_worker(length, || std::thread::current().id()).await.unwrap();
        assert_eq!(thread_for(MAX_INLINE).await, worker);
        assert_ne!(thread_for(MAX_INLINE + 1).await, worker);
    }
}
