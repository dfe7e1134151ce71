//! `/openapi.json`, made of the calls, the objects and the lists' own filters.
//!
//! The words of states and kinds are the stored ones. The callback is described by hand, since its body differs by
//! provider.

use axum::Json;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi as Document, Ref, RefOr, Required, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use super::{Problem, calls, create, endpoints, events, reconcile, resolve, transfers};
use crate::query::list::{self, List};
use crate::query::views;
use crate::stored_enum::{
    AnomalyKind, AnomalyState, EventState, OrderState, RefundState, Side, Source, StoredEnum, TransferState, TxState,
};
use providers::event::Kind;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tollgate ledger",
        description = "Receives payment callbacks, keeps the books and notifies merchants.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        calls::healthz,
        calls::readyz,
        calls::metrics,
        document,
        calls::orders,
        create::order,
        create::refund,
        calls::order,
        calls::refunds,
        calls::refund,
        transfers::transfer,
        transfers::all,
        transfers::one,
        transfers::post,
        transfers::void,
        calls::accounts,
        calls::account,
        calls::entries,
        calls::transactions,
        calls::transaction,
        events::list,
        events::attempts,
        events::redeliver,
        events::redeliver_many,
        endpoints::list,
        endpoints::create,
        endpoints::change,
        endpoints::delete,
        calls::anomalies,
        resolve::resolve,
        reconcile::run,
        reconcile::one,
        calls::integrity,
    ),
    components(schemas(
        Problem,
        views::Order,
        views::Refund,
        views::Transfer,
        views::Transaction,
        views::TransactionDetail,
        views::Entry,
        views::Account,
        views::Event,
        views::Attempt,
        views::Endpoint,
        views::Anomaly,
        views::Integrity
    )),
    modifiers(&Rest)
)]
struct Api;

/// This document.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub async fn document() -> Response {
    Json(Api::openapi()).into_response()
}

/// Adds what the attributes cannot say.
struct Rest;

impl Modify for Rest {
    fn modify(&self, document: &mut Document) {
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        if let Some(components) = &mut document.components {
            components.add_security_scheme("token", bearer);
        }
        for (path, item) in &mut document.paths.paths {
            for operation in [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete].into_iter().flatten() {
                guarded(path, operation);
            }
        }
        for (path, list) in [
            ("/v1/orders", &list::ORDERS),
            ("/v1/refunds", &list::REFUNDS),
            ("/v1/transfers", &list::TRANSFERS),
            ("/v1/transactions", &list::TRANSACTIONS),
            ("/v1/events", &list::EVENTS),
            ("/v1/anomalies", &list::ANOMALIES),
            ("/v1/accounts/{id}/entries", &list::ENTRIES),
        ] {
            filters(document, path, Some(list));
        }
        filters(document, "/v1/accounts", None);
        words(document);
        document.paths.paths.insert("/callbacks/{channel}".to_owned(), callbacks());
    }
}

fn problem(description: &str) -> RefOr<utoipa::openapi::Response> {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new().description(description).content("application/problem+json", content).build().into()
}

/// The token and the errors of a call.
fn guarded(path: &str, operation: &mut Operation) {
    let mut add = |status: &str, description: &str| {
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| problem(description));
    };
    if path.contains("{id}") {
        add("404", "Not found, or it belongs to another merchant.");
    }
    if path.starts_with("/v1/") {
        add("400", "A parameter that is not known, or a value that it does not take.");
        add("401", "No token, or a wrong one.");
        add("422", "More rows would have to be read for it than may be.");
        add("503", "Not now: see Retry-After.");
        if operation.request_body.is_some() {
            add("413", "The body is too large.");
        }
        let keyed = operation
            .parameters
            .iter()
            .flatten()
            .any(|parameter| matches!(parameter, RefOr::T(parameter) if parameter.name == "Idempotency-Key"));
        if keyed {
            add("410", "It was answered before, and that answer was erased.");
        }
        operation.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
    }
    if path == "/v1/integrity" {
        operation.responses.responses.insert("403".to_owned(), problem("A merchant's token."));
    }
}

/// The parameters of a list.
fn filters(document: &mut Document, path: &str, list: Option<&List>) {
    let Some(operation) = document.paths.paths.get_mut(path).and_then(|item| item.get.as_mut()) else { return };
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let time = || text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)));
    let number = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(1))
        .maximum(Some(1000))
        .default(Some(serde_json::json!(100)));
    let mut add = |name: &str, description: &str, schema: ObjectBuilder| {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Query)
            .required(Required::False)
            .description(Some(description))
            .schema(Some(Schema::Object(schema.build())))
            .build();
        operation.parameters.get_or_insert_default().push(parameter.into());
    };
    add("limit", "How many", number);
    add("cursor", "`next` of the part before", text());
    let Some(list) = list else { return };
    add("from", &format!("`{}` is not before", list.time), time());
    add("to", &format!("`{}` is before", list.time), time());
    for filter in list.filters {
        let (name, words) = filter.describe();
        add(name, "Only these", if words.is_some() { text().enum_values(words) } else { text() });
    }
}

/// The accepted words of fields.
fn words(document: &mut Document) {
    fn of<W: StoredEnum>() -> Vec<&'static str> {
        W::WORDS.iter().map(|(word, _)| *word).collect()
    }
    let fields = [
        ("Order", "source", of::<Source>()),
        ("Order", "state", of::<OrderState>()),
        ("Refund", "state", of::<RefundState>()),
        ("Transfer", "state", of::<TransferState>()),
        ("Transaction", "kind", of::<Kind>()),
        ("Transaction", "state", of::<TxState>()),
        ("Entry", "side", of::<Side>()),
        ("Event", "state", of::<EventState>()),
        ("Anomaly", "kind", of::<AnomalyKind>()),
        ("Anomaly", "state", of::<AnomalyState>()),
    ];
    let Some(components) = &mut document.components else { return };
    for (object, field, words) in fields {
        if let Some(RefOr::T(Schema::Object(object))) = components.schemas.get_mut(object)
            && let Some(RefOr::T(Schema::Object(field))) = object.properties.get_mut(field)
        {
            field.enum_values = Some(words.into_iter().map(Into::into).collect());
        }
    }
}

/// Describes `POST /callbacks/{channel}`.
fn callbacks() -> PathItem {
    let channel = ParameterBuilder::new()
        .name("channel")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build();
    let body = RequestBodyBuilder::new()
        .description(Some("What the provider sends, byte for byte; at most 1 MiB"))
        .content("*/*", ContentBuilder::new().build())
        .required(Some(Required::True))
        .build();
    let taken = ResponseBuilder::new()
        .description("It is in the books; the body is what the provider wants to read")
        .content("*/*", ContentBuilder::new().build())
        .build();
    let mut operation = OperationBuilder::new()
        .operation_id(Some("callback"))
        .summary(Some("Takes a provider's callback."))
        .parameter(channel)
        .request_body(Some(body))
        .response("200", taken);
    for (status, description) in [
        ("400", "It cannot be parsed."),
        ("401", "Its signature is wrong, or it is too old."),
        ("404", "There is no such channel."),
        ("413", "It is too large."),
        ("503", "It was not kept: try again."),
    ] {
        let refused = ResponseBuilder::new().description(description).content("*/*", ContentBuilder::new().build());
        operation = operation.response(status, refused.build());
    }
    PathItem::new(HttpMethod::Post, operation)
}
