"""`scripts/bench --ledger-scale`: a ledger on a store of many transactions, while its books are verified.

The store is filled by `ledger fill` (benches/ledger/fill.rs). Then: how long a start takes; how long a verification of
everything takes, and what memory; callbacks at a fixed rate, quiet and while everything is verified, as at each start
and once a day (the hourly one reads only what is new); the first pages of the API meanwhile; their plans. Exit code 0:
valid, and every requirement held; 1: invalid, or one did not; 2: wrong use.
"""

import argparse
import datetime
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from ledger_parts import STORES, Ledger, Load, make_secrets, run
from machine import Invalid, describe, split_cores
from table import markdown

MORE_MS, WAL_MIB, RSS_MIB, PAGE_MS = 50, 256, 64, 10
PAGES = 500  # first pages of each kind
LONGEST = 6 * 3600  # seconds that a verification may take
MERCHANTS = ["shop", "m01", "corner", "nobody"]


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench --ledger-scale", description=__doc__.split("\n\n")[0])
    parser.add_argument("--ledger-scale", action="store_true", help="this mode")
    parser.add_argument("--store", choices=[*STORES, "both"], default="both")
    parser.add_argument("--transactions", type=int, default=1_000_000, help="rows of the store (default: a million)")
    parser.add_argument("--body", type=int, default=400, help="bytes of a stored callback (default: 400)")
    parser.add_argument("--rate", type=float, default=1000, help="callbacks a second (default: 1000)")
    parser.add_argument("--seconds", type=float, default=60, help="of each load (default: 60)")
    parser.add_argument("--at", metavar="FOLDER", help="where SQLite's store is kept and found again (default: nowhere)")
    parser.add_argument("--core", help="core of the ledger, or cores, as 0,1 (default: the first one)")
    parser.add_argument("--json", metavar="FILE", help="write every figure there")
    parser.add_argument("--tollgate", metavar="PATH", help="a gateway that is built already (default: build it)")
    parser.add_argument("--load", metavar="PATH", help="a benches/ledger that is built already (default: build it)")
    options = parser.parse_args()
    if min(options.seconds, options.rate, options.transactions) <= 0 or options.seconds > 200:
        parser.error("transactions and rate are above zero, seconds from 1 to 200")
    options.stores = list(STORES) if options.store == "both" else [options.store]
    options.mine, options.others = split_cores(options.core)
    return options


class Api:
    """The API, by the platform's token, on one connection."""

    def __init__(self, port, token):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.headers = {"authorization": f"Bearer {token}"}

    def get(self, path):
        self.connection.request("GET", path, headers=self.headers)
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise Invalid(f"{path}: {answer.status} {body.decode(errors='replace')}")
        return json.loads(body)


