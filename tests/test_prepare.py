"Masks, geometry and `prepare` in bulk: oracles, kills at every moment, a cluster, two processes at once."
import json, os, re, select, shutil, signal, subprocess, sys, time, tracemalloc
from functools import partial
from pathlib import Path
import numpy as np, pandas as pd, pytest
from PIL import Image, ImageFile
from scipy import ndimage
from fetal_seg.core import InputError, digest_file, folder_lock, pmap, pstream
from fetal_seg.data import find_cases, read_pair
from fetal_seg.phantom import write_phantoms
from fetal_seg.verify import verify
from fetal_seg.preprocess import (KINDS, MODES, WORK, _cover, _file_key, case_key, case_path,
                                  choose_mask, commit, compose, fill, fit_affine, fit_ellipse,
                                  hull_change, in_ellipse, invert, picture_part, prepare,
                                  read_cases, replay, to_input, to_mask, warp, warp_mask)

def dice(a, b): return 2*(a & b).sum()/(a.sum() + b.sum())
def snapshot(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in Path(folder).rglob('*')
        if p.is_file()
    }
def times(folder):
    return {
        p.relative_to(folder).as_posix(): p.stat().st_mtime_ns
        for p in Path(folder).rglob('*')
        if p.is_file()
    }
def ellipse(rng, shape, low=0.058, high=0.58):
    "A random ellipse inside a picture."
    while True:
        area, ratio, angle = rng.uniform(low, high)*shape[0]*shape[1], rng.uniform(0.65,
                                                                                   1), rng.uniform(
                                                                                       0, np.pi)
        a = np.sqrt(area/np.pi/ratio); b = a*ratio
        ey, ex = np.hypot(a*np.sin(angle), b*np.cos(angle)), np.hypot(a*np.cos(angle),
                                                                      b*np.sin(angle))
        if ey < shape[0]/2 - 2 and ex < shape[1]/2 - 2:
            return rng.uniform(ey + 1,
                               shape[0] - 2 - ey), rng.uniform(ex + 1,
                                                               shape[1] - 2 - ex), a, b, angle
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
        b = rng.uniform(0.2, 60); a = b*rng.uniform(1, 3)
        y, x = np.ogrid[:shape[0], :shape[1]]
        u, v = (x-col)*np.cos(angle) + (y-row)*np.sin(angle), (y-row)*np.cos(angle) - (
            x-col)*np.sin(angle)
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
        p = np.stack([
            true[0] + u*np.sin(true[4]) + v*np.cos(true[4]),
            true[1] + u*np.cos(true[4]) - v*np.sin(true[4])
        ], 1)
        m = measure.EllipseModel(); m.estimate(p[:,::-1])
        x, y, a, b, _ = m.params
        np.testing.assert_allclose(fit_ellipse(p)[:4], [y, x, max(a, b), min(a, b)], rtol=1e-6)

def test_cut_outlines_are_closed():
    "Ellipses that one to three borders cut: holes alone leave them hollow, and every one is closed."
    rng, shape, n = np.random.default_rng(3), (270,400), 0
    while n < 150:
        a = rng.uniform(60, 160); b = a*rng.uniform(0.65, 1)
        truth = in_ellipse((rng.uniform(0, 270), rng.uniform(0, 400), a, b, rng.uniform(0, np.pi)),
                           shape)
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
        affine = (*rng.uniform(1, 4, 2),
                  *rng.uniform(-6, 6, 2)) if k % 3 else (*(max(1, n/m)
                                                           for n, m in ((h, H), (w, W))), 0., 0.)
        want, got = cover_slowly(mask, affine, (H, W)), _cover(
            _cover(mask.astype(np.uint8), affine[0], affine[2], H).T, affine[1], affine[3], W).T
        np.testing.assert_allclose(got, want, atol=1e-12)
        small = warp_mask(mask, affine, (H,W))
        clear = np.abs(want - 0.5) > 1e-9
        assert small.dtype == np.uint8 and (small == (want >= 0.5))[clear].all() and (small[~clear]
                                                                                      == 1).all()

