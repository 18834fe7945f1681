# Objects as Points, table 2 and its scripts: Adam, 140 epochs, learning rate / 10 at 90 and 120.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=140, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='Adam', lr=5e-4),
    clip_grad=dict(max_norm=35, norm_type=2),  # MMDetection's, not the original's: guards fp16
)
param_scheduler = [
    # MMDetection's warm-up, not the original's: the first steps from ImageNet weights are rough
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', begin=0, end=140, by_epoch=True, milestones=[90, 120], gamma=0.1),
]
