"""Public detections of MOT Challenge, which start the tracks of a tracker."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from mmcv.transforms import BaseTransform

from mmdet_losses.data.clean import DataError
from mmdet_losses.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadPublicDetections(BaseTransform):
    """Load the detections that MOT Challenge publishes for each frame.

    With them :class:`~mmdet_losses.detectors.center.centertrack.CenterTrack` follows the protocol
    of public detections: only they start tracks.

    Required key: ``img_path``, in the folder layout of MOT Challenge: ``<video>/img1/<number>.jpg``
    beside ``<video>/det/det.txt``. Added key: ``public_detections`` (n, 5) float32, xyxy image
    pixels and score; ``PackPairInputs`` keeps it.

    Args:
        score: score of all detections; None takes the one of the file. The detector DPM of MOT17
            has scores below 0.

    Raises:
        DataError: the folder of the video has no ``det/det.txt``.
    """

    def __init__(self, score: float | None = 1.0) -> None:
        self.score = score

    def transform(self, results: dict) -> dict:
        """See the class."""
        image = Path(results['img_path'])
        rows = _read(image.parents[1] / 'det' / 'det.txt').get(int(image.stem), np.zeros((0, 5)))
        found = rows.astype(np.float32)
        if self.score is not None:
            found[:, 4] = self.score
        results['public_detections'] = found
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(score={self.score})'


@lru_cache(maxsize=8)
def _read(path: Path) -> dict[int, np.ndarray]:
    """Number of the frame -> (n, 5) xyxy and score, from rows frame, id, x, y, w, h, score, ...

    Raises:
        DataError: there is no such file.
    """
    if not path.is_file():
        raise DataError(
            f'{path} does not exist, but LoadPublicDetections needs it; copy the folder det of '
            'MOT Challenge beside img1.'
        )
    table = np.loadtxt(path, delimiter=',', ndmin=2)
    rows = np.concatenate((table[:, 2:4], table[:, 2:4] + table[:, 4:6], table[:, 6:7]), 1)
    return {int(number): rows[table[:, 0] == number] for number in np.unique(table[:, 0])}
