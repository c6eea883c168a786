"Masks, geometry, `prepare`: oracles, kills at every moment, a cluster, two processes at once."
import copy, json, os, pickle, re, select, shutil, signal, subprocess, sys, time, tracemalloc
from functools import partial
from pathlib import Path
import numpy as np, pandas as pd, pytest
from PIL import Image, ImageFile
from scipy import ndimage
from fetal_seg.core import InputError, digest_file, folder_lock, pmap, pstream
from fetal_seg.data import find_cases, read_pair
from fetal_seg.phantom import write_phantoms
from fetal_seg.verify import verify
from fetal_seg.geometry import (MODES, _cover, boundary_band, bounding_box, compose, dice, fill,
                                fit_affine, fit_ellipse, in_ellipse, invert, picture_part, warp,
                                warp_mask)
from fetal_seg.images import read_img
from fetal_seg.preprocess import (AFFINE, KINDS, WORK, PreparedCase, _file_key, case_key, case_path,
                                  choose_mask, commit, hull_change, prepare, read_cases, read_mask,
                                  read_prepared, replay, to_input, to_mask)

def files_of(folder): return [p for p in Path(folder).rglob('*') if p.is_file()]
def snapshot(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files_of(folder)}
def times(folder):
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in files_of(folder)}
def ellipse(rng, shape, low=0.058, high=0.58):
    "A random ellipse inside a picture."
    (h,w) = shape
    while True:
        area, ratio = rng.uniform(low, high)*h*w, rng.uniform(0.65, 1)
        angle = rng.uniform(0, np.pi)
        a = np.sqrt(area/np.pi/ratio)
        b = a*ratio
        ey = np.hypot(a*np.sin(angle), b*np.cos(angle))
        ex = np.hypot(a*np.cos(angle), b*np.sin(angle))
        if ey < h/2 - 2 and ex < w/2 - 2:
            return rng.uniform(ey+1, h-2-ey), rng.uniform(ex+1, w-2-ex), a, b, angle
def stroke(mask, width):
    return mask & ~ndimage.binary_erosion(mask, iterations=width, border_value=1)

# --- masks

def test_fill_is_what_scipy_fills():
    rng = np.random.default_rng(0)
    for _ in range(200):
        ann = rng.random(rng.integers(1, 40, 2)) < rng.uniform(0.2, 0.9)
        assert (fill(ann) == ndimage.binary_fill_holes(ann)).all()

def test_in_ellipse_is_the_quadratic_form():
    rng = np.random.default_rng(1)
    for _ in range(300):
        shape = rng.integers(3, 120, 2)
        row, col, angle = *rng.uniform(-0.3, 1.3, 2)*shape, rng.uniform(0, np.pi)
        b = rng.uniform(0.2, 60)
        a = b*rng.uniform(1, 3)
        y, x = np.ogrid[:shape[0], :shape[1]]
        u = (x-col)*np.cos(angle) + (y-row)*np.sin(angle)
        v = (y-row)*np.cos(angle) - (x-col)*np.sin(angle)
        q = (u/a)**2 + (v/b)**2
        clear = np.abs(q - 1) > 1e-6
        assert (in_ellipse((row, col, a, b, angle), shape) == (q <= 1))[clear].all()

def test_the_fit_agrees_with_an_independent_one():
    measure = pytest.importorskip('skimage.measure')
    rng = np.random.default_rng(2)
    for _ in range(50):
        true = ellipse(rng, (540,800))
        t = rng.uniform(0, 2*np.pi, 80)
        u, v = true[2]*np.cos(t) + rng.normal(0, 1, 80), true[3]*np.sin(t) + rng.normal(0, 1, 80)
        c, s = np.cos(true[4]), np.sin(true[4])
        p = np.stack([true[0] + u*s + v*c, true[1] + u*c - v*s], 1)
        m = measure.EllipseModel()
        m.estimate(p[:,::-1])
        x, y, a, b, _ = m.params
        np.testing.assert_allclose(fit_ellipse(p)[:4], [y, x, max(a, b), min(a, b)], rtol=1e-6)

def test_cut_outlines_are_closed():
    "Ellipses that one to three borders cut: holes alone leave them hollow, each is closed."
    rng, shape, n = np.random.default_rng(3), (270,400), 0
    while n < 150:
        a = rng.uniform(60, 160)
        b = a*rng.uniform(0.65, 1)
        e = rng.uniform(0, 270), rng.uniform(0, 400), a, b, rng.uniform(0, np.pi)
        truth = in_ellipse(e, shape)
        ann = stroke(truth, int(rng.integers(1, 4)))
        if truth.mean() < 0.1 or fill(ann).sum() > 1.2*ann.sum(): continue
        n += 1
        mask, method, _ = choose_mask(ann)
        assert dice(fill(ann), truth) < 0.5
        assert method == 'closed' and dice(mask, truth) > 0.985, (n, method, dice(mask, truth))

def test_whatever_the_thickness_the_mask_is_the_outer_edge():
    rng, shape = np.random.default_rng(4), (270,400)
    for _ in range(60):
        e = ellipse(rng, shape)
        truth = in_ellipse(e, shape)
        closed, gap = stroke(truth, int(rng.integers(1, 6))), stroke(truth, int(rng.integers(2, 6)))
        mask, method, disagreement = choose_mask(closed)
        assert method == 'holes' and (mask == truth).all() and disagreement < 0.01
        gap[:, int(e[1])-4:int(e[1])+4] = False
        mask, method, _ = choose_mask(gap)
        assert method == 'ellipse' and dice(mask, truth) > 0.985
        assert choose_mask(truth)[1] == 'filled' and choose_mask(truth, 'ellipse')[1] == 'ellipse'

