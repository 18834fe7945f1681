# Objects as Points, table 2 and its scripts: Adam, 140 epochs, learning rate / 10 at 90 and 120.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=140, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='Adam', lr=5e-4),
)
param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=140, by_epoch=True, milestones=[90, 120], gamma=0.1),
]
