//! Pure values and rules: ids, names, permissions, principals, policies, prices and money. No actix, no I/O, no
//! clock: time and randomness are passed in.

pub mod connection;
pub mod content_finding;
pub mod headers;
pub mod ids;
pub mod metadata;
pub mod model_configuration;
pub mod money;
pub mod names;
pub mod oauth;
pub mod permissions;
pub mod policy;
pub mod pricing;
pub mod principal;
pub mod provider;
pub mod provider_settings;
pub mod scope;
pub(crate) mod text_enum;
pub mod tokens;
pub mod usage;
pub mod window;
