#!/usr/bin/env bash
# Runs official SDKs through the gateway: OpenAI's for Python to llama.cpp's own server; OpenAI's, Anthropic's,
# Google's, AWS's and LangChain's for Python, and OpenAI's and Anthropic's for JavaScript, to stub providers.
# Usage: tests/sdk/run.sh [--direct]
# TOLLGATE_BINARY names a built gateway; without it, the debug build is made here. The packages go into a virtual
# environment and a directory of npm's under the target directory, made anew when requirements.txt or
# package-lock.json changes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

command -v python3 >/dev/null || { echo "tests/sdk: python3 is missing" >&2; exit 1; }
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  { echo "tests/sdk: Python 3.11 or later is needed, this is $(python3 --version)" >&2; exit 1; }
for program in node npm; do
  command -v "$program" >/dev/null ||
    { echo "tests/sdk: $program is missing: install Node.js 20 or later" >&2; exit 1; }
done
target=$(cargo metadata --locked --no-deps --format-version 1 |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
requirements=tests/sdk/requirements.txt
environment="$target/sdk-$(sha256sum "$requirements" | cut -c1-12)"
if [ ! -e "$environment/complete" ]; then
  rm -rf "$environment"
  python3 -m venv "$environment"
  "$environment/bin/pip" install --quiet --no-compile --disable-pip-version-check --only-binary=:all: -r "$requirements"
  touch "$environment/complete"
fi

javascript="$target/sdk-javascript-$(cat tests/sdk/javascript/package*.json | sha256sum | cut -c1-12)"
if [ ! -e "$javascript/complete" ]; then
  rm -rf "$javascript"
  mkdir -p "$javascript"
  cp tests/sdk/javascript/package*.json "$javascript"
  npm ci --prefix "$javascript" --ignore-scripts --no-audit --no-fund --loglevel=error
  touch "$javascript/complete"
fi
# Node.js looks for packages beside the file that imports them.
cp tests/sdk/javascript/*.mjs "$javascript"
export TOLLGATE_SDK_JAVASCRIPT="$javascript"

# Of the packages' modules only those that are imported are compiled, and nothing is written beside the sources.
export PYTHONPYCACHEPREFIX="$environment/pycache"
if [ "${1:-}" = --direct ]; then
  exec "$environment/bin/python" tests/sdk/run.py --direct
fi
if [ -z "${TOLLGATE_BINARY:-}" ]; then
  cargo build --locked --bin tollgate
  TOLLGATE_BINARY="$target/debug/tollgate"
fi
exec "$environment/bin/python" tests/sdk/run.py --tollgate "$TOLLGATE_BINARY"
