"""The gradient of two processes equals that of one process on the joined batch."""

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmdet_losses.losses import PenaltyReducedFocalLoss
from tests.processes import run_ranks


def network():
    torch.manual_seed(0)
    return nn.Conv2d(3, 2, 1)


def batch(rank):
    """Two images; process 0 has three positives, process 1 none in one image and one in all."""
    generator = torch.Generator().manual_seed(rank)
    images = torch.randn(2, 3, 8, 8, generator=generator)
    target = 0.9 * torch.rand(2, 2, 8, 8, generator=generator)
    for x in range(1 if rank else 3):
        target[0, x % 2, 2, x] = 1
    return images, target


def train_step(rank, folder):
    model = DistributedDataParallel(network())
    images, target = batch(rank)
    PenaltyReducedFocalLoss(normalizer='positives_all_ranks')(model(images), target).backward()
    torch.save(model.module.weight.grad, folder / f'{rank}.pt')


def test_positives_of_all_ranks_give_the_gradient_of_the_joined_batch(tmp_path):
    run_ranks(train_step, tmp_path)
    model = network()
    images, target = (torch.cat(both) for both in zip(batch(0), batch(1), strict=True))
    PenaltyReducedFocalLoss(normalizer='positives')(model(images), target).backward()
    for rank in (0, 1):
        grad = torch.load(tmp_path / f'{rank}.pt')
        torch.testing.assert_close(grad, model.weight.grad, rtol=1e-5, atol=1e-7)