def test_round_trips_of_masks():
    rng, shape, got = np.random.default_rng(6), (540,800), []
    for _ in range(60):
        mask = in_ellipse(ellipse(rng, shape), shape)
        for mode in ('auto', 'stretch'):
            a = fit_affine(shape, (176,256), mode)
            got.append(dice(mask, warp_mask(warp_mask(mask, a, (176,256)), invert(a), shape) > 0))
    assert min(got) > 0.99

def test_affines():
    rng = np.random.default_rng(7)
    for _ in range(300):
        shape, size, mode = rng.integers(20, 900, 2), rng.integers(20, 900,
                                                                   2), MODES[rng.integers(4)]
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
        rows, cols = (np.average(np.arange(n) + 0.5, weights=small.sum(k))
                      for n, k in ((size[0], 1), (size[1], 0)))
        np.testing.assert_allclose((a[0]*rows + a[2], a[1]*cols + a[3]), (270, 400), atol=0.01)

def test_intensity_sees_the_picture_only():
    "Statistics are taken where the picture is: padding changes nothing."
    rng = np.random.default_rng(9)
    img = rng.integers(20, 90, (540,800)).astype(np.uint8)
    wide = np.zeros((700,800), np.uint8); wide[80:620] = img
    part = picture_part((1, 1, -80, 0), img.shape, wide.shape)
    for how in ('window', 'zscore'):
        np.testing.assert_array_equal(
            to_input(wide, wide.shape, how, part)[0][part],
            to_input(img, img.shape, how)[0])
    with pytest.raises(InputError, match="'bright' is not known"):
        to_input(img, img.shape, 'bright')

# --- the parallel map

def shout(i, folder): (Path(folder)/str(i)).touch(); time.sleep(0.02); return i if i != 7 else 1/0
def big(i): return np.full(500_000, i)

def test_pmap_keeps_the_order_and_stops_at_an_error(tmp_path):
    assert pmap(partial(round, ndigits=1), [i/3 for i in range(101)],
                workers=2) == [round(i/3, 1) for i in range(101)]
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

    def children(pid):
        return [int(c) for c in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
                ] if Path(f'/proc/{pid}').exists() else []
    if not Path('/proc/self/task').exists(): p.kill(); pytest.skip('no /proc here')
    end = time.time() + 60
    # two workers and the resource tracker
    while len(kids := children(p.pid)) < 3 and time.time() < end: time.sleep(0.1)
    time.sleep(2)
    p.kill(); p.wait()
    while any(Path(f'/proc/{k}').exists() for k in kids) and time.time() < end: time.sleep(0.1)
    assert not any(Path(f'/proc/{k}').exists() for k in kids)

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
    p = subprocess.Popen([sys.executable, script, *map(str, args)], stdout=subprocess.PIPE,
                         text=True)
    assert p.stdout.readline() == 'go\n'
    return p
def kill(p): p.kill(); p.wait(); p.stdout.close()

