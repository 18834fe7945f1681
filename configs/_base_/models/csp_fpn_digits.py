# CSPDarknet of a quarter of its width up to stride 16, and a feature pyramid, from scratch: 64
# channels at strides 8 and 16. Digits are up to 64 pixels high, so a coarser map would not help.
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
        # channels in, out, blocks, with shortcuts, with pyramid pooling
        arch_ovewrite=[
            [64, 128, 3, True, False],
            [128, 256, 9, True, False],
            [256, 512, 9, True, False],
        ],
        deepen_factor=0.33,
        widen_factor=0.25,
        out_indices=(2, 3),
        act_cfg=dict(type='ReLU'),  # half the time of Swish on a CPU
    ),
    neck=dict(
        type='FPN',
        in_channels=[64, 128],
        out_channels=64,
        num_outs=2,
        norm_cfg=dict(type='BN'),
        act_cfg=dict(type='ReLU'),
    ),
)
