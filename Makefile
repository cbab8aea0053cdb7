# The two commands of the README are `make lab` and `make test`.
# Each does all its set-up; a second run finds it done.
.DEFAULT_GOAL := help
SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)
.PHONY: help lab policy test lint unit molecule sandbox-test e2e cluster-test test-gpu test-slow setup sandbox-down audit-aws bench-cluster bench-converge bench-hardening bench-rebuild bench-unzip bench-s3

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1\t/' | expand -t 24

lab: ## Build the lab (or mend it) in the sandbox: no AWS account, no cost
	@scripts/setup.sh sandbox
	@environment="$$(python -m sandbox up)" && eval "$$environment" && ansible-playbook site.yml $(ARGS)

setup: ## Only install what the playbooks need, for use with an AWS account
	@scripts/setup.sh python

policy: ## Print the least that your user in AWS must be allowed (ARGS='--account … --bucket …')
	@scripts/setup.sh python >/dev/null
	@python scripts/policy.py $(ARGS)

test: ## Run every test (sandbox slot 1; a lab of yours is left alone)
	@scripts/setup.sh test
	@scripts/test.sh all

lint: ## Run the linters
	@scripts/setup.sh python
	@scripts/test.sh lint

unit: ## Run the unit and contract tests
	@scripts/setup.sh python
	@scripts/test.sh unit

molecule: ## Run the molecule scenarios (SCENARIO=name for one)
	@scripts/setup.sh sandbox
	@scripts/test.sh molecule $(SCENARIO)

sandbox-test: ## Run the tests of the sandbox
	@scripts/setup.sh test
	@scripts/test.sh sandbox

e2e: ## Build a lab through the sandbox, use it, destroy it
	@scripts/setup.sh test
	@scripts/test.sh e2e

cluster-test: ## Build a lab with two workers through the sandbox, train, lose one, shrink (ten minutes)
	@scripts/setup.sh test
	@scripts/test.sh cluster

test-gpu: ## Test what only a GPU can decide (as root, where a driver and torch are: four minutes)
	@scripts/setup.sh python
	@scripts/test.sh gpu

test-slow: ## Run the slow tests (as root, all of them): half an hour, and two hours for killed playbooks
	@scripts/setup.sh python
	@scripts/test.sh slow

sandbox-down: ## Remove the sandbox and everything in it
	@python -m sandbox down

bench-converge: ## Compare a converge of the host with a bare shell script (as root; ARGS=--rounds=1)
	@scripts/setup.sh sandbox
	@python -m benchmarks.converge $(ARGS)

bench-cluster: ## Grow a lab by 1, 4 and 8 workers, train on two, break them (as root; ARGS='--workers 1 2')
	@scripts/setup.sh sandbox
	@python -m benchmarks.cluster $(ARGS)

bench-rebuild: ## Compare a host from a baked image with one from the plain image (as root; ARGS=--rounds=1)
	@scripts/setup.sh sandbox
	@python -m benchmarks.rebuild $(ARGS)

bench-hardening: ## Have Lynis audit a host before and after (as root)
	@scripts/setup.sh sandbox
	@python -m benchmarks.hardening $(ARGS)

audit-aws: ## Have Prowler audit a lab in the sandbox (as root; two gigabytes of tools)
	@scripts/setup.sh sandbox
	@python -m benchmarks.audit_aws $(ARGS)

bench-unzip: ## Compare parallel_unzip with its peers and the limit (ARGS=--quick)
	@scripts/setup.sh python
	@python -m benchmarks.unzip $(ARGS)

bench-s3: ## Compare s3_mount with the users' own line and a direct download (root; ARGS=--quick)
	@scripts/setup.sh python
	@python -m benchmarks.s3_mount $(ARGS)
