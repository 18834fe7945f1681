#!/usr/bin/env bash
# Start a tool of this folder in GPUS processes on this machine, as one of NNODES machines.
# Usage: dist.sh SCRIPT GPUS ARGUMENT...      Environment: NNODES NODE_RANK MASTER_ADDR PORT PYTHON
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # torchrun sets it too, with a warning

exec "${PYTHON:-python}" "$here/launch.py" \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$2" \
    "$here/$1" "${@:3}" --launcher pytorch
