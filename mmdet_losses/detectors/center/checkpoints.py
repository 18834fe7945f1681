"""Official checkpoints of the centre family: rules, and the networks they fill."""

from __future__ import annotations

from collections.abc import Iterator

from mmdet.models.backbones.mobilenet_v2 import MobileNetV2
from mmdet.models.backbones.resnet import ResNet
from mmdet.models.necks.ct_resnet_neck import CTResNetNeck
from torch import nn

from mmdet_losses.core.checkpoint import Family, KeyMap, assemble
from mmdet_losses.detectors.center.predictors import (
    CenterNetPointsPredictor,
    CenterNetPosePredictor,
    CenterTrackPredictor,
)
from mmdet_losses.networks.dla import DLANet
from mmdet_losses.networks.dla_up import DLAUpNeck
from mmdet_losses.networks.hourglass import TRUNK_CLAIMS, TRUNK_INNER, hourglass

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
# Their convolutions before a norm in the neck have a bias, ours have none.
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


def build_points_resdcn(num_classes: int = 80, depth: int = 18) -> nn.Module:
    """CenterNet on a ResNet with deformable up-sampling."""
    trunk = ResNet(depth, out_indices=(3,))
    return assemble(
        trunk,
        CenterNetPointsPredictor(64, num_classes, channels=64),
        CTResNetNeck(trunk.feat_dim, (256, 128, 64), (4, 4, 4)),
    )


def build_points_dla(num_classes: int = 80) -> nn.Module:
    """CenterNet on DLA-34."""
    return assemble(DLANet(), CenterNetPointsPredictor(64, num_classes, channels=256), DLAUpNeck())


def build_dla_trunk() -> nn.Module:
    """DLA-34 alone, for ``init_cfg`` of a backbone."""
    return nn.ModuleDict(dict(backbone=DLANet()))


def build_points_hourglass(num_classes: int = 80, num_stacks: int = 2) -> nn.Module:
    """CenterNet on Hourglass-104."""
    return assemble(
        hourglass(num_stacks),
        CenterNetPointsPredictor(256, num_classes, channels=256, num_stacks=num_stacks),
    )


def build_pose_dla(num_classes: int = 1, num_keypoints: int = 17) -> nn.Module:
    """Multi-person pose on DLA-34."""
    return assemble(DLANet(), CenterNetPosePredictor(64, num_classes, num_keypoints), DLAUpNeck())


def build_pose_hourglass(
    num_classes: int = 1, num_keypoints: int = 17, num_stacks: int = 2
) -> nn.Module:
    """Multi-person pose on Hourglass-104."""
    predictor = CenterNetPosePredictor(256, num_classes, num_keypoints, num_stacks=num_stacks)
    return assemble(hourglass(num_stacks), predictor)


def build_track_dla(
    num_classes: int = 80, ltrb_amodal: bool = False, ltrb: bool = False
) -> nn.Module:
    """CenterTrack on DLA-34; the MOT models have the branch ``ltrb_amodal``."""
    return assemble(
        DLANet(previous_image=True, previous_heatmap=True),
        CenterTrackPredictor(64, num_classes, with_ltrb_amodal=ltrb_amodal, with_ltrb=ltrb),
        DLAUpNeck(),
    )


def build_mobilenet_trunk() -> nn.Module:
    """MMDetection's MobileNetV2 alone, for ``init_cfg`` with the prefix ``backbone.``."""
    return nn.ModuleDict(dict(backbone=MobileNetV2(out_indices=(1, 2, 4, 7))))


def _mobilenet_rules() -> Iterator[tuple[str, str]]:
    """torchvision numbers blocks and the layers in them; MMDetection names both."""
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

FAMILIES = {
    'centernet_points_resdcn': Family(RESNET, build_points_resdcn),
    'centernet_points_dla': Family(DLA, build_points_dla),
    'centernet_points_hourglass': Family(HOURGLASS, build_points_hourglass),
    'centernet_pose_dla': Family(DLA, build_pose_dla),
    'centernet_pose_hourglass': Family(HOURGLASS, build_pose_hourglass),
    'centertrack_dla': Family(DLA, build_track_dla),
    'dla34_imagenet': Family(DLA_IMAGENET, build_dla_trunk),
    'mobilenetv2_imagenet': Family(MOBILENET, build_mobilenet_trunk),
}
