"""Django's settings. Everything that differs between installations is an environment variable (README, "Settings")."""

import hashlib
import hmac
import re
import sys
from base64 import b64decode
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from django.utils.csp import CSP

from billing.price_list import InvalidPriceList, read_setting
from config.environment import (
    SettingError,
    database,
    email,
    env,
    env_bool,
    env_int,
    env_seconds,
    env_secret,
    env_share,
    env_together,
    env_url,
    object_storage,
    read_env_files,
)
from config.sign_in import providers

BASE_DIR = Path(__file__).resolve().parent.parent
read_env_files(BASE_DIR)

DEBUG = env_bool("DEBUG")
SECRET_KEY = env_secret("SECRET_KEY")
SECRET_KEY_FALLBACKS = [key for key in env_secret("SECRET_KEY_FALLBACKS", "").split(",") if key]
if len(SECRET_KEY) < 32:
    raise SettingError("SECRET_KEY", "is too short, use at least 32 random characters")

# ---------------------------------------------------------------- The product
SITE_NAME = env("SITE_NAME", "Tuppence")
SITE_URL = env("SITE_URL", "http://localhost:8000").rstrip("/")
if urlsplit(SITE_URL).scheme not in {"http", "https"} or not urlsplit(SITE_URL).hostname:
    raise SettingError("SITE_URL", "expected a URL such as https://api.example.com")
IS_HTTPS = SITE_URL.startswith("https://")
DEPLOYMENT_MODE = env("DEPLOYMENT_MODE", "official", choices=("official", "self-hosted"))
# Self-hosted: no credits and no payments; organizations may bring their own upstream keys, or must.
IS_SELF_HOSTED = DEPLOYMENT_MODE == "self-hosted"
REQUIRE_OWN_OPENAI_KEY = env_bool("REQUIRE_OWN_OPENAI_KEY")
if REQUIRE_OWN_OPENAI_KEY and not IS_SELF_HOSTED:
    raise SettingError("REQUIRE_OWN_OPENAI_KEY", "needs DEPLOYMENT_MODE=self-hosted")
DEFAULT_RPM = env_int("DEFAULT_RPM", 0)
# What an end user (`x-user-id`) may use in a month where its organization says nothing else; 0: no limit.
DEFAULT_MAX_COST_USD = env("DEFAULT_MAX_COST_USD", "0")
if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", DEFAULT_MAX_COST_USD):
    raise SettingError("DEFAULT_MAX_COST_USD", "expected dollars such as 10 or 2.50; 0 for no limit")
DEFAULT_MAX_TOTAL_TOKENS = env_int("DEFAULT_MAX_TOTAL_TOKENS", 0)
DEMO_LOGIN = env("DEMO_LOGIN", "")
# The operator's own words for /terms, /privacy and /imprint, as Markdown; with _FILE at the end, where they lie.
LEGAL_TEXTS = {name: env_secret(f"LEGAL_{name.upper()}", "") for name in ("terms", "privacy", "imprint")}
# Only this keyed hash of an API key is stored. A pepper of its own lets SECRET_KEY rotate without ending every key.
API_KEY_PEPPER = env_secret(
    "API_KEY_PEPPER", hmac.new(SECRET_KEY.encode(), b"tuppence.api-key.pepper", hashlib.sha256).hexdigest()
)
ADMIN_TOKEN = env_secret("ADMIN_TOKEN", "")
if ADMIN_TOKEN and len(ADMIN_TOKEN) < 24:
    raise SettingError("ADMIN_TOKEN", "is too short, use at least 24 random characters")

# ---------------------------------------------------------------- Upstreams
UPSTREAM_BASE = env_url("UPSTREAM_BASE", "https://api.openai.com/v1")
UPSTREAM_API_KEY = env_secret("UPSTREAM_API_KEY", env_secret("OPENAI_API_KEY", ""))
UPSTREAM_API_VERSION = env("UPSTREAM_API_VERSION", "")
# Paths under /v1 that pass with the shared key though the gateway does not know them, such as /v1/files,/v1/batches.
PASSTHROUGH_PATHS = tuple(path.strip().rstrip("/") for path in env("PASSTHROUGH_PATHS", "").split(",") if path.strip())
if not all(path.startswith("/v1/") for path in PASSTHROUGH_PATHS):
    raise SettingError("PASSTHROUGH_PATHS", "expected paths such as /v1/files,/v1/batches")
