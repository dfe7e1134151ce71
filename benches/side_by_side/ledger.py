"""`scripts/bench --ledger`: how fast the ledger is, on SQLite and on PostgreSQL, and its cost beside the least work.

A third each Alipay (RSA-2048), WeChat Pay (RSA-2048) and Stripe, one sending in twenty a repetition, one hot merchant.
Exit code 0: valid, and every requirement held; 1: invalid, or one did not; 2: wrong use. The table goes to standard
output only when the run is valid. The ledger has a core, or cores, to itself (--core), the load the others;
PostgreSQL's server is on all.
"""

import argparse
import datetime
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ledger_parts import STORES, Ledger, Load, Sqlite, WriteAndSync, compile_layer, make_secrets, run
from machine import Invalid, busy_of, describe, split_cores
from table import markdown

SENDERS = 64
SLOW_MS = 5
LEAST_BATCH, LEAST_SPEEDUP = 16, 10
MOST_RATIO = {"sqlite": 2.0, "postgres": 2.5}
FIRST_GUESS = 8000  # callbacks a second, until one was measured: too few end the load within the warm-up
NOISE = 0.05  # of the ledger's core, used by others
DRAIN = 60  # seconds for the merchant to have everything after the load has ended

NOTES = """\
*64, 1*: callbacks a second with so many senders, each waiting for its answer. *per commit*: callbacks with rows in a
commit, with 64. *CPU*: the ledger process's user and system time a callback with 64 senders, until the merchant has all
events (in brackets: within the load's time, by whose end so much was delivered). *base*: one thread that verifies,
normalises, encrypts and inserts the same rows 64 a transaction, with nothing else. On PostgreSQL both are the client's CPU;
the requirement is of client and server together.
*open loop*: at half of the rate of 64, from when a callback was due; the bound is 50 ms + 3 × p99 of appending 8 KiB and
syncing them on the same disk meanwhile. *slow sync*: where each sync takes 5 ms more, the rate of 64 to that of 1."""


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench --ledger", description=__doc__.split("\n\n")[0])
    parser.add_argument("--ledger", action="store_true", help="this mode")
    parser.add_argument("--store", choices=[*STORES, "both"], default="both")
    parser.add_argument("--seconds", type=float, default=10, help="of each closed loop (default: 10)")
    parser.add_argument("--open-seconds", type=float, default=60, help="of the open loop (default: 60)")
    parser.add_argument("--warm-up", type=float, default=1, help="seconds of load before each (default: 1)")
    parser.add_argument("--only", default="peak,single,base,open,slow",
                        help="which measurements, of peak,single,base,open,slow (default: all)")
    parser.add_argument("--core", help="core of the ledger, or cores, as 0,1 (default: the first one)")
    parser.add_argument("--json", metavar="FILE", help="write every figure there")
    parser.add_argument("--tollgate", metavar="PATH", help="a gateway that is built already (default: build it)")
    parser.add_argument("--load", metavar="PATH", help="a benches/ledger that is built already (default: build it)")
    parser.add_argument("--profile", metavar="FOLDER", help="record the ledger by perf with 64 senders, into here")
    options = parser.parse_args()
    if min(options.seconds, options.open_seconds, options.warm_up) <= 0:
        parser.error("seconds must be above zero")
    options.parts = set(options.only.split(","))
    if not options.parts <= {"peak", "single", "base", "open", "slow"}:
        parser.error("--only knows peak, single, base, open and slow")
    options.stores = list(STORES) if options.store == "both" else [options.store]
    options.mine, options.others = split_cores(options.core)
    return options


