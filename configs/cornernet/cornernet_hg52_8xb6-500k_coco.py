# CornerNet, Hourglass-52, COCO, 511 x 511.
# Target: 37.8 AP (53.7 AP50) on test-dev, single scale with flip (--tta); 39.4 (54.9) multi-scale.
# Source: table 1 of CenterNet (triplets).
_base_ = './cornernet_hg104_8xb6-500k_coco.py'

model = dict(
    backbone=dict(_delete_=True, type='StackedHourglassNet', num_stacks=1),
    bbox_head=dict(predictor=dict(num_stacks=1)),
)
