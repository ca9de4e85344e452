"""The months of the usage records: each has a partition of its own, made ahead."""

from django.db import connection, transaction

AHEAD = 3
# What waits for a busy table is left to the next time: until then rows lie in the default partition.
LOCK_TIMEOUT = "5s"


def ensure() -> int:
    """Make the partitions of this month and the coming ones where they are missing; returns how many. May run twice.

    Called at the start, too: after months of standing still no task has made this one yet, and a month whose first row
    lies in the default partition stays there.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
        cursor.execute("SELECT billing_ensure_partitions(%s)", [AHEAD])
        made: int = cursor.fetchone()[0]
        return made
