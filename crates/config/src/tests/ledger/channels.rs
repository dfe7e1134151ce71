//! `[ledger.channel.*]`: each provider's own keys, in their own shape.

use providers::ALL;
use providers::configured::ConfigKey;
use rust_decimal::Decimal;

use super::*;
use crate::model::ledger::Rounding;

#[test]
fn channels_of_a_merchant_of_which_only_some_name_an_account_are_warned_of() {
    let stripe = |name: &str, more: &str| {
        let provider = "provider = \"stripe\"\nmerchant = \"shop\"\nsecret_files = [\"secrets-example/stripe.whsec\"]";
        format!("[ledger.channel.{name}]\n{provider}\n{more}\n")
    };
    let named = "account = \"acct_1\"";
    let warned = |one: &str, other: &str| {
        let text =
            format!("{LEAST}{SHOP}{}{}[[listener]]\naddress = \"127.0.0.1:1\"", stripe("a", one), stripe("b", other));
        let said = load_texts(&[&text]).expect("it is legal").warnings;
        said.iter().map(|it| it.message.clone()).collect::<Vec<_>>()
    };
    assert_eq!((warned("", ""), warned(named, named)), (vec![], vec![]));
    assert_eq!(warned(named, ""), ["ledger.channel.b names no `account`, and a of the same merchant does"]);
}

#[test]
fn a_channel_names_a_provider_and_a_merchant() {
    let names: Vec<&str> = ALL.iter().map(|provider| provider.name).collect();
    tells(
        &format!("{LEAST}{SHOP}[ledger.channel.\"a.b\"]\n[ledger.channel.b]\nprovider = \"strip\"\nmerchant = \"shp\""),
        &[
            "6:1 `a.b` is no name for a channel -> small letters, digits, `_` and `-`: it stands in URLs and accounts",
            "6:1 `merchant` is missing -> add it: merchant = \"name\"",
            "6:1 `provider` is missing -> add it: provider = \"stripe\"",
            &format!("8:12 `strip` is not a provider -> did you mean `stripe`? allowed: {}", names.join(", ")),
            "9:12 there is no merchant `shp` -> did you mean `shop`? merchants: shop",
        ],
    );
    tells(
        &format!(
            "{LEAST}[ledger.channel.a]\nprovider = \"stripe\"\nmerchant = \"m\"\n\
             secret_files = [\"secrets-example/stripe.whsec\"]"
        ),
        &["5:12 there is no merchant `m` -> add it: [ledger.merchant.m] url = \"https://shop.example.com/payments\""],
    );
}

#[test]
fn keys_of_another_provider_are_refused_by_name() {
    tells(
        &channel("provider = \"stripe\"\nsecret_files = []\napp_id = \"1\"\nplatform_keys = []\nencoding = \"hex\""),
        &[
            "9:16 `secret_files` is empty -> name at least one file",
            "10:10 `app_id` is alipay's and wechatpay's -> remove it: stripe has secret_files, account, api_url and api_key_file",
            "11:17 `platform_keys` is wechatpay's -> remove it: stripe has secret_files, account, api_url and api_key_file",
            "12:12 `encoding` is hmac's -> remove it: stripe has secret_files, account, api_url and api_key_file",
        ],
    );
    tells(
        &channel("provider = \"stripe\"\nsecret_files = [\"secrets-example/stripe.whsec\"]\naccount = \"shop\""),
        &["10:11 `shop` is no account of Stripe -> such as \"acct_1032D82eZvKYlo2C\", as its dashboard shows it"],
    );
    let owners: Vec<String> = ConfigKey::owners("secret_files").map(|owner| format!("{}'s", owner.name)).collect();
    assert!(owners.len() > 2);
    tells(
        &channel("provider = \"alipay\"\nsecret_files = []"),
        &[
            "6:1 `app_id` is missing -> add it: app_id = \"2021000000000000\"",
            "6:1 `public_key_files` is missing -> add it: public_key_files = [\"secrets/card\"]",
            "6:1 `seller_id` is missing -> add it: seller_id = \"2088000000000000\"",
            &format!(
                "9:16 `secret_files` is {} -> remove it: alipay has app_id, seller_id, public_key_files, api_url, private_key_file and notify_url",
                owners.join(" and ")
            ),
        ],
    );
}

