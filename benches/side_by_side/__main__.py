"""`scripts/bench`: what Tollgate costs beside the bare Pingora proxy, nginx and HAProxy, on one core of one machine.

The table of CPU per request is the default; `--half` is latency at half of the peak rate while the configuration is
pushed, `--peak` failures at the peak while it is, and the other modes are said in `--help`. `--ledger` (ledger.py) and
`--ledger-scale` (ledger_scale.py) are benches of their own. Exit code 0: valid, and within `--limit` where one is given; 1: invalid or
above it; 2: wrong use. The table goes to standard output only when the run is valid. Linux, two cores.
"""

import argparse
import datetime
import json
import os
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import beside
import contenders
import instructions
import ledger
import ledger_scale
import others
import table
import works
from load import CONNECTIONS, H2_CONNECTIONS, H2_STREAMS, Origins
from machine import Invalid, describe, split_cores, version_of
from measure import measure
from pushes import pushes

ALL = contenders.ALL + others.ALL
ROOT = Path(__file__).resolve().parents[2]
NOISE = 0.05  # of the contender's core, used by others


def say(text):
    print(text, file=sys.stderr, flush=True)


def arguments():
    keys = [one.key for one in ALL]
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.split("\n\n")[0])
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--half", dest="mode", action="store_const", const="half", default="table",
                      help="latency at half of the peak rate, quiet and under pushes (needs h2load)")
    mode.add_argument("--peak", dest="mode", action="store_const", const="peak",
                      help="failures at the peak rate, quiet and under pushes")
    mode.add_argument("--instructions", dest="mode", action="store_const", const="instructions",
                      help="instructions of user space a request, by callgrind (needs valgrind)")
    mode.add_argument("--latency", dest="mode", action="store_const", const="latency",
                      help="latency at --share of the lowest peak of all rows (needs h2load)")
    mode.add_argument("--idle", type=int, metavar="N", help="memory of N connections that wait after an answer")
    mode.add_argument("--workers", dest="mode", action="store_const", const="workers",
                      help="CPU per request of one worker and of two, on all cores")
    mode.add_argument("--ledger", action="store_true", help="the payment ledger; its options: --ledger --help")
    mode.add_argument("--ledger-scale", action="store_true", help="the ledger on a store of many transactions")
    parser.add_argument("--rounds", type=int, help="rounds, interleaved (default: 5; --half: 3; --peak: 1)")
    parser.add_argument("--seconds", type=int, help="of each measurement (default: 4; --half: 20; --peak: 60)")
    parser.add_argument("--warm-up", type=int, default=1, help="seconds of load before each measurement (default: 1)")
    parser.add_argument("--routes", type=int, default=1000, help="routes of each configuration (default: 1000)")
    parser.add_argument("--threads", type=int, default=1, help="worker threads of each proxy (default: 1)")
    parser.add_argument("--core", help="core of the proxies, or cores, as 0,1 (default: the first one)")
    parser.add_argument("--work", default="get",
                        help=f"what is asked of them, one of {','.join(works.ALL)} (default: get)")
    parser.add_argument("--rows", help=f"which proxies, of {','.join(keys)} (default: all that are installed)")
    parser.add_argument("--push", type=float, default=10, help="configurations pushed a second (default: 10)")
    parser.add_argument("--share", type=float, default=50, help="percent of the peak rate for --half (default: 50)")
    parser.add_argument("--min-busy", type=float, default=0.6, metavar="SHARE",
                        help="a proxy that uses less of its core was not the bottleneck (default: 0.6)")
    parser.add_argument("--limit", type=float, metavar="RATIO", help="exit 1 when Tollgate's median ratio is above")
    parser.add_argument("--json", metavar="FILE", help="write every figure of every round there")
    parser.add_argument("--record", action="store_true",
                        help="append the medians to benches/record.jsonl, to see a request become dearer")
    parser.add_argument("--tollgate", metavar="PATH", help="a gateway that is built already (default: build it)")
    parser.add_argument("--bare", metavar="PATH", help="a bare proxy that is built already (default: build it)")
    options = parser.parse_args()
    options.mode = "idle" if options.idle else options.mode
    defaults = {"table": (5, 4), "half": (3, 20), "peak": (1, 60), "latency": (5, 10), "workers": (7, 3)}.get(options.mode, (1, 1))
    options.rounds, options.seconds = options.rounds or defaults[0], options.seconds or defaults[1]
    if min(options.rounds, options.seconds, options.warm_up, options.routes, options.threads) < 1 or options.push <= 0:
        parser.error("rounds, seconds, warm-up, routes, threads and push must be above zero")
    if options.work not in works.ALL:
        parser.error(f"--work knows {', '.join(works.ALL)}")
    options.work = works.ALL[options.work]
    if options.mode in ("half", "peak", "latency", "idle") and options.work.key != "get":
        parser.error("--half, --peak, --latency and --idle measure the work `get`")
    chosen = options.rows.split(",") if options.rows else None
    if chosen and not set(chosen) <= set(keys):
        parser.error(f"--rows knows {', '.join(keys)}")
    options.chosen = [one for one in ALL if chosen is None or one.key in chosen]
    if options.work.tls:
        options.chosen = [one for one in options.chosen if one.speaks_tls]
    if options.mode in ("half", "peak"):
        options.chosen = [contenders.Tollgate]
    if options.mode in ("latency", "idle", "workers") and not chosen:
        options.chosen = [contenders.Tollgate, contenders.Nginx]
    if options.mode == "instructions" and options.work.http2:
        parser.error("--instructions speaks HTTP/1.1 to the proxies")
    for name in sorted({one.command_name for one in options.chosen if one.command_name}):
        if shutil.which(name) is None:
            if chosen and options.mode in ("table", "instructions"):
                parser.error(f"{name} is not installed")
            say(f"bench: {name} is not installed: no row for it")
            options.chosen = [one for one in options.chosen if one.command_name != name]
    options.mine, options.others = split_cores(options.core)
    if options.mode == "workers":
        options.mine = options.others = options.mine | options.others
        options.min_busy = 0
    return options


