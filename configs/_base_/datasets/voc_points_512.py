# PASCAL VOC 2007 + 2012 for the centre detectors, 512 x 512 pixels.
_base_ = './voc_points.py'

input_size = (512, 512)  # (w, h)
train_pipeline = [
    *_base_.train_pipeline[:4],
    dict(
        type='CenterAffine',
        size=input_size,
        mode='fix',
        scale_range=(0.6, 1.4, 0.1),
        center_border=128,
        flip_prob=0.5,
    ),
    *_base_.train_pipeline[5:],
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='CenterAffine', size=input_size, mode='fix'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=_base_.meta_keys),
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='CenterAffine', size=input_size, mode='fix')],
            _base_.flips,
            [dict(type='LoadAnnotations', with_bbox=True)],
            [dict(type='PackDetInputs', meta_keys=_base_.meta_keys)],
        ],
    ),
]

datasets = _base_.train_dataloader.dataset.datasets
train_dataloader = dict(
    dataset=dict(datasets=[{**each, 'pipeline': train_pipeline} for each in datasets])
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
