"Networks of the paper and of other libraries: trained, gone on with, predicted, exported."
import json, subprocess, sys
from pathlib import Path
import numpy as np, pytest, torch
from fastai.callback.core import Callback
from torch import nn
from fetal_seg import networks
from fetal_seg.calibration import calibrate
from fetal_seg.core import InputError, read_json
from fetal_seg.eval import evaluate
from fetal_seg.losses import one_logit
from fetal_seg.networks import fit_network, load_network, network_entry, whole_logits
from fetal_seg.phantom import write_phantoms
from fetal_seg.predict import Predictor, export
from fetal_seg.preprocess import prepare, read_prepared
from fetal_seg.train import get_dls, get_learner, get_recipe, train
from fetal_seg.unet import UNet2015, lost_pixels, mirror

SMALL = dict(size=(64, 96), epochs=2, bs=4, augment=False)
PAPER = dict(preset='paper', width=4, size=(68, 100), tile=(52, 68), epochs=2)
OTHERS = dict(
    smp=dict(
        network='segmentation_models_pytorch:Unet',
        network_args=dict(encoder_name='resnet18', encoder_weights=None, in_channels=1,
                          decoder_channels=[16, 16, 8, 8, 8])), monai=dict(
                              network='monai.networks.nets:BasicUNet',
                              network_args=dict(spatial_dims=2, in_channels=1, out_channels=2,
                                                features=[8, 8, 16, 16, 32, 8])))

@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    out = tmp_path_factory.mktemp('networks')
    write_phantoms(out/'raw', n=16, shape=(68, 100))
    prepare(out/'raw', out/'prepared', size=(68, 100), fractions=(0.6, 0.2, 0.2))
    return out/'prepared'

class Stop(Callback):
    order = 90
    def after_epoch(self):
        if self.epoch == 0: raise KeyboardInterrupt

def weights(run): return (run/'weights.safetensors').read_bytes()

def interrupted(prepared, run, **kw):
    with pytest.raises(KeyboardInterrupt): train(prepared, run, cbs=[Stop()], **kw)
    train(prepared, run, **kw)

@pytest.mark.parametrize('name', OTHERS)
def test_another_library_is_trained_and_gone_on_with(prepared, tmp_path, name):
    kw = {**SMALL, **OTHERS[name]}
    log = train(prepared, tmp_path/'whole', **kw)
    interrupted(prepared, tmp_path/'twice', **kw)
    assert weights(tmp_path/'whole') == weights(tmp_path/'twice') and len(log) == 2
    calibrate(tmp_path/'whole', prepared)
    scores = evaluate(Predictor(tmp_path/'whole'), prepared, 'test')
    assert len(scores) and scores.dice.between(0, 1).all()
    contract = export(tmp_path/'whole', tmp_path/'net.onnx')
    case = read_prepared(prepared, 'test')[0]
    a, b = (Predictor(w).logits(case) for w in (tmp_path/'whole', tmp_path/'net.onnx'))
    assert np.abs(a - b).max() <= 1e-4*max(1, np.abs(a).max())/10
    assert contract['onnx']['difference'] < 1e-2

def test_a_network_given_as_an_object(prepared, tmp_path):
    def make():
        torch.manual_seed(1)
        return nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(),
                             nn.ConvTranspose2d(8, 2, 4, stride=4))
    train(prepared, tmp_path/'whole', model=make, **SMALL)
    interrupted(prepared, tmp_path/'twice', model=make, **SMALL)
    assert weights(tmp_path/'whole') == weights(tmp_path/'twice')
    case = read_prepared(prepared, 'test')[0]
    given = Predictor(tmp_path/'whole', network=make).heatmap(case)
    alone = Predictor(tmp_path/'whole').heatmap(case)   # through the ONNX file in the folder
    np.testing.assert_allclose(given, alone, atol=1e-5)
    (tmp_path/'whole'/'network.onnx').unlink()
    with pytest.raises(InputError, match='was given as an object'): Predictor(tmp_path/'whole')
    with pytest.raises(InputError, match='weights are of another network'):
        Predictor(tmp_path/'whole', network=nn.Conv2d(1, 1, 3, padding=1))
    with pytest.raises(InputError, match='it holds a run with network'):
        train(prepared, tmp_path/'whole', **SMALL)

def test_the_paper_by_its_commands(prepared, tmp_path):
    def run(*args):
        return subprocess.run([Path(sys.executable).with_name(args[0]), *map(str, args[1:])],
                              capture_output=True, text=True)

    r = run('fetal_seg_train', prepared, tmp_path/'run', '--network', 'unet2015', '--preset',
            'paper', '--width', 4, '--size', 68, 100, '--tile', 52, 68, '--epochs', 2)
    assert r.returncode == 0, r.stderr
    assert read_json(tmp_path/'run'/'predictor.json')['network']['build'] == 'unet2015'
    assert 'unpadded' in (tmp_path/'run'/'card.md').read_text()
    pictures = [c.path() for c in read_prepared(prepared, 'test')]
    r = run('fetal_seg_predict', *pictures, '--weights', tmp_path/'run', '--out', tmp_path/'out',
            '--json')
    assert r.returncode == 0 and len(json.loads(r.stdout)['predictions']) == len(pictures), r.stderr
    r = run('fetal_seg_eval', '--run', tmp_path/'run', '--prepared', prepared, '--out',
            tmp_path/'eval')
    assert r.returncode == 0 and (tmp_path/'eval'/'report.html').exists(), r.stderr
    r = run('fetal_seg_export', tmp_path/'run', '--out', tmp_path/'net.onnx')
    assert r.returncode == 0, r.stderr
    case = read_prepared(prepared, 'test')[0]
    a, b = (Predictor(w).logits(case) for w in (tmp_path/'run', tmp_path/'net.onnx'))
    np.testing.assert_allclose(a, b, atol=1e-4)

