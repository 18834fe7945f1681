"""Criterion of YOLOv1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from mmdet_losses.detectors.yolo.contracts import YOLOV1Outputs, YOLOV1Targets
from mmdet_losses.detectors.yolo.image_count import ImageCountLoss
from mmdet_losses.ops import check_choice, constant, darknet_iou, masked_sum, promote
from mmdet_losses.registry import MODELS

FORCED_AREA = 0.1
RANDOM_IMAGES = 64_000


@MODELS.register_module()
class YOLOV1Loss(ImageCountLoss[YOLOV1Outputs, YOLOV1Targets]):
    r"""Squared errors of boxes, confidences and class scores, weighted by 5, 1, 0.5 and 1.

    Convention:
        The responsible box of a cell has the highest IoU with the cell's object, both without the
        offset of the cell; if all IoUs are zero, it is the box at the smallest root mean square
        distance. 'darknet': half of each squared error, so that minus the gradient is darknet's
        delta (the paper has no half); the confidence target of the responsible box is its current
        IoU (``rescore``), of every other box 0. 'summary': whole squared errors, confidence
        target 1; see :mod:`~mmdet_losses.detectors.yolo.summary`. Cells
        without an object in ignored regions have no confidence term. Sums over the batch; darknet
        divides by the batch size in its learning rate, ``normalizer='images'`` divides here.
        Both programs called darknet compute the same.

    Args:
        coord_scale, object_scale, no_object_scale, class_scale: weights.
        rescore: see above; with False the target is 1.
        square_root: the size outputs are square roots, and are compared as such.
        softmax: class scores pass a softmax first; darknet's delta is then that of cross-entropy.
        forced: the responsible box is the second one for objects below 0.1 of the image and the
            first one for all others, whatever the IoU.
        random: the responsible box is drawn during the first 64,000 images.
        convention: see above.
        normalizer: 'nothing' or 'images'.
        class_weight: factors of the class costs of each class.

    The weight of an object multiplies its box, confidence and class costs.

    Raises:
        ValueError: an unknown choice.

    Reference:
        Redmon et al., *You Only Look Once*, 2016, eq. 3; darknet's [detection] layer.
    """

    def __init__(
        self,
        coord_scale: float = 5.0,
        object_scale: float = 1.0,
        no_object_scale: float = 0.5,
        class_scale: float = 1.0,
        rescore: bool = True,
        square_root: bool = True,
        softmax: bool = False,
        forced: bool = False,
        random: bool = False,
        convention: Literal['darknet', 'summary'] = 'darknet',
        normalizer: Literal['nothing', 'images'] = 'nothing',
        init_cfg: dict | None = None,
        class_weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__(init_cfg, class_weight)
        check_choice('convention', convention, ('darknet', 'summary'))
        check_choice('normalizer', normalizer, ('nothing', 'images'))
        self.coord_scale, self.class_scale = coord_scale, class_scale
        self.object_scale, self.no_object_scale = object_scale, no_object_scale
        self.rescore = rescore and convention == 'darknet'
        self.square_root, self.softmax = square_root, softmax
        self.forced, self.random = forced, random
        self.half = 0.5 if convention == 'darknet' else 1.0
        self.normalizer = normalizer

    def forward(self, outputs: YOLOV1Outputs, targets: YOLOV1Targets) -> dict[str, Tensor]:
        """Returns ``loss_xy, loss_wh, loss_obj, loss_noobj, loss_cls``."""
        self.count_images(len(outputs.cls))
        cls, conf, box = (promote(each) for each in outputs)
        with torch.no_grad():
            responsible, iou = self._responsible(box, targets)
            wanted = iou if self.rescore else torch.ones_like(iou)
        goal_wh = targets.box[:, 2:].sqrt() if self.square_root else targets.box[:, 2:]
        goal = torch.cat((targets.box[:, :2], goal_wh), 1)[:, None]
        off = torch.where(responsible[:, :, None], box - goal, 0).square()
        found = (conf - wanted).square()
        if targets.weights is not None:
            own = targets.weights[:, None]
            off, found = off * own[:, :, None], found * own
        negative = ~responsible
        if targets.hidden is not None:
            negative = negative & (targets.mask | ~targets.hidden)[:, None]
        squares = {
            'loss_xy': self.coord_scale * off[:, :, :2].sum(),
            'loss_wh': self.coord_scale * off[:, :, 2:].sum(),
            'loss_obj': self.object_scale * masked_sum(found, responsible),
            'loss_noobj': self.no_object_scale * masked_sum(conf.square(), negative),
            'loss_cls': self.class_scale * self._classes(cls, targets),
        }
        divisor = len(cls) if self.normalizer == 'images' else 1
        return {name: self.half / divisor * term for name, term in squares.items()}

    def _classes(self, cls: Tensor, targets: YOLOV1Targets) -> Tensor:
        classes = torch.arange(cls.shape[1], device=cls.device)[:, None, None]
        own = (targets.labels[:, None] == classes).to(cls)
        cost = -2 * own * cls.log_softmax(1) if self.softmax else (cls - own).square()
        weights = self.weights(cls.shape[1])
        if weights is not None:
            cost = cost * weights[:, None, None]
        if targets.weights is not None:
            cost = cost * targets.weights[:, None]
        return masked_sum(cost, targets.mask[:, None])

    def _responsible(self, box: Tensor, targets: YOLOV1Targets) -> tuple[Tensor, Tensor]:
        """The responsible box of each cell, (B, A, S, S) bool, and the IoU of every box."""
        height, width = targets.mask.shape[-2:]
        cells = constant([width, height], box)
        size = box[:, :, 2:].square() if self.square_root else box[:, :, 2:]
        pred = torch.cat((box[:, :, :2], size), 2).movedim(2, -1)
        pred = torch.cat((pred[..., :2] / cells, pred[..., 2:]), -1)
        goal = targets.box.movedim(1, -1)[:, None].to(pred)
        goal = torch.cat((goal[..., :2] / cells, goal[..., 2:]), -1)
        iou = darknet_iou(pred, goal)
        distance = (pred - goal).square().sum(-1).sqrt()
        best, nearest = iou.argmax(1, keepdim=True), distance.argmin(1, keepdim=True)
        chosen = torch.where(iou.amax(1, keepdim=True) > 0, best, nearest)
        if self.forced:
            chosen = (targets.box[:, 2:].prod(1, keepdim=True) < FORCED_AREA).long()
        if self.random:
            drawn = torch.randint_like(chosen, box.shape[1])
            chosen = torch.where(self.seen < RANDOM_IMAGES, drawn, chosen)
        boxes = torch.arange(box.shape[1], device=box.device)[:, None, None]
        return (boxes == chosen) & targets.mask[:, None], iou