def test_a_line_is_no_region(tmp_path):
    ann = np.eye(60, dtype=bool)
    with pytest.raises(InputError): to_mask(ann)
    write_phantoms(tmp_path/'raw', n=3, shape=(136,200))
    bad = sorted((tmp_path/'raw').rglob('*_Annotation.png'))[0]
    a = np.eye(*np.asarray(Image.open(bad)).shape, dtype=np.uint8)*255
    Image.fromarray(a).save(bad)
    with pytest.raises(InputError, match='no region: its strokes enclose nothing') as e:
        prepare(tmp_path/'raw', tmp_path/'out')
    assert str(bad) in str(e.value) and '\n' not in str(e.value)

# --- geometry

def cover_slowly(mask, affine, size):
    "The share of each new pixel that the mask covers, pixel by pixel."
    (sr, sc, r, c), out = affine, np.zeros(size)
    rows, cols = np.nonzero(mask)
    for i in range(size[0]):
        for j in range(size[1]):
            dy = np.minimum(rows+1, r+sr*(i+1)) - np.maximum(rows, r+sr*i)
            dx = np.minimum(cols+1, c+sc*(j+1)) - np.maximum(cols, c+sc*j)
            out[i,j] = (dy.clip(0)*dx.clip(0)).sum()/(sr*sc)
    return out

def test_masks_shrink_by_coverage():
    rng = np.random.default_rng(5)
    for k in range(60):
        h, w, H, W = rng.integers(1, 24, 4)
        mask = rng.random((h,w)) < rng.uniform(0, 1)
        if k % 3: affine = (*rng.uniform(1, 4, 2), *rng.uniform(-6, 6, 2))
        else: affine = max(1, h/H), max(1, w/W), 0., 0.
        want = cover_slowly(mask, affine, (H,W))
        got = _cover(mask.astype(np.uint8), affine[0], affine[2], H)
        got = _cover(got.T, affine[1], affine[3], W).T
        np.testing.assert_allclose(got, want, atol=1e-12)
        small = warp_mask(mask, affine, (H,W))
        clear = np.abs(want - 0.5) > 1e-9
        assert small.dtype == np.uint8 and (small == (want >= 0.5))[clear].all()
        assert (small[~clear] == 1).all()

def test_round_trips_of_masks():
    rng, shape, got = np.random.default_rng(6), (540,800), []
    for _ in range(60):
        mask = in_ellipse(ellipse(rng, shape), shape)
        for mode in ('auto', 'stretch'):
            a = fit_affine(shape, (176,256), mode)
            got.append(dice(mask, warp_mask(warp_mask(mask, a, (176,256)), invert(a), shape)))
    assert min(got) > 0.99

def test_affines():
    rng = np.random.default_rng(7)
    for _ in range(300):
        shape, size = rng.integers(20, 900, 2), rng.integers(20, 900, 2)
        mode = MODES[rng.integers(4)]
        a = fit_affine(shape, size, mode)
        np.testing.assert_allclose(compose(a, invert(a)), (1, 1, 0, 0), atol=1e-9)
        np.testing.assert_allclose(compose(invert(a), a), (1, 1, 0, 0), atol=1e-9)
        part = picture_part(a, shape, size)
        for s, o, length, n, p in zip(a[:2], a[2:], shape, size, part):
            i = np.arange(n)
            inside = np.flatnonzero((s*i + o >= -1e-6) & (s*(i+1) + o <= length + 1e-6))
            assert list(range(n)[p]) == list(inside)
        if mode == 'stretch': assert part == (slice(0, size[0]), slice(0, size[1]))

def test_pictures_keep_their_mean_and_their_place():
    img = np.zeros((540,800), np.float32)
    img[200:340, 300:500] = 1
    for size in ((176,256), (272,400), (100,100)):
        a = fit_affine(img.shape, size)
        small = warp(img, a, size)
        np.testing.assert_allclose(small.sum()*a[0]*a[1], img.sum(), rtol=1e-3)
        rows = np.average(np.arange(size[0]) + 0.5, weights=small.sum(1))
        cols = np.average(np.arange(size[1]) + 0.5, weights=small.sum(0))
        np.testing.assert_allclose((a[0]*rows + a[2], a[1]*cols + a[3]), (270, 400), atol=0.01)

def test_intensity_sees_the_picture_only():
    "Statistics are taken where the picture is: padding changes nothing."
    rng = np.random.default_rng(9)
    img = rng.integers(20, 90, (540,800)).astype(np.uint8)
    wide = np.zeros((700,800), np.uint8)
    wide[80:620] = img
    part = picture_part((1, 1, -80, 0), img.shape, wide.shape)
    for how in ('window', 'zscore'):
        seen, alone = to_input(wide, wide.shape, how, part)[0], to_input(img, img.shape, how)[0]
        np.testing.assert_array_equal(seen[part], alone)
    with pytest.raises(InputError, match="'bright' is not known"):
        to_input(img, img.shape, 'bright')

