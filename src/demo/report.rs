//! The output of the demo. Text that is meant to be pasted begins at the start of a line.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use actix_web::http::Method;
use serde_json::{Value, json};

use super::DemoError;
use super::client::GatewayClient;
use super::directory::{DATABASE_FILE, DemoDirectory};
use super::setup::{
    CONFIGURATION, DemoWorkspace, MESSAGES_CONFIGURATION, ORGANIZATION, SECRET, WORKSPACE,
};
use super::upstream::{DemoUpstream, MODEL};
use crate::app::bootstrap::Bootstrapped;
use crate::crypto::SecretText;

/// Prints text. Ignores errors, so that a closed standard output does not stop the server.
macro_rules! print_text {
    ($($text:tt)*) => {{ let _ = write!(std::io::stdout(), $($text)*); }};
}

macro_rules! print_line {
    ($($text:tt)*) => {{ let _ = writeln!(std::io::stdout(), $($text)*); }};
}

/// Prints the parts of the installation.
pub(super) fn installation(
    directory: &DemoDirectory,
    upstream: &DemoUpstream,
    gateway: SocketAddr,
) {
    let note = if directory.is_temporary() { ", removed at the end" } else { "" };
    print_line!("Tollgate {} demo", env!("CARGO_PKG_VERSION"));
    heading("A new installation");
    field("directory", &format!("{}{note}", directory.path().display()));
    field("", "tollgate.db (embedded SQLite) and tollgate-master.key");
    field("organization", ORGANIZATION);
    field("workspace", WORKSPACE);
    field("secret", &format!("{SECRET}: the upstream's key, encrypted; callers do not see it"));
    field("configuration", &format!("{CONFIGURATION} -> {}, {MODEL}", upstream.base_url()));
    field("", &format!("{MESSAGES_CONFIGURATION}: the same in Anthropic's format"));
    field("upstream", "built in; speaks both formats, repeats the message, is not a model");
    field("gateway", &format!("http://{gateway}"));
}

/// Makes a plain call and prints the answer.
pub(super) async fn plain_call(client: &GatewayClient, key: &SecretText) -> Result<(), DemoError> {
    let message = "Good morning! Is anybody there?";
    heading(&format!("A plain call: POST {}", path()));
    print_line!("  > {message}");
    let began = Instant::now();
    let answer = client.send(Method::POST, &path(), key, &question(message, false)).await?;
    let took = began.elapsed().as_secs_f64() * 1e3;
    let content = answer.body["choices"][0]["message"]["content"].as_str().unwrap_or_default();
    let (input, output) =
        (&answer.body["usage"]["prompt_tokens"], &answer.body["usage"]["completion_tokens"]);
    print_line!("  < {content}");
    print_line!("    in {took:.1} ms, {input} tokens in, {output} out");
    print_line!("    x-request-id: {}", answer.request_id);
    Ok(())
}

/// Makes a streamed call and prints the words when they arrive.
pub(super) async fn streamed_call(
    client: &GatewayClient,
    key: &SecretText,
) -> Result<(), DemoError> {
    let message = "And now one word at a time, please.";
    heading(&format!("A streamed call: POST {}", path()));
    print_line!("  > {message}");
    print_text!("  < ");
    flush();
    let began = Instant::now();
    let (mut first, mut words, mut last) = (None, 0_u32, String::new());
    let request_id = client
        .stream(&path(), key, &question(message, true), |data| {
            let event: Value = serde_json::from_str(data).unwrap_or_default();
            if let Some(word) = event["choices"][0]["delta"]["content"].as_str()
                && !word.is_empty()
            {
                first.get_or_insert_with(|| began.elapsed());
                words += 1;
                print_text!("{word}");
                flush();
            }
            data.clone_into(&mut last);
        })
        .await?;
    let took = began.elapsed().as_millis();
    let first = first.unwrap_or_default().as_millis();
    print_line!("\n    first word after {first} ms, {words} words in {took} ms, then {last}");
    print_line!("    x-request-id: {request_id}");
    Ok(())
}

