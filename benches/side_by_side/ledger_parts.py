"""The processes of `scripts/bench --ledger`: the load, the ledger, PostgreSQL, and a disk whose syncs take longer.

The load (`benches/ledger.rs`) is one process for the whole run, with the keys of the providers, which `openssl` makes
anew. A ledger has a folder of its own for each measurement. PostgreSQL refuses root, so root runs it as another user.
"""

import json
import os
import pwd
import re
import secrets
import shutil
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from load import fetch
from machine import TICKS, Invalid, Process, free_ports, stat_fields

APP_ID, SELLER_ID, MCHID = "2021000000000001", "2088000000000001", "1900000001"
SERIAL = "PUB_KEY_ID_0119000000012026010100000000000001"
LAYER = Path(__file__).resolve().parents[2] / "tests/layer/disk.c"
SETTINGS = ["checkpoint_timeout=30s"]  # PostgreSQL's shortest, so that an open loop of a minute has one


def make_secrets(folder):
    """Every key and token that the load, the base and the ledger share."""
    folder.mkdir()
    for name in ("alipay", "wechat"):
        key = folder / f"{name}.key"
        run(["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key])
        run(["openssl", "pkey", "-in", key, "-pubout", "-out", folder / f"{name}.pem"])
    texts = {"ledger.key": secrets.token_hex(32), "ledger.token": secrets.token_hex(24),
             "apiv3.key": secrets.token_hex(16), "stripe.whsec": "whsec_" + secrets.token_hex(16),
             "shop.whsec": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
    for name, text in texts.items():
        (folder / name).write_text(text + "\n")


def run(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise Invalid(f"{command[0]} failed: {done.stderr.strip()[-500:]}")
    return done.stdout


class Load:
    """The senders and the merchant: asked by a line of JSON, answered by one."""

    def __init__(self, binary, folder, cores):
        self.child = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", binary, "load", folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, bufsize=1)
        self.cores = cores
        self.merchant = self.hear()["merchant"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.stdin.close()
        try:
            self.child.wait(5)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()

    def hear(self):
        line = self.child.stdout.readline()
        if not line:
            raise Invalid("the load ended; what it said stands above")
        return json.loads(line)

    def pin(self, cores):
        for task in os.listdir(f"/proc/{self.child.pid}/task"):
            os.sched_setaffinity(int(task), cores)

    def ask(self, order):
        self.child.stdin.write(json.dumps(order) + "\n")
        return self.hear()

    def sign(self, count):
        """All cores sign, while no ledger runs."""
        self.pin(range(os.cpu_count()))
        try:
            return self.ask({"sign": max(1000, int(count))})
        finally:
            self.pin(self.cores)

    def closed(self, port, senders, seconds):
        return self.ask({"closed": {"port": port, "senders": senders, "seconds": seconds}})

    def open(self, port, rate, seconds):
        return self.ask({"open": {"port": port, "rate": rate, "seconds": seconds, "connections": 256}})

    def delivered(self):
        return self.ask("delivered")["delivered"]


class SlowDisk:
    """The layer over a folder: each of its syncs takes so many milliseconds more."""

    def __init__(self, library, folder, milliseconds, owner=None):
        self.library = folder.parent / "disk.so"
        shutil.copy(library, self.library)
        self.folder = folder.resolve()
        self.base = folder.parent / "layer"
        self.base.mkdir()
        self.control = self.base / "control"
        self.control.write_bytes(struct.pack("=I", milliseconds).ljust(128, b"\0"))
        if owner:
            for path in (self.base, self.control):
                os.chown(path, *owner)

    def syncs(self):
        return struct.unpack("=I", self.control.read_bytes()[20:24])[0]

    def over(self, command):
        return ["env", f"LD_PRELOAD={self.library}", f"TOLLGATE_DISK_FOLDER={self.folder}",
                f"TOLLGATE_DISK_BASE={self.base}", *command]


def compile_layer(root):
    """The compiled layer, in the target folder."""
    library = root / "target/bench-disk.so"
    if not library.exists() or library.stat().st_mtime < LAYER.stat().st_mtime:
        new = library.with_suffix(f".{os.getpid()}.so")
        run(["cc", "-shared", "-fPIC", "-O2", "-o", new, LAYER, "-ldl"])
        new.rename(library)
    return library


class Sqlite:
    """A file in the ledger's own state folder."""

    key, label = "sqlite", "SQLite"

    def __init__(self, folder, library=None, milliseconds=0):
        self.url = "sqlite:ledger.db"
        self.state = folder / "state"
        self.state.mkdir()
        self.disk = SlowDisk(library, self.state, milliseconds) if milliseconds else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def over(self, command):
        return self.disk.over(command) if self.disk else command

    def synced(self):
        """The folder whose disk it syncs."""
        return self.state

    def cpu(self):
        """CPU seconds of a server: there is none."""
        return 0.0


class Postgres:
    """A server of its own in a temporary folder; the disk's layer is under the server."""

    key, label = "postgres", "PostgreSQL"

    def __init__(self, folder, library=None, milliseconds=0):
        (folder / "state").mkdir()
        self.folder = Path(tempfile.mkdtemp(prefix="tollgate-bench-postgres-"))
        self.data = self.folder / "data"
        owner = pwd.getpwnam(postgres_user()) if os.getuid() == 0 else None
        self.become = []
        if owner:
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
            self.become = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
        self.disk = None
        try:
            run([*self.become, "env", "-C", self.folder, programs() / "initdb", "--no-sync", "--auth=trust",
                 "--username=tollgate", "--encoding=UTF8", "--locale=C", "--pgdata", self.data])
            if milliseconds:
                ids = (owner.pw_uid, owner.pw_gid) if owner else None
                self.disk = SlowDisk(library, self.data, milliseconds, ids)
            self.start()
        except BaseException:
            self.end()
            raise

    def start(self):
        (port,) = free_ports(1)
        settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=30", *SETTINGS]
        command = [programs() / "postgres", "-D", self.data, "-p", str(port)]
        command += [part for setting in settings for part in ("-c", setting)]
        command = self.disk.over(command) if self.disk else command
        self.url = f"postgres://tollgate@127.0.0.1:{port}/postgres?sslmode=disable"
        everywhere = range(os.cpu_count())
        self.process = Process("PostgreSQL", [*self.become, *command], everywhere, self.folder)
        ready = [programs() / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
        self.process.wait_until(lambda: subprocess.run(ready).returncode == 0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        if getattr(self, "process", None):
            self.process.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def over(self, command):
        return command

    def synced(self):
        """A folder on the disk it syncs, which is not its own."""
        return self.folder

    def cpu(self):
        """CPU seconds of the server's processes, those that have ended too."""
        ended = sum(int(field) for field in stat_fields(self.process.child.pid)[13:15]) / TICKS
        return self.process.cpu() + ended


STORES = {"sqlite": Sqlite, "postgres": Postgres}


def programs():
    """Where PostgreSQL's programs are: Debian keeps them off the PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    on_path = [Path(folder) for folder in os.environ.get("PATH", "").split(":") if folder]
    for place in [*versions, Path("/usr/local/pgsql/bin"), *on_path]:
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    raise SystemExit("bench: PostgreSQL is missing; install it: sudo apt-get install postgresql, or use --store sqlite")


def postgres_user():
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


CONFIG = """\
[server]
state_dir = "state"
[[listener]]
address = "127.0.0.1:{unused}"
[route.none]
respond = {{ status = 404 }}
[ledger]
address = "127.0.0.1:{port}"
store = "{store}"
encryption_key_files = ["{secrets}/ledger.key"]
token_file = "{secrets}/ledger.token"
[ledger.channel.alipay]
provider = "alipay"
merchant = "shop"
app_id = "{app_id}"
seller_id = "{seller_id}"
public_key_files = ["{secrets}/alipay.pem"]
[ledger.channel.wechat]
provider = "wechatpay"
merchant = "shop"
mchid = "{mchid}"
api_v3_key_file = "{secrets}/apiv3.key"
platform_keys = [{{ serial = "{serial}", file = "{secrets}/wechat.pem" }}]
[ledger.channel.card]
provider = "stripe"
merchant = "shop"
secret_files = ["{secrets}/stripe.whsec"]
[ledger.merchant.shop]
url = "http://127.0.0.1:{merchant}/payments"
secret_file = "{secrets}/shop.whsec"
allow_private = true
"""


class Ledger(Process):
    """`tollgate ledger run` on a store, ready."""

    def __init__(self, tollgate, store, secrets_folder, merchant, cores, folder):
        self.port, unused = free_ports(2)
        self.folder = folder
        (folder / "tollgate.toml").write_text(CONFIG.format(
            unused=unused, port=self.port, store=store.url, secrets=secrets_folder, app_id=APP_ID, seller_id=SELLER_ID,
            mchid=MCHID, serial=SERIAL, merchant=merchant))
        command = store.over([tollgate, "ledger", "run", "-c", "tollgate.toml"])
        super().__init__("the ledger", command, cores, folder)
        try:
            self.wait_until(lambda: fetch(self.port, "/readyz")[0] == 200)
        except BaseException:
            self.end()
            raise

    def metrics(self):
        """{name with labels: value}"""
        text = fetch(self.port, "/metrics")[2]
        rows = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in rows}

    def outcomes(self):
        """Callbacks by outcome."""
        found = {}
        for name, value in self.metrics().items():
            outcome = re.match(r'tollgate_ledger_callbacks_total\{.*outcome="(\w+)"', name)
            if outcome:
                found[outcome[1]] = found.get(outcome[1], 0) + value
        return found


class WriteAndSync(threading.Thread):
    """Appends 8 KiB and syncs them, at a modest pace, beside whatever else uses the disk."""

    def __init__(self, folder, per_second=25):
        super().__init__(daemon=True)
        self.path, self.pause = folder / "write-and-sync", 1 / per_second
        self.over, self.times = threading.Event(), []

    def run(self):
        os.sched_setaffinity(threading.get_native_id(), range(os.cpu_count()))
        file = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        try:
            while not self.over.wait(self.pause):
                began = time.monotonic()
                os.write(file, b"x" * 8192)
                os.fdatasync(file)
                self.times.append(time.monotonic() - began)
        finally:
            os.close(file)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()

    def p99_ms(self):
        times = sorted(self.times)
        if not times:
            raise Invalid("the write-and-sync loop wrote nothing")
        return times[min(len(times) - 1, int(len(times) * 0.99))] * 1000
