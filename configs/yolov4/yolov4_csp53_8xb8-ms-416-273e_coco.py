# YOLOv4, CSPDarknet-53, COCO, trained as at 608, tested at 416.
# Target: 41.2 AP (62.8 AP50) on test-dev at 416 (darknet's README).
_base_ = './yolov4_csp53_8xb8-ms-608-273e_coco.py'

size = 416

test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='DarknetResize', size=(size, size)),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