def test_dice_bands_and_boxes_against_plain_counting():
    rng = np.random.default_rng(13)
    for _ in range(100):
        h, w, k = rng.integers(1, 14, 3)
        a, b = rng.random((2,h,w)) < rng.uniform(0, 0.6)
        A, B = ({tuple(p) for p in np.argwhere(m)} for m in (a, b))
        assert dice(a, b) == (2*len(A & B)/(len(A) + len(B)) if A or B else 1)
        assert dice(a*np.uint8(255), b) == dice(a, b) == dice(b, a)
        rows, cols = bounding_box(a)
        assert a[rows, cols].sum() == a.sum()
        if A: assert [(rows.start, rows.stop-1), (cols.start, cols.stop-1)] == \
            [(min(v), max(v)) for v in zip(*A)]
        for r, c in np.ndindex(h, w):
            near = a[max(0, r-k):r+k+1, max(0, c-k):c+k+1]
            assert boundary_band(a, k)[r,c] == (near.any() and not near.all())

# --- the parallel map

def shout(i, folder):
    (Path(folder)/str(i)).touch()
    time.sleep(0.02)
    return i if i != 7 else 1/0
def big(i): return np.full(500_000, i)

def test_pmap_keeps_the_order_and_stops_at_an_error(tmp_path):
    numbers = [i/3 for i in range(101)]
    assert pmap(partial(round, ndigits=1), numbers, workers=2) == [round(n, 1) for n in numbers]
    with pytest.raises(ZeroDivisionError):
        pmap(partial(shout, folder=str(tmp_path)), range(400), workers=2)
    assert len(list(tmp_path.iterdir())) < 150   # the rest was not begun

def test_pstream_runs_ahead_by_a_few_items_only(tmp_path):
    results = pstream(partial(shout, folder=str(tmp_path)), range(8, 408), workers=2)
    assert next(results) == 8
    time.sleep(1.5)   # time enough for 150 items; nobody takes them
    ahead = len(list(tmp_path.iterdir()))
    results.close()   # and nobody will
    assert 1 < ahead <= 48 and len(list(tmp_path.iterdir())) == ahead

def test_memory_is_flat():
    "A hundred and sixty results of 4 MB pass through; a few are held."
    tracemalloc.start()
    try:
        assert [int(r[0]) for r in pstream(big, range(160), workers=2)] == list(range(160))
        assert tracemalloc.get_traced_memory()[1] < 320e6
    finally: tracemalloc.stop()

ORPHANS = '''
import os, sys, time
from fetal_seg.core import pmap
if __name__ == '__main__':
    pmap(time.sleep, [60]*4, workers=2)
'''
def test_workers_end_when_their_parent_is_killed(tmp_path):
    (tmp_path/'orphans.py').write_text(ORPHANS)
    p = subprocess.Popen([sys.executable, tmp_path/'orphans.py'])
    def alive(pid): return Path(f'/proc/{pid}').exists()
    def children():
        if not alive(p.pid): return []
        return [int(c) for c in Path(f'/proc/{p.pid}/task/{p.pid}/children').read_text().split()]
    if not Path('/proc/self/task').exists():
        p.kill()
        pytest.skip('no /proc here')
    end = time.time() + 60
    kids = children()
    while len(kids) < 3 and time.time() < end:   # two workers and the resource tracker
        time.sleep(0.1)
        kids = children()
    time.sleep(2)
    p.kill()
    p.wait()
    while any(map(alive, kids)) and time.time() < end: time.sleep(0.1)
    assert not any(map(alive, kids))

def test_a_cluster_that_is_not_there():
    pytest.importorskip('distributed')
    for address in ('tcp://127.0.0.1:9', 'nonsense'):
        with pytest.raises(InputError, match='no Dask scheduler answers'):
            pmap(abs, [1, 2], scheduler=address)

def test_dask_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, 'distributed', None)
    with pytest.raises(InputError, match=re.escape("pip install 'fetal_seg[dask]'")):
        pmap(abs, [1, 2], scheduler='tcp://127.0.0.1:9')

# --- prepare

SIZE = (136,200)

@pytest.fixture(scope='module')
def world(tmp_path_factory):
    "Forty simulated pictures, and the folders of uninterrupted runs: seed 0, seed 1."
    d = tmp_path_factory.mktemp('prepare')
    write_phantoms(d/'raw', n=40, shape=SIZE)
    for seed in (0, 1): prepare(d/'raw', d/f'seed{seed}', SIZE, seed=seed)
    return d

@pytest.fixture
def mine(world, tmp_path):
    "A copy of the raw folder to change."
    return Path(shutil.copytree(world/'raw', tmp_path/'raw'))

RUN = '''
import sys
from fetal_seg.preprocess import prepare
if __name__ == '__main__':
    raw, out, seed, workers = sys.argv[1:]
    print('go', flush=True)
    prepare(raw, out, (136,200), seed=int(seed), workers=int(workers))
    print('done', flush=True)
'''
def start(script, *args):
    "Start a run; returns when its imports are done."
    command = [sys.executable, script, *map(str, args)]
    p = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == 'go\n'
    return p
def kill(p):
    p.kill()
    p.wait()
    p.stdout.close()