#[test]
fn texts_of_keys_are_read_whatever_the_provider_is() {
    tells(
        &channel(
            "provider = \"strip\"\naccount = \"a b\"\nheader = \"a b\"\nencoding = \"hexx\"\nprefix = 1\nmchid = \"\"",
        ),
        &[
            &format!(
                "8:12 `strip` is not a provider -> did you mean `stripe`? allowed: {}",
                ALL.map(|provider| provider.name).join(", ")
            ),
            "9:11 `a b` is not an account -> such as \"acct_1032D82eZvKYlo2C\"",
            "10:10 `a b` is not a header name -> such as \"x-tenant\"",
            "11:12 `hexx` is not an encoding -> did you mean `hex`? allowed: hex, base64",
            "12:10 expected a prefix of a signature, found integer `1` -> such as \"sha256=\"",
            "13:9 `` is not an account -> such as \"2021000000000000\": one word, as the provider gave it",
        ],
    );
}

#[test]
fn a_misspelt_key_is_offered_the_keys_of_its_own_table() {
    let stripe = "provider = \"stripe\"\nsecret_files = [\"secrets-example/stripe.whsec\"]\n";
    let keys: Vec<&str> = ConfigKey::all().into_iter().map(|key| key.name).collect();
    let allowed = format!("allowed here: provider, merchant, require_order, fee, query_after, {}", keys.join(", "));
    tells(
        &channel(&format!("{stripe}acount = \"acct_1\"")),
        &[&format!("10:1 unknown key `acount` -> did you mean `account`? {allowed}")],
    );
    tells(
        &channel(&format!("{stripe}fee = {{ acount = 1 }}")),
        &["10:9 unknown key `acount` -> allowed here: percent, fixed_minor, minimum_minor, rounding"],
    );
}

#[test]
fn every_provider_says_what_it_lacks() {
    let platform = "{ serial = \"5157F09EFDC096DE15EBE81A47057A72\", file = \"secrets/wechatpay.pem\" }";
    tells(
        &channel("provider = \"wechatpay\""),
        &[
            "6:1 `api_v3_key_file` is missing -> add it: api_v3_key_file = \"secrets/wechatpay.apiv3\"",
            "6:1 `mchid` is missing -> add it: mchid = \"1900000000\"",
            &format!("6:1 `platform_keys` is missing -> add it: platform_keys = [{platform}]"),
        ],
    );
    tells(
        &channel("provider = \"stripe\""),
        &["6:1 `secret_files` is missing -> add it: secret_files = [\"secrets/card\"]"],
    );
    let none = "6:1 the channel has no key: every callback would be refused -> add secret_files = \
                [\"secrets/name.whsec\"], or public_key_files = [\"secrets/name.whpk\"]";
    tells(&channel("provider = \"standardwebhooks\""), &[none]);
    tells(&channel("provider = \"standardwebhooks\"\nsecret_files = []\npublic_key_files = []"), &[none]);
    tells(
        &channel("provider = \"hmac\""),
        &[
            "6:1 `header` is missing -> add it: header = \"x-signature\"",
            "6:1 `secret_files` is missing -> add it: secret_files = [\"secrets/card\"]",
        ],
    );
    tells(
        &channel(
            "provider = \"hmac\"\nsecret_files = [\"secrets-example/partner.hmac\"]\nheader = \"a b\"\n\
             algorithm = \"sha1\"\nencoding = \"base46\"\namount_unit = \"cent\"\nformat = \"xml\"\nid_field = \"a..b\"\nprefix = \"\\n\"",
        ),
        &[
            "10:10 `a b` is not a header name -> such as \"x-tenant\"",
            "11:13 `sha1` is not an algorithm -> allowed: sha256",
            "12:12 `base46` is not an encoding -> did you mean `base64`? allowed: hex, base64",
            "13:15 `cent` is not a unit of amounts -> allowed: minor, major",
            "14:10 `xml` is not a format -> allowed: json, form",
            "15:12 `a..b` is not a field -> such as \"amount_minor\", or \"data.object.id\" for one inside of others",
            "16:10 `\\n` holds a character that no header has -> such as \"sha256=\"",
        ],
    );
}

