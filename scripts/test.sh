#!/bin/bash
# Runs the tests by kind: lint, unit, molecule [scenario...], sandbox, e2e, cluster,
# or all of them; and slow, which all leaves out, as it does cluster: ten minutes and more each.
# scripts/setup.sh test has been run before (the Makefile does).
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
# Slot 0 is the user's own; what a test leaves on AWS or in .lab/ must never be theirs.
slot=${GPULAB_TEST_SLOT:-1}
export GPULAB_SANDBOX_SLOT=$slot
export ANSIBLE_HOME=$PWD/.cache/ansible
export ANSIBLE_NOCOLOR=1 PY_COLORS=0 ANSIBLE_FORCE_COLOR=0
export logs=$PWD/.cache/test-logs
mkdir -p "$logs"
results=$(mktemp -d)
export results
trap 'rm -r "$results"' EXIT

# step NAME COMMAND... : run it, keep its output, print it only if it fails
step() {
  local name=$1 log=$logs/${1//[^a-z0-9_.-]/_}.log start=$SECONDS verdict=ok
  shift
  "$@" >"$log" 2>&1 </dev/null || verdict=FAILED
  printf '%s\n' "$name" >>"$results/$verdict"
  if [ "$verdict" = ok ]; then
    printf 'ok      %4d s  %s%s\n' $((SECONDS - start)) "$name" "$(summary "$log")"
  else
    told "$log" 5 >>"$results/told"
    printf 'FAILED  %4d s  %s (whole output: %s)\n%s\n%s\n' $((SECONDS - start)) "$name" "$log" \
      "$(tail -n 80 "$log" | sed 's/^/    | /')" "$(told "$log" 20)"
  fi
}

# The last lines of a log that say what went wrong, Ansible's and pytest's: teardowns after them may be long.
told() {
  awk '/^TASK /{task = $0}
       /^(fatal|failed): /{print task; print; failed = 1; next}
       /^[^ ]/{failed = 0}
       failed && /^ +(msg|stderr|stdout): /{print; getline; print}
       /^(FAILED|ERROR) |^E  /' "$1" | cut -c1-300 | tail -n "$2" | sed 's/^/    > /'
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
  step 'tests/unit' pytest -n 2 --dist worksteal -q tests/unit
  step 'tests/contract' pytest -q tests/contract
}

# Ten minutes of kills, full disks, races, a million members, fuzzing.
slow() {
  # One of its packages has wheels for some Pythons only; the test says so where it is missing.
  python -m pip install -q --disable-pip-version-check --only-binary :all: -r requirements-slow.txt || true
  step 'tests/slow' pytest -n 2 --dist loadfile -q -rs tests/slow
}

# On a host with a GPU; GPULAB_TORCH_PYTHON names a Python with torch.
gpu() { step 'tests/gpu' pytest -q -rs -s tests/gpu; }

# What takes minutes, each by its name; slots of the sandbox that no other has at the same time.
sandbox() { GPULAB_SANDBOX_SLOT=$((slot + 1)) GPULAB_ENGINE_SLOT=8 step 'tests/sandbox' pytest -q tests/sandbox; }
e2e() { step 'tests/e2e' pytest -q -x tests/e2e --ignore tests/e2e/test_cluster.py; }
cluster() { step 'tests/e2e, cluster' pytest -q -x tests/e2e/test_cluster.py; } # in the second slot after e2e's
scenario() { step "molecule $1" molecule test -s "$1"; }
images() { step 'images' python -m sandbox image 13 12; }

export slot
export -f step told summary sandbox e2e scenario

# Those that take longest first, so that none of them runs alone at the end.
scenarios() {
  local long=(s3_mount default jupyter pytorch nvidia slurm)
  printf 'scenario %s\n' "${long[@]}"
  find molecule -mindepth 2 -maxdepth 2 -name molecule.yml -printf '%h\n' | xargs -n1 basename | sort |
    grep -vxF "$(printf '%s\n' "${long[@]}")" | sed 's/^/scenario /'
}

# Two at a time: the machine is assumed to have two cores or more.
side_by_side() { xargs -P "${GPULAB_TEST_JOBS:-2}" -I{} bash -c '{}'; }

kind=${1:-all}
shift || true
case $kind in
  lint) lint ;;
  unit) unit ;;
  molecule) images; { if [ $# -gt 0 ]; then printf 'scenario %s\n' "$@"; else scenarios; fi; } | side_by_side ;;
  sandbox) sandbox ;;
  e2e) e2e ;;
  cluster) cluster ;;
  gpu) gpu ;;
  slow) slow ;;
  all) lint; unit; images; { echo e2e; scenarios; echo sandbox; } | side_by_side ;;
  *) echo "test: unknown kind '$kind': it is lint, unit, molecule, sandbox, e2e, cluster, gpu, slow or all" >&2; exit 2 ;;
esac

count() { cat "$results/$1" 2>/dev/null | wc -l; }
[ ! -e "$results/FAILED" ] || { cat "$results/told"; sed 's/^/failed: /' "$results/FAILED"; }
printf '%d passed, %d failed\n' "$(count ok)" "$(count FAILED)"
[ "$(count FAILED)" = 0 ] && [ "$(count ok)" -gt 0 ]
