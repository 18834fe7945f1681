# ssd.pytorch's schedule for PASCAL VOC, and the runtime: 120,000 updates of 32 images, learning
# rate / 10 after 80,000 and 100,000, no warm-up, no clipping, decay on every parameter.
_base_ = '../iteration_runtime.py'

train_cfg = dict(type='IterBasedTrainLoop', max_iters=120_000, val_interval=5_000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=1e-3, momentum=0.9, weight_decay=5e-4),
)
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=False, milestones=[80_000, 100_000], gamma=0.1),
]
default_hooks = dict(checkpoint=dict(interval=5_000, max_keep_ckpts=3))
auto_scale_lr = dict(enable=False, base_batch_size=32)