class Bench:
    """A run: its load, its keys, its folder, and what was wrong in it."""

    def __init__(self, options, folder, load, say):
        self.options, self.folder, self.load, self.say = options, folder, load, say
        self.library = compile_layer(Path(__file__).resolve().parents[2])
        self.problems, self.warnings, self.number = [], [], 0
        self.rows = None  # the SQLite file of a run, for the base

    def place(self):
        self.number += 1
        folder = self.folder / str(self.number)
        folder.mkdir()
        return folder

    def ledger(self, store, folder):
        options = self.options
        return Ledger(options.tollgate, store, self.folder / "secrets", self.load.merchant, options.mine, folder)

    def wrong(self, where, problems):
        self.problems += [f"{where}: {problem}" for problem in problems]

    def closed(self, key, senders, seconds, guess, slow=0, keep=False, profile=None):
        """A closed loop on a fresh ledger; its figures."""
        label = f"{STORES[key].label}, {senders} senders{', slow syncs' if slow else ''}"
        self.load.sign((seconds + self.options.warm_up) * guess)
        folder = self.place()
        with STORES[key](folder, self.library, slow) as store:
            with self.ledger(store, folder) as ledger:
                warm = self.load.closed(ledger.port, senders, self.options.warm_up)
                self.drain(ledger)
                before, outcomes, cpu, server = ledger.metrics(), ledger.outcomes(), ledger.cpu(), store.cpu()
                syncs, busy = store.disk.syncs() if store.disk else 0, busy_of(self.options.mine)
                recorder = record(ledger, profile) if profile else None
                found = self.load.closed(ledger.port, senders, seconds)
                within, busy = ledger.cpu() - cpu, busy_of(self.options.mine) - busy
                if recorder:
                    recorder.send_signal(signal.SIGINT)
                    recorder.wait()
                after = ledger.metrics()
                found |= {"syncs": (store.disk.syncs() - syncs) if store.disk else None, "warm": warm}
                drained = self.drain(ledger)
                cpu = ledger.cpu() - cpu
                found["server_us"] = (store.cpu() - server) / max(found["answers"], 1) * 1e6
                found |= counted(found, before, after, within, cpu, drained)
                found["foreign"] = max(0.0, busy - within) / found["seconds"] / len(self.options.mine)
                self.wrong(label, faults(found, outcomes, ledger.outcomes(), warm))
                if found["foreign"] > NOISE:
                    self.warnings.append(f"{label}: others used {found['foreign']:.0%} of its core")
            if keep and key == "sqlite":
                run([self.options.tollgate, "ledger", "verify", "-c", folder / "tollgate.toml"])
                self.rows = folder / "state/ledger.db"
        if not keep:
            shutil.rmtree(folder)
        self.say(f"bench: {label}: {found['per_second']:,.0f}/s over {found['seconds']:.1f} s, p50 "
                 f"{found['p50_us'] / 1000:.1f} ms, p99 {found['p99_us'] / 1000:.1f} ms, {found['per_commit']:.1f} per "
                 f"commit, {found['cpu_us']:.0f} µs CPU ({found['cpu_within_us']:.0f} within, server "
                 f"{found['server_us']:.0f}), {found['delivered_share']:.0%} delivered")
        return found

    def drain(self, ledger):
        """Waits until the merchant has everything; whether it has."""
        until, last = time.monotonic() + DRAIN, -1
        while time.monotonic() < until:
            now = self.load.delivered()
            pending = ledger.metrics().get("tollgate_ledger_outbox_pending", 0)
            if now == last and not pending:
                return True
            last = now
            time.sleep(0.3)
        return False

    def base(self, key):
        folder = self.place()
        with STORES[key](folder) as store:
            url = f"sqlite:{folder / 'base.db'}" if key == "sqlite" else store.url
            command = ["taskset", "-c", ",".join(map(str, sorted(self.options.mine))), self.options.load, "base",
                       self.folder / "secrets", self.rows, url]
            server = store.cpu()
            found = json.loads(run(command))
            # With the tables' making, which is little.
            found["server_us"] = (store.cpu() - server) / found["inserted"] * 1e6
        shutil.rmtree(folder)
        self.say(f"bench: {STORES[key].label}, base: {found['base_us']:.0f} µs: verify {found['verify_us']:.0f}, "
                 f"encrypt {found['encrypt_us']:.0f}, insert {found['insert_us']:.0f} "
                 f"({found['rows_per_callback']:.1f} rows)")
        return found

    def open(self, key, rate):
        """An open loop on a fresh ledger, beside a write-and-sync loop on its disk."""
        label, seconds = f"{STORES[key].label}, open loop", self.options.open_seconds
        self.load.sign(rate * (seconds + 2 * self.options.warm_up) * 1.05 + 1000)
        folder = self.place()
        with STORES[key](folder) as store, self.ledger(store, folder) as ledger:
            warm = self.load.open(ledger.port, rate, self.options.warm_up)
            outcomes, cpu = ledger.outcomes(), ledger.cpu()
            with WriteAndSync(store.synced()) as loop:
                found = self.load.open(ledger.port, rate, seconds)
            cpu = ledger.cpu() - cpu
            found |= {"rate": rate, "sync_p99_ms": loop.p99_ms(), "cpu_us": cpu / max(found["answers"], 1) * 1e6}
            found["bound_ms"] = 50 + 3 * found["sync_p99_ms"]
            problems = faults(found, outcomes, ledger.outcomes(), warm)
            if found["answers"] < 0.98 * rate * seconds:
                problems.append(f"{found['answers']} answers instead of {rate * seconds:.0f}")
            self.wrong(label, problems)
        shutil.rmtree(folder)
        self.say(f"bench: {label}: {rate:,.0f}/s, p50 {found['p50_us'] / 1000:.1f} ms, p99 "
                 f"{found['p99_us'] / 1000:.1f} ms, max {found['max_us'] / 1000:.1f} ms; bound {found['bound_ms']:.1f} ms")
        return found

    def store(self, key):
        """Everything of a store."""
        options, parts, found = self.options, self.options.parts, {}
        first = self.closed(key, SENDERS, min(2, options.seconds), FIRST_GUESS)["per_second"]
        guess = first * 1.3
        profile = Path(options.profile) / f"{key}.perf" if options.profile else None
        found["peak"] = self.closed(key, SENDERS, options.seconds, guess, keep=True, profile=profile)
        if "base" in parts:
            if self.rows is None:
                self.closed("sqlite", SENDERS, min(3, options.seconds), FIRST_GUESS, keep=True)
            found["base"] = self.base(key)
        if "single" in parts:
            found["single"] = self.closed(key, 1, options.seconds, min(guess, 2500))
        if "slow" in parts:
            found["slow"] = self.closed(key, SENDERS, options.seconds, guess, slow=SLOW_MS)
            found["slow_single"] = self.closed(key, 1, options.seconds, 300, slow=SLOW_MS)
        if "open" in parts:
            found["open"] = self.open(key, found["peak"]["per_second"] / 2)
        return found


