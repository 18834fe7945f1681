"""The option tables of the detectors' pages belong to the code."""

import pytest

from docs import options, pages
from tools.datasets.small_configs import small_configs

FOLDERS = list(small_configs())


@pytest.mark.parametrize('folder', FOLDERS)
def test_every_row_names_an_argument_or_a_reason(folder):
    rows = options.options(folder)  # raises for an argument that does not exist
    assert all(row.official and row.default for row in rows)
    assert len({(row.official, row.argument) for row in rows}) == len(rows)
    criteria = {row.argument for row in rows if row.argument}
    assert any(each.endswith('.class_weight') for each in criteria)
    assert any(each.endswith('.encode.ignored') for each in criteria)


def test_the_page_of_a_detector_has_its_table():
    page = pages.detector_page('ssd')
    assert options.table('ssd') in page
    assert '| neg_overlap (Caffe) | `SSDTargetEncoder.negative_iou` | `None` |' in page


def test_defaults_come_from_the_signatures():
    assert options.default('RetinaNetTargetEncoder.min_pos_iou') == '`0.0`'
    assert options.default('YOLOV4Loss.ignore_threshold') == '`0.7`'  # of its base class
    assert options.default('SSDTargetEncoder.num_classes') == 'required'
    for wrong in ('SSDTargetEncoder.no_such_option', 'NoSuchEncoder.option'):
        with pytest.raises(LookupError, match=r'correct docs/options\.py'):
            options.default(wrong)


def test_the_report_counts_yes_and_no():
    first, *tables = options.report()
    known, missing = (int(word) for word in first.split() if word.isdigit())
    rows = [line for text in tables for line in text.splitlines() if line.startswith('| ')]
    rows = [line for line in rows if not line.startswith('| official option')]
    assert known == sum('| no |' not in line for line in rows) > 100
    assert missing == sum('| no |' in line for line in rows) < known / 5


def test_a_row_without_its_argument_or_page_fails(monkeypatch):
    row = 'an option (nobody) = SSDTargetEncoder.renamed'
    tables = pages.options.PAGES
    monkeypatch.setitem(tables, 'ssd', f'{tables["ssd"]}{row}\n')
    with pytest.raises(LookupError, match='SSDTargetEncoder has no argument renamed'):
        pages.detector_page('ssd')
