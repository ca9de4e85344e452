"""The installed `pixie` for journeys, and what it is run against."""

import json
import os
import secrets
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config.tests.processes import Installation, Service

BINARY = Path(sys.executable).parent / "pixie"
CREDIT = 10_000_000  # nano-dollars
ADMIN_TOKEN = secrets.token_urlsafe(24)
RATES = {"input": "5", "cached_input": "1.25", "image_input": "10", "image_output": "40"}


@dataclass
class Pixie:
    """The program as installed, with a home of its own."""

    home: Path
    url: str
    key: str = ""
    more: dict[str, str] = field(default_factory=dict)

    def start(self, *arguments: str, **pipes: Any) -> subprocess.Popen[str]:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "PIXIE_API_URL": self.url,
            "PIXIE_CONFIG_DIR": str(self.home / "config"),
            "PIXIE_CREDENTIALS": "file",
            "PIXIE_NO_BROWSER": "1",
            **({"PIXIE_API_KEY": self.key} if self.key else {}),
            **self.more,
        }
        return subprocess.Popen(
            [str(BINARY), *arguments], env=env, cwd=self.home, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **pipes,
        )  # fmt: skip

    def __call__(self, *arguments: str, stdin: str = "", code: int = 0) -> str:
        """What it says on stdout; it must end with `code`."""
        running = self.start(*arguments)
        out, err = running.communicate(stdin, timeout=90)
        assert running.returncode == code, f"{out}\n{err}"
        return out if code == 0 else err

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))


def open_shop(installation: Installation, name: str) -> tuple[Service, Service]:
    """A web worker with the models `name`-chat and `name`-image of the simulated provider, and a simulated Stripe."""
    key = secrets.token_urlsafe(16)
    provider = installation.provider(key)
    options = {"base_url": f"{provider.url}/v1", "kind": "sandbox", "api_key": key}
    prices = {"input": 200, "cached_input": 50, "output": 800}
    installation.clerk.model(name=f"{name}-chat", upstream_name="gpt-4o-mini", prices=prices, **options)
    installation.clerk.model(name=f"{name}-image", upstream_name="gpt-image-1", rates=RATES, **options)
    return installation.shop(DEBUG="1", ADMIN_TOKEN=ADMIN_TOKEN)
