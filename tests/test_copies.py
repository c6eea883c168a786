"""Near duplicates: found again after what happens to pictures, kept on one side of a split,
found by verify; and the real ones (FETAL_SEG_BUSI).
"""
import io, os, time, tracemalloc, warnings
from pathlib import Path
import numpy as np, pandas as pd, pytest
from PIL import Image, ImageDraw
from fetal_seg.copies import DIGITS, copy_groups, get_limits, get_views, look
from fetal_seg.data import add_exams, fold_cases, split_cases
from fetal_seg.phantom import simulate

def jpeg(img, rng):
    f = io.BytesIO()
    Image.fromarray(img).save(f, 'JPEG', quality=25)
    return np.asarray(Image.open(f))
def smaller(img, rng):
    return np.asarray(
        Image.fromarray(img).resize((int(0.9*img.shape[1]), int(0.9*img.shape[0])),
                                    Image.Resampling.BILINEAR))
def gain(img, rng): return np.clip(1.25*img.astype(float) + 8, 0, 255).astype(np.uint8)
def gamma(img, rng): return (255*(img/255)**0.75).astype(np.uint8)
def cut(img, rng):
    t, b, l, r = (rng.uniform(0, 0.02, 4)*np.repeat(img.shape, 2)).astype(int)
    return img[t:img.shape[0] - b, l:img.shape[1] - r]
def mirrored(img, rng): return img[:,::-1]
def written_on(img, rng):
    im, (h, w) = Image.fromarray(img), img.shape
    pen, (x, y) = ImageDraw.Draw(im), rng.uniform(0.2, 0.6, 2)*(w, h)
    pen.text((0.05*w, 0.88*h), 'RT BREAST', fill=255)
    pen.line((x, y, x + 0.25*w, y + 0.2*h), fill=255, width=1)
    for dx, dy in ((0, 0), (0.25*w, 0.2*h)):
        pen.line((x + dx - 4, y + dy, x + dx + 4, y + dy), fill=255)
        pen.line((x + dx, y + dy - 4, x + dx, y + dy + 4), fill=255)
    return np.asarray(im)
EDITS = (jpeg, smaller, gain, gamma, cut, mirrored, written_on)

@pytest.fixture(scope='module')
def sims(): return [simulate(seed=s, shape=(180,260), exam_seed=s)[0] for s in range(60)]

@pytest.mark.parametrize('edit', EDITS, ids=lambda f: f.__name__)
def test_a_copy_is_found_again(sims, edit):
    rng = np.random.default_rng(0)
    looks = [look(s) for s in sims]
    group = copy_groups([*looks, *(look(edit(s, rng)) for s in sims)])
    hit = group[60:] == group[:60]
    assert hit.mean() >= (0.95 if edit is cut else 1), (~hit).sum()
    # and strangers stay strangers
    assert len(set(group[:60])) == 60

def table(pictures):
    "Cases of which nothing is known but how they look."
    return pd.DataFrame(
        dict(case=[f'p{i}' for i in range(len(pictures))],
             image=[f'p{i}.png' for i in range(len(pictures))], annotation_sha256='', dhash='0'*16,
             image_sha256=[f'{i:012}' for i in range(len(pictures))],
             look=[look(p) for p in pictures], height=1, width=1))

def test_no_copy_is_on_another_side(sims):
    rng, pictures, origin = np.random.default_rng(1), list(sims), list(range(60))
    for i in range(0, 60, 2):
        for edit in rng.permutation(EDITS)[:int(rng.integers(1, 4))]:
            pictures.append(edit(sims[i], rng))
            origin.append(i)
    with pytest.warns(UserWarning, match='are near duplicates of others'):
        cases = add_exams(table(pictures)).assign(origin=origin)
    kept = cases.groupby('origin').exam.nunique()
    assert (kept == 1).mean() > 0.96 and set(cases.exam_source) == {'copies', 'none'}
    whole = cases[cases.origin.map(kept) == 1]
    for seed in range(30):
        assert (split_cases(whole, seed=seed).groupby('origin').split.nunique() == 1).all()
        assert (fold_cases(whole, 5, seed).groupby('origin').fold.nunique() == 1).all()

def test_what_is_known_is_not_overruled(sims):
    "Two exams that the user names stay two, though they look alike; a copy joins its own."
    rng = np.random.default_rng(2)
    cases = table([sims[0], gain(sims[0], rng), sims[1], jpeg(sims[1], rng), sims[2]])
    cases['image'] = ['e1/a.png', 'e2/b.png', 'e3/c.png', 'x.png', 'y.png']
    with pytest.warns(UserWarning): got = add_exams(cases, exams=r'(e\d)/')
    assert got.exam.tolist()[:4] == ['regex-e1', 'regex-e2', 'regex-e3', 'regex-e3']
    assert got.exam_source.tolist() == ['regex']*3 + ['regex:copies', 'none']

def test_all_known_costs_nothing(sims, monkeypatch):
    import fetal_seg.data as data
    monkeypatch.setattr(data, 'copy_groups', lambda looks: pytest.fail('compared'))
    add_exams(table(sims[:5]), exams=r'(p\d)')
    with pytest.warns(UserWarning): add_exams(table(sims[:5]).drop(columns='look'))

