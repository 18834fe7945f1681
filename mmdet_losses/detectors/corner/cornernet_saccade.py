"""CornerNet-Saccade as a detector: a pass over the image, then passes over enlarged crops.

Law et al., *CornerNet-Lite: Efficient Keypoint Based Object Detection*, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.detectors import SingleStageDetector
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core import Size, postprocess
from mmdet_losses.detectors.corner.contracts import CornerNetSaccadeOutputs
from mmdet_losses.detectors.corner.decode import pair_corners
from mmdet_losses.detectors.corner.saccade import (
    Crops,
    attention_locations,
    boxes_in_image,
    crop_image,
    crops_at,
    detection_locations,
    full_image_locations,
    nms_locations,
)
from mmdet_losses.registry import MODELS


@MODELS.register_module()
class CornerNetSaccade(SingleStageDetector):
    """A single-stage detector that is tested in two or more passes over crops of the image.

    Training and the dense forward pass are those of ``SingleStageDetector``. At test time the
    image comes in its own size. The first pass takes the full image, reduced. Peaks of the
    attention maps and detections with high scores are candidates for a closer crop; NMS removes
    nearby ones, and the second pass takes the best ``max_crops`` crops in batches. Further passes
    enlarge the crops of the pass before; only maps with a zoom above 1 give them. ``test_cfg``
    post-processes the detections of all passes together.

    Every sample also gets ``seen_pixels`` and ``image_pixels`` in its metas: the number of input
    pixels of all passes, and that of the image.

    Args:
        input_size: (h, w) of the network input.
        full_image_sides: lengths of the image's longest side in the first pass, one input each.
        attention_threshold: lowest score of an attention peak that gets a crop, exclusive; a list
            has one number for each pass after the first one.
        attention_kernels: side in cells of the window of an attention peak, coarsest map first.
        zooms: zoom of the crops of each attention map, coarsest map first, in all passes or in
            each pass.
        max_crops: largest number of crops per image in all passes after the first one. With 0
            there is only the first pass, and all its detections are kept.
        keep_threshold: first-pass detections with this score or less are dropped.
        crop_threshold: first-pass detections with a higher score get a crop.
        crops_per_batch: number of crops in one forward pass; limits memory.
        **kwargs: of ``SingleStageDetector``; the head's encoder is
            ``CornerNetSaccadeTargetEncoder``.

    Raises:
        ValueError: ``zooms`` of another number of passes than ``attention_threshold``.
    """

    def __init__(
        self,
        *args: Any,
        input_size: Size = (255, 255),
        full_image_sides: Sequence[int] = (192, 255),
        attention_threshold: float | Sequence[float] = 0.3,
        attention_kernels: Sequence[int] = (3, 3, 3),
        zooms: Sequence[float] | Sequence[Sequence[float]] = (1, 2, 4),
        max_crops: int = 30,
        keep_threshold: float = 0.3,
        crop_threshold: float = 0.5,
        crops_per_batch: int = 32,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.input_size: Size = (input_size[0], input_size[1])
        self.full_image_sides = tuple(full_image_sides)
        one = isinstance(attention_threshold, int | float)
        self.thresholds = [attention_threshold] if one else list(attention_threshold)
        nested = isinstance(zooms[0], list | tuple)
        self.zooms = list(zooms) if nested else [zooms] * len(self.thresholds)
        if len(self.zooms) != len(self.thresholds):
            raise ValueError(
                f'zooms has {len(self.zooms)} passes but attention_threshold '
                f'{len(self.thresholds)}; give one list of zooms per threshold.'
            )
        self.attention_kernels = tuple(attention_kernels)
        self.max_crops, self.crops_per_batch = max_crops, crops_per_batch
        self.keep_threshold, self.crop_threshold = keep_threshold, crop_threshold

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample], rescale: bool = True
    ) -> list[DetDataSample]:
        """Normalised images (B, 3, h, w), padded right and below, to detections.

        With ``rescale`` boxes are in pixels of the image before the pipeline's ``Resize``.
        """
        results = []
        for image, sample in zip(batch_inputs, batch_data_samples, strict=True):
            height, width = sample.metainfo.get('img_shape', image.shape[-2:])[:2]
            found, num_inputs = self.detect(image[:, :height, :width])
            results.append(postprocess(found, sample.metainfo, self.bbox_head.test_cfg, rescale))
            seen = num_inputs * self.input_size[0] * self.input_size[1]
            sample.set_metainfo(dict(seen_pixels=seen, image_pixels=int(height * width)))
        return self.add_pred_to_datasample(batch_data_samples, results)

    def detect(self, image: Tensor) -> tuple[InstanceData, int]:
        """Detections of all passes before NMS, in pixels of (3, h, w), and number of inputs."""
        height, width = image.shape[-2:]
        locations = full_image_locations((height, width), self.full_image_sides).to(image.device)
        found, attentions = self._detect_crops(image, locations)
        if self.max_crops == 0:
            return found, len(locations)
        found = found[found.scores > self.keep_threshold]
        passes, num_first, num_crops = [found], len(locations), 0
        for zooms, threshold in zip(self.zooms, self.thresholds, strict=True):
            peaks = attention_locations(
                [each.sigmoid() for each in attentions],
                crops_at(locations, self.input_size),
                (height, width),
                strides=[stride for stride, _ in self.bbox_head.encoder.scales],
                zooms=zooms,
                kernels=self.attention_kernels,
                threshold=threshold,
                enlarge_only=len(passes) > 1,
            )
            boxes = detection_locations(found.bboxes, found.scores, self.crop_threshold)
            locations = nms_locations(torch.cat((peaks, boxes)), most=self.max_crops - num_crops)
            if not len(locations):
                break
            found, attentions = self._detect_crops(image, locations)
            passes.append(found)
            num_crops += len(locations)
            if num_crops == self.max_crops:
                break
        return InstanceData.cat(passes), num_first + num_crops

    def _detect_crops(self, image: Tensor, locations: Tensor) -> tuple[InstanceData, list[Tensor]]:
        """Detections in the crops at (N, 3 or 4) locations, and logits of their attention maps."""
        black = self._black(image)
        found, attentions = [], []
        for part in locations.split(self.crops_per_batch):
            inputs = crop_image(image - black, part, self.input_size) + black
            outputs = CornerNetSaccadeOutputs(*self._forward(inputs))
            found.extend(self._decode(outputs, crops_at(part, self.input_size)))
            attentions.append(outputs.attentions)
        return InstanceData.cat(found), [torch.cat(each) for each in zip(*attentions, strict=True)]

    def _decode(self, outputs: CornerNetSaccadeOutputs, crops: Crops) -> list[InstanceData]:
        encoder = self.bbox_head.encoder
        pairs = pair_corners(outputs.tl, outputs.br, encoder.pairing)
        size = encoder.feat_sizes(outputs)[0]
        boxes = boxes_in_image(pairs.boxes, crops, size, self.input_size)
        return pairs._replace(boxes=boxes).instances()

    def _black(self, image: Tensor) -> Tensor:
        """(3, 1, 1) normalised black, the value of a crop outside the image."""
        preprocessor = self.data_preprocessor
        if not getattr(preprocessor, '_enable_normalize', False):
            return image.new_zeros(3, 1, 1)
        return (-preprocessor.mean / preprocessor.std).to(image).view(3, 1, 1)
