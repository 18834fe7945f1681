# darknet's schedule for COCO: 64 images an iteration, 500,200 iterations (273 epochs), learning
# rate / 10 at 400,000 and 450,000. The criterion divides by the images of the batch
# (`normalizer='images'`), as darknet does through its learning rate.
# darknet raises the rate with the fourth power of the iteration; here it rises linearly over as
# many iterations. Gradients are clipped as in MMDetection's YOLOv3; darknet does not.
_base_ = '../default_runtime.py'

max_epochs = 273

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=7)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=1e-3, momentum=0.9, weight_decay=5e-4),
    paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0),  # darknet decays kernels alone
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', by_epoch=False, milestones=[400000, 450000], gamma=0.1),
]
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=7))
auto_scale_lr = dict(enable=False, base_batch_size=64)
