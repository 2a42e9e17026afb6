//! Where randomness comes from. Everything that needs it takes a [`Random`].

/// The operating system gave no random bytes. Nothing may be made without them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system's random number generator failed")]
pub struct RandomError;

/// A source that fills a buffer. Pass `&mut system_random` outside tests.
pub type Random<'a> = dyn FnMut(&mut [u8]) -> Result<(), RandomError> + 'a;

/// Fills `buffer` from the operating system's generator.
pub fn system_random(buffer: &mut [u8]) -> Result<(), RandomError> {
    getrandom::fill(buffer).map_err(|_| RandomError)
}
