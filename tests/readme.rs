//! The README tells the truth where a machine can tell: its tables are those of the code, and its
//! test command is the one that CI runs.

use std::fmt::Write as _;

use clap::CommandFactory as _;
use serde_json::json;
use tollgate::{
    cli::Cli,
    config::{option_rows, option_table_markdown},
    domain::permissions::{Role, ScopeKind},
};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::{Fixture, question},
};

const README: &str = include_str!("../README.md");
const CI: &str = include_str!("../.ci/run");

/// The cases of this file.
pub(crate) fn cases() -> Vec<Case> {
    cases![
        plain its_options_are_those_of_the_commands,
        plain its_roles_are_those_of_the_code,
        it_names_every_metric,
        plain its_test_command_is_the_one_that_ci_runs,
    ]
}

async fn its_options_are_those_of_the_commands() {
    let mut cli = Cli::command();
    // Fills in what is only known when the command line is read.
    cli.build();
    for command in ["serve", "demo"] {
        let rows = option_rows(cli.find_subcommand(command).expect("a command"));
        assert!(rows.len() > 3, "{command} has options");
        holds(&format!("{command} options"), &option_table_markdown(&rows));
    }
    let mut commands = cli.get_subcommands().map(clap::Command::get_name);
    let missing = commands.find(|name| *name != "help" && !README.contains(&format!("`{name}")));
    assert_eq!(missing, None, "the README names every command");
}

async fn its_roles_are_those_of_the_code() {
    let mut table = String::from("| role | scope | permissions | may grant |\n");
    table.push_str("| --- | --- | --- | --- |\n");
    for role in Role::ALL {
        let scope = match role.scope() {
            ScopeKind::Platform => "platform",
            ScopeKind::Organization => "organization",
            ScopeKind::Workspace => "workspace",
        };
        let permissions: Vec<_> =
            role.permissions().iter().map(|permission| format!("`{permission}`")).collect();
        let granted: Vec<_> = Role::ALL
            .into_iter()
            .filter(|other| role.permissions().may_grant(role.scope(), *other))
            .collect();
        let grants = match granted {
            none if none.is_empty() => "none",
            all if all == Role::ALL => "any role",
            own if own == not_beyond(ScopeKind::Organization) => "any role in its organization",
            own if own == not_beyond(ScopeKind::Workspace) => "any role in its workspace",
            odd => panic!("the README has no words for what {role} grants: {odd:?}"),
        };
        let permissions = permissions.join(", ");
        writeln!(table, "| `{role}` | {scope} | {permissions} | {grants} |").unwrap();
    }
    holds("roles", &table);
}

/// The roles whose scope is not wider than this.
fn not_beyond(scope: ScopeKind) -> Vec<Role> {
    Role::ALL.into_iter().filter(|role| role.scope() as u8 >= scope as u8).collect()
}

async fn it_names_every_metric(database: Database) {
    let app = TestApp::start(&database).await;
    // A call that goes well, one that does not, and so a line of nearly every kind.
    let team = app.workspace().await;
    team.caller().send(Fixture::chat_stream()).await.expect(200);
    team.configure("gone", json!({"base_url": "http://127.0.0.1:1/v1"})).await;
    team.caller().post_json("/providers/gone/v1/chat/completions", &question(false)).await;
    let metrics = app.platform().get("/metrics").await.expect(200).text();
    let lines = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut seen = 0;
    for line in lines {
        let (name, kind) = line.split_once(' ').unwrap();
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let name = format!("`{name}{suffix}`");
        assert!(README.contains(&name), "the README does not list the metric {name}");
        seen += 1;
    }
    assert!(seen >= 10, "{metrics}");
}

async fn its_test_command_is_the_one_that_ci_runs() {
    let command = CI
        .lines()
        .find_map(|line| line.strip_prefix("test_command=\"")?.strip_suffix('"'))
        .expect("CI names its test command");
    let block = format!("```sh\n{command}\n```");
    assert!(README.contains(&block), "the README has no block with {command:?}");
    assert!(CI.contains("\n$test_command\n"), "CI runs the command that it names");
    assert!(README.contains("TOLLGATE_TEST_POSTGRES_URL"));
}

/// Between `<!-- begin: NAME -->` and `<!-- end -->` the README holds exactly this.
fn holds(name: &str, expected: &str) {
    let begin = format!("<!-- begin: {name} -->\n");
    let block = README
        .split_once(&begin)
        .and_then(|(_, rest)| rest.split_once("<!-- end -->"))
        .unwrap_or_else(|| panic!("the README has no block {begin:?}"));
    assert_eq!(
        block.0.trim(),
        expected.trim(),
        "README.md, block {name:?}, is out of date; it should read:\n\n{expected}"
    );
}
