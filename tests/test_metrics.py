"""Metrics in bulk: every one against its definition, written with loops, and against tools
written by others; intervals against draws one by one."""
import functools, math, subprocess, sys
import numpy as np, pandas as pd
import pytest
from fetal_seg.core import InputError
from fetal_seg.metrics import (METRICS, SURFACE, boundary, bootstrap_mean, compare, contour_lengths,
                               head_circumference, score, score_case, score_surface, strata,
                               summarise, surface_distances)
from fetal_seg.geometry import in_ellipse

n_pairs, tolerance = 1200, 1.2345
spacings = [(1., 1.), (0.3, 0.3), (0.5, 1.7), (2., 0.1)]
kinds = ('empty', 'full', 'pixel', 'border', 'noise', 'pieces', 'ring', 'stripes')

def random_mask(rng, kind, h, w):
    """Empty, full, one pixel, touching two borders, noise, several rectangles, a frame, every
    other row or column."""
    m = np.zeros((h, w), np.uint8)
    if kind == 'full': m[:] = 1
    if kind == 'pixel': m[rng.integers(h), rng.integers(w)] = 1
    if kind == 'border': m[rng.integers(h):, :rng.integers(1, w+1)] = 1
    if kind == 'noise': m[:] = rng.random((h, w)) < rng.random()
    if kind in ('pieces', 'ring'):
        for _ in range(rng.integers(2, 5) if kind == 'pieces' else 1):
            (a, c), (b, d) = np.sort(rng.integers(0, h+1, 2)), np.sort(rng.integers(0, w+1, 2))
            m[a:c, b:d] = 1
            if kind == 'ring': m[a+1:c-1, b+1:d-1] = 0
    if kind == 'stripes': m[::2] = 1
    return m.T.copy().T if rng.random() < 0.3 else m   # some not row by row in memory

