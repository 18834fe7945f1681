"""Official checkpoints of the centre family: their keys, and the networks that they fill."""

from __future__ import annotations

from collections.abc import Iterator

from mmdet_losses.core.checkpoint import KeyMap, Layout
from mmdet_losses.networks.hourglass import TRUNK_CLAIMS, TRUNK_INNER

_PREDICTOR = 'bbox_head.predictor'

# Official name of a branch -> field of our outputs.
_POINTS = {'hm': 'heatmap', 'wh': 'size', 'reg': 'offset'}
_POSE = {
    **_POINTS,
    'hps': 'keypoints',
    'hm_hp': 'keypoint_heatmap',
    'hp_offset': 'keypoint_offset',
}
_TRACK = {**_POINTS, **{name: name for name in ('tracking', 'ltrb_amodal', 'ltrb')}}
_FIELDS = {**_POSE, **_TRACK}

# One stack: `hm.0`, `hm.2`. Hourglasses: `hm.<stack>.0.conv`, `hm.<stack>.1`.
_SINGLE = tuple(
    (rf'{theirs}\.([02])\.', rf'{_PREDICTOR}.{ours}.0.\1.') for theirs, ours in _FIELDS.items()
)
_STACKED = tuple(
    rule
    for theirs, ours in _FIELDS.items()
    for rule in (
        (rf'{theirs}\.(\d+)\.0\.conv\.', rf'{_PREDICTOR}.{ours}.\1.0.'),
        (rf'{theirs}\.(\d+)\.1\.', rf'{_PREDICTOR}.{ours}.\1.2.'),
    )
)
# The official convolutions before a norm in the neck have a bias; ours have none.
_BIASES = ((r'(neck\..*)\.conv\.bias', r'\1.bn.running_mean'),)
_CLASSES = r'\.heatmap\.\d+\.2\.'
_OFFSETS = (r'\.conv_offset_mask\.', '.conv_offset.')

RESNET = KeyMap(
    claims=(
        (r'(?=conv1\.|bn1\.|layer\d)', 'backbone.'),
        # Per up-sampling: deformable convolution, norm, ReLU, transposed convolution, norm, ReLU.
        *(
            (rf'deconv_layers\.{3 * i + kind}\.', f'neck.deconv_layers.{i}.{ours}.')
            for i in range(6)
            for kind, ours in enumerate(('conv', 'bn'))
        ),
        *_SINGLE,
    ),
    inner=(_OFFSETS,),
    folded=_BIASES,
    class_layers=_CLASSES,
)


def _dla_trunk(prefix: str) -> tuple[tuple[str, str], ...]:
    return (
        (rf'{prefix}(base|pre_img|pre_hm)_layer\.0\.', r'backbone.\1_layer.conv.'),
        (rf'{prefix}(base|pre_img|pre_hm)_layer\.1\.', r'backbone.\1_layer.bn.'),
        (rf'{prefix}level([01])\.0\.', r'backbone.levels.\1.0.conv.'),
        (rf'{prefix}level([01])\.1\.', r'backbone.levels.\1.0.bn.'),
        (rf'{prefix}level(\d)\.', r'backbone.levels.\1.'),
    )


_DLA_INNER = (
    (r'\.(tree\d)\.conv(\d)\.', r'.\1.conv\2.conv.'),
    (r'\.(tree\d)\.bn(\d)\.', r'.\1.conv\2.bn.'),
    (r'\.project\.0\.', '.project.conv.'),
    (r'\.project\.1\.', '.project.bn.'),
)
_DLA_IGNORED = (
    (r'^(base\.)?level[34]\.project\.', 'the outer projection of a deeper tree, never used'),
    (r'^(base\.)?fc\.', 'the ImageNet classifier'),
    (r'^(dep|rot|dim|amodel_offset)\.', 'the 3D branches of detectors for nuScenes'),
)

