# CenterTrack, DLA-34, KITTI tracking in 2D, first halves of the training videos.
# Target: MOTA 88.7 on the second halves from nuScenes weights, 84.5 without them (as here), by
# KITTI's own evaluation of cars; 384 x 1280; source: the official model zoo. MOTMetric pools the
# three classes, so its figures are not KITTI's.
_base_ = [
    '../_base_/models/centertrack_dla34.py',
    '../_base_/datasets/kitti_tracking_half.py',
    '../_base_/schedules/centertrack_70e.py',
    '../_base_/center_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained', checkpoint='checkpoints/dla34_imagenet.pth', prefix='backbone.'
        )
    ),
    bbox_head=dict(
        predictor=dict(num_classes=3, with_ltrb_amodal=False),
        encoder=dict(num_classes=3, max_objects=50, min_track_score=0.4, lost_rate=0.2),
    ),
)

auto_scale_lr = dict(enable=False, base_batch_size=16)
