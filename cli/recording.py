"""Draws docs/pixie.svg from real output: runs commands against a server and keeps what they say.

PIXIE_API_URL=http://localhost:8000 PIXIE_API_KEY=sk-tup-… python cli/recording.py docs/pixie.svg
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 92
COMMANDS = (
    ("credits",),
    ("generate", "A fox in the snow", "--quality", "low", "-n", "2", "-o", "pictures"),
    ("chat", "Say something short about pennies.", "--max-tokens", "40"),
    ("receipt", "verify", "LAST"),
    ("usage", "--days", "7"),
)
# Rich's own, without the fonts that it fetches from another site.
SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"
aria-label="pixie in a terminal"><style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, monospace; font-size: {char_height}px;
line-height: {line_height}px; font-variant-east-asian: full-width }}
{styles}</style><defs>{lines}</defs>{chrome}
<g transform="translate({terminal_x}, {terminal_y})">{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g></svg>
"""


def main(path: Path) -> None:
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    env = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(WIDTH), "PIXIE_PREVIEW": "none"}
    last = ""
    with tempfile.TemporaryDirectory() as directory:
        for words in COMMANDS:
            command = ["pixie", *(last if word == "LAST" else word for word in words)]
            console.print(Text("$ ", style="bold green").append(_as_typed(command), style="bold default"))
            done = subprocess.run(
                command, cwd=directory, env=env, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            said = done.stdout.decode()
            console.print(Text.from_ansi(_without_spinner(said)))
            console.print()
            last = (re.findall(r"req_[0-9a-f]{32}", said) or [last])[-1]
    path.write_text(console.export_svg(title="pixie", code_format=SVG, unique_id="pixie"), "utf-8")


def _as_typed(command: list[str]) -> str:
    return " ".join(f'"{word}"' if " " in word else word for word in command)


def _without_spinner(said: str) -> str:
    """What stays on the screen: lines that were drawn over and moves of the cursor are gone."""
    kept = re.sub(r"\x1b\[\?25[lh]", "", said)
    kept = re.sub(r"(\r?\x1b\[[0-9]*[AK])+", "\r", kept)
    return "\n".join(line.rpartition("\r")[2] for line in kept.rstrip("\n").split("\n"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
