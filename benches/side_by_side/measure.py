"""One measurement: a contender in turn, loaded at its peak, with its CPU time read and its work checked.

A measurement counts only when the work happened: every answer a success with the right body, the origins asked as often
as wrk was answered (and at most once more per connection, for what was in flight at the end), every request logged and
counted, none dropped, and the contender the bottleneck. What is wrong is returned with the figures, never left out.
"""

import json
import time

from load import (BODY, CONNECTIONS, H2_CONNECTIONS, H2_STREAMS, count_lines, fetch, h2load_closed, settled_size, wrk,
                  wrk_faults)
from machine import Invalid, busy_of

FIELDS = ("time", "method", "path", "status", "bytes", "server")
PROBES_IN_FLIGHT = 8  # answered by an origin, not yet in its log of probes


def measure(contender, options, origins, folder):
    """Figures of one contender in one round, `problems` among them."""
    folder.mkdir()
    with contender.start(folder, origins.ports) as process:
        work = options.work
        status, _, body = fetch(process.port, contender.path(), contender.host(), tls=work.tls)
        if (status, body) != (200, BODY) if work.answer == 128 else (status, len(body)) != (200, work.answer):
            raise Invalid(f"{contender.label} answered {status} with another body than the origin's")
        target = (process.port, contender.host(), contender.path())

        def load(seconds):
            if work.http2:
                return h2load_closed(*target, seconds, options.others, folder)
            return wrk(*target, seconds, options.others, folder, work)

        load(options.warm_up)
        before = state(contender, process, origins)
        cpu, busy = process.cpu(), busy_of(options.mine)
        seen = load(options.seconds)
        busy = busy_of(options.mine) - busy
        after = state(contender, process, origins)
        cpu = process.cpu() - cpu  # with what was written after the last answer
        problems = [*faults(seen, work), *uncounted(seen, before, after, work)]
        if process.log:
            lines = count_lines(process.log, before["log"])
            problems += unlogged((process.log, contender.names), lines, seen, before, after, work)
            process.log.unlink(missing_ok=True)
        else:
            lines = None
    seconds = seen["micros"] / 1e6
    foreign = max(0.0, busy - cpu) / seconds / len(options.mine)
    share = cpu / seconds / len(options.mine)
    if share < options.min_busy:
        problems.append(f"it used {share:.0%} of its core, and others {foreign:.0%}: something else was the bottleneck")
    if not seen["requests"]:
        raise Invalid(f"{contender.label} answered nothing: {problems}")
    return {
        "cpu_us": cpu / seen["requests"] * 1e6, "per_second": seen["requests"] / seconds, "p50_us": seen["p50_us"],
        "p99_us": seen["p99_us"], "requests": seen["requests"], "served": after["served"] - before["served"],
        "logged": lines, "busy": share, "foreign": foreign,
        "problems": problems,
    }


def state(contender, process, origins):
    """What has been counted so far, once all is quiet."""
    served = origins.settled()
    log = settled_size(process.log) if process.log else 0
    return {"served": served, "log": log, "counted": contender.counted()}


def faults(seen, work):
    bad = wrk_faults(seen)
    if bad:
        yield f"wrk saw failures: {bad}"
    if seen["requests"] and seen["bytes"] / seen["requests"] < work.answer:
        yield "wrk read fewer bytes than the bodies have"


def in_flight_of(work):
    """Requests that the end of the load may cut off."""
    return H2_CONNECTIONS * H2_STREAMS if work.http2 else CONNECTIONS


def uncounted(seen, before, after, work):
    served = after["served"] - before["served"]
    in_flight = in_flight_of(work)
    if not seen["requests"] <= served <= seen["requests"] + in_flight + PROBES_IN_FLIGHT:
        yield f"wrk counts {seen['requests']} answers, the origins {served}"
    for what, value in after["counted"].items():
        value -= before["counted"][what]
        expected = what not in ("dropped log lines", "retries")
        if expected and not seen["requests"] <= value <= seen["requests"] + in_flight:
            yield f"wrk counts {seen['requests']} answers, its own metric of {what} {value}"
        if not expected and value:
            yield f"{value} {what}"


def unlogged(log, lines, seen, before, after, work):
    path, names = log
    if not seen["requests"] <= lines <= seen["requests"] + in_flight_of(work):
        yield f"wrk counts {seen['requests']} answers, the access log {lines} lines"
    if not path.exists():
        return
    if "requests" in after["counted"]:
        counted = after["counted"]["requests"] - before["counted"]["requests"]
        if counted != lines:
            yield f"its metrics count {counted} requests, its access log {lines} lines"
    yield from sample_problems(path, before["log"], after["log"], names)


def found(fields, path):
    """The value at a path of names in nested objects; None if there is none."""
    for name in path.split("."):
        fields = fields.get(name) if isinstance(fields, dict) else None
    return fields


def sample_problems(path, start, end, names, every=4 << 20):
    """What is wrong with the lines logged: a few of them, spread over the file, must be JSON and tell a success.

    The end of the file is left out: the requests that wrk cut off when its time was over may tell of a failure.
    """
    with open(path, "rb") as file:
        for offset in range(start, max(start + 1, end - 2 * CONNECTIONS * 1024), every):
            file.seek(offset)
            if offset > start:
                file.readline()  # the rest of a line
            line = file.readline()
            if not line:
                return
            try:
                fields = json.loads(line)
            except ValueError:
                yield f"a line logged is not JSON: {line[:300]!r}"
                return
            logged = {field: found(fields, names.get(field, field)) for field in FIELDS}
            missing = [field for field, value in logged.items() if value is None]
            if missing or logged["status"] != 200:
                yield f"a line logged lacks {missing} or has no status 200: {line[:300]!r}"
                return
