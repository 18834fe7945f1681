# YOLOv4-tiny, fine-tuned from the official weights on a few hundred images. The child sets classes,
# anchors and input size.
_base_ = './yolov4_tiny_416.py'

model = dict(
    bbox_head=dict(
        encoder=dict(
            all_anchors=None,
            masks=None,
            iou_threshold=0.4,  # several anchors per object: more positives to learn from
            topk=1000,
        ),
        criterion=dict(gradient='autograd', iou_normalizer=4.0),
    ),
    test_cfg=dict(score_thr=0.005, max_per_img=100),
)
