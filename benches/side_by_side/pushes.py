"""Configuration pushed under load: Tollgate while its file is rewritten N times a second, beside a quiet run.

`half` is open-loop load at half of the peak rate, where latency means something; `peak` is closed-loop load with all
that it takes, where a dropped request or connection would show. Each push changes servers and routes, is written to
another file and renamed over the configuration, and brings a route of its own; at every tenth push the time until that
route answers is taken. Routing of the load itself is the same in all variants: it must never fail.
"""

import os
import statistics
import threading
import time

from contenders import Tollgate, total
from load import CONNECTIONS, Watch, fetch, h2load, settled_size, wrk, wrk_faults
from machine import Invalid, clients_of

PUSHED_HOST = "pushed.bench.test"
LOOK_EVERY = 10


class Pusher(threading.Thread):
    """Rewrites the configuration at a steady rate, until told to stop."""

    def __init__(self, tollgate, folder, port, origins, rate, number):
        super().__init__(daemon=True)
        self.folder, self.port, self.rate = folder, port, rate
        self.over = threading.Event()
        self.number = number
        self.pushed, self.waits, self.failure = 0, [], None
        added = [(f"x{number:05}", "added.bench.test", f"/x{number}") for number in range(20)]
        self.variants = [tollgate.config(folder, port, origins, added[:10]),
                         tollgate.config(folder, port, [origins[2], origins[0], origins[3]], added[10:])]

    def push(self):
        self.number += 1
        own = f'[route.pushed-{self.number}]\nhosts = ["{PUSHED_HOST}"]\npaths = ["/{self.number}/*"]\n'
        new = self.folder / ".tollgate.toml.new"
        new.write_text(self.variants[self.number % 2] + own + 'upstream = "origins"\n')
        os.replace(new, self.folder / "tollgate.toml")
        self.pushed += 1

    def look(self, seconds=2.0):
        """Milliseconds until the route that was just pushed answers."""
        saved = time.monotonic()
        while time.monotonic() < saved + seconds:
            if fetch(self.port, f"/{self.number}/", PUSHED_HOST)[0] == 200:
                self.waits.append((time.monotonic() - saved) * 1000)
                return
            time.sleep(0.005)
        raise Invalid(f"push {self.number} was not served {seconds:.0f} s after its file was saved")

    def run(self):
        try:
            due = time.monotonic()
            while not self.over.wait(max(0.0, due - time.monotonic())):
                self.push()
                if self.pushed % LOOK_EVERY == 1:
                    self.look()
                due += 1 / self.rate
        except (OSError, Invalid) as failure:
            self.failure = failure

    def end(self):
        self.over.set()
        self.join()


def pushes(options, origins, folder):
    """Runs `half` or `peak`; {"runs": [...], "problems": [...], ...}."""
    folder.mkdir()
    tollgate = Tollgate(options)
    with tollgate.start(folder, origins.ports) as process:
        load = (process.port, tollgate.host(), tollgate.path())
        peak = wrk(*load, min(5, options.seconds), options.others, folder)
        rate = round(peak["requests"] / peak["micros"] * 1e6 * options.share / 100)
        runs, number = [], 0
        for round_number in range(options.rounds):
            for pushed in (False, True):
                pusher = None
                if pushed:
                    pusher = Pusher(tollgate, folder, process.port, origins.ports, options.push, number)
                run = one_run(options, tollgate, process, load, rate, pusher, folder)
                number = pusher.number if pusher else number
                run["round"] = round_number + 1
                if pushed and run["connections_replaced"] and not runs[-1]["connections_replaced"]:
                    run["problems"].append("connections were opened again, as in the quiet run they were not")
                runs.append(run)
                origins.settled()
    problems = [f"{name(run)}: {problem}" for run in runs for problem in run["problems"]]
    return {"runs": runs, "rate": rate if options.mode == "half" else None, "problems": problems,
            "missed": missed(runs) if options.mode == "half" else []}


def name(run):
    return f"round {run['round']}, {'pushed' if run['pushes'] else 'quiet'}"


def one_run(options, tollgate, process, load, rate, pusher, folder):
    """One load, quiet or pushed, with what it saw and what was wrong."""
    revision, counted = tollgate.revision(), served_by(tollgate)
    with Watch(process, process.port, clients_of) as watch:
        if pusher:
            pusher.start()
        try:
            cpu = process.cpu()
            if options.mode == "half":
                seen = h2load(*load, rate, options.seconds, options.others, folder)
                failed = seen["failed"]
            else:
                seen = wrk(*load, options.seconds, options.others, folder)
                seen["seconds"] = seen["micros"] / 1e6
                failed = sum(wrk_faults(seen).values())
            cpu = process.cpu() - cpu
        finally:
            if pusher:
                pusher.end()
    per_second = seen["requests"] / seen["seconds"]
    replaced = watch.replaced()
    run = {
        "requests": seen["requests"], "per_second": per_second, "p50_us": seen["p50_us"], "p99_us": seen["p99_us"],
        "max_us": seen["max_us"], "failed": failed, "connections_replaced": replaced,
        "busy": cpu / seen["seconds"] / len(options.mine), "rss": [watch.rss[0], watch.rss[len(watch.rss) // 2],
        process.rss()], "pushes": 0, "problems": [],
    }
    if failed:
        run["problems"].append(f"{failed} failed requests: {wrk_faults(seen) if options.mode == 'peak' else seen}")
    if options.mode == "half" and per_second < 0.98 * rate:
        run["problems"].append(f"{per_second:.0f} requests/s instead of {rate}: it fell behind")
    if pusher:
        run |= {"pushes": pusher.pushed, "revisions": tollgate.revision() - revision}
        if pusher.waits:
            run |= {"answering_ms": statistics.median(pusher.waits), "answering_ms_max": max(pusher.waits)}
        run["problems"] += push_problems(tollgate, pusher, run)
    settled_size(process.log)
    counted = served_by(tollgate) - counted
    if not seen["requests"] <= counted <= seen["requests"] + CONNECTIONS:
        run["problems"].append(f"{seen['requests']} answers were seen, {counted} are in its metrics")
    os.truncate(process.log, 0)  # a minute at the peak fills gigabytes
    return run


def served_by(tollgate):
    """Successes on the route that is asked for, by its own count, which must outlive every swap."""
    return tollgate.counted()["2xx of the route"]


def push_problems(tollgate, pusher, run):
    if pusher.failure:
        yield f"pushing stopped: {pusher.failure}"
    if run["revisions"] < run["pushes"] / 2:
        yield f"{run['pushes']} pushes made {run['revisions']} revisions"
    dropped = total(tollgate.metrics(), "tollgate_log_dropped_total")
    if dropped:
        yield f"{dropped} log lines dropped since the start"
    _, middle, end = run["rss"]
    if end > 1.25 * middle + (8 << 20):
        yield f"memory grew from {middle >> 20} MiB in the middle to {end >> 20} MiB"


def missed(runs):
    """Where the pushed p99 is above both 1.5 times the quiet one and 2 ms more; medians over the rounds."""
    quiet = statistics.median(run["p99_us"] for run in runs if not run["pushes"])
    pushed = statistics.median(run["p99_us"] for run in runs if run["pushes"])
    if pushed > max(1.5 * quiet, quiet + 2000):
        return [f"p99 under pushes is {pushed / 1000:.2f} ms, quiet it is {quiet / 1000:.2f} ms"]
    return []