def build(kind, name):
    """Builds a target with the release profile; the path of its executable."""
    command = ["cargo", "build", "--release", f"--{kind}", name, "--message-format=json-render-diagnostics"]
    say(f"bench: {' '.join(command[:-1])}")
    if shutil.which("cargo") is None:
        raise SystemExit("bench: cargo is missing; install Rust: https://rustup.rs")
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE)
    if done.returncode:
        raise SystemExit(1)
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message["target"]["name"] == name and message["executable"]:
            return message["executable"]
    raise SystemExit(f"bench: cargo built no {name}")


def binaries(options):
    keys = {one.key for one in options.chosen}
    for key, kind in (("bare", "bench"), ("tollgate", "bin")):
        if key in keys:
            given = getattr(options, key)
            path = os.path.abspath(given) if given else build(kind, key)
            if not os.access(path, os.X_OK):
                raise SystemExit(f"bench: {path} is not there, or not executable")
            setattr(options, key, path)


def side_by_side(options, origins, folder):
    """Every contender in every round; (figures by label, problems, warnings)."""
    rows = [contender(options) for contender in options.chosen]
    results = {row.label: [] for row in rows}
    problems, warnings = [], []
    for number in range(options.rounds):
        first = number % len(rows)  # so that no one is always the first or always after the same one
        for row in rows[first:] + rows[:first]:
            found = measure(row, options, origins, folder / f"{row.key}-{number}")
            results[row.label].append(found)
            where = f"{row.label}, round {number + 1}"
            say(f"bench: {where}: {found['cpu_us']:.2f} µs, {found['per_second']:,.0f}/s, core used {found['busy']:.0%}"
                f", {found['requests']} answers, {found['served']} at the origins, {found['logged']} lines logged")
            problems += [f"{where}: {problem}" for problem in found["problems"]]
            if found["foreign"] > NOISE:
                warnings.append(f"{where}: others used {found['foreign']:.0%} of its core")
    return results, problems, warnings


def over_limit(options, results):
    base = contenders.Bare.label
    if options.limit is None or base not in results:
        return []
    own = [one.label for one in (contenders.Tollgate, contenders.TollgateRelease) if one.label in results]
    medians = {label: statistics.median(table.ratios(results[label], results[base])) for label in own}
    return [f"the ratio of {label} {ratio:.2f} is above the limit {options.limit}"
            for label, ratio in medians.items() if ratio > options.limit]


