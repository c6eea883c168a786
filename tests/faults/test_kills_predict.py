"Kills of `fetal_seg_predict` and `fetal_seg_export`, and two of them at once: nothing is lost."
import itertools, os, signal, subprocess, sys, threading, time
from functools import partial
from pathlib import Path
import numpy as np, pandas as pd, pytest
from fetal_seg.core import InputError, folder_lock, read_json, to_json, write_json
from fetal_seg.phantom import simulate
from fetal_seg.predict import Predictor, export, predict_files
from fetal_seg.preprocess import save_png

pytestmark = pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
N, STEPS = 8, ('os.open', 'os.replace', 'os.unlink', 'write')

def write_run(folder, seed=0):
    "A run folder with a tiny network that was never trained."
    import torch
    from safetensors.torch import save_file
    from fetal_seg.unet import UNet
    config = dict(c_in=1, c_out=1, width=4, depth=2, norm='batch', dropout=0.)
    torch.manual_seed(seed)
    folder.mkdir()
    save_file({k: v.contiguous() for k,v in UNet(**config).state_dict().items()},
              folder/'weights.safetensors')
    write_json(folder/'predictor.json', dict(
        format=2, network=config, canvas=[48, 64], mode='auto', size=[32, 32], intensity='dtype',
        temperature=1., threshold=0.5, post=['largest']))
    return folder

@pytest.fixture(scope='module')
def world(tmp_path_factory):
    "Run, pictures (one of them bad), and what an undisturbed call leaves."
    import torch
    torch.set_num_threads(1)   # a child of fork has one thread
    d = tmp_path_factory.mktemp('kills')
    run, paths = write_run(d/'run'), [d/f'{i}.png' for i in range(N)]
    for i,p in enumerate(paths): save_png(p, simulate(i, shape=(48, 64))[0])
    paths[3].write_bytes(b'no picture')
    predictor = Predictor(run)
    t = time.perf_counter()
    predict_files(predictor, paths, d/'calm')
    return dict(run=run, paths=paths, predictor=predictor, calm=files_of(d/'calm'), d=d,
                seconds=time.perf_counter() - t)

def files_of(folder):
    "Every file of a folder, hidden ones too."
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file()}

def die(): os.kill(os.getpid(), signal.SIGKILL)

def count_steps(at, torn):
    "In a child: die at the step `at` that changes a file; `torn`: in the middle of a line."
    n, real = itertools.count(1), {k: getattr(os, k) for k in ('open', 'replace', 'unlink')}
    def step(name, *a, **kw):
        if next(n) == at: die()
        return real[name](*a, **kw)
    for k in real: setattr(os, k, partial(step, k))
    from fetal_seg import predict
    append = predict._Results._append
    def half(self, doc):
        if next(n) == at:
            if torn: self.file.write(to_json(doc)[:40].encode().replace(b'\n', b'')); self.file.flush()
            die()
        append(self, doc)
    predict._Results._append = half

def forked(call, before):
    "Run a call in a child that `before` has prepared: was it killed?"
    pid = os.fork()
    if pid == 0:
        try:
            before()
            call()
        finally: os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])

def killed_later(seconds):
    "In a child: die after some time."
    threading.Thread(target=lambda: (time.sleep(seconds), die()), daemon=True).start()

MOMENTS = [1, 2, 3, 4, 5, 7, 9, 11, 14, 17, 20, 23, 27, 31]

def test_twenty_kills(world, tmp_path):
    rng, killed = np.random.default_rng(0), 0
    befores = [partial(count_steps, k, k % 2) for k in MOMENTS]
    befores += [partial(killed_later, s) for s in rng.uniform(0, world['seconds'], 6)]
    for i,before in enumerate(befores):
        out = tmp_path/str(i)
        call = partial(predict_files, world['predictor'], world['paths'], out)
        killed += forked(call, before)
        t = call()
        assert (t.problem != '').sum() == 1 and len(t) == N
        assert files_of(out) == world['calm'], f'kill {i}'
    assert len(befores) == 20 and killed >= len(MOMENTS)

