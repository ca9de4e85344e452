"""Structured logs: one line of JSON an event, with the request id. Never prompts, keys or bodies."""

import logging
import logging.config
import re
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

_SECRETS = re.compile(
    r"sk-[A-Za-z0-9_-]{6,}|\b(?:play|ek)_[A-Za-z0-9_-]{16,}|whsec_[A-Za-z0-9+/=]+|(?i:bearer)\s+\S+"
    r"|eyJ[A-Za-z0-9_-]+\.[\w-]+\.[\w-]+"
)
_SECRET_NAMES = {
    *("authorization", "x-api-key", "api-key", "x-upstream-key", "x-admin-token", "cookie", "set-cookie"),
    *("stripe-signature", "password", "device_code", "refresh_token", "access_token"),
}
# Only these say more at `debug`: there, libraries tell headers, bodies and frames (websockets, httpcore, botocore).
OUR_LOGGERS = ("accounts", "billing", "config", "gallery", "proxy", "sandbox", "status")


def scrub(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask whatever looks like a secret, the last net below "log ids and amounts only"."""
    for key, value in event.items():
        if key.lower() in _SECRET_NAMES:
            event[key] = "[secret]"
        elif isinstance(value, str):
            event[key] = _SECRETS.sub("[secret]", value)
    return event


def configure(options: Mapping[str, str]) -> None:
    """Set up the standard library's logging and structlog with one format; called by Django at start."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        scrub,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer() if options["format"] == "json" else structlog.dev.ConsoleRenderer()
    )
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "structured": {
                    "()": structlog.stdlib.ProcessorFormatter,
                    "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
                    "foreign_pre_chain": shared,
                }
            },
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
            "root": {"handlers": ["stderr"], "level": "INFO" if options["level"] == "DEBUG" else options["level"]},
            "loggers": {
                **{name: {"level": options["level"]} for name in OUR_LOGGERS},
                "uvicorn.access": {"level": "WARNING"},
                "httpx": {"level": "WARNING"},
                "stripe": {"level": "WARNING"},
                "django.server": {"level": "WARNING"},
            },
        }
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
