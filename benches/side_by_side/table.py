"""The tables: Markdown for docs/figures.md, with the machine and the command that made them."""

import statistics

from contenders import NOTES

PUSH_NOTES = """\
Quiet and pushed runs alternate in one process. "half" is h2load at a fixed rate, which above 100 requests a second and
connection sends what is due in bursts every 10 ms: latency has that queue in it, in both runs. "peak" is wrk, closed
loop. Connections replaced: client connections that were not there at the first look and were later. Save to answer:
from the renamed file to the first success on the route that it brought, under the load; the median and the slowest."""


def median_and_spread(values, form):
    """`1.05 (1.03–1.08)`: the median and the extremes."""
    values = sorted(values)
    return f"{form(statistics.median(values))} ({form(values[0])}–{form(values[-1])})"


def markdown(heads, rows):
    widths = [max(len(cell) for cell in column) for column in zip(heads, *rows)]

    def line(cells):
        first, *rest = (cell.ljust(width) if at == 0 else cell.rjust(width)
                        for at, (cell, width) in enumerate(zip(cells, widths)))
        return f"| {' | '.join([first, *rest])} |"

    rule = "|" + "|".join("-" * (width + 2 - (at > 0)) + ":" * (at > 0) for at, width in enumerate(widths)) + "|"
    return "\n".join([line(heads), rule, *map(line, rows)])


def side_by_side(results, work):
    """One row a contender; `results` maps its label to its figures, a dict a round."""
    base, floor = floor_of(results, work)
    rows = []
    for label, rounds in results.items():
        ratio = "–"
        if base:
            ratio = median_and_spread(ratios(rounds, base), "{:.2f}".format)
        rows.append([
            label, median_and_spread([one["cpu_us"] for one in rounds], "{:.1f}".format), ratio,
            f"{middle(rounds, 'per_second'):,.0f}", f"{middle(rounds, 'p50_us') / 1000:.2f}",
            f"{middle(rounds, 'p99_us') / 1000:.2f}", f"{middle(rounds, 'busy'):.0%}"])
    heads = ["proxy", "CPU µs/request", f"ratio to {floor}", "requests/s", "p50 ms", "p99 ms", "core used"]
    return markdown(heads, rows)


def floor_of(results, work):
    """The rounds that the ratios are to, and whose they are: the bare proxy's, or for other works than `get` nginx's."""
    floors = [("bare Pingora", "bare"), ("nginx", "nginx")]
    for label, name in floors if work.key == "get" else reversed(floors):
        if label in results:
            return results[label], name
    return None, "–"


def ratios(rounds, base):
    """A contender's CPU per request to the bare proxy's of the same round."""
    return [one["cpu_us"] / floor["cpu_us"] for one, floor in zip(rounds, base)]


def middle(rounds, what):
    return statistics.median(one[what] for one in rounds)


def pushed(runs):
    """One row a run, quiet and pushed in turn."""
    rows = []
    for run in runs:
        made = f"{run['revisions']} of {run['pushes']}" if run["pushes"] else "–"
        answering = f"{run['answering_ms']:.0f} (≤ {run['answering_ms_max']:.0f})" if "answering_ms" in run else "–"
        replaced = "?" if run["connections_replaced"] is None else str(run["connections_replaced"])
        rows.append([
            f"{run['round']} {'pushed' if run['pushes'] else 'quiet'}", f"{run['requests']:,}", str(run["failed"]),
            replaced, f"{run['per_second']:,.0f}", f"{run['p50_us'] / 1000:.2f}", f"{run['p99_us'] / 1000:.2f}",
            f"{run['max_us'] / 1000:.1f}", made, answering, " / ".join(str(rss >> 20) for rss in run["rss"]),
            f"{run['busy']:.0%}"])
    heads = ["run", "requests", "failed", "connections replaced", "requests/s", "p50 ms", "p99 ms", "max ms",
             "revisions of pushes", "save to answer ms", "RSS MiB start/middle/end", "core used"]
    return markdown(heads, rows)


def latencies(runs):
    """One row a contender: medians and extremes of its rounds."""
    rows = [[label, *(median_and_spread([run[what] / 1000 for run in rounds], "{:.2f}".format)
                      for what in ("p50_us", "p99_us", "p999_us"))] for label, rounds in runs.items()]
    return markdown(["proxy", "p50 ms", "p99 ms", "p99.9 ms"], rows)


def memory(found):
    return markdown(["proxy", "bytes a connection"], [[label, f"{size:,.0f}"] for label, size in found.items()])


def scaling(runs):
    """One row a contender: what two workers serve of what one does."""
    rows = []
    for label, by in runs.items():
        rows.append([
            label, *(median_and_spread([cpu * 1e6 for cpu in by[count]], "{:.1f}".format) for count in (1, 2)),
            median_and_spread([2 * one / two for one, two in zip(by[1], by[2])], "{:.2f}".format)])
    return markdown(["proxy", "CPU µs/request, one worker", "two workers", "two serve, of one"], rows)


def caption(record):
    """What stands under a table: the command, the machine, the versions and what the rows mean."""
    machine, versions = record["machine"], record["versions"]
    said = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    lines = [f"`{record['command']}` at {record['revision']}, {record['date']}; {machine['cpu']}, {machine['cores']} "
             f"cores, Linux {machine['kernel']}; {said}. {record['setup']}"]
    lines += ["", PUSH_NOTES if record["mode"] in ("half", "peak") else NOTES]
    return "\n".join(lines)
