"""The storm: rounds of one or two strikes under load; after each the system recovers and its books are looked at."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from chaos import proof
from chaos.ground import Ground
from chaos.load import Load
from chaos.strikes import STRIKES, Strike

Say = Callable[[str], None]
Outcome = tuple[list[str], dict[str, Any]]  # what is wrong, and figures for the record
Scenario = Callable[[int, Say], Outcome]  # takes the seed
# On a busy machine a web worker alone takes 20 s to start.
RECOVERED_WITHIN_S = 90.0
ANSWERS_AGAIN = 20
CLIENTS = 20


class Skipped(Exception):
    """This machine cannot do that; the message says why."""


def load_on(ground: Ground, seed: int, *, clients: int = CLIENTS) -> Load:
    """A load for all of the ground's web workers."""
    return Load(
        ground.site,
        ground.webs[0],
        "",
        seed,
        clients=clients,
        webs=list(ground.webs),
        customers=ground.customers,
    )


def storm(
    ground: Ground,
    *,
    seed: int,
    seconds: float,
    say: Say,
    strikes: Sequence[Strike] = tuple(STRIKES),
    clients: int = CLIENTS,
) -> Outcome:
    """Strike for `seconds`, in a random order."""
    deck = deal(random.Random(seed), strikes)
    wrong: list[str] = []
    counts: dict[str, int] = {}
    deadline = time.monotonic() + seconds
    with load_on(ground, seed, clients=clients) as load:
        load.wait_for_answers(ANSWERS_AGAIN)
        seen, number, longest = 0, 0, 0.0
        while time.monotonic() < deadline and not wrong:
            number += 1
            chance = random.Random(f"{seed}-{number}")  # what strikes draw must not change the rounds after them
            chosen = next(deck)
            done = strike(ground, load, chance, chosen)
            took_s = recover(ground, load, say)
            longest = max(longest, took_s)
            for one in chosen:
                counts[one.name] = counts.get(one.name, 0) + 1
            asked = len(load.asked)
            wrong = proof.promptly(ground, load, seen) + proof.reconciled(ground)
            seen = max(0, asked - 2 * clients)  # some of the last ones are still being answered
            ground.give()
            verdict = "books right" if not wrong else "BOOKS WRONG"
            say(f"{number:3}. {'; '.join(done)}. Recovered in {took_s:.1f} s, {asked} requests so far, {verdict}")
    wrong, figures = judge(ground, load, say, wrong)
    figures |= {"rounds": number, "strikes": dict(sorted(counts.items())), "longest recovery, s": round(longest, 1)}
    figures["never struck, for want of time"] = sorted({one.name for one in strikes} - set(counts))
    return wrong, figures


def judge(ground: Ground, load: Load, say: Say, wrong: list[str]) -> Outcome:
    """After the load: everything is settled and looked at."""
    say("the load is over; what is left is settled and proved")
    ground.calm()
    wrong = wrong + proof.finally_(ground, load)
    if not ground.site.clerk.reconcile_command():
        wrong.append("manage.py reconcile finds drift")
    return wrong, proof.figures(ground, load)


def deal(chance: random.Random, strikes: Sequence[Strike]) -> Iterator[list[Strike]]:
    """One strike after the other, or two on different parts at once. All have their turn before any comes again."""
    deck: list[Strike] = []
    while True:
        deck = deck or chance.sample(strikes, len(strikes))
        first = deck.pop()
        second = next((one for one in deck if one.part != first.part and not one.is_alone), None)
        if first.is_alone or second is None or chance.random() < 0.6:
            yield [first]
            continue
        deck.remove(second)
        yield [first, second]


def strike(ground: Ground, load: Load, chance: random.Random, chosen: Sequence[Strike]) -> list[str]:
    """Begin each in turn and mend them in any order; what was done, in words."""
    open_: list[tuple[Strike, AbstractContextManager[str]]] = []
    words = []
    all_last_s = [chance.uniform(*one.lasts_s) for one in chosen]
    try:
        for one, lasts_s in zip(chosen, all_last_s, strict=True):
            context = one.begin(ground, load, chance)
            did = context.__enter__()  # they end in any order, so no `with`
            open_.append((one, context))
            words.append(f"{did} ({lasts_s:.1f} s)")
            time.sleep(lasts_s)
        chance.shuffle(open_)
    finally:
        for _, context in open_:
            context.__exit__(None, None, None)
    return words


def recover(ground: Ground, load: Load, say: Say) -> float:
    """Wait until the clients are served again; how long that took."""
    began = time.monotonic()
    ground.calm()
    load.wait_for_answers(ANSWERS_AGAIN, timeout_s=RECOVERED_WITHIN_S)
    return time.monotonic() - began
