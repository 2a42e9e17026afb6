//! The built-in demonstration.

use crate::app::StartError;

/// What the demonstration is told.
#[derive(clap::Args, Clone, Debug)]
pub struct DemoSettings {}

/// Runs it.
pub async fn run(_settings: DemoSettings) -> Result<(), StartError> {
    Ok(())
}