CLOUDFLARE_ACCOUNT_ID, CLOUDFLARE_API_KEY = env_together("CLOUDFLARE_ACCOUNT_ID", "CLOUDFLARE_API_KEY") or ("", "")
MODEL_PRICING_JSON = env_secret("MODEL_PRICING_JSON", "")
try:
    read_setting(MODEL_PRICING_JSON)
except InvalidPriceList as error:
    raise SettingError("MODEL_PRICING_JSON", str(error).partition(": ")[2]) from None
# Whose models the catalogue and the pickers begin with.
FEATURED_MAKERS = tuple(maker.strip() for maker in env("FEATURED_MAKERS", "openai").split(",") if maker.strip())
# Pages of other sites that may call `/v1` from a browser: origins, or * for all. No cookie is asked for: none opens it.
CORS_ORIGINS = frozenset(origin.strip().rstrip("/") for origin in env("CORS_ORIGINS", "").split(",") if origin.strip())
if not all(origin == "*" or re.fullmatch(r"https?://[A-Za-z0-9.\[\]:-]+", origin) for origin in CORS_ORIGINS):
    raise SettingError("CORS_ORIGINS", "expected origins such as https://app.example.com, or *")
# Hosts of upstreams may be private addresses (llama.cpp beside us); a tenant can never choose one.
GATEWAY_MAX_BODY_BYTES = env_int("GATEWAY_MAX_BODY_BYTES", 20 * 1024 * 1024, minimum=1024)
GATEWAY_MAX_UPLOAD_BYTES = env_int("GATEWAY_MAX_UPLOAD_BYTES", 200 * 1024 * 1024, minimum=1024)
GATEWAY_FIRST_BYTE_TIMEOUT_S = env_int("GATEWAY_FIRST_BYTE_TIMEOUT_S", 120, minimum=1)
GATEWAY_IDLE_TIMEOUT_S = env_int("GATEWAY_IDLE_TIMEOUT_S", 60, minimum=1)
GATEWAY_TOTAL_TIMEOUT_S = env_int("GATEWAY_TOTAL_TIMEOUT_S", 900, minimum=1)
GATEWAY_DRAIN_TIMEOUT_S = env_int("GATEWAY_DRAIN_TIMEOUT_S", 30, minimum=0)
# Seconds that a request waits for a place at a deployment that is full, and retries once every deployment has failed.
GATEWAY_QUEUE_TIMEOUT_S = env_int("GATEWAY_QUEUE_TIMEOUT_S", 2)
GATEWAY_RETRIES = env_int("GATEWAY_RETRIES", 1)
REALTIME_DEFAULT_MODEL = env("REALTIME_DEFAULT_MODEL", "gpt-realtime-2.1")
REALTIME_IDLE_TIMEOUT_S = env_int("REALTIME_IDLE_TIMEOUT_S", 900, minimum=1)
REALTIME_MAX_SESSION_S = env_int("REALTIME_MAX_SESSION_S", 3600, minimum=1)
REALTIME_MAX_FRAME_BYTES = env_int("REALTIME_MAX_FRAME_BYTES", 16 * 1024 * 1024, minimum=1024)
# Holds may commit without waiting for the disk: only a hold can be lost then, never a charge.
HOLDS_WAIT_FOR_DISK = env_bool("HOLDS_WAIT_FOR_DISK")

# ---------------------------------------------------------------- Django
ALLOWED_HOSTS = [host.strip() for host in env("ALLOWED_HOSTS", urlsplit(SITE_URL).hostname or "").split(",") if host]
INSTALLED_APPS = [
    # It serves `runserver` alone; everywhere else it would cost 14 MB in every process.
    *(["daphne"] if sys.argv[1:2] == ["runserver"] else []),
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_htmx",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.usersessions",
    "accounts",
    "billing",
    "gallery",
    "proxy",
    "sandbox",
    "status",
]
MIDDLEWARE = [
    "config.middleware.RequestIdMiddleware",
    "config.middleware.ApiAnswersMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "config.middleware.PrivatePagesMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.csp.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "config.middleware.HostMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "allauth.usersessions.middleware.UserSessionsMiddleware",
    "config.middleware.ImpossibleTextMiddleware",
    "config.middleware.StaffSecondFactorMiddleware",
    "config.middleware.ProviderAwayMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "accounts.impersonation.ImpersonationMiddleware",
]
ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.csp",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

