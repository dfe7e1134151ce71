"""What is asked of every proxy: how clients come, and how long a request and an answer are.

The work `get` is the small keep-alive GET over plain HTTP/1.1 that every other figure of a request's cost is of. The
bare Pingora proxy speaks plain HTTP/1.1 alone, so works with TLS have nginx as their floor.
"""

import dataclasses
import subprocess


@dataclasses.dataclass(frozen=True)
class Work:
    """A request and its answer."""

    key: str
    what: str
    tls: bool = False
    http2: bool = False
    answer: int = 128
    upload: int = 0

    @property
    def path(self):
        """The last segment of the path, by which the origin knows what to answer."""
        return "upload" if self.upload else {128: "small", 64 << 10: "64k", 1 << 20: "1m"}[self.answer]

    @property
    def wrk_method(self):
        return "POST" if self.upload else "GET"


ALL = {work.key: work for work in [
    Work("get", "HTTP/1.1 GET, 128 bytes"),
    Work("tls", "HTTPS (HTTP/1.1) GET, 128 bytes", tls=True),
    Work("h2", "HTTP/2 over TLS, GET, 128 bytes", tls=True, http2=True),
    Work("64k", "HTTP/1.1 GET, 64 KiB", answer=64 << 10),
    Work("1m", "HTTP/1.1 GET, 1 MiB", answer=1 << 20),
    Work("64k-tls", "HTTPS (HTTP/1.1) GET, 64 KiB", tls=True, answer=64 << 10),
    Work("1m-tls", "HTTPS (HTTP/1.1) GET, 1 MiB", tls=True, answer=1 << 20),
    Work("upload-64k", "HTTP/1.1 POST of 64 KiB", upload=64 << 10),
    Work("upload-1m", "HTTP/1.1 POST of 1 MiB", upload=1 << 20),
    Work("upload-1m-tls", "HTTPS (HTTP/1.1) POST of 1 MiB", tls=True, upload=1 << 20),
]}


def write_bodies(folder):
    """The files of the origin; their first 128 bytes are those of the small answer."""
    for work in ALL.values():
        if work.answer > 128:
            (folder / work.path).write_bytes(b"tollgate bench ".ljust(128, b".") * (work.answer // 128))


def write_certificate(folder):
    """A certificate (ECDSA, P-256) for every host of the run: (its file, its key's, both in one)."""
    cert, key, both = (folder / name for name in ("bench.crt", "bench.key.pem", "bench.both.pem"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
         "-subj", "/CN=bench", "-addext", "subjectAltName=DNS:*.bench.test", "-keyout", key, "-out", cert],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    return cert, key, both
