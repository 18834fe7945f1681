"""Official checkpoints of the corner family: rules, and the networks they fill.

The original CornerNet and CenterNet-triplet code name the trunk's parts at the top level; the
CornerNet-Lite code puts them under ``hg`` and renames a few (``kps`` to ``hgs``, ``tl_cnvs`` to
``tl_modules``, ``tl_regrs`` to ``tl_offs``). Deeper names agree, so one table reads them all.
"""

from __future__ import annotations

from torch import nn

from mmdet_losses.core.checkpoint import Family, KeyMap, assemble
from mmdet_losses.detectors.corner.predictors import (
    CenterNetTripletPredictor,
    CornerNetPredictor,
    CornerNetSaccadePredictor,
)
from mmdet_losses.networks.hourglass import (
    TRUNK_CLAIMS,
    TRUNK_INNER,
    SaccadeHourglassNet,
    hourglass,
)
from mmdet_losses.networks.squeeze_hourglass import SqueezeHourglassNet

_STACKS = 'bbox_head.predictor.stacks'

_QUANTITIES = dict(heats='heatmap', tags='embedding', regrs='offset', offs='offset')
_KEYPOINTS = dict(tl='tl', br='br', ct='center')

CORNERS = KeyMap(
    claims=(
        *TRUNK_CLAIMS,
        *(
            (rf'{point}_(?:cnvs|modules)\.(\d+)\.', rf'{_STACKS}.\1.{ours}.pool.')
            for point, ours in _KEYPOINTS.items()
        ),
        *(
            (rf'{point}_{theirs}\.(\d+)\.', rf'{_STACKS}.\1.{ours}.{quantity}.')
            for point, ours in _KEYPOINTS.items()
            for theirs, quantity in _QUANTITIES.items()
        ),
        (r'att_modules\.(\d+)\.(\d+)\.', rf'{_STACKS}.\1.attentions.\2.'),
    ),
    inner=(
        *TRUNK_INNER,
        (r'\.pool\.p([12])_conv1\.', r'.pool.branch\1.'),
        (r'\.pool\.p_conv1\.', '.pool.merge.conv.'),
        (r'\.pool\.p_bn1\.', '.pool.merge.bn.'),
        (r'\.pool\.conv1\.', '.pool.shortcut.conv.'),
        (r'\.pool\.bn1\.', '.pool.shortcut.bn.'),
        (r'\.pool\.conv2\.', '.pool.out.'),
        (r'\.pool\.look_conv([12])\.', r'.pool.look\1.'),
        (r'\.pool\.P([12])_look_conv\.', r'.pool.cascade\1.'),
        # A branch is convolution, activation, convolution: theirs counts the first two as one.
        (r'(\.(?:heatmap|embedding|offset)|\.attentions\.\d)\.1\.', r'\1.2.'),
        (r'(\.(?:heatmap|embedding|offset)|\.attentions\.\d)\.0\.conv\.', r'\1.0.'),
    ),
    class_layers=r'\.heatmap\.2\.',
)


def build_cornernet(num_classes: int = 80, num_stacks: int = 2) -> nn.Module:
    """CornerNet on Hourglass-104 (52 with one stack)."""
    return assemble(
        hourglass(num_stacks), CornerNetPredictor(256, num_classes, num_stacks=num_stacks)
    )


def build_cornernet_squeeze(num_classes: int = 80, num_stacks: int = 2) -> nn.Module:
    """CornerNet-Squeeze."""
    return assemble(
        SqueezeHourglassNet(num_stacks),
        CornerNetPredictor(256, num_classes, num_stacks=num_stacks, branch_kernel=1),
    )


def build_cornernet_saccade(num_classes: int = 80, num_stacks: int = 3) -> nn.Module:
    """CornerNet-Saccade on Hourglass-54."""
    return assemble(
        SaccadeHourglassNet(num_stacks),
        CornerNetSaccadePredictor(256, num_classes, num_stacks=num_stacks),
    )


def build_centernet_triplet(num_classes: int = 80, num_stacks: int = 2) -> nn.Module:
    """CenterNet triplets on Hourglass-104 (52 with one stack)."""
    return assemble(
        hourglass(num_stacks), CenterNetTripletPredictor(256, num_classes, num_stacks=num_stacks)
    )


FAMILIES = dict(
    cornernet=Family(CORNERS, build_cornernet),
    cornernet_lite=Family(CORNERS, build_cornernet),
    cornernet_squeeze=Family(CORNERS, build_cornernet_squeeze),
    cornernet_saccade=Family(CORNERS, build_cornernet_saccade),
    centernet_triplet=Family(CORNERS, build_centernet_triplet),
)
