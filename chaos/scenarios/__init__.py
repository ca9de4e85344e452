"""What is too special for the storm: each scenario on an installation of its own."""

from chaos.rounds import Scenario
from chaos.scenarios import clock, deploy, disk, failover

SCENARIOS: dict[str, Scenario] = {
    "deploy": deploy.run,
    "failover": failover.run,
    "disk": disk.run,
    "clock": clock.run,
}