# ---------------------------------------------------------------- Data
DATABASE_URL = env_secret("DATABASE_URL")
REDIS_URL = env_url("REDIS_URL", "", schemes=("redis", "rediss", "unix"))
DATABASES = {"default": database(DATABASE_URL)}
# The feed is read by a role that sees one organization alone: `manage.py create_tenant_role` makes it.
TENANT_ROLE = env_bool("TENANT_ROLE")
_pool_size = env_int("DB_POOL_SIZE", 8)
if _pool_size:
    DATABASES["default"]["OPTIONS"]["pool"] = {"min_size": 1, "max_size": _pool_size, "timeout": 10}
CACHES = {
    "default": (
        {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL, "KEY_PREFIX": "tuppence"}
        if REDIS_URL
        else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    )
}
CHANNEL_LAYERS = {
    "default": (
        # The layer waits 5 s for a message at a time: redis-py must not give up just then.
        {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [{"address": REDIS_URL, "socket_timeout": 15}]},
        }
        if REDIS_URL
        else {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    )
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CELERY_BROKER_URL = REDIS_URL or "memory://"
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_TIME_LIMIT = 600
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 3600}
# A task that found no worker in time is dropped: the next one does its work.
CELERY_BEAT_SCHEDULE = {
    "settle": {"task": "billing.tasks.settle", "schedule": 5.0, "options": {"expires": 5}},
    "warn": {"task": "billing.tasks.warn", "schedule": 60.0, "options": {"expires": 60}},
    "reap": {"task": "billing.tasks.reap", "schedule": 30.0, "options": {"expires": 30}},
    "lots": {"task": "billing.tasks.keep_lots", "schedule": 60.0, "options": {"expires": 60}},
    "expire_credit": {"task": "billing.tasks.expire_credit", "schedule": 3600.0, "options": {"expires": 1800}},
    "sweep_payments": {"task": "billing.tasks.sweep_payments", "schedule": 3600.0, "options": {"expires": 1800}},
    "low_balances": {"task": "billing.tasks.tell_of_low_balances", "schedule": 60.0, "options": {"expires": 60}},
    "top_up": {"task": "billing.tasks.top_up", "schedule": 60.0, "options": {"expires": 60}},
    "price_lists": {"task": "billing.tasks.keep_price_lists", "schedule": 60.0, "options": {"expires": 60}},
    "resell": {"task": "billing.tasks.resell", "schedule": 3600.0, "options": {"expires": 1800}},
    "compare_costs": {"task": "proxy.tasks.compare_costs", "schedule": 6 * 3600.0, "options": {"expires": 3600}},
    "forget_transcripts": {
        "task": "billing.tasks.forget_transcripts",
        "schedule": 3600.0,
        "options": {"expires": 1800},
    },
    "prove_books": {"task": "proxy.tasks.prove_books", "schedule": 3600.0, "options": {"expires": 1800}},
    "forget_upstream_objects": {"task": "proxy.tasks.forget_upstream_objects", "schedule": 86_400.0},
    "tidy_realtime": {"task": "proxy.tasks.tidy_realtime", "schedule": 300.0, "options": {"expires": 300}},
    "tidy": {"task": "billing.tasks.tidy", "schedule": 6 * 3600.0, "options": {"expires": 3600}},
}
CELERY_BEAT_SCHEDULE |= {
    "webhooks": {"task": "accounts.tasks.send_webhooks", "schedule": 5.0, "options": {"expires": 5}},
    "exports": {"task": "accounts.tasks.make_exports", "schedule": 60.0, "options": {"expires": 60}},
    "organizations_tidy": {"task": "accounts.tasks.tidy", "schedule": 3600.0, "options": {"expires": 1800}},
    "status_look": {"task": "status.tasks.look", "schedule": 15.0, "options": {"expires": 15}},
    "status_services": {"task": "proxy.tasks.keep_services", "schedule": 60.0, "options": {"expires": 60}},
    "gallery_store": {"task": "gallery.tasks.store", "schedule": 5.0, "options": {"expires": 5}},
    "gallery_tidy": {"task": "gallery.tasks.tidy", "schedule": 3600.0, "options": {"expires": 1800}},
    "status_tidy": {"task": "status.tasks.tidy", "schedule": 3600.0, "options": {"expires": 1800}},
}
# A worker that PostgreSQL has not heard of for so long is dead: its requests are settled at their last checkpoint.
REAPER_WORKER_TIMEOUT_S = env_int("REAPER_WORKER_TIMEOUT_S", 600, minimum=1)

