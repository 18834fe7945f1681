_base_ = 'mmdet::_base_/default_runtime.py'

custom_imports = dict(imports=['mmdet_losses'], allow_failed_imports=False)
# draws keypoints, and boxes of negative size, which untrained centre detectors predict
visualizer = dict(type='KeypointVisualizer')
# a checkpoint of Hourglass-104 with its optimizer takes 2.3 GB
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
