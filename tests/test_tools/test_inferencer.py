"""Our detectors and checkpoints in MMDetection's inferencer, without an import of this package."""

import json


def test_det_inferencer_predicts_an_image(tools, trained):
    code = (
        'import json, sys\n'
        'from mmdet.apis import DetInferencer\n'
        'detector = DetInferencer(model=sys.argv[1], weights=sys.argv[2], device="cpu",\n'
        '                         show_progress=False)\n'
        'found = detector(sys.argv[3], no_save_vis=True, out_dir="")["predictions"][0]\n'
        'print("found", json.dumps({key: len(value) for key, value in found.items()}))\n'
    )
    image = next((tools.folder / 'data' / 'images').iterdir())
    done = tools.run('-c', code, tools.config, trained.work_dir / 'epoch_3.pth', image)
    assert done.status == 0, done.text[-2000:]
    [line] = [line for line in done.text.splitlines() if line.startswith('found ')]
    counts = json.loads(line.removeprefix('found '))
    assert counts['bboxes'] == counts['scores'] == counts['labels'] <= 20
