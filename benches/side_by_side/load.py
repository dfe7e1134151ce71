"""What stands around a contender: the origins behind it and the load before it.

The origins are one nginx worker behind four ports; it counts what it was asked (`stub_status`), so that no load
generator has to be believed. wrk gives closed-loop load at the peak, h2load open-loop load at a fixed rate. Neither
corrects for coordinated omission: h2load's rate is checked against what was asked, and a run that fell behind fails.
"""

import http.client
import json
import os
import re
import ssl
import subprocess
import threading
import time
from pathlib import Path

import works
from machine import Invalid, Process, free_ports

BODY = "tollgate bench ".ljust(127, ".") + "\n"
CONNECTIONS = 64
H2_CONNECTIONS, H2_STREAMS = 16, 8
API_KEY = "bench-key-of-everybody"

# Every request names a user and an app, for every proxy alike: one of a thousand, made before the run.
WRK_SCRIPT = """
local METHOD, BODY = "%METHOD%", string.rep("x", %UPLOAD%)
local requests, at = {}, 0
init = function()
  for n = 1, 1000 do
    requests[n] = wrk.format(METHOD, nil, {["x-user-id"] = string.format("user-%06d", n * 7919), ["x-api-key"] = "bench-key-of-everybody"}, BODY)
  end
end
request = function()
  at = at % 1000 + 1
  return requests[at]
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"micros":%d,"bytes":%d,"p50_us":%d,"p99_us":%d,"max_us":%d,' ..
    '"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99), latency.max,
    e.connect, e.read, e.write, e.status, e.timeout))
end
"""

ORIGIN = """
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_time 24h;
    keepalive_timeout 1h;
    {temporary}
    default_type text/plain;
    log_format probe '$uri';
    server {{
        {listens}
        client_max_body_size 0;
        location / {{ return 200 "{body}"; }}
        location ~ /64k$ {{ root {folder}; try_files /64k =404; }}
        location ~ /1m$ {{ root {folder}; try_files /1m =404; }}
        # `mirror` reads the whole body first; `return` would answer before it has come.
        location ~ /upload$ {{
            client_body_buffer_size 2m;
            mirror /sink;
            error_page 405 =200 @taken;
            root {folder};
            try_files /small =404;
        }}
        location = /sink {{ internal; return 204; }}
        location @taken {{ return 200 "{body}"; }}
        location = /health {{ access_log {folder}/probes.log probe; return 200 "ok\\n"; }}
    }}
    server {{
        listen 127.0.0.1:{status};
        location / {{ stub_status; }}
    }}
}}
"""


def nginx_temporary(folder):
    """nginx's folders for temporary files, which it makes at its start even where it never writes one."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "\n    ".join(f"{kind}_temp_path {folder}/temporary-{kind};" for kind in kinds)


def fetch(port, path, host=None, method="GET", tls=False):
    """(status, headers, body text) of one request over a connection of its own; a certificate is not checked."""
    if tls:
        anyone = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=anyone)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, headers={"Host": host, "x-api-key": API_KEY} if host else {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode(errors="replace")
    except http.client.HTTPException as error:
        raise OSError(f"not an HTTP answer: {error!r}") from error
    finally:
        connection.close()


class Origins(Process):
    """Four servers with a small fixed body, and a count of what they answered."""

    def __init__(self, folder, cores):
        *self.ports, self.status = free_ports(5)
        self.probes = folder / "probes.log"
        self.asked = 0
        works.write_bodies(folder)
        (folder / "small").write_text(BODY)
        config = folder / "nginx.conf"
        config.write_text(ORIGIN.format(
            user="user root;" if os.geteuid() == 0 else "",  # else its worker could not read the bodies
            folder=folder, status=self.status, body=BODY.replace("\n", "\\n"), temporary=nginx_temporary(folder),
            listens="\n        ".join(f"listen 127.0.0.1:{port};" for port in self.ports)))
        super().__init__("the origin nginx", ["nginx", "-p", folder, "-c", config], cores, folder)
        self.wait_until(lambda: self.served() >= 0)

    def served(self):
        """Requests answered since the start, without health probes and without these questions."""
        probes = count_lines(self.probes)
        numbers = fetch(self.status, "/")[2].split("requests")[1].split()
        self.asked += 1
        return int(numbers[2]) - probes - self.asked

    def settled(self):
        """The same, once nothing is in flight any more."""
        before = self.served()
        for _ in range(50):
            time.sleep(0.05)
            now = self.served()
            if now == before:
                return now
            before = now
        raise Invalid("the origins are still being asked, 2.5 s after the load ended")


def count_lines(path, offset=0):
    """Lines of a file from an offset on; 0 where there is no file."""
    lines = 0
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            while block := file.read(1 << 20):
                lines += block.count(b"\n")
    except FileNotFoundError:
        pass
    return lines


def settled_size(path, seconds=5.0):
    """A file's size once it has not grown for 0.4 s."""
    deadline = time.monotonic() + seconds
    size, since = -1, time.monotonic()
    while time.monotonic() < deadline:
        now = path.stat().st_size if path.exists() else 0
        if now != size:
            size, since = now, time.monotonic()
        elif time.monotonic() - since > 0.4:
            break
        time.sleep(0.05)
    return max(size, 0)


def wrk(port, host, path, seconds, cores, folder, work=works.ALL["get"]):
    """Closed-loop load on 64 kept connections; what it saw, as a dict."""
    script = folder / "report.lua"
    said = WRK_SCRIPT.replace("%METHOD%", work.wrk_method).replace("%UPLOAD%", str(work.upload))
    script.write_text(said if work.upload < 1 << 20 else said.replace("1, 1000", "1, 20").replace("% 1000", "% 20"))
    out = folder / f"wrk-{time.monotonic_ns()}.txt"
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "--timeout", "5s", "-s", script,
               "-H", f"Host: {host}", f"{'https' if work.tls else 'http'}://127.0.0.1:{port}{path}"]
    with Process("wrk", command, cores, folder, stdout=out) as load:
        wait(load, seconds + 30)
        for line in out.read_text(errors="replace").splitlines():
            if line.startswith("RESULT "):
                return json.loads(line[7:])
    raise Invalid(f"wrk said nothing: {load.last_words()}")


