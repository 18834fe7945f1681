# PASCAL VOC: trains on the trainval sets of 2007 and 2012, tests on 2007. A wrapper around both
# sets holds the pipeline, so that mosaics draw from both; the config of the detector defines it.
_base_ = 'mmdet::_base_/datasets/voc0712.py'

train_dataloader = dict(
    _delete_=True,
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='MixedImageDataset',
        dataset=dict(
            type='ConcatDataset',
            ignore_keys=['dataset_type'],
            datasets=[
                dict(
                    type='VOCDataset',
                    data_root='data/VOCdevkit/',
                    ann_file=f'VOC{year}/ImageSets/Main/trainval.txt',
                    data_prefix=dict(sub_data_root=f'VOC{year}/'),
                    pipeline=[
                        dict(type='LoadImageFromFile'),
                        dict(type='LoadAnnotations', with_bbox=True),
                        dict(type='CheckAnnotations', num_classes=20),
                        # difficult objects are not learned from
                        dict(type='CrowdAnnotations', crowd='drop'),
                    ],
                )
                for year in (2007, 2012)
            ],
        ),
        pipeline=[],
    ),
)
