//! Logs, metrics and readiness: what an operator sees of the process.
//!
//! Nothing here knows what a request means; other rooms pass names from fixed sets and numbers.

mod json_lines;
pub mod logs;
mod metric_labels;
pub mod metrics;
mod polled_metrics;
mod process;
pub mod readiness;
pub mod request_ids;
pub mod request_record;
pub mod request_reporter;
mod series;

pub use metrics::{METRICS_CONTENT_TYPE, Metrics, OpenStream};