def test_a_kill_is_taken_over(world, tmp_path, monkeypatch):
    "What was finished is not predicted again; what no longer fits is."
    from fetal_seg import predict
    done, real = [], predict._predict_one
    monkeypatch.setattr(predict, '_predict_one',
                        lambda p, path, *a: (done.append(path.name), real(p, path, *a))[1])
    call = partial(predict_files, world['predictor'], world['paths'], tmp_path/'out')
    # each picture opens three files, and the journal is a step too
    def before(): killed_at_row(5)
    assert forked(call, before)
    (tmp_path/'out'/'1_mask.png').write_bytes(b'changed')
    call()
    assert done == ['1.png', '3.png', '5.png', '6.png', '7.png']
    assert files_of(tmp_path/'out') == world['calm']
    assert forked(partial(predict_files, world['predictor'], world['paths'], tmp_path/'b'), before)
    done.clear()
    predict_files(world['predictor'], world['paths'], tmp_path/'b', spacing=0.1)
    assert len(done) == N, 'another option decides the result'

def killed_at_row(n):
    "In a child: die before the row of the picture `n` is in the journal."
    from fetal_seg import predict
    add, rows = predict._Results.add, itertools.count()
    predict._Results.add = lambda *a: die() if next(rows) == n else add(*a)

def test_calls_add_up(world, tmp_path):
    "Different pictures, one after the other, are the union; a name belongs to its first picture."
    p, paths = world['predictor'], [q for i,q in enumerate(world['paths']) if i != 3]
    predict_files(p, paths[:3], tmp_path/'out')
    predict_files(p, paths[3:], tmp_path/'out')
    predict_files(p, paths[1:2], tmp_path/'out', spacing=0.5)
    t = pd.read_csv(tmp_path/'out'/'predictions.csv')
    assert list(t.file) == list(map(str, paths)) and t.spacing_mm[1] == 0.5
    other = tmp_path/'other'/'0.png'
    save_png(other, simulate(99, shape=(48, 64))[0])
    before = (tmp_path/'out'/'0_mask.png').read_bytes(), (tmp_path/'out'/'0_heatmap.png').read_bytes()
    for _ in range(2): assert list(predict_files(p, [other], tmp_path/'out').name) == ['other__0']
    assert list(predict_files(p, [other, paths[0]], tmp_path/'out').name) == ['other__0', '0']
    assert before[1] == (tmp_path/'out'/'0_heatmap.png').read_bytes()
    assert len(pd.read_csv(tmp_path/'out'/'predictions.csv')) == len(paths) + 1

def test_relative_paths_from_two_folders(world, tmp_path, monkeypatch):
    for i,n in enumerate('ab'):
        save_png(tmp_path/n/'x.png', simulate(i, shape=(48, 64))[0])
        monkeypatch.chdir(tmp_path/n)
        predict_files(world['predictor'], ['x.png'], tmp_path/'out')
    assert list(pd.read_csv(tmp_path/'out'/'predictions.csv').name) == ['x', 'b__x']

def test_an_interrupted_call_of_others_is_kept(world, tmp_path):
    out, p = tmp_path/'out', world['predictor']
    assert forked(partial(predict_files, p, world['paths'], out), lambda: killed_at_row(5))
    predict_files(p, world['paths'][:1], out)
    t = pd.read_csv(out/'predictions.csv')
    assert list(t.name) == [1, 2, 3, 4, 0]
    # 5 was half finished; its files are still known as ours
    predict_files(p, world['paths'], out)
    assert set(files_of(out)) == set(world['calm'])

@pytest.mark.parametrize('name', ['0_mask.png', '0_heatmap.png', 'predictions.csv',
                                  '.predictions.jsonl'])
@pytest.mark.parametrize('kind', ['file', 'link', 'dangling'])
def test_foreign_files_stay(world, tmp_path, name, kind):
    out, victim = tmp_path/'out', tmp_path/'victim'
    out.mkdir()
    if kind != 'dangling': victim.write_text('mine,not yours\n1,2\n')
    if kind == 'file': os.rename(victim, out/name)
    else: (out/name).symlink_to(victim)
    with pytest.raises(InputError) as e: predict_files(world['predictor'], world['paths'], out)
    assert name in str(e.value) and '\n' not in str(e.value)
    assert os.listdir(out) == [name]
    if kind != 'dangling': assert (out/name).read_text() == 'mine,not yours\n1,2\n'
    assert (out/name).is_symlink() == (kind != 'file') and victim.exists() == (kind == 'link')

