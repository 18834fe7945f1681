#!/usr/bin/env bash
# Test under Slurm: slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [ARGUMENT of test.py]...
# Environment: GPUS (8, 0 tests on CPUs with TASKS) GPUS_PER_NODE CPUS_PER_TASK SRUN_ARGS PYTHON
set -euo pipefail

if [ $# -lt 4 ]; then
    sed -n '2,3s/^# //p' "$0" >&2
    exit 2
fi
exec "$(dirname "$0")/slurm.sh" test.py "$@"
