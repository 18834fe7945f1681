# CenterTrack, DLA-34, KITTI tracking in 2D, first halves of the training videos, from the weights
# of the 3D detector on nuScenes (README: how to get them).
# Target: MOTA 88.7 of cars on the second halves, by KITTI's own evaluation; 384 x 1280, no flip;
# source: the official model zoo, kitti_half. MOTMetric pools the three classes, so its figures are
# not KITTI's.
_base_ = [
    '../_base_/models/centertrack_dla34.py',
    '../_base_/datasets/kitti_tracking_half.py',
    '../_base_/schedules/centertrack_70e.py',
    '../_base_/center_runtime.py',
]

load_from = 'checkpoints/centernet_points_dla34_nuscenes.pth'

model = dict(
    bbox_head=dict(
        predictor=dict(num_classes=3, with_ltrb_amodal=False),
        encoder=dict(num_classes=3, max_objects=50, lost_rate=0.2),
    ),
)

auto_scale_lr = dict(enable=False, base_batch_size=16)