class Watch(threading.Thread):
    """The log's size, the memory, when the verification ended, and first pages, while it runs."""

    def __init__(self, ledger, token, payments, pages=True):
        super().__init__(daemon=True)
        self.ledger, self.api, self.pages = ledger, Api(ledger.port, token), pages
        self.payments, self.over = payments, threading.Event()
        self.began, self.verified, self.ok, self.why = time.monotonic(), None, None, None
        self.wal, self.rss = [0], []
        self.times = {"merchant": [], "out_trade_no": [], "status": [], "history": [], "balance": []}

    def run(self):
        try:
            log = self.ledger.folder / "state/ledger.db-wal"
            while not self.over.is_set():
                self.wal.append(log.stat().st_size if log.exists() else 0)
                self.rss.append(self.ledger.rss())
                if self.verified is None and (verified := self.api.get("/v1/integrity")["verified"]):
                    self.verified, self.ok = time.monotonic() - self.began, verified["ok"]
                if self.pages:
                    self.page()
                self.over.wait(0.05)
        except (Invalid, OSError, http.client.HTTPException) as error:
            self.why = f"the API: {error!r}"

    def page(self):
        number = f"order-{random.randrange(self.payments * 11 // 10):010}"
        for name, value in (("merchant", random.choice(MERCHANTS)), ("out_trade_no", number)):
            self.timed(name, f"/v1/{random.choice(['orders', 'transactions', 'events', 'anomalies'])}?{name}={value}")
        orders = self.api.get(f"/v1/orders?out_trade_no={number}")["data"]
        for order in orders[:1]:
            self.timed("status", f"/v1/orders/{order['id']}")
        account = random.choice(["liabilities:merchant:shop", "liabilities:merchant:m01"])
        self.timed("balance", f"/v1/accounts/{account}")
        found = self.timed("history", f"/v1/accounts/{account}/entries")
        if found["next"]:
            self.timed("history", f"/v1/accounts/{account}/entries?cursor={found['next']}")

    def timed(self, name, path):
        began = time.monotonic()
        found = self.api.get(path)
        self.times[name].append((time.monotonic() - began) * 1000)
        return found

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()

    def until_verified(self):
        while self.verified is None and self.why is None:
            if not self.ledger.running():
                raise Invalid(f"the ledger ended: {self.ledger.last_words()}")
            if time.monotonic() - self.began > LONGEST:
                raise Invalid("the books were not verified in time")
            time.sleep(0.05)

    def told(self):
        def p99(times):
            return round(sorted(times)[min(len(times) - 1, int(len(times) * 0.99))], 2) if times else None

        if self.why:
            raise Invalid(self.why)
        half = self.rss[len(self.rss) // 10:] or self.rss or [0]
        return {"verified_s": self.verified, "ok": self.ok, "wal_mib": max(self.wal) / 2**20,
                "rss_mib": max(half) / 2**20, "rss_growth_mib": (max(half) - half[0]) / 2**20,
                "pages": {name: {"asked": len(times), "p99_ms": p99(times), "max_ms": max(times, default=None)}
                          for name, times in self.times.items()}}


def fill(options, store, folder, say):
    url = store.url if store.key == "postgres" else f"sqlite:{folder / 'state/ledger.db'}"
    if store.key == "postgres" or not (folder / "state/ledger.db").exists():
        say(f"bench: {store.label}: filling with {options.transactions:,} transactions")
        command = [options.load, "fill", url, folder / "secrets/ledger.key", "--transactions", options.transactions,
                   "--body", options.body]
        done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise Invalid("the store was not filled; why stands above")
        say(f"bench: {store.label}: {done.stdout.strip()}")
    return url


def measure_store(key, options, folder, say):
    """Everything of a store."""
    if not (folder / "secrets").exists():
        make_secrets(folder / "secrets")
    token = (folder / "secrets/ledger.token").read_text().strip()
    found, rate, seconds = {}, options.rate, options.seconds
    with opened(key, folder) as store, Load(options.load, folder / "secrets", options.others) as load:
        url = fill(options, store, folder, say)

        def ledger():
            return Ledger(options.tollgate, store, folder / "secrets", load.merchant, options.mine, folder)

        began = time.monotonic()
        with ledger() as running:
            found["start_s"] = time.monotonic() - began
            with Watch(running, token, options.transactions, pages=False) as watch:
                watch.until_verified()
            found["alone"] = watch.told()
            asking = Watch(running, token, options.transactions)
            for _ in range(PAGES):
                asking.page()
            found["pages"] = asking.told()["pages"]
            load.sign(rate * (seconds + 2) * 1.05 + 1000)
            load.open(running.port, rate, 1)
            with Watch(running, token, options.transactions) as watch:
                found["quiet"] = load.open(running.port, rate, seconds)
            found["quiet"] |= watch.told()
        say(f"bench: {store.label}: start {found['start_s']:.2f} s, everything verified in "
            f"{found['alone']['verified_s']:.1f} s, quiet p99 {found['quiet']['p99_us'] / 1000:.1f} ms")
        load.sign(rate * (seconds + 2) * 1.05 + 1000)
        with ledger() as running, Watch(running, token, options.transactions) as watch:
            found["verifying"] = load.open(running.port, rate, seconds)
            found["load_s"] = time.monotonic() - watch.began
            watch.until_verified()
            watch.over.set()
            watch.join()
            found["verifying"] |= watch.told()
        say(f"bench: {store.label}: while everything is verified ({found['verifying']['verified_s']:.1f} s): p99 "
            f"{found['verifying']['p99_us'] / 1000:.1f} ms, log {found['verifying']['wal_mib']:.0f} MiB")
        found["plans"] = run([options.load, "plans", url])
    return found


def opened(key, folder):
    if key == "postgres":
        return STORES[key](folder)
    (folder / "state").mkdir(exist_ok=True)
    store = STORES[key].__new__(STORES[key])
    store.url, store.state, store.disk = "sqlite:ledger.db", folder / "state", None
    return store


def verdicts(key, found):
    label, quiet, under = STORES[key].label, found["quiet"], found["verifying"]
    more = (under["p99_us"] - quiet["p99_us"]) / 1000
    pages = [page["p99_ms"] for page in found["pages"].values()]
    loaded = max(page["p99_ms"] for run in (quiet, under) for page in run["pages"].values())
    said = [(f"{label}: p99 at most {MORE_MS} ms above the quiet one while everything is verified", more <= MORE_MS,
             f"{quiet['p99_us'] / 1000:.1f} → {under['p99_us'] / 1000:.1f} ms"),
            (f"{label}: memory flat: at most {RSS_MIB} MiB more within a verification",
             found["alone"]["rss_growth_mib"] <= RSS_MIB,
             f"{found['alone']['rss_growth_mib']:.1f} of {found['alone']['rss_mib']:.0f} MiB"),
            (f"{label}: first pages, an order's state, an account's history and balance under {PAGE_MS} ms at p99", max(pages) < PAGE_MS,
             f"{', '.join(f'{name} {p99} ms' for name, p99 in zip(found['pages'], pages))}; beside the load on these cores {loaded} ms"),
            (f"{label}: the books are whole", found["alone"]["ok"] and under["ok"], f"{under['verified_s']:.0f} s")]
    if key == "sqlite":
        said.append((f"{label}: log at most {WAL_MIB} MiB", under["wal_mib"] <= WAL_MIB, f"{under['wal_mib']:.0f} MiB"))
    return said


def shown(results):
    heads = ["store", "start s", "verified s", "µs each", "RSS MiB", "quiet p50 ms", "p99 ms", "verifying p50 ms",
             "p99 ms", "verified s", "log MiB", "RSS MiB", "page p99 ms"]
    rows = []
    for key, (found, transactions) in results.items():
        alone, quiet, under = found["alone"], found["quiet"], found["verifying"]
        rows.append([STORES[key].label, f"{found['start_s']:.2f}", f"{alone['verified_s']:.1f}",
                     f"{alone['verified_s'] / transactions * 1e6:.0f}", f"{alone['rss_mib']:.0f}",
                     f"{quiet['p50_us'] / 1000:.1f}", f"{quiet['p99_us'] / 1000:.1f}", f"{under['p50_us'] / 1000:.1f}",
                     f"{under['p99_us'] / 1000:.1f}", f"{under['verified_s']:.1f}", f"{under['wal_mib']:.0f}",
                     f"{under['rss_mib']:.0f}", f"{max(page['p99_ms'] for page in found['pages'].values()):.2f}"])
    return markdown(heads, rows)


def measure(options, root, say):
    git = subprocess.run(["git", "-C", root, "describe", "--always", "--dirty"], capture_output=True, text=True)
    record = {"mode": "ledger-scale", "transactions": options.transactions, "machine": describe(),
              "revision": git.stdout.strip() or "no revision", "date": datetime.date.today().isoformat()}
    results, problems = {}, []
    with tempfile.TemporaryDirectory(prefix="tollgate-bench-") as temporary:
        for key in options.stores:
            # A server of PostgreSQL's is a new one each time, and so is what stands beside it.
            place = options.at if options.at and key == "sqlite" else temporary
            folder = Path(place).resolve() / f"{key}-{options.transactions}"
            folder.mkdir(parents=True, exist_ok=True)
            found = measure_store(key, options, folder, say)
            results[key] = (found, options.transactions)
            for name in ("quiet", "verifying"):
                if found[name]["problems"]:
                    problems.append(f"{STORES[key].label}, {name}: {found[name]['problems']} answers were no success: "
                                    f"{found[name]['first_problems']}")
    said = [verdict for key, (found, _) in results.items() for verdict in verdicts(key, found)]
    missed = [what for what, held, _ in said if not held]
    record |= {"results": {key: found for key, (found, _) in results.items()}, "verdicts": said, "problems": problems}
    if options.json:
        Path(options.json).write_text(json.dumps(record, indent=1) + "\n")
    for problem in problems:
        say(f"bench: INVALID: {problem}")
    lines = [f"- {what}: {figures}: {'held' if held else 'MISSED'}" for what, held, figures in said]
    plans = [f"{STORES[key].label}:\n\n```\n{found['plans']}```" for key, (found, _) in results.items()]
    text = "\n\n".join([shown(results), "\n".join(lines), *plans])
    print(text, file=sys.stderr if problems else sys.stdout)
    return 1 if problems or missed else 0


def main(root, build, say):
    """`build(kind, name)` builds a target of the release profile; the exit code."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        for name, (kind, target) in {"tollgate": ("bin", "tollgate"), "load": ("bench", "ledger")}.items():
            given = getattr(options, name)
            setattr(options, name, os.path.abspath(given) if given else build(kind, target))
        os.sched_setaffinity(0, options.others)
        return measure(options, root, say)
    except Invalid as invalid:
        say(f"bench: INVALID: {invalid}")
        return 1
    except KeyboardInterrupt:
        say("bench: stopped")
        return 130
