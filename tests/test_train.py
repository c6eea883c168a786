"Training where two callbacks meet, and a network that another run decides."
import numpy as np, pytest, torch
from fetal_seg.core import InputError

@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    from fetal_seg.phantom import write_phantoms
    from fetal_seg.preprocess import prepare
    d = tmp_path_factory.mktemp('train')
    prepare(write_phantoms(d/'raw', n=33, shape=(96, 128)), d/'prepared', size=(96, 128),
            fractions=(0.6, 0.2, 0.2))
    return d/'prepared'

def test_parts_of_a_batch_are_shrunk_once(prepared):
    "Where the memory runs out in the epochs of small pictures, every part is shrunk once."
    from fetal_seg.loaders import get_dls
    from fetal_seg.train import SmallFirst, get_learner
    from fetal_seg.unet import UNet
    seen = []
    class Small(UNet):
        def forward(self, x):
            if self.training and len(x) > 2: raise torch.OutOfMemoryError('too many')
            if self.training: seen.append(tuple(x.shape[-2:]))
            return super().forward(x)

    learn = get_learner(get_dls(prepared, size=(64, 96), bs=8, device='cpu'),
                        Small(width=2, depth=2, norm='group'), cbs=[SmallFirst(((1.0, 0.5),))])
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-3)
    assert learn.parts == 4 and len(seen) >= 8 and set(seen) == {(32, 48)}

def test_init_decides_the_network(prepared, tmp_path):
    from fetal_seg.core import read_json
    from fetal_seg.train import train
    kw = dict(epochs=1, size=(48,64), bs=4, depth=2)
    train(prepared, tmp_path/'first', 'quick', width=2, **kw)
    with pytest.raises(InputError, match='--width: 4, but .* has 2; leave it out'):
        train(prepared, tmp_path/'other', 'quick', init=tmp_path/'first', width=4, **kw)
    train(prepared, tmp_path/'second', 'quick', init=tmp_path/'first', **kw)
    assert read_json(tmp_path/'second'/'train.json')['setup']['width'] == 2

def test_the_hash_alone_gives_no_spacing_at_another_size():
    "A resized picture keeps its difference hash and not its pixel size."
    import pandas as pd
    from fetal_seg.data import match_table, provenance
    table = provenance()
    case = dict(image_sha256=None, annotation_sha256=None, dhash=table.dhash[500])
    sizes = dict(case, height=540, width=800), dict(case, height=270, width=400)
    m = match_table(pd.DataFrame(sizes), table)
    assert m.exam.tolist() == [table.exam[500]]*2 and m.exam_source.tolist() == ['table:dhash']*2
    assert m.spacing[0] == table.pixel_size_mm[500] and np.isnan(m.spacing[1])

SMALL = dict(preset='quick', size=(48,64), bs=4, depth=2, width=2, device='cpu')

class Kill:
    "Ends a training at an epoch: in its middle, or between the checkpoint and the loggers."
    def __new__(cls, epoch, late=False):
        from fastai.callback.core import Callback
        def stop(self):
            if self.epoch == epoch and (late or self.training and self.iter == 1):
                raise KeyboardInterrupt

        return type('Kill', (Callback,),
                    {'order': 55.5, 'after_epoch' if late else 'after_batch': stop})()

def events(run):
    "{name: [(step, value)]} of all that TensorBoard finds."
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    found = EventAccumulator(str(run/'tensorboard')).Reload()
    return {k: [(e.step, e.value) for e in found.Scalars(k)] for k in found.Tags()['scalars']}

def records(blob):
    "The records of an offline file of Weights & Biases: LevelDB's log after a header of 7 bytes."
    at, whole = 7, b''
    while at + 7 <= len(blob):
        if 32768 - at % 32768 < 7: at += 32768 - at % 32768; continue     # what is left of a block
        n, kind = int.from_bytes(blob[at+4:at+6], 'little'), blob[at+6]
        whole, at = whole + blob[at+7:at+7+n], at + 7 + n
        if kind in (1, 4): yield whole; whole = b''                      # full, or last part

