#!/usr/bin/env bash
# Resolves the *.in files in a clean environment and writes every version into requirements*.txt. Run by `make pins`.
# Use the oldest supported Python: what it needs is a superset of what later ones need.
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"${PYTHON:-python3}" -m venv "$scratch/venv"
pip() { "$scratch/venv/bin/python" -m pip --disable-pip-version-check "$@"; }
versions() { pip freeze --all --local | grep -E '^[A-Za-z0-9._-]+==' | grep -v '^pip==' | LC_ALL=C sort -f; }

pip install --quiet --upgrade -r requirements.in
versions > "$scratch/runtime"
pip install --quiet -r requirements-dev.in -c "$scratch/runtime"
versions > "$scratch/all"

{
    echo "# Written by \`make pins\` from requirements.in: every package at run time."
    cat "$scratch/runtime"
} > requirements.txt
{
    echo "-r requirements.txt"
    echo "# Written by \`make pins\` from requirements-dev.in: what the checks and tests add."
    grep -vxFf "$scratch/runtime" "$scratch/all"
} > requirements-dev.txt
