"""The states of a service and how bad an incident is. Pure."""

from enum import IntEnum


class State(IntEnum):
    """From the best to the worst, so that `max` of what is seen of a service is its state."""

    OPERATIONAL = 0
    DEGRADED_PERFORMANCE = 1
    PARTIAL_OUTAGE = 2
    MAJOR_OUTAGE = 3

    @property
    def slug(self) -> str:
        """As feeds and the database say it: `degraded_performance`."""
        return self.name.lower()

    @property
    def label(self) -> str:
        """As people read it: `Degraded performance`."""
        return self.name.replace("_", " ").capitalize()

    @property
    def severity(self) -> str:
        """Of an incident in which a service is in this state."""
        return ("low", "medium", "high", "critical")[self]


CHOICES = [(state.value, state.label) for state in State]
# How much of a second in this state counts as downtime, in percent.
DOWNTIME_PERCENT = {State.PARTIAL_OUTAGE: 30, State.MAJOR_OUTAGE: 100}
