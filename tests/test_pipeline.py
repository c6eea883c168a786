"Cross-validation where it can go wrong: kills, other setups in a folder, damaged files, leaks."
import json, os, shutil, signal, subprocess, sys, time
from pathlib import Path
import numpy as np, pandas as pd, pytest
from fetal_seg.core import InputError, digest, folder_lock
from fetal_seg.data import fold_cases, read_raw, split_cases, torn_exams
from fetal_seg.metrics import read_scores
from fetal_seg.pipeline import crossval, evaluate_ensemble, fold_splits, get_ensemble, read_fold
from fetal_seg.pipeline import worst_cases

SETUP = dict(k=3, valid=0.2, canvas=(64, 96), preset='quick', size=(32, 48), width=4, depth=2, bs=2,
             epochs=8)
SCRIPT = f'''
import sys, warnings
warnings.filterwarnings('ignore')
import torch
torch.set_num_threads(1)
from fetal_seg.pipeline import crossval
crossval(sys.argv[1], sys.argv[2], **{SETUP!r})
'''

def start(raw, out):
    return subprocess.Popen([sys.executable, '-c', SCRIPT, raw, out], stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True,
                            env={**os.environ, 'OMP_NUM_THREADS': '1'})

@pytest.fixture(scope='module')
def raw36(tmp_path_factory):
    from fetal_seg.phantom import write_phantoms
    return write_phantoms(tmp_path_factory.mktemp('raw'), n=36, shape=(64,96))

@pytest.fixture(scope='module')
def whole(raw36, tmp_path_factory):
    "A finished cross-validation; tests change copies of it."
    out = tmp_path_factory.mktemp('whole')/'cv'
    job = start(raw36, out)
    err = job.communicate(timeout=600)[1]
    assert job.returncode == 0, err
    return out

@pytest.fixture
def cv(whole, tmp_path): return Path(shutil.copytree(whole, tmp_path/'cv'))

def tables(n_exams, seed):
    "Cases of exams of one to four pictures."
    rng = np.random.default_rng(seed)
    exams = [f'e{i}' for i in range(n_exams) for _ in range(rng.integers(1, 5))]
    return pd.DataFrame(dict(case=[f'{i}_HC' for i in range(len(exams))],
                             exam=exams)).sample(frac=1, random_state=seed, ignore_index=True)

@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('k', [2, 5])
def test_folds_are_disjoint_by_exam(seed, k):
    cases = tables(200, seed)
    splits, tested = fold_splits(cases, k, seed, 0.1), []
    assert len(splits) == k
    for s in splits:
        assert len(torn_exams(s)) == 0 and s.case.is_monotonic_increasing and set(s.case) == set(
            cases.case)
        assert 0.02 < s.exam[s.split == 'valid'].nunique()/s.exam[s.split != 'test'].nunique() < 0.2
        tested += list(s.case[s.split == 'test'])
    assert sorted(tested) == sorted(cases.case)                          # each is tested once

def test_the_scheme_written_out():
    "By its definition, apart from the library's function."
    cases = tables(150, 7)
    dealt = fold_cases(cases, 5, 3)
    for i,s in enumerate(fold_splits(cases, 5, 3)):
        rest = split_cases(dealt[dealt.fold != i], (0.95, 0.05, 0.), 3).set_index('case').split
        expected = {c: rest.get(c, 'test') for c in cases.case}
        assert dict(zip(s.case, s.split)) == expected

def test_more_cases_move_none():
    cases = tables(120, 1)
    few = cases[cases.exam.isin(sorted(set(cases.exam))[:100])]
    for a, b in zip(fold_splits(few, 4, 0, 0.1), fold_splits(cases, 4, 0, 0.1)):
        assert len(a.merge(b)) == len(few)

@pytest.mark.parametrize('valid', [0., 1., -0.1, 1.5, float('nan')])
def test_a_share_that_is_none(valid):
    with pytest.raises(InputError, match='is no share'): fold_splits(tables(50, 0), 5, 0, valid)

def test_bad_words_leave_nothing_behind(raw36, tmp_path):
    for bad, text in ((dict(k=1), '1 folds of'), (dict(k=100), '100 folds of'),
                      (dict(folds=(0, 9)), '9 is none of 3 folds'), (dict(valid=2.), 'is no share'),
                      (dict(epochs=0), '0 is not positive'),
                      (dict(preset='big'), "'big' is not known"), (dict(init='run'),
                                                                   'no such entry')):
        with pytest.raises(InputError, match=text):
            crossval(raw36, tmp_path/'new', **{**SETUP, **bad})
        assert not (tmp_path/'new').exists(), bad
    with pytest.raises(FileNotFoundError): crossval(tmp_path/'none', tmp_path/'new', **SETUP)