def h2load_closed(port, host, path, seconds, cores, folder):
    """Closed-loop load of HTTP/2 over TLS, eight streams on each of sixteen connections; as wrk tells it."""
    log, out = (folder / f"h2load-{kind}-{time.monotonic_ns()}.txt" for kind in ("log", "out"))
    command = ["h2load", "-t1", f"-c{H2_CONNECTIONS}", f"-m{H2_STREAMS}", f"-D{max(1, round(seconds))}",
               "-H", f":authority: {host}", "-H", "x-user-id: user-000001", "-H", f"x-api-key: {API_KEY}",
               f"--log-file={log}", f"https://127.0.0.1:{port}{path}"]
    with Process("h2load", command, cores, folder, stdout=out) as load:
        wait(load, seconds + 30)
        said = out.read_text(errors="replace")
    found = re.search(r"(\d+) done, (\d+) succeeded, \d+ failed, (\d+) errored, (\d+) timeout", said)
    took = re.search(r"finished in ([\d.]+)(m?)s", said)
    data = re.search(r"traffic: .*\((\d+)\) total", said)
    if not (found and took and data and log.exists()):
        raise Invalid(f"h2load said nothing to go by: {said[-500:]} {load.last_words()}")
    completed, good, errored, timeout = map(int, found.groups())
    with open(log) as lines:
        micros = sorted(int(line.split()[2]) for line in lines)
    log.unlink()
    if not micros:
        raise Invalid(f"h2load got no answer: {said[-500:]}")
    return {"requests": good, "micros": float(took[1]) * (1e3 if took[2] else 1e6), "bytes": int(data[1]),
            "p50_us": quantile(micros, 0.5), "p99_us": quantile(micros, 0.99), "max_us": micros[-1],
            "connect": 0, "read": errored, "write": 0, "status": completed - good, "timeout": timeout}


def wrk_faults(result):
    """What wrk counts as failed, named; empty where all went well."""
    return {kind: result[kind] for kind in ("connect", "read", "write", "status", "timeout") if result[kind]}


def h2load(port, host, path, rate, seconds, cores, folder):
    """Open-loop load at `rate` requests a second on 64 connections; what it saw, as a dict.

    Above 100 requests a second and connection h2load sends what is due in bursts, every 10 ms, so that even a quiet
    run has a queue. With a rate it does not go on after a reconnect: a server that closes connections, by a limit of
    requests too, makes it stop or hang, which fails the run. `:authority` sets Host; `-H Host:` would send two.
    """
    log, out = (folder / f"h2load-{kind}-{time.monotonic_ns()}.txt" for kind in ("log", "out"))
    command = ["h2load", "--h1", "-t1", f"-c{CONNECTIONS}", f"-n{round(rate * seconds)}",
               f"--rps={rate / CONNECTIONS:.3f}", "-H", f":authority: {host}",
               f"--log-file={log}", f"http://127.0.0.1:{port}{path}"]
    with Process("h2load", command, cores, folder, stdout=out) as load:
        wait(load, seconds + 15, "; with a rate it hangs when the server closes a connection")
        said = out.read_text(errors="replace")
        found = re.search(r"requests: (\d+) total.* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", said)
        if not found or not log.exists():
            raise Invalid(f"h2load said nothing to go by: {said[-500:]} {load.last_words()}")
    total, succeeded, failed, errored, timeout = map(int, found.groups())
    micros, bad, first, last = [], 0, None, 0
    with open(log) as lines:
        for line in lines:
            start, status, took = map(int, line.split()[:3])
            micros.append(took)
            first, last = min(first or start, start), max(last, start + took)
            bad += not 200 <= status < 300
    log.unlink()
    micros.sort()
    if not micros:
        raise Invalid(f"h2load got no answer: {said[-500:]}")
    return {"requests": succeeded, "failed": max(failed, bad, total - succeeded), "errored": errored,
            "timeout": timeout, "seconds": (last - first) / 1e6, "p50_us": quantile(micros, 0.5),
            "p99_us": quantile(micros, 0.99), "p999_us": quantile(micros, 0.999), "max_us": micros[-1]}


def quantile(ordered, share):
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def wait(load, seconds, hint=""):
    """Waits for a load to end by itself, and well."""
    try:
        code = load.child.wait(seconds)
    except subprocess.TimeoutExpired:
        raise Invalid(f"{load.name} did not end in {seconds:.0f} s{hint}") from None
    if code != 0:
        raise Invalid(f"{load.name} ended with {code}: {load.last_words()}")


class Watch(threading.Thread):
    """Looks at a process and its clients once a second: memory, and whether any connection was replaced."""

    def __init__(self, process, port, clients_of):
        super().__init__(daemon=True)
        self.process, self.port, self.clients_of = process, port, clients_of
        self.over = threading.Event()
        self.rss, self.clients = [], []

    def run(self):
        while not self.over.wait(1.0):
            self.rss.append(self.process.rss())
            self.clients.append(self.clients_of(self.port))

    def __enter__(self):
        self.rss.append(self.process.rss())
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()

    def replaced(self):
        """Connections that were not there from the first full look to the last one; None where nothing was seen."""
        full = [seen for seen in self.clients if len(seen) >= CONNECTIONS]
        return len(set().union(*full) - full[0]) if len(full) > 1 else None
