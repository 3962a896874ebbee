#!/usr/bin/env bash
# Sets up a node, or an image, from the files beside this one: the pinned packages, then ladder's wheel over them. What
# is there already stays, so a node from an image with the same pins only takes the wheel.
#   setup.sh EXTRAS     EXTRAS: ladder's extras for the cloud, such as aws, gcp, or nothing
# LADDER_VENV is where to (default ~/venv), LADDER_PYTHON which Python (default 3.12, which uv brings).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
venv=${LADDER_VENV:-$HOME/venv}
extras=tracker${1:+,$1}
wheel=$(ls "$here"/ladder-*.whl)
pins=$(sha256sum "$here/pins.txt" <(echo "$extras") | sha256sum | cut -c1-16)
build=$(sha256sum "$wheel" | cut -c1-16)

if [ "$(cat "$venv/pins" 2>/dev/null || true)" != "$pins" ]; then
  export PATH=$HOME/.local/bin:$PATH
  command -v uv >/dev/null || pip3 install --quiet --user uv
  uv venv --quiet --allow-existing --python "${LADDER_PYTHON:-3.12}" "$venv"
  uv pip install --quiet --python "$venv/bin/python" --constraints "$here/pins.txt" "$wheel[$extras]"
  echo "$pins" >"$venv/pins"
  echo "$build" >"$venv/wheel"
fi
if [ "$(cat "$venv/wheel")" != "$build" ]; then
  export PATH=$HOME/.local/bin:$PATH
  uv pip install --quiet --python "$venv/bin/python" --no-deps --reinstall "$wheel"
  echo "$build" >"$venv/wheel"
fi
line="export PATH=$venv/bin:\$PATH"
grep -qxF "$line" ~/.bashrc 2>/dev/null || printf '%s\n%s\n' "$line" "$(cat ~/.bashrc 2>/dev/null)" >~/.bashrc.new
[ ! -e ~/.bashrc.new ] || mv ~/.bashrc.new ~/.bashrc
