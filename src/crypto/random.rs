//! The source of randomness, which is passed to everything that needs it as a [`Random`].

/// The operating system's random number generator failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system's random number generator failed")]
pub struct RandomError;

/// Fills a buffer with random bytes. Pass `&mut system_random` outside tests.
pub type Random<'a> = dyn FnMut(&mut [u8]) -> Result<(), RandomError> + 'a;

/// Fills `buffer` from the operating system's generator.
pub fn system_random(buffer: &mut [u8]) -> Result<(), RandomError> {
    getrandom::fill(buffer).map_err(|_| RandomError)
}
