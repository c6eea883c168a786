"Prediction: the shipped weights, several processes, odd pictures, mixed ensembles, no network."
import copy, inspect, os, subprocess, sys
import numpy as np, pandas as pd, pytest
from fetal_seg.core import InputError, read_json, write_json
from fetal_seg.images import read_img
from fetal_seg.phantom import simulate
from fetal_seg.predict import SHIPPED, Ensemble, Predictor, predict_files, to_ellipse
from fetal_seg.preprocess import save_png

@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    d = tmp_path_factory.mktemp('pictures')
    for i in range(5): save_png(d/f'{i}.png', simulate(i, shape=(270,400))[0])
    (d/'bad.png').write_bytes(b'no picture')
    return d

@pytest.fixture(scope='module')
def shipped(): return Predictor()

def test_what_ships_is_small_and_no_pickle():
    files = sorted(p.name for p in SHIPPED.iterdir())
    assert files == ['card.md', 'predictor.json', 'seen.csv', 'weights.safetensors']
    assert sum(p.stat().st_size for p in SHIPPED.iterdir()) < 12e6
    card = (SHIPPED/'card.md').read_text(encoding='utf-8')
    for need in ('not for clinical use', 'No annotation marks a tumour', '95 % interval'):
        assert need in card
    for p in ('card.md', 'predictor.json'):
        assert not any(s in (SHIPPED/p).read_text(encoding='utf-8')
                       for s in ('/tmp', '/home', '/work', '/root'))

def test_shipped_heatmap(shipped):
    img = simulate(3)[0]
    heat = shipped(img)
    assert heat.shape == img.shape and heat.dtype == np.float32
    assert 0 <= heat.min() and heat.max() <= 1
    assert np.array_equal(heat, shipped(img)), 'twice the same picture, twice the same heatmap'

def test_without_network_and_weights(pictures, tmp_path):
    "The command needs the picture alone; whatever opens a socket fails."
    code = ('import socket, sys\n'
            'def no(*a, **k): raise RuntimeError("a socket was opened")\n'
            'socket.socket.connect = socket.create_connection = socket.getaddrinfo = no\n'
            'from fetal_seg.cli import predict\nsys.exit(predict([sys.argv[1], "--out", "out"]))')
    r = subprocess.run([sys.executable, '-c', code, pictures/'0.png'], capture_output=True,
                       text=True, cwd=tmp_path)
    assert r.returncode == 0, r.stderr
    names = ['0_heatmap.png', '0_mask.png', '0_overlay.png', 'predictions.csv']
    assert sorted(os.listdir(tmp_path/'out')) == names

@pytest.mark.parametrize('kw', [dict(workers=2), dict(scheduler=True)], ids=['processes', 'dask'])
def test_several_processes_write_the_same(shipped, pictures, tmp_path, kw):
    paths = sorted(pictures.iterdir())
    one = predict_files(shipped, paths, tmp_path/'one')
    if 'scheduler' in kw:
        distributed = pytest.importorskip('distributed')
        with distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False,
                                      dashboard_address=None) as cluster:
            many = predict_files(shipped, paths, tmp_path/'many',
                                 scheduler=cluster.scheduler_address)
    else: many = predict_files(shipped, paths, tmp_path/'many', **kw)
    assert (one.problem != '').sum() == 1 and 'bad.png' in one.problem[one.name == 'bad'].item()
    pd.testing.assert_frame_equal(one, many, rtol=1e-4)
    for p in sorted((tmp_path/'one').glob('*.png')):
        a, b = (read_img(d/p.name).astype(int) for d in (tmp_path/'one', tmp_path/'many'))
        # another number of threads sums in another order
        most = dict(heatmap=70, overlay=3, mask=0)[p.stem.rsplit('_', 1)[1]]
        assert np.abs(a - b).max() <= most, p.name

def test_what_a_person_drew_is_not_overwritten(shipped, pictures, tmp_path):
    for n in ('0.png', '1.png'): (tmp_path/n).write_bytes((pictures/n).read_bytes())
    (tmp_path/'1_mask.png').write_bytes(b'drawn by hand')
    with pytest.raises(InputError, match='1_mask.png: this file is there already'):
        predict_files(shipped, [tmp_path/'0.png', tmp_path/'1.png'], tmp_path)
    assert (tmp_path/'1_mask.png').read_bytes() == b'drawn by hand'
    assert not list(tmp_path.glob('0_*'))
    predict_files(shipped, [tmp_path/'0.png'], tmp_path)
    predict_files(shipped, [tmp_path/'0.png'], tmp_path)