def test_the_paper_goes_on_bit_for_bit(prepared, tmp_path):
    train(prepared, tmp_path/'whole', **PAPER)
    interrupted(prepared, tmp_path/'twice', **PAPER)
    assert weights(tmp_path/'whole') == weights(tmp_path/'twice')

def test_tiles_are_one_pass_and_gradients_reach_every_layer():
    torch.manual_seed(0)
    net, x, lost = UNet2015(width=4).eval(), torch.rand(1, 1, 100, 132), lost_pixels(4)
    rows, cols = (mirror(-lost//2, n + lost, n) for n in (100, 132))
    whole = one_logit(net(x[..., rows[:,None], cols]))
    tiled = one_logit(networks.predict_tiles(net, x, tile=252))
    assert (whole - whole_logits(net, x)).abs().max() < 1e-4
    assert (whole - tiled).abs().max() < 1e-4
    net.train()
    loss = get_loss_of_the_paper()(net(torch.rand(1, 1, 252, 252)), torch.ones(1, 68, 68).triu())
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())

def get_loss_of_the_paper():
    from fetal_seg.losses import get_loss
    return get_loss('paper')

@pytest.mark.parametrize('changes,said',
                         [(dict(network='unet2015'), '176 256 does not come out of unet2015'),
                          (dict(preset='paper', tile=(400, 388)), '400 388 does not come out'),
                          (dict(preset='paper', tile=(564, 388)), 'is more than'),
                          (dict(tile=(52, 68)), 'unet is padded'),
                          (dict(preset='paper', stages=((0.5, 0.5),)), 'takes no smaller pictures'),
                          (dict(opt='lbfgs'), "'lbfgs' is not known"),
                          (dict(schedule='steps'), "'steps' is not known")])
def test_recipes_that_cannot_be(changes, said):
    with pytest.raises(InputError, match=said): get_recipe(**changes)

@pytest.mark.parametrize('entry', [
    dict(build='os:system', args=dict(command='touch x')), dict(build='builtins:eval'),
    dict(build='fetal_seg.core:digest'), dict(build='torch:load'), dict(build='')])
def test_what_a_file_names_is_not_called(entry):
    with pytest.raises(InputError, match='is not listed'): load_network(entry)

def test_common_losses_as_they_come(prepared):
    from monai.losses import DiceCELoss, DiceLoss
    dls = get_dls(prepared, (64, 96), bs=4, augment=False)
    for loss in (nn.BCEWithLogitsLoss(), DiceLoss(sigmoid=True), DiceCELoss(sigmoid=True)):
        learn = get_learner(dls, nn.Conv2d(1, 1, 3, padding=1), loss)
        with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-3)
        assert np.isfinite(learn.recorder.values[-1][0])
    learn = get_learner(dls, nn.Conv2d(1, 2, 3, padding=1), nn.CrossEntropyLoss())
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-3)
    heat, _ = learn.get_preds()
    assert heat.shape[1] == 1 and 0 <= heat.min() and heat.max() <= 1

def test_every_entry_of_a_recipe_is_used(prepared, tmp_path):
    "What is written into train.json is what was done: a changed entry changes the run."
    asked = dict(network_args=dict(norm='group'), opt='sgd', mom=0.5, schedule='flat', lr=2e-3,
                 wd=0.2, loss='dice', width=4, depth=2, dropout=0.2, ema=0.5, bs=3, clip=0.3)
    seen = {}
    class Look(Callback):
        def before_train(self):
            o, m = self.opt, self.model
            seen.update(opt=type(o).__name__, hypers=dict(o.hypers[0]), bs=self.dls.train.bs,
                        config=m.config, clip=self.gradient_clip.max_norm, decay=self.ema.decay)
    train(prepared, tmp_path/'run', size=(64, 96), epochs=1, cbs=[Look()], **asked)
    setup = read_json(tmp_path/'run'/'train.json')['setup']
    assert {k: setup[k] for k in asked} == asked
    assert seen['config'] == dict(c_in=1, c_out=1, width=4, depth=2, norm='group', dropout=0.2)
    assert (seen['hypers']['lr'], seen['hypers']['wd'], seen['hypers']['mom']) == (2e-3, 0.2, 0.5)
    assert (seen['bs'], seen['clip'], seen['decay']) == (3, 0.3, 0.5)

def test_hooks_leave_the_weights_alone():
    net = nn.Sequential(nn.Conv2d(3, 2, 8, stride=8), nn.ConvTranspose2d(2, 1, 8, stride=8))
    names, before = list(net.state_dict()), net[0].weight.detach().clone()
    fit_network(net)
    assert list(net.state_dict()) == names and torch.equal(net[0].weight, before)
    assert net(torch.rand(2, 1, 13, 17)).shape == (2, 1, 13, 17)
    assert network_entry(net, 'x:y', {})['fits'] == dict(channels=3, multiple=8)