def offline_rows(run):
    "The rows in the one offline file of Weights & Biases, and all of its bytes."
    import json
    from wandb.proto.wandb_internal_pb2 import Record
    f, = run.glob('wandb/offline-run-*/*.wandb')
    blob = f.read_bytes()
    found = [Record.FromString(r) for r in records(blob)]
    rows = [r.history.item for r in found if r.WhichOneof('record_type') == 'history']
    def name(i): return i.key or '.'.join(i.nested_key)
    def row(items): return {name(i): json.loads(i.value_json) for i in items}
    return [row(items) for items in rows], blob

@pytest.fixture(scope='module')
def plain(prepared, tmp_path_factory):
    "A run without loggers."
    from fetal_seg.train import train
    run = tmp_path_factory.mktemp('plain')
    return run, train(prepared, run, epochs=3, **SMALL)

@pytest.mark.parametrize('late', [False, True])
def test_a_resumed_training_is_logged_once(prepared, plain, tmp_path, late):
    """Every epoch once, whether it was killed in mid-epoch or between the checkpoint and the
    loggers; and the loggers change no weight."""
    from fetal_seg.train import train
    run, kw = tmp_path/'run', dict(epochs=3, loggers=('tensorboard', 'wandb'), **SMALL)
    with pytest.raises(KeyboardInterrupt): train(prepared, run, cbs=[Kill(1, late)], **kw)
    assert [s for s,_ in events(run)['dice']] == [0]
    log = train(prepared, run, **kw)
    assert (run/'weights.safetensors').read_bytes() == (plain[0]/'weights.safetensors').read_bytes()
    found, (rows, blob) = events(run), offline_rows(run)
    assert set(found) == set(log.columns) - {'epoch'}
    for k in found:
        assert [s for s,_ in found[k]] == [0, 1, 2]
        assert np.allclose([v for _,v in found[k]], log[k], rtol=1e-6)
        assert np.allclose([r[k] for r in rows], log[k])
    assert [r['_step'] for r in rows] == [0, 1, 2]
    for private in (str(prepared), str(tmp_path)): assert private.encode() not in blob

def test_a_finished_run_is_logged_afterwards(prepared, tmp_path):
    from fetal_seg.train import train
    train(prepared, tmp_path/'run', epochs=2, **SMALL)
    weights = (tmp_path/'run'/'weights.safetensors').stat().st_mtime_ns
    log = train(prepared, tmp_path/'run', epochs=2, loggers='tensorboard', **SMALL)
    assert [s for s,_ in events(tmp_path/'run')['dice']] == [0, 1] == log.epoch.tolist()
    assert (tmp_path/'run'/'weights.safetensors').stat().st_mtime_ns == weights

def test_early_stopping_logs_its_last_epoch(prepared, tmp_path):
    from fetal_seg.train import train
    log = train(prepared, tmp_path/'run', epochs=9, lr=1e-12, norm='group', patience=2,
                loggers='tensorboard', **SMALL)
    assert [s for s,_ in events(tmp_path/'run')['dice']] == [0, 1, 2] == log.epoch.tolist()

def test_online_gets_what_it_has_not(tmp_path, monkeypatch):
    "A run that Weights & Biases has two rows of gets the third alone, under the name it had."
    import sys, types
    from fetal_seg.train import WandB
    seen = []
    class Run:
        step = 2
        def log(self, row, step, commit): seen.append((step, row, commit))
        def finish(self): seen.append('end')
    def init(**kw): seen.append((kw['mode'], kw['resume'], kw['id'])); return Run()

    class Settings:
        model_fields = {'console': None}
        def __init__(self, **kw): self.__dict__.update(kw)
    monkeypatch.setitem(sys.modules, 'wandb', types.SimpleNamespace(init=init, Settings=Settings))
    monkeypatch.setenv('WANDB_MODE', 'online')
    for _ in range(2): WandB(tmp_path).replay([dict(epoch=i, dice=i/10) for i in range(3)])
    assert seen[1:3] == [(2, dict(dice=0.2), True), 'end'] and seen[:3] == seen[3:]
    assert seen[0][:2] == ('online', 'allow') and len(seen[0][2]) == 8

