"""CornerNet-Saccade as a detector: look at the whole image, then closer where it matters.

Law et al., *CornerNet-Lite: Efficient Keypoint Based Object Detection*, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.models.detectors import SingleStageDetector
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core import Size, postprocess
from mmdet_losses.detectors.corner.contracts import CornerNetSaccadeOutputs
from mmdet_losses.detectors.corner.decode import pair_corners
from mmdet_losses.detectors.corner.saccade import (
    Looks,
    attention_locations,
    boxes_of_looks,
    crop_looks,
    detection_locations,
    look_at,
    suppress_locations,
    whole_image_locations,
)
from mmdet_losses.registry import MODELS


@MODELS.register_module()
class CornerNetSaccade(SingleStageDetector):
    """A single-stage detector whose test is two passes over crops of the image.

    Training and the dense forward pass are ``SingleStageDetector``'s. A test takes the picture at
    its own size: first the whole image is seen at small sizes; peaks of the attention maps and
    sure detections say where to look closer; of nearby places one is kept, and the best
    ``max_looks`` crops are seen in batches. Detections of both passes are pooled and suppressed
    by ``test_cfg``.

    Beside ``pred_instances`` every sample carries ``seen_pixels`` and ``image_pixels`` in its
    metas: network input pixels of all looks, and those of the image.

    Args:
        input_size: (h, w) of every look.
        whole_sides: sides to which the longest side of the image is brought in the first looks.
        attention_threshold: score from which an attention peak is a place to look at.
        zooms: how much closer each attention map wants to look, coarsest first.
        max_looks: closer looks an image; 0 is a single pass, which keeps all its detections.
        sure_threshold: score above which first-pass detections stay.
        reference_threshold: score above which they are places to look at.
        looks_per_batch: crops in one forward pass; bounds memory.
        **kwargs: of ``SingleStageDetector``; the head's encoder is
            ``CornerNetSaccadeTargetEncoder``.
    """

    def __init__(
        self,
        *args: object,
        input_size: Size = (255, 255),
        whole_sides: Sequence[int] = (192, 255),
        attention_threshold: float = 0.3,
        zooms: Sequence[float] = (1, 2, 4),
        max_looks: int = 30,
        sure_threshold: float = 0.3,
        reference_threshold: float = 0.5,
        looks_per_batch: int = 32,
        **kwargs: object,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.input_size, self.whole_sides = tuple(input_size), tuple(whole_sides)
        self.attention_threshold, self.zooms = attention_threshold, tuple(zooms)
        self.max_looks, self.looks_per_batch = max_looks, looks_per_batch
        self.sure_threshold, self.reference_threshold = sure_threshold, reference_threshold

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample], rescale: bool = True
    ) -> list[DetDataSample]:
        """Normalised pictures (B, 3, h, w), padded right and below, to detections.

        With ``rescale`` boxes return to the size before the pipeline's ``Resize``, if it had one.
        """
        results = []
        for image, sample in zip(batch_inputs, batch_data_samples, strict=True):
            height, width = sample.metainfo.get('img_shape', image.shape[-2:])[:2]
            found, looks = self.look(image[:, :height, :width])
            results.append(postprocess(found, sample.metainfo, self.bbox_head.test_cfg, rescale))
            seen = looks * self.input_size[0] * self.input_size[1]
            sample.set_metainfo(dict(seen_pixels=seen, image_pixels=int(height * width)))
        return self.add_pred_to_datasample(batch_data_samples, results)

    def look(self, image: Tensor) -> tuple[InstanceData, int]:
        """Detections of both passes, before suppression, in pixels of (3, h, w); and the looks."""
        size = image.shape[-2:]
        first = whole_image_locations(size, self.whole_sides).to(image.device)
        found, attentions = self._see(image, first)
        if self.max_looks == 0:
            return found, len(first)
        found = found[found.scores > self.sure_threshold]
        around = attention_locations(
            [each.sigmoid() for each in attentions],
            look_at(first, self.input_size),
            size,
            strides=[stride for stride, _ in self.bbox_head.encoder.scales],
            zooms=self.zooms,
            threshold=self.attention_threshold,
        )
        sure = detection_locations(found.bboxes, found.scores, self.reference_threshold)
        locations = suppress_locations(torch.cat((around, sure)), most=self.max_looks)
        if not len(locations):
            return found, len(first)
        closer, _ = self._see(image, locations)
        return InstanceData.cat([found, closer]), len(first) + len(locations)

    def _see(self, image: Tensor, locations: Tensor) -> tuple[InstanceData, list[Tensor]]:
        """Detections of looks at (N, 3 or 4) locations, and the logits of their attention maps."""
        black = self._black(image)
        looks = look_at(locations, self.input_size)
        found, attentions = [], []
        for start in range(0, len(locations), self.looks_per_batch):
            part = slice(start, start + self.looks_per_batch)
            crops = crop_looks(image - black, locations[part], self.input_size) + black
            outputs = CornerNetSaccadeOutputs(*self._forward(crops))
            found.extend(self._detections(outputs, Looks(*(each[part] for each in looks))))
            attentions.append(outputs.attentions)
        return InstanceData.cat(found), [torch.cat(each) for each in zip(*attentions, strict=True)]

    def _detections(self, outputs: CornerNetSaccadeOutputs, looks: Looks) -> list[InstanceData]:
        pairs = pair_corners(outputs, **self.bbox_head.encoder.pairing)
        feat_size = outputs.tl_heatmap.shape[-2:]
        boxes = boxes_of_looks(pairs.boxes, looks, feat_size, self.input_size)
        return pairs._replace(boxes=boxes).instances()

    def _black(self, image: Tensor) -> Tensor:
        """(3, 1, 1) black after normalisation: what surrounds the image in a crop."""
        preprocessor = self.data_preprocessor
        if not getattr(preprocessor, '_enable_normalize', False):
            return image.new_zeros(3, 1, 1)
        return (-preprocessor.mean / preprocessor.std).to(image).view(3, 1, 1)
