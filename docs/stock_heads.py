"""Our losses in the heads of MMDetection, beside the stock losses with the same formula.

``python docs/stock_heads.py`` compares every loss in every slot of small heads and writes
``docs/stock_heads.md``.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from docs.more_stock_head_cases import MORE_HEADS
from docs.stock_head_cases import HEADS as FIRST_HEADS
from docs.stock_head_cases import PAIRS, Head
from mmdet_losses.registry import MODELS

HEADS = {**FIRST_HEADS, **MORE_HEADS}
PAGE = ROOT / 'docs' / 'stock_heads.md'

COUNTS = ((3, 2), (0, 3), (0, 0))
"""Objects of the two images: everywhere, in half of the images, none."""


def objects(counts: tuple[int, int], num_classes: int) -> list[InstanceData]:
    """Objects of two images."""
    boxes = torch.tensor(
        [[10.0, 9.0, 34.5, 30.25], [40.0, 12.0, 85.0, 56.5], [20.5, 36.0, 44.0, 60.0]]
    )
    labels = torch.tensor([1, 0, 1]).clamp(max=num_classes - 1)
    return [InstanceData(bboxes=boxes[:count], labels=labels[:count]) for count in counts]


class Step(NamedTuple):
    """One step of a head."""

    losses: dict[str, Tensor]
    grads: list[Tensor]
    """By the outputs of the head; zeros where there is no path."""


def steps(head: Head, module: nn.Module) -> list[Step]:
    """One step per entry of ``COUNTS``."""
    done = []
    produced = head.outputs(module)
    for counts in COUNTS:
        leaves: list[Tensor] = []

        def leaf(tensor: Tensor, leaves: list[Tensor] = leaves) -> Tensor:
            leaves.append(tensor.detach().clone().requires_grad_())
            return leaves[-1]

        outputs = tree_map_only(Tensor, leaf, produced)
        found = head.loss(module, outputs, objects(counts, head.num_classes))
        losses = {
            name: torch.stack([*value]).sum() if isinstance(value, list) else value.sum()
            for name, value in found.items()
            if 'loss' in name
        }
        total = torch.stack([*losses.values()]).sum()
        grads = torch.autograd.grad(total, leaves, materialize_grads=True)
        done.append(Step({name: value.detach() for name, value in losses.items()}, list(grads)))
    return done


def difference(ours: list[Step], theirs: list[Step]) -> tuple[float, float]:
    """Largest relative difference of the values, and of the gradients."""
    pairs = list(zip(ours, theirs, strict=True))
    value = max(_relative(a.losses[name], b.losses[name]) for a, b in pairs for name in b.losses)
    grad = max(_relative(x, y) for a, b in pairs for x, y in zip(a.grads, b.grads, strict=True))
    return value, grad


def _relative(ours: Tensor, theirs: Tensor) -> float:
    scale = max(float(theirs.abs().max()), 1e-6)
    gap = float((ours - theirs).abs().max()) / scale
    return gap if gap == gap else float('inf')  # a NaN is no equality


Outcome = Literal['equal', 'different', 'other', 'not finite', 'raises']


@cache
def outcomes(name: str) -> dict[tuple[str, str], tuple[Outcome, str]]:
    """(Slot, our loss) -> what happens in the head, and a message or the differences.

    'equal': values within 1e-4 and gradients within 1e-3 of the stock loss. 'other': finite, but no
    stock loss has the formula, or it does not run in this slot. 'raises': a message when the head
    is built.
    """
    head, found = HEADS[name], {}
    recipe = head.build()
    for slot in head.slots:
        stock: dict[str, list[Step] | None] = {}
        raised = False
        for loss, (config, counterpart) in PAIRS.items():
            try:
                if raised:  # a head was built with one loss that does not fit; the others cost less
                    MODELS.build(dict(config)).check_slot(recipe, slot)
                module = head.build(slot, config)
            except ValueError as error:
                found[slot, loss] = 'raises', str(error)
                raised = True
                continue
            key = str(counterpart)
            if key not in stock:
                stock[key] = None if counterpart is None else _stock_steps(head, slot, counterpart)
            found[slot, loss] = _compare(steps(head, module), stock[key])
    return found


def _stock_steps(head: Head, slot: str, loss: dict) -> list[Step] | None:
    try:
        return steps(head, head.build(slot, loss))
    except (RuntimeError, AssertionError):  # weights or costs of a shape that it does not take
        return None


def _compare(ours: list[Step], theirs: list[Step] | None) -> tuple[Outcome, str]:
    tensors = [each for step in ours for each in (*step.losses.values(), *step.grads)]
    if not all(each.isfinite().all() for each in tensors):
        return 'not finite', ''
    if theirs is None:
        return 'other', ''
    value, grad = difference(ours, theirs)
    return 'equal' if value < 1e-4 and grad < 1e-3 else 'different', f'{value:.1e}, {grad:.1e}'


TEXT = """# Our losses in the heads of MMDetection

Written by `python docs/stock_heads.py`, which runs one step of small heads with every loss in every
slot: with objects in all images, in half of them, and in none.

- **Equal**: values within 1e-4 and gradients within 1e-3 of the stock loss with the same formula
  ({pairs}).
- **Other**: the step is finite, but MMDetection has no loss with the formula (`CompleteIoULoss`: it
  drops the aspect term below an IoU of 0.5), or its loss does not run in this slot.
- Every other loss raises one message when the head is built, for example:

```text
{example}
```

`SSDHead` is missing: its losses are part of its code and cannot be replaced. `loss_weight` and the
reduction are those of the slot's recipe. A test lists every loss slot in MMDetection 3.3: heads
that inherit a slot of this table are not repeated, and slots of masks, segmentation, tracking, ReID
and distributions take none of our losses. The RoI heads `SABLHead`, `DIIHead`, `GridHead` and
`MaskIoUHead` are checked when they are built, but no step of them was compared.

| head | slot | equal | other |
|---|---|---|---|
"""


def page() -> str:
    """The text of ``docs/stock_heads.md``."""
    rows = []
    for name, head in HEADS.items():
        found = outcomes(name)
        for slot in head.slots:
            cells = [
                ', '.join(f'`{loss}`' for loss in PAIRS if found[slot, loss][0] == kind)
                for kind in ('equal', 'other')
            ]
            rows.append(f'| `{name}` | `{slot}` | {" | ".join(cells)} |\n')
    pairs = ', '.join(
        f'`{ours}` and `{stock["type"]}`' for ours, (_, stock) in PAIRS.items() if stock
    )
    example = outcomes('RetinaHead')['loss_bbox', 'GeneralizedIoULoss'][1]
    return TEXT.format(pairs=pairs, example=example) + ''.join(rows)


if __name__ == '__main__':
    PAGE.write_text(page(), encoding='utf-8')
    print(f'{PAGE} is written.')
