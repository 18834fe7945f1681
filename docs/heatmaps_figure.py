"""Draw docs/images/heatmaps.png: a target map, its splats, and the gradient over the logit."""

from pathlib import Path

import matplotlib
import torch
from mmengine.structures import InstanceData

from mmdet_losses.detectors.center import CenterNetPointsTargetEncoder
from mmdet_losses.losses import penalty_reduced_focal_loss

matplotlib.use('agg')
from matplotlib import pyplot as plt

BLUE, ORANGE, GREEN = '#0072B2', '#D55E00', '#009E73'  # Okabe and Ito


def cost(logits, target, clamp):
    """Cost of single cells and its derivative."""
    x = logits.clone().requires_grad_()
    cells = penalty_reduced_focal_loss(
        x[None, None], torch.full_like(x, target)[None, None], clamp=clamp, reduction='none'
    )
    cells.sum().backward()
    return cells.detach().flatten(), x.grad.flatten()


def main() -> None:
    boxes = [[20, 30, 150, 120], [120, 60, 230, 170], [160, 20, 210, 60], [40, 140, 90, 200.0]]
    objects = InstanceData(bboxes=torch.tensor(boxes), labels=torch.zeros(4, dtype=torch.long))
    encoder = CenterNetPointsTargetEncoder(num_classes=1)
    splats = encoder.encode([objects], [(56, 64)], (224, 256)).heatmap
    dense = splats.dense()[0, 0]
    covered = torch.zeros(dense.numel())
    covered[splats.index] = 1
    share = len(splats.index) / dense.numel()

    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(13, 3.9), width_ratios=(1, 1, 1.25), layout='constrained'
    )
    left.imshow(dense, cmap='viridis', vmin=0, vmax=1)
    left.set_title('target of one class: four objects')
    middle.imshow(covered.view_as(dense), cmap='Greys', vmin=0, vmax=2)
    middle.set_title(f'splats: {100 * share:.0f} % of this map')
    for axes in (left, middle):
        axes.set(xticks=[], yticks=[])
    logits = torch.linspace(-14, 14, 561)[None]
    for target, color, name in ((1.0, BLUE, 'object'), (0.0, ORANGE, 'background')):
        for clamp, style, how in ((None, '-', 'logits'), (1e-4, ':', 'official clamp')):
            _, slope = cost(logits, target, clamp)
            right.plot(logits[0], slope, style, color=color, label=f'{name}, {how}')
    right.axhline(0, color='#999999', lw=0.5)
    right.set(xlabel='logit', ylabel='gradient of the cost')
    right.set_title('a confidently wrong cell keeps its gradient')
    right.legend(fontsize=8)
    path = Path(__file__).parent / 'images' / 'heatmaps.png'
    figure.savefig(path, dpi=110)
    print(path)


if __name__ == '__main__':
    main()
