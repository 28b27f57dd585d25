# `make run` and `make test` set up what they need by themselves. `make help` lists everything.
PYTHON ?= python3
JOBS ?= 2
VENV := .venv/bin/python
LOCAL := $(VENV) -m include.gleaner.local
OPTIONS = $(if $(PORT),--port $(PORT))

.PHONY: help setup setup-dev setup-all packages run up search clean lint types unit test test-cluster test-browser test-watch test-processor test-compose bench chart sbom audit release screenshots
.DEFAULT_GOAL := help

help:  ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'

setup:
	@$(PYTHON) include/gleaner/local/bootstrap.py

setup-dev:
	@$(PYTHON) include/gleaner/local/bootstrap.py --dev

setup-all:  # what any of the tests needs of the package registry
	@$(PYTHON) include/gleaner/local/bootstrap.py --dev --cluster --browser --compose

# What the tests below install by themselves, if any of it is missing, all at once.
packages:
	@{ command -v redis-server && command -v chromium && command -v prometheus && command -v qemu-x86_64 && command -v dockerd \
		&& command -v mmdebstrap && test -x /usr/bin/docker-compose; } > /dev/null || { echo "== installing what the tests need of Debian"; \
		apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		redis-server chromium fonts-noto-core prometheus qemu-user docker-compose mmdebstrap \
		$$(command -v dockerd > /dev/null || echo docker.io iptables) > /dev/null; }

run: setup  ## ingest the sample website, or URL=https://... TENANT=acme MAX_PAGES=50, and end
	@$(LOCAL) run $(OPTIONS) $(if $(URL),--url '$(URL)') $(if $(TENANT),--tenant '$(TENANT)') \
		$(if $(MAX_PAGES),--max-pages '$(MAX_PAGES)')

up: setup  ## the same stack, kept up until Ctrl-C (PORT=8080 for a port of your choice)
	@$(LOCAL) up $(OPTIONS)

search: setup  ## what is known of the last run: Q="..." TENANT=sample K=5
	@$(LOCAL) search --query '$(subst ','\'',$(Q))' $(if $(TENANT),--tenant '$(TENANT)') $(if $(K),--limit '$(K)')

clean:  ## remove the data of local runs
	@if [ -x $(VENV) ]; then $(LOCAL) clean; else rm -rf .gleaner; fi

lint: setup-dev
	@echo "== lint"
	@$(VENV) -m ruff check .
	@$(VENV) -m ruff format --check .

types: setup-dev
	@echo "== types"
	@$(VENV) -m mypy

test: setup-dev lint types  ## lint, types, and all tests that need no system packages
	@echo "== tests, in $(JOBS) processes"
	@$(VENV) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder tests/quality tests/integration tests/unit tests/dags
	@echo "== tests of whole runs, in Airflow"
	@$(VENV) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder tests/acceptance

test-cluster:  ## Celery with three workers, killed and cut off; installs redis-server with apt if need be (root)
	@$(PYTHON) include/gleaner/local/bootstrap.py --dev --cluster
	@command -v redis-server > /dev/null || { echo "== installing redis-server"; apt-get update -qq \
		&& RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server > /dev/null; }
	@echo "== tests with Redis and Celery workers"
	@$(VENV) -m pytest tests/cluster

test-browser:  ## the web UI in a real Chromium, which is installed with apt if it is not there (needs root)
	@$(PYTHON) include/gleaner/local/bootstrap.py --dev --browser
	@command -v chromium > /dev/null || { echo "== installing chromium"; apt-get update -qq \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-noto-core > /dev/null; }
	@echo "== tests in a browser"
	@$(VENV) -m pytest tests/browser

test-watch:  ## the alerts in a real Prometheus, which is installed with apt if it is not there (needs root)
	@$(PYTHON) include/gleaner/local/bootstrap.py --dev
	@command -v prometheus > /dev/null || { echo "== installing prometheus"; apt-get update -qq \
		&& RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends prometheus > /dev/null; }
	@echo "== tests with Prometheus"
	@$(VENV) -m pytest tests/watch

test-processor:  ## the local model on an older processor, emulated by qemu, which is installed with apt if need be (needs root)
	@$(PYTHON) include/gleaner/local/bootstrap.py --dev
	@command -v qemu-x86_64 > /dev/null || { echo "== installing qemu-user"; apt-get update -qq \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends qemu-user > /dev/null; }
	@echo "== tests on an emulated processor"
	@$(VENV) -m pytest tests/processor

test-compose:  ## docker-compose.yaml on a real engine; installs Docker with apt if need be (root), image registries are not needed
	@$(PYTHON) include/gleaner/local/bootstrap.py --dev --compose
	@{ test -x /usr/bin/docker-compose && command -v dockerd && command -v mmdebstrap; } > /dev/null || { echo "== installing Docker, docker-compose and mmdebstrap"; \
		apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		$$(command -v dockerd > /dev/null || echo docker.io iptables) docker-compose mmdebstrap > /dev/null; }
	@echo "== tests of docker-compose.yaml"
	@$(VENV) -m pytest tests/compose

screenshots:  ## take the pictures in docs/images anew; what test-browser installs has to be there
	@GLEANER_SCREENSHOTS=docs/images $(VENV) -m pytest tests/browser/test_knowledge.py -k everybody

bench: setup-dev  ## measure; the figures are in benchmarks/README.md
	@$(VENV) -m benchmarks.run

chart: setup-dev  ## render Airflow's Helm chart with deploy/kubernetes and check it: CHART=apache-airflow/airflow, or a folder, and VERSION=
	@$(VENV) -m tools.chart '$(or $(CHART),apache-airflow/airflow)' $(VERSION)

sbom: setup-dev  ## the software bill of materials of what runs in production, as CycloneDX: dist/gleaner.cdx.json
	@mkdir -p dist && $(VENV) -m tools.sbom dist/gleaner.cdx.json && echo dist/gleaner.cdx.json

audit: setup-dev  ## known vulnerabilities of the pinned packages; fails too when the advisory service does not answer, and says which it was
	@test -x .venv-audit/bin/pip-audit || { $(PYTHON) -m venv .venv-audit && .venv-audit/bin/python -m pip install -q \
		--disable-pip-version-check --no-deps --only-binary :all: -r requirements-audit.txt; }
	@$(VENV) -m tools.audit

release: setup-dev  ## source archive, bill of materials and checksums of this commit in dist/, if it is ready
	@$(VENV) -m tools.release
