# CenterNet (keypoint triplets), Hourglass-52, COCO, 511 x 511.
# Target: 41.6 AP (59.4 AP50) on test-dev, single scale with flip (--tta); 43.5 (61.3) multi-scale.
# Source: table 1 of the official repository.
_base_ = './centernet_triplet_hg104_8xb6-480k_coco.py'

model = dict(
    backbone=dict(_delete_=True, type='StackedHourglassNet', num_stacks=1),
    bbox_head=dict(predictor=dict(num_stacks=1)),
)
