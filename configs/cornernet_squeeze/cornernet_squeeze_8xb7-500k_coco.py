# CornerNet-Squeeze, COCO, 511 x 511 to maps of stride 8.
# Target: 34.4 AP on COCO, single scale without flip (--tta). Source: the paper's abstract,
# arXiv 1904.08900.
_base_ = [
    '../_base_/models/cornernet_hg104.py',
    '../_base_/datasets/coco_corners.py',
    '../_base_/schedules/adam_500k.py',
    '../_base_/iteration_runtime.py',
]

model = dict(
    backbone=dict(_delete_=True, type='SqueezeHourglassNet', num_stacks=2),
    bbox_head=dict(predictor=dict(branch_kernel=1), encoder=dict(topk=20, num_dets=100)),
)

# one view: the same detections as without --tta, clipped to the image before NMS
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='CornerCanvas', scale=1.0, pad=127)],
            [dict(type='LoadAnnotations', with_bbox=True)],
            [dict(type='PackDetInputs', meta_keys=_base_.meta_keys)],
        ],
    ),
]

train_dataloader = dict(batch_size=7)

# the paper's batch: 55 images (4 GPUs); nearest: 8 GPUs x 7 images
auto_scale_lr = dict(enable=False, base_batch_size=55)
# batch_sampler of 4 GPUs (README: batch norm)
official_split = dict(type='SplitBatchSampler', sizes=(13, 14, 14, 14))
