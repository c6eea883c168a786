"What holds for every input: geometry, splits, metrics, tables. Drawn by hypothesis, seeded."
import math, os
from pathlib import Path
import hypothesis.extra.numpy as hnp
import numpy as np, pandas as pd, pytest
from hypothesis import HealthCheck, assume, given, settings, strategies as st
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist
from fetal_seg.core import (InputError, guard, inside, plain, read_json, to_csv, unguard, unit_hash,
                            write_json, write_text)
from fetal_seg.data import SPLITS, fold_cases, split_cases, torn_exams
from fetal_seg.geometry import (compose, dice, edge_points, fit_affine, fit_ellipse, in_ellipse,
                                invert, warp, warp_mask)
from fetal_seg.metrics import bootstrap_mean, score, score_surface
from fetal_seg.predict import postprocess
from fetal_seg.schema import Record, Row, Unknown, read_record, read_rows

settings.register_profile('ours', derandomize=True, deadline=None, max_examples=60, database=None,
                          suppress_health_check=list(HealthCheck))
settings.load_profile('ours')

near = lambda a, b, tol=1e-9: np.testing.assert_allclose(a, b, rtol=tol, atol=tol)
sides = st.integers(8, 60)
shapes = st.tuples(sides, sides)
modes = st.sampled_from(['auto', 'crop', 'letterbox', 'stretch'])

def masks(h=12, w=14): return hnp.arrays(bool, (h, w))

@st.composite
def ellipses(draw, shape=(90, 110)):
    "(row, column, semi-major, semi-minor axis, angle), wholly in the picture."
    b = draw(st.floats(8, 25))
    a = draw(st.floats(b + 1, 38))
    row, col = draw(st.floats(40, shape[0]-41)), draw(st.floats(40, shape[1]-41))
    return row, col, a, b, draw(st.floats(0, math.pi, exclude_max=True))

# Geometry

@given(shapes, shapes, modes)
def test_an_affine_and_its_inverse_cancel(shape, size, mode):
    a = fit_affine(shape, size, mode)
    near(compose(a, invert(a)), (1, 1, 0, 0))
    near(compose(invert(a), a), (1, 1, 0, 0))
    near(invert(invert(a)), a)

@given(*[st.tuples(st.floats(0.1, 9), st.floats(0.1, 9), st.floats(-99, 99), st.floats(-99, 99))]*3)
def test_affines_compose_in_any_grouping(a, b, c):
    near(compose(compose(a, b), c), compose(a, compose(b, c)), 1e-6)
    x = 7.3
    near(compose(a, b)[0]*x + compose(a, b)[2], a[0]*(b[0]*x + b[2]) + a[2], 1e-9)

@given(shapes, shapes, st.sampled_from(['letterbox', 'stretch']))
def test_the_middle_stays_the_middle(shape, size, mode):
    sr, sc, r, c = fit_affine(shape, size, mode)
    near((sr*size[0]/2 + r, sc*size[1]/2 + c), (shape[0]/2, shape[1]/2))
    if mode == 'letterbox':   # nothing is cut off
        assert sr == sc and r <= 1e-9 and c <= 1e-9

@given(ellipses(), st.integers(80, 200), st.integers(90, 220),
       st.sampled_from(['letterbox', 'stretch']))
def test_a_mask_to_the_canvas_and_back_keeps_its_dice(e, h, w, mode):
    mask = in_ellipse(e, (90, 110)).astype(np.uint8)
    a = fit_affine(mask.shape, (h, w), mode)
    there = warp_mask(mask, a, (h, w))
    back = warp_mask(there, invert(a), mask.shape)
    assert dice(mask, back) > 0.95
    near(there.sum()*a[0]*a[1], mask.sum(), 0.1)

@given(hnp.arrays(np.uint8, (9, 11)), st.integers(-5, 5), st.integers(-5, 5))
def test_a_shift_and_its_way_back_give_the_same_pixels(img, r, c):
    a = (1., 1., float(r), float(c))
    there = warp(img, a, (30, 30))
    assert there.dtype == img.dtype and there.shape == (30, 30)
    if r <= 0 and c <= 0: assert (warp(there, invert(a), img.shape) == img).all()

@given(ellipses())
def test_the_ellipse_through_a_drawn_ellipse_is_that_ellipse(e):
    row, col, a, b, angle = fit_ellipse(edge_points(in_ellipse(e, (90, 110))))
    assert max(abs(row-e[0]), abs(col-e[1]), abs(a-e[2]), abs(b-e[3])) < 0.6
    if e[2] > 1.2*e[3]:
        turn = abs(angle - e[4]) % math.pi
        assert min(turn, math.pi - turn) < 0.1