@functools.cache
def pairs():
    """(prediction, truth, spacing): all combinations of kinds; a quarter are one row or one
    column, some are shifted copies, some far apart."""
    out = []
    for i in range(n_pairs):
        rng = np.random.default_rng([3, i])
        h, w = [(1, rng.integers(1, 30)), (rng.integers(1, 30), 1),
                *[rng.integers(2, 26, 2)]*6][rng.integers(8)]
        m, t = random_mask(rng, kinds[i % 8], h, w), random_mask(rng, kinds[i//8 % 8], h, w)
        if i % 7 == 0: t = np.roll(m, rng.integers(-3, 4, 2), (0, 1))
        if i % 11 == 0: m, t = np.pad(m, ((0, 90), (0, 70))), np.pad(t, ((90, 0), (70, 0)))
        out.append((m, t, spacings[i//3 % 4]))
    return out

def filled(): return [o for o in pairs() if o[0].any() and o[1].any()]

# The definitions: m and t are (H, W) arrays of 0 and 1.

def at(m, r, c): return bool(0 <= r < m.shape[0] and 0 <= c < m.shape[1] and m[r, c])
def edge(m):
    return [(r, c)
            for r, c in np.argwhere(m).tolist()
            if not all(at(m, r + i, c + j) for i, j in ((0, 1), (1, 0), (0, -1), (-1, 0)))]
def corners(m, s):
    "Points and lengths of the contour: at each corner between four pixels, by what they are."
    out, half = [], math.hypot(*s)/2
    for r in range(-1, m.shape[0]):
        for c in range(-1, m.shape[1]):
            a, b, d, e = at(m, r, c), at(m, r, c+1), at(m, r+1, c), at(m, r+1, c+1)
            n = a + b + d + e
            if n in (1, 3): length = half
            elif n == 2: length = 2*half if a == e else s[1] if a == b else s[0]
            else: continue
            out.append((r+0.5, c+0.5, length))
    return np.array(out).reshape(-1, 3)

def two_lists(a, b, s):
    d = np.sqrt(((np.asarray(a, float)[:, None]*s - np.asarray(b, float)[None]*s)**2).sum(-1))
    return d.min(1), d.min(0)

def percentile(x, q):
    "Numpy's linear one, by hand."
    x = sorted(x)
    k = q/100*(len(x)-1)
    i = int(k)
    return x[i] + (k-i)*(x[min(i+1, len(x)-1)] - x[i])

def np_surface(m, t, s):
    x, y = two_lists(edge(m), edge(t), s)
    both = [*x, *y]
    return dict(hd=max(both), hd95=max(percentile(x, 95), percentile(y, 95)),
                assd=sum(both)/len(both), nsd=sum(d <= tolerance for d in both)/len(both),
                pooled=percentile(both, 95), masd=(x.mean() + y.mean())/2)

def np_length(m, t, s):
    a, b = corners(m, s), corners(t, s)
    x, y = two_lists(a[:, :2], b[:, :2], s)
    def reach(d, w):
        total = 0.
        for i in np.argsort(d, kind='stable'):
            total += w[i]
            if total/w.sum() >= 0.95: return d[i]
        return d.max()
    both, w = np.concatenate([x, y]), np.concatenate([a[:, 2], b[:, 2]])
    return dict(hd=both.max(), hd95=max(reach(x, a[:, 2]), reach(y, b[:, 2])),
                assd=(both*w).sum()/w.sum(), nsd=w[both <= tolerance].sum()/w.sum())

def close(ours, theirs, eps=1e-9): return abs(ours - theirs) <= eps*max(1, abs(theirs))

def test_the_pairs_are_what_they_should_be():
    m, t, s = zip(*pairs())
    assert sum(not o.any() for o in m) >= 100 and sum(o.all() for o in m) >= 100
    assert sum(min(o.shape) == 1 for o in m) >= 150
    assert sum((a*b).sum() == 0 for a, b, _ in filled()) >= 50
    assert sum(o[0] != o[1] for o in s) >= 500 and len(filled()) >= 600

def test_counts():
    for m, t, _ in pairs():
        tp = fp = fn = 0
        for p, q in zip(m.ravel().tolist(), t.ravel().tolist()):
            tp, fp, fn = tp + (p and q), fp + (p and not q), fn + (q and not p)
        s, alike = score(m, t), float(not (tp or fp or fn))
        expected = dict(dice=2*tp/(2*tp + fp + fn) if not alike else 1,
                        iou=tp/(tp+fp+fn) if not alike else 1,
                        precision=tp/(tp+fp) if tp + fp else alike,
                        recall=tp/(tp+fn) if tp + fn else alike, tp=tp, fp=fp, fn=fn,
                        area=(tp+fp)/m.size, area_truth=(tp+fn)/m.size,
                        missed=tp + fn > 0 and tp == 0)
        assert {k: s[k] for k in expected} == pytest.approx(expected, abs=1e-12)
        error = s['area_error']
        assert error == pytest.approx((fp-fn)/(tp+fn)) if tp + fn else math.isnan(error)

def test_boundaries():
    for m, _, s in pairs():
        assert boundary(m).tolist() == [list(o) for o in edge(m)]
        points, lengths = contour_lengths(m, s)
        assert np.allclose(np.column_stack([points, lengths]), corners(m, s), rtol=0, atol=1e-12)

def test_surface_scores():
    for m, t, s in filled():
        ours, expected = score_surface(m, t, s, tolerance), np_surface(m, t, s)
        other = score_surface(m, t, s, tolerance, hd95='pooled', assd='mean')
        assert all(close(ours[k], expected[k]) for k in SURFACE), (ours, expected)
        assert close(other['hd95'], expected['pooled']) and close(other['assd'], expected['masd'])
        assert (other['hd'], other['nsd']) == (ours['hd'], ours['nsd'])

def test_surface_scores_by_length():
    for m, t, s in filled()[:500]:
        ours, expected = score_surface(m, t, s, tolerance, surface='length'), np_length(m, t, s)
        assert all(close(ours[k], expected[k]) for k in SURFACE), (ours, expected)

def test_just_within_the_tolerance():
    """Pixels whose distance is a whole number of pixels: the tolerance of just that many
    millimetres holds them, whatever the rounding."""
    rounded = 0
    for r, c, n in ((3, 4, 5), (5, 12, 13), (8, 15, 17), (0, 7, 7)):
        m, t = np.zeros((2, 20, 20), np.uint8)
        m[0, 0] = t[r, c] = 1
        for hundredths in range(1, 200):
            tau = n*hundredths/100
            rounded += surface_distances(m, t, hundredths/100).there[0] > tau
            assert score_surface(m, t, hundredths/100, tau)['nsd'] == 1
            assert score_surface(m, t, hundredths/100, tau*0.9999)['nsd'] == 0
    assert rounded > 20

def test_empty_masks():
    seen = 0
    for m, t, s in pairs():
        if m.any() and t.any(): continue
        alike, far = m.any() == t.any(), math.hypot(m.shape[0]*s[0], m.shape[1]*s[1])
        seen += 1
        for surface in ('pixels', 'length'):
            d = 0. if alike else far
            expected = dict(hd=d, hd95=d, assd=d, nsd=float(alike))
            assert score_surface(m, t, s, surface=surface) == expected
    assert seen >= 200

def test_medpy():
    medpy = pytest.importorskip('medpy.metric.binary')
    for m, t, s in filled():
        ours = score_surface(m, t, s, hd95='pooled')
        assert close(ours['hd'], medpy.hd(m, t, s)) and close(ours['hd95'], medpy.hd95(m, t, s))
        assert close(ours['assd'], medpy.assd(m, t, s))
        c = score(m, t)
        theirs = dict(dice=medpy.dc, iou=medpy.jc, precision=medpy.precision, recall=medpy.recall)
        assert all(close(c[k], f(m, t)) for k, f in theirs.items())

@pytest.mark.filterwarnings('ignore')
def test_monai():
    monai, torch = pytest.importorskip('monai.metrics'), pytest.importorskip('torch')
    for m, t, s in filled()[:320]:
        x, y = (torch.from_numpy(np.ascontiguousarray(o))[None, None].float() for o in (m, t))
        kw = dict(include_background=True, spacing=list(s))
        ours, c = score_surface(m, t, s, tolerance), score(m, t)
        length = score_surface(m, t, s, tolerance, surface='length')
        theirs = [monai.compute_hausdorff_distance(x, y, percentile=q, **kw) for q in (None, 95)]
        theirs += [monai.compute_average_surface_distance(x, y, symmetric=True, **kw)]
        theirs += [monai.compute_surface_dice(x > 0, y > 0, [tolerance], use_subvoxels=u, **kw)
                   for u in (False, True)]
        theirs += [monai.compute_dice(x, y), monai.compute_iou(x, y)]
        for o, v in zip((ours['hd'], ours['hd95'], ours['assd'], ours['nsd'], length['nsd'],
                         c['dice'], c['iou']), theirs, strict=True):
            assert close(o, float(v), 1e-5)

def test_simpleitk():
    sitk = pytest.importorskip('SimpleITK')
    for m, t, s in filled():
        x, y = (sitk.GetImageFromArray(np.ascontiguousarray(o)) for o in (m, t))
        for o in (x, y): o.SetSpacing(s[::-1])
        f, g = sitk.LabelOverlapMeasuresImageFilter(), sitk.HausdorffDistanceImageFilter()
        f.Execute(x, y)
        g.Execute(*(sitk.LabelContour(sitk.ConstantPad(o, (1, 1), (1, 1))) for o in (x, y)))
        ours = score_surface(m, t, s, assd='mean')
        assert close(ours['hd'], g.GetHausdorffDistance())
        assert close(ours['assd'], g.GetAverageHausdorffDistance())
        assert close(score(m, t)['dice'], f.GetDiceCoefficient())
        assert close(score(m, t)['iou'], f.GetJaccardCoefficient())

def test_scikit_image():
    metrics = pytest.importorskip('skimage.metrics')
    segmentation = pytest.importorskip('skimage.segmentation')
    for m, t, _ in filled():
        d = surface_distances(m, t)
        edges = [segmentation.find_boundaries(np.pad(o, 1), mode='inner') for o in (m, t)]
        assert close(max(d.there.max(), d.back.max()), metrics.hausdorff_distance(*edges))
        assert close(max(d.there.mean(), d.back.mean()),
                     metrics.hausdorff_distance(*edges, method='modified'))

def test_surface_distance_package():
    sd = pytest.importorskip('surface_distance')
    for m, t, s in filled():
        d = sd.compute_surface_distances(t > 0, m > 0, s)
        ours = score_surface(m, t, s, tolerance, surface='length', assd='mean')
        assert close(ours['hd'], sd.compute_robust_hausdorff(d, 100))
        assert close(ours['hd95'], sd.compute_robust_hausdorff(d, 95))
        assert close(ours['assd'], np.mean(sd.compute_average_surface_distance(d)))
        assert close(ours['nsd'], sd.compute_surface_dice_at_tolerance(d, tolerance))

@pytest.mark.parametrize('surface', ['pixels', 'length'])
def test_what_must_not_matter(surface):
    "Turned and mirrored masks, a frame of background, swapped masks, another unit."
    for m, t, s in filled()[:300]:
        kw = dict(tolerance=tolerance, surface=surface)
        expected = score_surface(m, t, s, **kw)
        for a, b, spacing in ((m.T, t.T, s[::-1]), (m[::-1], t[::-1], s),
                              (m[:, ::-1], t[:, ::-1], s), (np.pad(m, 3), np.pad(t, 3), s),
                              (t, m, s)):
            assert score_surface(a, b, spacing, **kw) == pytest.approx(expected, abs=1e-9)
        ten = score_surface(m, t, (10*s[0], 10*s[1]), 10*tolerance, surface=surface)
        tenfold = {k: v*(1 if k == 'nsd' else 10) for k, v in expected.items()}
        assert ten == pytest.approx(tenfold, abs=1e-9)

def test_types_of_masks():
    rng = np.random.default_rng(0)
    m, t = ((rng.random((20, 31)) < share).astype(np.uint8) for share in (0.4, 0.5))
    expected = score_case(m, t, (0.2, 0.3))
    m.flags.writeable = t.flags.writeable = False
    for f in (lambda o: o > 0, lambda o: o*np.uint8(255), lambda o: o.astype(float),
              lambda o: o.astype(np.int64), lambda o: np.asfortranarray(o),
              lambda o: np.repeat(o, 2, 1)[:, ::2], lambda o: o.tolist()):
        assert score_case(f(m), f(t), (0.2, 0.3)) == expected

@pytest.mark.parametrize('mask,truth,kw,text', [
    (np.ones((2, 3)), np.ones((3, 2)), {},
     'mask: 3x2 pixels beside an annotation of 2x3; score at the size of the annotation'),
    (np.ones((2, 3, 1)), np.ones((2, 3)), {},
     r'mask: an array of shape \(2, 3, 1\); give a mask, \(H, W\)'),
    (np.ones((2, 3)), np.ones((2, 3, 1)), {}, r'truth: an array of shape \(2, 3, 1\); give a mask'),
    (np.ones((0, 3)), np.ones((0, 3)), {}, r'mask: an array of shape \(0, 3\)'),
    (np.ones((2, 3)), np.ones((2, 3)), dict(spacing=0), 'spacing: 0; give numbers above 0'),
    (np.ones((2, 3)), np.ones((2, 3)), dict(spacing=(1, -1)),
     r'spacing: \(1, -1\); give numbers above 0'),
    (np.ones((2, 3)), np.ones((2, 3)), dict(spacing=math.inf),
     'spacing: inf; give numbers above 0'),
    (np.ones((2, 3)), np.ones((2, 3)), dict(spacing=(1, 1, 1)),
     r'spacing: \(1, 1, 1\); give one number or \(row, col\)'),
    (np.ones((2, 3)), np.ones((2, 3)), dict(spacing='fine'), "spacing: 'fine'; give one number"),
    (np.ones((2, 3)), np.ones((2, 3)), dict(tolerance=math.nan),
     'tolerance: nan; give a number of 0 or more'),
    (np.ones((2, 3))*0, np.ones((2, 3)), dict(hd95='middle'), "hd95: 'middle' is not known"),
    (np.ones((2, 3))*0, np.ones((2, 3)), dict(surface='middle'), "surface: 'middle' is not known")
])
@pytest.mark.parametrize('f', [score_surface, score_case])
def test_errors(f, mask, truth, kw, text):
    with pytest.raises(InputError, match=text): f(mask, truth, **kw)

def test_a_case_in_one_call():
    for m, t, s in pairs()[::3]:
        c = score_case(m, t, s, tolerance_mm=tolerance)
        assert {k: c[k] for k in SURFACE} == score_surface(m, t, 1, 4.)
        mm = {k: c[f'{k}_mm'] for k in SURFACE}
        assert mm == pytest.approx(score_surface(m, t, s, tolerance), abs=1e-9)
        assert pytest.approx({k: c[k] for k in score(m, t)}, nan_ok=True) == score(m, t)
        assert (c['boundary'], c['boundary_truth']) == (len(edge(m)), len(edge(t)))
        assert c['hc_error_mm'] == c['hc_mm'] - c['hc_truth_mm']
        assert c['hc_abs_error_mm'] == abs(c['hc_error_mm'])
        assert 0 <= c['hc_mm'] <= 2*math.pi*math.hypot(m.shape[0]*s[0], m.shape[1]*s[1])
    for unknown in (math.nan, (0.1, math.nan), (math.nan, math.nan)):
        c = score_case(m, t, unknown)
        assert [k for k in c if k.endswith('_mm') and not math.isnan(c[k])] == []
        assert not math.isnan(c['hd95'])

def test_head_circumference():
    "Ellipses of known axes, turned, on pixels of any shape; the truth is the elliptic integral."
    from scipy.special import ellipe
    rng = np.random.default_rng(1)
    for _ in range(200):
        s = rng.uniform(0.08, 0.4, 2)
        a, angle = rng.uniform(60, 120)*s.min(), rng.uniform(0, math.pi)
        b = a*rng.uniform(0.6, 1)
        y, x = (np.mgrid[:300, :300] - 150.)*s[:, None, None]
        u, v = x*math.cos(angle) + y*math.sin(angle), y*math.cos(angle) - x*math.sin(angle)
        hc = head_circumference((u/a)**2 + (v/b)**2 <= 1, s)
        assert hc == pytest.approx(4*a*ellipe(1 - (b/a)**2), rel=0.006)

def test_head_circumference_of_what_is_no_head():
    band, cut = np.zeros((40, 60)), in_ellipse((10., 40., 30., 22., 0.3), (60, 80))
    band[10:20] = 1
    none = (band, band*0, band*0 + 1, band[:1], band[10:11, :1], np.eye(60)[:40]*0)
    assert [head_circumference(m) for m in none] == [0]*6
    # the picture's border is no edge
    assert head_circumference(cut) == pytest.approx(2*math.pi*math.sqrt((30**2+22**2)/2), rel=0.03)

# Intervals.

def clusters(seed, k=12):
    rng = np.random.default_rng(seed)
    exams = np.repeat(np.arange(k), rng.integers(1, 5, k))
    return rng.beta(8, 1, len(exams)), np.array([f'e{i}' for i in exams])

@pytest.mark.parametrize('method', ['percentile', 't'])
def test_intervals_draw_by_draw(method):
    for seed in range(5):
        v, e = clusters(seed)
        names = np.unique(e)
        k, n, rng = len(names), 400, np.random.default_rng(seed)
        mean, means, ts = v.mean(), [], []
        def error(parts):
            m, k = np.concatenate(parts).mean(), len(parts)
            squares = sum((p.sum() - m*len(p))**2 for p in parts)
            return math.sqrt(k/(k-1)*squares)/sum(map(len, parts))
        own = error([v[e == o] for o in names])
        for often in rng.multinomial(k, np.full(k, 1/k), size=n):
            parts = [v[e == o] for o, times in zip(names, often) for _ in range(times)]
            means.append(np.concatenate(parts).mean())
            ts.append((means[-1] - mean)/max(error(parts), own/2))
        if method == 'percentile': expected = np.quantile(means, [0.05, 0.95])
        else: expected = mean - np.quantile(ts, [0.95, 0.05])*own
        each = [v[e == o].mean() for o in names]
        expected = expected if method == 'percentile' else np.clip(expected, min(each), max(each))
        got = bootstrap_mean(v, e, n, 0.9, seed, method)
        assert got == pytest.approx(tuple(expected), abs=1e-9)

def test_intervals_in_parts_are_the_same(monkeypatch):
    "Many exams are drawn in parts that fit into memory."
    v, e = clusters(0, 60)
    whole, calls, split = bootstrap_mean(v, e), [], np.array_split
    monkeypatch.setattr(np, 'array_split', lambda a, n: calls.append(n) or split(a, 7))
    assert bootstrap_mean(v, e) == pytest.approx(whole, abs=1e-12) and calls == [1]
    monkeypatch.undo()
    low, high = bootstrap_mean(np.random.default_rng(0).random(3000), np.arange(3000), n=1000)
    assert 0 < high - low < 0.03

@pytest.mark.parametrize('method', ['percentile', 't'])
def test_intervals_of_odd_samples(method):
    f = lambda v, e: bootstrap_mean(v, e, method=method)
    v, e = clusters(3)
    order = np.random.default_rng(0).permutation(len(v))
    assert f(v[order], e[order]) == pytest.approx(f(v, e), abs=1e-12)
    assert f([*v, np.nan, np.nan], [*e, 'only this', e[0]]) == pytest.approx(f(v, e), abs=1e-12)
    assert np.isnan(f([], [])).all() and np.isnan(f([0.5], ['a'])).all()
    assert np.isnan(f([np.nan]*3, list('abc'))).all()
    assert f([0.2, 0.8], ['a', 'b']) == pytest.approx((0.2, 0.8))
    assert f([0.3]*9, list('aabbccdde')) == pytest.approx((0.3, 0.3))
    low, high = f(v, e)
    assert low < v.mean() < high
    with pytest.raises(InputError, match='exams: 2 exams for 3 values'): f([1, 2, 3], ['a', 'b'])

@pytest.mark.slow
def test_coverage():
    """65 exams of 1 to 4 pictures, scores as skewed as Dice, 3,000 times: by exam the interval
    holds the truth as often as it says; by picture it does not."""
    rng, hits, truth = np.random.default_rng(9), np.zeros(3), 1 - 0.02*math.exp(0.1)
    for i in range(3000):
        e = np.repeat(np.arange(65), rng.choice([1, 2, 3, 4], 65, p=[0.5, 0.25, 0.15, 0.1]))
        v = 1 - 0.02*np.exp(rng.normal(0, 0.4, 65)[e] + rng.normal(0, 0.2, len(e)))
        ways = ((e, 't'), (e, 'percentile'), (np.arange(len(e)), 't'))
        for j, (exams, method) in enumerate(ways):
            low, high = bootstrap_mean(v, exams, 600, seed=i, method=method)
            hits[j] += low <= truth <= high
    by_exam, percentile, by_picture = hits/30
    print(hits/30)
    assert 93 <= by_exam <= 97 and 90 < percentile < by_exam and by_picture < 90

# Tables.

def table(seed, n=60, shift=0.):
    "Scores of cases in exams of two; the spacing of every third is unknown."
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        e = (20 + rng.normal(), 28 + rng.normal(), 15 + 4*rng.random(), 12, rng.random())
        truth = in_ellipse(e, (40, 56))
        if i % 20: mask = np.roll(truth, rng.integers(-2, 3, 2) + round(shift), (0, 1))
        else: mask = truth & False
        rows.append(dict(case=f'c{i}', exam=f'e{i//2}', method='abc'[i % 3], area_of=truth.sum(),
                         **score_case(mask, truth, (0.3, 0.4) if i % 3 else math.nan)))
    return pd.DataFrame(rows)

def test_summary():
    t = table(0)
    s = summarise(t, n=300)
    assert [k for k in s if isinstance(s[k], dict)] == list(METRICS)
    for m in METRICS:
        v = t[m].dropna()
        expected = dict(mean=v.mean(), sd=np.std(v), median=np.median(v), q1=np.percentile(v, 25),
                        q3=np.percentile(v, 75), min=min(v), max=max(v), cases=len(v))
        assert {k: s[m][k] for k in expected} == pytest.approx(expected)
        assert s[m]['low'] <= s[m]['mean'] <= s[m]['high']
    assert s['hd95_mm']['cases'] == 40 and (s['cases'], s['exams'], s['missed']) == (60, 30, 3)
    tp, fp, fn = t.tp.sum(), t.fp.sum(), t.fn.sum()
    pooled = [f'{k}_pooled' for k in ('dice', 'iou', 'precision', 'recall')]
    expected = [2*tp/(2*tp + fp + fn), tp/(tp+fp+fn), tp/(tp+fp), tp/(tp+fn)]
    assert [s[k] for k in pooled] == pytest.approx(expected)
    without = t.drop(columns=[c for c in t if c.endswith('_mm')])
    names = [m for m in METRICS if not m.endswith('_mm')]
    assert list(summarise(without)) == [*names, *pooled, 'cases', 'exams', 'missed']

def test_the_summary_is_what_it_was():
    "Mean, interval, spread, median and minimum of Dice and IoU as the first version computed them."
    t = table(1)
    for m, now in summarise(t, ('dice', 'iou'), method='percentile').items():
        if not isinstance(now, dict): continue
        v = pd.Series(np.asarray(t[m], float)).groupby(np.asarray(t.exam))
        total, count = v.sum().to_numpy(), v.size().to_numpy()
        draws = np.random.default_rng(0).multinomial(len(total), np.full(len(total), 1/len(total)),
                                                     size=2000)
        low, high = np.quantile(draws@total / (draws@count), [(1-0.95)/2, (1+0.95)/2])
        before = dict(mean=t[m].mean(), low=low, high=high, sd=t[m].std(ddof=0),
                      median=t[m].median(), min=t[m].min())
        assert {k: now[k] for k in before} == pytest.approx(before, abs=1e-12)

def test_strata():
    t = table(2)
    for by, bins, parts in (('area_of', 4, 4), ('area_of', [0, t.area_of.median(), 10000], 2),
                            ('method', 4, 3), (t.index < 10, 4, 2), (t.hd95_mm, 3, 4),
                            (t.area_of, [0, 1], 1)):
        s = strata(t, by, ['dice', 'hd'], bins=bins, n=50)
        dice = s[s.metric == 'dice']
        assert len(s) == 2*len(dice) == 2*parts and dice.cases.sum() == 60
        assert dice.missed.sum() == 3
        assert (dice['mean']*dice.cases).sum()/60 == pytest.approx(t.dice.mean())
    for part, rows in t.groupby('method'):
        s = strata(t, 'method', 'dice', n=50).set_index('part').loc[part]
        assert s['mean'] == pytest.approx(rows.dice.mean())
        assert (s.exams, s['min']) == (rows.exam.nunique(), rows.dice.min())
    assert strata(t, t.hd95_mm, 'dice', bins=3).part.tolist()[-1] == 'other'
    with pytest.raises(InputError, match='by: 3 values for 60 cases'): strata(t, [1, 2, 3])

def test_two_runs():
    from scipy.stats import wilcoxon
    a, b = table(3), table(3, shift=1)
    there, back = compare(a, b, n=300).set_index('metric'), compare(b, a, n=300).set_index('metric')
    assert list(there.index) == list(METRICS)
    assert np.allclose(there.difference, -back.difference) and np.allclose(there.p, back.p)
    assert (there.better == back.worse).all() and (there.a == back.b).all()
    assert np.allclose(there.low, -back.high, rtol=0.05, atol=0.05*there.difference.abs())
    for m in METRICS:
        x, y = ((o[m].abs() if m in ('area_error', 'hc_error_mm') else o[m]) for o in (a, b))
        d = (y - x).dropna()
        assert there.difference[m] == pytest.approx(d.mean()) and there.cases[m] == len(d)
        each = np.array([d[a.exam == e].mean() for e in a.exam[d.index].unique()])
        assert there.p[m] == (pytest.approx(wilcoxon(each).pvalue) if each.any() else 1)
        gain = d if m in ('dice', 'iou', 'precision', 'recall', 'nsd', 'nsd_mm') else -d
        counts = (there.better[m], there.equal[m], there.worse[m])
        assert counts == ((gain > 0).sum(), (d == 0).sum(), (gain < 0).sum())
    mixed = compare(a, b.sample(frac=1, random_state=0), n=300).set_index('metric')
    assert np.allclose(mixed.difference, there.difference) and np.allclose(mixed.low, there.low)
    assert compare(a, b.drop(columns='dice'), n=50).metric.tolist() == list(METRICS)[1:]
    with pytest.raises(InputError, match="metrics: the scores have no column 'dice'"):
        compare(a, b.drop(columns='dice'), 'dice')
    with pytest.raises(InputError, match='b: 10 cases are in one table only, such as c50'):
        compare(a, b[:50])
    assert compare(a, b[:50], 'dice', common=True, n=50).cases.tolist() == [50]
    with pytest.raises(InputError,
                       match='b: none of its 60 cases is among the 60 of the other table'):
        compare(a, b.assign(case='x' + b.case), common=True)

def test_nothing_heavy_is_imported():
    code = ("import sys, fetal_seg.metrics; print(sorted({'torch', 'fastai', 'matplotlib', "
            "'skimage', 'monai', 'SimpleITK', 'scipy.stats'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                          check=True).stdout.strip() == '[]'
