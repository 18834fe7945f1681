# CenterNet (keypoint triplets), Hourglass-104, COCO, 511 x 511.
# Target: 44.9 AP (62.4 AP50) on test-dev, single scale with flip (--tta); 47.0 (64.5) multi-scale.
# Source: table 1 of the official repository.
_base_ = [
    '../_base_/models/cornernet_hg104.py',
    '../_base_/datasets/coco_corners.py',
    '../_base_/schedules/adam_500k.py',
    '../_base_/iteration_runtime.py',
]

model = dict(
    bbox_head=dict(
        predictor=dict(type='CenterNetTripletPredictor'),
        encoder=dict(
            type='CenterNetTripletTargetEncoder',
            radius=dict(mode='legacy', min_overlap=0.7),  # as in the official code
            topk=70,
        ),
        criterion=dict(type='CenterNetTripletLoss'),
    ),
)

train_cfg = dict(max_iters=480_000, val_interval=24_000)
default_hooks = dict(checkpoint=dict(interval=24_000))

train_dataloader = dict(batch_size=6)

# the paper's batch: 48 images (8 GPUs)
auto_scale_lr = dict(enable=False, base_batch_size=48)