NOTHING_SENT = '''
import os, sys, warnings
warnings.filterwarnings('ignore')
from fetal_seg.train import WandB
for mode in sys.argv[2:]:
    if mode != 'default': os.environ['WANDB_MODE'] = mode
    WandB(f'{sys.argv[1]}/{mode}').replay([dict(epoch=i, dice=i/10) for i in range(3)])
'''

def connections(folder, *modes):
    """The exit status, and how often Weights & Biases knocks at the door that is given to it as its
    host and as every proxy."""
    import os, socket, subprocess, sys, threading, time
    count = []
    with socket.create_server(('127.0.0.1', 0)) as door:
        def open_door():
            while True:
                try: c, _ = door.accept()
                except OSError: return
                count.append(1); c.close()
        threading.Thread(target=open_door, daemon=True).start()
        url = f'http://127.0.0.1:{door.getsockname()[1]}'
        env = {k: v for k,v in os.environ.items() if not k.startswith('WANDB_')}
        env |= dict.fromkeys(('HTTP_PROXY', 'HTTPS_PROXY', 'http_proxy', 'https_proxy'), url)
        env |= dict(WANDB_BASE_URL=url, WANDB_API_KEY='0'*40, NO_PROXY='', no_proxy='')
        job = subprocess.Popen([sys.executable, '-c', NOTHING_SENT, str(folder), *modes], env=env,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for _ in range(1200):
                if job.poll() is not None or count: break     # it would go on knocking for minutes
                time.sleep(0.1)
        finally: job.kill(); job.wait(); door.shutdown(socket.SHUT_RDWR)
    return job.returncode, len(count)

def test_nothing_is_sent_without_being_asked_for(tmp_path):
    assert connections(tmp_path, 'default', 'disabled') == (0, 0)
    assert len(offline_rows(tmp_path/'default')[0]) == 3
    assert not list(tmp_path.glob('disabled/wandb/*run-*'))
    assert connections(tmp_path, 'online')[1] > 0     # the door is one that it would use

@pytest.mark.parametrize('name,module', [('tensorboard', 'torch.utils.tensorboard'),
                                         ('wandb', 'wandb')])
def test_a_missing_extra_is_named(tmp_path, monkeypatch, name, module):
    import sys
    from fetal_seg.train import get_loggers
    monkeypatch.setitem(sys.modules, module, None)
    says = rf"--log {name}: the package {name} is not installed; pip install 'fetal_seg\[{name}\]'"
    with pytest.raises(InputError, match=says): get_loggers([name], tmp_path)

def test_other_processes_log_nothing(tmp_path, monkeypatch):
    from fetal_seg.train import get_loggers
    assert len(get_loggers(['tensorboard'], tmp_path)) == 1
    monkeypatch.setenv('RANK', '1')
    assert get_loggers(['tensorboard', 'wandb'], tmp_path) == []

def test_train_json_tells_of_the_data(prepared, tmp_path):
    "Added to a run that an earlier version began; its setup stays as it was."
    import json
    from fetal_seg.core import digest, read_json
    from fetal_seg.preprocess import read_cases
    from fetal_seg.train import train
    f, cases = tmp_path/'run'/'train.json', read_cases(prepared)
    with pytest.raises(KeyboardInterrupt):
        train(prepared, tmp_path/'run', epochs=2, cbs=[Kill(1)], **SMALL)
    old = read_json(f)
    old.pop('data')
    f.write_text(json.dumps(old))
    train(prepared, tmp_path/'run', epochs=2, **SMALL)
    new = read_json(f)
    assert new['setup'] == old['setup'] and new['an_epoch'] == old['an_epoch']
    assert new['data']['digest'] == digest((prepared/'manifest.jsonl').read_text())
    for s in ('train', 'valid', 'test'):
        part = cases[cases.split == s]
        assert new['data']['splits'].pop(s) == dict(cases=len(part), exams=part.exam.nunique())
    assert not new['data']['splits']
    lines = ['case,split', *sorted(f'{c},{s}' for c,s in zip(cases.case, cases.split))]
    assert new['data']['split_digest'] == digest('\n'.join(lines) + '\n')

def test_find_lr_leaves_no_trace(prepared, tmp_path, monkeypatch):
    import random
    from fetal_seg.train import find_lr
    monkeypatch.chdir(tmp_path)
    kw = dict(SMALL, steps=30)
    random.seed(5); np.random.seed(5); torch.manual_seed(5)
    want = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(5); np.random.seed(5); torch.manual_seed(5)
    a = find_lr(prepared, **kw)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == want
    b = find_lr(prepared, **kw)
    # only its own seed decides
    assert a.suggestion == b.suggestion and a.curve.equals(b.curve) and len(a.curve) == 30
    assert a.curve.lr.is_monotonic_increasing and 1e-7 <= a.suggestion <= 10
    assert np.isfinite(a.curve.loss).all()
    assert not list(tmp_path.iterdir())

def test_find_lr_tells_what_it_cannot_use(prepared):
    from fetal_seg.train import find_lr
    with pytest.raises(InputError, match='10 are too few'): find_lr(prepared, steps=10)
    with pytest.raises(InputError, match='the loss burst after .* steps; begin lower'):
        find_lr(prepared, steps=30, low=1e30, high=1e37, **dict(SMALL, norm='none'))

def test_overfit_one_tells_what_it_saw(prepared):
    from fetal_seg.losses import BCEDiceLoss
    from fetal_seg.preprocess import read_cases
    from fetal_seg.train import overfit_one
    from fetal_seg.unet import UNet
    class Detached(UNet):
        def forward(self, x): return super().forward(x).detach()

    def root(logits, targ):
        return BCEDiceLoss()(logits, targ) + (logits - logits).mean().sqrt()  # its gradient is nan
    kw = dict(SMALL, steps=20)
    with pytest.raises(InputError, match='does not depend on any weight'):
        overfit_one(prepared, model=Detached(width=2, depth=2), **kw)
    with pytest.raises(InputError, match='after 2 steps, .* to nan; lower the learning rate'):
        overfit_one(prepared, loss=root, **kw)
    with pytest.raises(InputError, match="no case 'nobody'; name a case"):
        overfit_one(prepared, case='nobody', **kw)
    names = read_cases(prepared).case
    a, b = (overfit_one(prepared, case=names[i], **dict(kw, width=8, steps=300)) for i in (0, 1))
    assert a.dice.iloc[-1] > 0.99 >= a.dice.iloc[:-1].max() and a.loss.iloc[0] != b.loss.iloc[0]

def test_starting_from_the_weights_that_ship(prepared, tmp_path, monkeypatch):
    "Stored in half precision, beside their predictor.json."
    import fetal_seg.train as t
    from safetensors.torch import load_file, save_file
    t.train(prepared, tmp_path/'first', epochs=1, **SMALL)
    shipped = tmp_path/'unet'
    shipped.mkdir()
    first = load_file(tmp_path/'first'/'weights.safetensors')
    half = {k: v.half() if v.is_floating_point() else v for k,v in first.items()}
    save_file(half, shipped/'weights.safetensors')
    (shipped/'predictor.json').write_bytes((tmp_path/'first'/'predictor.json').read_bytes())
    monkeypatch.setattr(t, 'SHIPPED', shipped)
    start = t.get_network(t.get_recipe('quick'), 'shipped').state_dict()
    assert start.keys() == half.keys()
    assert all(torch.equal(v, half[k].to(v.dtype)) for k,v in start.items())
    assert {v.dtype for v in start.values()} == {torch.float32, torch.int64}
    small = {k: v for k,v in SMALL.items() if k not in ('width', 'depth')}
    t.train(prepared, tmp_path/'tuned', epochs=1, init='shipped', **small)
    from fetal_seg.core import read_json
    assert read_json(tmp_path/'tuned'/'train.json')['setup']['width'] == 2
    monkeypatch.setattr(t, 'SHIPPED', tmp_path/'nowhere')
    with pytest.raises(InputError, match='nowhere'): t.get_network(t.get_recipe('quick'), 'shipped')
