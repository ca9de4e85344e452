"""Packages from npm that tests talk to: installed once, beside other caches; skipped where they cannot be."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


def installed(name: str, *packages: str) -> Path:
    """The `node_modules` with exactly these `package@version`s; skips the test, and says why, where there is no npm."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    folder = Path(os.environ.get("XDG_CACHE_HOME") or tempfile.gettempdir()) / f"tuppence-{name}"
    folder.mkdir(exist_ok=True)
    done = folder / "installed"
    wanted = " ".join(packages)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.is_file() or done.read_text() != wanted:
            quiet = ["--no-audit", "--no-fund", "--ignore-scripts"]
            install = [npm, "install", *quiet, "--prefix", str(folder), *packages]
            try:
                result = subprocess.run(install, capture_output=True, text=True, timeout=120, check=False)
            except subprocess.TimeoutExpired:
                pytest.skip("npm's registry does not answer")
            if result.returncode != 0:
                pytest.skip(f"npm cannot install {wanted}: {result.stderr[-200:]}")
            done.write_text(wanted)
    return folder / "node_modules"
