"""The Slurm scripts against a stand-in for srun that starts the tasks itself."""

from __future__ import annotations

import os

import pytest
import torch

SRUN = """#!/usr/bin/env bash
# Drops its own options, then runs the command once per task.
while [[ $1 == --* ]]; do
    case $1 in --ntasks=*) tasks=${1#*=};; esac
    echo "srun $1"
    shift
done
for ((i = 0; i < tasks; i++)); do
    SLURM_PROCID=$i SLURM_LOCALID=$i SLURM_NTASKS=$tasks SLURM_NODELIST=here "$@" &
    pids[$i]=$!
done
for pid in "${pids[@]}"; do wait "$pid" || exit 1; done
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason='tests the path without a GPU')
def test_slurm_trains_on_cpus(tools, tmp_path):
    srun, scontrol = tmp_path / 'srun', tmp_path / 'scontrol'
    srun.write_text(SRUN)
    scontrol.write_text('#!/bin/sh\necho 127.0.0.1\necho other\n')
    for script in (srun, scontrol):
        script.chmod(0o755)
    result = tools.run(
        'slurm_train.sh', 'cpus', 'digits', tools.ranks, tmp_path / 'work',
        '--cfg-options', 'train_cfg.max_epochs=1',
        PATH=f'{tmp_path}:{os.environ["PATH"]}', GPUS=0, TASKS=2, SRUN_ARGS='--quiet --exclusive',
        MASTER_PORT=tools.free_port(),
    )  # fmt: skip
    assert result.status == 0, result.text[-3000:]
    for option in ('--partition=cpus', '--job-name=digits', '--ntasks=2', '--exclusive'):
        assert f'srun {option}\n' in result.text
    one, two = (torch.load(tmp_path / 'work' / f'rank_{rank}.pt')['state'] for rank in (0, 1))
    assert all(torch.equal(one[key], two[key]) for key in one)