# Splits

names = st.lists(st.integers(0, 10**6), min_size=45, max_size=90)

def table(exams):
    return pd.DataFrame(dict(case=[f'c{i}' for i in range(len(exams))],
                             exam=[f'e{e}' for e in exams], area=[(e % 97)/97 for e in exams]))

@given(names, st.integers(0, 99), st.sampled_from(['hash', 'area']))
def test_no_exam_lies_in_two_splits(exams, seed, how):
    cases = table([*exams, *exams[:20]])   # the first twenty exams have two pictures each
    assume(cases.exam.nunique() >= 20)
    s = split_cases(cases, (0.6, 0.2, 0.2), seed, how)
    assert set(s.split) == set(SPLITS) and not len(torn_exams(s))
    f = fold_cases(cases, 5, seed, how)
    assert set(f.fold) == set(range(5)) and not len(torn_exams(f, 'fold'))

@given(names, st.integers(0, 99), st.sampled_from(['hash', 'area']),
       st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(exams, seed, how, r):
    cases = table(exams)
    assume(cases.exam.nunique() >= 20)
    order = list(range(len(cases)))
    r.shuffle(order)
    for deal in (lambda c: split_cases(c, (0.6, 0.2, 0.2), seed, how).set_index('case').split,
                 lambda c: fold_cases(c, 4, seed, how).set_index('case').fold):
        assert deal(cases).to_dict() == deal(cases.iloc[order]).to_dict()

def all_splits(exams, fractions, seed):
    "Does the hash alone leave no split empty?"
    at = np.searchsorted(np.cumsum(fractions)[:2], [unit_hash(e, seed) for e in exams], 'right')
    return len(set(at)) == 3

@given(names, st.integers(0, 99), st.integers(0, 10**6))
def test_a_new_case_moves_no_other_case(exams, seed, new):
    few, fractions = table(exams), (0.6, 0.2, 0.2)
    assume(all_splits(set(few.exam), fractions, seed))   # else the nearest exam fills the empty one
    more = table([*exams, new])
    before = split_cases(few, fractions, seed).set_index('case').split
    after = split_cases(more, fractions, seed).set_index('case').split
    assert (after[before.index] == before).all()

@given(st.integers(0, 10**6), st.floats(0.1, 0.8))
def test_shares_are_about_what_was_asked_for(seed, train):
    cases = table(range(1000))
    rest = (1 - train)/2
    s = split_cases(cases, (train, rest, 1 - train - rest), seed).split
    assert abs((s == 'train').mean() - train) < 0.08   # five standard deviations

# Metrics

@given(masks(), masks())
def test_dice_is_symmetric_and_a_share(a, b):
    d = score(a, b)
    assert d['dice'] == score(b, a)['dice'] == dice(a, b) and 0 <= d['dice'] <= 1
    near(d['iou'], d['dice']/(2 - d['dice']))
    assert d['precision'] == score(b, a)['recall']
    assert score(a, a)['dice'] == 1
    assert d['tp'] + d['fp'] == a.sum() and d['tp'] + d['fn'] == b.sum()

def brute(a, b, percent):
    "HD and its percentile, over the pixels with a neighbour outside, by all pairs."
    edge = [np.argwhere(m & ~binary_erosion(np.pad(m, 1))[1:-1, 1:-1]) for m in (a, b)]
    d = cdist(*edge)
    return max(np.percentile(d.min(1), percent), np.percentile(d.min(0), percent))

@given(masks(), masks())
def test_boundary_distances_are_those_of_all_pairs(a, b):
    assume(a.any() and b.any())
    s = score_surface(a, b)
    near([s['hd'], s['hd95']], [brute(a, b, 100), brute(a, b, 95)])

@given(masks(), masks(), st.integers(0, 6), st.integers(0, 6))
def test_boundary_distances_do_not_care_where_and_which_way(a, b, r, c):
    s = score_surface(a, b)
    for k in ('hd', 'hd95', 'assd', 'nsd'):
        near(score_surface(b, a)[k], s[k])
        near(score_surface(a[::-1], b[::-1])[k], s[k])
        near(score_surface(a[:, ::-1], b[:, ::-1])[k], s[k])
        near(score_surface(a.T, b.T)[k], s[k])
    assert s['hd'] >= s['hd95'] >= 0 and 0 <= s['nsd'] <= 1
    if a.any() and b.any():
        moved = [np.pad(m, ((r, 6-r), (c, 6-c))) for m in (a, b)]
        fixed = [np.pad(m, ((3, 3), (3, 3))) for m in (a, b)]
        near(score_surface(*moved)['hd95'], score_surface(*fixed)['hd95'])

@given(masks())
def test_equal_masks_are_at_no_distance(a):
    s = score_surface(a, a)
    assert (s['hd'], s['hd95'], s['assd'], s['nsd']) == (0, 0, 0, 1)

@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9)), min_size=4, max_size=40),
       st.sampled_from(['t', 'percentile']), st.integers(0, 9))