#[test]
fn secrets_of_channels_have_the_shape_of_their_kind() {
    let ledger = "[ledger]\nencryption_key_files = [\"key\"]\n[ledger.merchant.shop]\nurl = \"https://x.example/\"\n\
                  secret_file = \"good\"\n[ledger.channel.card]\nmerchant = \"shop\"\n";
    let key = "0f".repeat(32);
    let good = b"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n";
    let refused = |text: &str, content: &[u8]| {
        let files = [("key", key.as_bytes()), ("good", &good[..]), ("file", content)];
        let all = with_files(&format!("{ledger}{text}"), &files);
        assert_eq!(all.len(), 1, "{all:#?}");
        let message = all[0].split(" -> ").next().expect("a message").to_owned();
        message.split_once(' ').expect("a place").1.to_owned()
    };
    let stripe = "provider = \"stripe\"\nsecret_files = [\"good\", \"file\"]";
    assert_eq!(refused(stripe, b"sk_live_x"), "this is an API key of Stripe, which signs nothing");
    assert_eq!(refused(stripe, b"whsec_a b"), "the secret is not one word");
    assert_eq!(refused(stripe, b"\n"), "the secret is not one word");
    let webhooks = "provider = \"standardwebhooks\"\nsecret_files = [\"file\"]";
    assert_eq!(refused(webhooks, b"whsec_AAAA"), "the webhook secret has 3 bytes, not 24 to 64");
    assert_eq!(refused(webhooks, b"whsec_!"), "what follows `whsec_` in the webhook secret is not base64");
    assert_eq!(refused(webhooks, b"se cret"), "the webhook secret is neither `whsec_` and base64 nor base64");
    let public = "provider = \"standardwebhooks\"\npublic_key_files = [\"file\"]";
    assert_eq!(refused(public, b"whpk_AAAA"), "the public key has 3 bytes, not 32");
    assert_eq!(refused(public, b"whpk_!"), "the public key is not base64");
    let hmac = "provider = \"hmac\"\nheader = \"x\"\nsecret_files = [\"file\"]";
    assert_eq!(refused(hmac, b"\n"), "the secret is empty");
    let alipay = "provider = \"alipay\"\napp_id = \"1\"\nseller_id = \"2\"\npublic_key_files = [\"file\"]";
    assert_eq!(refused(alipay, b"?"), "the file holds neither PEM nor a key in base64");
    let bare = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let files = [("key", key.as_bytes()), ("good", bare.as_bytes()), ("file", b"any bytes \xff\n")];
    assert_eq!(with_files(&format!("{ledger}{hmac}"), &files), Vec::<String>::new());
}

#[test]
fn wechat_pay_needs_a_key_of_32_bytes_and_serials_of_their_own() {
    tells(
        &channel(
            "provider = \"wechatpay\"\nmchid = \"1\"\napi_v3_key_file = \"secrets-example/ledger.key\"\nplatform_keys = [\n\
             { serial = \"aB\", file = \"secrets-example/wechatpay.pem\" },\n\
             { serial = \"Ab\", file = \"secrets-example/wechatpay.pem\" },\n{ serial = \"c\" },\n{ file = \"secrets-example/wechatpay.pem\", sn = 1 }]",
        ),
        &[
            "10:19 the APIv3 key has 64 bytes, not 32 -> the 32 characters that were set in the merchant platform",
            "13:12 this serial is there twice -> the other one is at a.toml:12; keep one",
            "15:43 unknown key `sn` -> allowed here: serial, file",
        ],
    );
    let all = found(&channel(
        "provider = \"wechatpay\"\nmchid = \"1\"\napi_v3_key_file = \"secrets-example/wechatpay.apiv3\"\nplatform_keys = [{}]",
    ));
    assert_eq!(all.len(), 2, "{all:#?}");
    assert!(
        all[0].starts_with("11:18 `file` is missing") && all[1].starts_with("11:18 `serial` is missing"),
        "{all:#?}"
    );
}

