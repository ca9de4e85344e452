"""axe-core in a page of the browser tests: WCAG 2.2 A and AA, and axe's best practices that are serious."""

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

IMPACTS = {"serious", "critical"}
# Swagger UI's and Redoc's own markup is not ours to mend.
FOREIGN = [["#swagger-ui"], ["#redoc"]]
_axe = Axe()


def violations(page: Page) -> list[str]:
    """What axe finds serious, in one line each. It measures colours as they are: let nothing move meanwhile."""
    found: dict[str, Any] = _axe.run(
        page, context={"exclude": FOREIGN}, options={"resultTypes": ["violations"]}
    ).response
    return [
        f"{rule['id']}: {node['target']} {node.get('failureSummary', '')[:200]!r}"
        for rule in found["violations"]
        if rule["impact"] in IMPACTS
        for node in rule["nodes"][:3]
    ]
