//! What the demonstration prints. What is meant to be pasted stands at the beginning of its line.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use actix_web::http::Method;
use serde_json::{Value, json};

use super::DemoError;
use super::client::GatewayClient;
use super::directory::{DATABASE_FILE, DemoDirectory};
use super::setup::{CONFIGURATION, ORGANIZATION, SECRET, Team, WORKSPACE};
use super::upstream::{DemoUpstream, MODEL};
use crate::app::bootstrap::Bootstrapped;
use crate::crypto::SecretText;

/// Prints. Whether somebody reads it is no reason to stop serving.
macro_rules! put {
    ($($text:tt)*) => {{ let _ = write!(std::io::stdout(), $($text)*); }};
}

/// Prints a line.
macro_rules! say {
    ($($text:tt)*) => {{ let _ = writeln!(std::io::stdout(), $($text)*); }};
}

/// What there is, and where.
pub(super) fn installation(
    directory: &DemoDirectory,
    upstream: &DemoUpstream,
    gateway: SocketAddr,
) {
    let fate = if directory.is_temporary() { ", removed at the end" } else { "" };
    say!("Tollgate {}, a demonstration", env!("CARGO_PKG_VERSION"));
    heading("A fresh installation");
    fact("directory", &format!("{}{fate}", directory.path().display()));
    fact("", "tollgate.db (embedded SQLite) and tollgate-master.key");
    fact("organization", ORGANIZATION);
    fact("workspace", WORKSPACE);
    fact("secret", &format!("{SECRET}: the upstream's key, sealed; callers never see it"));
    fact("configuration", &format!("{CONFIGURATION} -> {}, {MODEL}", upstream.base_url()));
    fact("upstream", "built in and OpenAI-compatible; it repeats what it hears, it is no model");
    fact("gateway", &format!("http://{gateway}"));
}

/// A plain call, and what came back.
pub(super) async fn plain_call(client: &GatewayClient, key: &SecretText) -> Result<(), DemoError> {
    let said = "Good morning! Is anybody there?";
    heading(&format!("A plain call: POST {}", path()));
    say!("  > {said}");
    let began = Instant::now();
    let answer = client.send(Method::POST, &path(), key, &question(said, false)).await?;
    let took = began.elapsed().as_secs_f64() * 1e3;
    let heard = answer.body["choices"][0]["message"]["content"].as_str().unwrap_or_default();
    let (asked, answered) =
        (&answer.body["usage"]["prompt_tokens"], &answer.body["usage"]["completion_tokens"]);
    say!("  < {heard}");
    say!("    in {took:.1} ms, {asked} tokens in, {answered} out");
    say!("    x-request-id: {}", answer.request_id);
    Ok(())
}

/// A streamed call, whose words are printed when they arrive.
pub(super) async fn streamed_call(
    client: &GatewayClient,
    key: &SecretText,
) -> Result<(), DemoError> {
    let said = "And now one word at a time, please.";
    heading(&format!("A streamed call: POST {}", path()));
    say!("  > {said}");
    put!("  < ");
    flush();
    let began = Instant::now();
    let (mut first, mut words, mut last) = (None, 0_u32, String::new());
    let request_id = client
        .stream(&path(), key, &question(said, true), |data| {
            let event: Value = serde_json::from_str(data).unwrap_or_default();
            if let Some(word) = event["choices"][0]["delta"]["content"].as_str()
                && !word.is_empty()
            {
                first.get_or_insert_with(|| began.elapsed());
                words += 1;
                put!("{word}");
                flush();
            }
            data.clone_into(&mut last);
        })
        .await?;
    let took = began.elapsed().as_millis();
    let first = first.unwrap_or_default().as_millis();
    say!("\n    first word after {first} ms, {words} words in {took} ms, then {last}");
    say!("    x-request-id: {request_id}");
    Ok(())
}

/// Lines to be pasted.
pub(super) fn what_to_try(gateway: SocketAddr, first: &Bootstrapped, team: &Team) {
    let (caller, admin) = (team.caller_key.expose(), first.admin_key.expose());
    let base = format!("http://{gateway}/providers/{CONFIGURATION}/v1");
    let chat = |more: &str| {
        format!(
            "curl{more} {base}/chat/completions \\\n  -H 'Authorization: Bearer {caller}' \\\n  \
             -H 'Content-Type: application/json' \\\n  -d"
        )
    };
    heading("Its keys, shown this once");
    fact("caller key", &format!("{caller}  (GATEWAY_CALLER: what an application holds)"));
    fact("admin key", &format!("{admin}  (ORGANIZATION_ADMIN: /api/v1)"));
    fact("platform key", &format!("{}  (PLATFORM_ADMIN: /metrics)", first.platform_key.expose()));

    heading("Call it with curl");
    say!("{} '{{\"messages\": [{{\"role\": \"user\", \"content\": \"Hello!\"}}]}}'\n", chat(""));
    say!(
        "{} '{{\"stream\": true, \"messages\": [{{\"role\": \"user\", \"content\": \"Hello!\"}}]}}'",
        chat(" -N")
    );
    heading("with OpenAI's SDK for Python (pip install openai)");
    say!(
        "from openai import OpenAI\n\
         client = OpenAI(base_url=\"{base}\", api_key=\"{caller}\")\n\
         messages = [{{\"role\": \"user\", \"content\": \"Hello!\"}}]\n\
         print(client.chat.completions.create(model=\"any\", messages=messages).choices[0].message.content)"
    );
    heading("or for JavaScript (npm install openai)");
    say!(
        "import OpenAI from \"openai\";\n\
         const client = new OpenAI({{ baseURL: \"{base}\", apiKey: \"{caller}\" }});\n\
         const messages = [{{ role: \"user\", content: \"Hello!\" }}];\n\
         console.log((await client.chat.completions.create({{ model: \"any\", messages }})).choices[0].message.content);"
    );
    heading("Manage it");
    say!(
        "curl http://{gateway}/api/v1/workspaces/{}/model-configurations \\\n  \
         -H 'Authorization: Bearer {admin}'\n",
        team.workspace_id
    );
    fact("API docs", &format!("http://{gateway}/docs"));
    say!("\nServing until Ctrl-C.");
    flush();
}

/// What is left.
pub(super) fn farewell(directory: &Path, kept: bool) {
    if !kept {
        say!("\nStopped; {} is removed.", directory.display());
        return;
    }
    let database = directory.join(DATABASE_FILE);
    say!("\nStopped. The installation stays; to serve it (without the built-in upstream):");
    say!("tollgate serve --database-url sqlite:{}", database.display());
}

/// Something that is no reason to stop.
#[expect(clippy::print_stderr, reason = "there is no log to say it in")]
pub(super) fn warn(problem: &dyn std::error::Error) {
    eprintln!("tollgate: {problem}");
}

fn path() -> String {
    format!("/providers/{CONFIGURATION}/v1/chat/completions")
}

/// A chat request; the model is left for the gateway to fill in.
fn question(said: &str, stream: bool) -> Value {
    json!({"messages": [{"role": "user", "content": said}], "stream": stream})
}

fn heading(text: &str) {
    if std::io::stdout().is_terminal() {
        say!("\n\x1b[1m{text}\x1b[0m");
    } else {
        say!("\n{text}");
    }
}

fn fact(name: &str, value: &str) {
    say!("  {name:<14} {value}");
}

fn flush() {
    let _ = std::io::stdout().flush();
}
