"""A stand-in for the APIs of Alipay, WeChat Pay and Stripe, which verifies requests by the providers' own libraries.

The first line on standard output is JSON: its port, our private key in two shapes, and its own public key. What it does
is told by POST /_control with JSON, each part optional:

  {"mode": {"alipay.create": "hang"}}       ok (the default), hang, down, garbage, forged, refuse, old, other, processing
  {"paid": "trade"} {"closed": "trade"}     the state of a trade
  {"refunded": "refund"}                    ends a refund that is being processed

GET /_log is what it was asked: {"calls": [{"name", "about", "key"}], "wrong": [text]}.
"""

import base64
import hashlib
import json
import logging
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

from alipay.aop.api.util import SignatureUtils
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from stripe._encode import _api_encode
from wechatpayv3.utils import build_authorization, rsa_sign

logging.disable(logging.CRITICAL)

OURS, ITS = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
PLAIN = serialization.NoEncryption()
PKCS1, PKCS8 = serialization.PrivateFormat.TraditionalOpenSSL, serialization.PrivateFormat.PKCS8
MCHID, SERIAL, APP_ID, API_KEY = "1900000001", "5157F09EFDC096DE15EBE81A47057A72", "2021000000000001", "sk_test_ours"
BILL = "\ufeff交易时间,公众账号ID\n`2026-11-30 10:00:00,`wx1\n".encode() * 2_000

STATE = {"mode": {}, "trades": {}, "refunds": {}, "sums": {}, "calls": [], "wrong": []}
LOCK = threading.Lock()


def pem(key, form):
    return key.private_bytes(serialization.Encoding.PEM, form, PLAIN).decode()


class Wrong(Exception):
    """A request that the provider's library would not have made."""


def must(condition, why):
    if not condition:
        raise Wrong(why)


def mode(name):
    return STATE["mode"].get(name, "ok")


def called(name, about, key=None):
    with LOCK:
        STATE["calls"].append({"name": name, "about": about, "key": key})


