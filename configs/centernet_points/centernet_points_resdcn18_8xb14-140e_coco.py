# CenterNet (objects as points), ResNet-18 with deformable up-convolutions, COCO.
# Target: 28.1 AP on val2017 (30.0 with flip test, --tta; 33.2 with flip and multi-scale), 512
# training, original size at test; source: the official model zoo, network resdcn18.
_base_ = [
    '../_base_/models/centernet_points_resdcn18.py',
    '../_base_/datasets/coco_points.py',
    '../_base_/schedules/adam_140e.py',
    '../_base_/center_runtime.py',
]

train_dataloader = dict(batch_size=14)

# the paper's batch: 114 images (4 GPUs); nearest: 8 GPUs x 14 images
auto_scale_lr = dict(enable=False, base_batch_size=114)
# batch_sampler of 4 GPUs (README: batch norm)
official_split = dict(type='SplitBatchSampler', sizes=(18, 32, 32, 32))