def test_one_picture_named_twice(shipped, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(pictures)
    assert predict_files(shipped, ['0.png', pictures/'0.png'], tmp_path).name.tolist() == ['0']

def test_weights_that_changed_are_read_anew(pictures, tmp_path):
    run = tmp_path/'run'; run.mkdir()
    for p in SHIPPED.iterdir(): (run/p.name).write_bytes(p.read_bytes())
    a = predict_files(Predictor(run), sorted(pictures.glob('?.png')), tmp_path/'a', workers=2)
    write_json(run/'predictor.json', dict(read_json(run/'predictor.json'), post=[]))
    b = predict_files(Predictor(run), sorted(pictures.glob('?.png')), tmp_path/'b', workers=2)
    assert set(a.post) == {'roundest fill ellipse'} and set(b.post) == {''}

def test_table_keeps_the_order(shipped, pictures, tmp_path):
    paths = [pictures/f'{i}.png' for i in (3, 0, 4, 1)]
    assert predict_files(shipped, paths, tmp_path, workers=2).name.tolist() == ['3', '0', '4', '1']

@pytest.mark.parametrize('shape', [(1, 1), (1, 50), (50, 1), (3, 700), (33, 33), (1200, 1600),
                                   (544, 800), (100, 2000)])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_any_size_and_type(shipped, shape, dtype):
    img = np.random.default_rng(0).random(shape)
    img = img.astype(dtype) if dtype == np.float32 else (img*np.iinfo(dtype).max).astype(dtype)
    heat = shipped(img)
    assert heat.shape == shape and heat.dtype == np.float32 and np.isfinite(heat).all()
    assert shipped.to_mask(heat).shape == shape and shipped.unlike(img) >= 0

@pytest.mark.parametrize('steps', [('largest',), ('roundest',), ('fill',), ('ellipse',),
                                   ('largest', 'fill', 'ellipse'), ('roundest', 'fill', 'ellipse')])
def test_steps_on_odd_masks(steps):
    rng = np.random.default_rng(0)
    from fetal_seg.predict import postprocess
    # through the last goes a singular system
    odd = [np.zeros((9, 9)), np.ones((9, 9)), np.eye(9), np.ones((1, 9)), np.ones((9, 1)),
           np.array([[1, 0, 1], [1, 1, 1], [0, 0, 0]])]
    noise = [rng.random((40, 60)) < p for p in (0.01, 0.1, 0.5, 0.9)]
    for m in [*odd, *noise, *(rng.random((4, 5)) < 0.5 for _ in range(500))]:
        out = postprocess(m, steps)
        assert out.shape == m.shape and out.dtype == np.uint8 and set(np.unique(out)) <= {0, 1}
        assert not (out.any() and not m.any()), 'nothing comes out of nothing'

def test_ellipse_leaves_another_region_alone():
    # an L: its ellipse would be another region
    m = np.zeros((60,90), np.uint8); m[5:55,5:10] = m[50:55,5:85] = 1
    assert np.array_equal(to_ellipse(m), m)

def test_a_list_makes_an_ensemble(shipped):
    "Of one network twice it is that network, to the last bit; and it survives a copy."
    img, both = simulate(4, shape=(270,400))[0], Predictor([SHIPPED, SHIPPED])
    assert isinstance(both, Ensemble) and isinstance(both, Predictor)
    assert not isinstance(shipped, Ensemble) and shipped.members == ()
    assert both.weights == [shipped.weights]*2 and both.threshold == shipped.threshold
    for p in (both, copy.copy(both), Ensemble([shipped, shipped])):
        assert np.array_equal(p(img), shipped(img))
    names = list(inspect.signature(Predictor).parameters)
    assert names == ['weights', 'flips', 'device', 'network']

def test_members_prepared_otherwise_are_refused(tmp_path):
    other = tmp_path/'other'; other.mkdir()
    for p in SHIPPED.iterdir(): (other/p.name).write_bytes(p.read_bytes())
    write_json(other/'predictor.json', dict(read_json(other/'predictor.json'), canvas=[400,600]))
    with pytest.raises(InputError, match='average runs that were prepared alike'):
        Predictor([SHIPPED, other])

@pytest.mark.parametrize('change,text', [(dict(post=['smooth']), 'choose among'),
                                         (dict(threshold=0), 'threshold is 0'),
                                         (dict(network=dict(width=4)), 'do not fit the network'),
                                         (dict(size='small'), "size is 'small'")])
def test_damaged_contract(tmp_path, change, text):
    for p in SHIPPED.iterdir(): (tmp_path/p.name).write_bytes(p.read_bytes())
    write_json(tmp_path/'predictor.json', dict(read_json(tmp_path/'predictor.json'), **change))
    with pytest.raises(InputError, match=text): Predictor(tmp_path)

def test_fine_tuning_starts_from_what_ships():
    from fetal_seg.train import get_network, get_recipe
    from safetensors.torch import load_file
    a, b = get_network(get_recipe(), SHIPPED).state_dict(), load_file(SHIPPED/'weights.safetensors')
    assert a.keys() == b.keys() and all((a[k] == b[k].to(a[k].dtype)).all() for k in a)
    assert {str(v.dtype) for v in a.values()} == {'torch.float32', 'torch.int64'}

@pytest.mark.data
def test_a_real_picture(shipped, raw, tmp_path):
    f = next(raw.rglob('233_HC.png'))
    t = predict_files(shipped, [f], tmp_path)
    assert t.problem[0] == '' and abs(t.circumference_mm[0] - 131) < 6 and t.unlike[0] < 1
