"Bad input: one line that names the file, the value and the remedy; exit status 2; nothing lost."
import shutil, subprocess, sys
from pathlib import Path
import numpy as np, pytest
from PIL import Image

bin = Path(sys.executable).parent

def run(*args, cwd=None):
    return subprocess.run([str(bin/args[0]), *map(str, args[1:])], capture_output=True, text=True,
                          timeout=300, cwd=cwd)

def fails(r, *needles):
    "Exit status 2, no traceback, and a last line that holds all of `needles`."
    assert r.returncode == 2, r.stderr
    assert 'Traceback' not in r.stderr
    last = r.stderr.strip().splitlines()[-1]
    for n in needles: assert str(n) in last, last

def snapshot(folder):
    "Every file and its bytes; what is staged in `.work` for the next run aside."
    return {
        p.relative_to(folder): p.read_bytes()
        for p in Path(folder).rglob('*')
        if p.is_file() and '.work' not in p.relative_to(folder).parts
    }

@pytest.fixture(scope='module')
def world(tmp_path_factory):
    "A raw folder of simulated pictures, and what `prepare` made of it."
    from fetal_seg.phantom import write_phantoms
    from fetal_seg.preprocess import prepare
    d = tmp_path_factory.mktemp('world')
    write_phantoms(d/'raw', n=30, shape=(136,200))
    prepare(d/'raw', d/'prepared', size=(136,200), fractions=(0.6,0.2,0.2))
    return d

@pytest.fixture
def raw(world, tmp_path):
    "A copy of the raw folder to do harm to."
    return Path(shutil.copytree(world/'raw', tmp_path/'raw'))

def first(raw, ending='_HC_Annotation.png'): return sorted(raw.rglob('*'+ending))[0]

def test_missing_folder(tmp_path):
    fails(run('fetal_seg_demo', '--raw', tmp_path/'nowhere', '--out', tmp_path/'out'),
          tmp_path/'nowhere', 'there is no such folder', 'check the path')
    assert not (tmp_path/'out').exists()

def test_folder_without_image(tmp_path):
    (tmp_path/'raw').mkdir()
    (tmp_path/'raw'/'notes.txt').write_text('hello')
    fails(run('fetal_seg_demo', '--raw', tmp_path/'raw', '--out', tmp_path/'out'), tmp_path/'raw',
          'no picture among its 1 files', 'unpacked')

def test_truncated_png(raw, tmp_path):
    f = first(raw)
    f.write_bytes(f.read_bytes()[:-60])
    fails(run('fetal_seg_demo', '--raw', raw, '--out', tmp_path/'out'), f, 'cannot be decoded',
          'download or copy it again')

def test_mask_of_another_size(raw, tmp_path):
    f = first(raw)
    Image.new('L', (50,40), 255).save(f)
    fails(run('fetal_seg_demo', '--raw', raw, '--out', tmp_path/'out'), f, '50x40 pixels',
          'take both out')

def test_mask_of_several_classes(raw, tmp_path):
    f = first(raw)
    a = np.array(Image.open(f))
    a[:9] = 2
    Image.fromarray(a).save(f)
    fails(run('fetal_seg_demo', '--raw', raw, '--out', tmp_path/'out'), f,
          '2 classes: 2 and 255; say which is the region: --region 255, or --region any for all of '
          'them')

def test_several_faults_are_one_line(raw, tmp_path):
    bad = sorted(raw.rglob('*_Annotation.png'))[:3]
    for f in bad: f.write_bytes(b'not a picture')
    fails(run('fetal_seg_prepare', raw, tmp_path/'out'), '2 more files have faults')

def test_a_fault_leaves_a_prepared_folder_as_it_was(world, raw, tmp_path):
    out = Path(shutil.copytree(world/'prepared', tmp_path/'prepared'))
    before = snapshot(out)
    first(raw).write_bytes(b'not a picture')
    fails(run('fetal_seg_prepare', raw, out), 'cannot be decoded')
    assert snapshot(out) == before

def test_raw_is_never_written_to(world, raw, tmp_path):
    before = snapshot(raw)
    assert run('fetal_seg_prepare', raw, tmp_path/'out').returncode == 0
    assert snapshot(raw) == before

def test_unreadable_weights(world, tmp_path):
    (tmp_path/'run').mkdir()
    (tmp_path/'run'/'weights.safetensors').write_bytes(b'nonsense')
    picture = first(world/'raw', '_HC.png')
    fails(run('fetal_seg_predict', picture, '--weights', tmp_path/'run', '--out', tmp_path/'out'),
          'predictor.json', 'there is no such')
    (tmp_path/'run'/'predictor.json').write_text(
        '{"size": [68, 100], "canvas": [136, 200], "mode": "auto", "threshold": 0.5, '
        '"temperature": 1.0, "intensity": "dtype", "network": {"width": 4}}'
    )
    fails(run('fetal_seg_predict', picture, '--weights', tmp_path/'run', '--out', tmp_path/'out'),
          tmp_path/'run'/'weights.safetensors', 'no readable weights file', 'run folder')
    assert not (tmp_path/'out').exists()

