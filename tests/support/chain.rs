//! Three model configurations, each before an upstream of its own, and chains over them.

use serde_json::{Value, json};

use super::{
    app::TestApp,
    database::Database,
    fixture::Fixture,
    http::Answer,
    ledger_rows::{self, Row},
    openai::{self, Usage},
    policies::POLICIES,
    script::Script,
    upstream::ScriptedUpstream,
};

pub(crate) const USAGE: Usage = Usage { prompt: 100, completion: 10, cached: 0, reasoning: 0 };

/// Three configurations, each before an upstream of its own: `main` (the fixture's), `second`, `third`.
pub(crate) struct Chain {
    pub(crate) app: TestApp,
    pub(crate) team: Fixture,
    pub(crate) others: [ScriptedUpstream; 2],
    pub(crate) ids: [String; 3],
}

impl Chain {
    pub(crate) async fn start(database: &Database) -> Self {
        Self::start_with(database, &[]).await
    }

    /// The same with additional options.
    pub(crate) async fn start_with(database: &Database, more: &[&str]) -> Self {
        let others = [ScriptedUpstream::start().await, ScriptedUpstream::start().await];
        let origin = others[0].origin();
        let origins = format!("openai={origin}/openai,groq={origin}/groq,anthropic={origin}/a");
        let options = [&["--provider-origin", origins.as_str()], more].concat();
        let app = TestApp::with_stopped_clock(database, &options).await;
        let team = app.workspace().await;
        let mut ids = vec![team.configuration_id.clone()];
        for (name, upstream) in ["second", "third"].into_iter().zip(&others) {
            let more = json!({"base_url": upstream.base_url(), "model": format!("{name}-model")});
            ids.push(team.configure(name, more).await);
        }
        for id in &ids {
            // A token of input is 1,000 nano-dollars, one of output 2,000.
            let price = json!({"price": {"input": 1, "output": 2}});
            let path = team.path(&format!("model-configurations/{id}"));
            app.admin().patch(&path, &price).await.expect(200);
        }
        Self { app, team, others, ids: ids.try_into().unwrap() }
    }

    pub(crate) fn target(&self, at: usize) -> Value {
        json!({"type": "model_config", "model_config_id": self.ids[at]})
    }

    pub(crate) async fn save(
        &self,
        name: &str,
        triggers: Value,
        selector: Value,
        candidates: Value,
    ) -> Answer {
        let body = self.policy(name, triggers, selector, candidates);
        self.app.admin().post_json(POLICIES, &body).await
    }

    pub(crate) fn policy(
        &self,
        name: &str,
        triggers: Value,
        selector: Value,
        candidates: Value,
    ) -> Value {
        json!({"name": name, "policy_type": "model_fallback",
            "subject_matchers": [{"key": "workspace_id", "value": self.team.workspace_id}],
            "config": {"strategy": "priority_fallback", "triggers": triggers,
                "chain": {"selector": selector, "candidates": candidates}}})
    }

    /// A chain from the first configuration over the other two.
    pub(crate) async fn usual(&self, triggers: Value) {
        let candidates = json!([self.target(1), self.target(2)]);
        self.save("usual", triggers, self.target(0), candidates).await.expect(201);
    }

    pub(crate) async fn ask(&self) -> Answer {
        self.team.caller().send(Fixture::chat()).await
    }

    /// How many requests each upstream has got.
    pub(crate) fn counts(&self) -> [usize; 3] {
        [&self.team.upstream, &self.others[0], &self.others[1]].map(|one| one.seen().requests.len())
    }

    pub(crate) async fn rows(&self, count: usize) -> Vec<Row> {
        ledger_rows::rows_exactly(&self.app, count).await
    }
}

pub(crate) fn good() -> Script {
    openai::chat_completion("Good morning.", USAGE)
}

pub(crate) fn bad(status: u16) -> Script {
    openai::error(status, "server_error", "oops", "Not now.")
}

#[track_caller]
pub(crate) fn served_by(answer: &Answer, name: &str, attempts: &str) {
    let told = (answer.header("x-tollgate-served-by"), answer.header("x-tollgate-attempts"));
    assert_eq!(told, (Some(name), Some(attempts)), "{}", answer.text());
}

/// Attempt, configuration, outcome, status and cost.
pub(crate) fn shown(row: &Row) -> (i64, &str, &str, Option<i64>, Option<i64>) {
    (row.attempt, &row.configuration, &row.outcome, row.status, row.cost)
}
