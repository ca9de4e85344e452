"""How pixie talks: retries as OpenAI's SDK does them, errors that say what to do, exit codes."""

import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest
import typer.main

from pixie.app import app
from tests.conftest import KEY, Answer, Pixie, Server

BALANCE = {
    "object": "credit_balance", "organization": "acme", "balance": "12.3400", "held": "0.3400",
    "credit_limit": "0.0000", "available": "12.0000", "available_usd": "0.120000000",
}  # fmt: skip
PATH = "/v1/credits/balance"


def refused(status: int, code: str, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer({"error": {"message": f"told {code}", "type": "t", "param": None, "code": code}}, status, named)


NO_RETRY = {"x_should_retry": "false"}


def test_a_result_is_told_to_people_scripts_and_programs(pixie: Pixie, server: Server) -> None:
    server.on("GET", PATH, BALANCE)
    shown = pixie("credits")
    assert (shown.code, shown.err) == (0, "")
    assert "12.34 credits" in shown.out
    assert "acme" in shown.out
    assert pixie("credits", "balance", "--json").json == BALANCE
    assert pixie("--json", "credits").json == BALANCE
    assert pixie("credits", "--json").json == BALANCE
    assert pixie("credits", "-q").out == "12.0000\n"
    assert {one.bearer for one in server.asked} == {KEY}


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_what_may_pass_is_tried_again(pixie: Pixie, server: Server, status: int) -> None:
    server.on("GET", PATH, refused(status, "x", retry_after_ms="1"), BALANCE)
    assert pixie("credits", "-q").out == "12.0000\n"
    assert [one.headers.get("x-stainless-retry-count") for one in server.asked] == [None, "1"]


def test_it_gives_up_after_two_retries(pixie: Pixie, server: Server) -> None:
    server.on("GET", PATH, refused(503, "service_unavailable", retry_after_ms="1"))
    done = pixie("credits")
    assert done.code == 8
    assert len(server.asked) == 3
    assert "told service_unavailable" in done.err
    assert "HTTP 503: trying again in 0.0 s" in done.err
    assert pixie("credits", PIXIE_MAX_RETRIES="0").code == 8
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    "headers",
    [{"retry_after": "1"}, {"retry_after_ms": "1000"}, {"retry_after": "DATE"}],
    ids=["seconds", "milliseconds", "date"],
)
def test_it_waits_as_long_as_it_is_asked_to(pixie: Pixie, server: Server, headers: dict[str, str]) -> None:
    soon = formatdate(time.time() + 2.5, usegmt=True)
    asked = {name: soon if value == "DATE" else value for name, value in headers.items()}
    server.on("GET", PATH, refused(429, "rate_limit_exceeded", **asked), BALANCE)
    started = time.monotonic()
    assert pixie("credits").code == 0
    assert time.monotonic() - started >= 1


def test_it_does_not_wait_for_longer_than_two_minutes(pixie: Pixie, server: Server) -> None:
    server.on("GET", PATH, refused(429, "rate_limit_exceeded", retry_after="121"))
    assert pixie("credits").code == 7
    assert len(server.asked) == 1


def test_the_server_decides_by_x_should_retry(pixie: Pixie, server: Server) -> None:
    server.on("GET", PATH, refused(500, "x", x_should_retry="false"))
    assert pixie("credits").code == 8
    server.on("GET", PATH, refused(400, "x", x_should_retry="true", retry_after_ms="1"), BALANCE)
    assert pixie("credits").code == 0
    assert len(server.asked) == 3


def test_a_connection_that_breaks_is_tried_again(pixie: Pixie, server: Server) -> None:
    server.on("GET", PATH, Answer(is_dropped=True), BALANCE)
    assert pixie("credits").code == 0


def test_what_must_not_happen_twice_is_not_sent_twice(pixie: Pixie, server: Server) -> None:
    server.on("GET", "/v1/credits/transactions", {"data": []})
    server.on("POST", "/v1/credits/purchase", Answer(is_dropped=True))
    assert pixie("credits", "buy", "starter").code == 8
    assert len(server.calls("/v1/credits/purchase")) == 1


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (refused(401, "invalid_api_key", **NO_RETRY), 3, "pixie auth login"),
        (refused(403, "scope_missing"), 4, "pixie keys create"),
        (refused(403, "permission_denied"), 4, "told permission_denied"),
        (refused(404, "not_found"), 5, "told not_found"),
        (refused(404, "unknown_url"), 5, "sells no credit"),
        (refused(429, "insufficient_quota", x_top_up_url="https://here/buy", **NO_RETRY), 6, "https://here/buy"),
        (refused(429, "budget_exceeded", **NO_RETRY), 6, "limits page"),
        (refused(402, "x"), 6, "pixie credits buy"),
        (refused(429, "rate_limit_exceeded", **NO_RETRY), 7, "Wait a moment"),
        (refused(400, "invalid_value"), 1, "told invalid_value"),
        (refused(500, "internal_error", **NO_RETRY), 8, "pixie health"),
        (Answer(b"<html>", 502, NO_RETRY | {"x-should-retry": "false"}, "text/html"), 8, "HTTP 502 with text/html"),
        (Answer(b"<html>", 200, {}, "text/html"), 1, "--api-url"),
        (Answer(b"", 301, {"location": "https://there/"}), 1, "https://there/"),
    ],
)  # fmt: skip
def test_every_failure_says_what_to_do_and_has_its_code(
    pixie: Pixie, server: Server, answer: Answer, code: int, words: str
) -> None:
    answer.headers["x-request-id"] = "req_1"
    server.on("GET", PATH, answer)
    done = pixie("credits")
    assert (done.code, done.out) == (code, "")
    assert words in done.err
    told = pixie("credits", "--json")
    assert (told.code, told.out) == (code, "")
    assert told.error["exit_code"] == code


