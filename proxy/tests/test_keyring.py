"""The cache of keys: read in batches, dropped when a key or its organization changes, bounded. No database."""

import asyncio
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from django.db import DatabaseError

from proxy import keyring as module
from proxy.gateway.errors import Unavailable
from proxy.gateway.snapshots import Key
from proxy.key_loader import MAX_BATCH, Loader
from proxy.keyring import Keyring
from proxy.listener import MEMBERS
from proxy.runtime import Runtime


class Table:
    """Keys by digest, as a read finds them; reads wait while `gate` is shut."""

    def __init__(self, **keys: Key) -> None:
        self.keys: dict[str, Key | ValueError] = dict(keys)
        self.reads: list[list[str]] = []
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def read(self, digests):
        self.reads.append(list(digests))
        found = {digest: self.keys[digest] for digest in digests if digest in self.keys}
        assert self.gate.wait(20)
        if self.error is not None:
            raise self.error
        return found


def key(number: int, organization: int = 1, **more) -> Key:
    return Key(id=number, organization_id=organization, organization_slug="o", account_id=1, **more)


def ring(table: Table) -> Keyring:
    made = Keyring(pepper="p")
    made._loader = Loader(table.read)
    made.hear()
    return made


async def until_reading(keyring: Keyring, count: int = 1) -> None:
    for _ in range(20_000):
        if len(keyring._loader.reading) >= count:
            return
        await asyncio.sleep(0.001)
    raise AssertionError("no read began")


async def test_what_is_asked_for_during_a_read_goes_into_the_next():
    table = Table(**{f"d{n}": key(n) for n in range(10)})
    keyring = ring(table)
    table.gate.clear()
    first = asyncio.create_task(keyring.find_digest("d0"))
    await until_reading(keyring)
    others = [asyncio.create_task(keyring.find_digest(f"d{n % 10}")) for n in range(1, 30)]
    await asyncio.sleep(0)
    table.gate.set()
    assert [found.id for found in await asyncio.gather(first, *others)] == [n % 10 for n in range(30)]
    assert len(table.reads) == 2
    assert sorted(table.reads[1]) == [
        f"d{n}" for n in range(10)
    ]  # the first again: it was asked for after its read began


async def test_a_batch_is_bounded():
    table = Table(**{f"d{n}": key(n) for n in range(MAX_BATCH + 1)})
    keyring = ring(table)
    await asyncio.gather(*(keyring.find_digest(digest) for digest in table.keys))
    assert [len(read) for read in table.reads] == [MAX_BATCH, 1]


async def test_a_row_that_makes_no_sense_hurts_nobody_else():
    table = Table(good=key(1))
    table.keys["bad"] = ValueError("10.0.0.0/99")
    keyring = ring(table)
    good, bad = await asyncio.gather(keyring.find_digest("good"), keyring.find_digest("bad"), return_exceptions=True)
    assert good == key(1)
    assert isinstance(bad, ValueError)


async def test_without_a_database_nobody_new_is_let_in():
    table = Table(d=key(1))
    table.error = DatabaseError()
    keyring = ring(table)
    with pytest.raises(Unavailable):
        await keyring.find_digest("d")


async def test_one_who_hangs_up_takes_nothing_from_the_others():
    table = Table(d=key(1))
    keyring = ring(table)
    table.gate.clear()
    gone, stays = (asyncio.create_task(keyring.find_digest("d")) for _ in range(2))
    await until_reading(keyring)
    gone.cancel()
    table.gate.set()
    assert await stays == key(1)


async def test_an_organization_that_changes_takes_its_keys_along():
    table = Table(a=key(1, 7), b=key(2, 7), c=key(3, 8))
    keyring = ring(table)
    for digest in "abc":
        await keyring.find_digest(digest)
    assert sorted(keyring.forget_organization(7)) == ["a", "b"]
    assert keyring.forget_organization(7) == []
    assert keyring.forget("c") == "c"
    assert keyring.forget("c") is None
    assert keyring._digests == {}


async def test_a_key_that_moves_is_forgotten_with_its_new_organization():
    table = Table(a=key(1, 7))
    keyring = ring(table)
    await keyring.find_digest("a")
    table.keys["a"] = key(1, 8)
    await keyring.recheck(["a"])
    assert keyring.forget_organization(7) == []
    assert keyring.forget_organization(8) == ["a"]


async def test_a_key_revoked_while_it_is_read_is_looked_at_again():
    """The read may have begun before the revocation: what it found must not stay."""
    table = Table(a=key(1))
    keyring = ring(table)
    table.gate.clear()
    asked = asyncio.create_task(keyring.find_digest("a"))
    await until_reading(keyring)
    table.keys["a"] = key(1, revoked_at=1.0)
    again = keyring.forget("a")
    assert again == "a"
    rechecked = asyncio.create_task(keyring.recheck([again]))
    table.gate.set()
    assert await asked == key(1)  # the hold asks PostgreSQL, which refuses it
    await rechecked
    assert await keyring.find_digest("a") is None
    assert keyring.is_revoked(1)


async def test_a_pass_whose_holder_leaves_ends_what_came_before():
    gateway = SimpleNamespace(keyring=ring(Table()))
    held = {name: key(1, 7, end_user=f"{name}@example.com") for name in ("ada", "bob")}
    before = time.perf_counter()
    await Runtime._on_change(gateway, MEMBERS, '[7, "ada@example.com"]')
    after = time.perf_counter() + 1
    ends = gateway.keyring.is_ended
    assert ends(held["ada"], before)
    assert not ends(held["ada"], after)  # they may have come back
    assert not ends(held["bob"], before)
    assert not ends(key(1, 7), before)  # the organization's own requests with the same key
    assert not ends(replace(held["ada"], organization_id=8), before)
    await Runtime._on_change(gateway, MEMBERS, '[null, "bob@example.com"]')  # switched off
    assert ends(held["bob"], before)


async def test_the_least_lately_loaded_key_makes_room(monkeypatch):
    monkeypatch.setattr(module, "MAX_KEYS", 2)
    table = Table(a=key(1), b=key(2), c=key(3))
    keyring = ring(table)
    for digest in "ab":
        await keyring.find_digest(digest)
    await keyring.recheck(["a"])
    await keyring.find_digest("c")
    assert list(keyring._keys) == ["a", "c"]
