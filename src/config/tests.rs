//! Options: values, defaults and combinations that are refused.

use clap::{Args, FromArgMatches};

use super::*;

/// The command with all options.
fn command() -> clap::Command {
    Settings::augment_args(clap::Command::new("serve"))
}

fn parse(args: &[&str]) -> Result<Settings, clap::Error> {
    // Without the environment of the test run.
    let command = command().mut_args(|arg| arg.env(None::<&'static str>));
    let args = std::iter::once("serve").chain(args.iter().copied());
    Settings::from_arg_matches(&command.try_get_matches_from(args)?)
}

#[test]
fn the_defaults_are_valid_and_those_of_the_command_line() {
    assert_eq!(format!("{:#?}", parse(&[]).unwrap()), format!("{:#?}", Settings::default()));
    Settings::default().validate().unwrap();
}

#[test]
fn every_option_has_a_variable_of_its_name_and_a_help_text() {
    let command = command();
    let options: Vec<_> = command.get_arguments().filter(|arg| !arg.is_hide_set()).collect();
    assert!(options.len() > 25, "{}", options.len());
    for arg in options {
        let flag = arg.get_long().unwrap();
        let variable = format!("TOLLGATE_{}", flag.to_uppercase().replace('-', "_"));
        assert_eq!(arg.get_env().unwrap().to_str(), Some(&*variable));
        assert!(arg.get_help().unwrap().to_string().len() > 10, "{flag}");
        assert!(arg.get_help_heading().is_some(), "{flag}");
    }
}

#[test]
fn options_are_parsed() {
    let settings = parse(&[
        "--listen=[::1]:0",
        "--admin-listen=127.0.0.1:9090",
        "--trusted-proxies=10.0.0.0/8,192.168.1.1",
        "--database-url=postgres://u:hunter2@h/d",
        "--master-key=mk-1 hunter2",
        "--egress-allow=127.0.0.0/8",
        "--max-body-bytes=1MiB",
        "--idle-timeout=90s",
        "--workers=3",
        "--redis-url=rediss://:hunter2@cache:6380/1",
        "--spend-without-redis=local",
        "--log-format=json",
    ])
    .unwrap();
    settings.validate().unwrap();
    assert_eq!(settings.listen.trusted_proxies.0.len(), 2);
    assert_eq!(settings.limits.max_body_bytes, 1 << 20);
    assert_eq!(settings.limits.workers(), 3);
    assert_eq!(settings.timeouts.idle_timeout.as_secs(), 90);
    assert_eq!(settings.policies.spend_without_redis, SpendWithoutRedis::Local);
    assert_eq!(settings.logging.log_format, LogFormat::Json);
    assert!(!format!("{settings:#?}").contains("hunter2"));
}

#[test]
fn help_shows_no_value_of_a_secret_variable() {
    let command = command();
    for id in ["master_key", "database_url", "redis_url"] {
        let arg = command.get_arguments().find(|arg| arg.get_id() == id).unwrap();
        assert!(arg.is_hide_env_values_set(), "{id}");
    }
}

#[test]
fn invalid_values_are_refused_by_option_name() {
    for args in [
        &["--idle-timeout=90"][..],
        &["--max-body-bytes=lots"],
        &["--egress-allow=10.0.0.1/8"],
        &["--workers=0"],
        &["--database-url=tollgate.db"],
        &["--redis-url=localhost:6379"],
        &["--spend-without-redis=maybe"],
    ] {
        let said = parse(args).unwrap_err().to_string();
        assert!(said.contains(args[0].split('=').next().unwrap()), "{said}");
    }
}

#[test]
fn master_keys_come_from_one_place() {
    let settings = parse(&["--master-key=x", "--master-key-file=y"]).unwrap();
    let said = settings.validate().unwrap_err().to_string();
    assert!(said.contains("--master-key-file"), "{said}");
    let empty_is_not_set = parse(&["--master-key=", "--master-key-file=y"]).unwrap();
    empty_is_not_set.validate().unwrap();
}

#[test]
fn a_mistyped_url_is_not_repeated() {
    let said = parse(&["--database-url=postgre://u:hunter2@h/d"]).unwrap_err().to_string();
    assert!(said.contains("postgres://USER") && !said.contains("hunter2"), "{said}");
    let said = parse(&["--redis-url=redsi://:hunter2@h"]).unwrap_err().to_string();
    assert!(said.contains("redis://USER") && !said.contains("hunter2"), "{said}");
}

#[test]
fn validation_reports_all_problems_at_once() {
    let settings = parse(&[
        "--admin-listen=127.0.0.1:8080",
        "--database-url=postgres://h/d",
        "--body-memory-bytes=1KiB",
        "--max-connections=0",
        "--body-timeout=0s",
        "--redis-timeout=0s",
        "--assumed-output-tokens=0",
        "--log-filter=a=b=c",
        "--upstream-ca-file=/nowhere/ca.pem",
        "--journal-max-bytes=1KiB",
        "--ledger-retention-days=31",
    ])
    .unwrap();
    let error = settings.validate().unwrap_err();
    let said = error.to_string();
    for flag in [
        "--admin-listen",
        "--master-key-file",
        "--body-memory-bytes",
        "--max-connections",
        "--body-timeout",
        "--redis-timeout",
        "--assumed-output-tokens",
        "--log-filter",
        "--upstream-ca-file",
        "--journal-max-bytes",
        "--ledger-retention-days",
    ] {
        assert!(said.contains(flag), "{flag}: {said}");
    }
    assert_eq!(error.problems.len(), 11, "{said}");
}
