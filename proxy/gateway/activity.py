"""Which organizations have been charged since somebody looked: what the live pages are told of, once a second."""


class Activity:
    """The organizations of one worker process."""

    def __init__(self) -> None:
        self._organization_ids: set[int] = set()

    def add(self, organization_id: int) -> None:
        self._organization_ids.add(organization_id)

    def take(self) -> set[int]:
        """Those since the last call."""
        taken, self._organization_ids = self._organization_ids, set()
        return taken


ACTIVITY = Activity()
