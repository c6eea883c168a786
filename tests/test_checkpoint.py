"""The checkpoint of a training is data that may be wrong: cut, foreign, somebody else's, a pickle.
Each fault is one line, nothing is written, and nothing is executed."""
import json, os, pickle, shutil
from pathlib import Path
import numpy as np, pandas as pd, pytest, torch
from safetensors.torch import load_file, safe_open, save_file
from fetal_seg.core import InputError, folder_lock, read_json
from fetal_seg.train import EMA, RunFolder, train

SMALL = dict(preset='quick', size=(32, 48), bs=4, depth=2, width=4, device='cpu', epochs=3)

@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    from fetal_seg.phantom import write_phantoms
    from fetal_seg.preprocess import prepare
    d = tmp_path_factory.mktemp('checkpoint')
    prepare(write_phantoms(d/'raw', n=14, shape=(64, 96)), d/'prepared', size=(64, 96),
            fractions=(0.6, 0.2, 0.2))
    return d/'prepared'

def stop(epoch):
    "A callback that ends the training in an epoch."
    from fastai.callback.core import Callback
    def after_batch(self):
        if self.epoch == epoch: raise KeyboardInterrupt
    return type('Stop', (Callback,), dict(after_batch=after_batch))()

@pytest.fixture(scope='module')
def begun(prepared, tmp_path_factory):
    "A run of which two epochs of three are done."
    run = tmp_path_factory.mktemp('begun')/'run'
    with pytest.raises(KeyboardInterrupt): train(prepared, run, cbs=[stop(2)], **SMALL)
    return run

@pytest.fixture(scope='module')
def whole(prepared, tmp_path_factory):
    run = tmp_path_factory.mktemp('whole')/'run'
    train(prepared, run, **SMALL)
    return run

@pytest.fixture
def run(begun, tmp_path): return Path(shutil.copytree(begun, tmp_path/'run'))

def parts(f):
    "The tensors of a checkpoint and its record."
    with safe_open(f, 'pt') as o: return load_file(f), json.loads(o.metadata()['fetal_seg'])

def store(f, tensors, record): save_file(tensors, f, dict(fetal_seg=json.dumps(record)))

def files(folder): return {p.name: p.read_bytes() for p in Path(folder).iterdir() if p.is_file()}

def same_run(a, b):
    a, b = files(a), files(b)
    assert a.keys() == b.keys()
    for n in a.keys() - {'log.csv', 'train.json', 'last.safetensors', 'curve.png'}:
        assert a[n] == b[n], n

def refused(prepared, run, *needles, **more):
    "One line with all of `needles`; no file is another one."
    before = files(run)
    with pytest.raises(InputError) as e: train(prepared, run, **{**SMALL, **more})
    for n in needles: assert str(n) in str(e.value), str(e.value)
    assert '\n' not in str(e.value) and files(run) == before
    return str(e.value)

def test_it_goes_on_bit_for_bit(prepared, run, whole):
    log = train(prepared, run, **SMALL)
    same_run(run, whole)
    pd.testing.assert_frame_equal(log.drop(columns='seconds'), pd.read_csv(
        whole/'log.csv', float_precision='round_trip').drop(columns='seconds'), check_exact=True)
    (a, ra), (b, rb) = parts(run/'last.safetensors'), parts(whole/'last.safetensors')
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    for r in (*ra['rows'], *rb['rows']): r.pop('seconds')
    assert ra == rb and {str(t.dtype) for t in a.values()} == {'torch.float32', 'torch.int64'}
    assert ra['next'] == 3 and ra['scaler'] is None

