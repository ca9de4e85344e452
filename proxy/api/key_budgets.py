"""Budgets of a key in a body of the API, and beside the key in an answer: by the rules of the console's form."""

from typing import Any

from rest_framework import serializers

from accounts import access
from accounts.access import origin_of
from accounts.models import ApiKey, Role
from billing import budgets
from billing.forms import BudgetsForm
from billing.standings import Cap
from proxy.api.answers import cap_as_dict
from proxy.api.authentication import Member
from proxy.gateway.errors import Forbidden, InvalidRequest

PERIODS = ("day", "month")
FIELDS = {"credits": "cost", "tokens": "tokens"}


class BudgetFields(serializers.Serializer[Any]):
    """One cap, with the names that answers have: `credits` as a decimal string, `tokens` as a number."""

    period = serializers.ChoiceField(choices=PERIODS)
    unit = serializers.ChoiceField(choices=tuple(FIELDS))
    cap = serializers.CharField(max_length=40)


def read(given: list[dict[str, Any]]) -> BudgetsForm:
    """The caps as the console's form has them, valid. Raises `InvalidRequest`."""
    values: dict[str, Any] = {}
    for one in given:
        name = f"{FIELDS[one['unit']]}_{one['period']}"
        if name in values:
            message = f"'budgets': there are two of {one['unit']} per {one['period']}."
            raise InvalidRequest(message, param="budgets")
        values[name] = one["cap"]
    form = BudgetsForm(values)
    for name, problems in form.errors.items():
        raise InvalidRequest(f"'budgets': {form.fields[name].label}: {problems[0]}", param="budgets")
    return form


def check_role(member: Member) -> None:
    """Raises `Forbidden` unless the member's role may set budgets."""
    if not access.can(member.membership, "budgets.manage"):
        role = Role(member.membership.role).label.lower()
        raise Forbidden(f"Your role in {member.organization.slug}, {role}, may not set budgets.", code="role")


def save(key: ApiKey, form: BudgetsForm, *, by: Member, request: Any) -> None:
    """Give `key` these budgets and no others of a day or month."""
    for period in PERIODS:
        budgets.set_for_key(key=key, **form.caps(period), by=by.actor, origin=origin_of(request))


def as_list(caps: list[Cap]) -> list[dict[str, Any]]:
    return [cap_as_dict(cap) for cap in caps]
