//! What an answer says about its usage. Reads tokens out of answers; knows no prices and does no I/O.

pub mod usage;
