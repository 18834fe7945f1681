"""The options of the official codes, and the arguments here that correspond to them.

``python docs/options.py`` prints the table of every detector and the number of options with and
without an argument. The pages of the detectors contain these tables.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'docs')]

from places import small_config

from mmdet_losses import ops
from mmdet_losses.metrics import oracle
from mmdet_losses.registry import DATASETS, MODELS, TASK_UTILS, TRANSFORMS
from tools.datasets.small_configs import small_configs

# One option per line: its name (its code) = Component.argument, or = no: the reason.
# {encoder} and {criterion} are those of the detector.
EVERY = """
gt_bboxes_ignore (MMDetection) = {encoder}.encode.ignored
iscrowd, difficult, ignore of an annotation file = CrowdAnnotations.crowd
class_weight (MMDetection) = {criterion}.class_weight
weights of objects in an annotation file = WeightedCocoDataset.weight_key
"""
ANCHORS = """
ignore_iof_thr (MMDetection) = {encoder}.ignore_iof_thr
"""
HEATMAPS = """
hm_weight (Zhou), alpha and beta (CornerNet) = PenaltyReducedFocalLoss.loss_weight
"""
CENTERS = """
reg_loss sl1 (Zhou) = {criterion}.loss_size
an IoU loss of the decoded box (MMDetection) = {criterion}.loss_size
wh_weight (Zhou) = MaskedL1Loss.loss_weight
off_weight (Zhou) = {criterion}.loss_offset
K (Zhou) = {encoder}.topk
eval_oracle_hm, eval_oracle_wh, eval_oracle_offset (Zhou) = OneIdealBranch.branch
"""
AFFINE = """
shift of not_rand_crop (Zhou) = CenterAffine.center_jitter
scale of not_rand_crop (Zhou) = CenterAffine.scale_jitter
"""
DARKNET = (
    ANCHORS
    + """
a class of a label file that the cfg lacks (AlexeyAB) = CheckAnnotations.wrong_labels
"""
)
POINTS = """
mse_loss (Zhou) = HeatmapMSELoss.activated
cat_spec_wh, dense_wh (Zhou) = CenterNetPointsTargetEncoder.size_target
norm_wh (Zhou) = no: it has no effect in the official code, which calls the plain term
hm_gauss of mse_loss (Zhou) = CenterNetPointsTargetEncoder.sigma
gaussian radius at an IoU of 0.3 (MMDetection) = CenterNetPointsTargetEncoder.convention
"""
CORNERS = """
gaussian_bump, gaussian_iou, gaussian_radius (CornerNet-Lite) = {encoder}.radius
ae_threshold (CornerNet) = {encoder}.ae_threshold
nms_kernel (CornerNet) = {encoder}.peak_kernel
top_k (CornerNet) = {encoder}.topk
num_dets (CornerNet) = {encoder}.num_dets
no_border (CornerNet-Lite) = {encoder}.no_border
pull_weight, push_weight (CornerNet) = {criterion}.loss_embedding
off_weight (CornerNet) = {criterion}.loss_offset
nms_algorithm, weight_exp, merge_bbox (CornerNet) = EncodedDenseHead.test_cfg
"""
IOU = """
iou_loss mode (MMDetection, darknet) = BoxIoULoss.mode
EIoULoss, SIoULoss (MMDetection) = BoxIoULoss.mode
alpha (alpha-IoU) = BoxIoULoss.exponent
mode linear, square, log of IoULoss (MMDetection) = BoxIoULoss.scaling
ratio of Inner-IoU, weight of Wise-IoU = no: preprints without a table of these detectors
"""
PAGES = {
    'ssd': ANCHORS
    + IOU
    + """
