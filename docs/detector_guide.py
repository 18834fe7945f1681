"""The index of the detectors as cards, and the page that helps to choose one.

Published results come from the comments of the recipes, measured results from docs/zoo.json and
docs/comparison. Only the advice is written here.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.datasets.small_configs import small_configs


class Choice(NamedTuple):
    """Advice about one detector."""

    recipe: str
    """Name of the config whose published result is quoted."""
    use: str
    """Completes "Choose this if ..."."""
    instead: str
    """When another detector is better."""


CHOICES = {
    'centernet_points': Choice(
        'centernet_points_dla34_8xb16-230e_coco',
        'you want a small head without anchors and without NMS that is easy to extend',
        'two objects of one class often share a cell: an anchor detector keeps both',
    ),
    'centernet_pose': Choice(
        'centernet_pose_hg104_8xb3-150e_coco',
        'you need the keypoints of objects, not only their boxes',
        'boxes are enough: CenterNetPoints',
    ),
    'centertrack': Choice(
        'centertrack_dla34_2xb16-70e_mot17-half',
        'you need identities in a video, from one network',
        'the images are unrelated: CenterNetPoints',
    ),
    'centernet_triplet': Choice(
        'centernet_triplet_hg104_8xb6-480k_coco',
        'you want the highest AP of the corner detectors and can pay for Hourglass-104',
        'time matters: CornerNet-Squeeze',
    ),
    'cornernet': Choice(
        'cornernet_hg104_8xb6-500k_coco',
        'you compare with the paper, or your method works on corners and embeddings',
        'you want AP: CenterNetTriplet adds a centre to the pairs',
    ),
    'cornernet_squeeze': Choice(
        'cornernet_squeeze_8xb7-500k_coco',
        'you want corners at low cost: fire modules and maps of stride 8',
        'objects are small: stride 8 places corners less exactly than CornerNet',
    ),
    'cornernet_saccade': Choice(
        'cornernet_saccade_8xb6-500k_coco',
        'images are large and objects are few: only crops are processed at full size',
        'objects fill the image: the crops then cover all of it',
    ),
    'ssd': Choice(
        'ssd300_vgg16_8xb8-120e_coco',
        'you want a well-known, fast baseline with priors at six or seven scales',
        'objects are small: YOLOv3 and RetinaNet merge coarse and fine maps',
    ),
    'retinanet': Choice(
        'retinanet_r50_fpn_8xb2-24e_coco',
        'you compare losses or heads with MMDetection on its standard network',
        'a CPU or a small GPU must run it: SSD or YOLOv4-tiny',
    ),
    'yolov1': Choice(
        'yolov1_extraction_8xb8-155e_voc0712',
        'you teach or study the first one-stage detector: one map, no anchors',
        'objects are small or close together: a cell holds one object',
    ),
    'yolov2': Choice(
        'yolov2_d19_8xb8-ms-544-310e_voc0712',
        'you have a darknet model of this kind, or want anchors on a single map',
        'objects differ much in size: YOLOv3 has three maps',
    ),
    'yolov3': Choice(
        'yolov3_d53_8xb8-ms-608-273e_coco',
        'you have a darknet model of this kind, or want the plain form of a YOLO head',
        'you start from nothing: YOLOv4 has the higher AP at the same size',
    ),
    'yolov4': Choice(
        'yolov4_csp53_8xb8-ms-608-273e_coco',
        'you fine-tune official weights on few images (YOLOv4-tiny), or deploy to darknet',
        'AP matters more than size and time: Scaled-YOLOv4',
    ),
    'scaled_yolov4': Choice(
        'scaled_yolov4_p7_8xb8-300e-1536_coco',
        'you want the highest AP here, and inputs of 640 to 1536 pixels',
        'images are few or the machine is small: YOLOv4-tiny',
    ),
}
"""Folder of ``configs/`` -> advice."""
PAIRS = {
    'ssd': ('digits', 'ssd_digits', 'mmdet_ssd_digits'),
    'retinanet': ('digits', 'retinanet_digits', 'mmdet_retinanet_digits'),
    'yolov3': ('digits', 'yolov3_digits', 'mmdet_yolov3_digits'),
    'centernet_points': ('digits', 'centernet_points_digits', 'mmdet_centernet_digits'),
    'cornernet': ('cornernet', 'cornernet_wide_digits', 'mmdet_cornernet_digits'),
}
"""Folder -> report in docs/comparison, our config and MMDetection's in it."""
NEEDS = (
    ('a first detector for your own 100 to 1,000 images', 'yolov4', '`configs/own`, from weights'),
    ('the highest AP on COCO', 'scaled_yolov4', ''),
    ('identities in videos', 'centertrack', ''),
    ('keypoints', 'centernet_pose', ''),
    ('a simple head to extend, no anchors', 'centernet_points', ''),
    ('a comparison with MMDetection on a standard network', 'retinanet', ''),
    ('a small, well-known baseline', 'ssd', ''),
    ('to read or fine-tune a model of darknet', 'yolov3', 'also YOLOv2 and YOLOv4'),
    ('exact corners, highest AP with an hourglass', 'centernet_triplet', ''),
    ('the corner detector of the paper', 'cornernet', ''),
    ('corners at low cost', 'cornernet_squeeze', ''),
    ('few objects in large images', 'cornernet_saccade', ''),
    ('anchors on a single map', 'yolov2', ''),
    ('to teach how one-stage detection began', 'yolov1', ''),
)
"""Rows of the decision table: need, folder, note."""
INDEX = (
    'The images show the targets of each encoder: heatmaps, corner pairs (orange), positive '
    'anchors or cells (blue) and ground truth (green). *Published* is the AP of the paper or of '
    'the official code, *small config* the AP of the config that trains on a CPU. '
    '[Which detector](../which_detector.md) has them in one table. Each page has the recipes, '
    'what equals the official code, what differs and why, how to convert official weights, '
    'measured results, and the target encoder.'
)


