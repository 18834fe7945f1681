# For the comparison with configs/baselines/mmdet_cornernet_digits.py: the head has the same widths
# and term weights. Training takes longer than ten minutes.
_base_ = './cornernet_digits.py'

model = dict(
    bbox_head=dict(
        predictor=dict(channels=256, pool_channels=128),
        # MMDetection divides the heatmap and offset terms by 2 instead
        criterion=dict(loss_embedding=dict(pull_weight=0.2, push_weight=0.2)),
    )
)
