//! Every attempt is accounted for: the provider's invoice and the ledger agree while callers disconnect,
//! upstreams fail, the gateway is killed and its database is stopped.

use std::{rc::Rc, time::Duration};

use serde_json::json;
use tokio::time::Instant;

use crate::support::{
    call_plan::CallPlan,
    case::{Case, cases},
    database::{Database, Kind},
    fixture::Fixture,
    http::Client,
    invoice::Invoice,
    ledger_rows::{self, Rates, Row},
    postgres::{OwnPostgres, StopMode},
    random::Random,
    reconciliation::{ProcessLifetime, Reconciliation},
    server_process::ServerProcess,
    traffic::Traffic,
    wait::{eventually, within},
};

/// The number of calls; more make a better and longer test.
const CALLS: &str = "TOLLGATE_TEST_CALLS";
/// The seed of the random choices.
const SEED: &str = "TOLLGATE_TEST_SEED";

/// How often the process is killed. Before every second kill the database server is stopped.
const KILLS: u64 = 10;
/// SQLSTATEs of a server that shuts down, and of one that is not ready yet.
const SHUT_DOWN: &str = "57P01";
const RECOVERING: &str = "57P03";
/// Concurrent calls.
const CALLERS: usize = 24;

/// A price of the organization.
const PRICED: Rates = Rates {
    input: 2_500_000_000,
    cached_input: 1_250_000_003,
    output: 10_000_000_007,
    reasoning: 12_000_000_000,
    request: 0,
};
/// A price of the configuration.
const OWN_PRICE: Rates = Rates {
    input: 150_000_000,
    cached_input: 75_000_000,
    output: 600_000_001,
    reasoning: 600_000_001,
    request: 1_000_001,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![the_ledger_agrees_with_the_invoice]
}