overlap_threshold (Caffe) = SSDTargetEncoder.positive_iou
neg_overlap (Caffe) = SSDTargetEncoder.negative_iou
match_type (Caffe) = SSDTargetEncoder.matching
use_difficult_gt (Caffe), keep_difficult (ssd.pytorch) = CrowdAnnotations.crowd
neg_pos_ratio (Caffe) = HardNegativeCrossEntropyLoss.ratio
mining_type HARD_EXAMPLE (Caffe) = no: no published model uses it
conf_loss_type (Caffe), use_sigmoid (MMDetection) = SSDTargetEncoder.use_sigmoid
channel of the background (Caffe) = SSDPredictor.background
loc_loss_type, loc_weight (Caffe), reg_decoded_bbox (MMDetection) = SSDLoss.loss_box
smoothl1_beta (MMDetection) = MaskedSmoothL1Loss.beta
normalization (Caffe) = SSDLoss.normalizer
share_location false (Caffe) = no: boxes per class need other outputs; no published model uses them
use_prior_for_matching false (Caffe) = no: matching by predicted boxes; no published model uses it
ignore_cross_boundary_bbox (Caffe) = SSDTargetEncoder.ignore_cross_boundary
code_type CORNER (Caffe) = no: no published model uses it
min_size (Caffe) = SSDTargetEncoder.min_sizes
max_size (Caffe) = SSDTargetEncoder.max_sizes
aspect_ratio (Caffe) = SSDTargetEncoder.aspect_ratios
flip (Caffe) = SSDTargetEncoder.flip
clip (Caffe, ssd.pytorch) = SSDTargetEncoder.clip
variance (Caffe) = SSDTargetEncoder.variances
step (Caffe) = SSDTargetEncoder.strides
offset (Caffe) = SSDTargetEncoder.offset
confidence_threshold (Caffe) = SSDTargetEncoder.score_thr
top_k of nms_param (Caffe) = SSDTargetEncoder.topk
keep_top_k (Caffe), nms_threshold = EncodedDenseHead.test_cfg
eta of nms_param (Caffe) = adaptive_nms.eta
""",
    'retinanet': ANCHORS
    + IOU
    + """
POSITIVE_OVERLAP (Detectron), pos_iou_thr (MMDetection) = RetinaNetTargetEncoder.positive_iou
NEGATIVE_OVERLAP (Detectron), neg_iou_thr (MMDetection) = RetinaNetTargetEncoder.negative_iou
min_pos_iou (MMDetection) = RetinaNetTargetEncoder.min_pos_iou
match_low_quality (MMDetection) = RetinaNetTargetEncoder.match_low_quality
gt_max_assign_all (MMDetection) = RetinaNetTargetEncoder.gt_max_assign_all
reset of forced anchors below NEGATIVE_OVERLAP (Detectron) = RetinaNetTargetEncoder.convention
divisor retnet_fg_num (Detectron) = RetinaNetLoss.normalizer
target_stds (MMDetection), BBOX_REG_WEIGHTS (Detectron) = RetinaNetTargetEncoder.target_stds
center_offset (MMDetection) = RetinaNetTargetEncoder.center_offset
octave_base_scale, ANCHOR_SCALE = RetinaNetTargetEncoder.octave_base_scale
scales_per_octave = RetinaNetTargetEncoder.scales_per_octave
ratios, ASPECT_RATIOS = RetinaNetTargetEncoder.ratios
allowed_border (MMDetection) = no: encoders get the padded size; official configs allow all
SOFTMAX (Detectron) = no: no published model uses it
CLASS_SPECIFIC_BBOX (Detectron) = no: no published model uses it
LOSS_ALPHA (Detectron) = SigmoidFocalLoss.alpha
LOSS_GAMMA (Detectron) = SigmoidFocalLoss.gamma
BBOX_REG_BETA (Detectron) = MaskedSmoothL1Loss.beta
reg_decoded_bbox (MMDetection) = RetinaNetLoss.loss_box
PRIOR_PROB (Detectron) = RetinaNetPredictor.prior
PRE_NMS_TOP_N (Detectron), nms_pre (MMDetection) = RetinaNetTargetEncoder.topk
INFERENCE_TH (Detectron), score_thr (MMDetection) = RetinaNetTargetEncoder.score_thr
""",
    'centernet_points': HEATMAPS + CENTERS + AFFINE + POINTS + IOU,
    'centernet_pose': HEATMAPS
    + CENTERS
    + AFFINE
    + """
hp_weight (Zhou) = CenterNetPoseLoss.loss_keypoints
hm_hp_weight (Zhou) = CenterNetPoseLoss.loss_keypoint_heatmap
dense_hp (Zhou) = CenterNetPoseTargetEncoder.keypoint_target
""",
    'centertrack': HEATMAPS
    + CENTERS
    + """
