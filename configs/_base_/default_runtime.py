_base_ = 'mmdet::_base_/default_runtime.py'

custom_imports = dict(imports=['mmdet_losses'], allow_failed_imports=False)
# draws joints where there are any, and boxes of negative size, which fresh centre detectors predict
visualizer = dict(type='KeypointVisualizer')
