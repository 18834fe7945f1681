# The schedule of Scaled-YOLOv4's PyTorch code: updates of 64 images, SGD with Nesterov momentum,
# cosine to a fifth over 300 epochs, warm-up over 3 epochs, an average of weights and statistics.
# The README of configs/scaled_yolov4 lists what equals the official training.
_base_ = '../default_runtime.py'

max_epochs = 300

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=10)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='NominalBatchOptimWrapper',
    constructor='KernelDecayOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.937, weight_decay=5e-4, nesterov=True),
)
param_scheduler = None  # the hook below sets rates, momentum, decay and accumulation
custom_hooks = [
    dict(
        type='ScaledYOLOV4ScheduleHook',
        nominal_batch_size=64,
        final_fraction=0.2,
        warmup_epochs=3,
        warmup_min_iters=1000,
        warmup_bias_lr=0.1,
        warmup_momentum=0.9,
    ),
    dict(
        type='UpdateEMAHook',
        ema_type='ScaledYOLOV4EMA',
        momentum=1e-4,
        gamma=2000,
        update_buffers=True,
        priority=49,
    ),
]
sync_bn = 'torch'  # as in the official commands
# every second epoch: the second stages of P5 to P7 resume at epoch 298
default_hooks = dict(checkpoint=dict(interval=2, max_keep_ckpts=3))
# The accumulation adapts to the number of images; the learning rate is not scaled.
auto_scale_lr = dict(enable=False, base_batch_size=64)
