# YOLOv3, Darknet-53, COCO, trained at 320 to 608, tested at 320.
# Target: 28.2 AP at 320 (abstract of the paper, COCO); MMDetection has 27.9 on val2017.
_base_ = './yolov3_d53_8xb8-ms-608-273e_coco.py'

size = 320

test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='DarknetLetterBox', size=(size, size)),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'border'),
    ),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
