"""Gradients of two processes equal those of one process on the joined batch."""

import copy
import os

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.dataset import pseudo_collate
from mmengine.runner import FlexibleRunner
from mmengine.structures import InstanceData
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset

from mmdet_losses.detectors.yolo import (
    ScaledYOLOV4Loss,
    ScaledYOLOV4Outputs,
    ScaledYOLOV4TargetEncoder,
)
from mmdet_losses.losses import PenaltyReducedFocalLoss
from mmdet_losses.registry import MODELS
from tests.detector_cases import DETECTORS
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


class TwoImages(Dataset):
    """The same two images, each with one object, for each of two processes."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index // 2)
        sample = DetDataSample(metainfo=dict(img_shape=(64, 64), scale_factor=(1.0, 1.0)))
        low = 20 * torch.rand(1, 2, generator=generator)
        boxes, labels = torch.cat((low, low + 30), 1), torch.tensor([index // 2])
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        pixels = torch.randint(256, (3, 64, 64), generator=generator).to(torch.uint8)
        return dict(inputs=pixels, data_samples=sample)


def small_detector():
    torch.manual_seed(0)
    case = DETECTORS['RetinaNet']
    stages = [((3, 8, 2),), ((3, 8, 2),), ((3, 8),)]
    detector = MODELS.build(
        dict(
            type='SingleStageDetector',
            _scope_='mmdet',
            data_preprocessor=dict(type='DetDataPreprocessor', mean=[127.0] * 3, std=[60.0] * 3),
            backbone=dict(type='PlainDarknet', arch=stages, out_indices=(1, 2)),
            bbox_head=dict(
                type='EncodedDenseHead',
                predictor=case.predictor,
                encoder=dict(case.encoder, strides=((8, 8), (16, 16))),
                criterion=case.criterion,
            ),
        )
    )
    detector.init_weights()
    return detector


def sharded_step(rank, folder):
    """Parameters after a step with MMEngine's FSDP strategy, and after a step without it."""
    os.environ['LOCAL_RANK'] = str(rank)
    model = small_detector()
    alone, data = copy.deepcopy(model), TwoImages()
    # the default is a GPU
    wrapper = dict(type='MMFullyShardedDataParallel', device_id=torch.device('cpu'))
    runner = FlexibleRunner(
        model,
        work_dir=str(folder / 'fsdp'),
        strategy=dict(type='FSDPStrategy', model_wrapper=wrapper, skip_init_weights=True),
        train_dataloader=dict(
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=data,
            collate_fn=dict(type='pseudo_collate'),
        ),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        train_cfg=dict(by_epoch=False, max_iters=1),
        default_hooks=dict.fromkeys(('checkpoint', 'logger', 'sampler_seed', 'timer')),
        default_scope='mmdet',
        launcher='pytorch',
        log_level='ERROR',
    )
    runner.train()
    optimizer = torch.optim.SGD(alone.parameters(), 0.1)
    batch = alone.data_preprocessor(pseudo_collate([data[0], data[2]]), True)
    alone.parse_losses(alone(**batch, mode='loss'))[0].backward()
    optimizer.step()
    # the parts of the two ranks; gathering the whole parameters crashes PyTorch 2.13 on a CPU
    parts = [moments(each) for each in runner.model.parameters()]
    want = [moments(each) for each in alone.parameters()]
    return dict(sharded=torch.stack(parts), alone=torch.stack(want))


def moments(parameter):
    """Number, sum and sum of squares of the values."""
    values = parameter.detach().double()
    return torch.stack((values.new_tensor(values.numel()), values.sum(), values.square().sum()))


def train_step(rank, folder):
    network = DistributedDataParallel(Network())
    loss_of(network, rank).backward()
    heatmaps = DistributedDataParallel(heatmap_network())
    heatmap_loss(heatmaps, heatmap_batch(rank), 'positives_all_ranks').backward()
    grads = dict(scaled=network.module.conv.weight.grad, heatmap=heatmaps.module.weight.grad)
    grads |= sharded_step(rank, folder)
    torch.save(grads, folder / f'{rank}.pt')


@pytest.fixture(scope='module')
def grads(tmp_path_factory):
    """Gradients and sharded parameters of each of two processes."""
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


def test_a_step_with_sharded_parameters_equals_one_without(grads):
    """Both processes have the same images, so that the mean gradient is that of each."""
    sharded = sum(grad['sharded'] for grad in grads)
    want = grads[0]['alone']
    torch.testing.assert_close(sharded, want, rtol=1e-5, atol=1e-6)
    start = torch.stack([moments(each) for each in small_detector().parameters()])
    assert (start != want).any(1).float().mean() > 0.9  # nearly all parameters have moved
