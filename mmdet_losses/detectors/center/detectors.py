"""CenterTrack as a detector: it sees a picture beside the one before it, and remembers tracks.

Zhou, Koltun and Krähenbühl, *Tracking Objects as Points*, sections 4 and 5.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

import torch
from mmdet.models.detectors import SingleStageDetector
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core.head import input_size
from mmdet_losses.registry import MODELS


class Memory(NamedTuple):
    """What online inference keeps of a video."""

    video: Hashable
    frame: int
    picture: Tensor
    """(1, 3, h, w) the last frame, as the network saw it."""


@MODELS.register_module()
class CenterTrack(SingleStageDetector):
    """A single-stage detector that is also shown the previous picture, and tracks online.

    Training takes pairs (``PackPairInputs`` and ``PairDataPreprocessor``): the previous ground
    truth is rendered into a heatmap, with the encoder's disturbances, and objects learn the way
    back by their identity.

    A test takes the frames of a video in order, one after the other however they are batched. The
    previous heatmap shows the live tracks, the previous picture is the last one; a first frame is
    its own previous picture. A frame whose ``video_id`` differs from the last one's, whose
    ``frame_id`` is not greater, or which has no ``frame_id``, begins a new video, with identities
    from 1 on. What is remembered is no part of the state dict.

    Every sample gets ``pred_instances`` (all detections, with ``centers`` and ``tracking``) and
    ``pred_track_instances``: those of a track, with ``instances_id`` (MMDetection's name) and
    ``instances_ids``, ``age`` and ``active``, see
    :class:`~mmdet_losses.detectors.center.tracker.CenterTrackTracker`; tracks without a detection
    in this frame are left out.

    Args:
        tracker: config of the tracker (default ``CenterTrackTracker``).
        **kwargs: of ``SingleStageDetector``; the backbone takes (picture, previous picture,
            previous heatmap), as ``DLANet`` and ``PreviousFrameBackbone`` do; the head's encoder
            is ``CenterTrackTargetEncoder``.

    Raises:
        ValueError: a batch to learn from without previous pictures.
    """

    def __init__(self, *args: Any, tracker: dict | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tracker = MODELS.build({'type': 'CenterTrackTracker', **(tracker or {})})
        self._memory: Memory | None = None

    def forward(
        self,
        inputs: Tensor,
        data_samples: list[DetDataSample] | None = None,
        mode: str = 'tensor',
        previous: Tensor | None = None,
    ) -> dict | list[DetDataSample] | tuple:
        """MMDetection's ``forward``, with the previous pictures (B, 3, h, w) of a training batch.

        Mode 'tensor' is the network alone, on ``inputs`` without a previous heatmap.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples, previous)
        if mode == 'tensor':
            return self.bbox_head(self.extract_feat(inputs, previous))
        return super().forward(inputs, data_samples, mode)

    def extract_feat(
        self, batch_inputs: Tensor, previous: Tensor | None = None, heatmap: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Pictures (B, 3, h, w), previous ones, previous heatmaps (B, 1, h, w) to feature maps."""
        if heatmap is not None:
            heatmap = heatmap.to(batch_inputs.dtype)
        feats = self.backbone(batch_inputs, previous, heatmap)
        return self.neck(feats) if self.with_neck else feats

    def loss(
        self,
        batch_inputs: Tensor,
        batch_data_samples: list[DetDataSample],
        previous: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The criterion's terms and the encoder's statistics."""
        if previous is None:
            raise ValueError(
                'CenterTrack learns from pairs, and this batch has no previous pictures: put '
                'SamplePair and PackPairInputs into the training pipeline, and '
                'PairDataPreprocessor into the model.'
            )
        encoder = self.bbox_head.encoder
        metas = [sample.metainfo for sample in batch_data_samples]
        before = [annotations(sample.previous) for sample in batch_data_samples]
        now = [annotations(sample) for sample in batch_data_samples]
        generator = torch.Generator(batch_inputs.device)
        generator.manual_seed(int(torch.randint(2**62, ())))
        frame = encoder.encode_previous(before, input_size(metas), generator)
        outputs = self.bbox_head(self.extract_feat(batch_inputs, previous, frame.heatmap))
        return self.bbox_head.loss_by_feat(*outputs, encoder.link(now, frame), metas, None)

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample], rescale: bool = True
    ) -> list[DetDataSample]:
        """Consecutive frames to detections and tracks, see the class."""
        found = [
            self._next_frame(batch_inputs[i : i + 1], sample, rescale)
            for i, sample in enumerate(batch_data_samples)
        ]
        return self.add_pred_to_datasample(batch_data_samples, found)

    def _next_frame(self, picture: Tensor, sample: DetDataSample, rescale: bool) -> InstanceData:
        meta = sample.metainfo
        if self._begins_a_video(picture, meta):
            self.tracker.reset()
            self._memory = None
        if self._memory is None:
            nobody = picture.new_zeros(0)
            tracks = InstanceData(bboxes=nobody.view(0, 4), labels=nobody.long())
        else:
            tracks = in_input_pixels(self.tracker.tracks, meta, rescale)
        frame = self.bbox_head.encoder.encode_previous([tracks], input_size([meta]))
        last = picture if self._memory is None else self._memory.picture
        outputs = self.bbox_head(self.extract_feat(picture, last, frame.heatmap))
        found = self.bbox_head.predict_by_feat(*outputs, batch_img_metas=[meta], rescale=rescale)[0]
        now = self.tracker.track(found)
        now = now[now.active > 0]
        now.instances_id = now.instances_ids
        sample.pred_track_instances = now
        self._memory = Memory(meta.get('video_id'), meta.get('frame_id', 0), picture.detach())
        return found

    def _begins_a_video(self, picture: Tensor, meta: dict) -> bool:
        last = self._memory
        return (
            last is None
            or 'frame_id' not in meta
            or meta.get('video_id') != last.video
            or meta['frame_id'] <= last.frame
            or picture.shape != last.picture.shape
        )


def annotations(sample: DetDataSample) -> InstanceData:
    """Ground truth with what is ignored behind it, as ``CenterTrackTargetEncoder`` reads it.

    Ignored objects of a class are crowds; those with a negative label stay regions.
    """
    parts = []
    for name in ('gt_instances', 'ignored_instances'):
        given = sample.get(name)
        if given is None or 'labels' not in given:
            continue
        labels = given.labels.long()
        parts.append(
            InstanceData(
                bboxes=given.bboxes,
                labels=labels,
                instances_ids=identities(given),
                crowds=(labels >= 0) & (name == 'ignored_instances'),
            )
        )
    return InstanceData.cat(parts)


def identities(instances: InstanceData) -> Tensor:
    """(n,) int64 identities, -1 where unknown.

    Raises:
        ValueError: the annotations were loaded without them.
    """
    if 'instances_ids' not in instances:
        raise ValueError(
            'CenterTrack needs the identities of objects, and these annotations have none: load '
            'them with LoadTrackAnnotations and pack them with PackPairInputs.'
        )
    return instances.instances_ids.long()


def in_input_pixels(tracks: InstanceData, meta: dict, rescale: bool) -> InstanceData:
    """Tracks whose boxes are in image pixels, brought to those of the network input."""
    scale = meta['scale_factor'][:2] if rescale else (1.0, 1.0)
    border = meta.get('border') or (0.0, 0.0, 0.0, 0.0)
    tracks = tracks[:]
    factor, corner = (
        tracks.bboxes.new_tensor([float(x), float(y)]).repeat(2)
        for x, y in (scale, (border[2], border[0]))
    )
    tracks.bboxes = tracks.bboxes * factor + corner
    return tracks
