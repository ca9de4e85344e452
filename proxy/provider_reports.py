"""Asking providers what their days cost, to hold it against our own records.

OpenAI's organization costs, with an admin key (platform.openai.com/docs/api-reference/usage/costs). Amounts are dollars
with decimals: they are read as such, never as floats.
"""

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import httpx
import structlog
from django.utils import timezone

from accounts import secrets
from billing import provider_reports as books
from proxy.models import Provider

log = structlog.get_logger(__name__)

TIMEOUT_S = 30
MAX_PAGES = 50
# Providers complete a day's figures within hours; each day is asked for until it is this old.
ASKED_FOR = 3
NANOS_PER_USD = 10**9


class ReportFailed(Exception):
    """The provider gave no report; the message says how, without secrets."""


def compare(today: date | None = None) -> int:
    """Compare the last days with each provider that has a key for its reports; how many reports. May run twice."""
    today = today or timezone.now().date()
    made = 0
    for provider in Provider.objects.exclude(report_key_encrypted=""):
        for back in range(1, ASKED_FOR + 1):
            day = today - timedelta(days=back)
            try:
                reported = fetch(provider, day)
            except ReportFailed as problem:
                log.warning("cost_report_failed", provider=provider.slug, day=str(day), problem=str(problem))
                continue
            books.note(provider=provider.slug, day=day, reported=reported)
            made += 1
    return made


def fetch(provider: Provider, day: date) -> int:
    """What the provider says that a day (UTC) cost, in nano-dollars. Raises `ReportFailed`."""
    starts = datetime.combine(day, time(), UTC)
    asked: dict[str, Any] = {
        "start_time": int(starts.timestamp()),
        "end_time": int((starts + timedelta(days=1)).timestamp()),
        "bucket_width": "1d",
    }
    if provider.report_project:
        asked["project_ids"] = provider.report_project
    total = Decimal(0)
    try:
        headers = {"authorization": f"Bearer {secrets.decrypt(provider.report_key_encrypted)}"}
        with httpx.Client(timeout=TIMEOUT_S, headers=headers) as client:
            for _ in range(MAX_PAGES):
                page = _page(client, f"{provider.base_url}/organization/costs", asked)
                total += sum((_amount(bucket) for bucket in page["data"]), Decimal(0))
                if not page.get("has_more"):
                    return int((total * NANOS_PER_USD).to_integral_value(ROUND_HALF_UP))
                asked["page"] = page["next_page"]
    except secrets.Undecryptable:
        raise ReportFailed("the key cannot be read") from None
    except (httpx.HTTPError, ValueError, KeyError, TypeError, ArithmeticError) as error:
        raise ReportFailed(type(error).__name__) from None
    raise ReportFailed("the report does not end")


def _page(client: httpx.Client, address: str, asked: dict[str, Any]) -> dict[str, Any]:
    answer = client.get(address, params=asked)
    if answer.status_code != 200:
        raise ReportFailed(f"HTTP {answer.status_code}")
    page: dict[str, Any] = json.loads(answer.text, parse_float=Decimal)
    return page


def _amount(bucket: dict[str, Any]) -> Decimal:
    amounts = [result["amount"] for result in bucket["results"]]
    if any(amount["currency"].lower() != "usd" for amount in amounts):
        raise ReportFailed("it is not in dollars")
    return sum((Decimal(amount["value"]) for amount in amounts), Decimal(0))
