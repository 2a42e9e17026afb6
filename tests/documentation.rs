//! What a machine can check in the README and in `docs/`: tables agree with the code, links lead
//! somewhere, and the commands work when they are pasted.

use std::{fmt::Write as _, path::Path, process::Command};

use clap::CommandFactory as _;
use serde_json::json;
use tollgate::{
    cli::Cli,
    domain::permissions::{Role, ScopeKind},
};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::{Fixture, question},
    openai, process, secrets,
    server_process::ServerProcess,
    upstream::{RecordedRequest, ScriptedUpstream},
};

const README: &str = include_str!("../README.md");
const MANAGEMENT_API: &str = include_str!("../docs/management-api.md");
const OPERATIONS: &str = include_str!("../docs/operations.md");
const OPTIONS: &str = include_str!("../docs/options.md");
const CI: &str = include_str!("../.ci/run");

pub(crate) fn cases() -> Vec<Case> {
    cases![
        plain option_tables_agree_with_the_commands,
        plain the_role_table_agrees_with_the_code,
        every_metric_is_documented,
        plain the_readme_names_the_test_command_of_ci,
        plain links_lead_to_pages_and_headings,
        pasted_commands_work,
    ]
}

async fn option_tables_agree_with_the_commands() {
    let mut cli = Cli::command();
    // Fills in what is only known when the command line is read.
    cli.build();
    for command in ["serve", "demo"] {
        let table = option_table(cli.find_subcommand(command).expect("a command"));
        assert!(table.lines().count() > 6, "{command} has options");
        assert!(table.lines().all(|line| line.starts_with("| ") && line.ends_with(" |")));
        assert_block(OPTIONS, &format!("{command} options"), &table);
    }
    let documented = "| `--max-body-bytes` | `TOLLGATE_MAX_BODY_BYTES` | `32MiB` |";
    assert_eq!(OPTIONS.matches(documented).count(), 1);
    let mut commands = cli.get_subcommands().map(clap::Command::get_name);
    let missing = commands.find(|name| *name != "help" && !OPTIONS.contains(&format!("`{name}")));
    assert_eq!(missing, None, "docs/options.md names every command");
}

/// The options of a command in their order, without `--help` and `--version`, and a line for each heading
/// of `--help`.
fn option_table(command: &clap::Command) -> String {
    let mut table =
        String::from("| option | variable | default | meaning |\n| --- | --- | --- | --- |\n");
    let mut heading = "";
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
        let Some(flag) = arg.get_long().filter(|flag| !matches!(*flag, "help" | "version")) else {
            continue;
        };
        let heading_of_arg = arg.get_help_heading().unwrap_or("Options");
        if heading_of_arg != heading {
            heading = heading_of_arg;
            let _ = writeln!(table, "| **{heading}** | | | |");
        }
        let variable = arg.get_env().unwrap_or_default().to_string_lossy();
        let defaults = arg.get_default_values().iter().map(|value| value.to_string_lossy());
        let default = defaults.collect::<Vec<_>>().join(",");
        let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let help = help.replace('|', "\\|").replace('\n', " ");
        let _ =
            writeln!(table, "| `--{flag}` | {} | {} | {help} |", code(&variable), code(&default));
    }
    table
}

async fn the_role_table_agrees_with_the_code() {
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
            own if own == roles_within(ScopeKind::Organization) => "any role in its organization",
            own if own == roles_within(ScopeKind::Workspace) => "any role in its workspace",
            other => panic!("the table has no words for what {role} may grant: {other:?}"),
        };
        let permissions = permissions.join(", ");
        writeln!(table, "| `{role}` | {scope} | {permissions} | {grants} |").unwrap();
    }
    assert_block(MANAGEMENT_API, "roles", &table);
}

/// The roles whose scope is not wider than this.
fn roles_within(scope: ScopeKind) -> Vec<Role> {
    Role::ALL.into_iter().filter(|role| role.scope() as u8 >= scope as u8).collect()
}

async fn every_metric_is_documented(database: Database) {
    let app = TestApp::start(&database).await;
    // One call that succeeds and one that fails, so that nearly every metric has a value.
    let team = app.workspace().await;
    team.caller().send(Fixture::chat_stream()).await.expect(200);
    team.configure("gone", json!({"base_url": "http://127.0.0.1:1/v1"})).await;
    team.caller().post_json("/providers/gone/v1/chat/completions", &question(false)).await;
    let metrics = app.platform().get("/metrics").await.expect(200).text();
    let mut count = 0;
    for line in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let name = format!("`{name}{suffix}`");
        assert!(OPERATIONS.contains(&name), "docs/operations.md does not list the metric {name}");
        count += 1;
    }
    assert!(count >= 10, "{metrics}");
}

