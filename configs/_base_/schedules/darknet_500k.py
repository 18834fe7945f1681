# darknet's schedule for COCO: 500,200 updates of 64 images, learning rate / 10 at 400,000 and
# 450,000, burn-in of 1,000 updates with the fourth power. The criterion divides by the images of
# the batch (`normalizer='images'`), as darknet does through its learning rate. No clipping.
_base_ = '../iteration_runtime.py'

train_cfg = dict(type='IterBasedTrainLoop', max_iters=500_200, val_interval=10_000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=1e-3, momentum=0.9, weight_decay=5e-4),
    paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0),  # darknet decays only kernels
)
param_scheduler = [
    dict(type='DarknetLR', burn_in=1000, power=4, steps=[400_000, 450_000], scales=[0.1, 0.1])
]
default_hooks = dict(checkpoint=dict(interval=10_000, max_keep_ckpts=3))
auto_scale_lr = dict(enable=False, base_batch_size=64)
