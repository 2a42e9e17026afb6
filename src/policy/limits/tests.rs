//! The counters: in memory against a naive model, both backends by the same tests, and Redis when it is
//! slow, stopped, emptied, or back with older data.

mod both_backends;
mod failures;
mod lost_data;
mod model;
mod redis_server;
mod support;
mod tls;
mod worker_connections;
