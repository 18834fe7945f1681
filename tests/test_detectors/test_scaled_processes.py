"""Scaled-YOLOv4's loss grows with the whole batch, on however many processes that is."""

from datetime import timedelta

import torch
import torch.distributed as dist
from mmengine.structures import InstanceData
from torch import multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from mmdet_losses.detectors.yolo import (
    ScaledYOLOV4Loss,
    ScaledYOLOV4Outputs,
    ScaledYOLOV4TargetEncoder,
)

ANCHORS = [[(12, 16), (30, 24)], [(40, 50), (60, 44)], [(80, 90), (120, 60)]]
SIDES, SIZE, IMAGES = (16, 8, 4), (128, 128), 2


class Network(nn.Module):
    """A map of each size from three channels."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 2 * (5 + 3), 1)

    def forward(self, images):
        return tuple(self.conv(nn.functional.adaptive_avg_pool2d(images, side)) for side in SIDES)


def loss_of(network, rank):
    """The loss of the two images of a process, the second without objects in process 1."""
    generator = torch.Generator().manual_seed(rank)
    images = torch.randn(IMAGES, 3, 32, 32, generator=generator)
    truth = []
    for count in (3, 2 - 2 * rank):
        low = 60 * torch.rand(count, 2, generator=generator)
        high = low + 12 + 50 * torch.rand(count, 2, generator=generator)
        labels = torch.randint(3, (count,), generator=generator)
        truth.append(InstanceData(bboxes=torch.cat((low, high), 1), labels=labels))
    targets = ScaledYOLOV4TargetEncoder(3, ANCHORS).encode(
        truth, [(side, side) for side in SIDES], SIZE
    )
    return sum(ScaledYOLOV4Loss()(ScaledYOLOV4Outputs(network(images)), targets).values())


def train_step(rank, folder):
    torch.set_num_threads(1)
    group = dict(rank=rank, world_size=2, timeout=timedelta(seconds=120))
    dist.init_process_group('gloo', f'file://{folder}/join', **group)
    network = DistributedDataParallel(Network())
    loss_of(network, rank).backward()
    torch.save(network.module.conv.weight.grad, folder / f'{rank}.pt')
    dist.destroy_process_group()


def test_two_processes_follow_the_sum_over_all_images(tmp_path):
    """Official: mean terms x images x processes, averaged by DDP, is the sum over processes."""
    # Spawned, not forked: a fork of a process whose thread pools are in use may wait for ever.
    multiprocessing.spawn(train_step, (tmp_path,), nprocs=2)
    network = Network()
    (loss_of(network, 0) + loss_of(network, 1)).backward()
    for rank in (0, 1):
        grad = torch.load(tmp_path / f'{rank}.pt')
        torch.testing.assert_close(grad, network.conv.weight.grad, rtol=1e-4, atol=1e-6)