def test_killed_at_twenty_moments(world, tmp_path):
    "Over the whole run, its commit included; from an empty folder, or one of another seed."
    (tmp_path/'run.py').write_text(RUN)
    want = snapshot(world/'seed1')
    rng, out, seen, took = np.random.default_rng(10), tmp_path/'out', [], [9., 9.]
    def run(k, moment):
        "Start a run and kill it at that moment, in seconds; was it killed? Else it took so long."
        shutil.rmtree(out, ignore_errors=True)
        if k % 2: shutil.copytree(world/'seed0', out)
        p, t = start(tmp_path/'run.py', world/'raw', out, 1, 0), time.perf_counter()
        done = select.select([p.stdout], [], [], moment)[0]
        if done: took[k%2] = min(took[k%2], time.perf_counter() - t)
        kill(p)
        return not done
    def state(left):
        if f'{WORK}/journal.json' in left: return 'journal'
        if any(f.startswith(WORK) for f in left): return 'staging'
        return 'done' if left == want else 'begun'
    for k in (0, 1): assert not run(k, 60) and snapshot(out) == want
    for k in range(20):
        for _ in range(20):   # how long a run takes varies: those that had ended do not count
            if run(k, took[k%2]*(k//2 + rng.random())/10): break
        seen.append(state(snapshot(out) if out.exists() else {}))
        prepare(world/'raw', out, SIZE, seed=1)
        assert snapshot(out) == want, k
    assert seen.count('staging') + seen.count('journal') >= 5, seen

def test_workers_killed_half_way(world, tmp_path):
    "With two workers, killed when so many cases are staged, again and again in one folder."
    (tmp_path/'run.py').write_text(RUN)
    out, done = tmp_path/'out', []
    for n in (3, 12, 25, 36):
        p = start(tmp_path/'run.py', world/'raw', out, 0, 2)
        while p.poll() is None and len(list((out/WORK).glob('*-full_masks.png'))) < n:
            time.sleep(0.002)
        kill(p)
        time.sleep(0.2)   # its workers notice
        done.append({f.name: f.stat().st_mtime_ns for f in (out/WORK).glob('*.png')})
    # but for the two cases in work, none was done again
    for a, b in zip(done, done[1:]):
        assert a and sum(b.get(f) == t for f, t in a.items()) >= len(a) - 6
    prepare(world/'raw', out, SIZE)
    assert snapshot(out) == snapshot(world/'seed0')

EVERY = '''
import os, shutil, signal, sys, time
from pathlib import Path
from fetal_seg.preprocess import prepare
raw, before, want, tmp = map(Path, sys.argv[1:])
def names(d): return sorted(p.relative_to(d).as_posix() for p in d.rglob('*'))
def snapshot(d): return {n: (d/n).read_bytes() for n in names(d) if (d/n).is_file()}
def die_at(n):
    "Let this process be killed before its n-th change of the file system."
    count = iter(range(n))
    def mortal(f):
        def g(*a, **k):
            if next(count, None) is None: os.kill(os.getpid(), signal.SIGKILL)
            return f(*a, **k)
        return g
    for f in (os.replace, os.unlink, os.rmdir, os.mkdir): setattr(os, f.__name__, mortal(f))
goal = snapshot(want)
for n in range(10_000):
    out = tmp/'out'
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(before, out)
    pid = os.fork()
    if not pid:
        die_at(n)
        prepare(raw, out, (68,100), seed=5)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert status in (0, signal.SIGKILL), status
    committing, t = (out/'.work'/'journal.json').exists(), time.time_ns()
    prepare(raw, out, (68,100), seed=5)
    # ended, not done again
    if committing: assert all(p.stat().st_mtime_ns < t for p in out.rglob('*.png')), n
    now = snapshot(out)
    assert now == goal, (n, sorted(set(now) ^ set(goal)), [k for k in now if now[k] != goal.get(k)])
    assert names(out) == names(want), n   # no empty folder either
    if status == 0: break
print(n)
'''
@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
def test_killed_before_every_change_of_the_file_system(tmp_path):
    """A new seed, a changed picture, one that goes and one that comes, all at once: dead before
    each single rename, removal or new folder."""
    write_phantoms(tmp_path/'raw', n=12, shape=SIZE)
    cases, _ = find_cases(tmp_path/'raw')
    away = tmp_path/'raw'/cases.image[3]
    away.rename(tmp_path/'away.png')
    prepare(tmp_path/'raw', tmp_path/'before', (68,100), seed=0, fractions=(0.4,0.3,0.3))
    (tmp_path/'away.png').rename(away)
    gone, changed = tmp_path/'raw'/cases.image[4], tmp_path/'raw'/cases.image[5]
    gone.unlink()
    a = np.array(Image.open(changed))
    a[0] ^= 1
    Image.fromarray(a).save(changed)
    prepare(tmp_path/'raw', tmp_path/'want', (68,100), seed=5)
    moved = pd.merge(read_cases(tmp_path/'before'), read_cases(tmp_path/'want'), on='case')
    assert (moved.split_x != moved.split_y).sum() >= 3
    (tmp_path/'every.py').write_text(EVERY)
    folders = [tmp_path/d for d in ('raw', 'before', 'want', 'tmp')]
    r = subprocess.run([sys.executable, tmp_path/'every.py', *folders], capture_output=True,
                       text=True, timeout=500,
                       env=dict(os.environ, OMP_NUM_THREADS='1', OPENBLAS_NUM_THREADS='1'))
    assert r.returncode == 0, r.stderr[-2000:]
    assert int(r.stdout) > 40   # so many moments

def test_a_cluster_gives_the_same_folder(world, tmp_path):
    distributed = pytest.importorskip('distributed')
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True,
                                  dashboard_address=None, silence_logs=50) as cluster:
        cases = prepare(world/'raw', tmp_path/'out', SIZE, scheduler=cluster.scheduler_address)
        assert snapshot(tmp_path/'out') == snapshot(world/'seed0')
        bad = Path(shutil.copytree(world/'raw', tmp_path/'raw'))/cases.annotation[3]
        bad.write_bytes(b'not a picture')
        with pytest.raises(InputError, match=re.escape(str(bad))):
            prepare(tmp_path/'raw', tmp_path/'other', SIZE, scheduler=cluster.scheduler_address)

def test_workers_give_the_same_folder(world, tmp_path):
    prepare(world/'raw', tmp_path/'out', SIZE, workers=2)
    assert snapshot(tmp_path/'out') == snapshot(world/'seed0')

def test_what_is_done_again(mine, tmp_path):
    out = tmp_path/'out'
    cases = prepare(mine, out, SIZE)
    before = times(out)
    prepare(mine, out, SIZE, workers=2)
    assert times(out) == before
    def new(**kw):
        "The cases whose pictures are written anew."
        old = set(times(out).values())
        prepare(mine, out, **dict(dict(size=SIZE), **kw))
        return {Path(f).stem for f,t in times(out).items() if f.endswith('.png') and t not in old}
    assert new(seed=1) == new(seed=0, fractions=(0.5,0.3,0.2)) == set()
    for kind in ('image', 'annotation'):
        f = mine/cases[kind][9]
        a = np.array(Image.open(f))
        a[0] = 255 - a[0] if kind == 'annotation' else a[0] ^ 3
        Image.fromarray(a).save(f)
        assert new() == {cases.case[9]}
    # other bytes, the same pixels: the case is read again, and nothing changes
    f.write_bytes(f.read_bytes() + b'\0')
    assert new() <= {cases.case[9]}
    assert new(annotation='ellipse') == new(size=(68,100)) == new(mode='stretch') == set(cases.case)
    assert not list(out.rglob('.*'))

def test_names_that_swap_their_places(mine, tmp_path):
    "Two cases of two splits exchange their names: each file lands under its new name and split."
    out = tmp_path/'out'
    cases = prepare(mine, out, SIZE, fractions=(0.5,0.25,0.25))
    a, b = (next(cases[cases.split == s].itertuples()) for s in ('train', 'test'))
    for kind in ('image', 'annotation'):
        x, y = (mine/getattr(c, kind) for c in (a,b))
        keep = x.read_bytes()
        x.write_bytes(y.read_bytes())
        y.write_bytes(keep)
    now = prepare(mine, out, SIZE, fractions=(0.5,0.25,0.25))
    prepare(mine, tmp_path/'fresh', SIZE, fractions=(0.5,0.25,0.25))
    assert snapshot(out) == snapshot(tmp_path/'fresh')
    assert now.set_index('case').image_sha256[a.case] == b.image_sha256

def test_a_commit_may_swap_names(tmp_path):
    for d in (WORK, 'train/images'): (tmp_path/d).mkdir(parents=True)
    a, b = (f'train/images/{name}.png' for name in 'ab')
    for name in (a, b): (tmp_path/name).write_text(name)
    commit(tmp_path, [(a, f'{WORK}/1'), (b, f'{WORK}/2')], [], [(f'{WORK}/1', b), (f'{WORK}/2', a)])
    assert [(tmp_path/name).read_text() for name in (a, b)] == [b, a] and not replay(tmp_path)

HOLD = '''
import sys, time
from fetal_seg.core import folder_lock
with folder_lock(sys.argv[1]):
    print('go', flush=True)
    time.sleep(60)
'''
def test_two_processes_on_one_folder(world, tmp_path):
    (tmp_path/'hold.py').write_text(HOLD)
    out = Path(shutil.copytree(world/'seed0', tmp_path/'out'))
    p = start(tmp_path/'hold.py', out)
    said = f"another process \\(number {p.pid}, for \\d+ s\\) is writing to this folder"
    with pytest.raises(InputError, match=said):
        prepare(world/'raw', out, SIZE, seed=1)
    kill(p)
    assert (out/'.lock').exists()   # a killed process cannot remove it, and locks nobody out
    prepare(world/'raw', out, SIZE, seed=1)
    assert snapshot(out) == snapshot(world/'seed1')
    with folder_lock(out), pytest.raises(InputError, match=f'number {os.getpid()}'):
        with folder_lock(out): pass

def test_every_bad_case_is_counted_and_the_good_ones_stay(mine, world, tmp_path):
    out = Path(shutil.copytree(world/'seed0', tmp_path/'out'))
    bad = sorted(mine.rglob('*_Annotation.png'))[4:7]
    keep = [f.read_bytes() for f in bad]
    for f in bad: f.write_bytes(b'not a picture')
    for workers in (0, 2):
        with pytest.raises(InputError, match='2 more files have faults') as e:
            prepare(mine, out, (68, 100), workers=workers)
        assert '\n' not in str(e.value) and any(str(f) in str(e.value) for f in bad)
        kept = {f: b for f,b in snapshot(out).items() if not f.startswith(WORK)}
        assert kept == snapshot(world/'seed0')
        assert len(list((out/WORK).glob('*.png'))) == 3*37
    staged = {p.stat().st_mtime_ns for p in (out/WORK).glob('*.png')}
    for f,b in zip(bad, keep): f.write_bytes(b)
    prepare(mine, out, (68,100))
    assert staged <= set(times(out).values()) and not (out/WORK).exists()
    for f in mine.rglob('*_Annotation.png'): f.write_bytes(b'')
    with pytest.raises(InputError, match='39 more files have faults'):
        prepare(mine, tmp_path/'new', (68, 100))
    assert not (tmp_path/'new').exists()   # nothing was finished, nothing is left

def test_wrong_words_are_told_before_the_work(world, tmp_path):
    wrong = (dict(fractions=(1,1,1)), dict(split='half'), dict(split='given'),
             dict(split='nowhere.csv'), dict(exams='(\\d'), dict(exams='nowhere.csv'),
             dict(layout='zip'), dict(mode='zoom'), dict(annotation='circle'),
             dict(scheduler='nonsense'))
    for kw in wrong:
        with pytest.raises(InputError) as e: prepare(world/'raw', tmp_path/'out', SIZE, **kw)
        assert '\n' not in str(e.value) and not (tmp_path/'out').exists()
    for out in (world/'raw', world/'raw'/'out', world, world/'seed0'/'cases.csv'):
        with pytest.raises(InputError): prepare(world/'raw', out, SIZE)

def test_splits_and_exams_of_the_user(world, tmp_path):
    out = tmp_path/'out'
    cases = prepare(world/'raw', out, SIZE)
    stamps = set(times(out).values())
    third = np.array(['train', 'valid', 'test'])[np.arange(len(cases)) % 3]
    pd.DataFrame(dict(case=cases.case, split=third)).to_csv(tmp_path/'split.csv', index=False)
    pd.DataFrame(dict(case=cases.case, exam=cases.case)).to_csv(tmp_path/'exams.csv', index=False)
    # each case an exam of its own, so none is torn
    now = prepare(world/'raw', out, SIZE, split=tmp_path/'split.csv', exams=tmp_path/'exams.csv')
    assert list(now.split) == list(third) and set(now.exam_source) == {'csv'}
    assert all(case_path(out, c, k).exists() for c in now.itertuples() for k in KINDS)
    area = prepare(world/'raw', out, SIZE, split='area')
    assert set(area.split) == {'train', 'valid', 'test'}
    assert (area.groupby('exam').split.nunique() == 1).all()
    assert {t for f,t in times(out).items() if f.endswith('.png')} <= stamps   # nothing but moves
    prepare(world/'raw', tmp_path/'area', SIZE, split='area')
    assert snapshot(out) == snapshot(tmp_path/'area')
    prepare(world/'raw', out, SIZE, fractions=(1,0,0))
    assert {p.name for p in out.iterdir() if p.is_dir()} == {'train'}   # no empty folders

def test_a_damaged_table_or_an_old_format_is_replaced(world, tmp_path):
    want = snapshot(world/'seed0')
    for name, text in (('cases.csv', 'case,split\n'), ('cases.csv', '\0'),
                       ('manifest.jsonl', '{"case": '), ('prepare.json', '{}')):
        out = Path(shutil.copytree(world/'seed0', tmp_path/'out'))
        (out/name).write_text(text)
        (out/'train'/'images'/'stale.png').write_bytes(b'')
        prepare(world/'raw', out, SIZE)
        assert snapshot(out) == want, name
        shutil.rmtree(out)
    out = Path(shutil.copytree(world/'seed0', tmp_path/'out'))
    (out/'manifest.jsonl').unlink()
    (out/'notes.txt').write_text('mine')
    prepare(world/'raw', out, SIZE)
    assert snapshot(out) == dict(want, **{'notes.txt': b'mine'})

def test_each_file_is_opened_once(world, tmp_path, monkeypatch):
    "A first run opens each raw file once; a second one too, and decodes none."
    opened, decoded, listening, real = [], [], False, ImageFile.ImageFile.load
    def hook(event, args):
        if not listening or event != 'open' or not isinstance(args[0], (str, Path)): return
        if str(world/'raw') in str(args[0]): opened.append(str(args[0]))
    def load(self):
        if self.tile: decoded.append(1)
        return real(self)
    sys.addaudithook(hook)   # there is no way to remove one
    monkeypatch.setattr(ImageFile.ImageFile, 'load', load)
    for k in range(2):
        listening = True
        prepare(world/'raw', tmp_path/'out', SIZE)
        listening = False
        files = [f for f in opened if f.endswith('.png')]
        assert len(files) == len(set(files)) == 80, k
        assert len(decoded) == (80 if k == 0 else 0)
        opened.clear()
        decoded.clear()

def test_equal_files_under_two_names(mine, tmp_path):
    case = find_cases(mine)[0].iloc[0]
    for f in (case.image, case.annotation):
        shutil.copy(mine/f, mine/f.replace(case.case, '9999_HC'))
    cases = prepare(mine, tmp_path/'out', SIZE).set_index('case', drop=False)
    a, b = cases.loc[case.case], cases.loc['9999_HC']
    assert len(cases) == 41 and a.image_sha256 == b.image_sha256
    for kind in KINDS:
        one, two = (case_path(tmp_path/'out', c, kind).read_bytes() for c in (a, b))
        assert one == two

def test_numbers_come_back_to_their_last_bit(world, tmp_path):
    area = np.random.default_rng(12).random(2000)/3
    table = pd.DataFrame(dict(case=[str(i) for i in range(2000)], exam='e', split='train', height=9,
                              width=9, **dict.fromkeys(AFFINE, 1.), area=area))
    table.to_csv(tmp_path/'cases.csv', index=False)
    assert (read_cases(tmp_path).area == area).all()
    lines = (world/'seed0'/'manifest.jsonl').read_text().splitlines()
    noted = {r['case']: r for r in map(json.loads, lines)}
    facts = 'area', 'disagreement', 'height', 'image_sha256', 'method', 'scale_row'
    for c in read_cases(world/'seed0').itertuples():
        r = noted[c.case]
        assert all(getattr(c, k) == r[k] for k in facts)
        assert all(digest_file(case_path(world/'seed0', c, kind)) == r[kind] for kind in KINDS)

def test_odd_names(tmp_path):
    "Names that a table reader would take for a gap or a number, and blanks and quotes."
    names = ['NA', 'nan', '007', '1e5', 'a b', "it's", 'ü', 'x,y', 'None']
    rng = np.random.default_rng(11)
    for i,n in enumerate(names):
        d = tmp_path/'raw'/'train'/'malignant'
        d.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, SIZE).astype(np.uint8)).save(d/f'{n}.png')
        ann = stroke(in_ellipse((68, 100, 50, 30+i, 0.1), SIZE), 2)
        Image.fromarray(ann*np.uint8(255)).save(d/f'{n}_Annotation.png')
    with pytest.warns(UserWarning):
        cases = prepare(tmp_path/'raw', tmp_path/'out', SIZE, fractions=(0.5, 0.25, 0.25))
    assert sorted(cases.case) == sorted(names)
    for c in cases.itertuples(): assert case_path(tmp_path/'out', c).exists()
    before = times(tmp_path/'out')
    with pytest.warns(UserWarning):
        again = prepare(tmp_path/'raw', tmp_path/'out', SIZE, fractions=(0.5, 0.25, 0.25))
    pd.testing.assert_frame_equal(cases, again)
    assert times(tmp_path/'out') == before

