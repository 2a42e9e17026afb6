//! To be filled.
pub mod requests;
