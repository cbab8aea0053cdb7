#!/bin/sh
# Brings this machine to where the playbooks, the sandbox or the tests can run.
#
#   scripts/setup.sh python    the virtual environment .venv with all pinned packages
#   scripts/setup.sh sandbox   the same, and a running Docker engine
#   scripts/setup.sh test      the same, and a browser
#
# Doing it again costs a second. As root on Debian or Ubuntu missing packages are
# installed; elsewhere one sentence says what to install.
set -eu
cd "$(dirname "$0")/.."
level=${1:-python}

say() { printf '%s\n' "setup: $*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# install PROGRAM PACKAGE... : the packages, unless the program is there
install() {
  program=$1; shift
  if have "$program"; then return; fi
  if [ "$(id -u)" != 0 ] || ! have apt-get; then
    die "$program is missing: install $* (on Debian or Ubuntu: sudo apt-get install $*), then run the same command again"
  fi
  say "installing $*"
  mkdir -p .cache
  log=$PWD/.cache/apt-$1.log
  [ -n "${apt_updated:-}" ] || apt-get update -qq
  apt_updated=1
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    die "installing $* failed (above; whole output: $log)"
  }
}

find_python() {
  for candidate in python3.11 python3.12 python3.13 python3; do
    if have "$candidate" && "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'; then
      printf '%s' "$candidate"
      return
    fi
  done
  die "no Python from 3.11 to 3.13 was found: install one (on Debian 12 or 13: apt-get install python3)"
}

requirements="requirements.txt requirements-sandbox.txt requirements-dev.txt"

prepare_python() {
  python=$(find_python)
  if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    install "ensurepip of $version" "$version-venv"
  fi
}

setup_python() {
  wanted=$({ "$python" --version; cat $requirements constraints.txt; } | sha256sum | cut -d' ' -f1)
  if [ -x .venv/bin/ansible-playbook ] && [ "$(cat .venv/.requirements 2>/dev/null || true)" = "$wanted" ]; then
    return
  fi
  say "installing the Python packages into .venv (once; about a minute)"
  rm -f .venv/.requirements
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  .venv/bin/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt \
    $(for file in $requirements; do printf -- '-r %s ' "$file"; done)
  printf '%s\n' "$wanted" >.venv/.requirements
}

docker_answers() { docker info >/dev/null 2>&1; }

start_docker() {
  if docker_answers; then return; fi
  [ "$(id -u)" = 0 ] || die "Docker does not answer: start it (sudo systemctl start docker) and run this as root (sudo make ...)"
  say "starting Docker"
  if [ -d /run/systemd/system ]; then
    systemctl start docker
  else
    # no service manager here: the engine runs on its own, detached from this terminal
    rm -f /var/run/docker.pid
    setsid nohup dockerd >/var/log/dockerd.log 2>&1 </dev/null &
  fi
  tries=0
  until docker_answers; do
    tries=$((tries + 1))
    [ "$tries" -le 60 ] || die "Docker did not come up within 60 s: read /var/log/dockerd.log (or journalctl -u docker)"
    sleep 1
  done
}

setup_sandbox() {
  [ "$(uname -s)" = Linux ] || die "the sandbox needs Linux (it uses network namespaces and loop devices); with an AWS account run ansible-playbook site.yml instead"
  [ "$(id -u)" = 0 ] || die "the sandbox needs root: run the same command with sudo"
  install ssh openssh-client
  install rsync rsync
  install ip iproute2
  install nft nftables
  install mkfs.ext4 e2fsprogs
  install dockerd docker.io
  # the base image is made by it where no registry answers
  if have apt-get; then install debootstrap debootstrap; fi
  start_docker
}

setup_test() {
  install s3fs s3fs
  if have apt-get && [ "$(. /etc/os-release && echo "$ID")" = debian ]; then
    install chromium chromium
  else
    have chromium || say "no chromium: the browser test will be skipped (install Chromium to run it)"
  fi
}

# The packages of Debian first, one after the other; then pip beside them.
prepare_python
case $level in
  python) setup_python ;;
  sandbox) setup_sandbox; setup_python ;;
  test) setup_sandbox; setup_test; setup_python ;;
  *) die "unknown level '$level': it is python, sandbox or test" ;;
esac
