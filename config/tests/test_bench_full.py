"""The full benchmark's own rules: who is missing is told, who fails is told, and the table shows what was measured."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from bench import peers, tables
from bench.full import Runs, added, compare
from bench.growth_rows import months
from bench.targets import Failed, Target
from config.tests.manifests import ROOT

OURS, PEER = Target("ours", 1, 1), Target("peer", 2, 2)


def run(cpu_ms: float, requests_per_s: float = 100.0, p50_ms: float = 1.0) -> dict[str, float]:
    return {
        "cpu_ms": cpu_ms,
        "stores_cpu_ms": 0.5,
        "requests_per_s": requests_per_s,
        "p50_ms": p50_ms,
        "p99_ms": p50_ms * 3,
    }


def fail() -> dict[str, float]:
    raise Failed("peer, json: 1 bad answers, the first: HTTP/1.1 500")


def test_a_peer_that_fails_is_told_once_and_measured_no_more():
    runs = Runs()
    runs.take(PEER, "json", lambda: run(1.0))
    runs.take(PEER, "json", fail)
    runs.take(PEER, "json", lambda: run(1.0))
    assert runs.summary() == {}
    assert "HTTP/1.1 500" in runs.failures["peer json"]


def test_our_own_failure_ends_the_benchmark():
    with pytest.raises(Failed):
        Runs().take(OURS, "json", fail)


def test_ours_is_compared_round_by_round():
    runs = Runs()
    for ours, theirs in ((2.0, 1.0), (6.0, 3.0), (4.0, 1.0)):
        runs.take(OURS, "json", lambda cpu=ours: run(cpu))
        runs.take(PEER, "json", lambda cpu=theirs: run(cpu, 200.0))
    assert compare(runs, ["peer"]) == {"peer json": {"cpu": 2.0, "throughput": 0.5}}


def test_added_latency_is_above_the_upstreams_own():
    runs = Runs()
    for number in range(2):
        runs.take(Target("upstream", 3, 3), "json at 25/s", lambda: run(0.1, p50_ms=1.0))
        runs.take(OURS, "json at 25/s", lambda n=number: run(0.1, p50_ms=2.0 + n))
    assert added(runs, ["ours"])["ours json at 25/s"] == {"p50_ms": 1.5, "p99_ms": 4.5}
    assert added(runs, ["ours"])["ours json at 250/s"] == {}


def test_the_last_days_are_cut_at_the_turns_of_months():
    now = datetime(2026, 3, 5, 12, tzinfo=UTC)
    cut = months(now, 40)
    assert [begins for begins, _ in cut] == [
        now - timedelta(days=40), datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
    ]  # fmt: skip
    assert cut[-1][1] == now
    assert all(one[1] == other[0] for one, other in pairwise(cut))


def test_nginx_that_is_nowhere_is_missing_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "CACHE", tmp_path)
    monkeypatch.setattr(peers.shutil, "which", lambda *_, **__: None)
    with pytest.raises(peers.Missing, match="nginx is not installed"):
        peers._nginx(fetch=True)


def test_a_peer_is_installed_once_and_again_when_its_version_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "CACHE", tmp_path)
    calls = []
    for wanted in ("1", "1", "2"):
        peers._cached("peer", wanted, lambda folder: calls.append(folder.name))
    assert calls == ["peer", "peer"]


def test_an_installation_that_fails_is_missing_and_leaves_no_mark(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "CACHE", tmp_path)
    for _ in range(2):
        with pytest.raises(peers.Missing, match="sh -c failed: no such package"):
            peers._cached("peer", "1", lambda f: peers._call("sh", "-c", "echo no such package >&2; exit 1", cwd=f))


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (None, 3, "—"),
        (0.0, 3, "0"),
        (0.24812, 3, "0.248"),
        (1.9791, 3, "1.98"),
        (273.4, 3, "273"),
        (3611.2, 3, "3,611"),
        (0.00001234, 2, "0.000012"),
        (-0.05, 2, "-0.05"),
    ],
)
def test_numbers_are_written_for_people(value, digits, text):
    assert tables.number(value, digits) == text


def test_the_markdown_tells_what_is_missing_and_whether_the_machine_was_busy():
    found = {
        "targets": ["ours", "peer"],
        "missing": {"nginx": "nginx is not installed"},
        "failures": {"peer burst": "peer, burst: 500", "peer json at 250/s": "saturated"},
        "results": {
            "ours json": run(0.25, 3611.0),
            "peer json": run(2.5, 50.0),
            "ours json at 25/s": run(0.5, 25.0),
            "ours json at 250/s": run(0.4, 250.0),
            "peer json at 25/s": run(4.0, 25.0),
        },
        "ratios": {
            "peer json": {"cpu": 0.1, "throughput": 72.0},
            "peer json at 25/s": {"cpu": 0.125, "throughput": 1.0},
        },
        "added_ms": {
            "ours json at 25/s": {"p50_ms": 1.1, "p99_ms": 5.5},
            "peer json at 25/s": {"p50_ms": 11.0, "p99_ms": 55.0},
            "ours json at 250/s": {"p50_ms": 1.2, "p99_ms": 5.6},
            "peer json at 250/s": {},
        },
        "cold_start_s": {"ours": 2.5},
        "idle_mb": {"ours": 120.0},
    }
    report = {
        "at": "2026-11-21T12:00:00+00:00",
        "machine": {"cpus": 2, "cpu": "", "platform": "Linux", "python": "3.13"},
        "rounds": 3,
        "seconds": 1.5,
        "took_s": 600,
        "others_cpu": 0.4,
        "peers": found,
    }
    text = tables.markdown(report)
    assert "**nginx is not in this run**: nginx is not installed" in text
    assert "Other programs used 40%" in text
    assert "| JSON, about 600 bytes | 0.25 | 2.5 |" in text
    assert "| JSON, about 600 bytes | 0.1 × |" in text
    assert "| burst stream, 64 chunks | — | failed |" in text
    assert "| json at 250/s | 1.2 / 5.6 | saturated |" in text
    assert "| json at 25/s | 0.5 | 4 (0.12 ×) |" in text
    assert "| json at 250/s | 0.4 | saturated |" in text
    assert "- peer, burst: 500" in text
    assert "Other programs" not in tables.markdown(report | {"others_cpu": 0.02})


def test_a_run_takes_the_place_of_the_last_on_the_page():
    page = f"before\n\n{tables.BEGIN}\n\nold\n\n{tables.END}\n\nafter\n"
    assert tables.inserted(page, "new\n") == page.replace("old", "new")
    assert tables.inserted(tables.inserted(page, "a"), "new") == page.replace("old", "new")
    assert tables.BEGIN in (ROOT / "docs/performance.md").read_text()
    with pytest.raises(ValueError, match="bench-full"):
        tables.inserted("no marks", "new")
