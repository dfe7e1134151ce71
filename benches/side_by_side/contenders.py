"""The proxies that are compared, each with the configuration that gives it the same work.

A contender writes its files into a folder of its own, is started there, and says what it must have done: whether it
logs, and what it counted itself. All have one worker thread, the same four origins, 128 kept upstream connections and,
but for `bare`, the same 1,000 routes: 100 hosts with 10 prefixes each, of which one in the middle is asked for.

What they do not share is said in NOTES, which stands under the table. A route's segment border is kept everywhere:
`/p5/` matches, `/p5x` does not.
"""

import re

from load import API_KEY, fetch, nginx_temporary
from machine import Invalid, Process, free_ports

PREFIXES = 10
POOL = 128


def hosts_of(routes):
    return [f"h{number:04}.bench.test" for number in range((routes + PREFIXES - 1) // PREFIXES)]


def routes_of(routes):
    """(name, host, prefix) of every route."""
    hosts = hosts_of(routes)
    return [(f"r{number:05}", hosts[number // PREFIXES], f"/p{number % PREFIXES}") for number in range(routes)]


def hit_of(routes):
    """The route that is asked for: one in the middle, neither first nor last of its host."""
    return routes_of(routes)[routes // 2 + (5 if routes >= 20 else 0)]


class Contender:
    """One row of the table. A subclass says what it writes and what is started."""

    key = label = note = ""
    command_name = None  # what must be installed for this row
    names = {}  # of the fields of its log that have other names than ours; a dot leads into an object
    logs = False
    routed = True
    speaks_tls = True

    def __init__(self, options):
        self.options = options
        self.work = options.work

    def command(self, folder, port, origins):
        raise NotImplementedError

    def start(self, folder, origins):
        """Starts it; returns the running process, with `port` and `log` (a path or None) set."""
        port, self.extra = free_ports(2)
        command = self.command(folder, port, origins)
        stdout = folder / "access.log" if self.logs == "stdout" else None
        process = Process(self.label, command, self.options.mine, folder, stdout=stdout)
        process.port = port
        process.log = folder / "access.log" if self.logs else None
        try:
            process.wait_until(lambda: self.ready(process))
        except BaseException:
            process.end()
            raise
        return process

    def ready(self, process):
        return fetch(process.port, self.path(), self.host(), tls=self.work.tls)[0] == 200

    def host(self):
        return hit_of(self.options.routes)[1]

    def path(self):
        return f"{hit_of(self.options.routes)[2]}/{self.work.path}"

    def counted(self):
        """What the contender counted itself: {what: number}; `requests` must equal the lines logged."""
        return {}


class Bare(Contender):
    key, label, speaks_tls = "bare", "bare Pingora", False

    def command(self, folder, port, origins):
        servers = [f"127.0.0.1:{origin}" for origin in origins]
        return [self.options.bare, f"--threads={self.options.threads}", f"--pool={POOL}", f"127.0.0.1:{port}", *servers]


class Tollgate(Contender):
    key, label, logs = "tollgate", "Tollgate", True
    guards = ()  # more lines of every route

    def command(self, folder, port, origins):
        config = folder / "tollgate.toml"
        config.write_text(self.config(folder, port, origins))
        return [self.options.tollgate, "run", "-c", config]

    def config(self, folder, port, origins, more_routes=()):
        """The file, with the routes of the run and any more (name, host, prefix)."""
        servers = ", ".join(f'"127.0.0.1:{origin}"' for origin in origins)
        lines = [
            "[server]", f"threads = {self.options.threads}", 'state_dir = "state"',
            "[[listener]]", f'address = "127.0.0.1:{port}"', *self.tls(),
            "[admin]", f'address = "127.0.0.1:{self.extra}"',
            "[log]", f'access = "{folder}/access.log"',
            "[upstream.origins]", f"servers = [{servers}]", 'balance = "round_robin"',
            "[upstream.origins.health]", 'path = "/health"', 'interval = "2s"',
        ]
        lines += self.release(folder, servers)
        for name, host, prefix in [*routes_of(self.options.routes), *more_routes]:
            lines += [f"[route.{name}]", f'hosts = ["{host}"]', f'paths = ["{prefix}/*"]', 'upstream = "origins"']
            lines += self.guards
        return "\n".join(lines) + "\n"

    def tls(self):
        if not self.work.tls:
            return []
        cert, key, _ = self.options.certificate
        return ["[listener.tls]", f'certificates = [{{ cert = "{cert}", key = "{key}" }}]']

    def release(self, folder, servers):
        return []

    def ready(self, process):
        return fetch(self.extra, "/readyz")[0] == 200 and super().ready(process)

    def metrics(self):
        status, _, text = fetch(self.extra, "/metrics")
        if status != 200:
            raise Invalid(f"Tollgate answered {status} to GET /metrics")
        return samples(text)

    def revision(self):
        found = re.search(r'"revision"\s*:\s*(\d+)', fetch(self.extra, "/api/v1/config")[2])
        if not found:
            raise Invalid("Tollgate's /api/v1/config tells no revision")
        return int(found.group(1))

    def counted(self):
        found = self.metrics()
        route = hit_of(self.options.routes)[0]
        return {
            "requests": total(found, "tollgate_requests_total"),
            "2xx of the route": total(found, "tollgate_requests_total", route=route, status_class="2xx"),
            "dropped log lines": total(found, "tollgate_log_dropped_total"),
            "retries": total(found, "tollgate_retries_total"),
        }


class TollgateRelease(Tollgate):
    """With a release that runs on the route that is asked for, and two cohorts, one of a hundred thousand users."""

    key, label = "tollgate-release", "Tollgate, release running"

    def release(self, folder, servers):
        (folder / "staff.txt").write_text("".join(f"staff-{n}\n" for n in range(100_000)))
        return [
            "[upstream.canary]", f"servers = [{servers}]", 'balance = "round_robin"',
            "[upstream.canary.health]", 'path = "/health"', 'interval = "2s"',
            "[cohort.staff]", 'users_file = "staff.txt"',
            "[cohort.beta]", 'any = [{ header = "x-beta", equals = "1" }]',
            "[release.next]", f'routes = ["{hit_of(self.options.routes)[0]}"]', 'canary = "canary"',
            'user = ["header:x-user-id", "ip"]', 'include = ["staff", "beta"]',
            'steps = [{ percent = 10, hold = "24h" }, { percent = 100, hold = "24h" }]',
        ]

    def counted(self):
        found = self.metrics()
        if not total(found, "tollgate_requests_total", arm="canary") and total(found, "tollgate_requests_total"):
            raise Invalid("no request went to the canary")
        return super().counted()


class TollgateEverything(TollgateRelease):
    """With all of that, and on every route an API key and a limit that is never reached."""

    key, label = "tollgate-everything", "Tollgate, everything on"
    guards = ('auth = ["keys"]', 'limits = ["per_app"]')

    def release(self, folder, servers):
        (folder / "bench.key").write_text(API_KEY)
        return super().release(folder, servers) + [
            "[auth.keys]", 'kind = "api_key"',
            "[app.bench]", 'keys = [{ id = "k1", secret_file = "bench.key" }]',
            "[limit.per_app]", 'key = ["app"]', 'rate = "100000000/s"',
        ]


SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def samples(text):
    """[(name, labels, value)] of a Prometheus text."""
    found = (SAMPLE.match(line) for line in text.splitlines())
    return [(one[1], dict(LABEL.findall(one[2] or "")), float(one[3])) for one in found if one]


def total(found, name, **labels):
    """The sum of a metric's series that carry the labels; 0 where there is none yet."""
    return round(sum(value for one, has, value in found if one == name and labels.items() <= has.items()))


NGINX = """
daemon off;
worker_processes {threads};
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 32768; }}
http {{
    {log}
    keepalive_requests 1000000000;
    keepalive_time 24h;
    keepalive_timeout 60s;
    server_names_hash_max_size 65536;
    server_names_hash_bucket_size 128;
    {temporary}
    upstream origins {{
        {servers}
        keepalive {pool};
        keepalive_requests 1000000000;
        keepalive_time 24h;
    }}
    map $http_x_request_id $id {{ default $http_x_request_id; "" $request_id; }}
    proxy_http_version 1.1;
    proxy_max_temp_file_size 0;
    proxy_request_buffering off;
    client_max_body_size 0;
    {tls}
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    proxy_set_header X-Request-ID $id;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host $http_host;
    server {{ listen 127.0.0.1:{port}{listen} default_server; return 404; }}
    {hosts}
}}
"""

NGINX_LOG = """log_format json escape=json '{{"time":"$time_iso8601","request_id":"$id","client":"$remote_addr",'
        '"method":"$request_method","host":"$host","path":"$uri","status":$status,"bytes":$body_bytes_sent,'
        '"duration_s":$request_time,"upstream_s":"$upstream_response_time","route":"$route",'
        '"server":"$upstream_addr","user_agent":"$http_user_agent"}}';
    access_log {folder}/access.log json{buffer};"""


class Nginx(Contender):
    key, label = "nginx", "nginx"
    logs = True
    buffer = " buffer=64k flush=100ms"

    def command(self, folder, port, origins):
        hosts = {}
        for name, host, prefix in routes_of(self.options.routes):
            note = f"set $route {name}; " if self.logs else ""
            hosts.setdefault(host, []).append(f"location {prefix}/ {{ {note}proxy_pass http://origins; }}")
        log = NGINX_LOG.format(folder=folder, buffer=self.buffer) if self.logs else "access_log off;"
        variable = 'set $route ""; ' if self.logs else ""
        listen, tls = self.tls()
        servers = [f"server {{ listen 127.0.0.1:{port}{listen}; server_name {host}; {variable}{' '.join(all_of_it)} }}"
                   for host, all_of_it in hosts.items()]
        config = folder / "nginx.conf"
        config.write_text(NGINX.format(
            threads=self.options.threads, folder=folder, log=log, temporary=nginx_temporary(folder), port=port,
            pool=POOL, listen=listen, tls=tls, servers=" ".join(f"server 127.0.0.1:{origin};" for origin in origins),
            hosts="\n    ".join(servers)))
        return ["nginx", "-p", folder, "-c", config]

    def tls(self):
        """What stands behind the address that it listens on, and its certificate."""
        if not self.work.tls:
            return "", ""
        cert, key, _ = self.options.certificate
        listen = " ssl http2" if self.work.http2 else " ssl"
        return listen, f"ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;"


class NginxUnbuffered(Nginx):
    key, label, buffer = "nginx-unbuffered", "nginx, log unbuffered", ""


class NginxPlain(Nginx):
    key, label, logs = "nginx-plain", "nginx, no log", False


HAPROXY = """
global
    nbthread {threads}
    maxconn 4096
    {sink}
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 60s
    timeout http-request 10s
frontend front
    bind 127.0.0.1:{port}{tls}
    {log}
    option dontlognull
    option forwardfor
    unique-id-format %[uuid()]
    unique-id-header X-Request-ID
    use_backend %[base,map_beg({folder}/routes.map)]
    default_backend none
backend none
    http-request return status 404
backend origins
    balance roundrobin
    option httpchk GET /health
    default-server check inter 2s fall 2 rise 2 pool-max-conn {pool}
    {servers}
"""

HAPROXY_LOG = """log global
    http-request capture req.hdr(host) len 64
    log-format '{"time":"%Tl","request_id":"%ID","client":"%ci","method":"%HM","host":"%[capture.req.hdr(0)]",\
"path":"%HP","status":%ST,"bytes":%B,"duration_ms":%Ta,"upstream_ms":%Tr,"upstream":"%b","server":"%s"}'"""


class Haproxy(Contender):
    key, label, command_name = "haproxy", "HAProxy", "haproxy"
    logs = "stdout"

    def command(self, folder, port, origins):
        entries = [f"{host}{prefix}/ origins" for _, host, prefix in routes_of(self.options.routes)]
        (folder / "routes.map").write_text("\n".join(entries) + "\n")
        config = folder / "haproxy.cfg"
        config.write_text(HAPROXY.format(
            threads=self.options.threads, folder=folder, port=port, pool=POOL, tls=self.tls(),
            sink="log stdout format raw local0" if self.logs else "", log=HAPROXY_LOG if self.logs else "",
            servers="\n    ".join(f"server s{origin} 127.0.0.1:{origin}" for origin in origins)))
        return ["haproxy", "-db", "-f", config]

    def tls(self):
        if not self.work.tls:
            return ""
        return f" ssl crt {self.options.certificate[2]} alpn {'h2,' if self.work.http2 else ''}http/1.1"


class HaproxyPlain(Haproxy):
    key, label, logs = "haproxy-plain", "HAProxy, no log", False


ALL = [Bare, Tollgate, TollgateRelease, TollgateEverything, Nginx, NginxUnbuffered, NginxPlain, Haproxy, HaproxyPlain]

NOTES = """\
CPU per request is the process time (user and system, all threads) of the proxy alone, divided by the answers that the
load counted and checked against the origins' own count; the ratio is taken within each round, and its median and its
extremes are shown. bare Pingora: a prebuilt peer per request, no routes, no timeouts, no log, no metrics; the profile,
allocator and pool of Tollgate. Tollgate: routing, balancing, active and passive health, retries, metrics per route and
server, JSON access log. "release running": beside that a release on the route, judged, a tenth of the users on its
canary, and two cohorts, one of them a file of 100,000 users; "everything on": beside that an API key and a limit. nginx
and HAProxy: the same routes, servers, request id, X-Forwarded-For and a JSON access log of like fields; nginx has no
active health probes, and neither of the two counts per route. nginx passes bodies on as they come
(`proxy_request_buffering off`) and writes none to a file (`proxy_max_temp_file_size 0`). It writes its log through
`buffer=64k flush=100ms`, which its manual offers and its default does not do: the default is the row "log unbuffered".
HAProxy writes a line at a time to its standard output, which is the file."""
