"""The Markdown of `docs/performance.md` from a report of `bench.full`. Pure: what is missing says so."""

from decimal import Decimal
from typing import Any

BEGIN, END = "<!-- bench-full: from here -->", "<!-- bench-full: to here -->"
KINDS = {
    "json": "JSON, about 600 bytes",
    "burst": "burst stream, 64 chunks",
    "paced": "paced stream, 64 chunks",
    "embeddings": "embeddings",
}
CONTENTION = 0.1  # of the machine's CPU, used by others: more makes wall-clock figures worthless
GROWTH = {
    "one key": "a request, one busy key",
    "known keys": "a request, 200 keys in turn",
    "a key's first request": "a key's first request",
}


def markdown(report: dict[str, Any]) -> str:
    """All tables, under a heading with the date."""
    parts = [_head(report)]
    if "peers" in report:
        parts += _peers(report["peers"])
    if "growth" in report:
        parts.append(_growth(report["growth"]))
    if "hot" in report:
        parts.append(_hot(report["hot"]))
    return "\n\n".join(parts) + "\n"


def inserted(page: str, text: str) -> str:
    """The page with the text between its two marks, in the place of the last run's. Raises ValueError without them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{text.strip()}\n\n{END}{after}"


def table(headers: list[str], rows: list[list[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None, digits: int = 3) -> str:
    """With so many significant digits and no exponent; — for None."""
    if value is None:
        return "—"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{Decimal(f'{value:.{digits}g}'):f}"


def _head(report: dict[str, Any]) -> str:
    machine = report["machine"]
    lines = [
        f"### {report['at'][:10]}, `make bench-full`",
        f"{machine['cpus']} CPUs ({machine['cpu'] or 'unknown'}), {machine['platform']}, Python {machine['python']}; "
        f"32 connections, {report['rounds']} rounds of {report['seconds']} s, {report['took_s'] // 60} minutes in all.",
    ]
    if report["others_cpu"] > CONTENTION:
        lines.append(
            f"**Other programs used {report['others_cpu']:.0%} of the machine's CPU during the run: requests/s, "
            "latencies and cold starts are of a loaded machine. CPU per request and the ratios are worth more.**"
        )
    return "\n\n".join(lines)


def _peers(found: dict[str, Any]) -> list[str]:
    parts = ["#### Beside its peers", _absent(found), _cpu(found), _throughput(found), _ratios(found)]
    parts += [_same_loads(found)]
    parts += ["Latency added to the upstream's own, open loop, p50 / p99 in ms:", _latency(found)]
    return [part for part in [*parts, _rest(found), _failures(found)] if part]


def _absent(found: dict[str, Any]) -> str:
    return "\n".join(f"- **{name} is not in this run**: {why}" for name, why in found["missing"].items())


def _failures(found: dict[str, Any]) -> str:
    wrong = [why for why in found["failures"].values() if not why.startswith("saturated")]
    return "\n".join(["Did not answer as it must:", "", *(f"- {why}" for why in wrong)]) if wrong else ""


def _cell(found: dict[str, Any], name: str, kind: str, figure: str, digits: int = 3) -> str:
    run = found["results"].get(f"{name} {kind}")
    if run is None:
        return "failed" if f"{name} {kind}" in found["failures"] else "—"
    return number(run[figure], digits)


def _cpu(found: dict[str, Any]) -> str:
    names = found["targets"]
    rows = [[title, *(_cell(found, name, kind, "cpu_ms") for name in names)] for kind, title in KINDS.items()]
    rows.append(["Realtime, µs a message", *(_cell(found, name, "realtime", "cpu_us") for name in names)])
    stores = [_cell(found, "ours", kind, "stores_cpu_ms") for kind in KINDS]
    note = f"PostgreSQL and Redis come on top of ours: {', '.join(stores)} ms in the order of the rows."
    return f"CPU of the process tree, ms a request:\n\n{table(['', *names], rows)}\n\n{note}"


def _throughput(found: dict[str, Any]) -> str:
    names = found["targets"]
    rows = [[title, *(_cell(found, name, kind, "requests_per_s") for name in names)] for kind, title in KINDS.items()]
    rows.append(["Realtime, messages/s", *(_cell(found, name, "realtime", "messages_per_s") for name in names)])
    return f"Requests/s, closed loop:\n\n{table(['', *names], rows)}"


def _ratios(found: dict[str, Any]) -> str:
    """How many times the CPU of ours another needs, or ours of another."""
    names = found["targets"][1:]

    def cell(name: str, kind: str) -> str:
        ratio = found["ratios"].get(f"{name} {kind}")
        return number(ratio["cpu"], 2) + " ×" if ratio else "—"

    titles = KINDS | {"realtime": "Realtime"}
    rows = [[title, *(cell(name, kind) for name in names)] for kind, title in titles.items()]
    return f"Our CPU as a multiple of theirs, medians of the rounds' own ratios:\n\n{table(['', *names], rows)}"


def _same_loads(found: dict[str, Any]) -> str:
    """CPU where all bear the same load."""
    names = found["targets"]

    def cell(name: str, load: str) -> str:
        if f"{name} {load}" not in found["results"]:
            return _absence(found, name, load)
        cpu, ratio = _cell(found, name, load, "cpu_ms"), found["ratios"].get(f"{name} {load}")
        return f"{cpu} ({number(ratio['cpu'], 2)} ×)" if ratio else cpu

    rows = [[load, *(cell(name, load) for name in names)] for load in _loads(found)]
    note = "CPU at the same load, open loop, ms a request, and in brackets ours as a multiple of it:"
    return f"{note}\n\n{table(['', *names], rows)}"


def _latency(found: dict[str, Any]) -> str:
    names = found["targets"]

    def cell(name: str, rate: str) -> str:
        added = found["added_ms"].get(f"{name} {rate}")
        if added:
            return f"{number(added['p50_ms'], 2)} / {number(added['p99_ms'], 2)}"
        return _absence(found, name, rate)

    return table(["", *names], [[rate, *(cell(name, rate) for name in names)] for rate in _loads(found)])


def _loads(found: dict[str, Any]) -> list[str]:
    """The fixed rates, by name."""
    return list(dict.fromkeys(key.partition(" ")[2] for key in found["added_ms"]))


def _absence(found: dict[str, Any], name: str, load: str) -> str:
    """Why a target has no figure at a rate."""
    why = found["failures"].get(f"{name} {load}")
    return "—" if why is None else "saturated" if why.startswith("saturated") else "failed"


def _rest(found: dict[str, Any]) -> str:
    names = found["targets"]
    rows = [
        ["cold start to the first answer, s", *(number(found["cold_start_s"].get(name), 2) for name in names)],
        ["memory after it, MB", *(number(found["idle_mb"].get(name), 3) for name in names)],
        ["most memory with 1,000 slow streams, MB", *(_cell(found, name, "streams", "memory_mb") for name in names)],
        ["of them finished", *(_cell(found, name, "streams", "finished", 5) for name in names)],
        ["in seconds (9.6 unhindered)", *(_cell(found, name, "streams", "seconds", 2) for name in names)],
    ]
    return table(["", *names], rows)


def _growth(found: dict[str, Any]) -> str:
    small, grown = found["small_size"], found["size"]
    figures, ratios = found["figures"], found["ratios"]
    rows = []
    for what, title in GROWTH.items():
        for figure, whose in (("cpu_ms", "worker"), ("stores_cpu_ms", "PostgreSQL and Redis")):
            one, two = (figures[name][what][figure] for name in ("small", "grown"))
            rows.append([f"{title}: CPU ms, {whose}", number(one), number(two), f"{ratios[what][figure]:.2f} ×"])
    for what in ("settling a record", "settling an organization"):
        one, two = (figures[name][what]["cpu_ms"] for name in ("small", "grown"))
        rows.append([f"{what}: CPU ms, all", number(one), number(two), f"{ratios[what]['cpu_ms']:.2f} ×"])
    for title, key in (("cold start, s", "cold_start_s"), ("a revoked key is refused after, ms", "refused_after_ms")):
        one, two = (found[key][name] for name in ("small", "grown"))
        rows.append([title, number(one, 2), number(two, 2), f"{two / one:.2f} ×"])
    memory = found["memory"]
    return "\n\n".join(
        [
            "#### Growth",
            table(["", _size(small), _size(grown), "median ratio"], rows),
            f"The worker's memory once it has served {memory['keys']:,} keys: {memory['mb']:.0f} MB.",
        ]
    )


def _size(size: dict[str, int]) -> str:
    return f"{size['rows']:,} usage records, {size['keys']:,} keys, {size['organizations']:,} organizations"


def _hot(found: dict[str, Any]) -> str:
    rows = []
    for workers, one in found["workers"].items():
        hot, spread = one["figures"]["one"], one["figures"]["spread"]
        for title, run in (("one organization", hot), (f"{found['organizations']} organizations", spread)):
            cells = [number(run["requests_per_s"]), number(run["cpu_ms"]), number(run["stores_cpu_ms"])]
            rows.append([workers, title, *cells, f"{number(run['p50_ms'], 2)} / {number(run['p99_ms'], 2)}"])
    headers = ["workers", "load on", "requests/s", "CPU ms", "PostgreSQL and Redis CPU ms"]
    headers.append(f"p50 / p99 ms at {found['rate']:.0f}/s")
    return f"#### One busy organization\n\n{table(headers, rows)}"
