//! The calls over HTTP, before a small book and a writer that does as it is told.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::Value as Json;

use super::*;
use crate::anchor;
use crate::audit::Checked;
use crate::query;
use crate::query::tests::book::{Book, sample};
use crate::rows::{self, Transaction};
use base::finding::Place;
use base::secret::Secret;
use config::model::ledger::{Merchant, Store};

struct Told {
    standing: Standing,
}

#[async_trait]
impl ApiWriter for Told {
    fn standing(&self) -> Standing {
        self.standing
    }

    async fn redeliver(&self, what: Redelivery) -> Result<usize, CommitError> {
        match self.standing {
            Standing::Active => Ok(what.events.len()),
            Standing::Standby => Err(CommitError::Standby),
            Standing::Failed => Err(CommitError::Failed),
        }
    }

    async fn endpoint(&self, _: EndpointChange) -> Result<Changed, CommitError> {
        Err(CommitError::Failed)
    }

    async fn resolve(&self, _: Resolution) -> Result<Resolved, CommitError> {
        Err(CommitError::Failed)
    }

    async fn command(&self, _: Command) -> Result<Commanded, CommitError> {
        Err(CommitError::Failed)
    }

    async fn reconcile(&self, _: Reconciled) -> Result<Uuid, CommitError> {
        Err(CommitError::Failed)
    }

    async fn call(&self, _: Subject, _: String) -> Result<Commanded, Unfinished> {
        Err(Unfinished::Running)
    }

    fn ring(&self) -> Option<Arc<Ring>> {
        None
    }
}

fn secret(text: &str) -> Option<Secret> {
    Some(Secret(text.as_bytes().into()))
}

fn configured(state_dir: PathBuf) -> Ledger {
    let merchant = |name: &str, token| Merchant {
        name: name.into(),
        url: "http://127.0.0.1:1/".to_owned(),
        secret: Secret(Arc::new([1; 32])),
        token,
        allow_private: true,
    };
    Ledger {
        address: "127.0.0.1:0".parse().unwrap(),
        embedded: true,
        store: Store::Sqlite(PathBuf::new()),
        encryption_keys: vec![],
        token: secret("platform"),
        batch_max: 1,
        delivery_backoff: vec![],
        delivery_timeout: std::time::Duration::from_secs(1),
        channels: vec![],
        merchants: vec![merchant("shop", secret("shop's")), merchant("bazaar", None)],
        state_dir,
        place: Place::default(),
    }
}

/// A ledger that answers, and its book.
struct Served {
    book: Book,
    at: String,
    config: Arc<ArcSwap<Ledger>>,
    integrity: LastCheck,
    runtime: tokio::runtime::Runtime,
}

struct Got {
    status: u16,
    headers: http::HeaderMap,
    text: String,
}

impl Got {
    fn json(&self) -> Json {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// A problem document of this status; its type's end.
    fn problem(&self) -> String {
        let body = self.json();
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(body["status"], self.status, "{body}");
        assert!(body["title"].is_string() && body["detail"].is_string());
        body["type"].as_str().unwrap().strip_prefix("urn:tollgate:problem:").unwrap().to_owned()
    }
}

/// A store whose every read takes too long.
struct Endless;

impl Reader for Endless {
    fn select(&mut self, _: &str, _: &[rows::Value], _: &[rows::Type]) -> Result<Vec<Vec<rows::Value>>, StoreError> {
        Err(StoreError::Slow("interrupted".into()))
    }

    fn snapshot(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn end(&mut self) {}
}

impl Served {
    fn new(standing: Standing) -> Served {
        let book = sample();
        let readers = (0..READS).map(|_| Box::new(book.reader()) as Box<dyn Reader>).collect();
        Served::with(standing, book, readers)
    }

