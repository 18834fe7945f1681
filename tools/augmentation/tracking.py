"""The previous image of a draw: pairs of frames and what CenterTrack's encoder makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import torch
from mmengine.structures import InstanceData
from numpy.typing import NDArray

from mmdet_losses.data.objects import box_array
from mmdet_losses.detectors.center import centertrack_encoder
from mmdet_losses.ops import compose_affine

if TYPE_CHECKING:
    from tools.augmentation.layout import Scene


def item(scene: Scene) -> dict:
    """The video of a scene with its key frame, as a video data set hands it to its pipeline."""
    frames = []
    for number, (image, boxes) in enumerate(
        zip(scene.images, scene.about['frame_boxes'], strict=True)
    ):
        frames.append(
            {
                'held': image,
                'img_path': f'frame{number}',
                'img_id': number,
                'frame_id': number,
                'height': image.shape[0],
                'width': image.shape[1],
                'instances': [
                    {'bbox': box, 'bbox_label': k, 'ignore_flag': 0, 'instance_id': k}
                    for k, box in enumerate(boxes)
                ],
            }
        )
    return {
        'video_id': 0,
        'video_length': len(frames),
        'images': frames,
        'key_frame_id': scene.about['key_frame'],
    }


def previous_numbers(
    results: dict, encoder: centertrack_encoder.CenterTrackTargetEncoder, count: int
) -> dict[str, NDArray[np.float64]]:
    """What is drawn and learned of the previous image; ``count`` tracked objects."""
    previous = results['previous']
    height, width = results['img'].shape[:2]
    size = np.array([width, height])
    boxes = box_array(previous)
    labels = np.asarray(previous['gt_bboxes_labels'])
    clipped = boxes.clip(0, [width - 1, height - 1] * 2)
    span, center = clipped[:, 2:] - clipped[:, :2], (clipped[:, 2:] + clipped[:, :2]) / 2
    drawn = _drawn(encoder, boxes, labels, (height, width))
    rows = {
        name: np.full((count, 2), np.nan)
        for name in ('center', 'peak_shift', 'lost_shift', 'false_shift')
    }
    lost, false = np.full(count, np.nan), np.full(count, np.nan)
    for i in np.flatnonzero(drawn.seen):
        k = labels[i]
        rows['center'][k] = drawn.learned[i] / size
        is_lost = not drawn.peak[i]
        lost[k], false[k] = is_lost, drawn.second[i]
        if is_lost:
            rows['lost_shift'][k] = (drawn.learned[i] - center[i]) / span[i]
        else:
            rows['peak_shift'][k] = (drawn.peak_at[i] + 0.5 - center[i]) / span[i]
        if drawn.second[i]:
            rows['false_shift'][k] = (drawn.second_at[i] + 0.5 - center[i]) / span[i]
    matrix = compose_affine(previous['affine'], _inverse(results['affine']))
    middle = matrix @ [width / 2, height / 2, 1]
    return {
        'frame_gap': np.array(results['frame_gap']),
        'pair_scale': matrix[0, 0].round(9),
        'pair_shift': ((middle - size / 2) / width).round(9),  # exact zeros stay zeros
        'flip_known': np.array(results['flip']),
        'prev_count': np.array(drawn.seen.sum()),
        'prev_lost_count': np.nansum(lost),
        'prev_false_count': np.nansum(false),
        'prev_lost': lost,
        'prev_false': false,
        **{f'prev_{name}': row for name, row in rows.items()},
    }


class Drawn:
    """One row per previous object: in view, its peaks, and the centre that is learned from."""

    def __init__(self, frame: centertrack_encoder.PreviousFrame, peaks: Any, mask: Any) -> None:
        count = frame.mask.shape[1]
        self.seen = frame.mask[0].numpy()
        self.learned = frame.centers[0].numpy()
        self.peak, self.second = mask[0, :count].numpy(), mask[0, count:].numpy()
        self.peak_at, self.second_at = peaks[0, :count].numpy(), peaks[0, count:].numpy()


def _drawn(
    encoder: centertrack_encoder.CenterTrackTargetEncoder,
    boxes: NDArray,
    labels: NDArray,
    size: tuple[int, int],
) -> Drawn:
    """What the encoder draws, read from its call of ``draw_gaussians``."""
    instances = InstanceData(
        bboxes=torch.from_numpy(boxes).float(), labels=torch.zeros(len(labels), dtype=torch.long)
    )
    seen: dict[str, Any] = {}

    def hold(xy: Any, radius: Any, sigma: Any, mask: Any, shape: tuple[int, int]) -> Any:
        seen.update(peaks=xy, mask=mask)
        return torch.zeros(len(xy), *shape)

    generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
    with mock.patch.object(centertrack_encoder, 'draw_gaussians', hold):
        frame = encoder.encode_previous([instances], size, generator)
    return Drawn(frame, seen['peaks'], seen['mask'])


def _inverse(matrix: NDArray) -> NDArray:
    """The inverse of a (2, 3) map."""
    return np.linalg.inv(np.vstack((matrix, [0, 0, 1])))[:2]
