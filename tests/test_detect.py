"""Detection against its definitions, written with loops; specks and the choice of steps;
evaluation of what is bad, has no region, or is of one exam."""
import itertools, json, math
import numpy as np, pandas as pd
import pytest
from PIL import Image
from fetal_seg import cli
from fetal_seg.calibration import (ANY_REGIONS, calibrate, choose_post, one_region_each,
                                   post_candidates, Sweep)
from fetal_seg.core import InputError
from fetal_seg.detect import (RATES, Froc, auc, auc_interval, by_class, components, count_lesions,
                              detection, lesion_ious, new_hits, share_interval)
from fetal_seg.eval import (evaluate_folders, headline, known_facts, odd_annotations, pick_cases,
                            save_report, summary, summary_markdown)
from fetal_seg.metrics import has_detection, interval_text, summarise
from fetal_seg.predict import check_post, postprocess, remove_specks
from fetal_seg.preprocess import prepare, read_cases

# The definitions

def parts(m):
    "The connected parts of a mask as sets of pixels, over edges and corners."
    left, out = set(map(tuple, np.argwhere(m).tolist())), []
    while left:
        todo, part = [left.pop()], set()
        while todo:
            r, c = todo.pop()
            part.add((r, c))
            near = [(r+i, c+j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (r+i, c+j) in left]
            left.difference_update(near); todo += near
        out.append(part)
    return sorted(out, key=min)

def most_pairs(near):
    "The largest number of one-to-one pairs, by trying all."
    n, k = near.shape
    if n > k: return most_pairs(near.T)
    pairings = itertools.permutations(range(k), n)
    return max((sum(near[i, j] for i, j in enumerate(p)) for p in pairings), default=0)

def blobs(rng, n, shape=(24, 32)):
    "A mask of n rectangles, which may touch or cover each other."
    m = np.zeros(shape, np.uint8)
    for _ in range(n):
        r, c = rng.integers(0, shape[0]-2), rng.integers(0, shape[1]-2)
        m[r:r+rng.integers(1, 9), c:c+rng.integers(1, 9)] = 1
    return m

def shaken(rng, m): return np.roll(m, rng.integers(-3, 4, 2), (0, 1)) * (rng.random(m.shape) > 0.1)

def pairs(n=300):
    for i in range(n):
        rng = np.random.default_rng([11, i])
        t = blobs(rng, i % 6)
        yield (shaken(rng, t) if i % 3 else blobs(rng, rng.integers(0, 6))).astype(np.uint8), t

def test_lesions_by_hand():
    seen = set()
    for m, t in pairs():
        a, b = parts(m), parts(t)
        want = np.array([[len(x & y)/len(x | y) for y in b] for x in a]).reshape(len(a), len(b))
        got = lesion_ious(m, t)
        first = lambda l: lambda i: min(map(tuple, np.argwhere(l == i + 1).tolist()))
        order = [sorted(range(n), key=first(l)) for l, n in (components(m), components(t))]
        np.testing.assert_allclose(got[np.ix_(*order)], want, atol=1e-15)
        if max(want.shape) > 7: continue
        for iou in (0.1, 0.3, 0.7):
            c = count_lesions(m, t, iou)
            found = most_pairs(want >= iou)
            assert c == dict(lesions_truth=len(b), lesions_pred=len(a), lesions_found=found,
                             false_positives=len(a) - found)
            seen.add((iou, found))
    # none, one and several were found
    assert len(seen) > 8

def test_hits_of_every_prefix():
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching
    for i in range(400):
        rng = np.random.default_rng([5, i])
        near = rng.random((rng.integers(0, 8), rng.integers(0, 6))) < rng.uniform(0.1, 0.7)
        hits = np.cumsum(new_hits(near)) if len(near) else np.zeros(0)
        for k in range(1, len(near)+1):
            want = most_pairs(near[:k])
            assert hits[k-1] == want
            if not near.shape[1]: continue
            match = maximum_bipartite_matching(csr_matrix(near[:k]), perm_type='column')
            assert want == (match >= 0).sum()

def test_auc_is_all_pairs():
    from sklearn.metrics import roc_auc_score
    for i in range(200):
        rng = np.random.default_rng([6, i])
        n = rng.integers(2, 30)
        x, y = rng.integers(0, 6, n)/5, rng.random(n) < 0.5
        if y.all() or not y.any(): assert math.isnan(auc(x, y)); continue
        want = np.mean([(a > b) + (a == b)/2 for a in x[y] for b in x[~y]])
        assert auc(x, y) == pytest.approx(want) == pytest.approx(roc_auc_score(y, x))
        w = rng.integers(0, 3, n)
        if w[y].sum() and w[~y].sum():
            assert auc(x, y, w) == pytest.approx(roc_auc_score(np.repeat(y, w), np.repeat(x, w)))

def test_auc_interval_draw_by_draw():
    rng = np.random.default_rng(0)
    exams, y = np.repeat(np.arange(12), 3).astype(str), rng.random(36) < 0.5
    x = y*0.5 + rng.random(36)
    names = np.unique(exams)
    draws = np.random.default_rng(0).multinomial(12, np.full(12, 1/12), size=300)
    drawn = lambda v, d: np.concatenate([np.tile(v[exams == e], k) for e, k in zip(names, d)])
    want = np.quantile([auc(drawn(x, d), drawn(y, d)) for d in draws], (0.025, 0.975))
    assert auc_interval(x, y, exams, n=300) == pytest.approx(tuple(want))
    assert all(map(math.isnan, auc_interval(x, y, ['one']*36)))

def test_all_alike_is_not_certain():
    from scipy.stats import binomtest
    for k in (2, 5, 40):
        for v in (0., 1.):
            ci = binomtest(int(v*k), k).proportion_ci(0.95, 'exact')
            got = share_interval(np.full(2*k, v), np.repeat(np.arange(k), 2))
            assert got == pytest.approx((ci.low, ci.high))

def plain(heatmap, level): return (heatmap > level).astype(np.uint8)

def seen_cases(n=30, lesions=(0, 1, 2, 3)):
    for i in range(n):
        rng = np.random.default_rng([8, i])
        t = blobs(rng, lesions[i % len(lesions)])
        # scores with ties
        heat = (shaken(rng, t)*rng.integers(2, 10)/10 +
                blobs(rng, rng.integers(0, 3))*rng.integers(2, 8)/10).clip(0, 0.95)
        yield heat.astype(np.float32), t, f'exam-{i//2}'

@pytest.mark.parametrize('by', ['max', 'mean'])
def test_froc_by_hand(by):
    froc, every = Froc(plain, by=by), []
    for heat, t, exam in seen_cases():
        froc.add(heat, t, exam)
        a, b = parts(heat > 0.1), parts(t)
        worth = [(max if by == 'max' else np.mean)([heat[p] for p in part]) for part in a]
        near = np.array([[len(x & y)/len(x | y) >= 0.1 for y in b] for x in a])
        every.append((np.array(worth, float), near.reshape(len(a), len(b)), exam))
    lesions = sum(n.shape[1] for _, n, _ in every)
    limits = sorted({w for ws, _, _ in every for w in ws}, reverse=True)
    points = [(0., 0.)]
    for l in limits:
        hits = [most_pairs(n[w >= l]) for w, n, _ in every]
        false = sum((w >= l).sum() for w, _, _ in every) - sum(hits)
        points.append((false/len(every), sum(hits)/lesions))
    c = froc.curve()
    got = c[['false_positives', 'sensitivity']].to_numpy()
    if by == 'max': np.testing.assert_allclose(got, points, atol=1e-12)
    else: assert set(map(tuple, np.round(got, 9))) >= {points[0], tuple(np.round(points[-1], 9))}
    want = [max(s for f, s in points if f <= r) for r in RATES.values()]
    if by == 'max':
        f = froc.figures(n=200)
        assert [v['mean'] for v in f['sensitivity'].values()] == pytest.approx(want)
        assert f['cpm']['mean'] == pytest.approx(np.mean(want))
        assert f['cpm']['low'] < f['cpm']['mean'] < f['cpm']['high']
        assert (f['lesions'], f['pictures']) == (lesions, len(every))
        assert f['candidates'] == sum(len(w) for w, _, _ in every)

def test_froc_interval_draw_by_draw():
    froc, cases = Froc(plain), list(seen_cases())
    for heat, t, exam in cases: froc.add(heat, t, exam)
    names = sorted({e for _, _, e in cases})
    draws = np.random.default_rng(0).multinomial(15, np.full(15, 1/15), size=60)
    each = []
    for d in draws:
        one = Froc(plain)
        for e, k in zip(names, d):
            for heat, t, exam in cases:
                for _ in range(k if exam == e else 0): one.add(heat, t, exam)
        each.append([v['mean'] for v in one.figures(n=1)['sensitivity'].values()])
    got = froc.figures(n=60)
    for (r, v), x in zip(got['sensitivity'].items(), np.array(each).T):
        assert (v['low'], v['high']) == pytest.approx(tuple(np.quantile(x, (0.025, 0.975)))), r

def table(n=40, labels=True):
    rows = []
    for heat, t, exam in seen_cases(n):
        from fetal_seg.metrics import score_case
        m = plain(heat, 0.5)
        label = dict(label='normal' if not t.any() else 'benign') if labels else {}
        rows.append(dict(case=f'c{len(rows)}', exam=exam, heat_max=float(heat.max()),
                         **score_case(m, t), **count_lesions(m, t), **label))
    return pd.DataFrame(rows)

def test_figures_of_a_table():
    s = table()
    d = detection(s)
    there, called = s.area_truth > 0, s.area > 0
    assert d['sensitivity']['mean'] == pytest.approx(called[there].mean())
    assert d['specificity']['mean'] == pytest.approx((~called[~there]).mean())
    found, truth, pred = (s[f'lesions_{k}'].sum() for k in ('found', 'truth', 'pred'))
    assert d['lesion_sensitivity']['mean'] == pytest.approx(found/truth)
    assert d['lesion_sensitivity']['n'] == s.lesions_truth.sum()
    assert d['lesion_precision']['mean'] == pytest.approx(found/pred)
    assert d['false_positives']['mean'] == pytest.approx(s.false_positives.mean())
    for k in ('sensitivity', 'specificity', 'auc', 'lesion_sensitivity', 'lesion_precision',
              'false_positives'):
        assert d[k]['low'] <= d[k]['mean'] <= d[k]['high'], k
    c = by_class(s).set_index('class')
    assert c.pictures.sum() == len(s) and c.with_region['normal'] == 0
    assert math.isnan(c.dice_with_region['normal'])
    assert (c.dice*c.pictures).sum()/len(s) == pytest.approx(s.dice.mean())

def test_summary_of_several_regions_and_none(tmp_path):
    s = table()
    m = summary(s)
    assert m['dice_with_region']['mean'] == pytest.approx(s.dice[s.area_truth > 0].mean())
    assert m['dice']['mean'] == pytest.approx(s.dice.mean())
    assert m['detection']['pictures'] == 40
    assert {r['class'] for r in m['detection']['by_class']} == {'normal', 'benign'}
    assert {'class'} <= {r['by'] for r in m['strata']}
    assert '## Detection' in summary_markdown(m) and 'dice\\_with\\_region' in summary_markdown(m)
    page = save_report(tmp_path/'r.html', s, draw=lambda r: np.zeros((8,8,3), np.uint8)).read_text()
    assert 'no region annotated; none predicted' in page
    assert 'no region annotated; false alarm' in page and 'of 2 regions found' in page
    assert '>Detection</h2>' in page
    kinds = pick_cases(s, 4)
    assert (kinds['Worst'].lesions_truth > 0).all()
    assert (kinds['No region annotated'].lesions_truth == 0).all()

def test_heads_look_as_before(tmp_path):
    s = table(labels=False)
    s = s[s.lesions_truth == 1].reset_index(drop=True)
    assert len(s) > 4 and not has_detection(s)
    m = summary(s)
    assert not {'detection', 'dice_with_region'} & set(m)
    names = ['Mean Dice', 'Median Dice', 'Lowest Dice', 'Mean IoU', 'Mean HD95', 'Cases']
    assert [c[0] for c in headline(m)] == names
    assert 'Detection' not in save_report(tmp_path/'r.html', s).read_text()
    assert list(pick_cases(s)) == ['Worst', 'Median', 'Best']

@pytest.mark.parametrize('kind', ['all empty', 'one exam', 'one case'])
def test_odd_tables(kind, tmp_path):
    s = table()
    s = {'all empty': s[s.lesions_truth == 0], 'one exam': s.assign(exam='a'),
         'one case': s[:1]}[kind]
    m = summary(s.reset_index(drop=True))
    text = cli.scores_text(json.loads(json.dumps(m)))
    page = save_report(tmp_path/'r.html', s).read_text()
    for t in (text, page, summary_markdown(m)):
        assert 'nan to nan' not in t and 'unknown to unknown' not in t
    assert 'nan' not in text + summary_markdown(m)
    if kind != 'all empty':
        assert 'no interval: one exam' in text and 'no interval: one exam' in page
    json.dumps(json.loads(json.dumps(m, default=float)))

# After the threshold

def test_specks_by_hand():
    for i, (m, _) in enumerate(pairs(120)):
        size = [0.001, 0.01, 0.05, 0.3][i % 4]
        want = np.zeros_like(m)
        for p in parts(m):
            if len(p) >= size*m.size: want[tuple(zip(*p))] = 1
        np.testing.assert_array_equal(remove_specks(m, size), want)
        np.testing.assert_array_equal(postprocess(m, (f'specks:{size}',)), want)
    assert check_post(['specks', 'fill']) == ('specks', 'fill')
    for bad, says in (('specks:2', 'no share'), ('specks:', 'no share'), ('specks:nan', 'no share'),
                      ('fill:1', 'fill takes no number'), ('round', 'choose among')):
        with pytest.raises(InputError, match=says): check_post([bad])

def test_steps_are_fitted():
    """Small false parts in many pictures: specks are removed, and no more than is needed; in
    none: nothing is done."""
    def sweeps(cases):
        to_mask = lambda p: lambda h, l: postprocess(h > l, p, h)
        out = {p: Sweep(to_mask(p), (0.3, 0.5, 0.7)) for p in ANY_REGIONS}
        for h, t in cases:
            for s in out.values(): s.add(h, t)
        return out
    rng, cases = np.random.default_rng(3), []
    for i in range(30):
        t = np.zeros((50, 50)); t[10:25, 10:25] = i % 3 > 0
        # 8 pixels or fewer of 2,500: at most 0.32 %
        h = t*0.9; h[40:42, 40+i % 5:44] = 0.9 if i % 2 else 0
        cases.append((h, t))
    steps, tried = choose_post(sweeps(cases))
    assert steps == ('specks:0.005',) and tried.dice.idxmax() == list(ANY_REGIONS).index(steps)
    assert choose_post(sweeps([(t*0.9, t) for _, t in cases]))[0] == ()
    # one case settles nothing
    assert choose_post(sweeps(cases[:1]))[0] == ()
    assert post_candidates(True)[0] == ('largest',) and () not in post_candidates(True)

@pytest.fixture(scope='module')
def lesions(tmp_path_factory):
    "A run of one epoch on pictures with none, one or two lesions, in classes."
    from fetal_seg.train import train
    base, rng = tmp_path_factory.mktemp('lesions'), np.random.default_rng(0)
    for i in range(36):
        label, n = [('normal', 0), ('benign', 1), ('malignant', 2)][i % 3]
        img, folder = rng.integers(60, 140, (48, 64)), base/'raw'/label
        folder.mkdir(parents=True, exist_ok=True)
        masks = [np.zeros((48, 64), np.uint8) for _ in range(max(n, 1))]
        for j in range(n): masks[j][10+5*(i % 4):24+5*(i % 4), 8+28*j:22+28*j] = 255
        for m in masks: img[m > 0] = 30
        Image.fromarray(img.astype(np.uint8)).save(folder/f'{label} ({i}).png')
        for j, m in enumerate(masks):
            Image.fromarray(m).save(folder/(f'{label} ({i})_mask' + f'_{j}'*(j > 0) + '.png'))
    with pytest.warns(UserWarning, match='exam'):
        prepare(base/'raw', base/'prepared', size=(48, 64), fractions=(.4, .3, .3))
    train(base/'prepared', base/'run', epochs=2, size=(48, 64), width=4, bs=4)
    return base

def test_calibrate_knows_no_heads(lesions):
    cases = read_cases(lesions/'prepared')
    assert not one_region_each(lesions/'prepared', cases)
    assert one_region_each(lesions/'prepared', cases[cases.label == 'benign'])
    f = calibrate(lesions/'run', lesions/'prepared')
    written = json.loads((lesions/'run'/'predictor.json').read_text())
    assert written['post'] == f['post']
    assert [r['post'] for r in f['fitted_on']['post']] == [' '.join(p) for p in ANY_REGIONS]
    f = calibrate(lesions/'run', lesions/'prepared', post=('specks:0.01',))
    assert f['post'] == ['specks:0.01']
    assert calibrate(lesions/'run', lesions/'prepared', candidates=[('fill',)])['post'] == ['fill']
    calibrate(lesions/'run', lesions/'prepared')

def test_job_on_lesions(lesions, tmp_path, capsys):
    """Scores, summary and report of a run; the explorer finds them beside the run, but not those
    of another threshold."""
    from fetal_seg.explore import explore
    out = lesions/'evaluation'
    own = ['--run', str(lesions/'run'), '--prepared', str(lesions/'prepared')]
    assert cli.evaluate([*own, '--out', str(out)]) == 0
    text, s = capsys.readouterr().out, json.loads((out/'summary.json').read_text())
    assert 'regions were found' in text and 'pictures without a region that have none' in text
    assert s['detection']['froc']['pictures'] == s['cases'] and s['exams_unknown'] == s['cases']
    assert 'froc 1/8' in (out/'report.html').read_text()
    columns = set(pd.read_csv(out/'scores.csv'))
    assert {'lesions_truth', 'lesions_pred', 'lesions_found'} <= columns
    assert {'false_positives', 'heat_max', 'label'} <= columns
    ex = explore(lesions/'run', lesions/'prepared', notes=tmp_path/'notes.csv')
    assert ex.split == 'test' and len(ex.listed) == s['cases']
    assert 'without a score' not in ex.ui.count.value
    changed = {**s, 'how_scored': {**s['how_scored'], 'threshold': 0.01}}
    (out/'summary.json').write_text(json.dumps(changed))
    ex = explore(lesions/'run', lesions/'prepared', notes=tmp_path/'notes.csv')
    assert 'without a score' in ex.ui.count.value
    (out/'summary.json').write_text('[]')
    ex = explore(lesions/'run', lesions/'prepared', notes=tmp_path/'notes.csv')
    assert 'without a score' in ex.ui.count.value
    assert cli.evaluate([*own, '--exams', 'x(.)']) == 2

# Two folders

def write(path, a):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(a, np.uint8)).save(path)

