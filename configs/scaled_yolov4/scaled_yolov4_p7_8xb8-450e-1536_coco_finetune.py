# YOLOv4-P7, COCO, 1536: the second stage of the official training. It resumes the first stage
# at epoch 298 and trains to epoch 450 with stronger scaling and mixup (hyp.finetune.yaml).
_base_ = './scaled_yolov4_p7_8xb8-300e-1536_coco.py'

train_pipeline = _base_.train_pipeline
train_pipeline[0].update(scale=0.8, mixup=0.2)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

max_epochs = 450
train_cfg = dict(max_epochs=max_epochs)
load_from = 'work_dirs/scaled_yolov4_p7_8xb8-300e-1536_coco/epoch_298.pth'
resume = True
