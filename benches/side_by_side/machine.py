"""The machine under the measurement: processes, cores, ports, and what /proc tells of them.

Every process of a run is started here, on the cores that it is given, and ended here by its own id. CPU time is the
process clock of the kernel (`utime + stime` of /proc/PID/stat, but in nanoseconds instead of ticks), which includes
all threads, those that have ended too. Linux only.
"""

import os
import platform
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Invalid(Exception):
    """The measured work did not happen as it should have."""


class Process:
    """A process on given cores; used with `with`, so that it never outlives the run."""

    def __init__(self, name, command, cores, folder, stdout=None):
        self.name = name
        self.errors = Path(folder) / "stderr.txt"
        # Both replace themselves by what they start: it ends with this program, however that ends, and stays put.
        start = ["setpriv", "--pdeathsig", "TERM", "taskset", "-c", ",".join(map(str, sorted(cores)))]
        with open(stdout or Path(folder) / "stdout.txt", "ab") as out, open(self.errors, "ab") as err:
            self.child = subprocess.Popen(
                start + [str(part) for part in command], cwd=folder, stdin=subprocess.DEVNULL, stdout=out,
                stderr=err, start_new_session=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def pids(self):
        """The process and all its descendants."""
        found, todo = [], [self.child.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    todo += [int(child) for child in task.read_text().split()]
                except OSError:
                    pass
        return found

    def cpu(self):
        """CPU seconds spent so far by the process and its descendants."""
        return sum(cpu_of(pid) for pid in self.pids())

    def rss(self):
        """Resident bytes of the process and its descendants."""
        total = 0
        for pid in self.pids():
            try:
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
            except OSError:
                pass
        return total

    def running(self):
        return self.child.poll() is None

    def last_words(self):
        text = self.errors.read_text(errors="replace").strip()
        return text[-2000:] or "(nothing on stderr)"

    def wait_until(self, ready, seconds=20):
        """Waits until `ready()` is true; the process must not end before."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self.running():
                raise Invalid(f"{self.name} ended with {self.child.returncode} at its start: {self.last_words()}")
            try:
                if ready():
                    return
            except OSError:
                pass
            time.sleep(0.02)
        raise Invalid(f"{self.name} was not ready after {seconds} s: {self.last_words()}")

    def end(self):
        if not self.running():
            return
        pids = self.pids()
        self.child.terminate()
        try:
            self.child.wait(3)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        for pid in pids[1:]:  # a worker whose master did not take it along
            if session_of(pid) == self.child.pid:
                os.kill(pid, signal.SIGKILL)


def stat_fields(pid):
    """The fields of /proc/PID/stat after the name, so that [0] is the state."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def session_of(pid):
    try:
        return int(stat_fields(pid)[3])
    except OSError:
        return None


def cpu_of(pid):
    """CPU seconds of one process."""
    try:
        return time.clock_gettime((~pid << 3) | 2)  # its CPUCLOCK_SCHED, see clock_getcpuclockid(3)
    except OSError:
        pass
    try:
        fields = stat_fields(pid)
        return (int(fields[11]) + int(fields[12])) / TICKS
    except OSError:
        return 0.0


def busy_of(cores):
    """Seconds that the cores were not idle, by anyone's doing, stolen time included."""
    total = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in fields[:8])
            total += user + nice + system + irq + softirq + steal
    return total / TICKS


def free_ports(count):
    """Loopback ports that the kernel assigned, free again; all different."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def clients_of(port):
    """The (hexadecimal) remote ends of all connections that a server holds on a loopback port."""
    ours = f"0100007F:{port:04X}"
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return {row[2] for row in rows if row[1] == ours and row[3] == "01"}


def split_cores(contender):
    """(cores of the contender, cores of all else); `contender` is a list such as "0" or "0,1"."""
    allowed = os.sched_getaffinity(0)
    mine = {int(core) for core in contender.split(",")} if contender else {min(allowed)}
    others = allowed - mine
    if not mine <= allowed or not others:
        raise SystemExit(f"bench: of the cores {sorted(allowed)} give the contender some (--core) and leave some")
    return mine, others


def version_of(command):
    """The version that a program tells; None where it is not there."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\d+\.\d+[\w.+-]*", done.stdout.decode(errors="replace"))
    return found.group() if found else None


def describe():
    """The machine, for the record."""
    cpu = "unknown CPU"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return {"cpu": cpu, "cores": os.cpu_count(), "kernel": platform.release(), "load": os.getloadavg()[0]}
