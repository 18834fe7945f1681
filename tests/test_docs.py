"""The documentation has a page for every component, and its quotes are in the code.

Links and anchors are checked by `make docs`, which fails on any warning.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from docs import (
    detector_guide,
    docstrings,
    landscape,
    landscape_panels,
    loss_pages,
    pages,
    places,
    proof,
)
from mmdet_losses import losses
from mmdet_losses.detectors.checkpoints import LAYOUTS
from mmdet_losses.registry import MODELS
from tools.list_components import components

ROOT = Path(__file__).resolve().parents[1]
TERMS = sorted(name for name in losses.__all__ if name.endswith('Loss'))
CRITERIA = sorted({each.name for each in loss_pages.losses()} - set(TERMS))


@pytest.mark.parametrize('name', TERMS)
def test_a_term_has_formula_shape_convention_plot_arguments_and_config(name):
    text = loss_pages.loss_page(name)
    assert re.search(r'\$[^$]+\$', text), 'no formula'
    for part in ('**Shape**', '**Convention**', '## Arguments', '## In a config', f'{name}.svg'):
        assert part in text
    assert ':func:' not in text and ':class:' not in text and ':math:' not in text


@pytest.mark.parametrize('name', CRITERIA)
def test_a_criterion_has_convention_arguments_and_config(name):
    text = loss_pages.loss_page(name)
    for part in ('Convention', '## Arguments', '## In a config', f"type='{name}'"):
        assert part in text
    assert '## Terms' in text or f'{name}.svg' in text
    assert ':func:' not in text and ':class:' not in text and ':math:' not in text


@pytest.mark.parametrize('name', TERMS)
def test_the_config_on_a_page_builds_the_term(name, tmp_path):
    _, text = places.snippet(name)
    base, key, _ = places.place(name)
    folder = ROOT / 'configs' / base
    path = tmp_path / 'config.py'
    path.write_text(text.replace("'./", f"'{folder}/"))
    head = Config.fromfile(path).model.bbox_head
    term = (head if '::' in base else head.criterion)[key]
    assert type(MODELS.build(term)).__name__ == name


def test_a_place_comes_from_the_configs_or_from_a_term_with_the_same_inputs(monkeypatch):
    assert places.place('SigmoidFocalLoss').base == 'retinanet'
    assert places.place('HeatmapMSELoss')[:2] == places.place('PenaltyReducedFocalLoss')[:2]
    monkeypatch.setattr(places, 'LOSSES', {})
    with pytest.raises(LookupError, match='add one to configs/'):
        places.place.__wrapped__('HeatmapMSELoss')


@pytest.mark.parametrize('name', ['MaskedL1Loss', 'PenaltyReducedFocalLoss'])
def test_a_term_without_its_own_panel_is_drawn_with_its_case(name):
    (panel,) = landscape_panels.case_panels(name)
    for _, cost in panel.lines.values():
        values, slope = landscape.curves(cost, panel.x)
        assert values.std() > 0 and slope.abs().max() > 0


@pytest.mark.parametrize(
    ('name', 'panel', 'pairs'),
    [
        (
            'YOLOV3Loss',
            0,
            {'object': 'object, MMDetection', 'background': 'background, MMDetection'},
        ),
        (
            'HardNegativeCrossEntropyLoss',
            0,
            {'HardNegativeCrossEntropyLoss': 'MMDetection SSDHead'},
        ),
        ('HardNegativeCrossEntropyLoss', 1, {'the three hardest count': 'MMDetection SSDHead'}),
    ],
)
def test_objectness_and_mined_costs_equal_those_of_mmdetections_heads(name, panel, pairs):
    lines = landscape_panels.panels()[name]()[panel].lines
    x = torch.linspace(-3.5, 4.5, 5)  # no tie between the costs of two priors
    for ours, theirs in pairs.items():
        for one, two in zip(*(landscape.curves(lines[key][1], x) for key in (ours, theirs))):
            assert torch.allclose(one, two, atol=1e-4) and one.std() > 0


def test_the_legend_has_one_entry_for_mmdetection_and_covers_no_curve():
    figure = landscape.draw([landscape_panels.FOCAL._replace(x=torch.linspace(-1, 1, 3))])
    legend = figure.axes[0].get_legend()
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ['object', 'background', 'MMDetection']
    figure.draw_without_rendering()
    assert not any(legend.get_window_extent().overlaps(axes.bbox) for axes in figure.axes)


def test_numbers_of_a_config_are_on_one_line():
    assert docstrings.compact('balance=(\n    4.0,\n    1.0,\n), k=[\n    -2,\n]') == (
        'balance=(4.0, 1.0), k=[-2]'
    )


def test_every_golden_array_is_counted_for_one_detector():
    assert proof.detector_of('cornernet_squeeze models') == 'CornerNet-Squeeze'
    assert proof.detector_of('darknet_decode v2 boxes') == 'YOLOv2'
    with pytest.raises(ValueError, match='DETECTORS'):
        proof.detector_of('unknown')


def test_every_detector_has_a_page():
    assert len(pages.detectors()) == 14
    text = pages.detector_page('yolov2')
    for part in (
        '## Measured',
        '## Train and test',
        '## YOLOV2TargetEncoder',
        'DarknetTargetEncod',
    ):
        assert part in text


def test_every_detector_has_a_card_and_a_row_of_the_decision_table():
    folders = pages.detectors()
    assert sorted(detector_guide.CHOICES) == sorted(folders)
    assert sorted(folder for _, folder, _ in detector_guide.NEEDS) == sorted(folders)
    index, guide = detector_guide.detector_index(), detector_guide.guide_page()
    assert '<!--' not in guide
    for folder, choice in detector_guide.CHOICES.items():
        for text in (index, guide):
            assert detector_guide.published(folder) in text
            assert detector_guide.small_result(folder) in text
        assert f'images/{folder}.jpg' in index
        assert (ROOT / 'configs' / folder / f'{choice.recipe}.py').is_file()


def test_a_recipe_without_a_published_result_is_not_quoted(monkeypatch):
    choice = detector_guide.CHOICES['yolov4']._replace(recipe='yolov4-tiny-3l_8xb8-608-273e_coco')
    monkeypatch.setitem(detector_guide.CHOICES, 'yolov4', choice)
    with pytest.raises(ValueError, match='quote another recipe'):
        detector_guide.published('yolov4')


def test_a_formula_in_a_cell_does_not_end_the_cell():
    assert docstrings.cell('the sum of :math:`|a| b`') == r'the sum of $\vert{}a\vert{} b$'
    assert docstrings.cell('a canvas of (h | 127)') == r'a canvas of (h \| 127)'
    assert not re.search(r'\$[^$|\n]*\|[^\n]*\$', loss_pages.loss_index())


def test_code_on_the_pages_fits_the_column():
    texts = [ROOT / 'README.md', *ROOT.glob('docs/**/*.md'), *ROOT.glob('configs/*/README.md')]
    long = [
        f'{path.name}: {line}'
        for path in texts
        for code in re.findall(r'^```(?:sh|python)\n(.*?)^```', path.read_text(), re.S | re.M)
        for line in code.split('\n')
        if len(line) > 100
    ]
    assert len(texts) > 30 and not long


def test_every_component_is_listed():
    text = pages.component_page()
    missing = [each.name for each in components() if f'`{each.name}`' not in text]
    assert not missing


def test_every_family_of_checkpoints_is_listed():
    text = pages.checkpoint_page()
    missing = [name for name in LAYOUTS if f'| `{name}` |' not in text]
    assert not missing


def test_drawing_a_plot_twice_gives_the_same_file():
    one, two = (landscape.svg('MaskedL1Loss') for _ in range(2))
    assert one == two and b'MMDetection L1Loss' in one


def test_links_out_of_the_folder_become_pages():
    pytest.importorskip('mkdocs')
    pytest.importorskip('latex2mathml')
    from docs import hooks

    site = hooks.Site({'losses/X.md': 'docs/losses/X.md', 'index.md': 'README.md'})
    text = (
        '[a](../README.md#speed) [b](../configs/ssd/ssd_digits.py) [c](https://x.y) [d](no.md)'
        '\n```\n[e](../README.md)\n```\n- f\n  ```\n  g\n  ```\n[h](../README.md)\n'
    )
    assert site.relink(text, 'docs/zoo.md', 'zoo.md') == (
        '[a](index.md#speed) [b](source/configs/ssd/ssd_digits.py.md) [c](https://x.y) '
        '[d](no.md)\n```\n[e](../README.md)\n```\n- f\n  ```\n  g\n  ```\n[h](index.md)\n'
    )
    assert list(site.wanted.values()) == ['configs/ssd/ssd_digits.py']
    assert hooks.layout_cells('<td><code>a_b.c</code></td><td>0.5 ± 0.1</td><code>a_b</code>') == (
        '<td><code>a_<wbr>b.<wbr>c</code></td><td class="number">0.5 ± 0.1</td><code>a_b</code>'
    )


FOREIGN = {
    "No module named 'mmcv._ext'", 'libGL.so.1: cannot open shared object file',
    'is already registered in', 'is not in the ... registry', 'can not be found',
    'Weights only load failed', 'address already in use', 'MMCV==... is used but incompatible',
    'Expected to have finished reduction in the prior iteration',
}  # fmt: skip
"""Messages of torch, MMEngine, MMCV and the system."""


def test_quoted_messages_are_in_the_code():
    sources = [*ROOT.glob('mmdet_losses/**/*.py'), *ROOT.glob('tools/*.py')]
    code = ' '.join(path.read_text(encoding='utf-8') for path in sources)
    code = re.sub(r"""['"]\s*\n\s*f?['"]""", '', code)  # strings that continue in the next line
    quoted = re.findall(
        r'^\| (`.+?`(?:, `.+?`)*)',
        (ROOT / 'docs' / 'troubleshooting.md').read_text(encoding='utf-8'),
        re.MULTILINE,
    )
    messages = [each for cell in quoted for each in re.findall('`(.+?)`', cell)]
    assert len(messages) > 50
    wrong = [
        message
        for message in messages
        if message not in FOREIGN
        and not all(part.strip(' ,') in code for part in message.split('...'))
    ]
    assert not wrong


def test_the_notebook_is_kept_without_outputs():
    cells = json.loads((ROOT / 'docs/tutorial.ipynb').read_text())['cells']
    kept = [cell for cell in cells if cell.get('outputs') or cell.get('execution_count')]
    assert cells and not kept
