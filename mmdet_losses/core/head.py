"""One dense head for every detector."""

from __future__ import annotations

import inspect
from typing import Any

from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core.postprocess import postprocess
from mmdet_losses.core.types import Size
from mmdet_losses.registry import MODELS, TASK_UTILS


@MODELS.register_module()
class EncodedDenseHead(BaseDenseHead):
    """Introduces a predictor, a target encoder and a criterion to each other.

    Works wherever MMDetection expects a dense head, ``SingleStageDetector`` above all.

    Args:
        predictor: config of the module from feature maps to outputs (MODELS).
        encoder: config of the :class:`~mmdet_losses.core.encoder.TargetEncoder` (TASK_UTILS).
        criterion: config of the :class:`~mmdet_losses.core.criterion.DetectorLoss` (MODELS).
        train_cfg: kept for MMDetection; unused.
        test_cfg: ``score_thr``, ``nms``, ``max_per_img``, see
            :func:`~mmdet_losses.core.postprocess.postprocess`.

    Raises:
        ValueError: predictor and encoder are for different numbers of classes.
    """

    def __init__(
        self,
        predictor: dict,
        encoder: dict,
        criterion: dict,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.predictor = MODELS.build(predictor)
        self.encoder = TASK_UTILS.build(encoder)
        ours, theirs = _classes(predictor, self.predictor), _classes(encoder, self.encoder)
        if None not in (ours, theirs) and ours != theirs:
            raise ValueError(
                f'The predictor has num_classes={ours} but the encoder num_classes={theirs}; '
                'give both the number of classes of your data.'
            )
        self.criterion = MODELS.build(criterion)
        self.train_cfg = train_cfg
        self.test_cfg = ConfigDict(test_cfg or {})

    def forward(self, feats: tuple[Tensor, ...]) -> tuple:
        """Feature maps to the encoder's ``outputs_type``."""
        return self.predictor(feats)

    def loss_by_feat(self, *arguments: Any) -> dict[str, Tensor]:
        """Fields of the outputs, then ground truth, metas, ignored ground truth: to losses.

        Beside the criterion's terms the dict carries the encoder's statistics (``num_pos``, ...),
        which no name makes part of the sum.
        """
        *fields, gt_instances, img_metas, _ = arguments
        outputs = self.encoder.outputs_type(*fields)
        targets = self.encoder.encode(
            gt_instances, self.encoder.feat_sizes(outputs), input_size(img_metas)
        )
        return {**self.criterion(outputs, targets), **self.encoder.statistics(targets)}

    def predict_by_feat(
        self,
        *fields: Any,
        batch_img_metas: list[dict],
        cfg: dict | None = None,
        rescale: bool = False,
        **_: Any,
    ) -> list[InstanceData]:
        """Fields of the outputs to the results of each image."""
        outputs = self.encoder.outputs_type(*fields)
        decoded = self.encoder.decode(outputs, input_size(batch_img_metas))
        cfg = self.test_cfg if cfg is None else cfg
        return [
            postprocess(instances, img_meta, cfg, rescale)
            for instances, img_meta in zip(decoded, batch_img_metas, strict=True)
        ]


def input_size(img_metas: list[dict]) -> Size:
    """(h, w) of the network input, from the metas of its images.

    Raises:
        KeyError: the metas hold neither ``batch_input_shape`` nor ``img_shape``.
    """
    meta = img_metas[0]
    for key in ('batch_input_shape', 'pad_shape', 'img_shape'):
        if key in meta:
            return int(meta[key][0]), int(meta[key][1])
    raise KeyError(
        'batch_input_shape is missing from the image meta data, so the head cannot know the '
        'size of the network input; use DetDataPreprocessor, or set the key yourself.'
    )


def _classes(config: dict, built: object) -> int | None:
    """``num_classes`` of a component: as its config says, or by default; None without any."""
    parameter = inspect.signature(type(built)).parameters.get('num_classes')
    default = (
        None if parameter is None or parameter.default is parameter.empty else parameter.default
    )
    return config.get('num_classes', default)
