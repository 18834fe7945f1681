# CornerNet, Hourglass-104, COCO, 511 x 511.
# Target: 40.5 AP (56.5 AP50) on test-dev, single scale with flip (--tta); 42.1 (57.8) multi-scale,
# see cornernet_hg104_8xb6-500k_coco_multiscale.py. Source: table 1 of CenterNet (triplets).
_base_ = [
    '../_base_/models/cornernet_hg104.py',
    '../_base_/datasets/coco_corners.py',
    '../_base_/schedules/adam_500k.py',
    '../_base_/iteration_runtime.py',
]

train_dataloader = dict(batch_size=6)

# the paper's batch: 49 images (10 GPUs); nearest: 8 GPUs x 6 images
auto_scale_lr = dict(enable=False, base_batch_size=49)
# batch_sampler of 10 GPUs (README: batch norm)
official_split = dict(type='SplitBatchSampler', sizes=(4, *[5] * 9))