/// Sends one prompt through the three formats, to the upstream in another one, and prints the answers.
pub(super) async fn calls_in_every_format(
    client: &GatewayClient,
    key: &SecretText,
) -> Result<(), DemoError> {
    let prompt = "Who are you?";
    heading("One prompt in three formats, each for an upstream that speaks another");
    print_line!("  > {prompt}");
    let messages = json!([{"role": "user", "content": prompt}]);
    let (openai, anthropic) =
        (format!("custom/{CONFIGURATION}"), format!("custom/{MESSAGES_CONFIGURATION}"));
    for (path, model, body, text) in [
        (
            "/v1/chat/completions",
            &anthropic,
            json!({"messages": messages}),
            "/choices/0/message/content",
        ),
        ("/v1/responses", &anthropic, json!({"input": prompt}), "/output/0/content/0/text"),
        (
            "/v1/messages",
            &openai,
            json!({"messages": messages, "max_tokens": 100}),
            "/content/0/text",
        ),
    ] {
        let mut body = body;
        body["model"] = model.as_str().into();
        let answer = client.send(Method::POST, path, key, &body).await?;
        let text = answer.body.pointer(text).and_then(Value::as_str).unwrap_or_default();
        print_line!("  POST {path}, model {model}");
        print_line!("  < {text}");
    }
    Ok(())
}

/// Prints the keys, and commands to paste.
pub(super) fn next_steps(gateway: SocketAddr, first: &Bootstrapped, workspace: &DemoWorkspace) {
    let (caller, admin) = (workspace.caller_key.expose(), first.admin_key.expose());
    let base = format!("http://{gateway}/providers/{CONFIGURATION}/v1");
    let chat = |more: &str| {
        format!(
            "curl{more} {base}/chat/completions \\\n  -H 'Authorization: Bearer {caller}' \\\n  \
             -H 'Content-Type: application/json' \\\n  -d"
        )
    };
    heading("The keys, which are shown only once");
    field("caller key", &format!("{caller}  (GATEWAY_CALLER: for applications)"));
    field("admin key", &format!("{admin}  (ORGANIZATION_ADMIN: for /api/v1)"));
    field(
        "platform key",
        &format!("{}  (PLATFORM_ADMIN: for /metrics)", first.platform_key.expose()),
    );

    heading("Call it with curl");
    print_line!(
        "{} '{{\"messages\": [{{\"role\": \"user\", \"content\": \"Hello!\"}}]}}'\n",
        chat("")
    );
    print_line!(
        "{} '{{\"stream\": true, \"messages\": [{{\"role\": \"user\", \"content\": \"Hello!\"}}]}}'",
        chat(" -N")
    );
    heading("with OpenAI's SDK for Python (pip install openai)");
    print_line!(
        "from openai import OpenAI\n\
         client = OpenAI(base_url=\"{base}\", api_key=\"{caller}\")\n\
         messages = [{{\"role\": \"user\", \"content\": \"Hello!\"}}]\n\
         print(client.chat.completions.create(model=\"any\", messages=messages).choices[0].message.content)"
    );
    heading("or for JavaScript (npm install openai)");
    print_line!(
        "import OpenAI from \"openai\";\n\
         const client = new OpenAI({{ baseURL: \"{base}\", apiKey: \"{caller}\" }});\n\
         const messages = [{{ role: \"user\", content: \"Hello!\" }}];\n\
         console.log((await client.chat.completions.create({{ model: \"any\", messages }})).choices[0].message.content);"
    );
    heading("Manage it");
    print_line!(
        "curl http://{gateway}/api/v1/workspaces/{}/model-configurations \\\n  \
         -H 'Authorization: Bearer {admin}'\n",
        workspace.workspace_id
    );
    field("API docs", &format!("http://{gateway}/docs"));
    print_line!("\nServing until Ctrl-C.");
    flush();
}

/// Prints what remains after the demo.
pub(super) fn stopped(directory: &Path, kept: bool) {
    if !kept {
        print_line!("\nStopped; {} was removed.", directory.display());
        return;
    }
    let database = directory.join(DATABASE_FILE);
    print_line!("\nStopped. To serve the installation without the built-in upstream:");
    print_line!("tollgate serve --database-url sqlite:{}", database.display());
}

/// Prints a problem that does not stop the demo.
#[expect(clippy::print_stderr, reason = "logging could not be initialized")]
pub(super) fn warn(problem: &dyn std::error::Error) {
    eprintln!("tollgate: {problem}");
}

fn path() -> String {
    format!("/providers/{CONFIGURATION}/v1/chat/completions")
}

/// A chat request. The gateway sets the model.
fn question(message: &str, stream: bool) -> Value {
    json!({"messages": [{"role": "user", "content": message}], "stream": stream})
}

fn heading(text: &str) {
    if std::io::stdout().is_terminal() {
        print_line!("\n\x1b[1m{text}\x1b[0m");
    } else {
        print_line!("\n{text}");
    }
}

fn field(name: &str, value: &str) {
    print_line!("  {name:<14} {value}");
}

fn flush() {
    let _ = std::io::stdout().flush();
}
