"""What weights have seen: near copies, unions, old run folders, damaged lists; and no test figure
of a training picture by any door."""
import io, json, shutil, warnings
import numpy as np, pandas as pd, pytest
from PIL import Image
from fetal_seg.core import InputError, digest, read_json
from fetal_seg.data import provenance
from fetal_seg.eval import evaluate, figures_of, summary
from fetal_seg.images import dhash, read_img
from fetal_seg.metrics import read_scores, summarise
from fetal_seg.phantom import simulate, write_phantoms
from fetal_seg.predict import SHIPPED, Predictor, export, predict_files
from fetal_seg.preprocess import prepare, read_cases, save_png
from fetal_seg.seen import Seen, fingerprint, is_seen, judged, read_seen, same_picture, seen_cases
from fetal_seg.seen import seen_note
from fetal_seg.train import note_seen, train

SMALL = dict(preset='quick', size=(48,64), width=2, depth=2, bs=4, epochs=1)

@pytest.fixture(scope='module')
def job(tmp_path_factory):
    "(raw, prepared, run): the split is unseen."
    d = tmp_path_factory.mktemp('seen')
    prepare(write_phantoms(d/'raw', n=30, shape=(136, 200), seed=3), d/'prepared', size=(136, 200),
            fractions=(0.5, 0.2, 0.3))
    train(d/'prepared', d/'run', **SMALL)
    return d/'raw', d/'prepared', d/'run'

@pytest.fixture
def swapped(job, tmp_path):
    "The same cases prepared anew: what was trained on is now called test."
    raw, prepared, run = job
    c = read_cases(prepared)[['case', 'exam', 'split']]
    c['split'] = c.split.map(dict(train='test', valid='train', test='valid'))
    c.to_csv(tmp_path/'split.csv', index=False)
    prepare(raw, tmp_path/'swapped', size=(136,200), split=tmp_path/'split.csv')
    return tmp_path/'swapped'

# The list

@pytest.mark.parametrize('how', ['jpeg60', 'webp80', 'half', 'gain', 'png'])
def test_copies_are_found(how):
    imgs = [simulate(i, shape=(270,400))[0] for i in range(12)]
    known = seen_cases(pd.concat(map(fingerprint, imgs), ignore_index=True), 'train')
    def copy(img):
        im = Image.fromarray(img)
        if how == 'half': return np.asarray(im.resize((200,135), Image.Resampling.LANCZOS))
        if how == 'gain': return np.round(img*0.9).astype(np.uint8)
        with io.BytesIO() as f:
            kind = dict(jpeg60='JPEG', webp80='WEBP', png='PNG')[how]
            im.save(f, kind, quality=80 if how == 'webp80' else 60)
            return np.asarray(Image.open(f).convert('L'))
    copies = pd.concat([fingerprint(copy(i)) for i in imgs], ignore_index=True)
    assert (known.of(copies) == 'train').mean() >= (1 if how == 'png' else 11/12)

def test_different_pictures_are_not_taken_for_copies():
    hashes = [dhash(simulate(i, shape=(68,100))[0]) for i in range(200)]
    assert (same_picture(hashes[100:], hashes[:100]) == -1).all()
    table = provenance()
    half = table.exam.astype(int) % 2 == 0                        # exams are on one side
    assert (same_picture(table.dhash[half], table.dhash[~half]) == -1).all()

def test_flat_pictures_match_by_pixels_alone():
    black = [fingerprint(np.zeros((40,n), np.uint8)) for n in (50, 60)]
    known = seen_cases(black[0], 'train')
    assert list(known.of(pd.concat(black))) == ['train', '']

def test_same_picture_in_chunks():
    rng = np.random.default_rng(0)
    h = [rng.bytes(8).hex() for _ in range(60)]
    assert list(same_picture(h, h, chunk=7)) == list(range(60)) and len(same_picture([], h)) == 0

def test_shipped_list():
    s = read_seen(SHIPPED)
    assert s.whole and set(s.known.use) == {'seen'}
    assert (SHIPPED/'seen.csv').stat().st_size < 100_000
    t = provenance().rename(columns=dict(pixels_sha256='image_sha256'))
    by_pixels = t.image_sha256.str[:16].isin(s.known.image)
    # of the 999 pairs; two of them are one picture
    assert by_pixels.sum() == 847
    assert ((s.of(t) == 'seen') == by_pixels).all()               # no other one is near by its hash
    hashes_alone = Seen(s.known.assign(image='0'*16))
    assert (hashes_alone.of(t.assign(image_sha256='f'*64).loc[by_pixels]) != '').any()

