"Run folders that somebody has changed: each fault is one line, and good ones are read as they are."
import json, math, struct, time
import numpy as np, pandas as pd, pytest
from safetensors.numpy import load_file, save_file
from fetal_seg.core import SHIPPED, InputError, read_json, write_json
from fetal_seg.runs import (check_network, check_weights, read_contract, read_log, read_training,
                            unet_shapes)
from fetal_seg.seen import read_seen

WRONG = (None, 'x', -1, 0.123456, 10**400, [], {}, [[]], True)
BAD = {'empty': b'', 'cut': b'{"size": [1', 'utf-16': '{"a": 1}'.encode('utf-16'), 'list': b'[]',
       'null': b'null', 'nan': b'{"threshold": NaN}', 'infinity': b'{"threshold": Infinity}',
       'deep': b'{"a":' + b'['*10000, 'bytes': b'\xff\x00\xfe'*9, 'nothing': b'{}'}
NET = dict(width=2, depth=1)
TRAIN = dict(
    setup=dict(format=2, prepared_key='a', canvas=[136, 200], mode='auto', seed=0, init=None,
               epochs=3, size=[68, 100], bs=4, width=4, depth=4, norm='batch', dropout=0.,
               loss='bce_dice', lr=0.004, wd=0.01, clip=1., ema=0.995, stages=[[0.4, 0.5]],
               augment=True, scale=[0.6, 1.65], small=0., empty=1, intensity='dtype',
               patience=None, amp='auto'),
    environments=[dict(torch='2')], parameters=9, an_epoch=4,
    data=dict(digest=None, split_digest='b', splits=dict(train=dict(cases=4, exams=3))))
LOG = ('epoch,train_loss,valid_loss,dice,dice_region,seconds\n'
       '0,1.5,1.25,0.5,,2.0\n1,1.0,1.0,0.75,0.7,2\n')

def one_line(read, path):
    with pytest.raises(InputError) as e: read(path)
    assert '\n' not in str(e.value) and len(str(e.value)) < 1000 and str(path) in str(e.value)

def small_contract(**change):
    return {**read_json(SHIPPED/'predictor.json'), **change}

@pytest.mark.parametrize('read', [read_contract, read_training, read_log])
@pytest.mark.parametrize('kind', BAD)
def test_damaged_files(tmp_path, read, kind):
    f = tmp_path/'file'; f.write_bytes(BAD[kind])
    one_line(read, f)

@pytest.mark.parametrize('read', [read_contract, read_training, read_log])
def test_a_folder_in_place_of_a_file(tmp_path, read):
    one_line(read, tmp_path); one_line(read, tmp_path/'none')

@pytest.mark.parametrize('entry', ['size', 'canvas', 'mode', 'threshold', 'temperature',
                                   'intensity', 'network', 'familiar', 'fitted_on', 'facts',
                                   'unlike', 'post', 'format'])
def test_each_entry_of_a_contract(tmp_path, entry):
    f, good = tmp_path/'predictor.json', small_contract()
    optional = ('familiar', 'fitted_on', 'facts', 'unlike')
    for v in WRONG:
        if v is None and entry in optional: continue
        if entry == 'post' and v == [] or entry == 'network' and v == {}: continue
        if entry in ('threshold', 'temperature') and v == 0.123456: continue
        f.write_text(json.dumps({**good, entry: v}))
        one_line(read_contract, f)
    if entry in (*optional, 'post', 'format'): return
    f.write_text(json.dumps({k: v for k,v in good.items() if k != entry}))
    one_line(read_contract, f)

@pytest.mark.parametrize('change', [
    dict(threshold=5), dict(threshold=1), dict(format=99), dict(size=[100000, 100000]),
    dict(size=[4096, 4096]), dict(size=[8, 8]), dict(temperature=0), dict(temperature=-1.5),
    dict(temperature=1e9), dict(network=dict(width=10**6)), dict(network=dict(depth=60)),
    dict(network=dict(width=1024, depth=8)), dict(network=dict(build='os.system')),
    dict(network=dict(norm='wild')), dict(network=dict(c_in=3)), dict(precision='int1'),
    dict(familiar=dict(mean=[0.]*11, precision=[[0.]*11]*11, limit=0)),
    dict(familiar=dict(mean=[0.]*11, precision=[[0.]*11]*10, limit=1)),
    dict(familiar=dict(mean=[0.]*12, precision=[[0.]*12]*12, limit=1))])
def test_silent_and_large_contracts(tmp_path, change):
    write_json(tmp_path/'predictor.json', small_contract(**change))
    one_line(read_contract, tmp_path/'predictor.json')