def test_order_blocks_and_what_is_missing(sims):
    rng = np.random.default_rng(3)
    looks = [look(s) for s in sims[:20]] + [look(jpeg(s, rng)) for s in sims[:10]]
    looks = np.array([*looks, '', np.nan, None, ''], dtype=object)
    group = copy_groups(looks)
    assert group.tolist() == [*range(20), *range(10), 30, 31, 32, 33]
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(looks))
        mixed = copy_groups(looks[order], rows=int(rng.integers(1, 40)))
        sets = lambda g, names: {frozenset(names[g == k].tolist()) for k in set(g)}
        assert sets(mixed, order) == sets(group, np.arange(len(looks)))
    assert copy_groups([]).tolist() == [] and copy_groups([looks[0]]).tolist() == [0]

def test_against_all_pairs(sims):
    rng = np.random.default_rng(4)
    looks = [look(s) for s in sims] + [look(cut(s, rng)) for s in sims[:30]]
    whole, detail = get_views(looks)
    a, b = get_limits(whole, detail)
    link = (np.corrcoef(whole) >= a) & (np.corrcoef(detail) >= b)
    while ((more := link @ link) != link).any(): link = more
    assert (copy_groups(looks, mirrored=False) == link.argmax(1)).all()

@pytest.mark.parametrize('kind', [np.uint8, np.uint16, float])
def test_a_look_of_anything(kind):
    img = np.random.default_rng(0).integers(0, 200, (37, 91)).astype(kind)
    assert len(look(img)) == 256 and set(look(img)) <= set(DIGITS) and look(img.T) != look(img)
    assert look(np.zeros((5,5), kind)) == '' and len(look(img[:3,:2])) == 256

def test_ten_thousand_in_seconds_and_flat():
    rng = np.random.default_rng(5)
    base = rng.integers(0, 64, (9_000, 256))
    digits = np.array(list(DIGITS))
    again = np.clip(base[:1000] + rng.integers(-2, 3, (1000, 256)), 0, 63)
    looks = [''.join(digits[r]) for r in np.concatenate([base, again])]
    tracemalloc.start(); start = time.process_time()
    group = copy_groups(looks)
    seconds, most = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (group[9_000:] == np.arange(1000)).all() and len(set(group)) == 9_000
    assert seconds < 60 and most < 400e6, (seconds, most)

@pytest.fixture(scope='module')
def busi():
    folder = os.environ.get('FETAL_SEG_BUSI')
    return Path(folder) if folder and Path(folder).is_dir() else pytest.skip(
        'FETAL_SEG_BUSI names no folder')

def test_busi_has_no_copy_on_another_side(busi):
    "Needs the pictures of BUSI, as PNG, in the layout of its download."
    from fetal_seg.data import add_fingerprints, find_cases
    cases, _ = find_cases(busi, 'busi')
    with pytest.warns(UserWarning, match='near duplicates'):
        cases = add_exams(add_fingerprints(cases, busi))
    group = copy_groups(list(cases['look']))
    n = len(cases)
    # 366 groups of 483; the whole has some 610 of 780
    assert 0.7*n < len(set(group)) < 0.8*n
    # no chain runs through the set
    assert np.bincount(np.bincount(group)).size <= 8
    for seed in range(20):
        assert (split_cases(cases, seed=seed).groupby(group).split.nunique() == 1).all()
        assert (fold_cases(cases, 5, seed).groupby(group).fold.nunique() == 1).all()

@pytest.mark.data
def test_the_real_heads_are_not_merged(raw):
    "Where the exams are known, every group of copies is of one exam."
    from fetal_seg.data import read_raw
    cases, _ = read_raw(raw)
    group = copy_groups(list(cases['look']))
    assert set(s.split(':')[0] for s in cases.exam_source) == {'table'}
    assert (cases.groupby(group).exam.nunique() == 1).all()
    assert 8 <= (pd.Series(group).value_counts() > 1).sum() <= 14

def test_names_of_groups_stay_when_pictures_are_added(sims):
    "Pictures of no group never rename one; a further copy does where its digest is the smallest."
    rng = np.random.default_rng(0)
    pictures = [*sims[:20], *(jpeg(s, rng) for s in sims[:6])]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        before = add_exams(table(pictures))
        strangers = add_exams(table([*pictures, *sims[20:50]]))
        more = add_exams(table([*pictures, *(gain(s, rng) for s in sims[:6])]))
    assert (before.exam_source == 'copies').sum() == 12
    assert strangers.exam.tolist()[:26] == before.exam.tolist()
    for old,new in zip(before.exam, more.exam[:26]): assert new == old or new < old
    assert (more.exam[:6].to_numpy() == more.exam[26:].to_numpy()).all()
    shuffled = table(pictures).sample(frac=1, random_state=1).reset_index(drop=True)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        by_case = lambda t: t.set_index('case').exam.to_dict()
        assert by_case(add_exams(shuffled)) == by_case(before)
