# COCO persons with 17 keypoints as videos of one frame: single images with simulated motion. The
# validation is that of single images.
_base_ = './coco_tracking.py'

data_root = 'data/coco/'
metainfo = dict(
    classes=('person',),
    palette=[(220, 20, 60)],
    keypoints=(
        'nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear', 'left_shoulder',
        'right_shoulder', 'left_elbow', 'right_elbow', 'left_wrist', 'right_wrist', 'left_hip',
        'right_hip', 'left_knee', 'right_knee', 'left_ankle', 'right_ankle',
    ),
    skeleton=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7),
        (6, 8), (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    sigmas=(
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107,
        0.107, 0.087, 0.087, 0.089, 0.089,
    ),
)  # fmt: skip

train_pipeline = _base_.train_pipeline
train_pipeline[1].transforms[1].type = 'LoadTrackKeypointAnnotations'
train_dataloader = dict(
    dataset=dict(
        ann_file='annotations/person_keypoints_train2017.json',
        metainfo=metainfo,
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(ann_file='annotations/person_keypoints_val2017.json', metainfo=metainfo)
)
test_dataloader = val_dataloader

val_evaluator = dict(
    _delete_=True,
    type='CocoKeypointMetric',
    ann_file=data_root + 'annotations/person_keypoints_val2017.json',
    metric=['keypoints', 'bbox'],
)
test_evaluator = val_evaluator
