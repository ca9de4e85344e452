"""The proofs of reconciliation inside a test's own transaction, where `reconciliation.check` would want its own."""

from django.db import connection

from billing import reconciliation
from billing.proofs import CHECKS


def drift() -> list[str]:
    """What is wrong with the books, in words."""
    with connection.cursor() as cursor:
        return [str(found) for each in CHECKS for found in reconciliation._found(cursor, each)]
