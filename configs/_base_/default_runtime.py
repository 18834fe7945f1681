_base_ = 'mmdet::_base_/default_runtime.py'

custom_imports = dict(imports=['mmdet_losses'], allow_failed_imports=False)
# draws keypoints, and boxes of negative size, which untrained centre detectors predict
visualizer = dict(type='KeypointVisualizer')