# ---------------------------------------------------------------- People
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
# How long an organization that was deleted can be restored.
ORGANIZATION_GRACE_DAYS = env_int("ORGANIZATION_GRACE_DAYS", 14)
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/console/"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = env("ACCOUNT_EMAIL_VERIFICATION", "optional", choices=("none", "optional", "mandatory"))
ACCOUNT_CONFIRM_EMAIL_ON_GET = False
ACCOUNT_ADAPTER = "accounts.adapter.AccountAdapter"
SOCIALACCOUNT_ADAPTER = "accounts.adapter.SocialAccountAdapter"
SOCIALACCOUNT_LOGIN_ON_GET = False
SOCIALACCOUNT_EMAIL_AUTHENTICATION_AUTO_CONNECT = True  # where a provider's word about an address is taken
SOCIALACCOUNT_STORE_TOKENS = False
_providers = providers()
INSTALLED_APPS += _providers.apps
SOCIALACCOUNT_PROVIDERS = _providers.settings
ACCOUNT_RATE_LIMITS = {"device_code": "10/m/user,100/h/user", "request_key": "30/m/ip", "status_subscribe": "30/h/ip"}
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_EMAIL_SUBJECT_PREFIX = f"{SITE_NAME}: "
ACCOUNT_EMAIL_NOTIFICATIONS = True  # of a new password, another address, a second factor
ACCOUNT_SESSION_REMEMBER = True
ALLAUTH_TRUSTED_PROXY_COUNT = env_int("TRUSTED_PROXY_COUNT", 0)
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes", "webauthn"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not IS_HTTPS
# Staff without a second factor are refused the administration.
STAFF_NEEDS_MFA = env_bool("STAFF_NEEDS_MFA", not DEBUG)
# How long the JSON API's tokens work; a refresh token is renewed with every use.
JWT_EXPIRES_IN = env_seconds("JWT_EXPIRES_IN", "15m")
JWT_REFRESH_EXPIRES_IN = env_seconds("JWT_REFRESH_EXPIRES_IN", "30d")
if JWT_REFRESH_EXPIRES_IN <= JWT_EXPIRES_IN:
    raise SettingError("JWT_REFRESH_EXPIRES_IN", "must be longer than JWT_EXPIRES_IN")
# For how long the refresh token before the newest may come again, as when its answer was lost; 0: never.
JWT_REFRESH_GRACE_SECONDS = env_int("JWT_REFRESH_GRACE_SECONDS", 30)
# Keys for whoever can reach this site, as on an intranet; they belong to the organization with this slug.
SELF_SERVICE_KEYS = env_bool("SELF_SERVICE_KEYS")
SELF_SERVICE_ORGANIZATION = env("SELF_SERVICE_ORGANIZATION", "self-service")
if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,59}", SELF_SERVICE_ORGANIZATION):
    raise SettingError("SELF_SERVICE_ORGANIZATION", "expected a slug such as self-service")
MAILERS = {"default": email(env_secret("EMAIL_URL", "console:"))}
DEFAULT_FROM_EMAIL = env("DEFAULT_FROM_EMAIL", f"{SITE_NAME} <no-reply@{urlsplit(SITE_URL).hostname}>")