#[test]
fn a_fee_is_kept_exactly_as_written() {
    let stripe = "provider = \"stripe\"\nsecret_files = [\"secrets-example/stripe.whsec\"]\n";
    let fee =
        |fee: &str| meant(&channel(&format!("{stripe}fee = {fee}"))).ledger.expect("a ledger").channels[0].fee.clone();
    for (written, percent) in [
        ("0.6", "0.6"),
        ("\"0.6\"", "0.6"),
        ("3", "3"),
        ("100", "100"),
        ("\"0.123456789012345678\"", "0.123456789012345678"),
    ] {
        let fee = fee(&format!("{{ percent = {written} }}")).expect("a fee");
        assert_eq!(fee.percent, percent.parse::<Decimal>().expect("a number"));
    }
    assert_eq!(fee("{ percent = 0, fixed_minor = 0, minimum_minor = 0, rounding = \"half_even\" }"), None);
    assert_eq!(fee("{ minimum_minor = 1, rounding = \"down\" }").map(|fee| fee.rounding), Some(Rounding::Down));
    let hint = "a number of percent from 0 to 100";
    for (written, expected) in [
        ("percent = -0.1", format!("`-1e-1` is out of range -> {hint}")),
        ("percent = 100.01", format!("`1.0001e2` is out of range -> {hint}")),
        ("percent = \"101\"", format!("`101` is out of range -> {hint}")),
        ("percent = -1", format!("`-1` is out of range -> {hint}")),
        ("percent = nan", format!("`NaN` is out of range -> {hint}")),
        (
            "percent = \"0,6\"",
            "`0,6` is no number of percent that can be kept exactly -> write its digits, at most 28 of them, such as \
             \"0.6\""
                .to_owned(),
        ),
        (
            "percent = 0.1234567890123456",
            "`0.1234567890123456` has more digits than a float keeps -> write it in quotes, so that every digit is kept: \
             percent = \"0.6\""
                .to_owned(),
        ),
        (
            "percent = true",
            "expected a number of percent, found boolean `true` -> such as 0.6 or \"0.6\"".to_owned(),
        ),
    ] {
        tells(&channel(&format!("{stripe}fee = {{ {written} }}")), &[&format!("10:19 {expected}")]);
    }
    tells(
        &channel(&format!(
            "{stripe}fee = {{ fixed_minor = -1, minimum_minor = 9007199254740992, rounding = \"even\" }}"
        )),
        &[
            "10:23 `-1` is out of range -> a whole number from 0 to 9007199254740991",
            "10:43 `9007199254740992` is out of range -> a whole number from 0 to 9007199254740991",
            "10:72 `even` is not a way to round -> allowed: half_even, half_up, up, down",
        ],
    );
}

#[test]
fn a_provider_is_called_with_all_of_its_keys_or_not_at_all() {
    let stripe = "provider = \"stripe\"\nsecret_files = [\"secrets-example/stripe.whsec\"]\n";
    let key = "api_key_file = \"secrets-example/stripe.key\"\n";
    tells(
        &channel(&format!("{stripe}api_url = \"https://api.stripe.com\"")),
        &[
            "6:1 `api_key_file` is missing: `api_url` cannot be called without it -> add it, or take `api_url` out: then \
           stripe is never called",
        ],
    );
    tells(
        &channel(&format!("{stripe}{key}query_after = [\"1s\"]")),
        &[
            "10:16 `api_key_file` does nothing without `api_url` -> add api_url, or remove it",
            "11:15 `query_after` does nothing without `api_url` -> add api_url and the keys that go with it, or remove \
             `query_after`",
        ],
    );
    tells(
        &channel(&format!("{stripe}api_url = \"api.stripe.com\"\napi_key_file = \"secrets-example/stripe.whsec\"")),
        &[
            "10:11 `api.stripe.com` is not an address of http:// or https:// -> such as \"https://api.example.com\"",
            "11:16 this is the signing secret of an endpoint, which calls nothing -> the secret key of the account, which \
             begins with `sk_` or `rk_`",
        ],
    );
    tells(
        &channel(
            "provider = \"hmac\"\nsecret_files = [\"secrets-example/partner.hmac\"]\nheader = \"x\"\napi_url = \"http://h\"",
        ),
        &[&format!(
            "11:11 `api_url` is stripe's and alipay's and wechatpay's -> remove it: hmac has {}",
            "secret_files, header, algorithm, encoding, format, prefix, id_field, order_field, amount_field, amount_unit, \
             currency_field, kind_field and refund_field"
        )],
    );
}
