#!/usr/bin/env bash
# Compares a running server with its OpenAPI document: schemathesis calls every operation with valid and
# invalid requests and checks statuses, bodies, headers and methods.
# Usage: tests/schemathesis/run.sh [SECONDS]
# SECONDS bounds the run, 240 unless given. TOLLGATE_BINARY names a built gateway; without it, the debug build is
# made here. The Python packages go into a virtual environment under the target directory, made anew when
# requirements.txt changes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

command -v python3 >/dev/null || { echo "tests/schemathesis: python3 is missing" >&2; exit 1; }
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  { echo "tests/schemathesis: Python 3.11 or later is needed, this is $(python3 --version)" >&2; exit 1; }
target=$(cargo metadata --locked --no-deps --format-version 1 |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
requirements=tests/schemathesis/requirements.txt
environment="$target/schemathesis-$(sha256sum "$requirements" | cut -c1-12)"
if [ ! -e "$environment/complete" ]; then
  rm -rf "$environment"
  python3 -m venv "$environment"
  "$environment/bin/pip" install --quiet --disable-pip-version-check --only-binary=:all: -r "$requirements"
  touch "$environment/complete"
fi
if [ -z "${TOLLGATE_BINARY:-}" ]; then
  cargo build --locked --bin tollgate
  TOLLGATE_BINARY="$target/debug/tollgate"
fi
export PYTHONDONTWRITEBYTECODE=1
exec "$environment/bin/python" tests/schemathesis/run.py "$TOLLGATE_BINARY" "$environment/bin/schemathesis" "${1:-240}"