@pytest.fixture
def folders(tmp_path):
    y, x = np.mgrid[:60, :90]
    for i in range(12):
        m = ((y-30)/(10+i))**2 + ((x-45)/25)**2 <= 1
        write(tmp_path/'truth'/f'p{i//3}'/f'p{i//3}_v{i}.png', m*255)
        write(tmp_path/'pred'/f'p{i//3}_v{i}_mask.png', np.roll(m, 2, 1)*255)
    return tmp_path

def test_one_bad_of_many(folders, capsys):
    """Another size, grey values, half a file, no picture at all: listed with the reason, the
    others are scored, status 1."""
    p = folders/'pred'
    write(p/'p0_v1_mask.png', np.zeros((32, 32)))
    write(p/'p1_v3_mask.png', np.linspace(0, 255, 90)[None]*np.ones((60, 1)))
    (p/'p2_v6_mask.png').write_bytes((p/'p2_v7_mask.png').read_bytes()[:70])
    (p/'p3_v9_mask.png').write_text('no picture')
    (folders/'truth'/'p3'/'p3_v10.png').write_bytes(b'\x89PNG')
    bad = {'p0_v1', 'p1_v3', 'p2_v6', 'p3_v9', 'p3_v10'}
    s, problems = evaluate_folders(p, folders/'truth')
    assert len(s) == 7 and set(problems.case) == bad and problems.reason.str.len().min() > 20
    assert not set(s.case) & bad
    says = 'p0_v1_mask.png: 32x32 pixels, but its annotation'
    assert problems.set_index('case').reason['p0_v1'].startswith(says)
    counted, problems = evaluate_folders(p, folders/'truth', missing=True)
    assert len(counted) == 11 and counted.missed.sum() == 4
    assert problems.reason.str.endswith('scored as a miss').sum() == 4
    capsys.readouterr()
    assert cli.evaluate(['--pred', str(p), '--truth', str(folders/'truth'),
                         '--out', str(folders/'out')]) == 1
    text = capsys.readouterr().out
    assert '7 cases of 7 exams' in text and all(b in text for b in bad)
    assert '5 cases with a problem' in (folders/'out'/'report.html').read_text()
    for f in p.iterdir(): f.write_text('none')
    assert cli.evaluate(['--pred', str(p), '--truth', str(folders/'truth')]) == 2
    assert 'none of its 12 masks can be scored' in capsys.readouterr().err

