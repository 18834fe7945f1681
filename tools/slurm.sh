#!/usr/bin/env bash
# Run a tool of this folder under Slurm: slurm.sh SCRIPT PARTITION JOB_NAME ARGUMENT...
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}"

gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
if [ "$gpus" -gt 0 ]; then
    tasks=(--gres="gpu:$per_node" --ntasks="$gpus" --ntasks-per-node="$per_node")
else
    tasks=(--ntasks="${TASKS:-2}")
fi
# SRUN_ARGS holds several words on purpose.
# shellcheck disable=SC2086
exec srun --partition="$2" --job-name="$3" "${tasks[@]}" --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$here/$1" "${@:4}" --launcher slurm