@pytest.mark.parametrize('contract', [
    '{', '{}', '[]', '{"size": 3, "canvas": [1, 2], "mode": "auto", "threshold": 0.5, '
    '"temperature": 1, "network": {}}'])
def test_unusable_contract(world, tmp_path, contract):
    (tmp_path/'run').mkdir()
    (tmp_path/'run'/'weights.safetensors').write_bytes(b'nonsense')
    (tmp_path/'run'/'predictor.json').write_text(contract)
    fails(
        run('fetal_seg_predict', first(world/'raw', '_HC.png'), '--weights', tmp_path/'run',
            '--out', tmp_path/'out'), 'predictor.json')

def test_eval_of_another_size_and_of_several_classes(world, tmp_path):
    ann = first(world/'raw')
    name = ann.stem.removesuffix('_Annotation')
    (tmp_path/'pred').mkdir()
    f = tmp_path/'pred'/f'{name}_mask.png'
    Image.new('L', (50,40), 255).save(f)
    fails(run('fetal_seg_eval', '--pred', tmp_path/'pred', '--truth', world/'raw'), f,
          '50x40 pixels', 'size of the annotation')
    Image.fromarray(np.array([[0,1],[2,3]], np.uint8)).save(f)
    fails(run('fetal_seg_eval', '--pred', tmp_path/'pred', '--truth', world/'raw'), f,
          '3 classes: 1; 2; 3; say which is the region: --region 3')

def test_eval_scores_anybodys_masks(world, tmp_path):
    "Filled truths as NAME.png, of which one is cut in half: Dice of 1 and of a known value."
    import json
    from fetal_seg.labels import read_annotation
    from fetal_seg.preprocess import to_mask
    anns = sorted((world/'raw').rglob('*_Annotation.png'))[:2]
    for i,a in enumerate(anns):
        m = to_mask(read_annotation(a))[0]
        if i: m[:, m.shape[1]//2:] = 0; kept = m.sum(); whole = to_mask(read_annotation(a))[0].sum()
        (tmp_path/'pred').mkdir(exist_ok=True)
        Image.fromarray(m*255).save(tmp_path/'pred'/f'{a.stem.removesuffix("_Annotation")}.png')
    r = run('fetal_seg_eval', '--pred', tmp_path/'pred', '--truth', world/'raw', '--out',
            tmp_path/'scores', '--json')
    assert r.returncode == 1   # 28 annotations have no prediction, and are listed
    s = json.loads(r.stdout)
    assert len(s['problems']) == 28
    got = {c['case']: c['dice'] for c in s['scores']}
    assert got[anns[0].stem.removesuffix('_Annotation')] == 1
    assert abs(got[anns[1].stem.removesuffix('_Annotation')] - 2*kept/(kept+whole)) < 1e-12
    assert (tmp_path/'scores'/'scores.csv').exists() and json.loads(
        (tmp_path/'scores'/'summary.json').read_text())['cases'] == 2

def test_a_folder_with_a_table_of_the_users_own_is_left_alone(raw, tmp_path):
    "A `cases.csv` does not make a folder ours: nothing in it is deleted or written over."
    mine = tmp_path/'mine'
    (mine/'train'/'images').mkdir(parents=True)
    Image.new('L', (8,8), 9).save(mine/'train'/'images'/'a.png')
    (mine/'cases.csv').write_text('case,exam\na,1\n')
    before = snapshot(mine)
    fails(run('fetal_seg_prepare', raw, mine), mine, '1 pictures here were not written by prepare',
          'choose another folder')
    r = run('fetal_seg_verify', mine)
    assert r.returncode == 2 and 'delete' not in r.stderr, r.stderr
    assert snapshot(mine) == before

@pytest.mark.parametrize('size', [(0, 80), (-5, 80)])
def test_a_size_that_is_none(raw, tmp_path, size):
    fails(run('fetal_seg_prepare', raw, '--size', *size, tmp_path/'out'), '--size',
          'no height and width', 'above 0')
    assert not (tmp_path/'out').exists()

def test_further_masks_of_one_picture_are_united(tmp_path):
    for d in ('pred', 'truth'):
        (tmp_path/d).mkdir()
        [Image.new('L', (8, 8), 255).save(tmp_path/d/n) for n in ('x_mask.png', 'x_mask_1.png')]
    r = run('fetal_seg_eval', '--pred', tmp_path/'pred', '--truth', tmp_path/'truth')
    assert r.returncode == 0 and '1 case of 1 exam' in r.stdout, r.stderr
