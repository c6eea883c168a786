"""Real tumours, where FETAL_SEG_BUSI names BUSI's folder.

No mask is changed, copies stay together, oddities are named.
"""
import os
from pathlib import Path
import numpy as np, pytest
from PIL import Image
from scipy import ndimage
from fetal_seg.copies import copy_groups
from fetal_seg.preprocess import case_path, prepare, read_mask
from fetal_seg.verify import verify

pytestmark = pytest.mark.data('FETAL_SEG_BUSI')
FULL = (256, 256)

@pytest.fixture(scope='module')
def busi():
    folder = os.environ.get('FETAL_SEG_BUSI')
    return Path(folder) if folder and Path(folder).is_dir() else pytest.skip(
        'FETAL_SEG_BUSI names no folder')

@pytest.fixture(scope='module')
def prepared(busi, tmp_path_factory):
    out = tmp_path_factory.mktemp('busi')/'prepared'
    with pytest.warns(UserWarning, match='near duplicates of others, and stay with them'):
        cases = prepare(busi, out, size=FULL, mode='letterbox', fractions=(0.7, 0.15, 0.15),
                        workers=2)
    return out, cases

def as_drawn(busi, case):
    "The union of a case's mask files, read without the library."
    files = [Path(busi)/f for f in case.annotation.split('|')]
    return np.any([np.asarray(Image.open(f).convert('L')) > 0 for f in files], 0), len(files)

def test_no_mask_is_changed_and_regions_stay_several(busi, prepared):
    out, cases = prepared
    masks = [f for f in busi.rglob('*.png') if '_mask' in f.stem]
    assert len(cases) == len([f for f in masks if f.stem.endswith('_mask')])
    changed, several = 0, 0
    for r in cases.itertuples():
        want, n = as_drawn(busi, r)
        got = read_mask(case_path(out, r, 'full_masks')) > 0
        changed += int((got != want).sum()) > 0
        several += n > 1 and ndimage.label(got, np.ones((3,3)))[1] > 1
    assert changed == 0 and several >= 1
    assert sum('|' in a for a in cases.annotation) >= several
    assert set(cases.method) == {'filled', 'empty'} and set(
        cases.label[cases.method == 'empty']) == {'normal'}

def test_no_copies_straddle_a_split(prepared):
    out, cases = prepared
    groups = cases.assign(group=copy_groups(list(cases['look']))).groupby('group').split.nunique()
    assert (groups == 1).all() and cases.groupby('exam').split.nunique().max() == 1
    assert (cases.exam_source == 'copies').sum() > 50

def test_verify_names_what_is_odd(prepared):
    out, cases = prepared
    v = verify(out, workers=2)
    found = set(v.findings.check)
    assert {'no_region', 'exams_of_copies', 'copies_differ',
            'near_duplicate_in_two_classes'} <= found
    assert not {
        'hollow_mask', 'mask_values', 'unreadable', 'shape_mismatch', 'empty_mask', 'masks_differ',
        'odd_size', 'same_annotation'
    } & found
    assert not [c for c in found if 'in_two_splits' in c]