ltrb_amodal, ltrb (CenterTrack) = CenterTrackLoss.loss_ltrb_amodal
tracking_weight (CenterTrack) = CenterTrackLoss.loss_tracking
ignore regions (CenterTrack) = CenterTrackTargetEncoder.ignore_regions
hm_disturb (CenterTrack) = CenterTrackTargetEncoder.center_noise
lost_disturb (CenterTrack) = CenterTrackTargetEncoder.lost_rate
fp_disturb (CenterTrack) = CenterTrackTargetEncoder.false_rate
pre_thresh (CenterTrack) = CenterTrackTargetEncoder.min_track_score
pre_img (CenterTrack) = CenterTrack.previous_image
pre_hm (CenterTrack) = CenterTrack.previous_heatmap
flip_test (CenterTrack) = CenterTrack.flip_test
public_det (CenterTrack) = LoadPublicDetections.score
same_aug_pre (CenterTrack) = PairAffine.same_map
hps, hm_hp, hp_offset of tracking,multi_pose (CenterTrack) = CenterTrackTargetEncoder.pose
""",
    'cornernet': HEATMAPS + CORNERS,
    'cornernet_squeeze': HEATMAPS + CORNERS,
    'centernet_triplet': HEATMAPS + CORNERS,
    'cornernet_saccade': HEATMAPS
    + CORNERS
    + """
att_ratios (CornerNet-Lite) = CornerNetSaccadeTargetEncoder.attention_strides
att_ranges (CornerNet-Lite) = CornerNetSaccadeTargetEncoder.attention_ranges
min_scale (CornerNet-Lite) = CornerNetSaccadeTargetEncoder.min_side
att_thresholds (CornerNet-Lite) = CornerNetSaccade.attention_threshold
att_nms_ks (CornerNet-Lite) = CornerNetSaccade.attention_kernels
att_scales (CornerNet-Lite) = CornerNetSaccade.zooms
""",
    'yolov1': DARKNET
    + """
coord_scale (darknet) = YOLOV1Loss.coord_scale
object_scale (darknet) = YOLOV1Loss.object_scale
noobject_scale (darknet) = YOLOV1Loss.no_object_scale
class_scale (darknet) = YOLOV1Loss.class_scale
rescore (darknet) = YOLOV1Loss.rescore
sqrt (darknet) = YOLOV1Loss.square_root
softmax (darknet) = YOLOV1Loss.softmax
forced (darknet) = YOLOV1Loss.forced
random (darknet) = YOLOV1Loss.random
""",
    'yolov2': DARKNET
    + """
thresh (darknet) = YOLOV2Loss.ignore_threshold
rescore (darknet) = YOLOV2Loss.rescore
bias_match (darknet) = YOLOV2Loss.match_shape
softmax (darknet) = YOLOV2Loss.softmax
background (darknet) = YOLOV2Loss.background
coord_scale (darknet) = YOLOV2Loss.coord_scale
object_scale (darknet) = YOLOV2Loss.object_scale
noobject_scale (darknet) = YOLOV2Loss.no_object_scale
class_scale (darknet) = YOLOV2Loss.class_scale
map (darknet) = YOLOV2TargetEncoder.class_map
tree (darknet, YOLO9000) = YOLOV2Loss.tree
hier_thresh (darknet, YOLO9000) = YOLOV2TargetEncoder.tree_threshold
""",
    **dict.fromkeys(
        ('yolov3', 'yolov4'),
        DARKNET
        + """
