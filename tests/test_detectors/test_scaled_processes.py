"""Scaled-YOLOv4's loss is a sum over the whole batch, for any number of processes."""

import torch
from mmengine.structures import InstanceData
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmdet_losses.detectors.yolo import (
    ScaledYOLOV4Loss,
    ScaledYOLOV4Outputs,
    ScaledYOLOV4TargetEncoder,
)
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


def train_step(rank, folder):
    network = DistributedDataParallel(Network())
    loss_of(network, rank).backward()
    torch.save(network.module.conv.weight.grad, folder / f'{rank}.pt')


def test_two_processes_get_the_gradient_of_all_images_together(tmp_path):
    """Official: mean terms x images x processes, averaged by DDP, is the sum over processes."""
    run_ranks(train_step, tmp_path)
    network = Network()
    (loss_of(network, 0) + loss_of(network, 1)).backward()
    for rank in (0, 1):
        grad = torch.load(tmp_path / f'{rank}.pt')
        torch.testing.assert_close(grad, network.conv.weight.grad, rtol=1e-4, atol=1e-6)