def test_exams_of_two_folders(folders, capsys):
    a, t = folders/'pred', folders/'truth'
    assert evaluate_folders(a, t)[0].exam.nunique() == 12
    by_name, _ = evaluate_folders(a, t, exams=r'^p(\d)/')
    pd.DataFrame([(f'p{i//3}_v{i}', f'patient {i//3}') for i in range(9)],
                 columns=['case', 'exam']).to_csv(folders/'e.csv', index=False)
    by_table, _ = evaluate_folders(a, t, exams=folders/'e.csv')
    # the table leaves three without
    assert by_name.exam.nunique() == 4 and by_table.exam.nunique() == 6
    assert summary(by_table)['exams_unknown'] == 3 and 'exams_unknown' not in summary(by_name)
    assert cli.evaluate(['--pred', str(a), '--truth', str(t), '--exams', r'p(\d)_']) == 0
    assert 'of 4 exams' in (text := capsys.readouterr().out) and 'is not known' not in text
    assert cli.evaluate(['--pred', str(a), '--truth', str(t)]) == 0
    assert 'the exam of 12 cases is not known' in (text := capsys.readouterr().out)
    assert '--exams names them' in text
    assert cli.evaluate(['--pred', str(a), '--truth', str(t), '--exams', 'nothing(x)']) == 2
    one, _ = evaluate_folders(a, t, exams='(p)')
    assert 'no interval: one exam' in cli.scores_text(summary(one))
    dice = summarise(one)['dice']
    assert interval_text(dice['low'], dice['high']) == 'no interval: one exam'

