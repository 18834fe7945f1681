# COCO 2017. A wrapper around the training set holds the pipeline, so that mosaics can draw from
# it; the config of the detector defines it.
_base_ = 'mmdet::_base_/datasets/coco_detection.py'

train_dataloader = dict(
    _delete_=True,
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='MixedImageDataset',
        dataset=dict(
            type='CocoDataset',
            data_root='data/coco/',
            ann_file='annotations/instances_train2017.json',
            data_prefix=dict(img='train2017/'),
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations', with_bbox=True),
                dict(type='CheckAnnotations', num_classes=80),
                # crowds are not in the official label files
                dict(type='CrowdAnnotations', crowd='drop'),
            ],
        ),
        pipeline=[],
    ),
)