def test_good_files_pass_unchanged(tmp_path):
    assert read_contract(SHIPPED/'predictor.json') == read_json(SHIPPED/'predictor.json')
    write_json(tmp_path/'train.json', TRAIN)
    assert read_training(tmp_path/'train.json') == TRAIN
    old = {k: v for k,v in TRAIN.items() if k != 'data'}
    write_json(tmp_path/'train.json', old)
    assert read_training(tmp_path/'train.json') == old
    (tmp_path/'log.csv').write_text(LOG)
    assert read_log(tmp_path/'log.csv').equals(pd.read_csv(tmp_path/'log.csv'))

# `empty` came later, and is only compared
@pytest.mark.parametrize('entry', [k for k in TRAIN['setup'] if k != 'empty'])
def test_each_entry_of_a_setup(tmp_path, entry):
    f = tmp_path/'train.json'
    for v in (10**400, [{}], {'a': {}}) if entry != 'augment' else (7, 'x', None):
        f.write_text(json.dumps({**TRAIN, 'setup': {**TRAIN['setup'], entry: v}}))
        one_line(read_training, f)

@pytest.mark.parametrize('entry', ['setup', 'environments', 'parameters'])
def test_each_entry_of_train_json(tmp_path, entry):
    for v in WRONG:
        (tmp_path/'train.json').write_text(json.dumps({**TRAIN, entry: v}))
        one_line(read_training, tmp_path/'train.json')

@pytest.mark.parametrize('old,new', [
    ('0.5,', '9,'), ('0.5,', 'x,'), ('0.5,', 'nan,'), ('0.5,', 'inf,'), (',0.7,', ',x,'),
    ('dice,', 'dise,'), (',', ';'), ('1,1.0', '0,1.0'), ('1,1.0', '-1,1.0'), (',2.0', ''),
    ('1.25', '')])
def test_each_fault_of_a_log(tmp_path, old, new):
    n = -1 if old == ',' else 1
    (tmp_path/'log.csv').write_text(LOG.replace(old, new, n))
    one_line(read_log, tmp_path/'log.csv')

@pytest.mark.parametrize('row', ['x,y,train', '1.2E+15,0123456789abcdef,train', ',,test', 'a,b',
                                 '0123456789abcdef,0123456789abcdef,', '"0123'])
def test_each_fault_of_a_list_of_pictures(tmp_path, row):
    (tmp_path/'seen.csv').write_text('image,dhash,use\n' + row + '\n')
    with pytest.raises(InputError, match='seen.csv: this is no list of pictures') as e:
        read_seen(tmp_path)
    assert '\n' not in str(e.value)

def weights(**change):
    return {k: np.zeros(v, np.float32) for k,v in unet_shapes(**{**NET, **change}).items()}

def test_weights_that_are_not_those(tmp_path):
    from fetal_seg.predict import load_model
    f = tmp_path/'weights.safetensors'
    save_file(weights(), f); check_weights(f, NET); load_model(f, NET)
    whole = f.read_bytes()
    n = struct.unpack('<Q', whole[:8])[0]
    huge = struct.pack('<Q', 2**40) + whole[8:]
    deep = b'['*20000
    for b in (b'', whole[:5], whole[:n], whole[:-1], whole + b'x', huge, b'\x80\x04'*99,
              struct.pack('<Q', len(deep)) + deep):
        f.write_bytes(b)
        one_line(lambda p: load_model(p, NET), f)
    for change in (dict(width=4), dict(depth=2), dict(norm='none')):
        save_file(weights(**change), f)
        one_line(lambda p: load_model(p, NET), f)
    for v in (math.nan, math.inf):
        w = weights(); w['head.bias'][0] = v
        save_file(w, f)
        one_line(lambda p: load_model(p, NET), f)
    for net in (dict(width=10**6), dict(width=4, depth=60), dict(width='4')):
        one_line(lambda p: load_model(p, net), f)

def test_shapes_are_those_of_the_network():
    from fetal_seg.unet import UNet
    for norm in ('none', 'batch', 'group'):
        for width,depth in ((3, 0), (4, 3)):
            state = UNet(width=width, depth=depth, norm=norm).state_dict()
            assert {k: tuple(v.shape) for k,v in state.items()} == unet_shapes(width, depth, norm)
    with pytest.raises(InputError, match='parameters'): UNet(width=10**6)
    with pytest.raises(InputError, match='parameters'): UNet(depth=60)
    check_network('a', 64, 5)   # the largest of our own presets is half of it

# ONNX

def onnx_file(path, nodes, inits=(), size=(32, 48), **more):
    import onnx
    from onnx import TensorProto as T, helper as h
    shape = ['batch', 1, *size]
    ends = [h.make_tensor_value_info(n, T.FLOAT, shape) for n in ('picture', 'logits')]
    graph = h.make_graph(nodes, 'g', ends[:1], ends[1:], list(inits))
    opsets = [h.make_opsetid('', 17), *more.pop('opsets', ())]
    onnx.save(h.make_model(graph, opset_imports=opsets, ir_version=8, **more), path)

