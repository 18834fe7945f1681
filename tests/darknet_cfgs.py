"""Small darknet cfgs that use every option that the import expresses."""

from __future__ import annotations

NET = """[net]
batch={batch}
subdivisions=2
width=64
height=64
momentum=0.9
decay=0.0005
saturation=1.5
exposure=1.5
hue=.1
learning_rate=0.001
burn_in=10
max_batches=200
policy=steps
steps=100,150
scales=.1,.1
"""


def conv(filters: int, size: int = 3, stride: int = 1, activation: str = 'leaky') -> str:
    """A convolution; linear and logistic ones have no batch norm."""
    norm = '' if activation in ('linear', 'logistic') else 'batch_normalize=1\n'
    return (
        f'[convolutional]\n{norm}filters={filters}\nsize={size}\nstride={stride}\npad=1\n'
        f'activation={activation}\n'
    )


def yolo(mask: str, *options: str) -> str:
    """A [yolo] layer with two classes and three anchors."""
    common = 'anchors=8,8, 16,24, 40,30\nclasses=2\nnum=3\njitter=.3\ntruth_thresh=1'
    return f'[yolo]\nmask={mask}\n{common}\n' + ''.join(f'{each}\n' for each in options)


BODY = conv(4, 3, 2) + '[maxpool]\nsize=2\nstride=2\n' + conv(8, 3, 2)
SECOND = '[route]\nlayers=-3\n[upsample]\nstride=2\n' + conv(4) + conv(14, 1, 1, 'linear')
REDMON = (
    NET.format(batch=4)
    + BODY
    + conv(14, 1, 1, 'linear')
    + yolo('1,2', 'ignore_thresh=.7', 'random=1')
    + SECOND
    + yolo('0,1', 'ignore_thresh=.7', 'random=1')
)
"""Anchor 1 belongs to two maps."""

_OPTIONS = (
    *('scale_x_y=1.05', 'iou_thresh=0.213', 'iou_loss=ciou', 'iou_normalizer=0.07'),
    *('cls_normalizer=0.5', 'obj_normalizer=0.4', 'max_delta=5', 'nms_kind=greedynms'),
    *('beta_nms=0.6', 'resize=1.5', 'ignore_thresh=.6', 'counters_per_class=10,20'),
    *('label_smooth_eps=0.1', 'focal_loss=1', 'max=50'),
)
ALEXEYAB = (
    NET.format(batch=4)
    + 'mosaic=1\nema_alpha=0.9998\n'
    + BODY
    + '[shortcut]\nfrom=-1\nactivation=mish\n'
    + conv(14, 1, 1, 'linear')
    + yolo('1,2', *_OPTIONS)
    + SECOND.replace('layers=-3', 'layers=-3,-4\ngroups=2\ngroup_id=1')
    + yolo('0,1', *_OPTIONS)
)
SOME_COUNTERS = ALEXEYAB.replace('counters_per_class=10,20\n', '', 1)
CSP = (
    NET.format(batch=2)
    + 'letter_box=1\n'
    + BODY
    + conv(21, 1, 1, 'logistic')
    + yolo(
        '0,1,2',
        *('new_coords=1', 'scale_x_y=2.0', 'iou_loss=ciou', 'iou_normalizer=.05'),
        *('objectness_smooth=1', 'ignore_thresh=.7', 'nms_kind=diounms', 'beta_nms=0.5'),
    )
)
REGION = (
    NET.format(batch=2)
    + BODY
    + '[reorg]\nstride=2\n'
    + conv(14, 1, 1, 'linear')
    + '[region]\nanchors=1.08,1.19, 3.42,4.41\nbias_match=1\nclasses=2\ncoords=4\nnum=2\n'
    'softmax=1\njitter=.2\nrescore=1\nobject_scale=5\nnoobject_scale=1\nclass_scale=1\n'
    'coord_scale=1\nthresh=.6\nrandom=1\n'
)
DETECTION = (
    NET.format(batch=2)
    + BODY
    + '[local]\nsize=3\nstride=1\npad=1\nfilters=2\nactivation=leaky\n'
    + '[dropout]\nprobability=.5\n[connected]\noutput=108\nactivation=linear\n'
    + '[detection]\nclasses=2\ncoords=4\nrescore=1\nside=3\nnum=2\nsoftmax=0\nsqrt=1\njitter=.2\n'
    'object_scale=1\nnoobject_scale=.5\nclass_scale=1\ncoord_scale=5\n'
)
GAUSSIAN = (
    NET.format(batch=2)
    + BODY
    + conv(33, 1, 1, 'linear')
    + yolo(
        '0,1,2',
        *('iou_thresh=0.213', 'uc_normalizer=0.5', 'cls_normalizer=1.0', 'iou_normalizer=0.5'),
        *('iou_loss=giou', 'scale_x_y=1.1', 'yolo_point=left_top', 'random=1'),
    ).replace('[yolo]', '[Gaussian_yolo]')
)
CFGS = dict(redmon=REDMON, alexeyab=ALEXEYAB, csp=CSP, region=REGION, detection=DETECTION)
CFGS |= dict(gaussian=GAUSSIAN, some_counters=SOME_COUNTERS)