def name_of(folder: str) -> str:
    """Title of the README of a detector."""
    head = (ROOT / 'configs' / folder / 'README.md').read_text('utf-8').partition('\n')[0]
    return head.lstrip('# ')


def published(folder: str) -> str:
    """The published result in the comment of the quoted recipe.

    Raises:
        ValueError: the recipe has no target.
    """
    path = ROOT / 'configs' / folder / f'{CHOICES[folder].recipe}.py'
    comment = re.match(r'(?:#.*\n)+', path.read_text('utf-8'))
    words = ' '.join(comment[0].replace('#', ' ').split()) if comment else ''
    found = re.search(r'(?<!No )Target: (.+)', words)
    if found is None:
        raise ValueError(f'{path.name} has no line "# Target: ..."; quote another recipe.')
    plain = re.sub(r'\s*\([^()]*(?:--tta|README|abstract|quoted)[^()]*\)', '', found[1])
    return re.split(r'[;.](?: |$)', plain)[0]


@cache
def zoo() -> dict[str, dict[str, Any]]:
    """Measured results of the small configs."""
    return json.loads((ROOT / 'docs/zoo.json').read_text('utf-8'))


def measured(folder: str) -> dict[str, Any]:
    """Measured results of the small config of a detector."""
    path = small_configs()[folder]
    return zoo()[path.stem]


def small_result(folder: str) -> str:
    """The result of the small config, with the name of its metric."""
    values = measured(folder)
    if 'mot/mota' in values:
        return f'MOTA {values["mot/mota"]:.3f}, IDF1 {values["mot/idf1"]:.3f}'
    keypoints = values.get('coco/keypoints_mAP')
    more = '' if keypoints is None else f', OKS AP {keypoints:.3f}'
    return f'AP {values["coco/bbox_mAP"]:.3f}{more}'


def step_times(folder: str) -> tuple[float, float] | None:
    """Milliseconds of a training step, ours and MMDetection's, with equal networks."""
    if folder not in PAIRS:
        return None
    report, *names = PAIRS[folder]
    content = json.loads((ROOT / f'docs/comparison/{report}/report.json').read_text('utf-8'))
    ours, theirs = (statistics.median(content[name]['step_times']) for name in names)
    return ours, theirs


def speed(folder: str) -> str:
    """Measured speed of the small config, in words."""
    words = f'trains in {measured(folder)["minutes"]:.1f} minutes on two CPU cores'
    if times := step_times(folder):
        words += f"; a step takes {times[0] / times[1]:.2f} of MMDetection's time"
    return words


def card(folder: str) -> str:
    """The card of one detector."""
    choice = CHOICES[folder]
    recipe, small = f'{choice.recipe}.py', Path(measured(folder)['config']).name
    configs = f'../../configs/{folder}'
    return '\n\n'.join(
        (
            '<div class="card" markdown>',
            f'[![Targets of {name_of(folder)}](images/{folder}.jpg)]({folder}.md)',
            f'**[{name_of(folder)}]({folder}.md)**',
            f'Choose this if {choice.use}.',
            f'- Published: {published(folder)} ([config]({configs}/{recipe}))\n'
            f'- Small config: {small_result(folder)} ([config]({configs}/{small}))\n'
            f'- Speed: {speed(folder)}',
            '</div>',
        )
    )


def detector_index() -> str:
    """The page with a card for each detector."""
    cards = '\n\n'.join(card(folder) for folder in CHOICES)
    return f'# Detectors\n\n{INDEX}\n\n<div class="cards" markdown>\n\n{cards}\n\n</div>\n'


def decision_table() -> str:
    """Need -> detector, published result, when another detector is better."""
    rows = ['| you need | choose | published | choose another if |', '|---|---|---|---|']
    for need, folder, note in NEEDS:
        extra = f' ({note})' if note else ''
        rows.append(
            f'| {need} | [{name_of(folder)}](detectors/{folder}.md){extra} '
            f'| {published(folder)} | {CHOICES[folder].instead} |'
        )
    return '\n'.join(rows)


def measured_table() -> str:
    """The small configs: result, minutes and memory of the training, time of a step."""
    rows = [
        '| detector | small config | result | minutes | memory, MiB | step, ms | MMDetection, ms |',
        '|---|---|---|---|---|---|---|',
    ]
    for folder in CHOICES:
        values, times = measured(folder), step_times(folder)
        path = Path(values['config'])
        ours, theirs = (f'{each:.0f}' for each in times) if times else ('', '')
        rows.append(
            f'| [{name_of(folder)}](detectors/{folder}.md) '
            f'| [`{path.stem}`](../configs/{folder}/{path.name}) | {small_result(folder)} '
            f'| {values["minutes"]:.1f} | {values["memory"]} | {ours} | {theirs} |'
        )
    return '\n'.join(rows)


def guide_page() -> str:
    """docs/which_detector.md with the tables in place of its marks."""
    text = (ROOT / 'docs/which_detector.md').read_text('utf-8')
    tables = {'<!-- decisions -->': decision_table(), '<!-- measured -->': measured_table()}
    for mark, table in tables.items():
        text = text.replace(mark, table)
    return text
