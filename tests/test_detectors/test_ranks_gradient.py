"""Gradients of two processes equal those of one process on the joined batch."""

import pytest
import torch
from mmengine.structures import InstanceData
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmdet_losses.detectors.yolo import (
    ScaledYOLOV4Loss,
    ScaledYOLOV4Outputs,
    ScaledYOLOV4TargetEncoder,
)
from mmdet_losses.losses import PenaltyReducedFocalLoss
from tests.processes import run_ranks

ANCHORS = [[(12, 16), (30, 24)], [(40, 50), (60, 44)], [(80, 90), (120, 60)]]
SIDES, SIZE, IMAGES = (16, 8, 4), (128, 128), 2


class Network(nn.Module):
    """One convolution per level, on images of three channels."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 2 * (5 + 3), 1)

    def forward(self, images):
        return tuple(self.conv(nn.functional.adaptive_avg_pool2d(images, side)) for side in SIDES)


def loss_of(network, rank):
    """Loss of the two images of a process; in process 1 the second has no objects."""
    generator = torch.Generator().manual_seed(rank)
    images = torch.randn(IMAGES, 3, 32, 32, generator=generator)
    gt_instances = []
    for count in (3, 2 - 2 * rank):
        low = 60 * torch.rand(count, 2, generator=generator)
        high = low + 12 + 50 * torch.rand(count, 2, generator=generator)
        labels = torch.randint(3, (count,), generator=generator)
        gt_instances.append(InstanceData(bboxes=torch.cat((low, high), 1), labels=labels))
    targets = ScaledYOLOV4TargetEncoder(3, ANCHORS).encode(
        gt_instances, [(side, side) for side in SIDES], SIZE
    )
    return sum(ScaledYOLOV4Loss()(ScaledYOLOV4Outputs(network(images)), targets).values())


def heatmap_batch(rank):
    """Two images and heatmaps; process 0 has three positives, process 1 has one."""
    generator = torch.Generator().manual_seed(rank)
    images = torch.randn(2, 3, 8, 8, generator=generator)
    target = 0.9 * torch.rand(2, 2, 8, 8, generator=generator)
    for x in range(1 if rank else 3):
        target[0, x % 2, 2, x] = 1
    return images, target


def heatmap_network():
    torch.manual_seed(0)
    return nn.Conv2d(3, 2, 1)


def heatmap_loss(network, batch, normalizer):
    images, target = batch
    return PenaltyReducedFocalLoss(normalizer=normalizer)(network(images), target)


def train_step(rank, folder):
    network = DistributedDataParallel(Network())
    loss_of(network, rank).backward()
    heatmaps = DistributedDataParallel(heatmap_network())
    heatmap_loss(heatmaps, heatmap_batch(rank), 'positives_all_ranks').backward()
    grads = dict(scaled=network.module.conv.weight.grad, heatmap=heatmaps.module.weight.grad)
    torch.save(grads, folder / f'{rank}.pt')


@pytest.fixture(scope='module')
def grads(tmp_path_factory):
    """Gradients of each of two processes."""
    folder = tmp_path_factory.mktemp('ranks')
    run_ranks(train_step, folder)
    return [torch.load(folder / f'{rank}.pt') for rank in (0, 1)]


def test_scaled_yolov4_sums_over_all_processes(grads):
    """Official: mean terms x images x processes, averaged by DDP, is the sum over processes."""
    network = Network()
    (loss_of(network, 0) + loss_of(network, 1)).backward()
    for grad in grads:
        torch.testing.assert_close(grad['scaled'], network.conv.weight.grad, rtol=1e-4, atol=1e-6)


def test_positives_of_all_ranks_give_the_gradient_of_the_joined_batch(grads):
    network = heatmap_network()
    both = zip(heatmap_batch(0), heatmap_batch(1), strict=True)
    heatmap_loss(network, [torch.cat(parts) for parts in both], 'positives').backward()
    for grad in grads:
        torch.testing.assert_close(grad['heatmap'], network.weight.grad, rtol=1e-5, atol=1e-7)
