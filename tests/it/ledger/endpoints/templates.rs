//! Endpoints that are messaging platforms: stand-ins of WeChat's template messages and of a plain chat webhook.

use serde_json::{Value, json};

use super::{Scene, on_both, receiver};
use crate::support::eventually;
use crate::support::origin::{Act, Origin, Seen};

/// `/cgi-bin/message/template/send` as it is documented: `touser`, `template_id` and `data` with values.
fn wechat() -> Origin {
    let origin = receiver("wechat");
    origin.script(|seen: &Seen| {
        let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
        let fits = seen.path == "/cgi-bin/message/template/send?access_token=ACCESS"
            && body["touser"].is_string()
            && body["template_id"].is_string()
            && body["data"].as_object().is_some_and(|data| data.values().all(|field| field["value"].is_string()));
        Act::body(if fits {
            r#"{"errcode":0,"errmsg":"ok","msgid":1}"#
        } else {
            r#"{"errcode":47001,"errmsg":"data format error"}"#
        })
    });
    origin
}

fn order(scene: &Scene, trade: &str) -> Value {
    let body = json!({"merchant": "shop", "channel": "alipay", "out_trade_no": trade, "amount_minor": 1_000,
        "currency": "CNY"});
    let made = scene.post("/v1/orders", "a-key", &body);
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()
}

#[test]
fn an_orders_message_reaches_a_buyers_chat_in_the_platforms_own_words() {
    on_both(|scene| {
        let (wechat, chat, other) = (wechat(), receiver("chat"), receiver("other"));
        let made = scene.call(
            "POST",
            "/v1/merchants/shop/endpoints",
            &json!({
                "url": format!("http://{}/cgi-bin/message/template/send?access_token=ACCESS", wechat.address()),
                "events": ["order.created", "payment.posted"],
                "template": {
                    "touser": "OPENID", "template_id": "TM00015", "url": "https://pay.example/{{data.out_trade_no}}",
                    "data": {"first": {"value": "{{type}}"}, "amount": {"value": "{{data.amount}} {{data.currency}}"},
                        "order": {"value": "{{data.out_trade_no}}"}},
                },
            }),
        );
        assert_eq!(made.status, 201, "{}", made.text());
        scene.endpoint(
            &chat,
            json!({"events": ["order.*"], "headers": {"authorization": "Bearer CHAT"},
            "template": "{\"text\": \"Order {{data.out_trade_no}} over {{data.amount}} {{data.currency}}\"}"}),
        );
        scene.endpoint(&other, json!({}));
        let made = order(scene, "A \"1\" 雪");
        let sent = eventually("the chat hears of the order", || chat.seen().pop());
        let text: Value = serde_json::from_slice(&sent.body).unwrap();
        assert_eq!(text, json!({"text": "Order A \"1\" 雪 over 10.00 CNY"}));
        assert_eq!(
            (sent.header("authorization"), sent.header("content-type")),
            (Some("Bearer CHAT"), Some("application/json"))
        );
        let sent = eventually("WeChat hears of the order", || wechat.seen().pop());
        let message: Value = serde_json::from_slice(&sent.body).unwrap();
        assert_eq!(
            message["data"],
            json!({"first": {"value": "order.created"}, "amount": {"value": "10.00 CNY"},
            "order": {"value": "A \"1\" 雪"}})
        );
        let event = scene.event_is("delivered");
        assert_eq!(
            (&event["type"], &event["order_id"], &event["attempts"]),
            (&json!("order.created"), &made["id"], &json!(2))
        );
        let attempts = scene.get(&format!("/v1/events/{}/attempts", event["id"].as_str().unwrap()))["data"].clone();
        let bodies: Vec<&str> = attempts.as_array().unwrap().iter().map(|it| it["body"].as_str().unwrap()).collect();
        assert!(bodies.contains(&r#"{"errcode":0,"errmsg":"ok","msgid":1}"#), "{bodies:?}");
        // Neither the configuration's url nor an endpoint without a filter hears of orders.
        assert!(scene.ledger.merchants.heard().is_empty() && other.hits() == 0);
        scene.tells("A \"1\" 雪", None);
        eventually("they hear of the payment", || (other.hits() == 1 && wechat.hits() == 2).then_some(()));
        scene.is_whole();
    });
}

#[test]
fn an_order_without_anyone_who_asks_makes_no_event() {
    on_both(|scene| {
        scene.endpoint(&receiver("all"), json!({}));
        order(scene, "A");
        assert_eq!(scene.get("/v1/events")["data"], json!([]));
    });
}

#[test]
fn a_template_that_cannot_be_filled_is_refused_with_its_place() {
    on_both(|scene| {
        for (template, place) in [
            (json!("{\"text\": \"{{data.nothing}}\"}"), "line 1 column 11"),
            (json!("Order {{data.out_trade_no}}"), "no JSON"),
            (json!({"text": "{{pay"}), "does not close"),
        ] {
            let body = json!({"url": "http://127.0.0.1:9/", "template": template});
            let refused = scene.call("POST", "/v1/merchants/shop/endpoints", &body);
            refused.is_problem(422, "unprocessable");
            assert!(refused.json()["detail"].as_str().unwrap().contains(place), "{}", refused.text());
        }
    });
}
