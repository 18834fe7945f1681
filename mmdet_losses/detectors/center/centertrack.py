"""CenterTrack as a detector: its inputs are two consecutive frames and the tracks so far.

Zhou, Koltun and Krähenbühl, *Tracking Objects as Points*, sections 4 and 5.
"""

from __future__ import annotations

import operator
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import torch
from mmdet.models.detectors import SingleStageDetector
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor
from torch.utils._pytree import tree_map_only

from mmdet_losses.core.head import input_size
from mmdet_losses.detectors.center.tta import Outputs, average_mirrored
from mmdet_losses.ops import box_center
from mmdet_losses.registry import MODELS


class LastFrame(NamedTuple):
    """State of online inference, beside the tracks."""

    video: Hashable
    frame: int
    image: Tensor
    """(1, 3, h, w) network input of the last frame."""


@MODELS.register_module()
class CenterTrack(SingleStageDetector):
    """A single-stage detector that also takes the previous frame, and tracks online.

    Training takes pairs of frames (``PackPairInputs`` and ``PairDataPreprocessor``). The previous
    ground truth is drawn into a heatmap, with the encoder's noise; objects of both frames are
    linked by identity.

    With ``public_detections`` (:class:`~mmdet_losses.data.public_detections.LoadPublicDetections`)
    in the metas of a frame, only these start tracks; those of the first frame are tracks before it.

    A test takes the frames of a video in order; within a batch they are processed one by one.
    The previous heatmap shows the active tracks. The previous image of a first frame is the
    frame itself. A new video starts, with identities from 1, if ``video_id`` changes, if
    ``frame_id`` does not increase, or if a frame has no ``frame_id``. The tracks are not part of
    the state dict.

    Every sample gets ``pred_instances`` (all detections, with ``centers`` and ``tracking``) and
    ``pred_track_instances``: the detections of tracks, with ``instances_id`` (MMDetection's name),
    ``instances_ids``, ``age`` and ``active``, see
    :class:`~mmdet_losses.detectors.center.tracker.CenterTrackTracker`. Tracks without a detection
    in this frame are omitted.

    Args:
        previous_image, previous_heatmap: with False the network does not get that input, as in
            the ablations of the paper; build the backbone without that stem.
        tracker: config of the tracker (default ``CenterTrackTracker``).
        flip_test: at test, average heatmap and size with those of the mirrored frames; all other
            outputs are those of the upright frames, as in the official code, except keypoints and
            their heatmap, which are averaged.
        flip_pairs: pairs of keypoints that swap in a mirrored image, for ``flip_test``.
        **kwargs: of ``SingleStageDetector``; the backbone takes (image, previous image, previous
            heatmap), like ``DLANet`` and ``PreviousFrameBackbone``; the head's encoder is
            ``CenterTrackTargetEncoder``.

    Raises:
        ValueError: a training batch without previous images.
    """

    def __init__(
        self,
        *args: Any,
        previous_image: bool = True,
        previous_heatmap: bool = True,
        tracker: dict | None = None,
        flip_test: bool = False,
        flip_pairs: Sequence[tuple[int, int]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.previous_image, self.previous_heatmap = previous_image, previous_heatmap
        self.flip_test, self.flip_pairs = flip_test, flip_pairs
        self.tracker = MODELS.build({'type': 'CenterTrackTracker', **(tracker or {})})
        self._last: LastFrame | None = None

    @property
    def input_channels(self) -> dict[str, int]:
        """Names and channels of the inputs of :meth:`extract_feat`, in their order, for export.

        Raises:
            ValueError: a heatmap without a previous image.
        """
        if self.previous_heatmap and not self.previous_image:
            raise ValueError(
                'previous_heatmap=True with previous_image=False cannot be exported; set both.'
            )
        inputs = {'image': 3, 'previous_image': 3, 'previous_heatmap': 1}
        used = 1 + self.previous_image + self.previous_heatmap
        return dict(list(inputs.items())[:used])

    def forward(
        self,
        inputs: Tensor,
        data_samples: list[DetDataSample] | None = None,
        mode: str = 'tensor',
        previous: Tensor | None = None,
    ) -> dict | list[DetDataSample] | tuple:
        """MMDetection's ``forward``, with the previous images (B, 3, h, w) of a training batch.

        Mode 'tensor' runs the network on ``inputs``, without a previous heatmap.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples, previous)
        if mode == 'tensor':
            return self.bbox_head(self.extract_feat(inputs, previous))
        return super().forward(inputs, data_samples, mode)

    def extract_feat(
        self, batch_inputs: Tensor, previous: Tensor | None = None, heatmap: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Images (B, 3, h, w), previous ones, previous heatmaps (B, 1, h, w) to feature maps."""
        previous = previous if self.previous_image else None
        if heatmap is not None:
            heatmap = heatmap.to(batch_inputs.dtype) if self.previous_heatmap else None
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
                'CenterTrack is trained on pairs of frames, but this batch has no previous images; '
                'add SamplePair and PackPairInputs to the training pipeline and set '
                'data_preprocessor to PairDataPreprocessor.'
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

    def _next_frame(self, image: Tensor, sample: DetDataSample, rescale: bool) -> InstanceData:
        meta = sample.metainfo
        if self._starts_video(image, meta):
            self.tracker.reset()
            self._last = None
        public = public_detections(image, meta, rescale)
        if self._last is None and public is not None:
            self.tracker.start(public)
        if self.tracker.tracks is None:
            empty = image.new_zeros(0)
            tracks = InstanceData(bboxes=empty.view(0, 4), labels=empty.long())
        else:
            tracks = in_input_pixels(self.tracker.tracks, meta, rescale)
        frame = self.bbox_head.encoder.encode_previous([tracks], input_size([meta]))
        previous = image if self._last is None else self._last.image
        outputs = self._outputs(image, previous, frame.heatmap)
        found = self.bbox_head.predict_by_feat(*outputs, batch_img_metas=[meta], rescale=rescale)[0]
        now = self.tracker.track(found, public)
        now = now[now.active > 0]
        now.instances_id = now.instances_ids
        sample.pred_track_instances = now
        self._last = LastFrame(meta.get('video_id'), meta.get('frame_id', 0), image.detach())
        return found

    def _outputs(self, *frames: Tensor) -> Outputs:
        """Outputs of image, previous image and previous heatmap, each of one frame."""
        if not self.flip_test:
            return self.bbox_head(self.extract_feat(*frames))
        both = (torch.cat((each, each.flip(-1))) for each in frames)
        outputs = self.bbox_head(self.extract_feat(*both))
        upright, mirrored = (
            tree_map_only(Tensor, operator.itemgetter(half), outputs)
            for half in (slice(0, 1), slice(1, 2))
        )
        return average_mirrored(upright, mirrored, self.flip_pairs)

    def _starts_video(self, image: Tensor, meta: dict) -> bool:
        last = self._last
        return (
            last is None
            or 'frame_id' not in meta
            or meta.get('video_id') != last.video
            or meta['frame_id'] <= last.frame
            or image.shape != last.image.shape
        )


def annotations(sample: DetDataSample) -> InstanceData:
    """Ground truth followed by the ignored objects, in the form of ``CenterTrackTargetEncoder``.

    Ignored objects of a class become crowds; negative labels stay as they are.
    """
    parts = []
    for name in ('gt_instances', 'ignored_instances'):
        given = sample.get(name)
        if given is None or 'labels' not in given:
            continue
        labels = given.labels.long()
        part = InstanceData(
            bboxes=given.bboxes,
            labels=labels,
            instances_ids=identities(given),
            crowds=(labels >= 0) & (name == 'ignored_instances'),
        )
        for field in ('keypoints', 'keypoints_visible', 'weights'):
            if field in given:
                part.set_field(given[field], field)
        parts.append(part)
    return InstanceData.cat(parts)


def identities(instances: InstanceData) -> Tensor:
    """(n,) int64 identities, -1 where unknown.

    Raises:
        ValueError: the annotations were loaded without them.
    """
    if 'instances_ids' not in instances:
        raise ValueError(
            'The annotations have no instances_ids, which CenterTrack needs; load them with '
            'LoadTrackAnnotations and pack them with PackPairInputs.'
        )
    return instances.instances_ids.long()


def public_detections(image: Tensor, meta: dict, rescale: bool) -> InstanceData | None:
    """Public detections of a frame in the pixels of its results; None: the frame has none."""
    if 'public_detections' not in meta:
        return None
    rows = torch.as_tensor(meta['public_detections'], device=image.device)
    found = InstanceData(
        bboxes=rows[:, :4],
        scores=rows[:, 4],
        labels=torch.zeros(len(rows), dtype=torch.int64, device=image.device),
    )
    if not rescale:
        found = in_input_pixels(found, meta, True)
    found.centers = box_center(found.bboxes)
    return found


def in_input_pixels(tracks: InstanceData, meta: dict, rescale: bool) -> InstanceData:
    """Tracks with their boxes moved from image pixels to pixels of the network input."""
    scale = meta['scale_factor'][:2] if rescale else (1.0, 1.0)
    border = meta.get('border') or (0.0, 0.0, 0.0, 0.0)
    tracks = tracks[:]
    factor, corner = (
        tracks.bboxes.new_tensor([float(x), float(y)]).repeat(2)
        for x, y in (scale, (border[2], border[0]))
    )
    tracks.bboxes = tracks.bboxes * factor + corner
    return tracks
