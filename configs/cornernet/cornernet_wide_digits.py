# The network of configs/baselines/mmdet_cornernet_digits.py, beside which this stands: its head's
# widths, and its mix of terms. Training takes longer than ten minutes.
_base_ = './cornernet_digits.py'

model = dict(
    bbox_head=dict(
        predictor=dict(channels=256, pool_channels=128),
        # MMDetection halves the heatmaps' and the offsets' terms instead
        criterion=dict(loss_embedding=dict(pull_weight=0.2, push_weight=0.2)),
    )
)
