"""Deploy under load: each web worker is replaced, twice. No answer is cut, and nobody meets a closed door."""

import random
import time

from chaos import proof, rounds
from chaos.ground import Ground
from chaos.strikes import replace_a_web_worker
from config.tests.processes import Installation
from config.tests.scripted import Upstream

REPLACED = 4


def run(seed: int, say: rounds.Say) -> rounds.Outcome:
    chance = random.Random(seed)
    with Installation() as site, Upstream() as upstream, Ground(site, upstream, has_celery=False) as ground:
        with rounds.load_on(ground, seed) as load:
            load.wait_for_answers(rounds.ANSWERS_AGAIN)
            for _ in range(REPLACED):
                with replace_a_web_worker(ground, load, chance) as did:
                    say(did)
                load.wait_for_answers(rounds.ANSWERS_AGAIN)
            wrong = proof.promptly(ground, load, 0) + proof.reconciled(ground)
            time.sleep(1)
        wrong += [f"{asked} was cut" for asked in load.asked if asked.is_cut]
        return rounds.judge(ground, load, say, wrong)
