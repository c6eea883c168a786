"Simulated lesions: exact masks, the layout of BUSI, seeds, workers, and the whole job on them."
import hashlib
from pathlib import Path
import numpy as np, pandas as pd, pytest
from PIL import Image
from scipy import ndimage
from fetal_seg.core import InputError
from fetal_seg.data import find_cases
from fetal_seg.lesions import (
    LESION_CLASSES, exam_lesions, lesion_distance, lesion_files, lesion_mask, plan_lesions,
    simulate_lesions, write_lesions)

CORNERS = np.ones((3,3))

def pieces(mask): return ndimage.label(mask, CORNERS)[1]
def digests(folder):
    files = [p for p in sorted(Path(folder).rglob('*')) if p.is_file()]
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in files}
def read(path): return np.array(Image.open(path))

@pytest.fixture(scope='module')
def raw(tmp_path_factory):
    return write_lesions(tmp_path_factory.mktemp('lesions')/'raw', n=30, seed=3, shape=(80, 96))

def test_masks_are_what_the_table_says(raw):
    "Each mask file holds its lesions as pieces that do not touch, as many as exams.csv says."
    rows = pd.read_csv(raw/'exams.csv')
    assert len(rows) == 30 and (rows.lesions > 1).any() and (rows.lesions == 0).any()
    for r in rows.itertuples():
        img = read(raw/r.label/f'{r.case}.png')
        masks = [read(p) for p in sorted((raw/r.label).glob(f'{r.case}_mask*.png'))]
        assert len(masks) == r.files and img.dtype == np.uint8 and img.ndim == 2
        assert all(m.shape == img.shape and set(np.unique(m)) <= {0, 255} for m in masks)
        assert sum(pieces(m) for m in masks) == pieces(np.any(masks, 0)) == r.lesions
        assert np.sum([m > 0 for m in masks], 0).max() <= 1
        assert (r.lesions == 0) == (r.label == 'normal')

def test_written_masks_are_the_simulated_ones(raw):
    "Pixel for pixel, and the picture too."
    for row in plan_lesions(30, 3, (80,96)):
        how = [row[k] for k in ('seed', 'shape', 'exam_seed', 'label', 'lesions')]
        img, masks = simulate_lesions(*how)
        picture, *files = [read(raw/f) for f in lesion_files(row)]
        assert (picture == img).all()
        if row['files'] == len(masks): assert all((f == 255*m).all() for f,m in zip(files, masks))
        else:
            one = np.array(sum(masks, np.zeros(img.shape, int)))
            assert len(files) == 1 and (files[0] == 255*one).all()

@pytest.mark.parametrize('shape', [(32,32), (40,200), (200,40), (97,131), (400,480)])
def test_lesions_are_whole_and_apart(shape):
    "One piece each, and no two that touch, not even by a corner, in every shape."
    for seed in range(12):
        for n in (1,2,3):
            for label in LESION_CLASSES[:2]:
                rng = np.random.default_rng([seed, n])
                lesions = exam_lesions(seed, rng, shape, label, n)
                masks = [lesion_mask(lesion_distance(l, shape)) for l in lesions]
                assert len(masks) == n and all(pieces(m) == 1 for m in masks)
                assert sum(masks).max() == 1 and pieces(sum(masks)) == n

def test_find_cases_pairs_all(raw):
    "The layout is recognised; every picture has its masks; nothing but the table is left."
    cases, left = find_cases(raw)
    rows = pd.read_csv(raw/'exams.csv').set_index('case')
    assert set(cases.layout) == {'busi'} and sorted(cases.case) == sorted(rows.index)
    assert list(left.file) == ['exams.csv']
    for r in cases.itertuples():
        assert r.label == rows.label[r.case] and len(r.annotation.split('|')) == rows.files[r.case]

def test_prepared_masks_are_the_files(raw, tmp_path):
    "Not a pixel is changed on the way, the exams are those of the table, and none is torn."
    from fetal_seg.preprocess import case_path, prepare, read_mask
    cases = prepare(raw, tmp_path/'prepared', size=(80,96), exams=raw/'exams.csv')
    rows = pd.read_csv(raw/'exams.csv').set_index('case')
    for r in cases.itertuples():
        files = [read(p) > 0 for p in (raw/r.label).glob(f'{r.case}_mask*.png')]
        mask = read_mask(case_path(tmp_path/'prepared', r, 'full_masks'))
        assert (mask == np.any(files, 0)).all()
        assert r.exam == f'csv-{rows.exam[r.case]}'
    assert (cases.groupby('exam').split.nunique() == 1).all()

