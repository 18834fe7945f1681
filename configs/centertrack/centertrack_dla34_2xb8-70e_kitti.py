# CenterTrack, DLA-34, KITTI tracking in 2D, all training videos, from the weights of the 3D
# detector on nuScenes.
# Target: MOTA 89.44 of cars on the test videos with flip test, by KITTI's server; source: the
# official model zoo, kitti_fulltrain.
_base_ = './centertrack_dla34_2xb8-70e_kitti-half.py'

model = dict(flip_test=True)

train_dataloader = dict(dataset=dict(ann_file='annotations/tracking_train.json'))
# the training images, to check that the training works
val_dataloader = dict(dataset=dict(ann_file='annotations/tracking_train.json'))
test_dataloader = val_dataloader
