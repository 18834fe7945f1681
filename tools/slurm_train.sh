#!/usr/bin/env bash
# Train under Slurm: slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [ARGUMENT of train.py]...
# Environment: GPUS (8, 0 trains on CPUs with TASKS) GPUS_PER_NODE CPUS_PER_TASK SRUN_ARGS PYTHON
set -euo pipefail

if [ $# -lt 4 ]; then
    sed -n '2,3s/^# //p' "$0" >&2
    exit 2
fi
exec "$(dirname "$0")/slurm.sh" train.py "$1" "$2" "$3" --work-dir "$4" "${@:5}"