def test_the_key_is_known_before_decoding(world, tmp_path):
    """The digests of `read_pair` are those of the files' bytes, so that a second run finds each
    case without decoding; masks in several files too."""
    recipe = dict(size=[1,1])
    row = find_cases(world/'raw')[0].iloc[0].to_dict()
    two = tmp_path/'two.png'
    Image.fromarray(np.asarray(Image.open(world/'raw'/row['annotation']))[::-1].copy()).save(two)
    for case in (row, dict(row, annotation=f'{row["annotation"]}|{two}')):
        facts = read_pair(world/'raw', case)[2]
        digests = facts['image_file_sha256'], facts['annotation_file_sha256']
        assert _file_key(case, world/'raw', recipe) == case_key(recipe, case['case'], *digests)

def test_a_prepared_case_is_what_the_files_and_the_table_say(world, tmp_path):
    "In every mode, and after a journey through a pickle: all there is to know of each case."
    for mode in MODES:
        out = tmp_path/mode
        table = prepare(world/'raw', out, (96,256), mode=mode)
        cases = read_prepared(out)
        assert [c.case for c in cases] == list(table.case)
        for r, c in zip(table.itertuples(), pickle.loads(pickle.dumps(cases))):
            affine = [r.scale_row, r.scale_col, r.offset_row, r.offset_col]
            canvas = read_img(case_path(out, r))
            old = np.clip(np.round(warp(canvas, invert(affine), (r.height, r.width))), 0, 255)
            assert (c.original() == old.astype(np.uint8)).all() and c.original().dtype == np.uint8
            assert (c.canvas == canvas).all() and list(c.affine) == affine
            assert (c.mask == read_mask(case_path(out, r, 'masks'))).all()
            assert (c.full_mask == read_mask(case_path(out, r, 'full_masks'))).all()
            assert c.shape == (r.height, r.width) == c.full_mask.shape == c.original().shape
            assert np.array_equal(c.spacing, (r.spacing_row, r.spacing_col), equal_nan=True)
            assert (c.exam, c.split, c.method, c.area) == (r.exam, r.split, r.method, r.area)
            assert case_path(out, c, 'masks') == c.path('masks') == case_path(out, r, 'masks')

