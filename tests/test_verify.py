"""Verification beyond its lessons: searches against brute force, damaged files, odd tables, hostile
names, both kinds of folder."""
import json, re, shutil, subprocess, sys
from html.parser import HTMLParser
from pathlib import Path
import numpy as np, pandas as pd, pytest
from PIL import Image
from scipy import ndimage
from fetal_seg.core import to_json
from fetal_seg.phantom import write_phantoms
from fetal_seg.preprocess import prepare, save_png
from fetal_seg.verify import (CHECKS, MEASURES, MeasuredFolder, add_check, alike, contrast,
                              correlation, each_case, edge_band, filled_share, near_pairs, pieces,
                              robust_z, run_checks, strokes, verify)

shape, fractions = (136,200), (0.6,0.2,0.2)

@pytest.fixture(scope='module')
def world(tmp_path_factory):
    "A folder with nothing to find, raw and prepared."
    d = tmp_path_factory.mktemp('verify')
    write_phantoms(d/'raw', n=40, shape=shape, plain=True)
    prepare(d/'raw', d/'prepared', size=shape, fractions=fractions)
    return d

@pytest.fixture
def raw_copy(world, tmp_path): return Path(shutil.copytree(world/'raw', tmp_path/'raw'))

def found(v): return [(f.check, f.case) for f in v.findings.itertuples()]
def names_of(v): return {n for f in v.findings.itertuples() for n in (f.case, *f.also)}
def names(folder): return sorted(p.stem for p in folder.rglob('*HC.png'))
def annotation(folder, case): return next(folder.rglob(f'{case}_Annotation.png'))
def picture(folder, case): return next(folder.rglob(f'{case}.png'))

# Copies

def turn_bits(rng, h, most):
    "Hashes with up to `most` random bits turned."
    h = h.copy()
    for _ in range(most):
        turned = rng.random(len(h)) < 0.7
        bit = np.uint64(1) << rng.integers(0, 64, len(h), dtype=np.uint64)
        h ^= np.where(turned, bit, np.uint64(0))
    return h

def brute(h, bits):
    i, j = np.triu_indices(len(h), 1)
    near = np.array([bin(int(a) ^ int(b)).count('1') for a,b in zip(h[i], h[j])], int) <= bits
    return np.stack([i[near], j[near]], 1).reshape(-1, 2)

@pytest.mark.parametrize('seed', range(12))
def test_near_pairs_are_those_of_brute_force(seed):
    rng = np.random.default_rng(seed)
    bits = int(rng.integers(0, 6))
    base = rng.integers(0, 2**64, int(rng.integers(1, 160)), dtype=np.uint64)
    if seed % 3 == 0: base &= np.uint64(0xFFFF_0000_0000_FFFF)   # crowded: whole blocks are equal
    h = rng.permutation(np.concatenate([base, base[:40], turn_bits(rng, base[:80], bits+2)]))
    want = brute(h, bits)
    assert len(want) and np.array_equal(near_pairs(h, bits), want)

def test_near_pairs_in_bulk():
    rng = np.random.default_rng(0)
    h = rng.integers(0, 2**64, 30_000, dtype=np.uint64)
    twin = turn_bits(rng, h[:1000], 3)
    got = near_pairs(np.concatenate([h, twin]))
    close = [i for i in range(1000) if bin(int(h[i]) ^ int(twin[i])).count('1') <= 3]
    # random strangers are never that near
    assert {(i, 30_000+i) for i in close} == set(map(tuple, got))

