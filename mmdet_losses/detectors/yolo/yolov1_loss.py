"""Criterion of YOLOv1."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mmdet_losses.core import DetectorLoss
from mmdet_losses.detectors.yolo.contracts import YOLOV1Outputs, YOLOV1Targets
from mmdet_losses.ops import check_choice, constant, darknet_iou, masked_sum, promote
from mmdet_losses.registry import MODELS


@MODELS.register_module()
class YOLOV1Loss(DetectorLoss[YOLOV1Outputs, YOLOV1Targets]):
    r"""Squared errors of boxes, confidences and class scores, weighted by 5, 1, 0.5 and 1.

    Redmon et al., *You Only Look Once*, eq. 3; darknet's [detection] layer.

    Convention:
        The responsible box of a cell has the highest IoU with its object (offsets of the cell
        left out on both sides); where all are zero, the smallest root mean square distance.
        'darknet': half of each squared error, so that minus the gradient is darknet's delta (the
        paper's sums have no half); the confidence of the responsible box is drawn to its current
        IoU (``rescore``), every other confidence to 0. 'notes': whole squared errors, confidence
        drawn to 1. Sums over the batch; darknet divides by the batch through its learning rate,
        ``normalizer='images'`` does it here.

    Args:
        coord_scale, object_scale, no_object_scale, class_scale: weights.
        rescore: see above; with False, or 'notes', the target is 1.
        square_root: sizes are compared as square roots, and the network says these.
        softmax: class scores pass a softmax first; darknet's delta is then its cross-entropy's.
        convention: see above.
        normalizer: 'nothing' or 'images'.

    Raises:
        ValueError: an unknown choice.
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
        convention: Literal['darknet', 'notes'] = 'darknet',
        normalizer: Literal['nothing', 'images'] = 'nothing',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_choice('convention', convention, ('darknet', 'notes'))
        check_choice('normalizer', normalizer, ('nothing', 'images'))
        self.coord_scale, self.class_scale = coord_scale, class_scale
        self.object_scale, self.no_object_scale = object_scale, no_object_scale
        self.rescore = rescore and convention == 'darknet'
        self.square_root, self.softmax = square_root, softmax
        self.half = 0.5 if convention == 'darknet' else 1.0
        self.normalizer = normalizer

    def forward(self, outputs: YOLOV1Outputs, targets: YOLOV1Targets) -> dict[str, Tensor]:
        """Returns ``loss_xy, loss_wh, loss_obj, loss_noobj, loss_cls``."""
        cls, conf, box = (promote(each) for each in outputs)
        with torch.no_grad():
            responsible, iou = self._responsible(box, targets)
            wanted = iou if self.rescore else torch.ones_like(iou)
        goal_wh = targets.box[:, 2:].sqrt() if self.square_root else targets.box[:, 2:]
        goal = torch.cat((targets.box[:, :2], goal_wh), 1)[:, None]
        off = torch.where(responsible[:, :, None], box - goal, 0).square()
        classes = torch.arange(cls.shape[1], device=cls.device)[:, None, None]
        own = (targets.labels[:, None] == classes).to(cls)
        scale = self.half / (len(cls) if self.normalizer == 'images' else 1)
        return {
            'loss_xy': scale * self.coord_scale * off[:, :, :2].sum(),
            'loss_wh': scale * self.coord_scale * off[:, :, 2:].sum(),
            'loss_obj': scale
            * self.object_scale
            * masked_sum((conf - wanted).square(), responsible),
            'loss_noobj': scale * self.no_object_scale * masked_sum(conf.square(), ~responsible),
            'loss_cls': scale * self.class_scale * self._classes(cls, own, targets.mask[:, None]),
        }

    def _classes(self, cls: Tensor, own: Tensor, mask: Tensor) -> Tensor:
        if not self.softmax:
            return masked_sum((cls - own).square(), mask)
        return 2 * masked_sum(-own * cls.log_softmax(1), mask)

    def _responsible(self, box: Tensor, targets: YOLOV1Targets) -> tuple[Tensor, Tensor]:
        """Which box answers for its cell's object, (B, A, S, S) bool, and the IoU of every box."""
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
        boxes = torch.arange(box.shape[1], device=box.device)[:, None, None]
        return (boxes == chosen) & targets.mask[:, None], iou