def test_rows_of_any_kind_make_a_prepared_case(world):
    out = world/'seed0'
    table = read_cases(out)
    for row in (next(table.itertuples()), table.iloc[0], read_prepared(out)[0].row):
        c = copy.copy(PreparedCase(str(out), row))
        assert (c.case, c.shape, c.original().shape) == (table.case[0], SIZE, SIZE)
        assert repr(c) == f"PreparedCase({c.case!r}, split={c.split!r})"
        assert not hasattr(c, 'no_such_column')

def test_a_folder_without_cases_is_named(world, tmp_path):
    out = Path(shutil.copytree(world/'seed0', tmp_path/'out'))
    counts = [len(read_prepared(out, s)) for s in ('train', 'valid', 'test')]
    assert sum(counts) == len(read_prepared(out)) == 40
    with pytest.raises(InputError, match="out: no case in the split 'training'"):
        read_prepared(out, 'training')
    case = read_prepared(out)[0]
    case.path().unlink()
    with pytest.raises(InputError, match=re.escape(str(case.path()))): case.original()
    table = read_cases(out)
    table[:0].to_csv(out/'cases.csv', index=False)
    with pytest.raises(InputError, match='no case in this folder'): read_prepared(out)
    table.drop(columns=['exam', 'scale_row']).to_csv(out/'cases.csv', index=False)
    with pytest.raises(InputError, match='cases.csv: no column scale_row, exam'): read_prepared(out)

