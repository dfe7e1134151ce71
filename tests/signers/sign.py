"""Signs and verifies callbacks with software that is not ours.

Speaks JSON lines: one request on standard input, one answer on standard output. The first line it writes holds the
public keys; all keys are made at its start and never leave it.

  {"provider": ..., "act": "sign", ...}    -> {"headers": {...}, "body": base64}
  {"provider": ..., "act": "verify", "headers": {...}, "body": base64, ...} -> {"ok": true | false}
"""

import base64
import datetime
import json
import logging
import sys
from urllib.parse import parse_qsl, quote_plus

import stripe
from alipay.aop.api.util import SignatureUtils
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from standardwebhooks.webhooks import Webhook
from wechatpayv3 import WeChatPay, WeChatPayType
from wechatpayv3.utils import rsa_sign

logging.disable(logging.CRITICAL)

KEYS = {name: rsa.generate_private_key(public_exponent=65537, key_size=2048) for name in ("first", "second")}
ED25519 = Ed25519PrivateKey.generate()


def encoded(data):
    return base64.b64encode(data).decode()


def private_pem(key, form):
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, plain).decode()


def public(key, encoding, form):
    return key.public_key().public_bytes(encoding, form)


def spki_pem(key):
    return public(key, serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def hello():
    pkcs1 = serialization.PublicFormat.PKCS1
    return {
        "rsa": {
            name: {"pem": spki_pem(key), "pkcs1": encoded(public(key, serialization.Encoding.DER, pkcs1))}
            for name, key in KEYS.items()
        },
        "ed25519": encoded(public(ED25519, serialization.Encoding.Raw, serialization.PublicFormat.Raw)),
    }


class Stripe:
    def sign(self, request):
        header = stripe.WebhookSignature.generate_signature_header(request["body"], request["secret"], request["time"])
        return {"Stripe-Signature": header, "Content-Type": "application/json"}, request["body"].encode()

    def verify(self, request, headers, body):
        return stripe.WebhookSignature.verify_header(body, headers["stripe-signature"], request["secret"], 300)


class StandardWebhooks:
    def sign(self, request):
        time = datetime.datetime.fromtimestamp(request["time"], tz=datetime.timezone.utc)
        if request["version"] == "v1":
            signature = Webhook(request["secret"]).sign(request["id"], time, request["body"])
        else:
            text = "{}.{}.{}".format(request["id"], request["time"], request["body"])
            signature = "v1a," + encoded(ED25519.sign(text.encode()))
        headers = {
            "webhook-id": request["id"],
            "webhook-timestamp": str(request["time"]),
            "webhook-signature": signature,
            "Content-Type": "application/json",
        }
        return headers, request["body"].encode()

    def verify(self, request, headers, body):
        Webhook(request["secret"]).verify(body, headers, json_parse=False)
        return True


class WechatPay:
    def sign(self, request):
        nonce, data = request["resource_nonce"], request.get("associated_data")
        ciphertext = AESGCM(request["api_v3_key"].encode()).encrypt(
            nonce.encode(), json.dumps(request["resource"], ensure_ascii=False).encode(), (data or "").encode()
        )
        resource = {
            "original_type": "transaction",
            "algorithm": "AEAD_AES_256_GCM",
            "ciphertext": encoded(ciphertext),
            "nonce": nonce,
        }
        if data is not None:
            resource["associated_data"] = data
        body = json.dumps(
            {
                "id": request["id"],
                "create_time": request["create_time"],
                "resource_type": "encrypt-resource",
                "event_type": request["event_type"],
                "summary": "支付成功",
                "resource": resource,
            },
            ensure_ascii=False,
        )
        text = "{}\n{}\n{}\n".format(request["time"], request["nonce"], body)
        headers = {
            "Wechatpay-Timestamp": str(request["time"]),
            "Wechatpay-Nonce": request["nonce"],
            "Wechatpay-Serial": request["serial"],
            "Wechatpay-Signature": rsa_sign(KEYS[request["key"]], text),
            "Wechatpay-Signature-Type": "WECHATPAY2-SHA256-RSA2048",
            "Content-Type": "application/json",
        }
        return headers, body.encode()

    def verify(self, request, headers, body):
        merchant = private_pem(KEYS["first"], serialization.PrivateFormat.PKCS8)
        pay = WeChatPay(
            wechatpay_type=WeChatPayType.NATIVE,
            mchid=request["mchid"],
            private_key=merchant,
            cert_serial_no="00",
            appid="wx",
            apiv3_key=request["api_v3_key"],
            public_key=spki_pem(KEYS[request["key"]]),
            public_key_id=request["serial"],
        )
        # Without a type it refuses, though WeChat Pay need not send one; and an unknown serial makes it go online.
        if headers["wechatpay-serial"] != request["serial"]:
            return False
        return bool(pay.callback(headers, body))


class Alipay:
    def sign(self, request):
        charset, fields = request["charset"], dict(request["fields"], charset=request["charset"])
        signed = dict(fields, sign_type=request["sign_type"]) if request["signs_type"] else fields
        text = SignatureUtils.get_sign_content(signed)
        private = private_pem(KEYS[request["key"]], serialization.PrivateFormat.TraditionalOpenSSL)
        sign = {"RSA2": SignatureUtils.sign_with_rsa2, "RSA": SignatureUtils.sign_with_rsa}[request["sign_type"]]
        fields = dict(fields, sign_type=request["sign_type"], sign=sign(private, text, charset))
        body = "&".join("{}={}".format(quote_plus(k), quote_plus(v, encoding=charset)) for k, v in fields.items())
        return {"Content-Type": "application/x-www-form-urlencoded; text/html; charset=" + charset}, body.encode()

    def verify(self, request, headers, body):
        pairs = parse_qsl(body.decode(), keep_blank_values=True, encoding=request["charset"], errors="strict")
        fields = dict(pairs)
        sign = fields.pop("sign")
        if not request["signs_type"]:
            fields.pop("sign_type", None)
        text = SignatureUtils.get_sign_content(fields).encode(request["charset"])
        return SignatureUtils.verify_with_rsa(spki_pem(KEYS[request["key"]]), text, sign)


PROVIDERS = {
    "stripe": Stripe(),
    "standardwebhooks": StandardWebhooks(),
    "wechatpay": WechatPay(),
    "alipay": Alipay(),
}


def answer(request):
    provider = PROVIDERS[request["provider"]]
    if request["act"] == "sign":
        headers, body = provider.sign(request)
        return {"headers": headers, "body": encoded(body)}
    headers = {name.lower(): value for name, value in request["headers"].items()}
    try:
        return {"ok": bool(provider.verify(request, headers, base64.b64decode(request["body"])))}
    except Exception as error:  # Libraries refuse by exceptions of every kind.
        return {"ok": False, "why": type(error).__name__}


def say(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    say(hello())
    for line in sys.stdin:
        say(answer(json.loads(line)))
