#!/bin/bash
# Runs the tests by kind: lint, unit, molecule [scenario...], sandbox, e2e,
# or all of them; and slow, which all leaves out.
# scripts/setup.sh test has been run before (the Makefile does).
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
# Slot 0 is the user's own; what a test leaves on AWS or in .lab/ must never be theirs.
export GPULAB_SANDBOX_SLOT=${GPULAB_TEST_SLOT:-1}
export ANSIBLE_HOME=$PWD/.cache/ansible
export ANSIBLE_NOCOLOR=1 PY_COLORS=0 ANSIBLE_FORCE_COLOR=0
logs=$PWD/.cache/test-logs
mkdir -p "$logs"
passed=0 failed=0
failures=()

# step NAME COMMAND... : run it, keep its output, print it only if it fails
step() {
  local name=$1 log=$logs/${1//[^a-z0-9_.-]/_}.log start=$SECONDS
  shift
  if "$@" >"$log" 2>&1 </dev/null; then
    passed=$((passed + 1))
    printf 'ok      %4d s  %s%s\n' $((SECONDS - start)) "$name" "$(summary "$log")"
  else
    failed=$((failed + 1))
    failures+=("$name")
    printf 'FAILED  %4d s  %s (whole output: %s)\n' $((SECONDS - start)) "$name" "$log"
    tail -n 80 "$log" | sed 's/^/    | /'
  fi
}

# the counting line of pytest, and its reasons for skipping
summary() {
  grep -hE '^SKIPPED|^[0-9]+ (passed|failed|skipped)|^=+ .*(passed|failed|skipped).* =+$' "$1" |
    sed -E 's/^=+ ?//; s/ ?=+$//; s/^/\n                   /'
}

lint() {
  step 'ruff check' ruff check .
  step 'ruff format' ruff format --check .
  step 'mypy' mypy
  step 'yamllint' yamllint --strict .
  step 'ansible-lint' ansible-lint
}

unit() {
  step 'tests/unit' pytest -n 2 -q tests/unit
  step 'tests/contract' pytest -q tests/contract
}

# All scenarios; those that take minutes first, so that none of them runs alone at the end.
longest_first() {
  local long=(s3_mount default jupyter pytorch nvidia)
  printf '%s\n' "${long[@]}"
  find molecule -mindepth 2 -maxdepth 2 -name molecule.yml -printf '%h\n' | xargs -n1 basename | sort |
    grep -vxF "$(printf '%s\n' "${long[@]}")"
}

# Two scenarios at a time: the machine is assumed to have two cores or more.
molecule_scenarios() {
  local names=("$@")
  [ ${#names[@]} -gt 0 ] || mapfile -t names < <(longest_first)
  step 'images' python -m sandbox image 13 12
  local results
  results=$(mktemp -d)
  printf '%s\n' "${names[@]}" | xargs -P "${GPULAB_TEST_JOBS:-2}" -I{} bash -c \
    'start=$SECONDS; molecule test -s {} >"$1/molecule-{}.log" 2>&1 </dev/null; echo "$? $((SECONDS - start))" >"$2/{}"' _ "$logs" "$results"
  local name status seconds
  for name in "${names[@]}"; do
    read -r status seconds <"$results/$name"
    if [ "$status" = 0 ]; then
      passed=$((passed + 1))
      printf 'ok      %4d s  molecule %s\n' "$seconds" "$name"
    else
      failed=$((failed + 1))
      failures+=("molecule $name")
      printf 'FAILED  %4d s  molecule %s (whole output: %s)\n' "$seconds" "$name" "$logs/molecule-$name.log"
      tail -n 80 "$logs/molecule-$name.log" | sed 's/^/    | /'
    fi
  done
  rm -r "$results"
}

# Not part of all: ten minutes of kills, full disks, races, a million members, fuzzing.
slow() {
  # One of its packages has wheels for some Pythons only; the test says so where it is missing.
  python -m pip install -q --disable-pip-version-check --only-binary :all: -r requirements-slow.txt || true
  step 'tests/slow' pytest -n 2 --dist loadfile -q -rs tests/slow
}

sandbox() { step 'tests/sandbox' pytest -q tests/sandbox; }
e2e() { step 'tests/e2e' pytest -q -x tests/e2e; }

kind=${1:-all}
shift || true
case $kind in
  lint) lint ;;
  unit) unit ;;
  molecule) molecule_scenarios "$@" ;;
  sandbox) sandbox ;;
  e2e) e2e ;;
  slow) slow ;;
  all) lint; unit; molecule_scenarios; sandbox; e2e ;;
  *) echo "test: unknown kind '$kind': it is lint, unit, molecule, sandbox, e2e, slow or all" >&2; exit 2 ;;
esac

[ ${#failures[@]} -eq 0 ] || printf 'failed: %s\n' "${failures[@]}"
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
