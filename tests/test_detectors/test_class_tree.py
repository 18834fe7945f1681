"""The tree of classes of YOLO9000 against loops over its groups."""

import math

import pytest
import torch
from mmengine.structures import InstanceData

from mmdet_losses.detectors.yolo import YOLOV2Loss, YOLOV2Outputs, YOLOV2TargetEncoder
from mmdet_losses.detectors.yolo.class_tree import ClassTree, parse_tree
from mmdet_losses.detectors.yolo.darknet_cfg import CfgError
from mmdet_losses.detectors.yolo.darknet_import import import_cfg
from tests.darknet_cfgs import REGION

PARENTS = [-1, -1, 0, 0, 0, 1, 1, 3, 3]
"""Two classes at the top, three and two below them, and two below class 3."""
TREE = ClassTree(PARENTS)
ANCHORS = [[(24.0, 40.0), (60.0, 30.0)]]
SIZE, H, W = (96, 160), 6, 8


def siblings(number):
    return [i for i, parent in enumerate(PARENTS) if parent == PARENTS[number]]


def conditional(row, number):
    """Softmax over the children of one class, as floats."""
    return math.exp(row[number]) / sum(math.exp(row[i]) for i in siblings(number))


def probability(row, number):
    own = conditional(row, number)
    return own if PARENTS[number] < 0 else own * probability(row, PARENTS[number])


def logits(*shape):
    return torch.randn(*shape, len(PARENTS), generator=torch.Generator().manual_seed(3)).double()


def test_probabilities_are_products_up_to_the_top():
    x = logits(5)
    want = [[probability(row, i) for i in range(len(PARENTS))] for row in x.tolist()]
    torch.testing.assert_close(TREE.log_probabilities(x).exp(), torch.tensor(want).double())


@pytest.mark.parametrize('threshold', [0.0, 0.2, 0.5, 1.0])
def test_the_deepest_class_equals_a_walk_from_the_top(threshold):
    x = 2 * logits(50)
    want = []
    for row in x.tolist():
        children, found = [i for i, parent in enumerate(PARENTS) if parent < 0], None
        while children:
            best = max(children, key=lambda i: conditional(row, i))
            if found is not None and probability(row, best) <= threshold:
                break
            found, children = best, [i for i, p in enumerate(PARENTS) if p == best]
            if probability(row, best) <= threshold:
                break
        want.append(found)
    assert TREE.deepest(TREE.log_probabilities(x), threshold).tolist() == want
    assert len(set(want)) > 1


@pytest.fixture(name='gt')
def _gt():
    boxes = torch.tensor([[10.0, 9.0, 58.5, 50.25], [70.0, 20.0, 139.0, 86.5]])
    return InstanceData(bboxes=boxes, labels=torch.tensor([8, 1]))


def test_the_class_delta_is_darknets(gt):
    """Of every group on the path to the label: one minus the score, and minus the others."""
    classes = len(PARENTS)
    x = torch.randn(1, 2 * (5 + classes), H, W, generator=torch.Generator().manual_seed(0))
    x = x.double().requires_grad_()
    targets = YOLOV2TargetEncoder(classes, ANCHORS, tree=PARENTS).encode([gt], [(H, W)], SIZE)
    loss = YOLOV2Loss(class_scale=2.0, tree=PARENTS)(YOLOV2Outputs((x,)), targets)['loss_cls']
    (grad,) = torch.autograd.grad(loss, x)
    want, total = torch.zeros_like(x), 0.0
    level = targets.levels[0]
    for anchor, slot in level.positive[0].nonzero().tolist():
        i, j = divmod(int(level.index[0, slot]), W)
        start = anchor * (5 + classes) + 5
        row = x[0, start : start + classes, i, j].tolist()
        number = int(gt.labels[slot])
        total -= 2 * math.log(probability(row, number))
        while number >= 0:
            for each in siblings(number):
                delta = (each == number) - conditional(row, each)
                want[0, start + each, i, j] = 2 * delta
            number = PARENTS[number]
    torch.testing.assert_close(-grad, want)
    torch.testing.assert_close(loss.item(), total)
    assert (want != 0).sum() == 2 + 3 + 2 + 2


def test_round_trip_with_and_without_a_map(gt):
    encoder = YOLOV2TargetEncoder(len(PARENTS), ANCHORS, tree=PARENTS)
    targets = encoder.encode([gt], [(H, W)], SIZE)
    (found,) = encoder.decode(encoder.ideal_outputs(targets), SIZE)
    found = found[found.scores > 0.5]
    deepest = found[found.labels == 8]
    torch.testing.assert_close(deepest.bboxes, gt.bboxes[:1], rtol=1e-4, atol=1e-3)
    assert set(found.labels.tolist()) <= {8, 1, 5, 6}  # below class 1 the ideal is undecided
    names = YOLOV2TargetEncoder(len(PARENTS), ANCHORS, tree=PARENTS, class_map=[1, 8])
    gt.labels = torch.tensor([1, 0])
    targets = names.encode([gt], [(H, W)], SIZE)
    assert targets.labels.tolist() == [[8, 1]]
    (found,) = names.decode(names.ideal_outputs(targets), SIZE)
    found = found[found.scores > 0.9]
    assert sorted(found.labels.tolist()) == [0, 1]
    torch.testing.assert_close(
        found.bboxes[found.labels.argsort(descending=True)], gt.bboxes, rtol=1e-4, atol=1e-3
    )


def test_wrong_trees_raise():
    with pytest.raises(ValueError, match='parent of class 1 is 2; give parents before'):
        ClassTree([-1, 2, -1])
    with pytest.raises(ValueError, match='do not follow each other'):
        ClassTree([-1, 0, -1])
    with pytest.raises(ValueError, match='tree has 9 classes, but num_classes is 3'):
        YOLOV2TargetEncoder(3, tree=PARENTS)
    with pytest.raises(ValueError, match='tree needs softmax=True'):
        YOLOV2Loss(background=True, tree=PARENTS)


def test_a_cfg_names_the_file_of_its_tree(tmp_path):
    (tmp_path / 'a.tree').write_text('animal -1\nthing -1\n')
    text = REGION.replace('random=1', 'tree=a.tree')
    head = import_cfg(text, folder=str(tmp_path)).parts['model']['bbox_head']
    assert head['encoder']['tree'] == head['criterion']['tree'] == [-1, -1]
    (tmp_path / 'a.tree').write_text('animal -1\nthing -1\ndog 0\n')
    with pytest.raises(CfgError, match=r'tree=a\.tree, .* the file has 3 classes; set classes'):
        import_cfg(text, folder=str(tmp_path))
    (tmp_path / 'a.tree').write_text('animal -1\nthing 5\n')
    with pytest.raises(CfgError, match='parent of class 1 is 5'):
        import_cfg(text, folder=str(tmp_path))
    assert parse_tree('one\ntwo 0\n\n') == [-1, 0]
