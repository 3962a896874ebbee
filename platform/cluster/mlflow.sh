#!/usr/bin/env bash
# Starts MLflow's server on this machine and keeps it up; does nothing where it answers already. Its user and password
# are those of ~/.mlflow/credentials, which `make cluster` makes and MLflow's clients read by themselves.
# LADDER_TRACKER_DATABASE: where runs are kept (default SQLite in ~/mlflow); LADDER_TRACKER_ARTIFACTS: where files are
# (default ~/mlflow/artifacts); LADDER_TRACKER_PORT (default 5000); LADDER_TRACKER_HOST, to listen at (default all
# addresses: the nodes must reach it).
set -euo pipefail
folder=$HOME/mlflow
venv=${LADDER_VENV:-$HOME/venv}
port=${LADDER_TRACKER_PORT:-5000}
health=http://127.0.0.1:$port/health
mkdir -p "$folder"
cd "$folder"
! curl --silent --fail --output /dev/null "$health" || exit 0

read_credential() { sed -n "s/^mlflow_tracking_$1 *= *//p" ~/.mlflow/credentials; }
umask 077
[ -s secret_key ] || head -c 32 /dev/urandom | base64 >secret_key
export MLFLOW_FLASK_SERVER_SECRET_KEY MLFLOW_AUTH_ADMIN_USERNAME MLFLOW_AUTH_ADMIN_PASSWORD
MLFLOW_FLASK_SERVER_SECRET_KEY=$(cat secret_key)
MLFLOW_AUTH_ADMIN_USERNAME=$(read_credential username)
MLFLOW_AUTH_ADMIN_PASSWORD=$(read_credential password)
[ -n "$MLFLOW_AUTH_ADMIN_PASSWORD" ] || { echo "~/.mlflow/credentials has no password: make cluster" >&2; exit 1; }
# Nobody but who has a password sees anything, and no job runners are started, which take a gigabyte.
printf '[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = sqlite:///%s/users.db\nadmin_username = %s\n' \
  "$folder" "$MLFLOW_AUTH_ADMIN_USERNAME" >auth.ini
export MLFLOW_AUTH_CONFIG_PATH=$folder/auth.ini MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false

cat >serve.sh <<SERVE
while true; do
  "$venv/bin/mlflow" server --app-name basic-auth --host ${LADDER_TRACKER_HOST:-0.0.0.0} --port $port \
    --backend-store-uri "${LADDER_TRACKER_DATABASE:-sqlite:///$folder/mlflow.db}" \
    --artifacts-destination "${LADDER_TRACKER_ARTIFACTS:-$folder/artifacts}"
  sleep 5
done
SERVE
setsid nohup bash serve.sh >server.log 2>&1 </dev/null &
for _ in $(seq 90); do
  ! curl --silent --fail --output /dev/null "$health" || exit 0
  sleep 1
done
tail -20 server.log >&2
echo "MLflow did not answer at $health within 90 s" >&2
exit 1
