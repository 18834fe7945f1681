"""A trained detector that predicts images and videos, on MMDetection's ``DetInferencer``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from itertools import islice
from typing import Any

from mmcv.transforms import Compose
from mmdet.apis import DetInferencer
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import nn

from mmdet_losses.engine.data_config import first_leaf
from mmdet_losses.engine.fit import check_fit
from mmdet_losses.engine.media import Frame
from mmdet_losses.engine.processes import UsageError
from mmdet_losses.ops import clip_boxes
from mmdet_losses.registry import DATASETS, TRANSFORMS


class Predictor(DetInferencer):
    """Detector of a config and a checkpoint.

    Differs from ``DetInferencer``: it takes images in memory, also from videos; it supports
    trackers; every layer of the checkpoint must fit; class names come from the checkpoint or the
    config, never from COCO; boxes are clipped to the image; nothing is drawn.

    Args:
        cfg: Config of the detector. The annotations that its test pipeline loads are not used.
        checkpoint: Checkpoint file or URL.
        device: Default: a GPU if there is one.

    Attributes:
        is_tracker: The results are tracks.
        is_darknet: The test input is prepared as darknet does.

    Raises:
        UsageError: The checkpoint does not fit the config.
    """

    def __init__(self, cfg: Config, checkpoint: str, device: str | None = None) -> None:
        steps = set(_step_types(first_leaf(cfg.test_dataloader.dataset).pipeline))
        self.is_tracker = 'SamplePair' in steps
        self.is_darknet = bool(steps & {'DarknetLetterBox', 'DarknetResize'})
        self._checkpoint, self._config = checkpoint, str(cfg.filename)
        super().__init__(cfg, checkpoint, device, show_progress=False)

    @property
    def meta(self) -> dict[str, Any]:
        """Meta data of the data set: ``classes`` and, for keypoints, ``skeleton``."""
        return self.model.dataset_meta

    @property
    def classes(self) -> Sequence[str]:
        """Class names."""
        return self.meta['classes']

    def predict(
        self, frames: Iterable[Frame], batch_size: int = 1
    ) -> Iterator[tuple[Frame, InstanceData]]:
        """Predictions (of a tracker: tracks) for each frame, in pixels of the frame.

        The frames of a tracker are one video. Boxes are clipped to the image; those without an area
        there are dropped (an untrained network predicts inverted ones).
        """
        for chunk in _chunks(frames, batch_size):
            data = self.collate_fn([self.pipeline(self._item(frame)) for frame in chunk])
            for frame, sample in zip(chunk, self.forward(data), strict=True):
                yield frame, self._result(frame, sample)

    def _item(self, frame: Frame) -> dict[str, Any]:
        item = dict(
            img=frame.image,
            img_path=frame.name,
            img_id=frame.number,
            frame_id=frame.number,
            video_id=0,
            instances=[],
        )
        # a test item of a video data set has lists of frames
        return {key: [value] for key, value in item.items()} if self.is_tracker else item

    def _result(self, frame: Frame, sample: DetDataSample) -> InstanceData:
        field = 'pred_track_instances' if self.is_tracker else 'pred_instances'
        result = sample.get(field).cpu()
        height, width = frame.image.shape[:2]
        boxes = clip_boxes(result.bboxes, width, height)
        result.bboxes = boxes
        return result[(boxes[:, 2:] > boxes[:, :2]).all(-1)]

    def _load_weights_to_model(
        self, model: nn.Module, checkpoint: dict | None, cfg: Config | None
    ) -> None:
        assert checkpoint is not None and cfg is not None
        state = checkpoint.get('state_dict', checkpoint)
        state = {key.removeprefix('module.'): value for key, value in state.items()}
        check_fit(state, model.state_dict(), self._checkpoint, self._config)
        model.load_state_dict(state)
        saved = checkpoint.get('meta', {}).get('dataset_meta') or {}
        meta: Any = _meta(cfg) | {key.lower(): value for key, value in saved.items()}
        model.dataset_meta = meta

    def _init_pipeline(self, cfg: Config) -> Compose:
        steps = _from_memory(deepcopy(first_leaf(cfg.test_dataloader.dataset).pipeline))
        if 'LoadImageFromNDArray' not in _step_types(steps):
            raise UsageError(f'the test pipeline of {self._config} has no LoadImageFromFile.')
        return Compose([TRANSFORMS.build(step) for step in steps])

    def _init_visualizer(self, cfg: Config) -> None:
        """Nothing: results are drawn by :mod:`mmdet_losses.visualization.predictions`."""


def _chunks(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    iterator = iter(frames)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _step_types(steps: Any) -> list[str]:
    """Type names of the steps of a pipeline and of the steps inside them."""
    names = []
    for step in steps:
        names.append(str(step['type']).rpartition('.')[2])
        names += _step_types(step.get('transforms') or ())
    return names


def _from_memory(steps: list[dict]) -> list[dict]:
    """The steps with images from memory, and without annotations."""
    changed = []
    for step in steps:
        name = str(step['type']).rpartition('.')[2]
        if name.endswith('Annotations'):
            continue
        if name == 'LoadImageFromFile':
            step['type'] = 'mmdet.LoadImageFromNDArray'
        if step.get('transforms'):
            step['transforms'] = _from_memory(step['transforms'])
        changed.append(step)
    return changed


def class_names(cfg: Config) -> Sequence[str]:
    """Class names of the test data set."""
    return tuple(_meta(cfg).get('classes') or ())


def _meta(cfg: Config) -> dict[str, Any]:
    """Meta data of the test data set, without its files."""
    dataset = first_leaf(cfg.test_dataloader.dataset)
    kind = DATASETS.get(dataset.type)
    return {**getattr(kind, 'METAINFO', {}), **dict(dataset.get('metainfo') or {})}
