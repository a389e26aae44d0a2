#!/usr/bin/env bash
# Builds .venv and keeps it equal to the pinned requirements: scripts/install.sh runtime|dev
# Does nothing when the requirements, pyproject.toml, the Python and the folder are those of the last install.
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${1:-runtime}
python=${PYTHON:-python3}
stamps=.venv/installed
case $kind in
    runtime) requirements=(-r requirements.txt -r requirements-nodeps.txt) ;;
    dev) requirements=(-r requirements-dev.txt -r requirements-nodeps.txt) ;;
    *) echo "usage: scripts/install.sh runtime|dev" >&2; exit 2 ;;
esac

fail() {
    printf 'install: %s\n' "$@" >&2
    exit 1
}

check_python() {
    command -v "$python" > /dev/null || fail "no '$python' found." "Install it: apt-get install python3" \
        "or name another one: make PYTHON=/path/to/python3 install"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail \
        "'$python' is $("$python" --version 2>&1), Pulselake needs 3.11 or newer." \
        "Name another one: make PYTHON=/path/to/python3 install"
}

apt_get() {
    if [ "$(id -u)" = 0 ]; then
        DEBIAN_FRONTEND=noninteractive apt-get -qq "$@"
    else
        sudo -n env DEBIAN_FRONTEND=noninteractive apt-get -qq "$@"
    fi
}

# Debian ships the standard library's venv and ensurepip in a package of their own.
check_venv() {
    "$python" -c 'import ensurepip, venv' 2> /dev/null && return
    local package
    package=$("$python" -c 'import sys; print(f"python{sys.version_info.major}.{sys.version_info.minor}-venv")')
    if command -v apt-get > /dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2> /dev/null; }; then
        echo "install: '$python' lacks ensurepip; installing $package"
        { apt_get update && apt_get install --yes --no-install-recommends "$package"; } > .cache/apt.log 2>&1 \
            || fail "could not install $package; apt-get said:" "$(tail -n 5 .cache/apt.log)"
    fi
    "$python" -c 'import ensurepip, venv' 2> /dev/null || fail "'$python' lacks the modules venv and ensurepip." \
        "Install them: sudo apt-get update && sudo apt-get install $package"
}

place() {
    { pwd; "$python" -c 'import sys; print(sys.version, sys.base_prefix)'; } | sha256sum
}

fingerprint() {
    { place; cat requirements*.txt pyproject.toml scripts/install.sh; } | sha256sum
}

check_python
wanted=$(fingerprint)
[ "$(cat "$stamps/$kind" 2> /dev/null)" = "$wanted" ] && exit 0

mkdir -p .cache
exec 9> .cache/install.lock
flock 9
[ "$(cat "$stamps/$kind" 2> /dev/null)" = "$wanted" ] && exit 0

if [ "$(cat "$stamps/venv" 2> /dev/null)" != "$(place)" ]; then
    check_venv
    "$python" -m venv --clear .venv
    mkdir -p "$stamps"
    place > "$stamps/venv"
fi

# Every package is listed, so nothing is resolved; wheels only, so no compiler is needed. What pip says is in a log: it
# warns of much that is harmless.
pip_install() {
    .venv/bin/python -m pip --disable-pip-version-check --no-input install --no-deps "$@" > .cache/pip.log 2>&1 || fail \
        "could not install into .venv; pip said:" "$(grep -v '^Requirement already' .cache/pip.log | tail -n 8)" \
        "The command was: .venv/bin/python -m pip install --no-deps $*" \
        "The whole output is in .cache/pip.log. Check the network and the free disk space, then run make again."
}

packages=$(cat requirements.txt requirements-nodeps.txt $([ "$kind" = dev ] && echo requirements-dev.txt) | grep -c '==')
echo "install: installing $packages packages ($kind requirements) into .venv; the first time it takes a minute or two"
pip_install --only-binary :all: "${requirements[@]}"
pip_install --no-build-isolation --editable .
[ "$kind" = dev ] && echo "$wanted" > "$stamps/runtime"
echo "$wanted" > "$stamps/$kind"
echo "install: done"
