# A bare machine needs python3 (with venv) or uv, and git. Everything else lands in this directory.
SHELL := /bin/sh
UV_VERSION := 0.13.8
PYTEST_WORKERS ?= 2
CHAOS_MINUTES ?= 10

# uv of the machine, else a pinned one in .uv/
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN := $(UV) run --frozen --no-sync
# Settings for checks that look at the code alone; none of it is used to serve anything.
CHECK_ENV := env -u DEBUG SECRET_KEY=only-for-checks-0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGH \
	SITE_URL=https://tuppence.example EMAIL_URL=smtp://mail.tuppence.example DATABASE_URL=postgres://checks@127.0.0.1:1/checks REDIS_URL= DB_POOL_SIZE=0

.PHONY: help run test screenshots lint format bench bench-full chaos docs install clean

help:
	@echo "make run     start everything here (PORT=8000 DATA_DIR=./.data; DATABASE_URL and REDIS_URL to use your own)"
	@echo "make test    all tests against real PostgreSQL and Redis (PYTEST_WORKERS=2; REQUIRE_BROWSER=1; ARGS=...)"
	@echo "make lint    style, types, layers, migrations, deployment checks"
	@echo "make docs    the documentation as a site, in .site/ (ARGS=serve shows it)"
	@echo "make chaos   everything struck at random under load, books proved (CHAOS_MINUTES=10; CHAOS_SEED=...; ARGS=...)"
	@echo "make bench   the gateway's overhead, and its peers' where installed"
	@echo "make bench-full  the same beside nginx, LiteLLM and Portkey, and what growth costs (12 minutes; ARGS=--help)"

.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

install: $(filter .uv/bin/uv,$(UV))
	@$(UV) sync --frozen --quiet || { echo "This needs Python 3.13: install it, or let uv reach the internet to fetch it." >&2; exit 1; }

# `exec`: make's child is the supervisor itself, so that it hears of make's end however that comes.
run: install
	@exec .venv/bin/python -m sandbox run --follow-parent

test: install
	@$(RUN) pytest -n $(PYTEST_WORKERS) --dist loadgroup $(ARGS)

# A picture of every page at both widths in both themes, in ./screenshots
screenshots: install
	@mkdir -p screenshots
	@SCREENSHOTS=screenshots REQUIRE_BROWSER=1 $(RUN) pytest config/tests/test_browser.py -q -k every_page

lint: install
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(RUN) lint-imports
	$(CHECK_ENV) $(RUN) python -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	$(CHECK_ENV) $(RUN) python manage.py check --deploy --fail-level WARNING

format: install
	$(RUN) ruff check --fix
	$(RUN) ruff format

bench: install
	@$(RUN) python -m bench $(ARGS)

# Peers are installed once, in .bench/; the Markdown for docs/performance.md goes to bench/results/full.md.
bench-full: install
	@$(RUN) python -m bench.full $(ARGS)

# Kills, stops, cuts and fills up; exit code 1 if the books are not right after it. ARGS names parts: `storm failover`.
chaos: install
	@CHAOS_SEED=$(CHAOS_SEED) CHAOS_MINUTES=$(CHAOS_MINUTES) $(RUN) python -m chaos $(ARGS)

# In an environment of its own, beside the project's own environment.
docs: $(filter .uv/bin/uv,$(UV))
	@UV_PROJECT_ENVIRONMENT=.venv-docs NO_MKDOCS_2_WARNING=1 $(UV) run --frozen --quiet --only-group docs mkdocs $(or $(ARGS),build --strict)

clean:
	rm -rf .venv .venv-docs .site .uv .bench .pytest_cache .mypy_cache .ruff_cache .import_linter_cache staticfiles