def refunded(number, state):
    with LOCK:
        return STATE["refunds"].setdefault(number, state)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body, headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.handle_any(b"")

    def do_POST(self):
        self.handle_any(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def handle_any(self, body):
        path = urlsplit(self.path).path
        if path == "/_log":
            with LOCK:
                text = json.dumps({"calls": STATE["calls"], "wrong": STATE["wrong"]})
            return self.answer(200, text.encode())
        if path == "/_control":
            return self.control(json.loads(body))
        try:
            if path == "/gateway.do":
                return self.alipay(body)
            if path.startswith("/v3/") or path == "/bill":
                return self.wechatpay(body)
            return self.stripe(body)
        except Wrong as why:
            STATE["wrong"].append(str(why))
            self.answer(401, b'{"code":"SIGN_ERROR"}')

    def control(self, told):
        with LOCK:
            STATE["mode"].update(told.get("mode", {}))
            for state in ("paid", "closed"):
                if state in told:
                    STATE["trades"][told[state]] = state
            if "refunded" in told:
                STATE["refunds"][told["refunded"]] = "SUCCESS"
        self.answer(200, b"{}")

    def fails(self, name):
        """What goes wrong before there is an answer."""
        match mode(name):
            case "hang":
                time.sleep(60)
                self.close_connection = True
            case "down":
                self.close_connection = True
            case "garbage":
                self.answer(200, b"<html>\xff\xfe not JSON")
            case _:
                return False
        return True

    # Alipay

    def alipay(self, body):
        must("charset=utf-8" in self.headers["Content-Type"], "no charset")
        fields = dict(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True))
        sign = fields.pop("sign")
        text = SignatureUtils.get_sign_content(fields)
        must(sign == SignatureUtils.sign_with_rsa2(pem(OURS, PKCS1), text, "utf-8"), "not signed as alipay-sdk does")
        must((fields["app_id"], fields["sign_type"], fields["version"]) == (APP_ID, "RSA2", "1.0"), "other fields")
        age = time.time() - time.mktime(time.strptime(fields["timestamp"], "%Y-%m-%d %H:%M:%S")) + 8 * 3600
        must(abs(age - time.timezone) < 600, "the time is not China's")
        method, content = fields["method"], json.loads(fields["biz_content"])
        name, trade = {
            "alipay.trade.precreate": "create",
            "alipay.trade.query": "query",
            "alipay.trade.refund": "refund",
            "alipay.trade.fastpay.refund.query": "query_refund",
        }[method], content["out_trade_no"]
        called("alipay." + name, content.get("out_request_no", trade))
        if self.fails("alipay." + name):
            return
        node = {"code": "10000", "msg": "Success", "out_trade_no": trade}
        state, how = STATE["trades"].get(trade), mode("alipay." + name)
        if how == "refuse":
            node = {"code": "40004", "msg": "Business Failed", "sub_code": "ACQ.INVALID_PARAMETER", "sub_msg": "参数无效"}
        elif name == "create":
            must(content["total_amount"] == "10.00" and content["subject"] and fields["notify_url"], "not an order")
            node["qr_code"] = "https://qr.alipay.com/" + trade
        elif name == "query":
            if state is None:
                node = {"code": "40004", "msg": "Business Failed", "sub_code": "ACQ.TRADE_NOT_EXIST", "sub_msg": "不存在"}
            else:
                node |= {"trade_no": "pay-" + trade, "total_amount": "10.00"}
                node["trade_status"] = {"paid": "TRADE_SUCCESS", "closed": "TRADE_CLOSED"}[state]
                if state == "paid":
                    node["send_pay_date"] = "2026-01-02 11:04:05"
        elif name == "refund":
            number, amount = content["out_request_no"], round(float(content["refund_amount"]) * 100)
            is_new = number not in STATE["refunds"]
            refunded(number, "SUCCESS")
            STATE["sums"][trade] = STATE["sums"].get(trade, 0) + (amount if is_new else 0)
            node |= {"trade_no": "pay-" + trade, "refund_fee": "%.2f" % (STATE["sums"][trade] / 100)}
            node["fund_change"] = "N" if how == "processing" else "Y"
            STATE["refunds"][number + "/amount"] = content["refund_amount"]
        else:
            number = content["out_request_no"]
            node |= {"trade_no": "pay-" + trade, "out_request_no": number}
            if STATE["refunds"].get(number) == "SUCCESS" and how != "processing":
                amount = STATE["refunds"][number + "/amount"]
                node |= {"refund_status": "REFUND_SUCCESS", "refund_amount": amount, "total_amount": "10.00"}
        if how == "other":
            node["out_trade_no"] = "another"
        text = json.dumps(node, ensure_ascii=False)
        sign = SignatureUtils.sign_with_rsa2(pem(OURS if how == "forged" else ITS, PKCS1), text, "utf-8")
        answer = '{"%s_response":%s,"sign":"%s"}' % (method.replace(".", "_"), text, sign)
        self.answer(200, answer.encode(), [("Content-Type", "application/json;charset=utf-8")])

    # WeChat Pay

    def wechatpay(self, body):
        scheme, rest = self.headers["Authorization"].split(" ", 1)
        parts = dict(part.split("=", 1) for part in rest.split(","))
        parts = {name: value.strip('"') for name, value in parts.items()}
        must((parts["mchid"], parts["serial_no"]) == (MCHID, SERIAL), "another merchant")
        must(abs(time.time() - int(parts["timestamp"])) < 300, "another time")
        data = body.decode() if body else None
        theirs = build_authorization(
            self.path, self.command, MCHID, SERIAL, OURS, data=data, nonce_str=parts["nonce_str"]
        )
        # The library signs at its own time, so its signer signs the same text at ours.
        text = "%s\n%s\n%s\n%s\n%s\n" % (self.command, self.path, parts["timestamp"], parts["nonce_str"], data or "")
        must(parts["signature"] == rsa_sign(OURS, text), "not signed as wechatpayv3 does")
        must(theirs.split(" ")[0] == scheme, "another scheme")
        path, query = urlsplit(self.path).path, dict(parse_qsl(urlsplit(self.path).query))
        if path == "/bill":
            called("wechatpay.download", query["token"])
            return self.answer(200, BILL[:-1] + b"x" if mode("wechatpay.bill") == "forged" else BILL)
        if path == "/v3/bill/tradebill":
            called("wechatpay.bill", query["bill_date"])
            url = "http://%s/bill?token=%s" % (self.headers["Host"], query["bill_date"])
            if mode("wechatpay.bill") == "other":
                url = url.replace("127.0.0.1", "localhost")
            return self.signed(200, {
                "hash_type": "SHA1", "hash_value": hashlib.sha1(BILL).hexdigest(), "download_url": url,
            }, mode("wechatpay.bill"))
        last = unquote(path.rsplit("/", 1)[1])
        if path == "/v3/pay/transactions/native":
            name, sent = "create", json.loads(body)
            about = sent["out_trade_no"]
            must(sent["mchid"] == MCHID and sent["appid"] and sent["description"] and sent["notify_url"], "no order")
            must(sent["amount"] == {"total": 1000, "currency": "CNY"}, "another amount")
        elif path == "/v3/refund/domestic/refunds":
            name, sent = "refund", json.loads(body)
            about = sent["out_refund_no"]
            must(sent["amount"]["total"] == 1000 and sent["amount"]["currency"] == "CNY", "another amount")
        else:
            name, about = ("query" if "transactions" in path else "query_refund"), last
            must(name != "query" or query == {"mchid": MCHID}, "no mchid")
        called("wechatpay." + name, about)
        if self.fails("wechatpay." + name):
            return
        how = mode("wechatpay." + name)
        if how == "refuse":
            return self.signed(400, {"code": "PARAM_ERROR", "message": "参数错误"}, how)
        if name == "create":
            return self.signed(200, {"code_url": "weixin://wxpay/bizpayurl?pr=" + about}, how)
        if name == "query":
            states = {None: "NOTPAY", "paid": "SUCCESS", "closed": "CLOSED"}
            node = {"mchid": MCHID, "out_trade_no": about, "trade_state": states[STATE["trades"].get(about)]}
            if node["trade_state"] == "SUCCESS":
                node |= {"transaction_id": "pay-" + about, "success_time": "2026-01-02T11:04:05+08:00"}
                node["amount"] = {"total": 1000, "currency": "CNY", "payer_total": 1000}
            return self.signed(200, node, how)
        state = refunded(about, "PROCESSING" if how == "processing" else "SUCCESS")
        if name == "refund":
            STATE["refunds"][about + "/sent"] = sent
        sent = STATE["refunds"][about + "/sent"]
        self.signed(200, {
            "refund_id": "refund-" + about, "out_refund_no": about, "transaction_id": sent["transaction_id"],
            "out_trade_no": sent["transaction_id"].removeprefix("pay-"), "status": state,
            "success_time": "2026-01-03T11:04:05+08:00",
            "amount": {"total": 1000, "refund": sent["amount"]["refund"], "currency": "CNY"},
        }, how)

    def signed(self, status, node, how):
        if how == "other":
            node = {name: "another" if name.startswith("out_") else value for name, value in node.items()}
        body = json.dumps(node, ensure_ascii=False)
        now, nonce = str(int(time.time()) - (301 if how == "old" else 0)), "593BEC0C930BF1AFEB40B4A08C8FB242"
        signature = rsa_sign(OURS if how == "forged" else ITS, "%s\n%s\n%s\n" % (now, nonce, body))
        self.answer(status, body.encode(), [
            ("Wechatpay-Timestamp", now), ("Wechatpay-Nonce", nonce), ("Wechatpay-Signature", signature),
            ("Wechatpay-Serial", "STAND_IN"), ("Content-Type", "application/json"),
        ])

    # Stripe

    def stripe(self, body):
        must(self.headers["Authorization"] == "Bearer " + API_KEY, "another key")
        fields, path = dict(parse_qsl(body.decode(), strict_parsing=bool(body))), self.path
        key = self.headers.get("Idempotency-Key")
        if path == "/v1/payment_intents":
            name, about = "create", fields["metadata[out_trade_no]"]
            theirs = {"amount": 1000, "currency": "usd", "automatic_payment_methods": {"enabled": True},
                      "metadata": {"out_trade_no": about}}
            must(fields == {name: str(value) for name, value in _api_encode(theirs)}, "not encoded as stripe does")
        elif path == "/v1/refunds":
            name, about = "refund", fields["metadata[out_refund_no]"]
            theirs = {"payment_intent": fields["payment_intent"], "amount": int(fields["amount"]),
                      "metadata": {"out_refund_no": about}}
            must(fields == {name: str(value) for name, value in _api_encode(theirs)}, "not encoded as stripe does")
        else:
            name = "query" if "payment_intents" in path else "query_refund"
            about = path.rsplit("/", 1)[1].removeprefix("pi_").removeprefix("re_")
        must(key is not None or body == b"", "no Idempotency-Key")
        called("stripe." + name, about, key)
        if self.fails("stripe." + name):
            return
        how = mode("stripe." + name)
        if how == "refuse":
            error = {"type": "invalid_request_error", "code": "amount_too_small", "message": "Amount too small."}
            return self.answer(400, json.dumps({"error": error}).encode())
        if name in ("create", "query"):
            states = {None: "requires_payment_method", "paid": "succeeded", "closed": "canceled"}
            state = states[STATE["trades"].get(about)]
            node = {"id": "pi_" + about, "object": "payment_intent", "amount": 1000, "currency": "usd", "status": state,
                    "amount_received": 1000 if state == "succeeded" else 0, "metadata": {"out_trade_no": about},
                    "client_secret": "pi_%s_secret_x" % about}
        else:
            state = refunded(about, "PROCESSING" if how == "processing" else "SUCCESS")
            if name == "refund":
                STATE["refunds"][about + "/sent"] = fields
            sent = STATE["refunds"][about + "/sent"]
            words = {"PROCESSING": "pending", "SUCCESS": "succeeded"}
            node = {"id": "re_" + about, "object": "refund", "amount": int(sent["amount"]), "currency": "usd",
                    "status": words[state], "payment_intent": sent["payment_intent"],
                    "metadata": {"out_refund_no": about}}
        if how == "other":
            node["metadata"] = {"out_trade_no": "another", "out_refund_no": "another"}
        self.answer(200, json.dumps(node).encode(), [("Content-Type", "application/json")])


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    print(json.dumps({
        "port": server.server_address[1],
        "bare": base64.b64encode(OURS.private_bytes(serialization.Encoding.DER, PKCS1, PLAIN)).decode(),
        "pem": pem(OURS, PKCS8),
        "public": ITS.public_key().public_bytes(serialization.Encoding.PEM, spki).decode(),
    }), flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), server.shutdown()), daemon=True).start()
    server.serve_forever()
