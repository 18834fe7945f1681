# CenterTrack, DLA-34, 80 classes of COCO: single images with simulated motion, from the weights of
# CenterNetPoints, DLA-34 2x (coco_tracking of the official model zoo, a demonstration).
# No target: the official model was not evaluated.
_base_ = [
    '../_base_/models/centertrack_dla34.py',
    '../_base_/datasets/coco_tracking.py',
    '../_base_/schedules/centertrack_70e.py',
    '../_base_/center_runtime.py',
]

load_from = 'checkpoints/centernet_points_dla34_2x.pth'

num_classes = 80

model = dict(
    bbox_head=dict(
        predictor=dict(num_classes=num_classes, with_ltrb_amodal=False),
        encoder=dict(num_classes=num_classes, max_objects=128, min_track_score=0.3),
    ),
    tracker=dict(new_score=0.3),
    test_cfg=dict(score_thr=0.3),
)

optim_wrapper = dict(optimizer=dict(lr=5e-4))
auto_scale_lr = dict(enable=False, base_batch_size=128)
