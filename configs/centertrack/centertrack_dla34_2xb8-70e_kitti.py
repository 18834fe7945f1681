# CenterTrack, DLA-34, KITTI tracking in 2D, all training videos.
# Target: MOTA 89.44 on the test videos (from nuScenes weights), by KITTI's own evaluation of cars.
_base_ = './centertrack_dla34_2xb8-70e_kitti-half.py'

train_dataloader = dict(dataset=dict(ann_file='annotations/tracking_train.json'))
# the training images, to check that the training works
val_dataloader = dict(dataset=dict(ann_file='annotations/tracking_train.json'))
test_dataloader = val_dataloader
