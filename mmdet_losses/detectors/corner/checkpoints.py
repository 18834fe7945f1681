"""Official checkpoints of the corner family: their keys, and the networks that they fill.

The original CornerNet and CenterNet-triplet code name the trunk's parts at the top level; the
CornerNet-Lite code puts them under ``hg`` and renames a few (``kps`` to ``hgs``, ``tl_cnvs`` to
``tl_modules``, ``tl_regrs`` to ``tl_offs``). Deeper names are equal, so one table reads them all.
"""

from __future__ import annotations

from mmdet_losses.core.checkpoint import KeyMap, Layout
from mmdet_losses.networks.hourglass import TRUNK_CLAIMS, TRUNK_INNER

_STACKS = 'bbox_head.predictor.stacks'

_QUANTITIES = {'heats': 'heatmap', 'tags': 'embedding', 'regrs': 'offset', 'offs': 'offset'}
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
        # A branch is convolution, activation, convolution; theirs numbers the first two as one.
        (r'(\.(?:heatmap|embedding|offset)|\.attentions\.\d)\.1\.', r'\1.2.'),
        (r'(\.(?:heatmap|embedding|offset)|\.attentions\.\d)\.0\.conv\.', r'\1.0.'),
    ),
    class_layers=r'\.heatmap\.2\.',
)


LAYOUTS = {
    'cornernet': Layout(
        source='CornerNet, CornerNet-Lite and CenterNet triplets (.pkl)',
        networks=(
            ('(Stacked)?HourglassNet', '', 'CornerNetPredictor|CenterNetTripletPredictor'),
            ('SqueezeHourglassNet', '', 'CornerNetPredictor'),
            ('SaccadeHourglassNet', '', 'CornerNetSaccadePredictor'),
        ),
        rules=CORNERS,
    )
}
