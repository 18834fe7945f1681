# ssd.pytorch's schedule for PASCAL VOC, and the runtime.
_base_ = '../default_runtime.py'

# 120,000 iterations of 32 images, learning rate / 10 at 80,000 and 100,000
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=232, val_interval=10)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=1e-3, momentum=0.9, weight_decay=5e-4),
)
param_scheduler = [
    # MMDetection's warm-up; the official code has none
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=False, milestones=[80000, 100000], gamma=0.1),
]
default_hooks = dict(checkpoint=dict(interval=10))
auto_scale_lr = dict(enable=False, base_batch_size=32)
