# CenterNet (keypoint triplets) on digits: CornerNet's small network, with centres. It has twice the
# pools, so it trains one epoch less.
_base_ = '../cornernet/cornernet_digits.py'

model = dict(
    bbox_head=dict(
        predictor=dict(type='CenterNetTripletPredictor'),
        encoder=dict(type='CenterNetTripletTargetEncoder'),
        criterion=dict(type='CenterNetTripletLoss'),
    ),
)

max_epochs = 4
train_cfg = dict(max_epochs=max_epochs, val_interval=2, dynamic_intervals=None)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=max_epochs, T_max=max_epochs)