# ---------------------------------------------------------------- Security
SECURE_CSP = {
    "default-src": [CSP.NONE],
    "script-src": [CSP.SELF],
    "style-src": [CSP.SELF],
    "img-src": [CSP.SELF, "data:"],
    "font-src": [CSP.SELF],
    "connect-src": [CSP.SELF],
    "manifest-src": [CSP.SELF],
    "frame-ancestors": [CSP.NONE],
    "base-uri": [CSP.NONE],
    "form-action": [CSP.SELF],
    "object-src": [CSP.NONE],
}
# Signing in elsewhere begins with a form.
SECURE_CSP["form-action"] += _providers.origins
SECURE_SSL_REDIRECT = env_bool("SECURE_SSL_REDIRECT", IS_HTTPS)
SECURE_REDIRECT_EXEMPT = [r"^health$", r"^ready$", r"^metrics$"]
SECURE_HSTS_SECONDS = 63072000 if IS_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = IS_HTTPS
SECURE_HSTS_PRELOAD = IS_HTTPS
SECURE_REFERRER_POLICY = "strict-origin-when-cross-origin"
if env_bool("TRUST_X_FORWARDED_PROTO"):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SESSION_COOKIE_SECURE = IS_HTTPS
CSRF_COOKIE_SECURE = IS_HTTPS
CSRF_COOKIE_HTTPONLY = True
# Browsers take a cookie of such a name from this very host alone, over TLS: no subdomain can plant one.
if IS_HTTPS:
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-session", "__Host-csrf"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_AGE = 14 * 24 * 3600
CSRF_TRUSTED_ORIGINS = [SITE_URL]
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 2_621_440

# ---------------------------------------------------------------- Pages
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True
STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = Path(env("STATIC_ROOT", str(BASE_DIR / "staticfiles")))
WHITENOISE_AUTOREFRESH = WHITENOISE_USE_FINDERS = DEBUG
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": (
            "django.contrib.staticfiles.storage.StaticFilesStorage"
            if DEBUG
            else "whitenoise.storage.CompressedManifestStaticFilesStorage"
        )
    },
}
# Images lie in the file system, or at S3 or R2 (which has no ACLs and refuses boto3's default checksums).
R2_ACCOUNT_ID = env("R2_ACCOUNT_ID", "")
R2_BUCKET = env("R2_BUCKET", "")
R2_PUBLIC_URL = env_url("R2_PUBLIC_URL", "")
S3_ENDPOINT_URL = env_url(
    "S3_ENDPOINT_URL", f"https://{R2_ACCOUNT_ID}.r2.cloudflarestorage.com" if R2_ACCOUNT_ID else ""
)
if R2_BUCKET:
    STORAGES["default"] = object_storage(
        bucket=R2_BUCKET,
        endpoint=S3_ENDPOINT_URL,
        access_key=env_secret("R2_ACCESS_KEY_ID", ""),
        secret_key=env_secret("R2_SECRET_ACCESS_KEY", ""),
    )
# How long the address of a private image works.
# ---------------------------------------------------------------- Payments
# Signs receipts: 32 bytes as base64. Receipts that an old key signed are checked by that key's public half.
try:
    RECEIPT_SIGNING_KEY = (
        b64decode(env_secret("RECEIPT_SIGNING_KEY"), validate=True)
        if env_secret("RECEIPT_SIGNING_KEY", "")
        else hmac.digest(SECRET_KEY.encode(), b"tuppence.receipts", hashlib.sha256)
    )
except ValueError:
    RECEIPT_SIGNING_KEY = b""
if len(RECEIPT_SIGNING_KEY) != 32:
    raise SettingError("RECEIPT_SIGNING_KEY", "must be 32 bytes, as base64")
