"""Pictures, chats, gallery, keys, usage, health and the operator's commands."""

import base64
import fcntl
import json
import os
import pty
import re
import select
import subprocess
import termios
import time
from typing import Any

from tests.conftest import BINARY, Answer, Asked, Pixie, Server

PNG = b"\x89PNG\r\n\x1a\n" + b"picture"
B64 = base64.b64encode(PNG).decode()
COST = {"x-cost-credits": "1.0880", "x-credits-remaining": "98.9120", "x-request-id": "req_1"}
GENERATE, EDIT, CHAT = "/v1/images/generations", "/v1/images/edits", "/v1/chat/completions"


def events(*items: Any, comments: str = ": x-cost-credits 0.5000\n: x-credits-remaining 9.5000\n\n") -> Answer:
    lines = "".join(f"data: {json.dumps(item)}\n\n" for item in items)
    return Answer(f"{lines}data: [DONE]\n\n{comments}".encode(), 200, {"x-request-id": "req_9"}, "text/event-stream")


def said(*words: str, **more: Any) -> Answer:
    chunks = [{"choices": [{"delta": {"content": word}}]} for word in words]
    return events(
        *chunks,
        {"choices": [{"delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"total_tokens": 7}},
        **more,
    )


# ---------------------------------------------------------------- pictures


def test_pictures_become_files_and_their_cost_is_told(pixie: Pixie, server: Server) -> None:
    server.on(
        "POST",
        GENERATE,
        Answer({"data": [{"b64_json": B64}, {"b64_json": B64}], "usage": {"total_tokens": 3}}, headers=COST),
    )
    done = pixie("generate", "A fox!", "-n", "2", "--quality", "low", "--size", "1024x1024", "-o", "a/b")
    assert done.code == 0, done.err
    assert done.out == "a/b/a-fox-1.png\na/b/a-fox-2.png\n"
    assert "1.088 credits (2 pictures) · 98.912 left · req_1" in done.err
    assert (pixie.home / "a/b/a-fox-2.png").read_bytes() == PNG
    (asked,) = server.asked
    assert asked.json == {"prompt": "A fox!", "quality": "low", "size": "1024x1024", "n": 2}
    assert re.fullmatch(r"pixie-[0-9a-f]{32}", asked.headers["idempotency-key"])
    told = pixie("generate", "A fox!", "-o", "a/b", "--json").json
    assert [one["path"] for one in told["images"]] == ["a/b/a-fox-3.png", "a/b/a-fox-4.png"]  # nothing is overwritten
    assert (told["cost_credits"], told["credits_remaining"], told["request_id"]) == ("1.0880", "98.9120", "req_1")


def test_a_picture_that_is_tried_again_is_the_same_request(pixie: Pixie, server: Server) -> None:
    away = Answer({"error": {"message": "x", "code": "service_unavailable"}}, 503, {"retry-after-ms": "1"})
    server.on("POST", GENERATE, away, Answer(is_dropped=True), Answer({"data": [{"b64_json": B64}]}))
    assert pixie("generate", "x").code == 0
    assert len({(one.headers["idempotency-key"], one.body) for one in server.asked}) == 1
    assert len(server.asked) == 3


def test_options_of_a_picture(pixie: Pixie, server: Server) -> None:
    server.on("POST", GENERATE, Answer({"data": [{"b64_json": B64}]}))
    pixie("generate", "-", "--visibility", "public", "--max-credits", "5", stdin="from stdin\n", PIXIE_IMAGE_MODEL="m")
    assert server.asked[0].json == {"prompt": "from stdin", "model": "m", "n": 1}
    assert server.asked[0].headers["x-gallery-visibility"] == "public"
    assert server.asked[0].headers["x-max-credits"] == "5"
    assert pixie("generate", "x", "--visibility", "all").code == 2
    assert pixie("generate", " ").code == 2


def test_a_directory_that_cannot_be_written_costs_nothing(pixie: Pixie, server: Server) -> None:
    (pixie.home / "taken").write_text("")
    done = pixie("generate", "x", "-o", "taken")
    assert (done.code, server.asked) == (2, [])
    assert "-o" in done.err


def test_pictures_that_come_as_addresses_are_fetched_without_the_key(pixie: Pixie, server: Server) -> None:
    server.on("POST", GENERATE, Answer({"data": [{"url": f"{server.url}/p.png"}]}))
    server.on("GET", "/p.png", Answer(PNG, content_type="image/png"))
    assert pixie("generate", "x").out == "x-1.png\n"
    assert "authorization" not in server.asked[-1].headers
    server.on("POST", GENERATE, Answer({"data": [{"url": "file:///etc/passwd"}]}))
    assert pixie("generate", "x").code == 1
    server.on("POST", GENERATE, Answer({"data": []}))
    assert "no picture" in pixie("generate", "x").err


def test_unfinished_pictures_are_drawn_where_they_can_be(pixie: Pixie, server: Server) -> None:
    partial = {"type": "image_generation.partial_image", "b64_json": B64, "partial_image_index": 0}
    whole = {"type": "image_generation.completed", "b64_json": B64, "usage": {"total_tokens": 3}}
    server.on("POST", GENERATE, events(partial, whole))
    done = pixie("generate", "x", "--preview", "1", PIXIE_PREVIEW="kitty")
    assert done.out == "x-1.png\n"
    assert server.asked[0].json == {"prompt": "x", "n": 1, "stream": True, "partial_images": 1}
    assert done.err.count(f"\x1b_Ga=T,f=100,q=2,c=40,m=0;{B64}\x1b\\") == 1
    assert "0.50 credits · 9.50 left · req_9" in done.err
    assert "\x1b]1337;File=inline=1" in pixie("generate", "x", "--preview", "1", PIXIE_PREVIEW="iterm").err
    server.on("POST", GENERATE, Answer({"data": [{"b64_json": B64}]}))
    assert "shows no pictures" in pixie("generate", "x", "--preview", "1").err
    assert server.asked[-1].json == {"prompt": "x", "n": 1}


def test_a_stream_that_fails_is_an_error(pixie: Pixie, server: Server) -> None:
    server.on("POST", GENERATE, events({"error": {"message": "broke off", "code": "upstream_error"}}))
    done = pixie("generate", "x", "--preview", "1", PIXIE_PREVIEW="kitty")
    assert (done.code, "broke off" in done.err) == (8, True)


def test_a_picture_is_changed(pixie: Pixie, server: Server) -> None:
    (pixie.home / "in.png").write_bytes(PNG)
    (pixie.home / "two.jpg").write_bytes(b"\xff\xd8\xff")
    server.on(
        "POST",
        EDIT,
        Answer({"error": {"message": "x"}}, 500, {"retry-after-ms": "1"}),
        Answer({"data": [{"b64_json": B64}]}, headers=COST),
    )
    done = pixie("edit", "in.png", "a rainbow", "--mask", "in.png", "--quality", "high")
    assert done.out == "a-rainbow-1.png\n", done.err
    first, second = server.asked
    assert first.body == second.body
    assert first.headers["content-type"] == second.headers["content-type"]
    for part in (
        b'name="image"; filename="in.png"',
        b'name="mask"',
        b'name="prompt"\r\n\r\na rainbow',
        b"image/png",
        PNG,
    ):
        assert part in first.body
    pixie("edit", "in.png", "x", "--image", "two.jpg")
    assert server.asked[-1].body.count(b'name="image[]"') == 2
    assert pixie("edit", "none.png", "x").code == 2
    (pixie.home / "text.png").write_text("hello")
    assert "no PNG" in pixie("edit", "text.png", "x").err


# ---------------------------------------------------------------- chats


def test_a_chat_streams_to_stdout_and_its_cost_to_stderr(pixie: Pixie, server: Server) -> None:
    server.on("POST", CHAT, said("two ", "pence"))
    done = pixie("chat", "hello", "--system", "Be brief.", "--max-tokens", "9", "--temperature", "0")
    assert done.out == "two pence\n"
    assert "7 tokens · 0.50 credits · 9.50 left · req_9" in done.err
    assert server.asked[0].json == {
        "model": "gpt-fast",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_completion_tokens": 9,
        "temperature": 0,
    }
    assert pixie("chat", "hello", "-q").err == ""
    told = pixie("chat", "hello", "--json").json
    assert (told["content"], told["cost_credits"], told["finish_reason"]) == ("two pence", "0.5000", "stop")


def test_stdin_is_added_to_the_question(pixie: Pixie, server: Server) -> None:
    server.on("POST", CHAT, said("x"))
    pixie("chat", "Summarise:", stdin="a long text\n")
    assert server.asked[-1].json["messages"][0]["content"] == "Summarise:\n\na long text"
    pixie("chat", stdin="only this")
    pixie("chat", "-", stdin="only this")
    assert server.asked[-1].json == server.asked[-2].json
    assert pixie("chat", stdin="").code == 2


def test_an_answer_cannot_steer_the_terminal(pixie: Pixie, server: Server) -> None:
    server.on("POST", CHAT, said("a\x1b]0;x\x07b\n"))
    assert pixie("chat", "x").out == "a]0;xb\n"


def test_an_answer_that_breaks_off_is_an_error(pixie: Pixie, server: Server) -> None:
    server.on("POST", CHAT, events({"choices": [{"delta": {"content": "two"}}]}, comments=""))
    done = pixie("chat", "x")
    assert (done.code, "broke off" in done.err) == (8, True)
    server.on("POST", CHAT, events({"error": {"message": "cut", "code": "upstream_error"}}))
    assert pixie("chat", "x").code == 8


def test_a_conversation_in_a_terminal(pixie: Pixie, server: Server) -> None:
    bad = Answer({"error": {"message": "no such thing", "code": "invalid_value"}}, 400)
    server.on("POST", CHAT, said("two pence"), bad, said("three pence"))
    with Terminal(pixie, "chat", "--system", "s") as terminal:
        terminal.until("/exit")
        terminal.type("hello")
        terminal.until("req_9")
        terminal.type("again")
        terminal.until("no such thing")
        terminal.type("once more")
        terminal.until("three pence")
        terminal.until("req_9")
        terminal.type("/cost")
        terminal.until("1.00 credits so far")
        terminal.type("/new")
        terminal.until("A new conversation")
        terminal.type("/exit")
        assert terminal.ended() == 0
    assert [one["content"] for one in server.asked[-1].json["messages"]] == ["s", "hello", "two pence", "once more"]


def test_control_c_stops_an_answer_and_not_the_conversation(pixie: Pixie, server: Server) -> None:
    def slow(asked: Asked) -> Answer:
        time.sleep(3)
        return said("late")

    server.on("POST", CHAT, slow)
    with Terminal(pixie, "chat") as terminal:
        terminal.until("/exit")
        terminal.type("hello")
        while not server.asked:
            time.sleep(0.05)
        terminal.send("\x03")
        terminal.until("Stopped")
        terminal.until("› ")
        assert terminal.ended(while_sending="\x04") == 0
    with Terminal(pixie, "chat", "hello") as terminal:
        while len(server.asked) < 2:
            time.sleep(0.05)
        terminal.send("\x03")
        assert terminal.ended() == 130


class Terminal:
    """pixie in a terminal, and what a person types there."""

    def __init__(self, pixie: Pixie, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self._said = ""
        self._process = subprocess.Popen(
            [str(BINARY), *arguments], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env={**pixie.env, "TERM": "xterm-256color", "COLUMNS": "200"}, cwd=pixie.home,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - so that Ctrl-C reaches it
        )  # fmt: skip
        os.close(theirs)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(5)
        os.close(self._ours)

    def type(self, text: str) -> None:
        self.send(f"{text}\r")

    def send(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def until(self, words: str) -> None:
        """Wait for words, and forget what was said up to them."""
        deadline = time.monotonic() + 20
        while words not in self._said:
            assert time.monotonic() < deadline, f"not said: {words!r} in {self._said!r}"
            self._read()
        self._said = self._said.partition(words)[2]

    def ended(self, while_sending: str = "") -> int:
        deadline = time.monotonic() + 20
        while self._process.poll() is None:
            assert time.monotonic() < deadline, self._said
            self.send(while_sending)
            self._read()
        return self._process.returncode

    def _read(self) -> None:
        if select.select([self._ours], [], [], 0.1)[0]:
            try:
                self._said += os.read(self._ours, 65536).decode(errors="replace")
            except OSError:
                time.sleep(0.05)


# ---------------------------------------------------------------- gallery

IMAGE = {
    "id": "22222222-2222-2222-2222-222222222222", "created_at": "2026-11-20T10:00:00Z", "prompt": "A fox", "model": "m",
    "size": "1024x1024", "visibility": "public", "cost_credits": "1.5000",
}  # fmt: skip


def test_the_gallery(pixie: Pixie, server: Server) -> None:
    mine = IMAGE | {"url": f"{server.url}/p.png"}
    server.on("GET", "/v1/images", {"data": [mine], "next": "7"})
    server.on("GET", f"/v1/images/{IMAGE['id']}", mine)
    server.on("GET", "/p.png", Answer(PNG, content_type="image/png"))
    done = pixie("gallery", "list", "--search", "fox", "--limit", "5", "--after", "9")
    assert all(word in done.out for word in (IMAGE["id"], "A fox", "1.50", "2026-11-20 10:00"))
    assert "More: --after 7" in done.err
    assert server.asked[0].query == {"q": "fox", "limit": "5", "after": "9", "mine": "1"}
    assert pixie("gallery", "list", "-q").out == f"{IMAGE['id']}\n"
    assert pixie("gallery", "get", IMAGE["id"], "-o", "x").out == "x/a-fox-1.png\n"
    assert (pixie.home / "x/a-fox-1.png").read_bytes() == PNG
    assert pixie("gallery", "get", f"{server.url}/gallery/{IMAGE['id']}", "--json").json["path"] == "a-fox-1.png"
    assert pixie("gallery", "open", IMAGE["id"]).out == f"{server.url}/gallery/{IMAGE['id']}\n"
    server.on("GET", f"/v1/images/{IMAGE['id']}", mine | {"visibility": "private"})
    assert pixie("gallery", "open", IMAGE["id"], "--json").json["url"] == f"{server.url}/p.png"
    server.on("GET", "/v1/images", {"data": [], "next": None})
    assert "pixie generate" in pixie("gallery", "list").err


def test_everybodys_pictures_need_no_sign_in(anonymous: Pixie, server: Server) -> None:
    server.on("GET", "/v1/images", {"data": [IMAGE], "next": None})
    assert anonymous("gallery", "list", "--public").code == 0
    assert "authorization" not in server.asked[0].headers
    assert anonymous("gallery", "list").code == 3


# ---------------------------------------------------------------- credit

PACK = {"id": "popular", "name": "Popular", "credits": 1500, "bonus_credits": 300, "total_credits": 1800,
        "price_cents": 1999, "currency": "usd"}  # fmt: skip
MOVED = {"id": "8", "type": "purchase", "label": "Purchase", "credits": "1500.0000", "memo": "Popular pack",
         "created_at": "2026-11-20T10:00:00Z"}  # fmt: skip
BALANCE = {"organization": "acme", "balance": "1800.0", "held": "0", "credit_limit": "50.0", "available": "1800.0000"}


def test_packs_and_movements(pixie: Pixie, server: Server) -> None:
    server.on("GET", "/v1/credits/packs", {"data": [PACK]})
    server.on("GET", "/v1/credits/transactions", {"data": [MOVED, MOVED | {"credits": "-0.5000"}], "next": "3"})
    assert all(word in pixie("credits", "packs").out for word in ("popular", "1,800", "$19.99"))
    done = pixie("credits", "transactions", "--type", "purchase")
    assert all(word in done.out for word in ("+1,500.00", "-0.50", "Popular pack"))
    assert server.asked[-1].query == {"type": "purchase", "limit": "20"}
    assert pixie("credits", "transactions", "-q").out.startswith("8\tpurchase\t1500.0000\n")


def test_buying_waits_for_the_credit(pixie: Pixie, server: Server) -> None:
    order = {"id": "o", "pack": PACK, "checkout_url": "https://pay/here", "status": "open"}
    server.on("POST", "/v1/credits/purchase", order)
    old = {"data": [MOVED | {"id": "7"}]}
    server.on("GET", "/v1/credits/transactions", old, old, {"data": [MOVED]})
    server.on("GET", "/v1/credits/balance", BALANCE)
    done = pixie("credits", "buy", "popular")
    assert done.code == 0, done.err
    assert "Pay here: https://pay/here" in done.err
    assert "1,800.00 credits have been added" in done.err
    assert "1,800.00" in done.out
    assert "50.00" in done.out  # the limit
    assert server.calls("/v1/credits/purchase")[0].json == {"pack_id": "popular", "payment_method": "stripe"}
    server.on("GET", "/v1/credits/transactions", old)
    assert pixie("credits", "buy", "popular", "--timeout", "1").code == 10
    assert pixie("credits", "buy", "popular", "--no-wait", "--json").json["paid"] is False


def test_estimates(pixie: Pixie, server: Server) -> None:
    told = {"model": "m", "endpoint": CHAT, "estimated_credits": "0.5", "max_credits": "2.0", "input_tokens": 1,
            "output_tokens": 2000, "available_credits": "1.0", "is_affordable": False}  # fmt: skip
    server.on("POST", "/v1/credits/estimate", told)
    done = pixie("credits", "estimate", "hello", "--chat", "-m", "m")
    assert "2,000 out" in done.out
    assert "not enough credit" in done.err
    assert server.asked[-1].json == {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    pixie("credits", "estimate", "a fox", "-n", "2")
    assert server.asked[-1].json == {"prompt": "a fox", "n": 2, "endpoint": GENERATE}
    assert (
        pixie("credits", "estimate", "--body", "-", "--endpoint", "/v1/embeddings", "-q", stdin='{"input": "x"}').out
        == "0.5\n"
    )
    assert server.asked[-1].json == {"input": "x", "endpoint": "/v1/embeddings"}
    assert pixie("credits", "estimate").code == 2
    assert pixie("credits", "estimate", "--body", "-", stdin="[]").code == 2


# ---------------------------------------------------------------- keys

ROW = {"id": "k1", "name": "ci", "key": "sk-tup-a…b", "is_live": True, "scopes": ["chat"], "last_used_at": None}


def test_keys(pixie: Pixie, server: Server) -> None:
    path = "/v1/auth/api-keys"
    server.on("GET", path, {"data": [ROW, ROW | {"id": "k2", "name": "old", "is_live": False}], "next": None})
    server.on("POST", path, Answer(ROW | {"secret": "sk-tup-new"}, 201))
    server.on("DELETE", f"{path}/k1", {"id": "k1", "deleted": True})
    assert all(word in pixie("keys", "list").out for word in ("ci", "live", "ended", "never", "chat"))
    done = pixie(
        "keys",
        "create",
        "ci",
        "--scope",
        "chat",
        "--scope",
        "images",
        "--model",
        "m",
        "--rpm",
        "5",
        "--expires-in",
        "7",
    )
    assert done.out == "sk-tup-new\n"
    assert "only time" in done.err
    body = server.asked[-1].json
    assert body.pop("expires_at") > "2026"
    assert body == {"name": "ci", "scopes": ["chat", "images"], "allowed_models": ["m"], "rpm": 5}
    refused = pixie("keys", "revoke", "ci")
    assert (refused.code, "--yes" in refused.err) == (1, True)
    assert server.calls(f"{path}/k1") == []
    assert pixie("keys", "revoke", "ci", "--yes").code == 0
    assert pixie("keys", "revoke", "k1", "-y", "--json").json["deleted"] is True
    assert pixie("keys", "revoke", "old", "-y").code == 2


def test_a_key_is_revoked_when_a_person_says_yes(pixie: Pixie, server: Server) -> None:
    server.on("GET", "/v1/auth/api-keys", {"data": [ROW], "next": None})
    server.on("DELETE", "/v1/auth/api-keys/k1", {"deleted": True})
    for answer, code in (("n", 1), ("y", 0)):
        with Terminal(pixie, "keys", "revoke", "ci") as terminal:
            terminal.until("Revoke the key ci (sk-tup-a…b)? [y/N]")
            terminal.type(answer)
            assert terminal.ended() == code
    assert len(server.calls("/v1/auth/api-keys/k1")) == 1


# ---------------------------------------------------------------- usage, models, health

SUMS = {"requests": 3, "errors": 1, "input_tokens": 10, "output_tokens": 20, "total_tokens": 30, "credits": "4.5000"}


def test_usage(pixie: Pixie, server: Server) -> None:
    stats = SUMS | {"start": "2026-11-01", "end": "2026-11-03", "latency_p50_ms": 100, "latency_p95_ms": 900,
                    "by_model": [SUMS | {"model": "m"}], "by_key": [SUMS | {"key": "k", "key_name": "ci"}]}  # fmt: skip
    days = [SUMS | {"date": f"2026-11-0{day}", "credits": amount} for day, amount in ((1, "0"), (2, "1"), (3, "4.5"))]
    server.on("GET", "/v1/usage/stats", stats)
    server.on("GET", "/v1/usage/daily", {"data": days})
    done = pixie("usage", "--from", "2026-11-01", "--to", "2026-11-03", "--model", "m")
    assert done.code == 0, done.err
    assert all(word in done.out for word in (" ▂█", "4.50 credits", "3, 1 of them failed", "900 ms for 95 %"))
    assert server.asked[0].query == {"start": "2026-11-01", "end": "2026-11-03", "model": "m"}
    assert "ci" in pixie("usage", "--by", "key").out
    assert pixie("usage", "-q").out == "4.5000\n"
    assert pixie("usage", "--to", "2026-11-03", "--days", "3", "--json").json["stats"]["requests"] == 3
    assert server.asked[-1].query == {"start": "2026-11-01", "end": "2026-11-03"}
    assert pixie("usage", "--by", "x").code == 2
    assert pixie("usage", "--to", "x").code == 2
    server.on("GET", "/v1/usage/daily", Answer(b"date,credits\r\n", content_type="text/csv"))
    assert pixie("usage", "--csv").out.split() == ["date,credits"]
    row = SUMS | {
        "id": "req_1",
        "created_at": "2026-11-20T10:00:00Z",
        "model": "m",
        "outcome": "completed",
        "latency_ms": 12,
    }
    server.on("GET", "/v1/usage/logs", {"data": [row]})
    assert "req_1" in pixie("usage", "--log", "5").out
    assert server.asked[-1].query["limit"] == "5"


def test_models(pixie: Pixie, server: Server) -> None:
    rows = [
        {
            "model": "gpt-x",
            "owned_by": "us",
            "credits_per_million_tokens": {"input": "25.0", "output": "50.0"},
            "units": {},
        },
        {
            "model": "draw",
            "owned_by": "us",
            "credits_per_million_tokens": {},
            "units": {"images": {"credits_per_million": "1.0", "per": 1000000}},
        },
    ]
    server.on("GET", "/v1/credits/pricing", {"data": rows})
    assert "25.00" in pixie("models").out
    assert pixie("models", "DRAW", "-q").out == "draw\n"


def test_health(anonymous: Pixie, server: Server) -> None:
    server.on("GET", "/health", {"status": "ok"})
    server.on("GET", "/ready", {"status": "ok", "checks": {"database": "ok", "redis": "ok"}})
    services = [{"name": "API", "state": "partial_outage"}]
    server.on(
        "GET", "/status.json", {"services": services, "incidents": [{"title": "Slow", "status": "investigating"}]}
    )
    done = anonymous("health")
    assert done.code == 0
    assert all(word in done.out for word in ("database", "partial outage", server.url))
    assert "Incident: Slow" in done.err
    server.on("GET", "/ready", Answer({"status": "unavailable", "checks": {"database": "failed"}}, 503))
    assert anonymous("health", "-q").out == "unavailable\n"
    assert anonymous("health", "--json").code == 8
    assert anonymous("health", "--api-url", "http://127.0.0.1:9", PIXIE_MAX_RETRIES="0").code == 8


# ---------------------------------------------------------------- the operator


def test_the_operators_token_is_sent_to_the_operators_commands_alone(pixie: Pixie, server: Server) -> None:
    pixie.env["PIXIE_ADMIN_TOKEN"] = "t0ken"
    moved = {"organization": "acme", "credits": "5.0000", "available": "10.0000"}
    server.on("POST", "/v1/admin/credits/adjust", moved)
    server.on("GET", "/v1/credits/balance", BALANCE)
    assert pixie("admin", "adjust", "acme", "-5", "--reason", "r").code == 1
    assert pixie("admin", "adjust", "acme", "-5", "--reason", "r", "-y", "-q").out == "10.0000\n"
    assert server.asked[-1].headers["x-admin-token"] == "t0ken"
    assert "authorization" not in server.asked[-1].headers
    body = server.asked[-1].json
    assert body.pop("idempotency_key").startswith("pixie-")
    assert body == {"organization": "acme", "credits": "-5", "reason": "r"}
    pixie("credits")
    assert "x-admin-token" not in server.asked[-1].headers
    told = {"outstanding": "10.0", "held": "0.0", "accounts": 3, "overdrawn_accounts": 0, "frozen_accounts": 0,
            "by_type": {"purchase": "5.0", "refund": "0.0000"}, "orders": {"paid": 1, "paid_cents": 199}}  # fmt: skip
    server.on("GET", "/v1/admin/credits/stats", told)
    assert "$1.99" in pixie("admin", "stats").out


def test_end_users_are_listed_blocked_and_let_in(pixie: Pixie, server: Server) -> None:
    used = {"totalTokens": 1200, "costUsd": "0.420000000"}
    told = {"userId": "a/b c", "organization": "acme", "usage": used, "blocked": True,
            "threshold": {"maxCostUsd": "25.0000", "maxTotalTokens": 0}}  # fmt: skip
    entry = {"userId": "a/b c", "reason": "spam", "blockedAt": "2026-11-20T10:00:00Z", "expiresAt": None}
    server.on("GET", "/v1/admin/users", {"data": [told], "next": "50"})
    server.on("GET", "/v1/admin/blocked", {"data": [entry], "next": None})
    server.on("POST", "/v1/admin/users/a%2Fb%20c/block", told)
    server.on("POST", "/v1/admin/users/a%2Fb%20c/unblock", told | {"blocked": False})
    done = pixie("admin", "users", "--org", "acme", "--search", "a")
    assert all(word in done.out for word in ("a/b c", "1,200", "0.42", "25.00", "blocked"))
    assert server.asked[-1].query == {"organization": "acme", "q": "a", "limit": "50"}
    assert "for good" in pixie("admin", "users", "--blocked").out
    assert pixie("admin", "users", "-q").out == "a/b c\n"
    assert pixie("admin", "block", "a/b c", "--reason", "spam").code == 1
    assert pixie("admin", "block", "a/b c", "--reason", "spam", "--hours", "2", "--org", "acme", "-y").code == 0
    body = server.asked[-1].json
    assert body.pop("expiresAt") > "2026"
    assert body == {"reason": "spam", "organization": "acme"}
    done = pixie("admin", "unblock", "a/b c")
    assert "a/b c of acme is not blocked" in done.err


def test_an_unforeseen_answer_is_told_in_one_line(pixie: Pixie, server: Server) -> None:
    server.on("GET", "/v1/credits/balance", {"nothing": "expected"})
    done = pixie("credits")
    assert done.code == 1
    assert "Traceback" not in done.err
    assert "PIXIE_DEBUG" in done.err
