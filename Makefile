# One obvious command for each job. Every target installs what it needs and says what it does.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
KUBERNETES ?= /var/tmp/romana-kubernetes-test
RELEASE := build/release/.ready
SITE ?= build/site
VERSION := $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' pyproject.toml)
PROTOS := $(shell find protos third_party -name '*.proto')

.PHONY: help setup demo test test-vlan test-vm compose-test console-test kubernetes-test docs packages release-check lint format bench lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

setup: $(READY) ## Install Debian packages and the virtual environment

$(READY): pyproject.toml requirements/dev.lock tools/setup tools/build.py $(PROTOS)
	@PYTHON=$(PYTHON) tools/setup $(VENV)
	@touch $@

demo: setup ## Four VLANs, two racks, some hundred endpoints, end to end
	@$(BIN)/python -m lab.demo

# Most tests wait rather than compute, so more of them run at once than there are cores; a file's in
# one process, as they share what its fixtures start. ARGS=-n0: one after the other.
test: setup ## All tests, on a real etcd
	@tools/packages --if-possible containerd=containerd runc=runc busybox=busybox-static promtool=prometheus \
	  dnsmasq=dnsmasq-base dhclient=isc-dhcp-client node=nodejs npm=npm
	@tools/node_packages build/node
	@$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(ARGS)

test-vlan: setup ## Whole agents on real 802.1Q, in a small VM: 3 to 6 minutes
	@tests/vm/test-vlan $(ARGS)

test-vm: setup ## A real VM behind a tap, under qemu by emulation: 6 minutes
	@tests/vm/prepare
	@tools/packages dnsmasq=dnsmasq-base dhclient=isc-dhcp-client libvirtd=libvirt-daemon \
	  /usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so=libvirt-daemon-driver-qemu virsh=libvirt-clients
	@ROMANA_GUEST=1 $(BIN)/python -m pytest -p no:cacheprovider tests/vm/guest $(ARGS)

compose-test: setup ## Build the images, run compose.yaml on a real Docker engine, prove it
	@tests/compose/prepare /var/tmp/romana-compose-test
	@$(BIN)/python -m pytest tests/compose/checks.py tests/compose/checks_of_faults.py \
	  tests/compose/checks_with_tls.py tests/compose/beside.py -p no:cacheprovider --timeout 900 -v $(ARGS)

console-test: setup ## Every page of the console in headless Chromium
	@tools/packages chromium=chromium
	@$(BIN)/python -m pytest tests/console/checks.py -p no:cacheprovider --timeout 300 -v $(ARGS)

kubernetes-test: setup ## Build Kubernetes 1.20 once (10 to 20 minutes), prove Romana on a cluster of it
	@PYTHON=$(BIN)/python tests/kubernetes/prepare $(KUBERNETES)
	@ROMANA_KUBERNETES_TEST_DIR=$(KUBERNETES) $(BIN)/python -m pytest tests/kubernetes/checks tests/kubernetes/chart \
	  -o python_files='*.py' -p no:cacheprovider --timeout 2400 -v $(ARGS)

$(RELEASE): requirements/release.lock tools/release_tools
	@echo 'release: installing what makes packages and documents into $(@D)'
	@PYTHON=$(PYTHON) tools/release_tools $(@D)
	@touch $@

docs: $(RELEASE) ## The documents as a site, into build/site, beside those of other versions there
	@NO_MKDOCS_2_WARNING=1 build/release/bin/python -m mkdocs build --quiet --strict --site-dir $(SITE)/$(VERSION)
	@build/release/bin/python -m tools.site_versions $(SITE)
	@echo $(SITE)/index.html

packages: setup docs ## Wheels and a Debian package into dist/, with locks and SBOMs
	@tools/build_packages dist

release-check: ## Install each of dist/ in a clean root, take the first steps there
	@tests/release/check dist

lint: setup ## ruff, mypy, import-linter and buf
	@echo '== ruff' && $(BIN)/ruff format --check . && $(BIN)/ruff check .
	@echo '== mypy' && $(BIN)/mypy
	@echo '== import-linter' && $(BIN)/lint-imports
	@echo '== buf' && $(BIN)/buf lint && tools/buf_breaking $(BIN)/buf

format: setup ## Rewrite the sources in the project's style
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: setup ## Measure, as ratios against baselines of the same run
	@$(BIN)/python -m tests.bench $(ARGS)

lock: setup ## Write requirements/*.lock anew, after a change of dependencies in pyproject.toml
	@tools/lock $(BIN)/uv

clean: ## Remove the virtual environment and everything generated
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find protos/romana -name '*.py' -o -name '*.pyi' -o -name py.typed | xargs rm -f