fn number_from(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// The configurations: one asks for the usage of streams; the other leaves that to the caller and has
/// its own price.
const CONFIGURATIONS: [&str; 2] = [Fixture::CONFIGURATION, "left"];

async fn the_ledger_agrees_with_the_invoice(database: Database) {
    let (calls, seed) = (number_from(CALLS, 3_000), number_from(SEED, 20_261_123));
    let plan = move |number| CallPlan::of(seed, number, &CONFIGURATIONS);
    let mut server = match database.kind() {
        // The shared server must not be stopped.
        Kind::Postgres => Some(OwnPostgres::start().await),
        Kind::Sqlite => None,
    };
    let database = server.as_ref().map_or(database, OwnPostgres::database);
    let mut gateway = ServerProcess::start(&database, &[("--shutdown-timeout", "10s")]).await;
    let (invoice, upstream) = Invoice::start(plan).await;
    let team = Fixture::before(&gateway.admin(), gateway.address(), upstream).await;
    let price = json!({
        "provider": "*", "model": Fixture::MODEL, "price": PRICED.json(),
    });
    gateway.admin().post_json("/api/v1/model-prices", &price).await.expect(201);
    let own = json!({"stream_usage": "leave", "model": "own-model", "price": OWN_PRICE.json()});
    team.configure("left", own).await;

    let load = (CALLERS, calls);
    let traffic = Traffic::start(plan, &invoice, &team.caller_key, gateway.address(), load);
    let mut random = Random::new(seed);
    let mut lifetimes = vec![ProcessLifetime::begun()];
    let each = calls / (KILLS + 1);
    for round in 0..KILLS {
        let at = round * each + random.below(each);
        if let Some(server) = server.as_mut().filter(|_| round % 2 == 0) {
            let how = StopMode::ALL[round as usize / 2 % StopMode::ALL.len()];
            traffic.reaches(round * each).await;
            stop_database(server, how, &traffic, &mut random).await;
            // Every second time the process is killed while its database is down.
            if round % 4 != 0 {
                restart_database(server, &traffic).await;
            }
        }
        traffic.reaches(at.max(traffic.ended() + CALLERS as u64)).await;
        gateway.kill().await;
        lifetimes.last_mut().expect("one").killed();
        if let Some(server) = server.as_mut().filter(|server| !server.is_running()) {
            server.start_again().await;
        }
        gateway.start_again().await;
        lifetimes.push(ProcessLifetime::begun());
        traffic.set_gateway(gateway.address());
    }
    let records = within(Duration::from_secs(60), "the calls end", traffic.end()).await;
    gateway.stop().await;

    let rows = ledger_rows::rows(&database).await;
    let rates = Rc::new(|configuration: &str| match configuration {
        "left" => OWN_PRICE,
        _ => PRICED,
    });
    let reconciliation = Reconciliation {
        invoice: invoice.entries(),
        records,
        lifetimes,
        plan: Rc::new(plan),
        rates,
    };
    let problems = reconciliation.problems(&rows);
    assert!(problems.is_empty(), "{} problems: {problems:#?}", problems.len());
    reconciliation.assert_varied(&rows);
    let of_rows = ledger_rows::sums_of_rows(&database).await;
    for period in ["hour", "day"] {
        let of_period = ledger_rows::sums_of_period(&database, period).await;
        assert_eq!(of_rows, of_period, "sums by the {period} add up to the rows");
    }
    for sqlstate in [SHUT_DOWN, RECOVERING] {
        let is_logged = server.as_ref().is_none_or(|server| server.times_told(sqlstate) > 0);
        assert!(is_logged, "the gateway was never told {sqlstate}");
    }

    gateway.start_again().await;
    reports_add_up(&gateway.admin(), &of_rows).await;
    requests_are_read(&gateway.admin(), &team, &rows, seed).await;
    assert_eq!(
        ledger_rows::rows(&database).await.len(),
        rows.len(),
        "nothing was left in the journal"
    );
}

/// Usage reports add up to the rows, however they are grouped.
async fn reports_add_up(admin: &Client, of_rows: &[String]) {
    for group_by in ["", "workspace,api_key", "configuration,model", "X-Gateway-Request-Number"] {
        let path = format!("/api/v1/usage?interval=hour&group_by={group_by}");
        let report = admin.get(&path).await.expect(200).json();
        assert_eq!(ledger_rows::sums_of_report(&report["total"]), of_rows, "{group_by}");
        let figures = report["data"].as_array().expect("figures");
        let figures: Vec<_> = figures.iter().map(ledger_rows::sums_of_report).collect();
        let sum = |place: usize| -> i128 {
            figures.iter().map(|figures| figures[place].parse::<i128>().unwrap()).sum()
        };
        let sums: Vec<_> = (0..of_rows.len()).map(|place| sum(place).to_string()).collect();
        assert_eq!(sums, of_rows, "the figures by {group_by:?} add up to the rows");
    }
}

/// Requests are found by id, with all their attempts.
async fn requests_are_read(admin: &Client, team: &Fixture, rows: &[Row], seed: u64) {
    let mut random = Random::new(seed);
    let several = rows.iter().filter(|row| row.attempt > 1).take(10);
    let any = (0..40).map(|_| &rows[random.below(rows.len() as u64) as usize]);
    for row in several.chain(any.collect::<Vec<_>>()) {
        let path = team.path(&format!("requests/{}", row.request_id));
        let read = admin.get(&path).await.expect(200).json();
        let all: Vec<_> = rows.iter().filter(|one| one.request_id == row.request_id).collect();
        let attempts = read["attempts"].as_array().expect("attempts");
        assert_eq!(attempts.len(), all.len(), "{read}");
        assert_eq!(
            ledger_rows::nanos(&read["cost_usd"]),
            all.iter().map(|row| i128::from(row.cost.unwrap_or(0))).sum()
        );
        for attempt in attempts {
            let row = all.iter().find(|row| attempt["id"] == row.id.as_str()).expect("its row");
            assert_eq!(attempt["outcome"], row.outcome.as_str());
            assert_eq!(attempt["usage"]["input_tokens"].as_u64(), row.input_tokens);
            assert_eq!(
                attempt["metadata"]["request_number"]
                    .as_str()
                    .and_then(|number| number.parse().ok()),
                row.number()
            );
        }
    }
}

/// Stops the database server for one to two seconds while calls go on.
async fn stop_database(
    server: &mut OwnPostgres,
    how: StopMode,
    traffic: &Traffic,
    random: &mut Random,
) {
    // The process was just started and must have cached its callers first.
    traffic.reaches(traffic.ended() + CALLERS as u64).await;
    let (began, before) = (Instant::now(), traffic.ended());
    let lasts = Duration::from_millis(1_000 + random.below(1_000));
    server.stop(how).await;
    eventually("the outage is over", async || began.elapsed() >= lasts).await;
    // Known callers are served.
    traffic.reaches(before + CALLERS as u64).await;
}

/// Starts the server again; at first it is in recovery and refuses connections.
async fn restart_database(server: &mut OwnPostgres, traffic: &Traffic) {
    let recovering = async |server: &OwnPostgres| {
        let before = server.times_told(RECOVERING);
        eventually("the server is asked too early", async || {
            server.times_told(RECOVERING) > before
        })
        .await;
        traffic.reaches(traffic.ended() + CALLERS as u64).await;
    };
    server.recover(recovering).await;
}
