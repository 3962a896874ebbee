#!/usr/bin/env bash
# Makes build/cluster, which the nodes of a cluster install from: ladder's wheel, the pins, and the two scripts that use them.
# Once, and outside of it, the secrets that a cluster shares with this machine: Ray's token and MLflow's password, in the
# files where ray and MLflow look for them.
#   pack.sh PYTHON [FOLDER]     PYTHON: one that has ray and pip; FOLDER: another than build/cluster
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$1
folder=${2:-build/cluster}
mkdir -p "$folder"
rm -rf build/lib "$folder"/ladder-*.whl
# The same sources give the same wheel, byte by byte: another one would have the nodes set up again.
SOURCE_DATE_EPOCH=315532800 "$python" -m pip wheel --quiet --no-deps --wheel-dir "$folder" .
cp constraints/gpu.txt "$folder/pins.txt"
cp platform/cluster/setup.sh platform/cluster/mlflow.sh "$folder/"

umask 077
"$python" -m ray.scripts.scripts get-auth-token --generate >/dev/null 2>&1
if [ ! -e ~/.mlflow/credentials ]; then
  mkdir -p ~/.mlflow
  printf '[mlflow]\nmlflow_tracking_username = admin\nmlflow_tracking_password = %s\n' \
    "$(head -c 18 /dev/urandom | base64 | tr '+/' '-_')" >~/.mlflow/credentials
fi
