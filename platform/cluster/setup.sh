#!/usr/bin/env bash
# Sets up a node, or an image, from the files beside this one: the pinned packages, then ladder's wheel over them. What
# is there already stays, so a node from an image with the same pins only takes the wheel.
#   setup.sh EXTRAS     EXTRAS: ladder's extras for the cloud, such as aws or gcp; none for machines of one's own
# LADDER_VENV is where to (default ~/venv), LADDER_PYTHON which Python (default 3.12, which uv brings).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
venv=${LADDER_VENV:-$HOME/venv}
extras=tracker${1:+,$1}
wheel=$(ls "$here"/ladder-*.whl)
wanted=$(echo "# $extras" | cat - "$here/pins.txt")

if [ "$(cat "$venv/installed.txt" 2>/dev/null || true)" != "$wanted" ]; then
  export PATH=$HOME/.local/bin:$PATH
  command -v uv >/dev/null || pip3 install --quiet --user uv
  uv venv --quiet --seed --allow-existing --python "${LADDER_PYTHON:-3.12}" "$venv"
  uv pip install --quiet --python "$venv/bin/python" --constraints "$here/pins.txt" "$wheel[$extras]"
  echo "$wanted" >"$venv/installed.txt"
fi
if ! cmp --silent "$wheel" "$venv/wheel"; then
  "$venv/bin/python" -m pip install --quiet --no-deps --no-index --force-reinstall "$wheel"
  cp "$wheel" "$venv/wheel"
fi
# First in the file, since what follows there may be for interactive shells only.
line="export PATH=$venv/bin:\$PATH"
if ! grep -qxF "$line" ~/.bashrc 2>/dev/null; then
  touch ~/.bashrc
  { echo "$line"; cat ~/.bashrc; } >~/.bashrc.new
  mv ~/.bashrc.new ~/.bashrc
fi