def contract_for(path, size=(32, 48), **change):
    c = {k: v for k,v in small_contract(size=list(size), network=dict(width=4)).items()
         if k not in ('familiar', 'facts')}
    ends = {k: dict(name=n, shape=['batch', 1, *size], dtype='float32')
            for k,n in (('input', 'picture'), ('output', 'logits'))}
    write_json(path.with_suffix('.json'), {**c, 'onnx': ends, **change})

def test_onnx_files_of_strangers(tmp_path):
    onnx = pytest.importorskip('onnx'); pytest.importorskip('onnxruntime')
    from onnx import TensorProto as T, helper as h
    from fetal_seg.predict import Predictor
    node, f = h.make_node, tmp_path/'a.onnx'
    contract_for(f)
    onnx_file(f, [node('Relu', ['picture'], ['logits'])])
    assert Predictor(f)(np.full((32, 48), 9, np.uint8)).shape == (32, 48)
    body = h.make_graph([node('Identity', ['c'], ['d']), node('Identity', ['x'], ['y'])], 'b',
                        [h.make_tensor_value_info('i', T.INT64, []),
                         h.make_tensor_value_info('c', T.BOOL, []),
                         h.make_tensor_value_info('x', T.FLOAT, None)],
                        [h.make_tensor_value_info('d', T.BOOL, []),
                         h.make_tensor_value_info('y', T.FLOAT, None)])
    yes = h.make_tensor('yes', T.BOOL, [], [True])
    big = h.make_tensor('big', T.INT64, [2], [10**6, 10**6])
    out = h.make_tensor('w', T.FLOAT, [1], [1.])
    out.ClearField('float_data'); out.data_location = T.EXTERNAL
    out.external_data.add(key='location', value='/etc/passwd')
    own = h.make_function('mine', 'F', ['a'], ['b'], [node('Relu', ['a'], ['b'])],
                          [h.make_opsetid('', 17)])
    relu = node('Relu', ['picture'], ['logits'])
    for nodes,inits,more,text in [
        ([node('Loop', ['', 'yes', 'picture'], ['logits'], body=body)], [yes], {}, 'Loop'),
        ([node('ConstantOfShape', ['big'], ['z']), relu], [big], {}, 'more than'),
        ([node('Shape', ['picture'], ['s']), node('NonZero', ['picture'], ['z']), relu], [], {},
         'cannot be told'),
        ([node('Add', ['picture', 'w'], ['logits'])], [out], {}, 'another file'),
        ([relu], [], dict(functions=[own], opsets=[h.make_opsetid('mine', 1)]), 'functions'),
        ([node('Gelu', ['picture'], ['logits'], domain='com.microsoft')], [],
         dict(opsets=[h.make_opsetid('com.microsoft', 1)]), 'com.microsoft'),
        ([node('Log', ['picture'], ['logits'])], [], {}, 'NaN or infinity'),
        ([node('Relu', ['picture'], ['logits'])], [], dict(size=(32, 64)), 'input is')]:
        onnx_file(f, nodes, inits, **more)
        start = time.monotonic()
        with pytest.raises(InputError, match=text) as e: Predictor(f)
        assert time.monotonic() - start < 2 and '\n' not in str(e.value), str(e.value)
    for b in (b'', b'ORTMORTM'*9, b'\x08'*99):
        f.write_bytes(b); one_line(Predictor, f)
    onnx_file(f, [relu])
    contract_for(f, onnx=dict(input=dict(name='x', shape=['batch', 1, 32, 48], dtype='float32'),
                              output=dict(name='y', shape=['batch', 1, 32, 48], dtype='float32')))
    one_line(Predictor, f)

def test_weights_of_another_run_are_found_out(tmp_path):
    from fetal_seg.calibration import calibrate
    from fetal_seg.predict import Predictor
    from fetal_seg.phantom import write_phantoms
    from fetal_seg.preprocess import prepare
    from fetal_seg.train import train
    write_phantoms(tmp_path/'raw', n=12, shape=(48, 64))
    prepare(tmp_path/'raw', tmp_path/'prepared', size=(48, 64), fractions=(0.6, 0.2, 0.2))
    run = tmp_path/'run'
    train(tmp_path/'prepared', run, 'quick', size=(48, 64), width=2, depth=2, epochs=1, bs=4)
    calibrate(run, tmp_path/'prepared')
    Predictor(run)
    data = bytearray((run/'weights.safetensors').read_bytes())
    data[-5] ^= 1
    (run/'weights.safetensors').write_bytes(data)
    with pytest.raises(InputError, match='not the weights that predictor.json was fitted on'):
        Predictor(run)
