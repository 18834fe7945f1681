"""Dense head of all detectors."""

from __future__ import annotations

import inspect
from typing import Any

from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_losses.core.compiled import CompiledLoss
from mmdet_losses.core.ignored import encode_batch
from mmdet_losses.core.postprocess import check_nms, postprocess
from mmdet_losses.core.types import Size
from mmdet_losses.registry import MODELS, TASK_UTILS


@MODELS.register_module()
class EncodedDenseHead(BaseDenseHead):
    """Dense head composed of a predictor, a target encoder and a criterion.

    Use it as the ``bbox_head`` of MMDetection's ``SingleStageDetector``, or with one class as the
    ``rpn_head`` of a ``TwoStageDetector``.

    Args:
        predictor: config of the module that computes outputs from feature maps (MODELS).
        encoder: config of the :class:`~mmdet_losses.core.encoder.TargetEncoder` (TASK_UTILS).
        criterion: config of the :class:`~mmdet_losses.core.criterion.DetectorLoss` (MODELS).
        train_cfg: unused; MMDetection passes it.
        test_cfg: ``score_thr``, ``nms``, ``max_per_img``, see
            :func:`~mmdet_losses.core.postprocess.postprocess`. An encoder that drops low scores
            takes its ``score_thr`` from here, unless its own config has one.
        num_classes: checked against predictor and encoder; ``TwoStageDetector`` passes 1.
        compile: compile encoder and criterion as one graph, see
            :class:`~mmdet_losses.core.compiled.CompiledLoss`; or a dict of options of
            ``torch.compile``. The first step of every input size then takes longer.

    Raises:
        ValueError: predictor, encoder and ``num_classes`` differ, a number of classes, objects or
            detections is below 1, ``score_thr`` of the test is below that of the encoder, which has
            dropped these scores before, or ``nms`` has an unknown type or option.
    """

    def __init__(
        self,
        predictor: dict,
        encoder: dict,
        criterion: dict,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
        compile: bool | dict = False,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        _check_counts(dict(predictor=predictor, encoder=encoder))
        self.predictor = MODELS.build(predictor)
        self.encoder = TASK_UTILS.build(encoder)
        ours, theirs = _classes(predictor, self.predictor), _classes(encoder, self.encoder)
        if None not in (ours, theirs) and ours != theirs:
            raise ValueError(
                f'num_classes is {ours} in the predictor but {theirs} in the encoder; set both to '
                'the number of classes of the data set.'
            )
        ours = theirs if ours is None else ours
        if num_classes is not None and ours not in (None, num_classes):
            raise ValueError(
                f'num_classes is {num_classes} in the head but {ours} in its predictor and '
                f'encoder; write predictor=dict(num_classes={num_classes}) and '
                f'encoder=dict(num_classes={num_classes}) in the head.'
            )
        self.criterion = MODELS.build(criterion)
        self.train_cfg = train_cfg
        self.test_cfg = ConfigDict(test_cfg or {})
        if hasattr(self.encoder, 'score_thr') and 'score_thr' not in encoder:
            self.encoder.score_thr = self.test_cfg.get('score_thr', self.encoder.score_thr)
        self._check_threshold(self.test_cfg)
        check_nms(self.test_cfg)
        self.compiled = None
        if compile:
            self.compiled = CompiledLoss(dict(compile) if isinstance(compile, dict) else {})

    def forward(self, feats: tuple[Tensor, ...]) -> tuple:
        """Outputs (``outputs_type`` of the encoder) from feature maps."""
        return self.predictor(feats)

    def loss_by_feat(self, *arguments: Any) -> dict[str, Tensor]:
        """Losses from the output fields, ground truth, meta data and ignored annotations.

        The dict also has the encoder's statistics (``num_pos``, ...). They are only logged:
        MMEngine sums the entries whose key contains "loss".

        Raises:
            ValueError: the outputs have another number of images than the ground truth.
        """
        *fields, gt_instances, img_metas, ignored = arguments
        outputs, size = self.encoder.outputs_type(*fields), input_size(img_metas)
        _check_images(outputs, len(gt_instances))
        if self.compiled is not None:
            return self.compiled(self.encoder, self.criterion, outputs, gt_instances, size, ignored)
        sizes = self.encoder.feat_sizes(outputs)
        targets = encode_batch(self.encoder, gt_instances, sizes, size, ignored)
        return {**self.criterion(outputs, targets), **self.encoder.statistics(targets)}

    def predict_by_feat(
        self,
        *fields: Any,
        batch_img_metas: list[dict],
        cfg: dict | None = None,
        rescale: bool = False,
        **_: Any,
    ) -> list[InstanceData]:
        """Results of each image from the output fields."""
        cfg = self.test_cfg if cfg is None else cfg
        self._check_threshold(cfg)
        outputs = self.encoder.outputs_type(*fields)
        decoded = self.encoder.decode(outputs, input_size(batch_img_metas))
        return [
            postprocess(instances, img_meta, cfg, rescale)
            for instances, img_meta in zip(decoded, batch_img_metas, strict=True)
        ]

    def _check_threshold(self, cfg: dict) -> None:
        """Raise ``ValueError`` if the encoder drops scores above the threshold of the test."""
        first = getattr(self.encoder, 'score_thr', 0.0)
        threshold = cfg.get('score_thr', first)
        if threshold < first:
            raise ValueError(
                f'score_thr is {threshold:g} in test_cfg but {first:g} in the encoder, which drops '
                'lower scores before; remove score_thr from the config of the encoder: it then '
                'uses that of test_cfg.'
            )


def _check_images(outputs: Any, count: int) -> None:
    first = outputs
    while not isinstance(first, Tensor):
        first = first[0]
    if len(first) != count:
        raise ValueError(
            f'the network outputs have {len(first)} images, but the ground truth has {count}; give '
            'one InstanceData per image.'
        )


def input_size(img_metas: list[dict]) -> Size:
    """(h, w) of the network input, from the meta data of its images.

    Raises:
        KeyError: the meta data have neither ``batch_input_shape``, ``pad_shape`` nor ``img_shape``.
    """
    meta = img_metas[0]
    for key in ('batch_input_shape', 'pad_shape', 'img_shape'):
        if key in meta:
            return int(meta[key][0]), int(meta[key][1])
    raise KeyError(
        'batch_input_shape is missing from the image meta data, but the head needs the size of the '
        'network input; use DetDataPreprocessor, or set the key.'
    )


def _check_counts(parts: dict[str, dict]) -> None:
    """Raise ``ValueError`` for a number of classes, objects or detections below 1."""
    for part, settings in parts.items():
        for key in ('num_classes', 'max_objects', 'topk', 'num_dets'):
            value = settings.get(key) if isinstance(settings, dict) else None
            if isinstance(value, int) and value < 1:
                raise ValueError(f'{key} is {value} in the {part}; set 1 or more.')


def _classes(config: dict, built: object) -> int | None:
    """``num_classes`` of a component: from its config or its default; None if it has none."""
    parameter = inspect.signature(type(built)).parameters.get('num_classes')
    default = (
        None if parameter is None or parameter.default is parameter.empty else parameter.default
    )
    return config.get('num_classes', default)
