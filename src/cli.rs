//! The commands and what each prints. Results go to standard output, logs to standard error.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::accounting::ledger::REJECTED;
use crate::app::bootstrap::{bootstrap, replace_platform_key};
use crate::app::drain::drain_journal;
use crate::app::open::{ensure_key_of_new_database, open_database, open_store};
use crate::app::rotate::rotate_master_key;
use crate::app::stop::{INTERRUPTED, stop_signals};
use crate::app::{Application, StartError, Stopped};
use crate::clock::Clock;
use crate::config::{LogSettings, Settings};
use crate::demo::{self, DemoError, DemoSettings};
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
    /// Serve callers and admins until SIGTERM, SIGHUP or Ctrl-C
    Serve(Box<Settings>),
    /// Try the gateway: a new installation with a built-in upstream, and two calls
    Demo(DemoSettings),
    /// Create the database, the master key and the first organization; print the first keys, once
    Bootstrap {
        /// Name of the first organization
        #[arg(long, value_name = "NAME")]
        organization: String,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Bring the database schema up to this version
    Migrate(Box<Settings>),
    /// Create a new master key and wrap every data key with it; servers may keep running
    RotateMasterKey(Box<Settings>),
    /// Revoke every platform key and print a new one, once: for a key that is lost or has leaked
    ReplacePlatformKey(Box<Settings>),
    /// Bring the journal of a process that will not be started again into the ledger
    DrainJournal {
        /// Directory of the journal
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Print the OpenAPI document
    Openapi,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Start(StartError),
    #[error(transparent)]
    Demo(DemoError),
}

impl<E: Into<StartError>> From<E> for CommandError {
    fn from(error: E) -> Self {
        Self::Start(error.into())
    }
}

/// Runs a command to its end.
pub fn run(cli: Cli) -> ExitCode {
    let outcome = actix_web::rt::System::new().block_on(dispatch(cli.command));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error);
            match error {
                // The exit code of an option that can't be parsed.
                CommandError::Start(StartError::Settings(_)) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

async fn dispatch(command: Command) -> Result<(), CommandError> {
    match command {
        Command::Serve(settings) => {
            start_logging(&settings.logging);
            // Before the log line "serving": a signal from then on must find its handler.
            let (stop, stop_now) = stop_signals()?;
            let application = Application::build(*settings).await?;
            tracing::info!(
                version = env!("CARGO_PKG_VERSION"),
                address = %application.address(),
                admin_address = application.admin_address().map(tracing::field::display),
                "serving"
            );
            match application.run_until(stop, stop_now).await? {
                Stopped::Drained => Ok(()),
                // Does not wait for threads that still count tokens or write answers.
                Stopped::Interrupted => std::process::exit(INTERRUPTED),
            }
        }
        Command::Demo(settings) => demo::run(settings).await.map_err(CommandError::Demo),
        Command::Bootstrap { organization, settings } => {
            start_logging(&settings.logging);
            settings.validate()?;
            let name = DisplayName::parse(organization)?;
            let store = open_store(&settings).await?;
            let bootstrapped = bootstrap(&store, &Clock::default(), name).await;
            store.database.close().await;
            let bootstrapped = bootstrapped?;
            print_json(&serde_json::json!({
                "organization_id": bootstrapped.organization_id,
                "platform_key": bootstrapped.platform_key.expose(),
                "admin_key": bootstrapped.admin_key.expose(),
            }));
            Ok(())
        }
        Command::Migrate(settings) => {
            start_logging(&settings.logging);
            ensure_key_of_new_database(&settings)?;
            let database = open_database(&settings)?;
            let migrated = database.migrate().await;
            database.close().await;
            migrated?;
            tracing::info!("the database schema is up to date");
            Ok(())
        }
        Command::RotateMasterKey(settings) => {
            start_logging(&settings.logging);
            settings.validate()?;
            let store = open_store(&settings).await?;
            let rotated = rotate_master_key(&store, &Clock::default()).await;
            store.database.close().await;
            let rotated = rotated?;
            print_json(&serde_json::json!({
                "master_key_id": rotated.master_key_id,
                "rewrapped_data_keys": rotated.rewrapped,
            }));
            Ok(())
        }
        Command::ReplacePlatformKey(settings) => {
            start_logging(&settings.logging);
            settings.validate()?;
            let store = open_store(&settings).await?;
            let key = replace_platform_key(&store, &Clock::default()).await;
            store.database.close().await;
            print_json(&serde_json::json!({ "platform_key": key?.expose() }));
            Ok(())
        }
        Command::DrainJournal { directory, settings } => {
            start_logging(&settings.logging);
            let drained = drain_journal(&settings, &directory).await?;
            print_json(&serde_json::json!({
                "rows": drained.rows,
                "lost": drained.lost,
                "rejected": drained.rejected,
                "damaged_records": drained.damaged,
            }));
            match drained.rejected + drained.damaged {
                0 => Ok(()),
                _ => Err(StartError::NotAllDrained(directory.join(REJECTED)).into()),
            }
        }
        Command::Openapi => {
            print_json(&crate::api::openapi::document());
            Ok(())
        }
    }
}

fn start_logging(settings: &LogSettings) {
    // A filter that can't be parsed is reported with the other settings.
    if let Err(error) = logs::init(settings.log_format, &settings.log_filter) {
        print_error(&error);
    }
}

#[expect(clippy::print_stdout, reason = "a command's result goes to standard output")]
fn print_json(result: &impl serde::Serialize) {
    match serde_json::to_string_pretty(result) {
        Ok(text) => println!("{text}"),
        Err(error) => print_error(&error),
    }
}

#[expect(clippy::print_stderr, reason = "logging may not have started")]
fn print_error(error: &dyn std::error::Error) {
    eprintln!("tollgate: {error}");
}