DLA = KeyMap(
    claims=(
        *_dla_trunk(r'base\.'),
        *(
            rule
            for k in (1, 2, 3)
            for theirs, ours in (('proj', 'projections'), ('node', 'nodes'), ('up', 'ups'))
            for rule in (
                (rf'dla_up\.ida_(\d)\.{theirs}_{k}\.', rf'neck.rounds.\1.{ours}.{k - 1}.'),
                (rf'ida_up\.{theirs}_{k}\.', f'neck.final.{ours}.{k - 1}.'),
            )
        ),
        *_SINGLE,
    ),
    inner=(*_DLA_INNER, (r'\.actf\.0\.', '.bn.'), _OFFSETS),
    folded=_BIASES,
    ignored=_DLA_IGNORED,
    class_layers=_CLASSES,
)

DLA_IMAGENET = KeyMap(claims=_dla_trunk(''), inner=_DLA_INNER, ignored=_DLA_IGNORED)

HOURGLASS = KeyMap(claims=(*_STACKED, *TRUNK_CLAIMS), inner=TRUNK_INNER, class_layers=_CLASSES)
EXTREMENET = KeyMap(
    claims=TRUNK_CLAIMS,
    inner=TRUNK_INNER,
    # `t_heats`, `t_regrs` in ExtremeNet's file, `hm_t`, `reg_t` in the one that CenterNet writes
    ignored=((r'^([tlbr]|ct)_(heats|regrs)\.|^(hm|reg)_[tlbrc]\.', 'the branches of ExtremeNet'),),
)


def _mobilenet_rules() -> Iterator[tuple[str, str]]:
    """Rules from torchvision's numbers of blocks and layers to MMDetection's names."""
    yield r'features\.0\.0\.', 'backbone.conv1.conv.'
    yield r'features\.0\.1\.', 'backbone.conv1.bn.'
    number = 0
    for stage, blocks in enumerate((1, 2, 3, 4, 3, 3, 1), start=1):
        parts = ('depthwise_conv', 'linear_conv')
        parts = parts if stage == 1 else ('expand_conv', *parts)
        for block in range(blocks):
            number += 1
            for place, part in enumerate(parts):
                ours = f'backbone.layer{stage}.{block}.{part}'
                yield rf'features\.{number}\.conv\.{3 * place}\.', f'{ours}.conv.'
                yield rf'features\.{number}\.conv\.{3 * place + 1}\.', f'{ours}.bn.'
    yield r'features\.18\.0\.', 'backbone.conv2.conv.'
    yield r'features\.18\.1\.', 'backbone.conv2.bn.'


MOBILENET = KeyMap(
    claims=tuple(_mobilenet_rules()),
    ignored=((r'^classifier\.', 'the classifier of ImageNet'),),
)

_HEADS = 'CenterNetPointsPredictor|CenterNetPosePredictor|CenterTrackPredictor'
_CODE = 'CenterNet (objects as points, pose) and CenterTrack'

LAYOUTS = {
    'centernet_resdcn': Layout(
        source=f'{_CODE} on ResNet (.pth)',
        networks=(('ResNet', 'CTResNetNeck', _HEADS),),
        rules=RESNET,
    ),
    'centernet_dla': Layout(
        source=f'{_CODE} on DLA-34 (.pth)',
        networks=(('DLANet', 'DLAUpNeck', _HEADS),),
        rules=DLA,
        only=lambda model: model.neck.get('conv', 'dcn') == 'dcn',
    ),
    'centernet_hourglass': Layout(
        source=f'{_CODE} on hourglasses (.pth)',
        networks=(('(Stacked)?HourglassNet', '', _HEADS),),
        rules=HOURGLASS,
    ),
    'extremenet_hourglass': Layout(
        source='the hourglasses of ExtremeNet (ExtremeNet_250000.pkl), to start a training',
        networks=(('HourglassNet', '', _HEADS),),
        rules=EXTREMENET,
        prefix='backbone.',
    ),
    'dla34_imagenet': Layout(
        source='ImageNet weights of DLA-34 (dla34-ba72cf86.pth)',
        networks=(('DLANet', '.*', '.*'),),
        rules=DLA_IMAGENET,
        prefix='backbone.',
    ),
    'mobilenetv2_imagenet': Layout(
        source='ImageNet weights of MobileNetV2 in the names of torchvision (.pth)',
        networks=(('MobileNetV2', '.*', '.*'),),
        rules=MOBILENET,
        prefix='backbone.',
    ),
}