ignore_thresh (darknet) = {criterion}.ignore_threshold
truth_thresh (darknet) = {criterion}.truth_threshold
iou_thresh (AlexeyAB) = {encoder}.iou_threshold
iou_loss (AlexeyAB) = {criterion}.box
iou_normalizer (AlexeyAB) = {criterion}.iou_normalizer
obj_normalizer (AlexeyAB) = {criterion}.obj_normalizer
cls_normalizer (AlexeyAB) = {criterion}.cls_normalizer
max_delta (AlexeyAB) = {criterion}.max_delta
label_smooth_eps (AlexeyAB) = {criterion}.label_smoothing
objectness_smooth (AlexeyAB) = {criterion}.objectness_smooth
focal_loss (AlexeyAB) = {criterion}.focal
counters_per_class (AlexeyAB) = {criterion}.class_counters
counters_per_class in some of the layers (AlexeyAB) = {criterion}.counted
scale_x_y (AlexeyAB) = {encoder}.scale_xy
new_coords (AlexeyAB) = {encoder}.squared
map (darknet) = {encoder}.class_map
max (darknet) = {encoder}.max_objects
nms_kind, beta_nms (AlexeyAB) = greedy_nms.kind
layer [Gaussian_yolo] (AlexeyAB) = GaussianYOLOLoss.box
uc_normalizer of [Gaussian_yolo] (AlexeyAB) = GaussianYOLOLoss.uc_normalizer
yolo_point of [Gaussian_yolo] (AlexeyAB) = GaussianYOLOTargetEncoder.point
""",
    ),
    'scaled_yolov4': ANCHORS
    + IOU
    + """
anchor_t (WongKinYiu) = ScaledYOLOV4TargetEncoder.anchor_threshold
giou (WongKinYiu) = ScaledYOLOV4Loss.box_gain
obj (WongKinYiu) = ScaledYOLOV4Loss.obj_gain
cls (WongKinYiu) = ScaledYOLOV4Loss.cls_gain
obj_pw (WongKinYiu) = ScaledYOLOV4Loss.obj_pos_weight
cls_pw (WongKinYiu) = ScaledYOLOV4Loss.cls_pos_weight
fl_gamma (WongKinYiu) = ScaledYOLOV4Loss.gamma
gr (WongKinYiu) = ScaledYOLOV4Loss.iou_ratio
loss of the box (MMDetection) = ScaledYOLOV4Loss.loss_box
""",
}


class Option(NamedTuple):
    """One row of a table."""

    official: str
    argument: str | None
    """``Component.argument``, or None."""
    default: str
    """Default of the argument, or the reason why there is none."""


def options(folder: str) -> list[Option]:
    """Rows of the page of a detector, by the folder of its configs."""
    head = small_config(folder).model.bbox_head
    rows = []
    for line in (EVERY + PAGES[folder]).strip().splitlines():
        official, _, ours = line.partition(' = ')
        if not line.strip():
            continue
        if ours.startswith('no: '):
            rows.append(Option(official, None, ours[4:]))
            continue
        argument = ours.format(encoder=head.encoder.type, criterion=head.criterion.type)
        rows.append(Option(official, argument, default(argument)))
    return rows


def default(argument: str) -> str:
    """Default of ``Component.argument`` or ``Component.method.argument``, from the signature.

    Raises:
        LookupError: there is no such component or argument.
    """
    owner, *method, name = argument.split('.')
    found = [r.get(owner) for r in (MODELS, TASK_UTILS, TRANSFORMS, DATASETS)]
    found += [getattr(module, owner, None) for module in (ops, oracle)]
    item = next((each for each in found if each), None)
    if item is None:
        raise LookupError(f'{owner} of the option table does not exist; correct docs/options.py.')
    classes = item.__mro__ if inspect.isclass(item) else [item]
    for each in classes:
        function = getattr(each, *(method or ['__init__'])) if inspect.isclass(each) else each
        parameter = inspect.signature(function).parameters.get(name)
        if parameter is not None:
            given = parameter.default
            return 'required' if given is parameter.empty else f'`{given!r}`'
    raise LookupError(f'{owner} has no argument {name}; correct docs/options.py.')


def table(folder: str) -> str:
    """The table of a page, as Markdown."""
    rows = [
        f'| {each.official} | {"no" if each.argument is None else f"`{each.argument}`"} '
        f'| {each.default} |'
        for each in options(folder)
    ]
    return '\n'.join(
        ['| official option | our argument | default, or why not |', '|---|---|---|', *rows]
    )


def report() -> Iterator[str]:
    """The number of options with and without an argument, then all tables."""
    folders = list(small_configs())
    rows = [row for folder in folders for row in options(folder)]
    known = sum(row.argument is not None for row in rows)
    yield f'{known} options have an argument (yes), {len(rows) - known} have none (no).\n'
    for folder in folders:
        yield f'## {folder}\n\n{table(folder)}\n'


if __name__ == '__main__':
    print('\n'.join(report()))
