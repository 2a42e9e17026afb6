//! Pure values and rules: ids, names, roles. No actix, no I/O, no clock: time and randomness are
//! passed in.

pub mod headers;
pub mod ids;
pub mod model_configuration;
pub mod names;
pub mod permissions;
pub mod scope;