def test_a_link_of_ours_is_replaced(world, tmp_path):
    out, victim = tmp_path/'out', tmp_path/'victim'
    predict_files(world['predictor'], world['paths'], out)
    victim.write_text('keep me')
    (out/'0_mask.png').unlink()
    (out/'0_mask.png').symlink_to(victim)
    predict_files(world['predictor'], world['paths'], out)
    assert victim.read_text() == 'keep me' and files_of(out) == world['calm']

FAULTS = {'area': '2', 'width': '0', 'height': '', 'confidence': 'high', 'sdc': '-1',
          'ellipse_angle_deg': '200', 'name': '../x', 'file': '', 'unlike': '-1',
          'spacing_mm': 'inf', 'circumference_mm': '-3', 'ellipse_a': '-1', 'ellipse_row': '1e99'}

@pytest.mark.parametrize('column', FAULTS)
def test_a_hand_edited_table_is_one_line(world, tmp_path, column):
    out = tmp_path/'out'
    predict_files(world['predictor'], world['paths'][:2], out)
    t = pd.read_csv(out/'predictions.csv', dtype=str, keep_default_na=False)
    t.loc[1, column] = FAULTS[column]
    t.to_csv(out/'predictions.csv', index=False)
    before = files_of(out)
    with pytest.raises(InputError, match=f'predictions.csv: line 3: .*{column} is ') as e:
        predict_files(world['predictor'], world['paths'][4:], out)
    assert '\n' not in str(e.value) and files_of(out) == before

def test_a_column_of_the_users_own_stays(world, tmp_path):
    out = tmp_path/'out'
    predict_files(world['predictor'], world['paths'][:2], out)
    t = pd.read_csv(out/'predictions.csv', dtype=str, keep_default_na=False)
    t.assign(remark=['=good', 'bad']).to_csv(out/'predictions.csv', index=False)
    predict_files(world['predictor'], world['paths'][2:], out)
    t = pd.read_csv(out/'predictions.csv', dtype=str, keep_default_na=False)
    assert list(t.remark) == ["'=good", 'bad', '', '', '', '', '', '']

@pytest.mark.parametrize('line', ['[]', '{"row": 1}', '{"begin": {"../x": "a"}}', '{"key": "z"}',
                                  '{"row": {"name": "a"}}', 'NaN', '['*9000])
def test_a_damaged_journal_is_one_line(world, tmp_path, line):
    (tmp_path/'.predictions.jsonl').write_text('{"begin": {}}\n' + line + '\n')
    with pytest.raises(InputError, match='predictions.jsonl.* line 2') as e:
        predict_files(world['predictor'], world['paths'], tmp_path)
    assert '\n' not in str(e.value)

def test_odd_names(world, tmp_path, monkeypatch):
    "Long names, control characters, dashes: a safe name, or one row with a problem."
    monkeypatch.chdir(tmp_path)
    img = world['paths'][0].read_bytes()
    names = ['x'*251 + '.png', 'y'*255, 'é'*125 + '.png', 'a\nb.png', 'c\x1b[2J.png', '-', '-.png',
             '...png', 'd\r.png', os.fsdecode(b'e\xff.png')]
    for n in names: (tmp_path/n).write_bytes(img)
    more = ['z'*300, '\0', '..', '']
    t = predict_files(world['predictor'], [*names, *more], tmp_path/'out')
    assert list(t.problem != '') == [False]*len(names) + [True]*len(more), list(t.problem)
    again = predict_files(world['predictor'], [*names, *more], tmp_path/'out')
    assert list(t.name) == list(again.name)
    there = os.listdir(tmp_path/'out')
    assert len(there) == 3*len(names) + 1 and all(f.isprintable() for f in there)