def test_a_request_id_is_shown_with_the_error(pixie: Pixie, server: Server) -> None:
    server.on("GET", PATH, refused(400, "x", x_request_id="req_77"))
    assert "req_77" in pixie("credits").err
    assert pixie("credits", "--json").error["request_id"] == "req_77"


def test_a_server_that_is_not_there(pixie: Pixie) -> None:
    done = pixie("credits", "--api-url", "http://127.0.0.1:9", PIXIE_MAX_RETRIES="0")
    assert done.code == 8
    assert "http://127.0.0.1:9 cannot be reached" in done.err


def test_a_server_that_does_not_answer(pixie: Pixie, server: Server) -> None:
    def sleepy(asked: object) -> Answer:
        time.sleep(2)
        return Answer(BALANCE)

    server.on("GET", PATH, sleepy)
    done = pixie("credits", PIXIE_TIMEOUT="1", PIXIE_MAX_RETRIES="0")
    assert done.code == 8
    assert "did not answer in time" in done.err


@pytest.mark.parametrize("url", ["ftp://x", "x", "https://"])
def test_an_address_that_is_none(pixie: Pixie, url: str) -> None:
    done = pixie("credits", "--api-url", url)
    assert done.code == 2
    assert "no address" in done.err


def test_the_address_may_end_as_sdks_want_it(pixie: Pixie, server: Server) -> None:
    server.on("GET", PATH, BALANCE)
    assert pixie("credits", "--api-url", f"{server.url}/v1/").code == 0


def test_wrong_usage_is_two(pixie: Pixie) -> None:
    assert pixie("nonsense").code == 2
    assert pixie("credits", "buy").code == 2
    assert pixie("generate", "x", "-n", "11").code == 2
    for arguments in (("--json", "nonsense"), ("generate", "--json"), ("generate", "x", "-n", "11", "--json")):
        done = pixie(*arguments)
        assert (done.code, done.out, done.error["exit_code"]) == (2, "", 2)
        assert "-h`" in done.error["do"]


def test_what_a_server_says_cannot_steer_the_terminal(pixie: Pixie, server: Server) -> None:
    server.on("GET", PATH, BALANCE | {"organization": "ac\x1b]0;gotcha\x07me\x1b[2J[bold]"})
    assert "ac]0;gotchame[2J[bold]" in pixie("credits").out


def test_colours_only_where_somebody_sees_them(pixie: Pixie, server: Server) -> None:
    server.on("GET", PATH, BALANCE)
    assert "\x1b" not in pixie("credits").out
    assert "\x1b" in pixie("credits", FORCE_COLOR="1").out
    plain = pixie("credits", FORCE_COLOR="1", NO_COLOR="1").out
    assert "\x1b[3" not in plain


def test_version_help_and_completion(pixie: Pixie) -> None:
    assert pixie("--version").out == "pixie 0.1.0\n"
    assert "Exit codes: 0 done" in pixie("--help").out
    assert "generate" in pixie("-h").out
    script = pixie(_PIXIE_COMPLETE="complete_bash", COMP_WORDS="pixie gal", COMP_CWORD="1").out
    assert script.split() == ["gallery"]


def test_every_command_takes_the_common_options() -> None:
    def visit(command: Any, path: str) -> Iterator[tuple[str, set[str]]]:
        if not getattr(command, "commands", None):
            yield path, {option for parameter in command.params for option in parameter.opts}
        for name, child in getattr(command, "commands", {}).items():
            yield from visit(child, f"{path} {name}")

    found = dict(visit(typer.main.get_command(app), "pixie"))
    assert len(found) >= 29
    common = {"--json", "--quiet", "--profile", "--api-url"}
    assert [path for path, options in found.items() if not common <= options] == []
