# YOLOv3-SPP: YOLOv3 with a pooling pyramid before the coarsest map, COCO.
# No target: the published results have no AP for it.
_base_ = './yolov3_d53_8xb8-ms-608-273e_coco.py'

model = dict(
    neck=dict(
        _delete_=True,
        type='SPPYOLOV3Neck',
        num_scales=3,
        in_channels=(1024, 512, 256),
        out_channels=(512, 256, 128),
        norm_cfg=dict(type='BN', eps=1e-5, momentum=0.01),  # darknet's
    )
)