def cut(f): f.write_bytes(f.read_bytes()[:-100])
def half(f): f.write_bytes(f.read_bytes()[:f.stat().st_size//2])
def empty(f): f.write_bytes(b'')
def zeros(f): f.write_bytes(bytes(f.stat().st_size))
def folder(f): f.unlink(); f.mkdir()
def pipe(f): f.unlink(); os.mkfifo(f)
def loose(f): f.unlink(); f.symlink_to('nowhere')
def huge(f): os.truncate(f, 2**40)
def endless(f): f.unlink(); f.symlink_to('/dev/zero')
def pickled(f): f.write_bytes(pickle.dumps(dict(a=1)))
def weights(f): shutil.copy(f.parent/'weights.safetensors', f)
def no_json(f): save_file(load_file(f), f, dict(fetal_seg='{'))
def deep(f): save_file(load_file(f), f, dict(fetal_seg='['*100_000))
def a_list(f): save_file(load_file(f), f, dict(fetal_seg='[]'))

@pytest.mark.parametrize('damage', [cut, half, empty, zeros, folder, pipe, loose, huge, endless,
                                    pickled, weights, no_json, deep, a_list])
def test_a_file_that_is_none(prepared, run, damage):
    f = run/'last.safetensors'
    damage(f)
    refused_read(prepared, run)

def refused_read(prepared, run):
    "As `refused`, where the checkpoint itself may be no file that can be read."
    before = {n: b for n,b in ((p.name, p.read_bytes()) for p in run.iterdir()
                               if p.name != 'last.safetensors')}
    with pytest.raises(InputError) as e: train(prepared, run, **SMALL)
    text = str(e.value)
    assert text.startswith(f'{run/"last.safetensors"}: ') and '\n' not in text, text
    assert 'delete it, and the training begins anew; ' in text and 'weights.safetensors' in text
    assert {n: (run/n).read_bytes() for n in before} == before

RECORDS = dict(
    next_far=lambda r: r.update(next=9), next_text=lambda r: r.update(next='2'),
    next_true=lambda r: r.update(next=True), next_0=lambda r: r.update(next=0),
    no_next=lambda r: r.pop('next'), best_9=lambda r: r.update(best=9.),
    best_nan=lambda r: r.update(best=float('nan')), best_none=lambda r: r.update(best=None),
    rows_none=lambda r: r.update(rows=[]), rows_text=lambda r: r.update(rows='a'),
    row_twice=lambda r: r['rows'].append(r['rows'][0]),
    row_short=lambda r: r['rows'][0].pop('dice'),
    row_list=lambda r: r['rows'][1].update(iou=[1]),
    row_word=lambda r: r['rows'][1].update(iou='x'),
    format_9=lambda r: r.update(format=9), no_format=lambda r: r.pop('format'),
    steps=lambda r: r.update(average_steps=-1), few=lambda r: r['optimizer'].pop(),
    other_type=lambda r: r.update(optimizer=dict(a=1)),
    text_step=lambda r: r['optimizer'][0].update(step='many'),
    no_step=lambda r: r['optimizer'][0].pop('step'), hypers=lambda r: r.update(hypers=[]),
    no_mom=lambda r: r['hypers'][0].pop('mom'), text_lr=lambda r: r['hypers'][0].update(lr='0'),
    scaler=lambda r: r.update(scaler=dict(scale=0.)))

@pytest.mark.parametrize('name', RECORDS)
def test_a_record_that_does_not_fit(prepared, run, name):
    tensors, record = parts(run/'last.safetensors')
    RECORDS[name](record)
    store(run/'last.safetensors', tensors, record)
    refused_read(prepared, run)

TENSORS = dict(
    lost=lambda t: t.pop('model.head.bias'), other=lambda t: t.update({'model.x': torch.ones(1)}),
    shape=lambda t: t.update({'average.head.bias': torch.ones(7)}),
    half=lambda t: t.update({'model.head.bias': t['model.head.bias'].half()}),
    whole=lambda t: t.update({'optimizer.0.grad_avg': t['optimizer.0.grad_avg'].to(torch.int64)}),
    no_sqr=lambda t: [t.pop(k) for k in list(t) if k.endswith('.sqr_avg')],
    more=lambda t: t.update({'optimizer.999.grad_avg': torch.ones(1)}),
    no_average=lambda t: [t.pop(k) for k in list(t) if k.startswith('average.')])

@pytest.mark.parametrize('name', TENSORS)
def test_tensors_that_do_not_fit(prepared, run, name):
    tensors, record = parts(run/'last.safetensors')
    TENSORS[name](tensors)
    store(run/'last.safetensors', tensors, record)
    refused_read(prepared, run)

def test_the_remedies(prepared, run, whole, tmp_path):
    "Deleted, the training begins anew and ends the same; or another run starts from the weights."
    empty(run/'last.safetensors')
    small = {k: v for k,v in SMALL.items() if k not in ('width', 'depth')}
    train(prepared, tmp_path/'other', init=run, **small)
    assert read_json(tmp_path/'other'/'train.json')['setup']['init']
    (run/'last.safetensors').unlink()
    train(prepared, run, **SMALL)
    same_run(run, whole)

class Program:
    "What a pickle can do to who opens it."
    def __init__(self, f): self.f = f
    def __reduce__(self): return Path.touch, (self.f,)

def test_a_pickle_of_an_earlier_version_is_not_opened(prepared, run, tmp_path):
    (run/'last.safetensors').unlink()
    torch.save(Program(tmp_path/'executed'), run/'last.pth')
    text = refused(prepared, run, 'last.pth: this checkpoint of an earlier version is a pickle',
                   'fetal_seg_train --init')
    assert not (tmp_path/'executed').exists() and 'choose another run folder' in text
    small = {k: v for k,v in SMALL.items() if k not in ('width', 'depth')}
    assert len(train(prepared, tmp_path/'other', init=run, **small)) == 3     # the remedy
    assert not (tmp_path/'executed').exists()

@pytest.mark.parametrize('checkpoint', ['pickle', 'none', 'damaged'])
def test_a_finished_run_needs_no_checkpoint(prepared, whole, tmp_path, checkpoint):
    run = Path(shutil.copytree(whole, tmp_path/'run'))
    if checkpoint == 'damaged': cut(run/'last.safetensors')
    else: (run/'last.safetensors').unlink()
    if checkpoint == 'pickle': torch.save(Program(tmp_path/'executed'), run/'last.pth')
    before = files(run)
    log = train(prepared, run, **SMALL)
    assert files(run) == before and not (tmp_path/'executed').exists()
    pd.testing.assert_frame_equal(log, pd.read_csv(whole/'log.csv', float_precision='round_trip'))

def test_an_early_end_is_read_off_the_log(prepared, tmp_path):
    kw = dict(SMALL, epochs=9, lr=1e-12, norm='group', patience=2)
    a = train(prepared, tmp_path/'run', **kw)
    (tmp_path/'run'/'last.safetensors').unlink()
    before = files(tmp_path/'run')
    b = train(prepared, tmp_path/'run', **kw)
    assert len(a) == 3 and a.equals(b) and files(tmp_path/'run') == before

@pytest.mark.parametrize('damage', ['gone', 'short', 'cut', 'text'])
def test_the_log_comes_out_of_the_checkpoint(prepared, run, whole, damage):
    f = run/'log.csv'
    text = f.read_text()
    if damage == 'gone': f.unlink()
    else: f.write_text(dict(short=''.join(text.splitlines(True)[:2]), cut=text[:len(text)//2],
                            text='hello')[damage])
    train(prepared, run, **SMALL)
    same_run(run, whole)
    assert len(pd.read_csv(f)) == 3

@pytest.mark.parametrize('name', ['weights.safetensors', 'log.csv', 'predictor.json', 'curve.png',
                                  'seen.csv', 'last.safetensors', 'last.pth', 'tensorboard'])
def test_a_foreign_file_is_not_overwritten(prepared, tmp_path, name):
    run = tmp_path/'run'
    run.mkdir()
    if name == 'tensorboard': (run/name).mkdir()
    elif name == 'log.csv': (run/name).symlink_to('nowhere')
    else: (run/name).write_bytes(b'mine')
    refused(prepared, run, run/name, 'no training of ours has written this')
    assert [p.name for p in run.iterdir()] == [name]

def test_other_files_are_no_hindrance(prepared, tmp_path):
    (tmp_path/'run').mkdir()
    (tmp_path/'run'/'notes.txt').write_text('mine')
    train(prepared, tmp_path/'run', **dict(SMALL, epochs=1))
    assert (tmp_path/'run'/'notes.txt').read_text() == 'mine'

def test_what_a_kill_left_is_removed(prepared, run):
    left = [run/'.last-ab_12xyz.safetensors', run/'.log-abcdefgh.csv']
    for f in left: f.write_bytes(b'half')
    (run/'.last-words.txt').write_text('mine')
    train(prepared, run, **SMALL)
    assert not any(f.exists() for f in left) and (run/'.last-words.txt').exists()

def test_the_second_training_is_refused(prepared, run, tmp_path):
    with folder_lock(run), pytest.raises(InputError, match=r'another process \(number \d+, for'):
        train(prepared, run, **SMALL)
    # before the data are read
    (tmp_path/'broken').mkdir()
    (tmp_path/'broken'/'prepare.json').write_text((prepared/'prepare.json').read_text())
    with folder_lock(run), pytest.raises(InputError, match='another process'):
        train(tmp_path/'broken', run, **SMALL)

def test_a_failure_leaves_no_folder(prepared, tmp_path):
    broken = Path(shutil.copytree(prepared, tmp_path/'broken'))
    (broken/'cases.csv').unlink()
    with pytest.raises(InputError): train(broken, tmp_path/'run', **SMALL)
    assert not (tmp_path/'run').exists()

def test_calibrate_waits_for_nobody(prepared, run):
    from fetal_seg.calibration import calibrate
    before = files(run)
    with folder_lock(run):
        with pytest.raises(InputError, match='another process'): calibrate(run, prepared)
        assert {n: b for n,b in files(run).items() if n != '.lock'} == before
    calibrate(run, prepared)
    assert 'fitted_on' in read_json(run/'predictor.json') and not (run/'.lock').exists()
    with pytest.raises(FileNotFoundError): calibrate(run/'nowhere', prepared)

@pytest.mark.parametrize('when', ['last', 'weights', 'log', 'curve'])
def test_a_full_disk(prepared, run, whole, monkeypatch, when):
    "The file is named, what was there is as it was, and the same call goes on later."
    before, real = files(run), Path.write_bytes
    import errno, matplotlib.figure
    def full(path):
        if not path.name.startswith(f'.{when}-'): return
        raise OSError(errno.ENOSPC, 'No space left', str(path))
    def write_bytes(self, data): full(self); return real(self, data)
    def write_text(self, text, **kw): full(self); return real(self, text.encode())
    def savefig(self, path, **kw): full(Path(path)); return draw(self, path, **kw)
    draw = matplotlib.figure.Figure.savefig
    with monkeypatch.context() as m:
        m.setattr(Path, 'write_bytes', write_bytes); m.setattr(Path, 'write_text', write_text)
        m.setattr(matplotlib.figure.Figure, 'savefig', savefig)
        # a better epoch comes for sure: without it no weights are written
        tensors, record = parts(run/'last.safetensors')
        store(run/'last.safetensors', tensors, dict(record, best=-1.))
        before = files(run)
        with pytest.raises(OSError, match='No space left'): train(prepared, run, **SMALL)
    now = files(run)
    assert not [n for n in now if n.startswith('.')]
    if when in ('last', 'weights'): assert now['last.safetensors'] == before['last.safetensors']
    if when == 'weights': assert now['weights.safetensors'] == before['weights.safetensors']
    train(prepared, run, **SMALL)
    assert len(pd.read_csv(run/'log.csv')) == 3
    (a, _), (b, _) = parts(run/'last.safetensors'), parts(whole/'last.safetensors')
    assert all(torch.equal(a[k], b[k]) for k in a)

def test_other_types_and_figures_come_back(tmp_path):
    "bfloat16, the factor of float16 mixed precision, and figures that are no numbers."
    from types import SimpleNamespace
    from fastai.optimizer import Adam
    from fetal_seg.train import _read_checkpoint
    net = torch.nn.Sequential(torch.nn.Linear(3, 2).bfloat16(), torch.nn.BatchNorm1d(2))
    state = dict(scale=512., growth_factor=2., backoff_factor=.5, growth_interval=2000,
                 _growth_tracker=7)
    scaler = SimpleNamespace(state_dict=lambda: state)
    def learner():
        learn = SimpleNamespace(model=net, opt=None, scaler=scaler)
        learn.create_opt = lambda: setattr(learn, 'opt', Adam(list(net.parameters()), lr=1e-3))
        return learn
    learn = learner(); learn.create_opt()
    for p in net.parameters(): p.grad = torch.randn_like(p)
    learn.opt.step()
    keep = RunFolder(tmp_path, EMA())
    keep.learn, keep.best = learn, 0.25
    learn.epoch = 1
    keep.ema.n, keep.ema.avg = 5, {k: v.clone() for k,v in net.state_dict().items()
                                   if v.is_floating_point()}
    keep.rows = [dict(epoch=0, dice=0.1+0.2, iou=float('nan'), train_loss=float('inf')),
                 dict(epoch=1, dice=1/3, iou=np.float64(0.1), train_loss=-float('inf'))]
    keep.write()
    again, new = RunFolder(tmp_path, EMA()), learner()
    old = [{k: v.clone() if torch.is_tensor(v) else v for k,v in s.items()}
           for s in learn.opt.state_dict()['state']]
    again.resume(new)
    assert again.scaler == state and again.best == 0.25 and again.next == 2
    for a, b in zip(keep.rows, again.rows):
        assert a.keys() == b.keys() and all(str(float(a[k])) == str(float(b[k])) for k in a)
    for a, b in zip(old, new.opt.state_dict()['state']):
        assert a.keys() == b.keys()
        for k in a:
            assert torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype if torch.is_tensor(a[k]) \
                else a[k] == b[k]
    assert {v.dtype for v in again.ema.avg.values()} == {torch.bfloat16, torch.float32}

@pytest.mark.parametrize('name', ['tensorboard', 'wandb'])
def test_a_link_out_of_the_run_folder_is_not_followed(prepared, run, tmp_path, name):
    pytest.importorskip('torch.utils.tensorboard' if name == 'tensorboard' else name)
    (tmp_path/'elsewhere').mkdir()
    mine = [tmp_path/'elsewhere'/'events.out.tfevents.1', tmp_path/'elsewhere'/'offline-run-1'/'a']
    for f in mine: f.parent.mkdir(exist_ok=True); f.write_text('mine')
    (run/name).symlink_to(tmp_path/'elsewhere')
    with pytest.raises(InputError, match=f"the path '{name}' leads out of the folder"):
        train(prepared, run, loggers=name, **SMALL)
    assert all(f.read_text() == 'mine' for f in mine)

@pytest.mark.parametrize('text', ['[]', '{', '{}', '{"setup": 1, "environments": []}',
                                  '{"setup": {}, "environments": {}}', 'null', ''])
def test_a_record_of_the_run_that_is_none(prepared, run, text):
    (run/'train.json').write_text(text)
    refused(prepared, run, run/'train.json')
