"""Units, proxies, alerts and the dashboard in `deploy/`, against the code that they speak of."""

import configparser
import json
import re
import shutil
import subprocess

import pytest
import yaml
from django.conf import settings
from prometheus_client import REGISTRY

import config.metrics  # noqa: F401 - registers every figure that `/metrics` shows
from config.tests.manifests import DEPLOY, ROOT, graceful_s
from proxy import runtime

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
RULES = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"]
DASHBOARD = json.loads((DEPLOY / "grafana" / "tuppence.json").read_text())
OUTCOMES = {"completed", "client_closed", "upstream_error", "upstream_cut", "timeout", "interrupted"}


class Unit(configparser.RawConfigParser):
    """A systemd unit: names keep their case and may come twice."""

    def __init__(self, text):
        super().__init__(strict=False, delimiters=("=",), comment_prefixes=("#",))
        self.optionxform = str
        self.read_string(text)


def figures():
    """Every name of a sample that our own metrics may have in an exposition."""
    found = set()
    for metric in REGISTRY.collect():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(metric.type, ("",))
        found |= {metric.name + suffix for suffix in suffixes if metric.name.startswith("tuppence_")}
    return found


def expressions():
    for group in RULES:
        for rule in group["rules"]:
            yield rule.get("alert") or rule["record"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]


@pytest.mark.parametrize(("title", "expression"), list(expressions()))
def test_an_expression_names_figures_that_exist(title, expression):
    recorded = {rule["record"] for group in RULES for rule in group["rules"] if "record" in rule}
    named = set(re.findall(r"\btuppence[:_][\w:]+", expression))
    assert named <= figures() | recorded
    assert named or "up{" in expression
    assert expression.count("(") == expression.count(")")


def test_every_figure_is_on_the_dashboard():
    shown = " ".join(target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"])
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in figures()}
    assert {name for name in families if name not in shown} == set()


def test_alerts_have_a_severity_and_a_section_that_says_what_to_do():
    page = (ROOT / "docs" / "observability.md").read_text()
    sections = {line.lstrip("# ").lower() for line in page.splitlines() if line.startswith("#")}
    for rule in (rule for group in RULES for rule in group["rules"] if "alert" in rule):
        assert rule["labels"]["severity"] in {"page", "ticket"}
        path, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert (path, anchor) == ("docs/observability.md", rule["alert"].lower())
        assert anchor in sections


def test_failures_are_outcomes_that_the_gateway_has():
    (wanted,) = {found for _, expression in expressions() for found in re.findall(r'outcome=~"([\w|]+)"', expression)}
    assert set(wanted.split("|")) < OUTCOMES
    source = "".join(path.read_text() for path in (ROOT / "proxy" / "gateway").rglob("*.py"))
    assert all(f'"{outcome}"' in source for outcome in OUTCOMES)


# ---------------------------------------------------------------- units


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_runs_as_nobody_special(path):
    service = Unit(path.read_text())["Service"]
    assert service["User"] == "tuppence"
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["Restart"] == "always"


@pytest.mark.parametrize("name", ["tuppence-web@.service", "tuppence-web.service"])
def test_a_web_unit_is_given_the_time_that_its_drain_may_take(name):
    service = Unit((DEPLOY / "systemd" / name).read_text())["Service"]
    (graceful,) = re.findall(r"--timeout-graceful-shutdown (\d+)", service["ExecStart"])
    assert int(service["TimeoutStopSec"]) > int(graceful) + runtime.SESSIONS_DRAIN_S + runtime.DRAIN_S + 10
    assert service["KillMode"] == "mixed"


def test_compose_gives_web_that_time():
    web = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["web"]
    assert int(web["stop_grace_period"].rstrip("s")) > graceful_s() + runtime.SESSIONS_DRAIN_S + runtime.DRAIN_S + 10


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize("path", sorted([*UNITS, *(DEPLOY / "systemd").glob("*.socket")]), ids=lambda path: path.name)
def test_systemd_has_nothing_to_say_of_a_unit(path):
    argv = ["systemd-analyze", "verify", "--man=no", str(path)]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False).stderr
    # It is not installed here: that is all that may be wrong.
    assert [line for line in said.splitlines() if "/srv/tuppence/" not in line or "is not executable" not in line] == []


# ---------------------------------------------------------------- proxies


def test_proxies_wait_longer_than_the_gateway():
    longest = max(settings.GATEWAY_TOTAL_TIMEOUT_S, settings.REALTIME_IDLE_TIMEOUT_S)
    nginx = (DEPLOY / "proxies" / "nginx.conf").read_text()
    assert int(re.search(r"proxy_read_timeout (\d+)s", nginx)[1]) > longest
    for path in (DEPLOY / "proxies" / "Caddyfile", DEPLOY / "docker" / "Caddyfile"):
        assert int(re.search(r"read_timeout (\d+)m", path.read_text())[1]) * 60 > longest
    ingress = yaml.safe_load((DEPLOY / "kubernetes" / "base" / "ingress.yaml").read_text())["metadata"]["annotations"]
    assert int(ingress["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > longest


def test_proxies_hold_nothing_back():
    nginx = (DEPLOY / "proxies" / "nginx.conf").read_text()
    assert "proxy_buffering off" in nginx
    assert "text/event-stream" not in nginx
    for path in (DEPLOY / "proxies" / "Caddyfile", DEPLOY / "docker" / "Caddyfile"):
        assert "flush_interval -1" in path.read_text()


def test_proxies_take_the_largest_upload():
    megabytes = settings.GATEWAY_MAX_UPLOAD_BYTES / 1e6
    for path in (DEPLOY / "proxies" / "Caddyfile", DEPLOY / "docker" / "Caddyfile"):
        assert int(re.search(r"max_size (\d+)MB", path.read_text())[1]) > megabytes