    fn with(standing: Standing, book: Book, readers: Vec<Box<dyn Reader>>) -> Served {
        let config = Arc::new(ArcSwap::from_pointee(configured(book.folder().to_owned())));
        let integrity = LastCheck::default();
        let state = ApiState {
            config: config.clone(),
            journal: Arc::new(Told { standing }),
            readers: Readers::filled(readers),
            series: Arc::default(),
            integrity: integrity.clone(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let socket = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let at = format!("http://{}", socket.local_addr().unwrap());
        // Another router is merged, as the way of callbacks is.
        let callbacks = Router::new().route("/callbacks/{channel}", post(|| async { "taken" }));
        runtime.spawn(async move { axum::serve(socket, router(state).merge(callbacks)).await });
        Served { book, at, config, integrity, runtime }
    }

    fn send(&self, method: &str, path: &str, token: Option<&str>) -> Got {
        let mut request = http::Request::builder().method(method).uri(format!("{}{path}", self.at));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body("").unwrap().try_into().unwrap();
        self.runtime.block_on(async {
            let answer = http_client::builder().unwrap().build().unwrap().execute(request).await.unwrap();
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            Got { status, headers, text: answer.text().await.unwrap() }
        })
    }

    fn get(&self, path: &str) -> Got {
        self.send("GET", path, Some("platform"))
    }

    fn fact(&self, number: &str) -> Transaction {
        let tail = format!(" WHERE channel_txn_no = '{number}'");
        query::rows(&mut self.book.reader(), &tail, &[]).unwrap().remove(0)
    }
}

#[test]
fn every_list_answers_and_refuses_what_it_does_not_know() {
    let ledger = Served::new(Standing::Active);
    for (list, count) in [("orders", 4), ("transactions", 10), ("events", 7), ("anomalies", 2), ("accounts", 6)] {
        let got = ledger.get(&format!("/v1/{list}"));
        assert_eq!((got.status, got.json()["data"].as_array().unwrap().len()), (200, count), "{list}: {}", got.text);
        assert_eq!(got.json()["next"], Json::Null);
        let part = ledger.get(&format!("/v1/{list}?limit=1")).json();
        let rest = ledger.get(&format!("/v1/{list}?cursor={}", part["next"].as_str().unwrap())).json();
        assert_eq!(rest["data"].as_array().unwrap().len(), count - 1, "{list}");
        let refused = ledger.get(&format!("/v1/{list}?colour=red"));
        assert_eq!((refused.status, refused.problem()), (400, "bad_query".to_owned()));
        assert!(refused.text.contains("colour"));
        assert_eq!(ledger.get(&format!("/v1/{list}?limit=0")).status, 400);
        assert_eq!(ledger.get(&format!("/v1/{list}?cursor=%21")).status, 400);
    }
    let entries = ledger.get("/v1/accounts/assets:channel:card/entries?limit=2").json();
    assert_eq!(entries["data"][0]["account"], "assets:channel:card");
    assert!(entries["data"][0]["sequence"].as_i64() > entries["data"][1]["sequence"].as_i64());
    assert!(entries["next"].is_string());
}

#[test]
fn objects_are_shown_by_id() {
    let ledger = Served::new(Standing::Standby);
    let payment = ledger.fact("pi_1");
    let shown = ledger.get(&format!("/v1/transactions/{}", payment.id)).json();
    assert_eq!(shown["sequence"], payment.seq);
    assert_eq!(shown["fee_minor"], 60);
    assert_eq!(shown["recorded_at"], "2026-11-21T03:38:00.120Z");
    assert_eq!(shown["payment_txn_no"], Json::Null);
    let sides: Vec<_> = shown["entries"].as_array().unwrap().iter().map(|entry| &entry["side"]).collect();
    assert_eq!(sides, ["debit", "credit"]);
    let order = ledger.get(&format!("/v1/orders/{}", payment.order_id.unwrap())).json();
    assert_eq!((&order["state"], &order["refunded_minor"]), (&"partially_refunded".into(), &2_000.into()));
    let account = ledger.get("/v1/accounts/assets:channel:card").json();
    assert_eq!(account["balances"][0]["balance_minor"], 7_500);
    let then = ledger.get("/v1/accounts/assets%3Achannel%3Acard?as_of=2026-11-21T03:38:00.120Z").json();
    assert_eq!(then["balances"][0]["balance_minor"], 10_000);
    for unknown in [
        "/v1/orders/none",
        "/v1/orders/01900000-0000-7000-8000-0000000000ff",
        "/v1/transactions/%FF",
        "/v1/accounts/assets:none",
        "/v1/accounts/assets:none/entries",
        "/v1/accounts/%00",
        "/v1/refunds/01900000-0000-7000-8000-0000000000ff",
        "/v1/transfers/01900000-0000-7000-8000-0000000000ff",
        "/v1/nothing",
        "/",
    ] {
        let got = ledger.get(unknown);
        assert_eq!((got.status, got.problem()), (404, "not_found".to_owned()), "{unknown}");
    }
    assert_eq!(ledger.get("/v1/accounts/assets:channel:card?as_of=now").status, 400);
    assert_eq!(ledger.get(&format!("/v1/orders/{}?x=1", payment.order_id.unwrap())).status, 400);
    let wrong = ledger.send("POST", "/v1/transactions", Some("platform"));
    assert_eq!((wrong.status, wrong.problem()), (405, "method_not_allowed".to_owned()));
    assert_eq!(wrong.headers["allow"], "GET,HEAD");
}

#[test]
fn without_a_token_only_what_is_open_answers() {
    let ledger = Served::new(Standing::Active);
    for open in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        assert_eq!(ledger.send("GET", open, None).status, 200, "{open}");
    }
    assert_eq!(ledger.send("POST", "/callbacks/card", None).text, "taken");
    for token in [None, Some("wrong"), Some(""), Some("platform2")] {
        for path in ["/v1/orders", "/v1/integrity", "/v1/nothing", "/else"] {
            let got = ledger.send("GET", path, token);
            assert_eq!((got.status, got.problem()), (401, "no_token".to_owned()), "{path}");
            assert_eq!(got.headers["www-authenticate"], "Bearer");
        }
    }
    // A reload takes effect at once; without any token nobody reads.
    let mut config = Ledger::clone(&ledger.config.load());
    config.token = secret("new");
    ledger.config.store(Arc::new(config.clone()));
    assert_eq!(ledger.get("/v1/orders").status, 401);
    assert_eq!(ledger.send("GET", "/v1/orders", Some("new")).status, 200);
    (config.token, config.merchants) = (None, vec![]);
    ledger.config.store(Arc::new(config));
    assert!([None, Some("new"), Some("")].iter().all(|token| ledger.send("GET", "/v1/orders", *token).status == 401));
}

#[test]
fn a_merchants_token_shows_its_own_and_nothing_else() {
    let ledger = Served::new(Standing::Active);
    let get = |path: &str| ledger.send("GET", path, Some("shop's"));
    let (own, foreign) = (ledger.fact("pi_1"), ledger.fact("2026"));
    for (list, count) in [("orders", 3), ("transactions", 9), ("events", 6), ("anomalies", 0)] {
        let data = get(&format!("/v1/{list}")).json()["data"].as_array().unwrap().clone();
        assert_eq!(data.len(), count, "{list}");
        assert_eq!(get(&format!("/v1/{list}?merchant=bazaar")).json()["data"], Json::Array(vec![]), "{list}");
    }
    assert_eq!(get(&format!("/v1/transactions/{}", own.id)).status, 200);
    assert_eq!(get(&format!("/v1/transactions/{}", foreign.id)).status, 404);
    assert_eq!(get(&format!("/v1/orders/{}", foreign.order_id.unwrap())).status, 404);
    assert_eq!(get("/v1/accounts/liabilities:merchant:shop").status, 200);
    assert_eq!(get("/v1/accounts/liabilities:merchant:shop/entries").status, 200);
    assert_eq!(get("/v1/accounts/assets:channel:card").status, 404);
    assert_eq!(get("/v1/accounts/assets:channel:card/entries").status, 404);
    let accounts = get("/v1/accounts").json();
    assert_eq!(accounts["data"].as_array().unwrap().len(), 1);
    assert_eq!(accounts["data"][0]["id"], "liabilities:merchant:shop");
    assert_eq!((get("/v1/integrity").status, get("/v1/integrity").problem()), (403, "platform_only".to_owned()));
    let events = ledger.get("/v1/events?merchant=bazaar").json();
    let foreign = format!("/v1/events/{}/redeliver", events["data"][0]["id"].as_str().unwrap());
    assert_eq!(ledger.send("POST", &foreign, Some("shop's")).status, 404);
}

#[test]
fn an_event_is_sent_again_where_the_books_are_written() {
    let active = Served::new(Standing::Active);
    let first = active.get("/v1/events?out_trade_no=T-1&kind=payment.posted").json()["data"][0].clone();
    let path = format!("/v1/events/{}/redeliver", first["id"].as_str().unwrap());
    let sent = active.send("POST", &path, Some("platform"));
    assert_eq!((sent.status, &sent.json()["id"], &sent.json()["type"]), (200, &first["id"], &"payment.posted".into()));
    assert_eq!(active.send("POST", &path, Some("shop's")).status, 200);
    assert_eq!(active.send("POST", "/v1/events/none/redeliver", Some("platform")).status, 404);
    let unknown = "/v1/events/01900000-0000-7000-8000-0000000000ff/redeliver";
    assert_eq!(active.send("POST", unknown, Some("platform")).status, 404);
    for standing in [Standing::Standby, Standing::Failed] {
        let waiting = Served::new(standing);
        let refused = waiting.send("POST", &path, Some("platform"));
        assert_eq!((refused.status, refused.problem()), (503, "unavailable".to_owned()));
        assert_eq!(refused.headers["retry-after"], "1");
        assert_eq!(waiting.send("GET", "/readyz", None).status, 503);
        assert_eq!(waiting.send("GET", "/healthz", None).status, 200);
        assert_eq!(waiting.get("/v1/orders").status, 200, "reads go on");
    }
}

#[test]
fn a_question_that_takes_too_long_is_told_how_to_ask() {
    let ledger = Served::with(Standing::Active, sample(), vec![Box::new(Endless)]);
    let got = ledger.get("/v1/transactions?state=parked");
    assert_eq!((got.status, got.problem()), (422, "too_broad".to_owned()));
    assert!(got.text.contains("out_trade_no"), "{}", got.text);
}

#[test]
fn integrity_shows_chain_anchor_verification_and_sums() {
    let ledger = Served::new(Standing::Active);
    let (sequence, head) = ledger.book.head();
    let shown = ledger.get("/v1/integrity").json();
    assert_eq!((&shown["anchored"], &shown["verified"]), (&Json::Null, &Json::Null));
    let hex = base::hex::encode(&head);
    let written = anchor::Anchor::new(sequence, &head, 1_795_232_280_123);
    anchor::write(&anchor::path(ledger.book.folder()), &written).unwrap();
    ledger.integrity.store(Some(Arc::new(Checked { sequence: 5, at_ms: 1_795_232_280_120, ok: true })));
    let got = ledger.get("/v1/integrity");
    assert_eq!(
        got.text,
        format!(
            r#"{{"sequence":{sequence},"head":"{hex}","anchored":{{"sequence":{sequence},"head":"{hex}","at":"2026-11-21T03:38:00.123Z"}},"verified":{{"sequence":5,"at":"2026-11-21T03:38:00.120Z","ok":true}},"sums":[{{"currency":"CNY","debit_minor":15060,"credit_minor":15060}},{{"currency":"JPY","debit_minor":2400,"credit_minor":2400}}]}}"#
        )
    );
}

#[test]
fn the_description_names_every_call_and_object() {
    let ledger = Served::new(Standing::Active);
    let document = ledger.send("GET", "/openapi.json", None).json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let described: Vec<_> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    for path in [
        "/callbacks/{channel}",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/v1/orders",
        "/v1/orders/{id}",
        "/v1/refunds/{id}",
        "/v1/transfers/{id}",
        "/v1/accounts",
        "/v1/accounts/{id}",
        "/v1/accounts/{id}/entries",
        "/v1/transactions",
        "/v1/transactions/{id}",
        "/v1/events",
        "/v1/events/{id}/redeliver",
        "/v1/events/{id}/attempts",
        "/v1/events/redeliver",
        "/v1/merchants/{merchant}/endpoints",
        "/v1/merchants/{merchant}/endpoints/{id}",
        "/v1/anomalies",
        "/v1/integrity",
    ] {
        assert!(described.contains(&path), "{path} is not in {described:?}");
    }
    let filters: Vec<_> =
        document["paths"]["/v1/transactions"]["get"]["parameters"].as_array().unwrap().iter().collect();
    let names: Vec<_> = filters.iter().map(|filter| filter["name"].as_str().unwrap()).collect();
    let expected = "limit cursor from to merchant channel state kind out_trade_no channel_txn_no";
    assert_eq!(names.join(" "), expected);
    assert_eq!(document["components"]["schemas"]["Transaction"]["properties"]["kind"]["enum"][0], "payment");
    // Every reference leads somewhere.
    let text = document.to_string();
    for name in text.split("#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(document["components"]["schemas"].get(name).is_some(), "{name} is not described");
    }
    let operations = document["paths"].as_object().unwrap().iter();
    for (path, item) in operations.filter(|(path, _)| path.starts_with("/v1/")) {
        for operation in item.as_object().unwrap().values() {
            assert_eq!(operation["security"][0]["token"], Json::Array(vec![]), "{path}");
            assert!(operation["responses"].get("401").is_some(), "{path}");
        }
    }
}
