# PASCAL VOC with the difficult objects, which the Caffe code of SSD learns (`train_on_diff_gt`).
_base_ = './voc_mix.py'

datasets = _base_.train_dataloader.dataset.dataset.datasets
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            datasets=[
                {**each, 'pipeline': [*each.pipeline[:-1], dict(type='CrowdsAsObjects')]}
                for each in datasets
            ]
        )
    )
)
