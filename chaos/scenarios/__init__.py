"""What is too special for the storm: each scenario on an installation of its own."""

from collections.abc import Callable

from chaos.rounds import Outcome, Say
from chaos.scenarios import clock, deploy, disk, failover

SCENARIOS: dict[str, Callable[[int, Say], Outcome]] = {
    "deploy": deploy.run,
    "failover": failover.run,
    "disk": disk.run,
    "clock": clock.run,
}
