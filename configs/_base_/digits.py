# Schedule and runtime of the small configs: a few minutes on two CPU cores.
# A child config that changes max_epochs must also change T_max, end and dynamic_intervals.
_base_ = 'mmdet::_base_/default_runtime.py'

custom_imports = dict(imports=['mmdet_losses'], allow_failed_imports=False)
# draws keypoints, and boxes of negative size, which untrained centre detectors predict
visualizer = dict(type='KeypointVisualizer')

max_epochs = 5

train_cfg = dict(  # validates after epochs 2, 4 and 5
    type='EpochBasedTrainLoop',
    max_epochs=max_epochs,
    val_interval=2,
    dynamic_intervals=[(5, 1)],
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='CPUAutocastOptimWrapper',  # bfloat16 if the CPU supports it
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.02, foreach=True),
    clip_grad=dict(max_norm=10),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=100),
    dict(
        type='CosineAnnealingLR',
        eta_min=2e-5,
        begin=0,
        end=max_epochs,
        T_max=max_epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
custom_hooks = [dict(type='ChannelsLastHook')]
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=2))
auto_scale_lr = dict(enable=False, base_batch_size=8)
randomness = dict(seed=0)