def wait_for(job, there):
    for _ in range(3000):
        if there() or job.poll() is not None: break
        time.sleep(0.05)
    assert job.poll() is None, job.stderr.read()

@pytest.mark.slow
@pytest.mark.parametrize(
    'when',
    ['prepared/cases.csv', 'fold-0/run/log.csv', 'fold-0/scores.csv',
     'fold-1/run/last.safetensors'])
def test_killed_and_gone_on_with(raw36, whole, tmp_path, when):
    out = tmp_path/'cv'
    job = start(raw36, out)
    wait_for(job, (out/when).exists)
    os.kill(job.pid, signal.SIGKILL); job.wait()
    assert not (out/'fold-2'/'scores.csv').exists()
    kept = out/'fold-0'/'scores.csv'
    before = kept.stat().st_mtime_ns if kept.exists() else None
    again = start(raw36, out)
    err = again.communicate(timeout=600)[1]
    assert again.returncode == 0, err
    # a finished fold is not done again
    if before: assert kept.stat().st_mtime_ns == before and 'fold 0: epoch' not in err
    for name in ('scores.csv', 'summary.json', 'crossval.json',
                 *(f'fold-{i}/{f}' for i in range(3)
                   for f in ('split.csv', 'scores.csv', 'run/weights.safetensors'))):
        assert (out/name).read_bytes() == (whole/name).read_bytes(), name

def test_each_case_once(whole):
    s = read_scores(whole/'scores.csv')
    assert s.case.is_unique and len(s) == 36 and len(torn_exams(s, 'fold')) == 0
    summary = json.loads((whole/'summary.json').read_text())
    assert summary['folds_finished'] == [0, 1, 2
                                         ] and summary['folds'] == 3 and summary['cases'] == 36
    assert summary['dice']['mean'] == pytest.approx(s.dice.mean())
    # no lock is left
    assert {p.name
            for p in whole.iterdir()} == {
                'crossval.json', 'prepared', 'scores.csv', 'summary.json', 'fold-0', 'fold-1',
                'fold-2'
            }

def test_finished_is_only_read(raw36, cv):
    stamps = lambda: {p: p.stat().st_mtime_ns
                      for p in cv.glob('fold-*/**/*')
                      if p.is_file()
                      } | {p: p.stat().st_mtime_ns
                           for p in cv.glob('prepared/*/*/*.png')}
    before = stamps()
    table = crossval(raw36, cv, **SETUP)
    assert stamps() == before and list(table.index) == [
        0, 1, 2, 'all'
    ] and table.cases.tolist()[:3] == [read_fold(cv, i).shape[0] for i in range(3)]

@pytest.mark.parametrize('change', [
    dict(k=2),
    dict(valid=0.25),
    dict(canvas=(64, 128)),
    dict(seed=1),
    dict(epochs=3),
    dict(width=3),
    dict(exams=r'(\d+)'),
    dict(layout='kaggle')
], ids=str)
def test_another_setup_is_refused(raw36, cv, change):
    (name,) = change
    before = (cv/'crossval.json').read_bytes()
    with pytest.raises(InputError, match=f'it holds a job with {name} '):
        crossval(raw36, cv, **{**SETUP, **change})
    assert (cv/'crossval.json').read_bytes() == before

@pytest.mark.parametrize('change,text', [(dict(seed=1), 'not the split that these cases give'),
                                         (dict(valid=0.45), 'not the split that these cases give'),
                                         (dict(epochs=3), 'it holds a run with epochs 8, not 3'),
                                         (dict(bs=8), 'it holds a run with bs 2, not 8')], ids=str)
def test_folds_from_elsewhere_are_checked(raw36, cv, change, text):
    # as if the folders had been copied together
    (cv/'crossval.json').unlink()
    with pytest.raises(InputError, match=text): crossval(raw36, cv, **{**SETUP, **change})