@pytest.mark.data
def test_round_trip_of_every_real_mask(raw):
    trips, gaps = [], []
    for c in find_cases(raw)[0].to_dict('records'):
        mask, _, gap = choose_mask(np.asarray(Image.open(raw/c['annotation']).convert('L')) > 0)
        a = fit_affine(mask.shape, (176,256))
        small = warp_mask(mask, a, (176,256))
        trips.append(dice(mask, warp_mask(small, invert(a), mask.shape)))
        gaps.append(gap)
    assert min(trips) >= 0.99 and max(gaps) < 0.0015

# What an annotation is, where nobody says so

def unsaid(raw, *masks):
    "Pictures and annotations in a layout that does not say what they are."
    for f in ('images', 'annotations'): (raw/f).mkdir(parents=True, exist_ok=True)
    for k,m in enumerate(masks):
        img = np.random.default_rng(k).integers(0, 200, m.shape).astype(np.uint8)
        Image.fromarray(img).save(raw/'images'/f'{k}.png')
        Image.fromarray(m*np.uint8(255)).save(raw/'annotations'/f'{k}.png')
    return raw

DISC = np.hypot(*(np.mgrid[:96,:128] - np.array([48, 64])[:,None,None])) < 25
RING, NONE = stroke(DISC, 2), DISC & False
ARC = RING & (np.arange(128) < 60)