@pytest.mark.parametrize('seed', range(6))
def test_alike_is_single_linkage_on_hash_and_look(seed):
    "Against all pairs: near by hash and correlated, joined to groups."
    rng = np.random.default_rng(seed)
    looks = [ndimage.gaussian_filter(rng.random((16,16)), 2) for _ in range(12)]
    scaled = [(255*(a-a.min())/np.ptp(a)) for a in looks]
    base = rng.integers(0, 2**64, 8, dtype=np.uint64)
    pick = rng.integers(0, 12, 90)
    seen = [np.clip(scaled[k] + rng.normal(0, 3, (16,16)), 0, 255) for k in pick]
    thumbs = [a.astype(np.uint8).tobytes() for a in seen]
    hashes = [f'{int(h):016x}' for h in turn_bits(rng, base[rng.integers(0, 8, 90)], 1)]
    n = len(hashes)
    def linked(i, j):
        near = bin(int(hashes[i], 16) ^ int(hashes[j], 16)).count('1') <= 3
        return near and correlation(thumbs[i], thumbs[j]) >= 0.95
    link = np.array([[linked(i, j) for j in range(n)] for i in range(n)])
    from scipy.sparse.csgraph import connected_components
    group = connected_components(link, directed=False)[1]
    want = {tuple(np.flatnonzero(group == g)) for g in set(group) if (group == g).sum() > 1}
    assert want and {tuple(g) for g in alike(hashes, thumbs)} == want

def test_many_equal_pictures():
    "Thousands of black frames are no find, thousands of copies of one picture are one."
    rng = np.random.default_rng(0)
    # a quadratic search would not end
    flat = alike(['0'*16]*20_000, [bytes(256)]*20_000)
    one = rng.integers(0, 256, 256, dtype=np.uint8).tobytes()
    copies = alike(['f'*16]*20_000, [one]*20_000)
    assert flat == [] and [len(g) for g in copies] == [20_000]

def test_strangers_with_one_hash_are_not_alike():
    rng = np.random.default_rng(0)
    thumbs = [rng.integers(0, 256, 256, dtype=np.uint8).tobytes() for _ in range(50)]
    assert alike(['ab'*8]*50, thumbs) == []
    assert [g.tolist() for g in alike(['ab'*8]*51, [*thumbs, thumbs[7]])] == [[7, 50]]

# Measures

@pytest.mark.parametrize('seed', range(8))
def test_measures_against_other_ways_to_find_them(seed):
    rng = np.random.default_rng(seed)
    mask = ndimage.gaussian_filter(rng.random((60,90)), rng.uniform(1, 4)) > 0.5
    img = rng.integers(0, 256, mask.shape).astype(np.uint8)
    n = ndimage.label(mask, np.ones((3,3)))[1]
    assert pieces(mask)[0] == n
    assert filled_share(mask) == mask.sum()/ndimage.binary_fill_holes(mask).sum()
    inside, outside = (ndimage.distance_transform_cdt(m, 'chessboard') for m in (mask, ~mask))
    assert np.array_equal(edge_band(mask, 0.03), np.where(mask, inside, outside) <= round(0.03*90))
    a, b = img[mask]/255, img[~mask]/255
    diff, spread = a.mean() - b.mean(), np.sqrt((a.var() + b.var())/2)
    assert np.allclose(contrast(img, mask), (diff, diff/spread))

def test_robust_z_is_the_textbook_one_where_both_sides_are_alike():
    x = np.concatenate([-np.arange(1, 40.), [0], np.arange(1, 40.)])
    assert np.allclose(robust_z(x), 0.6745*x/np.median(np.abs(x)), rtol=0.06)
    assert (robust_z(np.zeros(9), 0.25) == 0).all()

def test_marks_are_found_at_any_place_and_not_invented():
    "A letter is found wherever it stands; blurred as an echo is, it is not."
    from PIL import ImageDraw
    rng = np.random.default_rng(0)
    for _ in range(30):
        echoes = ndimage.gaussian_filter(rng.normal(60, 40, (136,200)), 1.5)
        im = Image.fromarray(echoes.clip(0, 255).astype(np.uint8))
        clean = np.asarray(im).copy()
        draw = ImageDraw.Draw(im)
        draw.fontmode = '1'
        draw.text((int(rng.integers(0, 150)), int(rng.integers(0, 120))), 'EFHT 12',
                  fill=int(rng.integers(220, 256)))
        a = np.asarray(im)
        assert min(strokes(a).sum(), strokes(a.T).sum()) >= 24
        soft = ndimage.gaussian_filter(a.astype(float), 1.5).astype(np.uint8)
        for b in (clean, soft): assert min(strokes(b).sum(), strokes(b.T).sum()) == 0