def test_two_predict_at_once(world, tmp_path):
    "The second waits; all rows are there."
    code = ('import sys\nfrom fetal_seg.cli import predict\n'
            'sys.exit(predict(sys.argv[1:]))')
    def start(paths):
        return subprocess.Popen([sys.executable, '-c', code, *map(str, paths), '--weights',
                                 str(world['run']), '--out', str(tmp_path/'out')],
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    good = [p for i,p in enumerate(world['paths']) if i != 3]
    jobs = [start(good[:4]), start(good[4:])]
    told = [j.communicate()[1] for j in jobs]
    assert [j.returncode for j in jobs] == [0, 0], told
    assert len(pd.read_csv(tmp_path/'out'/'predictions.csv')) == len(good)
    assert len(os.listdir(tmp_path/'out')) == 3*len(good) + 1

def test_a_held_folder_is_refused(world, tmp_path, monkeypatch):
    from fetal_seg import predict
    monkeypatch.setattr(predict, 'WAIT', 0.2)
    with folder_lock(tmp_path, '.predictions.lock'):
        with pytest.raises(InputError, match=f'number {os.getpid()}, for [0-9]+ s'):
            predict_files(world['predictor'], world['paths'], tmp_path)
    with folder_lock(tmp_path, '.x.onnx.lock'):
        with pytest.raises(InputError, match=f'number {os.getpid()}, for [0-9]+ s'):
            export(world['run'], tmp_path/'x.onnx')
    assert not os.listdir(tmp_path)

@pytest.fixture(scope='module')
def exported(world):
    pytest.importorskip('onnxruntime'), pytest.importorskip('onnxscript')
    export(world['run'], world['d']/'calm-export'/'x.onnx')
    return files_of(world['d']/'calm-export')

@pytest.fixture
def quick(exported, monkeypatch):
    "The network is not written anew each time; everything around it is."
    from fetal_seg import predict, unet
    monkeypatch.setattr(unet, 'export_onnx',
                        lambda model, path, size: Path(path).write_bytes(exported['x.onnx']))
    monkeypatch.setattr(predict, '_largest_difference', lambda *a: read_difference(exported))

def read_difference(exported):
    import json
    return json.loads(exported['x.json'])['onnx']['difference'], 1.

def test_kills_of_an_export(world, exported, quick, tmp_path):
    call = partial(export, world['run'], tmp_path/'x.onnx')
    for k in range(1, 12):
        forked(call, partial(count_steps, k, False))
        call()
        assert files_of(tmp_path) == exported, k
    write_json(tmp_path/'x.json', dict(read_json(tmp_path/'x.json'), onnx=dict(
        read_json(tmp_path/'x.json')['onnx'], sha256='0'*64)))
    with pytest.raises(InputError, match='x.onnx: it is not the file that x.json was written for'):
        Predictor(tmp_path/'x.onnx')
    old = read_json(tmp_path/'x.json')
    del old['onnx']['sha256']   # as earlier versions wrote it
    write_json(tmp_path/'x.json', old)
    Predictor(tmp_path/'x.onnx')
    call()
    assert files_of(tmp_path) == exported

@pytest.mark.parametrize('name', ['x.onnx', 'x.json'])
@pytest.mark.parametrize('kind', ['file', 'link', 'dangling'])
def test_an_export_replaces_nothing_of_others(world, quick, tmp_path, name, kind):
    if kind == 'file': (tmp_path/name).write_text('{"a": 1}')
    else: (tmp_path/name).symlink_to(tmp_path/'victim')
    if kind == 'link': (tmp_path/'victim').write_text('{"a": 1}')
    before = files_of(tmp_path)
    with pytest.raises(InputError, match=f'{name}: this file is there already'):
        export(world['run'], tmp_path/'x.onnx')
    assert files_of(tmp_path) == before

def test_two_exports_at_once(world, exported, quick, tmp_path):
    def child():
        pid = os.fork()
        if pid: return pid
        try: export(world['run'], tmp_path/'x.onnx')
        except BaseException: os._exit(1)
        os._exit(0)
    assert [os.waitpid(p, 0)[1] for p in [child() for _ in range(3)]] == [0, 0, 0]
    assert files_of(tmp_path) == exported
