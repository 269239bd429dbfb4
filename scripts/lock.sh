#!/usr/bin/env bash
# Writes both lock files from pyproject.toml: every file of a release by its hash, and no index or host.
# Local wheel folders, extra indexes and pip's own configuration are left out of the resolution, so that
# the hashes are those of the published files and the locks install on any machine.
set -euo pipefail
cd "$(dirname "$0")/.."

unset PIP_FIND_LINKS PIP_EXTRA_INDEX_URL PIP_NO_INDEX
export PIP_CONFIG_FILE=/dev/null CUSTOM_COMPILE_COMMAND="make lock"

compile() {
    .venv/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras \
        --no-emit-index-url --no-emit-find-links --no-emit-trusted-host "$@" pyproject.toml
}

compile --output-file requirements.lock
compile --output-file requirements-dev.lock --extra dev --extra emulator --extra azure --extra aws --extra google --extra oci \
    --extra otel --extra postgres --extra redis --extra loadtests \
    --constraint requirements.lock

if grep -nE '(https?|file)://|--(index-url|find-links|trusted-host)' requirements.lock requirements-dev.lock; then
    echo "lock: a lock file names an index or a host" >&2
    exit 1
fi
