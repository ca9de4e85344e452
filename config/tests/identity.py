"""An OpenID Connect provider that this project did not write: npm's `oauth2-mock-server`, over a real socket."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from config.tests import npm
from config.tests.processes import wait_for
from sandbox.processes import free_port

PACKAGE = "oauth2-mock-server@8.2.1"  # the last for Node 20
# It signs in, at once, the person that the file describes.
SCRIPT = """
import { readFileSync } from "node:fs";
import { OAuth2Server } from "oauth2-mock-server";
const server = new OAuth2Server();
await server.issuer.keys.generate("RS256");
const person = () => JSON.parse(readFileSync(process.env.PERSON));
server.service.on("beforeUserinfo", (answer) => { answer.body = person(); });
server.service.on("beforeTokenSigning", (token) => { Object.assign(token.payload, person()); });
await server.start(Number(process.env.PORT), "127.0.0.1");
"""


class Identity:
    """The provider: where it is, and who is at its keyboard."""

    def __init__(self, url: str, person: Path) -> None:
        self.url = url
        self._person = person

    def becomes(self, **claims: object) -> None:
        """From now on this person signs in there."""
        self._person.write_text(json.dumps(claims))


@contextmanager
def running(folder: Path) -> Iterator[Identity]:
    """The provider, ended with the block. Skips the test where npm cannot install it."""
    packages = npm.installed("identity", PACKAGE)
    if not (folder / "node_modules").exists():
        (folder / "node_modules").symlink_to(packages)
    script, person, port = folder / "identity.mjs", folder / "person.json", free_port()
    script.write_text(SCRIPT)
    person.write_text("{}")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PORT": str(port), "PERSON": str(person)}
    with (
        (folder / "identity.log").open("w") as log,
        subprocess.Popen(["node", str(script)], env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            identity = Identity(f"http://localhost:{port}", person)
            wait_for(lambda: _answers(identity.url), timeout_s=30, what="oauth2-mock-server")
            yield identity
        finally:
            process.terminate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/.well-known/openid-configuration", timeout=2).status_code == 200
    except httpx.TransportError:
        return False