@pytest.mark.parametrize('masks,said',
                         [([DISC, RING]*3, '3 enclose more than they draw .outlines., 3 are solid'),
                          ([ARC]*5, '0 enclose .* 0 are solid'),
                          ([ARC, NONE, NONE], 'Of 3 that were')])
def test_a_tie_is_asked_for(masks, said, tmp_path):
    raw = unsaid(tmp_path/'raw', *masks)
    for job in (lambda **kw: prepare(raw, tmp_path/'p', size=(96, 128), **kw),
                lambda **kw: verify(raw, **kw)):
        asked = (f'raw: are the annotations outlines or filled masks. .*{said}.*'
                 '--annotation outline or --annotation filled')
        with pytest.raises(InputError, match=asked): job()
        job(annotation='filled')
        job(annotation='outline')

def test_a_majority_or_nothing_drawn_decides(tmp_path):
    jobs = (([DISC, DISC, RING], 'filled'), ([RING, RING, DISC], 'outline'),
            ([NONE]*4, 'filled'), ([RING, NONE, NONE, NONE], 'outline'))
    for k,(masks,kind) in enumerate(jobs):
        prepare(unsaid(tmp_path/f'r{k}', *masks), tmp_path/f'p{k}', size=(96,128))
        assert json.loads((tmp_path/f'p{k}'/'prepare.json').read_text())['annotation'] == kind

# Several outlines in one picture

def open_outline(row, col, a, b, lost=0.15):
    "An outline with a gap, and its region."
    y, x = np.mgrid[:136,:200]
    m = ((y-row)/b)**2 + ((x-col)/a)**2 < 1
    return stroke(m, 2) & ~((abs(np.arctan2((y-row)/b, (x-col)/a)) < lost*np.pi)), m

def test_open_outlines_are_closed_each_by_itself():
    (a, one), (b, two) = open_outline(68, 50, 30, 22), open_outline(60, 150, 25, 30)
    c, three = open_outline(110, 100, 16, 14)
    for anns, truth in (((a, b), one | two), ((a, b, c), one | two | three),
                        ((a, stroke(two, 2), c), one | two | three), ((a, two), one | two)):
        mask, method, _ = choose_mask(np.any(anns, 0))
        assert method == 'ellipse' and dice(mask, truth) > 0.97
    # both cut by the border: each is closed along it
    y, x = np.mgrid[:136,:200]
    discs = [np.hypot(y - 8, x - col) < 30 for col in (50, 150)]
    mask, method, _ = choose_mask(stroke(discs[0] | discs[1], 2))
    assert method == 'closed' and dice(mask, discs[0] | discs[1]) > 0.99
    whole, gaps = open_outline(68, 100, 60, 40, lost=0)[1], np.zeros((136,200), bool)
    gaps[:, 95:105] = gaps[60:70] = True
    pieces = stroke(whole, 3) & ~gaps                              # four pieces of one outline
    assert ndimage.label(pieces, np.ones((3,3)))[1] == 4
    assert dice(choose_mask(pieces)[0], whole) > 0.97

def test_pieces_that_nobody_can_put_together_are_refused(tmp_path):
    (a, _), (b, _) = open_outline(68, 50, 30, 22, lost=0.7), open_outline(60, 150, 25, 30)
    inner, outer = open_outline(68, 100, 60, 50), open_outline(68, 100, 30, 25)
    for ann in (a | b, inner[0] | outer[0]):
        with pytest.raises(InputError): choose_mask(ann)
    raw = unsaid(tmp_path/'raw', *[a | b]*3)
    with pytest.raises(InputError, match='annotations/0.png: this is no region'):
        prepare(raw, tmp_path/'p', size=(136, 200), annotation='outline')

def test_two_regions_far_apart_are_not_changed():
    y, x = np.mgrid[:136,:200]
    discs = [np.hypot(y - 68, x - col) < 25 for col in (35, 165)]
    both, (left, right) = discs[0] | discs[1], (stroke(d, 2) for d in discs)
    ann = left & (abs(y - 68) > 2) | right & ~((abs(y - 68) < 3) & (x > 165))
    mask, method, _ = choose_mask(ann)
    assert method == 'ellipse' and dice(mask, both) > 0.97
    assert abs(hull_change(ann, mask, method)) < 0.1
    # the one that changed counts
    half = left & (x < 36) | right & (abs(x - 165) > 2)
    mask, method, _ = choose_mask(half)
    assert hull_change(half, mask, method) > 0.5
    # one ellipse through two blobs is a change
    mask, method, _ = choose_mask(both, 'ellipse')
    assert abs(hull_change(both, mask, method) - (mask.sum()/both.sum() - 1)) < 1e-9
    assert hull_change(both, mask, method) > 0.8
    # four arcs of one outline are no four regions
    gaps = (abs(y - 68) < 5) | (abs(x - 165) < 5)
    arcs = stroke(discs[1], 2) & ~gaps
    mask, method, _ = choose_mask(arcs)
    assert method == 'ellipse' and abs(hull_change(arcs, mask, method)) < 0.2
