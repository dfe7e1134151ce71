"""Tollgate beside the others: latency at a rate that all can serve, memory of idle connections, and what a second worker adds."""

import resource
import socket
import time

from load import fetch, h2load, wrk
from machine import Invalid
from measure import measure

REQUEST = "GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n"


def latency(options, origins, folder, say):
    """{label: [a run of each round]}, all at the same rate: a share of the lowest peak."""
    rows = [contender(options) for contender in options.chosen]
    peaks = [peak(row, options, origins, folder / f"{row.key}-peak") for row in rows]
    rate = round(min(peaks) * options.share / 100)
    runs = {row.label: [] for row in rows}
    for number in range(options.rounds):
        for row in rows if number % 2 else reversed(rows):
            place = folder / f"{row.key}-{number}"
            place.mkdir()
            with row.start(place, origins.ports) as process:
                seen = h2load(process.port, row.host(), row.path(), rate, options.seconds, options.others, place)
            if seen["failed"]:
                raise Invalid(f"{row.label}: {seen['failed']} failed requests")
            say(f"bench: {row.label}, round {number + 1}: p50 {seen['p50_us']} µs, p99 {seen['p99_us']} µs")
            runs[row.label].append(seen)
            origins.settled()
    return rate, runs


def peak(row, options, origins, folder):
    folder.mkdir()
    with row.start(folder, origins.ports) as process:
        seen = wrk(process.port, row.host(), row.path(), 3, options.others, folder)
    origins.settled()
    return seen["requests"] / seen["micros"] * 1e6


def idle(options, origins, folder, say):
    """{label: bytes of resident memory a connection} that has had its answer and waits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = options.idle + 2000
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), max(hard, wanted)))
    except (ValueError, OSError) as refused:
        raise Invalid(f"{options.idle} connections need {wanted} open files (ulimit -n)") from refused
    found = {}
    for row in (contender(options) for contender in options.chosen):
        place = folder / f"{row.key}-idle"
        place.mkdir()
        with row.start(place, origins.ports) as process:
            request = REQUEST.format(path=row.path().lstrip("/"), host=row.host()).encode()
            for _ in range(200):
                fetch(process.port, row.path(), row.host())
            before, kept = process.rss(), []
            for _ in range(options.idle):
                one = socket.create_connection(("127.0.0.1", process.port), timeout=10)
                one.sendall(request)
                if not one.recv(4096).startswith(b"HTTP/1.1 200"):
                    raise Invalid(f"{row.label} did not answer 200")
                kept.append(one)
            time.sleep(3)
            found[row.label] = (process.rss() - before) / options.idle
            say(f"bench: {row.label}: {found[row.label]:,.0f} bytes a connection")
            for one in kept:
                one.close()
        origins.settled()
    return found


def workers(options, origins, folder, say):
    """{label: {workers: [CPU seconds a request of each round]}} of one and of two workers.

    Where a worker costs a request as much beside another one as alone, two serve twice as many. This is what can be
    seen where proxies, origins and load share all cores: there a rate tells how the kernel divides them.
    """
    rows = [contender(options) for contender in options.chosen]
    runs = {row.label: {1: [], 2: []} for row in rows}
    for number in range(options.rounds):
        for row in rows:
            for options.threads in (1, 2) if number % 2 else (2, 1):
                seen = measure(row, options, origins, folder / f"{row.key}-{options.threads}-{number}")
                if seen["problems"]:
                    raise Invalid(f"{row.label}: {seen['problems']}")
                say(f"bench: {row.label}, round {number + 1}, workers: {options.threads}: {seen['cpu_us']:.2f} µs, "
                    f"{seen['per_second']:,.0f}/s")
                runs[row.label][options.threads].append(seen["cpu_us"] / 1e6)
    return runs
