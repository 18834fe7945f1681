# CornerNet, section 4: Adam, 500 000 iterations, learning rate / 10 at 450 000.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=500_000, val_interval=25_000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='Adam', lr=2.5e-4),
)
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=False, milestones=[450_000], gamma=0.1),
]