def test_seeds_and_workers(raw, tmp_path):
    "The same seed gives the same bytes, with workers too; another seed gives other pictures."
    assert digests(write_lesions(tmp_path/'two', n=30, seed=3, shape=(80, 96),
                                 workers=2)) == digests(raw)
    other = digests(write_lesions(tmp_path/'other', n=6, seed=4, shape=(80,96)))
    again = digests(write_lesions(tmp_path/'again', n=6, seed=5, shape=(80,96)))
    pictures = [f for f in other if f.endswith('.png') and '_mask' not in f]
    assert not [f for f in pictures if again.get(f) == other[f]]

def test_pictures_of_an_exam_are_alike():
    "Two pictures of an exam overlap; the speckle differs."
    for exam in range(6):
        (a,(m,)), (b,(n,)) = (simulate_lesions(s, (80,96), exam, 'malignant') for s in (0,1))
        assert 2*(m & n).sum()/(m.sum() + n.sum()) > 0.5 and (a != b).mean() > 0.3

def test_classes_differ_as_described():
    "Benign lesions are wider than tall and smooth; malignant ones are taller, and spiculated."
    def facts(label):
        out = []
        for l in (exam_lesions(s, np.random.default_rng(s), (400, 480), label, 1)[0]
                  for s in range(30)):
            m = lesion_mask(lesion_distance(l, (400,480))) > 0
            edge = m & ~ndimage.binary_erosion(m)
            out.append((l.b/l.a, edge.sum()**2/(4*np.pi*m.sum())))
        return np.median(out, 0)
    (flat, smooth), (tall, rough) = facts('benign'), facts('malignant')
    assert flat < 0.8 and tall > 0.9 and rough > 1.25*smooth

@pytest.mark.parametrize('kw,text', [(dict(label='odd'), 'is not known'),
                                     (dict(label='normal', n=1), 'normal pictures have none'),
                                     (dict(n=0), 'normal pictures have none'),
                                     (dict(n=4), 'ask for 0 to 3'),
                                     (dict(shape=(16, 99)), '32 pixels')])
def test_refusals(kw, text):
    with pytest.raises(InputError, match=text): simulate_lesions(0, **kw)

def test_a_file_of_others_is_not_touched(raw, tmp_path):
    with pytest.raises(InputError, match='choose an empty folder'):
        write_lesions(raw, n=30, seed=4, shape=(80, 96))
    (tmp_path/'benign').mkdir()
    (tmp_path/'benign'/'mine.png').write_bytes(b'x')
    with pytest.raises(InputError, match='do not belong'):
        write_lesions(tmp_path, n=3, shape=(80, 96))
    assert not (tmp_path/'normal').exists()

def test_the_whole_job(tmp_path, capsys):
    "demo --scene lesions, tiny: every step runs, every region is kept, nothing is said of heads."
    from fetal_seg.core import read_json
    from fetal_seg.pipeline import closing_table, demo
    out = tmp_path/'demo'
    result = demo(out=out, epochs=1, size=(32,48), n=40, shape=(64,80), scene='lesions')
    assert result['cases'] == 40 and result['with_region'] + result['empty'] == result['test_cases']
    assert not {'largest', 'roundest', 'ellipse'} & set(
        read_json(out/'run'/'predictor.json')['post'])
    text = closing_table(result)
    assert 'pictures with a lesion' in text and 'stayed empty' in text
    assert not [w for w in ('head', 'circumference', 'ellipse') if w in text.lower()]
    page = (out/'report.html').read_text(encoding='utf-8')
    assert 'These pictures are simulated' in page and 'HC18' not in page
    with pytest.raises(InputError, match='is not known; choose one of heads, lesions'):
        demo(out=tmp_path/'x', scene='kidneys')
    with pytest.raises(InputError, match='it holds a job with'):
        demo(out=out, epochs=1, size=(32, 48), n=40, shape=(64, 80))