async fn the_readme_names_the_test_command_of_ci() {
    let command = CI
        .lines()
        .find_map(|line| line.strip_prefix("test_command=\"")?.strip_suffix('"'))
        .expect("CI names its test command");
    let block = format!("```sh\n{command}\n```");
    assert!(README.contains(&block), "the README has no block with {command:?}");
    assert!(CI.contains("\n$test_command\n"), "CI runs the command that it names");
}

async fn links_lead_to_pages_and_headings() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut count = 0;
    for page in pages.chain([root.join("README.md")]) {
        let text = std::fs::read_to_string(&page).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("http")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => page.clone(),
                path => page.parent().unwrap().join(path),
            };
            let target = std::fs::read_to_string(&target)
                .unwrap_or_else(|error| panic!("{}: {link}: {error}", page.display()));
            let mut headings = target.lines().filter(|line| line.starts_with('#')).map(anchor_of);
            let found = anchor.is_empty() || headings.any(|heading| heading == anchor);
            assert!(found, "{}: {link} names no heading", page.display());
            count += 1;
        }
    }
    assert!(count >= 10, "{count} links");
}

/// The anchor of a heading, as web pages of repositories make it.
fn anchor_of(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    heading.chars().filter(|c| c.is_alphanumeric() || *c == '-').collect()
}

/// Runs the README's first call, and then the examples of the management API, in one shell against
/// a server.
async fn pasted_commands_work(database: Database) {
    let models = |request: &RecordedRequest| match request.path() {
        "/v1/models" => openai::models(&["gpt-4o-mini", "gpt-4o"]),
        _ => openai::answer(request),
    };
    let upstream = ScriptedUpstream::with(models).await;
    let server = ServerProcess::start(&database, &[]).await;
    let provider_key = "sk-pasted-as-documented";
    secrets::register(provider_key);

    let first_call = README.split_once("## A first call").expect("the README has a first call").1;
    let first_call = commands(first_call.split("\n## ").next().unwrap());
    let [setup, create_workspace, ..] = first_call.as_slice() else { panic!("{first_call:?}") };
    let again = format!(
        "workspace=$WORKSPACE\nset +e\n{create_workspace}\nset -e\n[ $WORKSPACE = $workspace ]\n"
    );
    assert!(setup.contains("--fail-with-body"), "{setup}");
    let script = [
        &["set -euo pipefail\ntrap 'echo \"failed: $BASH_COMMAND\" >&2' ERR\n".to_owned()],
        first_call.as_slice(),
        &[again],
        commands(MANAGEMENT_API).as_slice(),
    ]
    .concat()
    .concat()
    .replace("http://127.0.0.1:8080", &format!("http://{}", server.address()))
    .replace("https://api.openai.com/v1", &upstream.base_url())
    .replace("ADMIN=tg_...", &format!("ADMIN={}", server.keys().admin))
    .replace("PLATFORM=tg_...", &format!("PLATFORM={}", server.keys().platform))
    .replace("OPENAI_API_KEY=sk-...", &format!("OPENAI_API_KEY={provider_key}"));
    assert!(!script.contains("tg_..."), "every key is filled in");

    let mut shell = Command::new("bash");
    shell.args(["-c", &script]).env("no_proxy", "127.0.0.1");
    let ended = process::run(shell).await;
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("\"ok\": true"), "the check succeeds: {}", ended.stdout);
    assert!(ended.stdout.contains(&openai::PARTS.concat()), "the model answers: {}", ended.stdout);
    assert!(ended.stdout.contains("handle_taken"), "the workspace exists: {}", ended.stdout);
}

/// The shell blocks of a page.
fn commands(page: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open = false;
    for line in page.lines() {
        match line.trim() {
            "```sh" => {
                open = true;
                blocks.push(String::new());
            }
            "```" => open = false,
            _ if open => {
                let block = blocks.last_mut().expect("an open block");
                block.push_str(line);
                block.push('\n');
            }
            _ => {}
        }
    }
    blocks
}

/// Fails the test unless the page holds exactly this between `<!-- begin: NAME -->` and
/// `<!-- end -->`.
fn assert_block(page: &str, name: &str, expected: &str) {
    let begin = format!("<!-- begin: {name} -->\n");
    let block = page
        .split_once(&begin)
        .and_then(|(_, rest)| rest.split_once("<!-- end -->"))
        .unwrap_or_else(|| panic!("no page has a block {begin:?}"));
    assert_eq!(
        block.0.trim(),
        expected.trim(),
        "the block {name:?} in docs/ is out of date; it should read:\n\n{expected}"
    );
}
