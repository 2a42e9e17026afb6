#!/usr/bin/env bash
# Runs Presidio's analyzer with a small English model beside the gateway: names are found, replaced and put back;
# a Presidio that is stalled or dead blocks requests or lets them pass, as the policy says.
# Usage: tests/presidio/run.sh
# TOLLGATE_BINARY names a built gateway; without it, the debug build is made here. The Python packages go into
# a virtual environment under the target directory, made anew when requirements.txt changes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

command -v python3 >/dev/null || { echo "tests/presidio: python3 is missing" >&2; exit 1; }
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  { echo "tests/presidio: Python 3.11 or later is needed, this is $(python3 --version)" >&2; exit 1; }
target=$(cargo metadata --locked --no-deps --format-version 1 |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
requirements=tests/presidio/requirements.txt
environment="$target/presidio-$(sha256sum "$requirements" | cut -c1-12)"
if [ ! -e "$environment/complete" ]; then
  rm -rf "$environment"
  python3 -m venv "$environment"
  "$environment/bin/pip" install --quiet --no-compile --disable-pip-version-check --only-binary=:all: -r "$requirements"
  touch "$environment/complete"
fi
if [ -z "${TOLLGATE_BINARY:-}" ]; then
  cargo build --locked --bin tollgate
  TOLLGATE_BINARY="$target/debug/tollgate"
fi
# Of the packages' modules only those that are imported are compiled, and nothing is written beside the sources.
export PYTHONPYCACHEPREFIX="$environment/pycache"
exec "$environment/bin/python" tests/presidio/run.py "$TOLLGATE_BINARY"
