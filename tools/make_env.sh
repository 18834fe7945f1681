#!/usr/bin/env bash
# Create the environment of a stack unless it exists: tools/make_env.sh [default|onedl] [ops]
# With `ops`, MMCV's operators are compiled. An environment that has them keeps them.
set -euo pipefail
cd "$(dirname "$0")/.."

stack=${1:-default}
operators=${2:-}
python=${PYTHON:-python3}

fail() {
    echo "make env: $*" >&2
    exit 1
}

case $stack in
    default) venv=.venv ;;
    onedl) venv=.venv-onedl operators=ops ;; # the forks have no MMCV without operators
    *) fail "there is no stack '$stack'; choose STACK=default or STACK=onedl." ;;
esac

recipe() {
    echo "$PWD"
    cat requirements/build.txt requirements/shared.txt "requirements/$stack.txt" setup.py \
        tools/make_env.py tools/make_env.sh
}
case $(cat "$venv/stamp" 2>/dev/null) in *' ops') operators=ops ;; esac
stamp="$(recipe | sha256sum) $operators"
is_ready() { [ "$stamp" = "$(cat "$venv/stamp" 2>/dev/null)" ]; }
if is_ready; then exit 0; fi

command -v "$python" >/dev/null ||
    fail "command '$python' not found; install Python 3.11 or 3.12 (Debian: apt-get install python3)."
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' ||
    fail "'$python' is $("$python" -V 2>&1), but the pinned stack needs 3.11 or 3.12; use" \
        "make env PYTHON=/path/to/python3.11."
missing=()
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
if [ "$operators" = ops ]; then
    "$python" -c 'import os, sysconfig
os.stat(os.path.join(sysconfig.get_path("include"), "Python.h"))' 2>/dev/null ||
        missing+=(python3-dev)
    command -v g++ >/dev/null || missing+=(g++)
fi
command -v make >/dev/null || missing+=(make)
[ ${#missing[@]} -eq 0 ] ||
    fail "missing on this machine: ${missing[*]} (Debian: apt-get install ${missing[*]})."

if [ -L "$venv" ]; then mkdir -p "$(readlink "$venv")"; fi # a link to a folder that is still missing
mkdir -p "$venv"
exec 9>"$venv/lock"
if command -v flock >/dev/null && ! flock --nonblock 9; then
    echo "make env: another process is making $venv; waiting for it ..."
    flock 9
    if is_ready; then exit 0; fi
fi
rm -f "$venv/stamp"
clear=()
[ "$("$venv/bin/python" -V 2>&1)" = "$("$python" -V 2>&1)" ] || clear=(--clear)
"$python" -m venv "${clear[@]}" "$(cd "$venv" && pwd -P)" # venv raises an error for a link
"$venv/bin/python" tools/make_env.py "$stack" $operators
echo "$stamp" >"$venv/stamp"
