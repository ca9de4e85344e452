"""Gallery, credit, keys, usage, models, health and the operator's commands."""

from tests.conftest import Answer, Pixie, Server
from tests.terminal import Terminal

PNG = b"\x89PNG\r\n\x1a\n" + b"picture"
GENERATE, CHAT = "/v1/images/generations", "/v1/chat/completions"


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
    nothing = pixie("gallery", "get", "a-fox-1.png")
    assert (nothing.code, "There is no picture 'a-fox-1.png'." in nothing.err) == (5, True)
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
        "--endpoint",
        "/v1/embeddings",
        "--concurrent",
        "2",
        "--credits-per-month",
        "12.5",
        "--tokens-per-day",
        "900",
    )
    assert done.out == "sk-tup-new\n"
    assert "only time" in done.err
    body = server.asked[-1].json
    assert body.pop("expires_at") > "2026"
    assert body.pop("budgets") == [
        {"period": "month", "unit": "credits", "cap": "12.5"},
        {"period": "day", "unit": "tokens", "cap": 900},
    ]
    assert body.pop("allowed_endpoints") == ["/v1/embeddings"]
    limits = {"rpm": 5, "max_concurrent": 2}
    assert body == {"name": "ci", "scopes": ["chat", "images"], "allowed_models": ["m"], **limits}
    refused = pixie("keys", "revoke", "ci")
    assert (refused.code, "--yes" in refused.err) == (1, True)
    assert server.calls(f"{path}/k1") == []
    assert pixie("keys", "revoke", "ci", "--yes").code == 0
    assert pixie("keys", "revoke", "k1", "-y", "--json").json["deleted"] is True
    assert pixie("keys", "revoke", "old", "-y").code == 2
    server.on("GET", path, Answer({"error": {"message": "Send an access token.", "code": "invalid_api_key"}}, 401))
    refused = pixie("keys", "list")
    assert (refused.code, "a key is not enough" in refused.err, "PIXIE_API_KEY" in refused.err) == (3, True, False)


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
