//! The commands and what each prints. Results go to standard output, logs to standard error.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::accounting::ledger::REJECTED;
use crate::app::bootstrap::{bootstrap, replace_platform_key};
use crate::app::drain::drain_journal;
use crate::app::open::{ensure_key_of_new_database, open_database, open_store};
use crate::app::rotate::rotate_master_key;
use crate::app::stop::stop_signal;
use crate::app::{Application, StartError};
use crate::clock::Clock;
use crate::config::{LogSettings, Settings};
use crate::demo::{self, DemoSettings};
use crate::domain::names::DisplayName;
use crate::telemetry::logs;

/// A multi-tenant LLM gateway: one binary between your applications and their model providers.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve callers and admins until told to stop
    Serve(Box<Settings>),
    /// Show the gateway at work: a fresh installation with a built-in upstream, and two calls
    Demo(DemoSettings),
    /// Make the database, the master key and the first organization; print the first keys, once
    Bootstrap {
        /// The first organization's name
        #[arg(long, value_name = "NAME")]
        organization: String,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Bring the database to the schema that this binary knows
    Migrate(Box<Settings>),
    /// Make a new master key active and wrap every data key with it, while servers go on serving
    RotateMasterKey(Box<Settings>),
    /// Revoke every platform key and print a new one, once: for one that is lost or has leaked
    ReplacePlatformKey(Box<Settings>),
    /// Bring the journal of a process that will not come back into the ledger
    DrainJournal {
        /// The journal's directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Print the OpenAPI document
    Openapi,
}

/// Runs a command to its end.
pub fn run(cli: Cli) -> ExitCode {
    let outcome = actix_web::rt::System::new().block_on(dispatch(cli.command));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            match error {
                // As for an option that can't be read.
                StartError::Settings(_) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

async fn dispatch(command: Command) -> Result<(), StartError> {
    match command {
        Command::Serve(settings) => {
            start_logging(&settings.logging);
            // Before anything says that it serves: a signal from then on must find its handler.
            let stop = stop_signal()?;
            let application = Application::build(*settings).await?;
            tracing::info!(
                version = env!("CARGO_PKG_VERSION"),
                address = %application.address(),
                admin_address = application.admin_address().map(tracing::field::display),
                "serving"
            );
            application.run_until(stop).await
        }
        Command::Demo(settings) => demo::run(settings).await,
        Command::Bootstrap { organization, settings } => {
            start_logging(&settings.logging);
            settings.validate()?;
            let name = DisplayName::parse(organization)?;
            let store = open_store(&settings).await?;
            let first = bootstrap(&store, &Clock::default(), name).await?;
            print(&serde_json::json!({
                "organization_id": first.organization_id,
                "platform_key": first.platform_key.expose(),
                "admin_key": first.admin_key.expose(),
            }));
            Ok(())
        }
        Command::Migrate(settings) => {
            start_logging(&settings.logging);
            ensure_key_of_new_database(&settings)?;
            open_database(&settings)?.migrate().await?;
            tracing::info!("the database is up to date");
            Ok(())
        }
        Command::RotateMasterKey(settings) => {
            start_logging(&settings.logging);
            settings.validate()?;
            let store = open_store(&settings).await?;
            let rotation = rotate_master_key(&store, &Clock::default()).await?;
            print(&serde_json::json!({
                "master_key_id": rotation.master_key_id,
                "rewrapped_data_keys": rotation.rewrapped,
            }));
            Ok(())
        }
        Command::ReplacePlatformKey(settings) => {
            start_logging(&settings.logging);
            settings.validate()?;
            let store = open_store(&settings).await?;
            let key = replace_platform_key(&store, &Clock::default()).await?;
            print(&serde_json::json!({ "platform_key": key.expose() }));
            Ok(())
        }
        Command::DrainJournal { directory, settings } => {
            start_logging(&settings.logging);
            let found = drain_journal(&settings, &directory).await?;
            print(&serde_json::json!({
                "rows": found.rows,
                "lost": found.lost,
                "rejected": found.rejected,
                "damaged_records": found.damaged,
            }));
            match found.rejected + found.damaged {
                0 => Ok(()),
                _ => Err(StartError::NotAllDrained(directory.join(REJECTED))),
            }
        }
        Command::Openapi => {
            print(&crate::api::openapi::document());
            Ok(())
        }
    }
}

fn start_logging(settings: &LogSettings) {
    // The filter was checked with the other settings; a bad one falls back to what is usual.
    if let Err(error) = logs::init(settings.log_format, &settings.log_filter) {
        complain(&error);
    }
}

#[expect(clippy::print_stdout, reason = "the command's result, for whoever called it")]
fn print(result: &impl serde::Serialize) {
    match serde_json::to_string_pretty(result) {
        Ok(text) => println!("{text}"),
        Err(error) => complain(&error),
    }
}

#[expect(clippy::print_stderr, reason = "there may be no log to say it in")]
fn complain(error: &dyn std::error::Error) {
    eprintln!("tollgate: {error}");
}