# Odd tables

def measured(value):
    "A column for each number that is measured."
    return {k: value() for _,gives,_ in MEASURES for k in gives}

def random_table(rng, n=30):
    "Measurements of any value, many of them missing."
    t = pd.DataFrame(measured(lambda: rng.choice([np.nan, 0, 0.01, 0.5, 1, -3, np.inf, 7], n)))
    each = [*map(str, range(n))]
    def thumb(k): return rng.integers(0, 256, 256, dtype=np.uint8).tobytes() if k else b''
    return t.assign(
        case=[f'c{i}' for i in range(n)], split=rng.choice(['train', 'valid', 'test'], n),
        exam=[f'e{k}' for k in rng.integers(0, n//2, n)],
        exam_source=rng.choice(['name', 'none', 'table:image'], n),
        image_folder=rng.choice(['a', 'b'], n), annotation_folder='a',
        label=rng.choice(['', 'x', 'y'], n),
        method=rng.choice(['holes', 'filled', 'closed', None], n),
        image_sha256=rng.choice(['p', 'q', None, *each], n),
        annotation_sha256=rng.choice(['r', None, *each], n),
        dhash=[f'{k:016x}' for k in rng.integers(0, 8, n)],
        thumb=[thumb(k) for k in rng.integers(0, 3, n)],
        height=rng.choice([136., 100., np.nan], n), width=rng.choice([200., np.nan], n),
        problems=[() if k else (('unreadable', 'x'),) for k in rng.integers(0, 3, n)],
        mode=rng.choice(['L', 'RGB', None], n, p=[0.94, 0.03, 0.03]), bits=8.,
        colour=rng.choice([0, 0.5, np.nan], n))

@pytest.mark.parametrize('seed', range(25))
def test_checks_take_any_table(seed):
    t = random_table(np.random.default_rng(seed))
    folder = MeasuredFolder(t, dict(left_out=[]), 'raw')
    with np.errstate(invalid='ignore'): f = run_checks(folder)
    known = set(t.case) | {''}
    assert set(f.case) <= known and all(set(a) <= known for a in f.also)
    assert list(f.severity) == sorted(f.severity, key=['error', 'warning', 'note'].index)

def test_what_was_not_measured_is_never_found():
    nothing = measured(lambda: np.nan)
    t = random_table(np.random.default_rng(0), 12).assign(
        **nothing, height=np.nan, width=np.nan, image_sha256=None, method=None, mode=None,
        colour=np.nan, annotation_sha256=None, exam=[f'e{i}' for i in range(12)],
        exam_source='name', image_folder='a')
    t['problems'] = [()]*12
    assert run_checks(MeasuredFolder(t)).empty

def test_a_folder_of_which_nothing_can_be_read(raw_copy):
    for f in raw_copy.rglob('*.png'): f.write_bytes(b'nonsense')
    v = verify(raw_copy)
    assert not v.ok and set(v.findings.check) == {'unreadable'}
    assert set(v.findings.case) == set(v.seen.cases.case)
    assert len(v.findings) == 2*v.facts['cases']
    json.loads(json.dumps(v.to_dict(), default=str))
    str(v), v.save_html(raw_copy.parent/'page.html')

# Damaged files

def damage(rng, f):
    "Do something to a file; what was done."
    data, how = bytearray(f.read_bytes()), rng.choice(['cut', 'flip', 'noise', 'nothing', 'other'])
    if how == 'cut': data = data[:int(rng.integers(0, len(data)))]
    if how == 'flip':
        for k in rng.integers(0, len(data), 8): data[k] ^= int(rng.integers(1, 256))
    if how == 'noise': data = rng.integers(0, 256, len(data), dtype=np.uint8).tobytes()
    if how == 'other':
        size = int(rng.integers(1, 60)), 40
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(f)
        return how
    f.write_bytes(bytes(data) if how != 'nothing' else b'')
    return how

def decodes(f):
    "Does Pillow read it whole?"
    try:
        with Image.open(f) as im: im.load()
        return True
    except Exception: return False

@pytest.mark.parametrize('seed', range(5))
def test_damaged_files_are_found_and_the_others_go_on(raw_copy, seed):
    rng = np.random.default_rng(seed)
    files = sorted(raw_copy.rglob('*.png'))
    hurt = [files[k] for k in rng.permutation(len(files))[:20]]
    how = {f: damage(rng, f) for f in hurt}
    v = verify(raw_copy, fractions=fractions)
    case = lambda f: f.stem.removesuffix('_Annotation')
    unreadable = {c for k,c in found(v) if k == 'unreadable'}
    assert {case(f) for f in hurt if not decodes(f)} <= unreadable, how
    assert names_of(v) <= {case(f) for f in hurt} | {''}           # no case that was left alone
    assert len(v.seen.cases) == 40

@pytest.mark.parametrize('seed', range(3))
def test_damaged_prepared_files_are_found(world, tmp_path, seed):
    rng = np.random.default_rng(seed)
    bad = Path(shutil.copytree(world/'prepared', tmp_path/'prepared'))
    files = sorted(bad.rglob('*.png'))
    hurt = [files[k] for k in rng.permutation(len(files))[:20]]
    for f in hurt: damage(rng, f) if rng.random() < 0.7 else f.unlink()
    v = verify(bad)
    must = {f.stem for f in hurt if not f.exists() or not decodes(f)}
    assert must <= {c for k,c in found(v) if k in ('unreadable', 'missing_file')}
    assert names_of(v) <= {f.stem for f in hurt}

# Both kinds of folder

@pytest.mark.parametrize('seed,size,mode', [
    (1, (136,200), 'auto'), (2, (136,200), 'auto'), (3, (144,208), 'auto')])
def test_raw_and_prepared_say_the_same(tmp_path, seed, size, mode):
    """Ordinary phantoms, oddities and all, with a copy, a mark and an empty mask; odd sizes are
    cropped, so their numbers move."""
    raw = write_phantoms(tmp_path/'raw', n=40, shape=shape, seed=seed)
    cases = prepare(raw, tmp_path/'out', size=size, mode=mode, fractions=fractions)
    plain = cases[(cases.height == 136) & (cases.width == 200)]
    a, b, c, d = (plain.iloc[k] for k in (3, 8, 12, 20))
    shutil.copy(raw/a.image, raw/b.image)
    save_png(raw/c.annotation, np.zeros(shape, np.uint8))
    im = np.array(Image.open(raw/d.image)); im[40:60:3,90:110] = im[40:60,90:110:4] = 255
    save_png(raw/d.image, im)
    prepare(raw, tmp_path/'out', size=size, mode=mode, fractions=fractions)
    v = {k: verify(p, fractions=fractions) for k,p in (('raw', raw), ('prepared', tmp_path/'out'))}
    odd = {f[0] for f in CHECKS['odd_size'].find(v['raw'].seen)}
    said = {k: {f for f in found(o) if f[1] not in odd} for k,o in v.items()}
    assert said['raw'] == said['prepared']
    checks = {k for k,_ in said['raw']}
    assert {'empty_mask', 'burned_in'} <= checks and any(k.startswith('duplicate') for k in checks)
    moved = ('kind', 'low_contrast', 'faint_edge', 'area_min', 'area_max', 'burned_in',
             'near_border', 'touches_border')
    facts = [{k: x for k,x in o.facts.items() if k not in moved} for o in v.values()]
    assert facts[0] == facts[1]
    one, two = (o.seen.cases.set_index('case').full_area for o in v.values())
    assert (one - two == 0).all()

def test_the_splits_are_those_that_prepare_makes(world):
    v, other = (verify(world/'raw', fractions=fractions, seed=k) for k in (0, 5))
    made = pd.read_csv(world/'prepared'/'cases.csv', dtype=str)
    assert list(v.seen.cases.split) == list(made.split) != list(other.seen.cases.split)

def lay_out(world, to, places, masks=('mask',)):
    "Pictures of the plain folder at `places`, in images/ and masks/."
    cases = pd.read_csv(world/'prepared'/'cases.csv', dtype=str)
    for i,p in enumerate(places):
        for kind,f in (('images', cases.image[i]), ('masks', cases.annotation[i])):
            at = to/(p.format(kind) + '.png')
            at.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(world/'raw'/f, at)

def test_a_split_of_the_users_own_is_taken_and_verified(world, tmp_path):
    lay_out(world, tmp_path/'raw',
            ['train/{}/p1_a', 'train/{}/p2_a', 'val/{}/p3_a', 'test/{}/p1_b'])
    v = verify(tmp_path/'raw', exams=r'(p\d+)_', annotation='outline')
    assert v.facts['layout'] == 'folders'
    assert dict(v.summary[['split', 'cases']].values) == dict(train=2, valid=1, test=1)
    assert not v.ok and found(v) == [('exam_in_two_splits', 'p1_a')]
    assert v.findings.also[0] == ('p1_b',)
    # by exam nothing is torn
    assert verify(tmp_path/'raw', exams=r'(p\d+)_', split='hash').ok

def test_several_masks_of_one_picture_are_no_fault(tmp_path):
    "BUSI: regions in several files, or several in one, are no fault; a speck is worth a look."
    echoes = np.random.default_rng(0).normal(60, 20, (80,120))
    a = ndimage.gaussian_filter(echoes, 1).astype(np.uint8)
    m, n = np.zeros((2,80,120), bool)
    m[20:40,20:50], n[40:70,70:100] = True, True
    a[m | n] += 90
    for i in range(4):
        save_png(tmp_path/'raw'/'benign'/f'benign ({i}).png', np.roll(a, 3*i, 1))
        save_png(tmp_path/'raw'/'benign'/f'benign ({i})_mask.png', np.roll(m, 3*i, 1))
        save_png(tmp_path/'raw'/'benign'/f'benign ({i})_mask_1.png', np.roll(n, 3*i, 1))
    v = verify(tmp_path/'raw')
    assert v.facts['layout'] == 'busi' and 'exam_unknown' in set(v.findings.check)
    assert 'several_pieces' not in set(v.findings.check)
    m[25,60] = True
    save_png(tmp_path/'raw'/'benign'/'benign (0)_mask.png', m)
    assert ('several_pieces', 'benign (0)') in found(verify(tmp_path/'raw'))

def test_pictures_of_classes_that_nobody_annotated(raw_copy):
    "Read as well, reported once for their class, and compared with what is trained on."
    f = picture(raw_copy, names(raw_copy)[5])
    other = Path(str(f).replace('malignant', 'normal')).parent
    other.mkdir(parents=True)
    shutil.copy(f, other/'n1.png')
    Image.open(f).save(other/'n2.jpg', quality=70)
    save_png(other/'n3.png', np.rot90(np.array(Image.open(f)), 2))
    (other/'n4.png').write_bytes(b'x')
    v = verify(raw_copy, fractions=fractions)
    got = {k: (f'{f.case} {" ".join(f.also)}') for k,f in v.findings.set_index('check').iterrows()}
    about = dict(duplicate_in_two_classes='n1.png', near_duplicate_in_two_classes='n2.jpg',
                 unreadable_unannotated='n4.png')
    assert set(got) == {*about, 'unannotated_class'}
    for check,name in about.items(): assert name in got[check]
    assert '4 of normal' in v.findings.value[v.findings.check == 'unannotated_class'].iloc[0]
    assert v.ok and v.facts['unannotated'] == 4

def test_limits_are_parameters(world):
    n = lambda check, **kw: (verify(world/'raw', **kw).findings.check == check).sum()
    limits = [('near_border', 'margin', 0.5), ('low_contrast', 'least_d', 9),
              ('faint_edge', 'least_edge', 9)]
    for check,limit,loose in limits:
        assert n(check) == 0 and n(check, **{limit: loose}) == 40
    assert n('area_outlier') == 0 < n('area_outlier', most_z=0.5)
    only = {'constant': CHECKS['constant']}
    assert list(verify(world/'raw', checks=only).checks) == ['constant']

def test_a_check_of_the_users_own(world):
    "It joins the others, and may change from run to run; its reason is given or its docstring."
    mine = dict(CHECKS)
    @add_check('warning', 'use another one', checks=mine, reason='Wide ones are odd.')
    def wide(s):
        return each_case(s.cases.query('width > height').head(2), lambda r: f'{r.width} px')
    @add_check('note', 'nothing to do', raw='look', checks=mine)
    def check_many(s):
        "Counted."
        return [('', f'{len(s.cases)}')]
    v = verify(world/'raw', fractions=fractions, checks=mine)
    assert [f.value for f in v.findings.itertuples()] == ['200 px', '200 px', '40']
    assert list(v.findings.remedy) == ['use another one', 'use another one', 'look']
    assert list(v.checked.reason[-2:]) == ['Wide ones are odd.', 'Counted.']
    assert not {'wide', 'many'} & set(CHECKS)

def test_workers_find_the_same(raw_copy):
    annotation(raw_copy, names(raw_copy)[3]).unlink()
    picture(raw_copy, names(raw_copy)[8]).write_bytes(b'')
    one, two = (verify(raw_copy, workers=k) for k in (0, 2))
    assert str(one) == str(two) and to_json(one.to_dict()) == to_json(two.to_dict())
    assert len(one.findings) == 2

def test_nothing_is_written(world, tmp_path):
    def snapshot(): return {p: p.stat().st_mtime_ns for p in world.rglob('*')}
    before = snapshot()
    for kind in ('raw', 'prepared'): verify(world/kind).save_html(tmp_path/'page.html')
    assert snapshot() == before

# What comes out

@pytest.fixture
def hostile(raw_copy):
    "File names that mean something in HTML, beside faults that show them."
    evil = '<b>bold<∕b>', '"><img src=x onerror=alert(1)>', "a&amp;'b"
    for case,new in zip(names(raw_copy), evil):
        for f in (picture(raw_copy, case), annotation(raw_copy, case)):
            f.rename(f.with_name(f.name.replace(case, new)))
    for f in raw_copy.rglob('*bold*'): save_png(f, np.zeros(shape, np.uint8))
    for f in raw_copy.rglob('*onerror*_Annotation.png'): f.write_bytes(b'')
    (raw_copy/'<script>alert(2)<').mkdir()
    (raw_copy/'<script>alert(2)<'/'script>.txt').write_text('x')
    return verify(raw_copy)

def test_json_round_trip(hostile, tmp_path):
    back = json.loads(hostile.save(tmp_path/'v.json').read_text(encoding='utf-8'))
    assert back['ok'] is False and back['facts']['cases'] == 40
    sizes = {str(k): n for k,n in hostile.facts['exam_sizes'].items()}
    assert back['facts']['exam_sizes'] == sizes
    f = pd.DataFrame(back['findings'])
    for c in ('check', 'severity', 'case', 'value', 'remedy'):
        assert f[c].tolist() == hostile.findings[c].tolist()
    assert [tuple(a) for a in f.also] == hostile.findings.also.tolist()
    counts = {k: int((f.check == k).sum()) for k in CHECKS}
    assert {c['name']: c['found'] for c in back['checks']} == counts
    for c in back['checks']: assert c['reason'] and c['severity'] in ('error', 'warning', 'note')
    assert f.remedy.str.len().gt(0).all()
    assert pd.DataFrame(back['summary']).cases.sum() == 40

class Tags(HTMLParser):
    "What a browser would make of a page."
    def __init__(self):
        super().__init__()
        self.tags, self.links, self.handlers, self.text = [], [], [], []
    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k,v in attrs if k in ('src', 'href', 'srcset', 'action', 'data')]
        self.handlers += [k for k,_ in attrs if k.startswith('on')]
    def handle_data(self, data): self.text.append(data)

def test_the_page_asks_nobody_and_escapes_names(hostile, tmp_path):
    page = hostile.save_html(tmp_path/'v.html').read_text(encoding='utf-8')
    t = Tags(); t.feed(page)
    assert all(l.startswith(('data:', '#')) for l in t.links)
    assert not t.handlers and 'b' not in t.tags and t.tags.count('script') == 1
    assert not re.search(r'url\(|@import', page)
    text = ''.join(t.text)
    for name in ('<b>bold<∕b>', '"><img src=x onerror=alert(1)>', '<script>alert(2)</script>.txt'):
        assert name in names_of(hostile) and name in text
    assert t.tags.count('img') > 1
    assert re.search(r"default-src 'none'", page)

def test_the_page_stays_small_however_bad_the_folder_is(raw_copy, tmp_path):
    for f in raw_copy.rglob('*_Annotation.png'): save_png(f, np.zeros(shape, np.uint8))
    v = verify(raw_copy)
    assert (v.findings.check == 'empty_mask').sum() == 40
    t = Tags(); t.feed(v.save_html(tmp_path/'v.html', few=3).read_text())
    assert t.tags.count('figure') <= 1 + 3*3*v.findings.check.nunique()

def test_command(world, raw_copy, tmp_path):
    "Exit status 0 where no finding is an error, 1 where one is, 2 where nothing can be looked at."
    command = Path(sys.executable).parent/'fetal_seg_verify'
    def run(*args):
        args = [str(command), *map(str, args)]
        return subprocess.run(args, capture_output=True, text=True, timeout=300)
    good = run(world/'raw', '--json')
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)['facts']['cases'] == 40
    annotation(raw_copy, names(raw_copy)[2]).write_bytes(b'')
    bad = run(raw_copy, '--out', tmp_path/'page.html')
    assert bad.returncode == 1 and 'unreadable (1)' in bad.stdout
    assert (tmp_path/'page.html').exists()
    nothing = run(tmp_path/'nowhere')
    assert nothing.returncode == 2 and 'there is no such folder' in nothing.stderr
    assert 'Traceback' not in nothing.stderr

# The real data

@pytest.mark.data
def test_the_facts_of_the_real_folder(raw):
    v = verify(raw, workers=2)
    f = v.facts
    assert v.ok and (f['kind'], f['layout'], f['cases']) == ('raw', 'kaggle', 847)
    assert (f['across_folders'], f['odd_sizes'], f['exams_in_two_splits']) == (357, 18, 0)
    assert (f['hollow_closed'], f['hollow']) == (['231_HC', '427_2HC', '977_HC'], [])
    assert f['duplicates'] == [['482_2HC', '483_3HC']]
    assert (f['exams'], f['exam_sizes']) == (701, {1: 574, 2: 111, 3: 13, 4: 3})
    assert f['name_rule'] == dict(table_pairs=168, found=168, name_pairs=192, right=168)
    assert (round(f['area_min'], 3), round(f['area_max'], 3)) == (0.058, 0.580)
    assert sum(f['exam_sources'].values()) == 847
    assert all(k.startswith('table:') for k in f['exam_sources'])
    assert '847 of 847 cases are known pictures of HC18' in v.about_labels
