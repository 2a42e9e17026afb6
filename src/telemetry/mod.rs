//! What the gateway tells about itself: logs for people and machines, metrics for graphs.
//!
//! Nothing here knows what a request means; rooms hand over names from fixed sets and numbers.

pub mod logs;
pub mod metrics;
pub mod readiness;
pub mod request_record;
pub mod request_reporter;
pub mod requests;
mod series;

pub use metrics::{METRICS_CONTENT_TYPE, Metrics, OpenStream};