def test_an_interval_holds_its_mean(values, method, seed):
    v, e = map(np.array, zip(*values))
    assume(len(set(e)) >= 4)
    low, high = bootstrap_mean(v, e, n=300, seed=seed, method=method)
    assert 0 <= low <= v.mean() + 1e-9 and v.mean() - 1e-9 <= high <= 1
    wide = bootstrap_mean(v, e, n=300, level=0.99, seed=seed, method=method)
    assert wide[0] <= low + 1e-9 and high <= wide[1] + 1e-9
    near(bootstrap_mean(v + 2, e, n=300, seed=seed, method=method), (low + 2, high + 2), 1e-6)

# After the threshold

@given(hnp.arrays(bool, (24, 30)), st.sampled_from(['largest', 'fill', 'specks:0.01', 'roundest',
                                                    'sure:0.5']), st.integers(0, 9))
def test_a_step_done_twice_is_done_once(mask, step, seed):
    heat = np.random.default_rng(seed).random(mask.shape).astype(np.float32)
    once = postprocess(mask, (step,), heat)
    assert (postprocess(once, (step,), heat) == once).all()
    assert set(np.unique(once)) <= {0, 1}
    if step == 'fill': assert (once >= mask).all()
    else: assert (once <= mask).all()

# Tables and records

cells = st.text(st.characters(exclude_categories=['Cs'], exclude_characters='\0'), max_size=12)
numbers = st.floats(allow_nan=False, allow_infinity=False)

class Line(Row):
    name:str
    value:Unknown

@given(st.lists(st.tuples(cells, st.none() | numbers), min_size=1, max_size=8))
def test_a_table_is_read_as_it_was_written(rows):
    df = pd.DataFrame(rows, columns=['name', 'value']).astype(dict(name=object, value=float))
    path = scratch/'t.csv'
    write_text_exact(path, to_csv(df))
    try:
        back = read_rows(path, Line, dtype=dict(name=str), keep_default_na=False,
                         na_values=dict(value=['']), float_precision='round_trip')
    except InputError as e:
        # a lone line feed of Windows is no letter that a table can keep: say so, do not lose it
        assert any(c in n for n, _ in rows for c in '\r\n'), e
        return
    assert [unguard(n) for n in back.name] == [n for n, _ in rows]
    np.testing.assert_array_equal(back.value, df.value)

def write_text_exact(path, text):
    with open(path, 'w', encoding='utf-8', newline='') as f: f.write(text)

quoted = st.text("'=+-@\t\r a", max_size=6)

@given(cells | quoted)
def test_a_guarded_text_is_no_formula_and_comes_back(text):
    g = guard(text)
    assert unguard(g) == text and g[:1] not in tuple('=+-@\t\r')

trees = st.recursive(st.none() | st.booleans() | st.integers(-2**53, 2**53) | numbers | cells,
                     lambda o: st.lists(o, max_size=4) | st.dictionaries(cells, o, max_size=4),
                     max_leaves=12)

@given(st.dictionaries(cells, trees, max_size=5))
def test_a_record_is_read_as_it_was_written(doc):
    path = scratch/'r.json'
    write_json(path, doc)
    assert read_record(path, Record) == doc == read_json(path) == plain(doc)

steps = st.lists(st.sampled_from(['..', '.', 'a', 'b', '', '~', 'link', 'a\0', '/']), max_size=6)

@given(steps.map('/'.join) | cells)
def test_a_name_out_of_a_file_stays_in_its_folder(name):
    folder = scratch/'in'/'folder'
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder/'link').is_symlink(): (folder/'link').symlink_to('..')
    try: path = inside(folder, name)
    except InputError: return
    real = os.path.realpath(path)
    assert real == os.path.realpath(folder) or real.startswith(os.path.realpath(folder) + os.sep)
    assert '..' not in Path(path).relative_to(folder).parts

@pytest.fixture(autouse=True, scope='module')
def folder(tmp_path_factory):
    global scratch
    scratch = tmp_path_factory.mktemp('properties')
