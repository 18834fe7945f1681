"""Trainings in half precision beside float32: the table, the rounding, and a short form."""

import pytest
import torch
from torch import nn

from tools import half_precision


def test_the_last_quarter_is_compared():
    losses = {'float32': [9.0] * 6 + [1.0, 3.0], 'bfloat16': [9.0] * 6 + [1.0, 3.03]}
    row, fits = half_precision.table_row('ssd_digits', losses)
    assert row == '| ssd_digits | 2.000 | +0.75% |' and fits
    losses['bfloat16'][-1] = 3.1
    assert not half_precision.table_row('ssd_digits', losses)[1]
    losses['float32 again'] = [9.0] * 6 + [1.0, 2.9]  # rounding in float32 causes as much
    assert half_precision.table_row('ssd_digits', losses)[1]
    losses['float16'] = [float('nan')] * 8
    assert not half_precision.table_row('ssd_digits', losses)[1]


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_rounded_layers_equal_autocast(dtype):
    torch.manual_seed(0)
    layer, image = nn.Conv2d(3, 4, 3), torch.randn(1, 3, 6, 6)
    results = []
    for context in (half_precision.RoundedLayers(dtype), torch.autocast('cpu', dtype)):
        layer.zero_grad()
        with context:
            output = layer(image)
        output.float().square().sum().backward()
        results.append((output.float(), layer.weight.grad.clone(), layer.bias.grad.clone()))
    step = torch.finfo(dtype).eps
    for have, want in zip(*results, strict=True):
        torch.testing.assert_close(have, want, rtol=4 * step, atol=step)


@pytest.mark.short_training
def test_a_short_form_runs(capsys):
    """The second loss is within 2 %; the long form compares 200 steps of every small config."""
    arguments = ['ssd_digits', '--steps', '2', '--batch-size', '1']
    assert half_precision.main([*arguments, '--runs', 'bfloat16', 'float16']) == 0
    lines = capsys.readouterr().out.splitlines()  # and the progress of the images
    header, _, row = (line for line in lines if line.startswith('|'))
    assert header == '| config | loss in float32 | bfloat16 | float16 |'
    assert row.startswith('| ssd_digits | ') and row.count('%') == 2