def test_unreadable_annotations_have_no_facts(tmp_path):
    (tmp_path/'a.png').write_text('none')
    exams, spacings = known_facts(dict(a=tmp_path/'a.png', b=tmp_path/'a.png'), [None, 'csv-x'])
    assert exams == ['case-a', 'csv-x'] and np.isnan(spacings).all()

def test_broken_annotations_are_told(folders):
    "A stroke 3 to 8 pixels wide in place of a region, and a few pixels."
    thin = np.zeros((60, 90)); thin[28:31, 20:70] = 255
    write(folders/'truth'/'p0'/'p0_v0.png', thin)
    dot = np.zeros((60, 90)); dot[5:7, 5:7] = 255
    write(folders/'truth'/'p1'/'p1_v4.png', dot)
    s, problems = evaluate_folders(folders/'pred', folders/'truth')
    w = summary(s)['warnings']
    assert [o['case'] for o in w] == ['p0_v0', 'p1_v4'] and 'far from all others' in w[0]['reason']
    assert problems.empty
    assert 'look at p0_v0' in cli.scores_text(summary(s))
    rng = np.random.default_rng(0)
    # lesions of all sizes: nothing to tell
    for _ in range(50):
        areas = np.exp(rng.normal(-3.5, 1, 80)).clip(0.0011, 0.9)
        assert len(odd_annotations(pd.DataFrame(dict(case=range(80), area_truth=areas)))) == 0