def record_of(options):
    versions = {"nginx": version_of(["nginx", "-v"]), "wrk": version_of(["wrk", "-v"])}
    if options.mode in ("half", "latency") or options.work.http2:
        versions["h2load"] = version_of(["h2load", "--version"])
    if any(one.key.startswith("haproxy") for one in options.chosen):
        versions["HAProxy"] = version_of(["haproxy", "-v"])
    threads = "one worker thread" if options.threads == 1 else f"{options.threads} worker threads"
    cores = (f"The proxy has {threads} and core {list_of(options.mine)} to itself; four nginx origins and the "
             f"load ({work_of(options.work)}) have core {list_of(options.others)}")
    if options.mode == "workers":
        cores = f"The proxy, four nginx origins and the load ({work_of(options.work)}) share all cores"
    setup = f"{cores}; {options.routes:,} routes; rounds: {options.rounds}, of {options.seconds} s each."
    if options.mode in ("half", "peak"):
        setup += f" Pushed: servers and routes changed {options.push:g} times a second."
    git = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
    shown = " ".join(["scripts/bench", *map(shlex.quote, sys.argv[1:])])
    return {"mode": options.mode, "command": shown, "revision": git.stdout.strip() or "no revision",
            "versions": versions, "setup": setup, "date": datetime.date.today().isoformat(), "machine": describe()}


def work_of(work):
    kept = f"{H2_STREAMS} streams on each of {H2_CONNECTIONS} connections" if work.http2 else f"{CONNECTIONS} kept connections"
    return f"{work.what}; {kept}"


def keep(options, record):
    """Appends a line with what was measured."""
    line = {key: record[key] for key in ("date", "revision", "mode")} | {"work": options.work.key}
    if record["mode"] == "table":
        floor, name = table.floor_of(record["results"], options.work)
        line[f"ratio to {name}"] = {label: round(statistics.median(table.ratios(rounds, floor)), 3)
                                    for label, rounds in record["results"].items() if floor}
        line["cpu_us"] = {label: round(table.middle(rounds, "cpu_us"), 1) for label, rounds in record["results"].items()}
    elif record["mode"] == "instructions":
        line["instructions"] = {label: round(count) for label, count in record["instructions"].items()}
    else:
        return
    with open(ROOT / "benches" / "record.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n")


def list_of(cores):
    return ", ".join(map(str, sorted(cores)))


def run(options):
    """The measurements of the mode; 0 or 1."""
    record = record_of(options)
    with tempfile.TemporaryDirectory(prefix="tollgate-bench-") as temporary:
        folder = Path(temporary)
        (folder / "origin").mkdir()
        options.certificate = works.write_certificate(folder) if options.work.tls else None
        with Origins(folder / "origin", options.others) as origins:
            if options.mode == "table":
                results, problems, warnings = side_by_side(options, origins, folder)
                record |= {"results": results}
                shown, missed = table.side_by_side(results, options.work), over_limit(options, results)
            elif options.mode == "instructions":
                found = {}
                for row in (contender(options) for contender in options.chosen):
                    found[row.label] = instructions.per_request(row, options, origins, folder, say)
                problems, warnings, missed = [], [], []
                record |= {"instructions": found}
                shown = instructions.table(found)
            elif options.mode == "latency":
                rate, runs = beside.latency(options, origins, folder, say)
                problems, warnings, missed = [], [], []
                record |= {"rate": rate, "runs": runs}
                shown = f"At {rate:,} requests a second:\n\n{table.latencies(runs)}"
            elif options.mode == "workers":
                runs = beside.workers(options, origins, folder, say)
                problems, warnings, missed = [], [], []
                record |= {"workers": runs}
                shown = table.scaling(runs)
            elif options.mode == "idle":
                found = beside.idle(options, origins, folder, say)
                problems, warnings, missed = [], [], []
                record |= {"idle": found}
                shown = f"{options.idle:,} idle connections:\n\n{table.memory(found)}"
            else:
                found = pushes(options, origins, folder / "tollgate")
                warnings, problems, missed = [], found["problems"], found["missed"]
                record |= found
                shown = table.pushed(found["runs"])
    record |= {"valid": not problems, "problems": problems, "missed": missed, "warnings": warnings}
    if options.json:
        Path(options.json).write_text(json.dumps(record, indent=1) + "\n")
    if options.record and not problems:
        keep(options, record)
    for warning in warnings:
        say(f"bench: noise: {warning}")
    for problem in problems:
        say(f"bench: INVALID: {problem}")
    print(f"{shown}\n\n{table.caption(record)}", file=sys.stderr if problems else sys.stdout)
    for one in missed:
        say(f"bench: MISSED: {one}")
    return 1 if problems or missed else 0


def main():
    if "--ledger" in sys.argv[1:]:
        return ledger.main(ROOT, build, say)
    if "--ledger-scale" in sys.argv[1:]:
        return ledger_scale.main(ROOT, build, say)
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        binaries(options)
        os.sched_setaffinity(0, options.others)
        return run(options)
    except Invalid as invalid:
        say(f"bench: INVALID: {invalid}")
        return 1
    except KeyboardInterrupt:
        say("bench: stopped")
        return 130


if __name__ == "__main__":
    sys.exit(main())