STRIPE_SECRET_KEY = env_secret("STRIPE_SECRET_KEY", "")
STRIPE_PUBLISHABLE_KEY = env("STRIPE_PUBLISHABLE_KEY", "")
# Several, while one replaces another. Without any, the webhook's address answers 404.
STRIPE_WEBHOOK_SECRETS = [one.strip() for one in env_secret("STRIPE_WEBHOOK_SECRET", "").split(",") if one.strip()]
STRIPE_API_BASE = env("STRIPE_API_BASE", "")
# A form that buys is answered with the way to Stripe: browsers hold that, too, against `form-action`.
SECURE_CSP["form-action"] += (
    [STRIPE_API_BASE] if STRIPE_API_BASE else ["https://checkout.stripe.com", "https://billing.stripe.com"]
)
if STRIPE_SECRET_KEY and not STRIPE_WEBHOOK_SECRETS:
    raise SettingError("STRIPE_WEBHOOK_SECRET", "is needed with STRIPE_SECRET_KEY: without it no payment is heard of")

GALLERY_LINK_S = env_int("GALLERY_LINK_S", 7 * 24 * 3600, minimum=60)
if R2_PUBLIC_URL:
    SECURE_CSP["img-src"].append(R2_PUBLIC_URL)
# A key of this installation, for asking its moderation endpoint about the prompts of public images.
GALLERY_MODERATION_KEY = env_secret("GALLERY_MODERATION_KEY", "")
MEDIA_ROOT = Path(env("MEDIA_ROOT", str(BASE_DIR / "media")))
REST_FRAMEWORK = {
    "URL_FORMAT_OVERRIDE": None,  # `format` is a field of our own
    "DEFAULT_AUTHENTICATION_CLASSES": ["proxy.api.authentication.KeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["proxy.api.authentication.MayManage"],
    "DEFAULT_THROTTLE_CLASSES": ["proxy.api.throttling.KeyThrottle"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["proxy.api.parsing.JsonObjectParser"],
    "EXCEPTION_HANDLER": "proxy.api.errors.handle",
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_SCHEMA_CLASS": "proxy.openapi.views.ManagedSchema",
}
SPECTACULAR_SETTINGS = {
    "OAS_VERSION": "3.1.0",
    "TITLE": f"{SITE_NAME} API",
    "VERSION": "1",
    "DESCRIPTION": "OpenAI's API under `/v1`, metered, with the calls that manage keys, credit and usage beside it.",
    "PREPROCESSING_HOOKS": ["proxy.openapi.description.keep_served"],
    "POSTPROCESSING_HOOKS": ["proxy.openapi.description.merge_hand_kept"],
}

# ---------------------------------------------------------------- Watching it run
# How long a service must be well before its incident ends, and the key of the completions that probe it.
STATUS_CALM_S = env_int("STATUS_CALM_S", 300)
STATUS_API_KEY = env_secret("STATUS_API_KEY", "")
LOG_LEVEL = env("LOG_LEVEL", "info").upper()
if LOG_LEVEL not in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}:
    raise SettingError("LOG_LEVEL", "expected debug, info, warning, error or critical")
SENTRY_DSN = env_url("SENTRY_DSN", "")
METRICS_TOKEN = env_secret("METRICS_TOKEN", "")
# Traces by OTLP over HTTP; off without an address. A traceparent goes to the providers with these slugs alone.
OTEL_EXPORTER_OTLP_ENDPOINT = env("OTEL_EXPORTER_OTLP_ENDPOINT", "")
OTEL_TRACES_SAMPLER_ARG = env_share("OTEL_TRACES_SAMPLER_ARG", 1.0)
OTEL_TRUSTED_PROVIDERS = frozenset(slug for slug in re.split(r"[,\s]+", env("OTEL_TRUSTED_PROVIDERS", "")) if slug)
if OTEL_EXPORTER_OTLP_ENDPOINT and find_spec("opentelemetry") is None:
    raise SettingError("OTEL_EXPORTER_OTLP_ENDPOINT", "needs the dependency group otel: uv sync --group otel")
if OTEL_EXPORTER_OTLP_ENDPOINT and urlsplit(OTEL_EXPORTER_OTLP_ENDPOINT).scheme not in {"http", "https"}:
    raise SettingError("OTEL_EXPORTER_OTLP_ENDPOINT", "expected a URL such as http://collector:4318")
LOGGING_CONFIG = "config.logs.configure"
LOGGING = {"level": LOG_LEVEL, "format": env("LOG_FORMAT", "json", choices=("json", "console"))}
