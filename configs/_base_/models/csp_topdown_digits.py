# CSPDarknet of a quarter of its width and a top-down neck, from scratch: 48 channels at
# stride 4.
model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='CSPDarknet',
        deepen_factor=0.33,
        widen_factor=0.25,
        out_indices=(1, 2, 3, 4),
        act_cfg=dict(type='ReLU'),  # half the time of Swish on a CPU
    ),
    neck=dict(type='TopDownNeck', in_channels=[32, 64, 128, 256], out_channels=48),
)
