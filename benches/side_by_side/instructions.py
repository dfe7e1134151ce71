"""Instructions of user space that one request takes, by callgrind (valgrind): no other process changes them.

Each proxy runs twice under valgrind, with one worker, and one client sends so many requests one after the other on one
connection. The difference of the two runs, divided by the difference of their requests, leaves out the start, the
health probes (about) and the end. What the kernel does is not in it.
"""

import re
import socket
import ssl
import subprocess
import time

import contenders
from load import API_KEY
from machine import Invalid, Process, free_ports

FEW, MANY = 2_000, 12_000
VALGRIND = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]


def per_request(contender, options, origins, folder, say):
    """Instructions a request of one proxy."""
    totals = []
    for count in (FEW, MANY):
        own = folder / f"{contender.key}-{count}"
        own.mkdir(parents=True)
        totals.append(total_of(contender, options, origins, own, count))
        say(f"bench: {contender.label}: {totals[-1]:,} instructions with {count:,} requests")
    return (totals[1] - totals[0]) / (MANY - FEW)


def total_of(contender, options, origins, folder, count):
    port, contender.extra = free_ports(2)
    command = [str(part) for part in contender.command(folder, port, origins.ports)]
    if isinstance(contender, contenders.Nginx):
        command += ["-g", "master_process off;"]
    stdout = folder / "access.log" if contender.logs == "stdout" else None
    process = Process(contender.label, VALGRIND + command, options.mine, folder, stdout=stdout)
    process.port = port
    try:
        process.wait_until(lambda: contender.ready(process), 180)
        ask(port, contender, options.work, count)
        process.child.terminate()
        process.child.wait(120)
    except subprocess.TimeoutExpired:
        raise Invalid(f"{contender.label} did not end under valgrind") from None
    finally:
        process.end()
    found = re.search(r"Collected : (\d+)", process.errors.read_text(errors="replace"))
    if not found:
        raise Invalid(f"valgrind counted nothing: {process.last_words()}")
    return int(found[1])


def ask(port, contender, work, count):
    """Sends `count` requests, each after the answer of the one before."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as plain:
        anyone = ssl._create_unverified_context()
        stream = anyone.wrap_socket(plain, server_hostname=contender.host()) if work.tls else plain
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        length = f"content-length: {work.upload}\r\n" if work.upload else ""
        request = (f"{work.wrk_method} {contender.path()} HTTP/1.1\r\nhost: {contender.host()}\r\nx-user-id: user-000001\r\n"
                   f"x-api-key: {API_KEY}\r\n{length}\r\n").encode() + b"x" * work.upload
        reader = stream.makefile("rb", buffering=1 << 16)
        for _ in range(count):
            stream.sendall(request)
            read_answer(reader, contender.label)


def read_answer(reader, label):
    status, length = reader.readline(), None
    if b" 200 " not in status:
        raise Invalid(f"{label} answered {status!r} under valgrind")
    while (line := reader.readline()) != b"\r\n":
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    if length is None:
        raise Invalid(f"{label} answered without a length")
    reader.read(length)


def table(found):
    """Markdown: one row a proxy."""
    rows = [f"| {label} | {count:,.0f} |" for label, count in found.items()]
    return "\n".join(["| proxy | instructions/request |", "|---|--:|", *rows])