@pytest.mark.parametrize('text', [
    '', 'image,use\n0,train\n', 'image,dhash,use\n0123456789abcdef,0123456789abcdef,test\n',
    'image,dhash,use\nx,y,train\n', 'image,dhash,use\n0123456789abcdef,,train\n'
])
def test_a_damaged_list_is_one_line(job, tmp_path, text):
    shutil.copytree(job[2], tmp_path/'run'); (tmp_path/'run'/'seen.csv').write_text(text)
    with pytest.raises(InputError, match='seen.csv: this is no list of pictures'):
        Predictor(tmp_path/'run')

# Runs

def test_run_knows_its_own(job):
    raw, prepared, run = job
    cases = read_cases(prepared)
    assert list(Predictor(run).seen(cases)) == list(cases.split.where(cases.split != 'test', ''))

def test_init_adds_the_earlier_runs(job, swapped, tmp_path):
    cases = read_cases(job[1])
    train(swapped, tmp_path/'tuned', **SMALL | dict(width=None, depth=None), init=job[2])
    new, first = read_seen(tmp_path/'tuned').of(cases), cases.split
    assert (new != '').all() and (new[first == 'train'] == 'train').all()
    assert (new[first == 'valid'] == 'train').all() and (new[first == 'test'] == 'valid').all()

def test_old_runs_are_unknown_and_mend(job, tmp_path):
    raw, prepared, run = job
    shutil.copytree(run, tmp_path/'run'); (tmp_path/'run'/'seen.csv').unlink()
    scores = evaluate(Predictor(tmp_path/'run'), prepared)
    assert set(scores.seen) == {'unknown'} and not is_seen(scores).any()
    s = summary(scores)
    assert s['dice'] == summarise(scores)['dice']
    assert 'is unknown' in s['seen_note'] and 'seen' not in s
    other = note_seen(tmp_path/'other', prepared, tmp_path/'run')
    assert other.of(read_cases(prepared))[0] != '' and not read_seen(tmp_path/'other').whole
    # finished: nothing is trained, the list is written
    train(prepared, tmp_path/'run', **SMALL)
    assert read_seen(tmp_path/'run').table.equals(read_seen(run).table)

def test_ensemble_and_onnx(job, swapped, tmp_path):
    cases = read_cases(job[1])
    train(swapped, tmp_path/'b', **SMALL | dict(seed=1))
    both = Predictor([job[2], tmp_path/'b'])
    assert (both.seen(cases)[cases.split == 'train'] == 'train').all()
    assert (both.seen(cases) != '').all()
    export(job[2], tmp_path/'a.onnx')
    assert list(Predictor(tmp_path/'a.onnx').seen(cases)) == list(Predictor(job[2]).seen(cases))
    c = read_json(tmp_path/'a.json')
    (tmp_path/'a.json').write_text(json.dumps({k: v for k,v in c.items() if k != 'seen'}))
    assert set(Predictor(tmp_path/'a.onnx').seen(cases)) == {'unknown'}
    for wrong in (3, {'image': ['x']}, dict(image=['x'], dhash=['y'], use=['train'])):
        (tmp_path/'a.json').write_text(json.dumps(dict(c, seen=wrong)))
        with pytest.raises(InputError, match='its seen is no list of pictures'):
            Predictor(tmp_path/'a.onnx')

# Figures

def test_no_test_figure_of_training_pictures(job, swapped, tmp_path, capsys):
    from fetal_seg.cli import evaluate as command
    argv = ['--run', job[2], '--prepared', swapped, '--out', tmp_path/'e']
    assert command([*map(str, argv)]) == 0
    text, n = capsys.readouterr().out, len(read_cases(swapped).query('split == "test"'))
    assert text.startswith(f'all {n} pictures were seen in training ({n} trained on)')
    heads = 'seen: ', 'all ', f'{n} seen cases', 'look at', 'report'
    assert not [l for l in text.splitlines() if l and not l.startswith(heads)]
    s = read_json(tmp_path/'e'/'summary.json')
    assert s['cases'] == 0 and not {'dice', 'iou', 'strata', 'dice_pooled'} & set(s)
    assert s['seen']['cases'] == n and figures_of(s)[1] == 'seen'
    assert set(read_scores(tmp_path/'e'/'scores.csv').seen) == {'train'}
    assert 'no test figures' in (tmp_path/'e'/'summary.md').read_text()
    assert 'Seen: Mean Dice' in (tmp_path/'e'/'report.html').read_text()

