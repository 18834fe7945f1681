# Objects as Points on PASCAL VOC: Adam, 70 epochs, learning rate / 10 at 45 and 60.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=70, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='Adam', lr=1.25e-4),
)
param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=70, by_epoch=True, milestones=[45, 60], gamma=0.1),
]
