"""The peers that the full benchmark compares with: where each comes from, how it is started.

They are installed once, at these versions, into `BENCH_CACHE` (default `.bench/`), through the ordinary clients of
Debian, PyPI and npm; nothing of them enters the project's own environment. What cannot be had or does not start raises
`Missing`, and the report says so.

LiteLLM runs with a master key and no database: its database client needs an engine that Prisma publishes on neither
PyPI nor npm. So it neither looks up a virtual key nor writes what was spent, and a real installation costs more.
Portkey's gateway has no keys or money of its own; it is told where to forward by headers.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.targets import Target, listens
from config.tests.processes import HOST, ROOT, Installation, ProcessFailed, Service
from sandbox.processes import free_port

CACHE = Path(os.environ.get("BENCH_CACHE") or ROOT / ".bench")
LITELLM = ("litellm[proxy]==1.106.2", "opentelemetry-api==1.45.2", "opentelemetry-sdk==1.45.2")
# The gateway's own range lets in releases of @hono/node-server with which its streams and embeddings answer 500.
PORTKEY = {"dependencies": {"@portkey-ai/gateway": "1.15.2"}, "overrides": {"@hono/node-server": "1.13.8"}}
# It has no option for its address, and would listen on all of them.
LOOPBACK = (
    "import net from 'node:net';const listen=net.Server.prototype.listen;"
    f"net.Server.prototype.listen=function(port,...rest){{return listen.call(this,port,'{HOST}',...rest.filter("
    "one=>typeof one==='function'))}"
)
# Whom Realtime is not asked of: nothing of the benchmark may leave the machine.
NO_REALTIME = {"portkey": "it heeds no custom host there, and would call OpenAI itself"}
INSTALL_TIMEOUT_S = 900
MASTER_KEY = "sk-bench"
NGINX = """
daemon off; pid {home}/nginx.pid; error_log {home}/nginx.err warn; worker_processes 1;
events {{ worker_connections 8192; }}
http {{
  access_log off; client_body_temp_path {home}/b; proxy_temp_path {home}/p; fastcgi_temp_path {home}/f;
  uwsgi_temp_path {home}/u; scgi_temp_path {home}/s; keepalive_requests 100000000;
  upstream bench {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://bench; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }}
    location /v1/realtime {{
      proxy_pass http://127.0.0.1:{realtime}; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade; }} }}
}}
"""


class Missing(Exception):
    """A peer that cannot be had or does not start; the message says why, in a line."""


@dataclass(frozen=True)
class Upstreams:
    """The ports that every target forwards to."""

    http: int
    realtime: int


def start_nginx(site: Installation, upstreams: Upstreams, *, fetch: bool = True) -> Target:
    """nginx of the PATH or the cache; with `fetch`, Debian's package, unpacked and not installed."""
    program, port = _nginx(fetch=fetch), free_port()
    home = site.home / f"nginx-{port}"
    home.mkdir()
    configuration = home / "nginx.conf"
    configuration.write_text(NGINX.format(home=home, upstream=upstreams.http, realtime=upstreams.realtime, port=port))
    return _start(site, "nginx", [program, "-c", str(configuration), "-e", str(home / "start.err")], port)


def _nginx(*, fetch: bool) -> str:
    places = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", f"{CACHE}/nginx/usr/sbin"))
    if found := shutil.which("nginx", path=places):
        return found
    if not fetch or shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Missing("nginx is not installed")

    def unpack(folder: Path) -> None:
        _call("apt-get", "download", "nginx", cwd=folder)
        for package in folder.glob("nginx_*.deb"):
            _call("dpkg-deb", "-x", str(package), str(folder), cwd=folder)

    return str(_cached("nginx", "debian", unpack) / "usr/sbin/nginx")


def start_litellm(site: Installation, upstreams: Upstreams) -> Target:
    """LiteLLM's proxy, one worker, without a database."""
    folder, port = _cached("litellm", " ".join(LITELLM), _install_litellm), free_port()
    configuration = site.home / "litellm.yaml"
    models = {
        "bench": (f"http://{HOST}:{upstreams.http}/v1", "bench-upstream"),
        "bench-realtime": (f"http://{HOST}:{upstreams.realtime}", "bench-realtime"),
    }
    made = {
        "model_list": [
            {"model_name": name, "litellm_params": {"model": f"openai/{there}", "api_base": base, "api_key": "none"}}
            for name, (base, there) in models.items()
        ],
        "litellm_settings": {"num_retries": 0, "telemetry": False},
        "general_settings": {"master_key": MASTER_KEY},
    }
    configuration.write_text(json.dumps(made))  # JSON is YAML
    argv = [str(folder / "bin/litellm"), "--config", str(configuration), "--host", HOST, "--port", str(port)]
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION"}
    return _start(site, "litellm", [*argv, "--telemetry", "False"], port, key=MASTER_KEY, **environment)


def _install_litellm(folder: Path) -> None:
    uv = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".uv/bin/uv")  # `uv run` names itself
    _call(uv, "venv", "--quiet", "--clear", "--python", "3.13", str(folder), cwd=CACHE)
    _call(uv, "pip", "install", "--quiet", "--python", str(folder / "bin/python"), *LITELLM, cwd=CACHE)


def start_portkey(site: Installation, upstreams: Upstreams) -> Target:
    """Portkey's gateway on node."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        raise Missing("node and npm are not installed")
    folder, port = _cached("portkey", json.dumps(PORTKEY), _install_portkey), free_port()
    program = folder / "node_modules/@portkey-ai/gateway/build/start-server.js"
    argv = [node, "--import", f"data:text/javascript,{LOOPBACK}", str(program), f"--port={port}", "--headless"]
    to = "x-portkey-custom-host: http://{host}:{port}/v1"
    headers = ("x-portkey-provider: openai", to.format(host=HOST, port=upstreams.http))
    return _start(site, "portkey", argv, port, headers=headers, NODE_ENV="production")


def _install_portkey(folder: Path) -> None:
    (folder / "package.json").write_text(json.dumps({"private": True, **PORTKEY}))
    _call("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent", cwd=folder)


STARTERS: dict[str, Callable[[Installation, Upstreams], Target]] = {
    "nginx": start_nginx,
    "litellm": start_litellm,
    "portkey": start_portkey,
}


def _cached(name: str, wanted: str, install: Callable[[Path], None]) -> Path:
    """The folder of a peer, made by `install` unless what is `wanted` lies there."""
    folder, mark = CACHE / name, CACHE / name / ".installed"
    if mark.is_file() and mark.read_text() == wanted:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    install(folder)
    mark.write_text(wanted)
    return folder


def _call(*argv: str, cwd: Path) -> None:
    try:
        done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False, timeout=INSTALL_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{Path(argv[0]).name} {argv[1]}: {type(error).__name__}") from None
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise Missing(f"{Path(argv[0]).name} {argv[1]} failed: {last[:200]}")


def _start(
    site: Installation,
    name: str,
    argv: list[str],
    port: int,
    *,
    key: str = "none",
    headers: tuple[str, ...] = (),
    **environment: str,
) -> Target:
    """Start a peer without the product's own settings, which it would take for its own. Raises `Missing`."""
    env = {"PATH": os.environ["PATH"], "HOME": str(site.home), "LC_ALL": "C.UTF-8", **environment}
    log = site.home / f"{name}-{port}.log"
    service = Service(name, argv, env, log, is_ready=listens(port), port=port)
    site.services.append(service)
    try:
        service.start()
    except ProcessFailed as error:
        raise Missing(str(error).splitlines()[-1][:200]) from None
    return Target(name, port, service.pid, key, headers)