def record(ledger, path):
    """perf over the ledger's process; ended by an interrupt."""
    path.parent.mkdir(parents=True, exist_ok=True)
    command = ["perf", "record", "-q", "-F", "999", "-g", "-p", str(ledger.child.pid), "-o", str(path)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def counted(found, before, after, within, cpu, drained):
    """What the ledger counted, and its CPU, for each answered callback."""
    def risen(name):
        return after.get(f"tollgate_ledger_{name}", 0) - before.get(f"tollgate_ledger_{name}", 0)

    batches, commits = risen("batch_callbacks_count"), risen("commit_seconds_count")
    callbacks, answers = risen("batch_callbacks_sum"), max(found["answers"], 1)
    fresh = max(found["answers"] - found["repeats"], 1)
    return {"batches": batches, "commits": commits, "per_commit": callbacks / max(batches, 1),
            "per_any_commit": callbacks / max(commits, 1),
            "commit_ms": risen("commit_seconds_sum") / max(commits, 1) * 1000, "cpu_within_us": within / answers * 1e6, "cpu_us": cpu / answers * 1e6, "drained": drained,
            "delivered_share": found["delivered"] / fresh}


def faults(found, before, after, warm):
    """Why a run does not count."""
    problems = []
    for seen in (warm, found):
        if seen["problems"]:
            problems.append(f"{seen['problems']} answers were no success: {seen['first_problems']}")
    if not found["answers"]:
        raise Invalid(f"nothing was answered: {found['first_problems']}")
    risen = {outcome: after[outcome] - before.get(outcome, 0) for outcome in after}
    wanted = {"posted": found["answers"] - found["repeats"], "duplicate": found["repeats"]}
    if {outcome: count for outcome, count in risen.items() if count} != {k: v for k, v in wanted.items() if v}:
        problems.append(f"the ledger counts {risen}, the senders {wanted}")
    if found.get("drained") is False:
        problems.append(f"the merchant did not have all events {DRAIN} s later")
    return problems


def verdicts(key, found):
    """(requirement, held or not, figures) of a store."""
    peak, label = found["peak"], STORES[key].label
    said = [(f"{label}: at least {LEAST_BATCH} callbacks per commit with {SENDERS} senders",
             peak["per_commit"] >= LEAST_BATCH, f"{peak['per_commit']:.1f}")]
    if "slow" in found:
        ratio = found["slow"]["per_second"] / found["slow_single"]["per_second"]
        said.append((f"{label}: at least {LEAST_SPEEDUP} times one sender's rate where a sync takes {SLOW_MS} ms",
                     ratio >= LEAST_SPEEDUP, f"{ratio:.1f}"))
    if "base" in found:
        ratio = peak["cpu_us"] / found["base"]["base_us"]
        figures, what = f"{ratio:.2f}", "CPU"
        if key == "postgres":
            client, what = ratio, "CPU, with the server's own on both sides,"
            ratio = (peak["cpu_us"] + peak["server_us"]) / (found["base"]["base_us"] + found["base"]["server_us"])
            figures = (f"{ratio:.2f} ({peak['server_us']:.0f} and {found['base']['server_us']:.0f} µs in the server; the "
                       f"client alone: {client:.2f})")
        said.append((f"{label}: {what} at most {MOST_RATIO[key]} times the base", ratio <= MOST_RATIO[key], figures))
    if "open" in found:
        p99, bound = found["open"]["p99_us"] / 1000, found["open"]["bound_ms"]
        figures = f"{p99:.1f} of {bound:.1f} ms"
        said.append((f"{label}: p99 at half of the peak within its bound", p99 <= bound, figures))
    return said


def shown(results):
    heads = ["store", "64 /s", "1 /s", "per commit", "CPU µs", "base µs", "ratio", "open loop /s", "p50 ms", "p99 ms",
             "bound ms", "slow sync 64 /s", "1 /s", "64 to 1"]
    rows = []
    for key, found in results.items():
        peak, base, opened = found["peak"], found.get("base"), found.get("open")
        single, slow, one = found.get("single"), found.get("slow"), found.get("slow_single")
        rows.append([
            STORES[key].label, f"{peak['per_second']:,.0f}", f"{single['per_second']:,.0f}" if single else "–",
            f"{peak['per_commit']:.1f}",
            f"{peak['cpu_us']:.0f} ({peak['cpu_within_us']:.0f}, {peak['delivered_share']:.0%})",
            f"{base['base_us']:.0f}" if base else "–", f"{peak['cpu_us'] / base['base_us']:.2f}" if base else "–",
            *([f"{opened['rate']:,.0f}", f"{opened['p50_us'] / 1000:.1f}", f"{opened['p99_us'] / 1000:.1f}",
               f"{opened['bound_ms']:.1f}"] if opened else ["–"] * 4),
            *([f"{slow['per_second']:,.0f}", f"{one['per_second']:,.0f}",
               f"{slow['per_second'] / one['per_second']:.1f}"] if slow else ["–"] * 3)])
    return markdown(heads, rows)


def caption(record):
    machine = record["machine"]
    lines = [f"`{record['command']}` at {record['revision']}, {record['date']}; {machine['cpu']}, {machine['cores']} "
             f"cores, Linux {machine['kernel']}.", "", NOTES, ""]
    lines += [f"- {what}: {figures}: {'held' if held else 'MISSED'}" for what, held, figures in record["verdicts"]]
    return "\n".join(lines)


def measure(options, root, say):
    git = subprocess.run(["git", "-C", root, "describe", "--always", "--dirty"], capture_output=True, text=True)
    record = {"mode": "ledger", "command": " ".join(["scripts/bench", *map(shlex.quote, sys.argv[1:])]),
              "revision": git.stdout.strip() or "no revision", "date": datetime.date.today().isoformat(),
              "machine": describe()}
    with tempfile.TemporaryDirectory(prefix="tollgate-bench-") as temporary:
        folder = Path(temporary)
        make_secrets(folder / "secrets")
        with Load(options.load, folder / "secrets", options.others) as load:
            bench = Bench(options, folder, load, say)
            results = {key: bench.store(key) for key in options.stores}
    said = [verdict for key, found in results.items() for verdict in verdicts(key, found)]
    missed = [f"{what}: {figures}" for what, held, figures in said if not held]
    record |= {"results": results, "verdicts": said, "missed": missed, "problems": bench.problems,
               "warnings": bench.warnings, "valid": not bench.problems}
    if options.json:
        Path(options.json).write_text(json.dumps(record, indent=1) + "\n")
    for warning in bench.warnings:
        say(f"bench: noise: {warning}")
    for problem in bench.problems:
        say(f"bench: INVALID: {problem}")
    print(f"{shown(results)}\n\n{caption(record)}", file=sys.stderr if bench.problems else sys.stdout)
    for one in missed:
        say(f"bench: MISSED: {one}")
    return 1 if bench.problems or missed else 0


def main(root, build, say):
    """`build(kind, name)` builds a target of the release profile; the exit code."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        for name, (kind, target) in {"tollgate": ("bin", "tollgate"), "load": ("bench", "ledger")}.items():
            given = getattr(options, name)
            path = os.path.abspath(given) if given else build(kind, target)
            if not os.access(path, os.X_OK):
                raise SystemExit(f"bench: {path} is not there, or not executable")
            setattr(options, name, path)
        os.sched_setaffinity(0, options.others)
        return measure(options, root, say)
    except Invalid as invalid:
        say(f"bench: INVALID: {invalid}")
        return 1
    except KeyboardInterrupt:
        say("bench: stopped")
        return 130