def test_killed_at_twenty_moments(world, tmp_path):
    "Spread over the whole run, its commit included; from an empty folder, and (every other) from one prepared under another seed."
    (tmp_path/'run.py').write_text(RUN)
    rng, want, seen, took = np.random.default_rng(10), {
        s: snapshot(world/f'seed{s}')
        for s in (0, 1)
    }, [], [9., 9.]
    out = tmp_path/'out'
    def run(k, moment):
        "Start a run and kill it at that moment, in seconds; was it killed? Else it took so long."
        shutil.rmtree(out, ignore_errors=True)
        if k % 2: shutil.copytree(world/'seed0', out)
        p, t = start(tmp_path/'run.py', world/'raw', out, 1, 0), time.perf_counter()
        done = select.select([p.stdout], [], [], moment)[0]
        took[k%2] = min(took[k%2], time.perf_counter() - t) if done else took[k%2]
        kill(p)
        return not done
    for k in (0, 1): assert not run(k, 60) and snapshot(out) == want[1]
    for k in range(20):
        for _ in range(20):   # how long a run takes varies: those that had ended do not count
            if run(k, took[k%2]*(k//2 + rng.random())/10): break
        left = snapshot(out) if out.exists() else {}
        seen.append('journal' if f'{WORK}/journal.json' in left else 'staging' if any(
            f.startswith(WORK) for f in left) else 'begun' if left != want[1] else 'done')
        prepare(world/'raw', out, SIZE, seed=1)
        assert snapshot(out) == want[1], k
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
def snapshot(d): return {p.relative_to(d).as_posix(): p.read_bytes() for p in d.rglob('*') if p.is_file()}
def die_at(n):
    "Let this process be killed before its n-th change of the file system."
    count = iter(range(n))
    def mortal(f):
        def g(*a, **k):
            if next(count, None) is None: os.kill(os.getpid(), signal.SIGKILL)
            return f(*a, **k)
        return g
    for name in ('replace', 'unlink', 'rmdir', 'mkdir'): setattr(os, name, mortal(getattr(os, name)))
goal = snapshot(want)
for n in range(10_000):
    out = tmp/'out'
    shutil.rmtree(out, ignore_errors=True); shutil.copytree(before, out)
    if not (pid := os.fork()):
        die_at(n)
        prepare(raw, out, (68,100), seed=5)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert status in (0, signal.SIGKILL), status
    committing, t = (out/'.work'/'journal.json').exists(), time.time_ns()
    prepare(raw, out, (68,100), seed=5)
    if committing: assert all(p.stat().st_mtime_ns < t for p in out.rglob('*.png')), n   # ended, not done again
    now = snapshot(out)
    assert now == goal, (n, sorted(set(now) ^ set(goal)), [k for k in now if now[k] != goal.get(k)])
    assert sorted(p for p in out.rglob('*')) == sorted(out/p.relative_to(want) for p in want.rglob('*')), n   # no empty folder either
    if status == 0: break
print(n)
'''
@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
def test_killed_before_every_change_of_the_file_system(tmp_path):
    "A new seed, a changed picture, one that goes and one that comes, all at once: dead before each single rename, removal or new folder."
    write_phantoms(tmp_path/'raw', n=12, shape=SIZE)
    cases, _ = find_cases(tmp_path/'raw')
    away = tmp_path/'raw'/cases.image[3]
    away.rename(tmp_path/'away.png')
    prepare(tmp_path/'raw', tmp_path/'before', (68,100), seed=0, fractions=(0.4,0.3,0.3))
    (tmp_path/'away.png').rename(away)
    gone, changed = tmp_path/'raw'/cases.image[4], tmp_path/'raw'/cases.image[5]
    gone.unlink()
    a = np.array(Image.open(changed)); a[0] ^= 1; Image.fromarray(a).save(changed)
    prepare(tmp_path/'raw', tmp_path/'want', (68,100), seed=5)
    moved = pd.merge(read_cases(tmp_path/'before'), read_cases(tmp_path/'want'), on='case')
    assert (moved.split_x != moved.split_y).sum() >= 3
    (tmp_path/'every.py').write_text(EVERY)
    r = subprocess.run([
        sys.executable, tmp_path/'every.py', *(tmp_path/d for d in ('raw', 'before', 'want', 'tmp'))
    ], capture_output=True, text=True, timeout=500, env=dict(os.environ, OMP_NUM_THREADS='1',
                                                             OPENBLAS_NUM_THREADS='1'))
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
    assert snapshot(out).keys() == snapshot(out).keys() and not [p for p in out.rglob('.*')]

def test_names_that_swap_their_places(mine, tmp_path):
    "Two cases of two splits exchange their names: each file lands under its new name, in its new split."
    out = tmp_path/'out'
    cases = prepare(mine, out, SIZE, fractions=(0.5,0.25,0.25))
    a, b = (next(cases[cases.split == s].itertuples()) for s in ('train', 'test'))
    for kind in ('image', 'annotation'):
        x, y = (mine/getattr(c, kind) for c in (a,b))
        keep = x.read_bytes(); x.write_bytes(y.read_bytes()); y.write_bytes(keep)
    now = prepare(mine, out, SIZE, fractions=(0.5,0.25,0.25))
    prepare(mine, tmp_path/'fresh', SIZE, fractions=(0.5,0.25,0.25))
    assert snapshot(out) == snapshot(tmp_path/'fresh')
    assert now.set_index('case').image_sha256[a.case] == b.image_sha256

def test_a_commit_may_swap_names(tmp_path):
    (tmp_path/WORK).mkdir()
    for name in 'ab': (tmp_path/name).write_text(name)
    commit(tmp_path, [('a', f'{WORK}/1'), ('b', f'{WORK}/2')], [], [(f'{WORK}/1', 'b'),
                                                                    (f'{WORK}/2', 'a')])
    assert (tmp_path/'a').read_text() == 'b' and (tmp_path/
                                                  'b').read_text() == 'a' and not replay(tmp_path)

HOLD = '''
import sys, time
from fetal_seg.core import folder_lock
with folder_lock(sys.argv[1]): print('go', flush=True); time.sleep(60)
'''
def test_two_processes_on_one_folder(world, tmp_path):
    (tmp_path/'hold.py').write_text(HOLD)
    out = Path(shutil.copytree(world/'seed0', tmp_path/'out'))
    p = start(tmp_path/'hold.py', out)
    with pytest.raises(InputError,
                       match=f'another process \\(number {p.pid}\\) is writing to this folder'):
        prepare(world/'raw', out, SIZE, seed=1)
    kill(p)
    assert (out/'.lock').exists()   # a killed process cannot remove it, and locks nobody out
    prepare(world/'raw', out, SIZE, seed=1)
    assert snapshot(out) == snapshot(world/'seed1')
    with folder_lock(out), pytest.raises(InputError,
                                         match=f'number {os.getpid()}'), folder_lock(out):
        pass

def test_every_bad_case_is_counted_and_the_good_ones_stay(mine, world, tmp_path):
    out, bad = Path(shutil.copytree(world/'seed0',
                                    tmp_path/'out')), sorted(mine.rglob('*_Annotation.png'))[4:7]
    keep = [f.read_bytes() for f in bad]
    for f in bad: f.write_bytes(b'not a picture')
    for workers in (0, 2):
        with pytest.raises(InputError, match='2 more files have faults') as e:
            prepare(mine, out, (68, 100), workers=workers)
        assert '\n' not in str(e.value) and any(str(f) in str(e.value) for f in bad)
        assert {f: b
                for f, b in snapshot(out).items()
                if not f.startswith(WORK)} == snapshot(world/'seed0')
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
    wrong = dict(fractions=(1,1,1)), dict(split='half'), dict(split='given'), dict(split='nowhere.csv'), dict(exams='(\\d'), dict(exams='nowhere.csv'), dict(layout='zip'), \
            dict(mode='zoom'), dict(annotation='circle'), dict(scheduler='nonsense')
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
    assert list(now.split) == list(third) and set(now.exam_source) == {'csv'} and all(
        case_path(out, c, k).exists() for c in now.itertuples() for k in KINDS)
    area = prepare(world/'raw', out, SIZE, split='area')
    assert set(area.split) == {'train', 'valid', 'test'} and (area.groupby('exam').split.nunique()
                                                              == 1).all()
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
    for f in ('manifest.jsonl',): (out/f).unlink()
    (out/'notes.txt').write_text('mine')
    prepare(world/'raw', out, SIZE)
    assert snapshot(out) == dict(want, **{'notes.txt': b'mine'})

def test_each_file_is_opened_once(world, tmp_path, monkeypatch):
    "A first run opens each raw file once; a second one too, and decodes none."
    opened, decoded, listening, real = [], [], False, ImageFile.ImageFile.load
    def hook(event, args):
        if listening and event == 'open' and isinstance(args[0], (str, Path)) and str(
                world/'raw') in str(args[0]):
            opened.append(str(args[0]))
    sys.addaudithook(hook)   # there is no way to remove one
    monkeypatch.setattr(ImageFile.ImageFile, 'load', lambda self:
                        (decoded.append(1) if self.tile else None, real(self))[1])
    for k in range(2):
        listening = True
        prepare(world/'raw', tmp_path/'out', SIZE)
        listening = False
        files = [f for f in opened if f.endswith('.png')]
        assert len(files) == len(set(files)) == 80, k
        assert len(decoded) == (80 if k == 0 else 0)
        opened.clear(); decoded.clear()

def test_equal_files_under_two_names(mine, tmp_path):
    case = find_cases(mine)[0].iloc[0]
    for f in (case.image, case.annotation):
        shutil.copy(mine/f, mine/f.replace(case.case, '9999_HC'))
    cases = prepare(mine, tmp_path/'out', SIZE).set_index('case', drop=False)
    a, b = cases.loc[case.case], cases.loc['9999_HC']
    assert len(cases) == 41 and a.image_sha256 == b.image_sha256
    for kind in KINDS:
        assert case_path(tmp_path/'out', a,
                         kind).read_bytes() == case_path(tmp_path/'out', b, kind).read_bytes()

def test_numbers_come_back_to_their_last_bit(world, tmp_path):
    area = np.random.default_rng(12).random(2000)/3
    pd.DataFrame(dict(case=[str(i) for i in range(2000)],
                      area=area)).to_csv(tmp_path/'cases.csv', index=False)
    assert (read_cases(tmp_path).area == area).all()
    noted = {
        r['case']: r
        for r in map(json.loads, (world/'seed0'/'manifest.jsonl').read_text().splitlines())
    }
    for c in read_cases(world/'seed0').itertuples():
        assert all(
            getattr(c, k) == noted[c.case][k]
            for k in ('area', 'disagreement', 'height', 'image_sha256', 'method', 'scale_row'))
        assert all(
            digest_file(case_path(world/'seed0', c, kind)) == noted[c.case][kind] for kind in KINDS)

def test_odd_names(tmp_path):
    "Names that a table reader would take for a gap or a number, and blanks and quotes."
    names = ['NA', 'nan', '007', '1e5', 'a b', "it's", 'ü', 'x,y', 'None']
    rng = np.random.default_rng(11)
    for i,n in enumerate(names):
        d = tmp_path/'raw'/'train'/'malignant'; d.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, SIZE).astype(np.uint8)).save(d/f'{n}.png')
        Image.fromarray(stroke(in_ellipse(
            (68, 100, 50, 30 + i, 0.1), SIZE), 2)*np.uint8(255)).save(d/f'{n}_Annotation.png')
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
    "The digests of `read_pair` are those of the files' bytes, so that a second run finds each case without decoding; masks in several files too."
    recipe = dict(size=[1,1])
    row = find_cases(world/'raw')[0].iloc[0].to_dict()
    two = tmp_path/'two.png'
    Image.fromarray(np.asarray(Image.open(world/'raw'/row['annotation']))[::-1].copy()).save(two)
    for case in (row, dict(row, annotation=f'{row["annotation"]}|{two}')):
        facts = read_pair(world/'raw', case)[2]
        assert _file_key(case, world/'raw',
                         recipe) == case_key(recipe, case['case'], facts['image_file_sha256'],
                                             facts['annotation_file_sha256'])

@pytest.mark.data
def test_round_trip_of_every_real_mask(raw):
    trips, gaps = [], []
    for c in find_cases(raw)[0].to_dict('records'):
        mask, _, gap = choose_mask(np.asarray(Image.open(raw/c['annotation']).convert('L')) > 0)
        a = fit_affine(mask.shape, (176,256))
        trips.append(
            dice(mask,
                 warp_mask(warp_mask(mask, a, (176, 256)), invert(a), mask.shape) > 0))
        gaps.append(gap)
    assert min(trips) >= 0.99 and max(gaps) < 0.0015

# What an annotation is, where nobody says so

def unsaid(raw, *masks):
    "Pictures and annotations in a layout that does not say what they are."
    for f in ('images', 'annotations'): (raw/f).mkdir(parents=True, exist_ok=True)
    for k,m in enumerate(masks):
        Image.fromarray(np.random.default_rng(k).integers(0, 200, m.shape).astype(np.uint8)).save(
            raw/'images'/f'{k}.png')
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
        with pytest.raises(
                InputError, match=
                f'raw: are the annotations outlines or filled masks. .*{said}.*--annotation outline or --annotation filled'
        ):
            job()
        job(annotation='filled')
        job(annotation='outline')

def test_a_majority_or_nothing_drawn_decides(tmp_path):
    for k, (masks, kind) in enumerate(
        (([DISC, DISC,
           RING], 'filled'), ([RING, RING,
                               DISC], 'outline'), ([NONE]*4, 'filled'), ([RING, NONE, NONE,
                                                                          NONE], 'outline'))):
        prepare(unsaid(tmp_path/f'r{k}', *masks), tmp_path/f'p{k}', size=(96,128))
        assert json.loads((tmp_path/f'p{k}'/'prepare.json').read_text())['annotation'] == kind

# Several outlines in one picture

def open_outline(row, col, a, b, lost=0.15):
    "An outline with a gap, and its region."
    y, x = np.mgrid[:136,:200]
    m = ((y-row)/b)**2 + ((x-col)/a)**2 < 1
    return stroke(m, 2) & ~((abs(np.arctan2((y-row)/b, (x-col)/a)) < lost*np.pi)), m

def test_open_outlines_are_closed_each_by_itself():
    (a, one), (b, two), (c, three) = open_outline(68, 50, 30,
                                                  22), open_outline(60, 150, 25, 30), open_outline(
                                                      110, 100, 16, 14)
    for anns, truth in (((a, b), one | two), ((a, b, c), one | two | three),
                        ((a, stroke(two, 2), c), one | two | three), ((a, two), one | two)):
        mask, method, _ = choose_mask(np.any(anns, 0))
        assert method == 'ellipse' and dice(mask, truth) > 0.97
    # both cut by the border: each is closed along it
    for cut in (0, 30):
        y, x = np.mgrid[:136,:200]
        discs = [np.hypot(y - 8, x - col) < 30 for col in (50, 150)]
        mask, method, _ = choose_mask(stroke(discs[0] | discs[1], 2))
        assert method == 'closed' and dice(mask, discs[0] | discs[1]) > 0.99
    whole, gaps = open_outline(68, 100, 60, 40, lost=0)[1], np.zeros((136,200), bool)
    gaps[:, 95:105] = gaps[60:70] = True
    pieces = stroke(whole, 3) & ~gaps                              # four pieces of one outline
    assert ndimage.label(pieces, np.ones(
        (3, 3)))[1] == 4 and dice(choose_mask(pieces)[0], whole) > 0.97

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
    ann = stroke(discs[0], 2) & (abs(y - 68) > 2) | stroke(discs[1], 2) & ~((abs(y - 68) < 3) &
                                                                            (x > 165))
    mask, method, _ = choose_mask(ann)
    assert method == 'ellipse' and dice(mask, discs[0] | discs[1]) > 0.97 and abs(
        hull_change(ann, mask, method)) < 0.1
    # the one that changed counts
    half = stroke(discs[0], 2) & (x < 36) | stroke(discs[1], 2) & (abs(x - 165) > 2)
    mask, method, _ = choose_mask(half)
    assert hull_change(half, mask, method) > 0.5
    # one ellipse through two blobs is a change
    assert hull_change(discs[0] | discs[1], *choose_mask(discs[0] | discs[1], 'ellipse')[:2]) > 0.5
