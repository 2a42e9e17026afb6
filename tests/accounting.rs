//! Every attempt is accounted for: the provider's invoice and the ledger agree, whatever happens to
//! callers, upstreams, the gateway's process and its database.

use std::{rc::Rc, time::Duration};

use serde_json::json;
use tokio::time::Instant;

use crate::support::{
    accounts::{self, Rates, Row},
    case::{Case, cases},
    database::{Database, Kind},
    eventually::{eventually, within},
    fixture::Fixture,
    http::Client,
    invoice::Invoice,
    plan::Plan,
    postgres::{OwnPostgres, Stop},
    random::Random,
    reconcile::{Books, Life},
    served::Served,
    traffic::Traffic,
};

/// How many calls are made; more of them make a better test and a longer one.
const CALLS: &str = "TOLLGATE_TEST_CALLS";
/// Another seed makes another test.
const SEED: &str = "TOLLGATE_TEST_SEED";

/// How often the process is killed. Before every other time its database is stopped, if that is a
/// server.
const KILLS: u64 = 10;
/// What a server tells whom it disconnects, and whom it does not connect yet.
const SHUT_DOWN: &str = "57P01";
const RECOVERING: &str = "57P03";
/// Calls under way at a time.
const CALLERS: usize = 24;

/// Under a price of the organization's.
const PRICED: Rates = Rates {
    input: 2_500_000_000,
    cached_input: 1_250_000_003,
    output: 10_000_000_007,
    reasoning: 12_000_000_000,
    request: 0,
};
/// Under a price of the configuration's own.
const OWN_PRICE: Rates = Rates {
    input: 150_000_000,
    cached_input: 75_000_000,
    output: 600_000_001,
    reasoning: 600_000_001,
    request: 1_000_001,
};

/// The cases of this file.
pub(crate) fn cases() -> Vec<Case> {
    cases![the_ledger_agrees_with_the_invoice]
}

fn number_from(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// The configurations that are called: one asks for the usage of streams, one leaves that to the
/// caller and has a price of its own.
const CONFIGURATIONS: [&str; 2] = [Fixture::CONFIGURATION, "left"];

async fn the_ledger_agrees_with_the_invoice(database: Database) {
    let (calls, seed) = (number_from(CALLS, 3_000), number_from(SEED, 20_261_123));
    let plan = move |number| Plan::of(seed, number, &CONFIGURATIONS);
    let mut server = match database.kind() {
        // The one that cases share can't be stopped.
        Kind::Postgres => Some(OwnPostgres::start().await),
        Kind::Sqlite => None,
    };
    let database = server.as_ref().map_or(database, OwnPostgres::database);
    let mut gateway = Served::start(&database, &[("--shutdown-timeout", "10s")]).await;
    let (invoice, upstream) = Invoice::kept(plan).await;
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
    let mut lives = vec![Life::begun()];
    let each = calls / (KILLS + 1);
    for round in 0..KILLS {
        let at = round * each + random.below(each);
        if let Some(server) = server.as_mut().filter(|_| round % 2 == 0) {
            let how = Stop::ALL[round as usize / 2 % Stop::ALL.len()];
            traffic.reaches(round * each).await;
            take_away(server, how, &traffic, &mut random).await;
            // Every other time the process dies while its database is away.
            if round % 4 != 0 {
                give_back(server, &traffic).await;
            }
        }
        traffic.reaches(at.max(traffic.ended() + CALLERS as u64)).await;
        gateway.kill().await;
        lives.last_mut().expect("one").killed();
        if let Some(server) = server.as_mut().filter(|server| !server.is_running()) {
            server.start_again().await;
        }
        gateway.start_again().await;
        lives.push(Life::begun());
        traffic.moves(gateway.address());
    }
    let told = within(Duration::from_secs(60), "the calls end", traffic.end()).await;
    gateway.stop().await;

    let rows = accounts::rows(&database).await;
    let rates = Rc::new(|configuration: &str| match configuration {
        "left" => OWN_PRICE,
        _ => PRICED,
    });
    let books = Books { invoice: invoice.entries(), told, lives, plan: Rc::new(plan), rates };
    let problems = books.problems(&rows);
    assert!(problems.is_empty(), "{} problems: {problems:#?}", problems.len());
    books.are_mixed(&rows);
    let of_rows = accounts::sums_of_rows(&database).await;
    for period in ["hour", "day"] {
        let of_period = accounts::sums_of_period(&database, period).await;
        assert_eq!(of_rows, of_period, "sums by the {period} add up to the rows");
    }
    for sqlstate in [SHUT_DOWN, RECOVERING] {
        let told = server.as_ref().is_none_or(|server| server.times_told(sqlstate) > 0);
        assert!(told, "the gateway was never told {sqlstate}");
    }

    gateway.start_again().await;
    reports_add_up(&gateway.admin(), &of_rows).await;
    requests_are_read(&gateway.admin(), &team, &rows, seed).await;
    assert_eq!(
        accounts::rows(&database).await.len(),
        rows.len(),
        "nothing was left in the journal"
    );
}

/// What people read adds up to the rows, however it is grouped.
async fn reports_add_up(admin: &Client, of_rows: &[String]) {
    for group_by in ["", "workspace,api_key", "configuration,model", "X-Gateway-Request-Number"] {
        let path = format!("/api/v1/usage?interval=hour&group_by={group_by}");
        let report = admin.get(&path).await.expect(200).json();
        assert_eq!(accounts::sums_of_report(&report["total"]), of_rows, "{group_by}");
        let figures = report["data"].as_array().expect("figures");
        let figures: Vec<_> = figures.iter().map(accounts::sums_of_report).collect();
        let sum = |place: usize| -> i128 {
            figures.iter().map(|figures| figures[place].parse::<i128>().unwrap()).sum()
        };
        let sums: Vec<_> = (0..of_rows.len()).map(|place| sum(place).to_string()).collect();
        assert_eq!(sums, of_rows, "the figures by {group_by:?} add up to the rows");
    }
}

/// A request is found by its id, with all of its attempts.
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
            accounts::nanos(&read["cost_usd"]),
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

/// Stops the database's server for a second or two while calls go on.
async fn take_away(server: &mut OwnPostgres, how: Stop, traffic: &Traffic, random: &mut Random) {
    // The process has been started just now, and has to know its callers before.
    traffic.reaches(traffic.ended() + CALLERS as u64).await;
    let (began, before) = (Instant::now(), traffic.ended());
    let lasts = Duration::from_millis(1_000 + random.below(1_000));
    server.stop(how).await;
    eventually("the outage is over", async || began.elapsed() >= lasts).await;
    // Who is known is served on.
    traffic.reaches(before + CALLERS as u64).await;
}

/// Starts it again. At first it recovers, and tells the process so.
async fn give_back(server: &mut OwnPostgres, traffic: &Traffic) {
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
