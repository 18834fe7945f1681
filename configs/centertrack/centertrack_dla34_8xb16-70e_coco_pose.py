# CenterTrack with keypoints, DLA-34, persons of COCO: single images with simulated motion, from the
# weights of CenterNetPose, DLA-34 3x (coco_pose_tracking of the official model zoo, a
# demonstration). No target: the official model was not evaluated.
_base_ = [
    '../_base_/models/centertrack_dla34.py',
    '../_base_/datasets/coco_pose_tracking.py',
    '../_base_/schedules/centertrack_70e.py',
    '../_base_/center_runtime.py',
]

load_from = 'checkpoints/centernet_pose_dla34_3x.pth'

whole = dict(type='MaskedWeightedL1Loss', loss_weight=1.0)
model = dict(
    bbox_head=dict(
        predictor=dict(num_classes=1, with_ltrb_amodal=False, num_keypoints=17),
        encoder=dict(
            num_classes=1,
            max_objects=32,
            min_track_score=0.3,
            pose=dict(num_keypoints=17, min_keypoint_score=0.2, snap_reach=1e9),
        ),
        criterion=dict(
            loss_keypoints=whole,
            loss_keypoint_heatmap=dict(type='CenterTrackFocalLoss', clamp=1e-4, loss_weight=1.0),
            loss_keypoint_offset=whole,
        ),
    ),
    flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    tracker=dict(new_score=0.3),
    test_cfg=dict(score_thr=0.3),
)

optim_wrapper = dict(optimizer=dict(lr=5e-4))
auto_scale_lr = dict(enable=False, base_batch_size=128)