def test_seen_and_unseen_apart(job, tmp_path, capsys):
    raw, prepared, run = job
    c = read_cases(prepared)
    clean = evaluate(Predictor(run), prepared)
    moved = c.case[c.split == 'train'].iloc[:3]
    c = c.assign(split=c.split.mask(c.case.isin(moved), 'test'))
    c[['case', 'split']].to_csv(tmp_path/'split.csv', index=False)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        prepare(raw, tmp_path/'mixed', size=(136,200), split=tmp_path/'split.csv')
    from fetal_seg.calibration import Calibration
    look = Calibration(1.)
    scores = evaluate(Predictor(run), tmp_path/'mixed', watch=[look])
    s = summary(scores)
    assert s['dice'] == summarise(clean)['dice']
    assert s['cases'] == len(clean) == look.cases and s['seen']['cases'] == 3
    assert set(scores.case[is_seen(scores)]) == set(moved)
    assert judged(scores).case.tolist() == clean.case.tolist()
    from fetal_seg.cli import evaluate as command
    assert command(['--run', str(run), '--prepared', str(tmp_path/'mixed')]) == 0
    said = capsys.readouterr().out
    assert f'3 of {len(scores)} pictures were seen in training (3 trained on)' in said

def test_recoded_copies_are_seen(job, tmp_path):
    raw, prepared, run = job
    for f in raw.rglob('*.png'):
        new = tmp_path/'raw'/f.relative_to(raw)
        new.parent.mkdir(parents=True, exist_ok=True)
        if f.stem.endswith('_Annotation'): shutil.copy(f, new)
        else: Image.open(f).save(new.with_suffix('.jpg'), quality=70)
    c = prepare(tmp_path/'raw', tmp_path/'prepared', size=(136, 200),
                fractions=(0.4, 0.2, 0.4)).set_index('case')
    old = read_cases(prepared).set_index('case').split
    seen = pd.Series(Predictor(run).seen(c), c.index)
    assert not c.image_sha256.isin(read_cases(prepared).image_sha256).any()
    same = seen == old.where(old != 'test', '').reindex(c.index)
    assert same.mean() >= 0.9 and (seen[old.reindex(c.index) == 'test'] == '').all()

def test_calibration_says_and_notes(job, swapped, tmp_path):
    from fetal_seg.calibration import calibrate
    raw, prepared, run = job
    shutil.copytree(run, tmp_path/'run')
    with warnings.catch_warnings():
        warnings.filterwarnings('error', message='.*seen in training')
        assert 'trained_on' not in calibrate(tmp_path/'run', prepared)['fitted_on']
    assert read_seen(tmp_path/'run').table.equals(read_seen(run).table)
    with pytest.warns(UserWarning, match='were seen in training'):
        fitted = calibrate(tmp_path/'run', prepared, split='train')
    assert fitted['fitted_on']['trained_on'] == fitted['fitted_on']['cases']
    # now they have chosen the threshold
    calibrate(tmp_path/'run', prepared, split='test')
    assert set(evaluate(Predictor(tmp_path/'run'), prepared).seen) == {'valid'}

def test_a_predicted_training_picture_is_named(job, tmp_path):
    raw, prepared, run = job
    c = read_cases(prepared)
    paths = [raw/c.image[c.split == s].iloc[0] for s in ('train', 'valid', 'test')]
    t = predict_files(Predictor(run), paths, tmp_path)
    assert list(t.warnings.str.contains('trained or tuned on this picture')) == [True, True, False]

def test_note_counts():
    def rows(*uses): return pd.DataFrame(dict(seen=list(uses)))
    assert seen_note(rows()) == '' and seen_note(rows('', '')) == ''
    assert '1 of 2 pictures' in seen_note(rows('seen', ''))
    assert 'trained or tuned on' in seen_note(rows('seen', ''))
    both = seen_note(rows('train', 'unknown'))
    assert '1 of 2 pictures was seen' in both and 'whether 1 picture was seen' in both
    assert list(is_seen(rows('train', 'valid', 'seen', 'unknown', ''))) == [True]*3 + [False]*2

@pytest.mark.data
def test_the_shipped_weights_know_the_data(raw, tmp_path):
    from fetal_seg.data import read_raw
    cases = read_raw(raw, workers=2)[0]
    known = cases.image_sha256.str[:16].isin(read_seen(SHIPPED).known.image)
    assert known.sum() >= 847 and (Predictor().seen(cases)[known] == 'seen').all()
