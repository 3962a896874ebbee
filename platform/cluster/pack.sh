#!/usr/bin/env bash
# Makes build/cluster, what the nodes of a cluster install: ladder's wheel, the pins, and the two scripts that use them.
# Once, and outside of it, the secrets that a cluster shares with this machine: Ray's token and MLflow's password, in the
# files where ray and MLflow look for them.
#   pack.sh PYTHON     PYTHON: one that has ray and pip
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$1
rm -rf build/cluster
mkdir -p build/cluster
# The same sources give the same wheel, byte by byte: another one would have the nodes set up again.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 1700000000) \
  "$python" -m pip wheel --quiet --no-deps --wheel-dir build/cluster .
cp constraints/gpu.txt build/cluster/pins.txt
cp platform/cluster/setup.sh platform/cluster/mlflow.sh build/cluster/

umask 077
"$python" -m ray.scripts.scripts get-auth-token --generate >/dev/null 2>&1
if [ ! -e ~/.mlflow/credentials ]; then
  mkdir -p ~/.mlflow
  printf '[mlflow]\nmlflow_tracking_username = admin\nmlflow_tracking_password = %s\n' \
    "$(head -c 18 /dev/urandom | base64 | tr '+/' '-_')" >~/.mlflow/credentials
fi