def test_folds_of_two_machines_are_put_together(raw36, whole, cv):
    for n in ('scores.csv', 'summary.json', 'crossval.json'): (cv/n).unlink()
    shutil.rmtree(cv/'fold-1')
    one = crossval(raw36, cv, folds=(), **SETUP)                         # nothing to run
    assert list(one.index) == [0, 2, 'all'] and json.loads(
        (cv/'summary.json').read_text())['folds_finished'] == [0, 2]
    shutil.copytree(whole/'fold-1', cv/'fold-1')
    crossval(raw36, cv, folds=(), **SETUP)
    assert (cv/'scores.csv').read_bytes() == (whole/'scores.csv').read_bytes()

def test_nothing_finished_nothing_asked(raw36, tmp_path):
    with pytest.raises(InputError, match='no fold is finished'):
        crossval(raw36, tmp_path/'cv', folds=(), **SETUP)

@pytest.mark.parametrize('damage', ['half', 'digit', 'empty', 'bytes', 'line'])
def test_damaged_scores(raw36, whole, cv, damage):
    f = cv/'fold-1'/'scores.csv'
    good = f.read_bytes()
    bad = dict(
        half=good[:len(good)//2],
        digit=good.replace(b'0.1', b'0.2', 1) if b'0.1' in good else good.replace(b'0.', b'1.', 1),
        empty=b'', bytes=b'\xff' + good[1:], line=good[:good.rstrip().rfind(b'\n') + 1])[damage]
    assert bad != good
    f.write_bytes(bad)
    weights = (cv/'fold-1'/'run'/'weights.safetensors').stat().st_mtime_ns
    text = ('fold-1/scores.csv: this is not what was written when the fold was finished; '
            'delete this file')
    with pytest.raises(InputError, match=text) as e: crossval(raw36, cv, **SETUP)
    assert '\n' not in str(e.value)
    if damage != 'half': return
    f.unlink()                                                           # the remedy
    crossval(raw36, cv, **SETUP)
    # pytest may run on another number of threads
    pd.testing.assert_frame_equal(read_scores(f), read_fold(whole, 1), rtol=0.01)
    assert (cv/'fold-1'/'run'/'weights.safetensors').stat().st_mtime_ns == weights

def test_scores_without_a_record(raw36, cv):
    (cv/'fold-0'/'fold.json').unlink()
    with pytest.raises(InputError, match='fold-0/scores.csv: this is not what was written'):
        crossval(raw36, cv, **SETUP)

def test_other_weights(raw36, cv):
    shutil.copy(cv/'fold-0'/'run'/'weights.safetensors', cv/'fold-1'/'run'/'weights.safetensors')
    with pytest.raises(InputError, match='these are scores of other weights'):
        crossval(raw36, cv, **SETUP)

def test_scored_by_an_older_library(raw36, cv):
    "Some columns were not there yet; a table of both would be full of holes."
    f, note = cv/'fold-2'/'scores.csv', cv/'fold-2'/'fold.json'
    text = read_scores(f).drop(columns='iou').to_csv(index=False)
    f.write_text(text)
    note.write_text(json.dumps({**json.loads(note.read_text()), 'scores': digest(text)}))
    with pytest.raises(InputError,
                       match='fold-2/scores.csv: it has other columns than that of fold 0'):
        crossval(raw36, cv, **SETUP)
    f.unlink()
    assert crossval(raw36, cv, **SETUP).iou.notna().all()

def test_scored_in_another_way(raw36, cv):
    with pytest.raises(InputError, match='it was scored with flips False, not True'):
        crossval(raw36, cv, flips=True, **SETUP)
    with pytest.raises(InputError, match=r"it was scored with post None, not \['ellipse'\]"):
        crossval(raw36, cv, post=('ellipse',), **SETUP)
    a = read_fold(cv, 0)
    for i in range(3): (cv/f'fold-{i}'/'scores.csv').unlink()
    crossval(raw36, cv, flips=True, post=('largest', 'fill', 'ellipse'), **SETUP)
    b = read_fold(cv, 0)
    assert list(a.case) == list(b.case) and (a.dice != b.dice).any()

def test_the_data_changed(raw36, cv, tmp_path):
    "A picture is taken out of the raw folder between two folds: no table may mix the two."
    raw = Path(shutil.copytree(raw36, tmp_path/'raw'))
    for f in ('crossval.json', 'scores.csv', 'summary.json'): (cv/f).unlink()
    shutil.rmtree(cv/'fold-2')
    cases, _ = read_raw(raw)
    for f in (cases.image[0], cases.annotation[0]): (raw/f).unlink()
    with pytest.raises(InputError, match='its cases have changed'): crossval(raw, cv, **SETUP)
    # and again
    with pytest.raises(InputError,
                       match='fold-0/split.csv: this is not the split|made with other pictures'):
        crossval(raw, cv, **SETUP)
    assert not (cv/'scores.csv').exists()

def test_an_annotation_changed(raw36, cv, tmp_path):
    from PIL import Image
    raw = Path(shutil.copytree(raw36, tmp_path/'raw'))
    (cv/'crossval.json').unlink(); shutil.rmtree(cv/'fold-2')
    f = raw/read_raw(raw)[0].annotation[3]
    a = np.asarray(Image.open(f)).copy()
    Image.fromarray(np.roll(a, 1, axis=1)).save(f)
    with pytest.raises(InputError, match='its cases have changed'): crossval(raw, cv, **SETUP)
    with pytest.raises(InputError, match='fold-0: it was made with other pictures or annotations'):
        crossval(raw, cv, **SETUP)

def test_one_process_at_a_time(raw36, cv):
    with folder_lock(cv), pytest.raises(InputError, match='another process'):
        crossval(raw36, cv, **SETUP)

def test_somebody_elses_prepared_folder(raw36, tmp_path):
    from fetal_seg.preprocess import prepare
    prepare(raw36, tmp_path/'cv'/'prepared', size=(64,96))
    before = (tmp_path/'cv'/'prepared'/'cases.csv').read_bytes()
    with pytest.raises(InputError, match='not of a cross-validation'):
        crossval(raw36, tmp_path/'cv', **SETUP)
    assert (tmp_path/'cv'/'prepared'/'cases.csv').read_bytes() == before

def test_names_that_look_like_numbers(tmp_path):
    t = pd.DataFrame(
        dict(case=['NA', '007', '1e3'], exam=['1', 'nan', ''], split='test',
             dice=[0.1 + 0.2, np.nan, 1.], fold=0))
    t.to_csv(tmp_path/'scores.csv', index=False)
    pd.testing.assert_frame_equal(read_scores(tmp_path/'scores.csv'), t, check_dtype=False)

def test_a_leak_is_seen(whole):
    s = read_scores(whole/'scores.csv')
    assert not worst_cases(s, whole/'prepared', None).sister_in_train.any()
    exam = s.exam[s.exam.duplicated()].iloc[0]
    first = s.index[s.exam == exam][0]
    # planted: one picture of an exam is tested in another fold
    s.loc[first, 'fold'] = (s.fold[first] + 1) % 3
    w = worst_cases(s, whole/'prepared', None)
    assert set(w.exam[w.sister_in_train]) == {exam} and w.sister_in_train.sum() == (s.exam
                                                                                    == exam).sum()

def test_worst_cases_of_one_split(whole):
    s = read_fold(whole, 2).drop(columns='fold')                         # as from `evaluate`
    w = worst_cases(s, whole/'prepared', k=4)
    assert len(w) == 4 and w.dice.is_monotonic_increasing and w.dice.max() <= s.dice.drop(
        s.dice.nsmallest(4).index).min()
    with pytest.raises(InputError, match='it has no case stranger'):
        worst_cases(s.assign(case='stranger'), whole/'prepared')

@pytest.fixture(scope='module')
def strangers(tmp_path_factory):
    "A prepared folder whose exams no fold holds."
    from fetal_seg.phantom import write_phantoms
    from fetal_seg.preprocess import prepare
    d = tmp_path_factory.mktemp('strangers')
    how = dict(size=(64, 96), fractions=(0., 0., 1.))
    cases = prepare(write_phantoms(d/'raw', n=8, shape=(64, 96), seed=9), d/'prepared', **how)
    cases.assign(exam='other-' + cases.exam)[['case', 'exam']].to_csv(d/'exams.csv', index=False)
    prepare(d/'raw', d/'prepared', exams=d/'exams.csv', **how)
    return d/'prepared'

def test_ensemble_is_the_average_of_its_members(whole, strangers):
    from fetal_seg.predict import Predictor
    from fetal_seg.images import read_img
    from fetal_seg.preprocess import case_path, read_cases
    img = read_img(case_path(strangers, next(read_cases(strangers).itertuples())))
    members = [Predictor(whole/f'fold-{i}'/'run') for i in range(3)]
    odds = np.mean([np.log(h/(1-h)) for h in (m(img).astype(float) for m in members)], 0)
    np.testing.assert_allclose(get_ensemble(whole)(img), 1/(1+np.exp(-odds)), atol=1e-5)

def test_ensemble_and_what_it_has_seen(whole, strangers, tmp_path):
    assert len(evaluate_ensemble(whole, strangers)) == 8
    # an exam of the folds with another picture; a picture of the folds under another exam
    for column in ('exam', 'image_sha256'):
        d = Path(shutil.copytree(strangers, tmp_path/column))
        t, seen = pd.read_csv(d/'cases.csv'), pd.read_csv(whole/'prepared'/'cases.csv')
        t.loc[5, column] = seen[column][0]
        t.to_csv(d/'cases.csv', index=False)
        with pytest.raises(
                InputError,
                match=f'1 of 8 cases are of exams that members were trained on .first: {t.case[5]}.'
        ):
            evaluate_ensemble(whole, d)

def test_ensemble_of_one(raw36, cv):
    for i in (0, 1): (cv/f'fold-{i}'/'scores.csv').unlink()
    with pytest.raises(InputError, match='1 of its folds are finished'): get_ensemble(cv)

@pytest.mark.data
def test_real_folds(raw):
    cases, _ = read_raw(raw)
    splits = fold_splits(cases, 5)
    for s in splits: assert len(torn_exams(s)) == 0 and (s.split == 'test').sum() > 84
    assert sorted(c for s in splits for c in s.case[s.split == 'test']) == sorted(cases.case)

def test_the_wrong_fold_is_exposed(cv, capsys):
    """The prepared folder keeps the split of the last fold; an earlier fold's network has learnt
    most of its test cases."""
    from fetal_seg.cli import evaluate as command
    from fetal_seg.predict import Predictor
    from fetal_seg.preprocess import read_cases
    scores = read_scores(cv/'scores.csv')
    assert set(scores.seen) == {''} and json.loads(
        (cv/'summary.json').read_text())['cases'] == len(scores)
    test = read_cases(cv/'prepared').query('split == "test"')
    learnt = pd.Series(Predictor(cv/'fold-0'/'run').seen(test), test.case)
    assert (learnt != '').all() and set(learnt) <= {'train', 'valid'}
    assert (Predictor(cv/'fold-2'/'run').seen(test) == '').all() and (get_ensemble(cv).seen(test)
                                                                      != '').all()
    assert command(['--run', str(cv/'fold-0'/'run'), '--prepared', str(cv/'prepared')]) == 0
    assert capsys.readouterr().out.startswith(f'all {len(test)} pictures were seen in training')

def test_a_fold_of_an_older_version_is_unknown(cv, raw36):
    "No column `seen`, no list: the fold counts, and the summary says what is not known."
    fold = cv/'fold-1'
    text = pd.read_csv(fold/'scores.csv', dtype=str,
                       keep_default_na=False).drop(columns='seen').to_csv(index=False)
    (fold/'scores.csv').write_text(text); (fold/'run'/'seen.csv').unlink()
    note = json.loads((fold/'fold.json').read_text())
    (fold/'fold.json').write_text(json.dumps(dict(note, scores=digest(text))))
    table = crossval(raw36, cv, folds=(), **SETUP)
    n = (read_scores(cv/'scores.csv').seen == 'unknown').sum()
    assert n == len(pd.read_csv(fold/'scores.csv')) and len(table) == 4
    assert f'whether {n} pictures were seen in training is unknown' in json.loads(
        (cv/'summary.json').read_text())['seen_note']

def test_one_demo_at_a_time(tmp_path):
    from fetal_seg.pipeline import demo
    with folder_lock(tmp_path):
        with pytest.raises(InputError, match=r'another process .number \d+, for'):
            demo(out=tmp_path)
    assert not any(tmp_path.iterdir())

@pytest.mark.parametrize('name', ['scores.csv', 'summary.json', 'report.html', 'verify.html'])
def test_files_of_somebody_else_are_not_overwritten(raw36, tmp_path, name):
    from fetal_seg.pipeline import demo
    (tmp_path/'out').mkdir()
    (tmp_path/'out'/name).write_text('mine')
    for job in (lambda: demo(out=tmp_path/'out'), lambda: crossval(raw36, tmp_path/'out', **SETUP)):
        with pytest.raises(InputError, match=f'{name}: this file was not written by'): job()
        assert [p.name for p in tmp_path.glob('**/*') if p.is_file()] == [name]
    assert (tmp_path/'out'/name).read_text() == 'mine'
