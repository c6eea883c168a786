"""fastai's interface on our Learner: what a user does after `get_dls` and `get_learner`; training
where pictures have no region."""
import warnings; warnings.filterwarnings('ignore', category=FutureWarning)
import matplotlib; matplotlib.use('Agg')
import numpy as np, pandas as pd, pytest, torch
from fastai.vision.all import Interpretation, PILImage, PILImageBW, SegmentationInterpretation
from fastai.vision.all import load_learner
from matplotlib import pyplot as plt
from PIL import Image
from fetal_seg.core import InputError, read_json
from fetal_seg.images import read_img
from fetal_seg.loaders import Augment, GreyImage, Region, get_dls, repeat_small
from fetal_seg.losses import LOSSES, get_loss
from fetal_seg.phantom import simulate, write_phantoms
from fetal_seg.predict import Predictor, load_model
from fetal_seg.preprocess import case_path, prepare, read_cases, save_png
from fetal_seg.train import FalseAlarm, MeanDice, RegionDice, case_counts, get_augment, get_learner
from fetal_seg.train import get_metrics, get_recipe, train

SIZE = (48,64)

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    d = tmp_path_factory.mktemp('fastai')
    prepare(write_phantoms(d/'raw', n=24, shape=(136, 200), seed=2), d/'prepared', size=(136, 200),
            fractions=(0.5, 0.25, 0.25))
    return d

@pytest.fixture(scope='module')
def prepared(folder): return folder/'prepared'

@pytest.fixture(scope='module')
def learn(prepared):
    torch.manual_seed(0)
    learn = get_learner(get_dls(prepared, size=SIZE, bs=4))
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    return learn

@pytest.fixture(autouse=True)
def quiet(learn):
    with learn.no_bar(), learn.no_logging(): yield
    plt.close('all')

def test_predict_takes_what_people_have(folder, prepared, learn):
    row = read_cases(prepared).query('split == "test"').iloc[0]
    path = folder/'raw'/row.image
    mask, decided, heat = learn.predict(row)
    assert isinstance(mask, Region) and mask.shape == SIZE and heat.shape == (1, *SIZE)
    assert ((heat[0] > 0.5) == decided).all() and (mask == decided).all()
    for given in (path, str(path), read_img(path), PILImageBW.create(path), PILImage.create(path),
                  Image.open(path), case_path(prepared, row),
                  next(read_cases(prepared).query('split == "test"').itertuples())):
        other = learn.predict(given)[2]
        assert torch.allclose(other, heat, atol=0.02), type(given)
    assert torch.equal(learn.predict(path)[2], heat)

def test_predict_sees_what_the_predictor_sees(folder, prepared, tmp_path):
    train(prepared, tmp_path/'run', 'quick', size=SIZE, width=2, depth=2, bs=4, epochs=1)
    p = Predictor(tmp_path/'run')
    model = load_model(p.weights, p.contract['network'])
    learn = get_learner(get_dls(prepared, size=SIZE, bs=4), model=model)
    seen = []
    p.forward = lambda x: seen.append(x.copy()) or np.zeros_like(x)
    for shape in ((136,200), (150,190), (300,300), (40,90)):
        img = simulate(7, shape=shape)[0]
        p(img)
        x, = learn.dls.test_dl([img]).one_batch()
        assert np.array_equal(x[0,0].numpy(), seen.pop()[0]), shape

def test_test_dl_of_rows_and_paths(folder, prepared, learn):
    cases = read_cases(prepared)
    rows = cases[cases.split == 'test']
    a, none = learn.get_preds(dl=learn.dls.test_dl(rows))
    b, _ = learn.get_preds(dl=learn.dls.test_dl([folder/'raw'/i for i in rows.image]))
    c, targ = learn.get_preds(dl=learn.dls.test_dl(rows, with_labels=True))
    assert none is None and torch.equal(a, b) and torch.equal(a, c)
    assert targ.shape == (len(rows), *SIZE)
    assert torch.equal(learn.get_preds()[0],
                       learn.get_preds(dl=learn.dls.test_dl(cases[cases.split == 'valid']))[0])

def test_what_cannot_be_predicted_is_one_line(folder, learn, tmp_path):
    (tmp_path/'a.png').write_bytes(b'no picture')
    with pytest.raises(InputError, match='a.png'): learn.predict(tmp_path/'a.png')
    with pytest.raises(InputError, match='there is no'): learn.predict(tmp_path/'b.png')
    with pytest.raises(InputError, match='give a grey picture'):
        learn.predict(np.zeros((4, 4, 5), np.uint8))
    path = next((folder/'raw').rglob('*_HC.png'))
    with pytest.raises(InputError, match='a picture without a mask'):
        learn.get_preds(dl=learn.dls.test_dl([path], with_labels=True))

def test_summary_validate_lr_find(learn):
    assert 'Total params' in str(learn.summary())
    assert len(learn.validate()) == 6 and None not in learn.validate()
    assert learn.lr_find(num_it=6, show_plot=False)

def test_show(learn):
    learn.dls.show_batch(max_n=2)
    im = plt.gcf().axes[0].images[0]
    assert (im.norm.vmin, im.norm.vmax) == (0, 1), 'black is black'
    assert im.cmap(0.) == (0, 0, 0, 1) and im.cmap(1.) == (1, 1, 1, 1), 'black is black'
    learn.show_results(max_n=2)
    assert plt.gcf().axes[0].images[0].cmap(0.) == (0, 0, 0, 1)
    Region(torch.eye(8)).show()

def test_interpretation(learn):
    Interpretation.from_learner(learn).plot_top_losses(2)
    SegmentationInterpretation.from_learner(learn)

def test_tta_is_the_mean_of_logits_turned_back(learn):
    heat, targ = learn.tta()
    with torch.no_grad():
        learn.model.eval()
        xs = torch.cat([b[0].as_subclass(torch.Tensor) for b in learn.dls.valid])
        z = (learn.model(xs) + learn.model(xs.flip(-1)).flip(-1))/2
    assert torch.allclose(heat.as_subclass(torch.Tensor), z.sigmoid(), atol=1e-5)
    assert targ.shape == (len(xs), *SIZE)
    rows = read_cases(learn.dls.train_ds.tls[0].tfms.fs[0].prepared)
    alone, none = learn.tta(dl=learn.dls.test_dl(rows[rows.split == 'valid']))
    assert none is None and torch.equal(alone, heat)

def test_export_holds_no_pictures(folder, prepared, tmp_path):
    dls = get_dls(prepared, size=(128,192), bs=4)                 # 98 kB a picture
    learn, path = get_learner(dls), folder/'raw'/read_cases(prepared).image[0]
    with learn.no_bar(), learn.no_logging():
        learn.export(tmp_path/'before.pkl')
        learn.validate(); heat = learn.predict(path)[2]
        learn.export(tmp_path/'learn.pkl')
        after, before = ((tmp_path/f'{n}.pkl').stat().st_size for n in ('learn', 'before'))
        assert abs(after - before) < 20_000
        again = load_learner(tmp_path/'learn.pkl')
        with again.no_bar(): assert torch.equal(again.predict(path)[2], heat)
        learn.save(tmp_path/'m'); learn.load(tmp_path/'m')
        assert torch.equal(learn.predict(path)[2], heat)

# Pictures without a region, and with several

@pytest.fixture(scope='module')
def healthy(tmp_path_factory):
    "Filled masks: none, one or two discs a picture."
    d = tmp_path_factory.mktemp('healthy')
    (d/'raw').mkdir()
    y, x = np.mgrid[:68, :100]
    for i in range(24):
        img, mask = simulate(i, shape=(68,100))[0], np.zeros((68,100), np.uint8)
        for k in range(i % 3): mask |= ((y-34)**2 + (x-25-50*k)**2 < 14**2).astype(np.uint8)
        save_png(d/'raw'/f'p{i:02}.png', np.clip(img + 90*mask, 0, 255).astype(np.uint8))
        save_png(d/'raw'/f'p{i:02}_mask.png', mask > 0)
    table = dict(case=[f'p{i:02}' for i in range(24)], exam=[f'e{i}' for i in range(24)],
                 split=['train']*12 + ['valid']*6 + ['test']*6)
    pd.DataFrame(table).to_csv(d/'split.csv', index=False)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        cases = prepare(d/'raw', d/'prepared', size=(68, 100), split=d/'split.csv',
                        exams=d/'split.csv')
    assert (cases.area == 0).sum() == 8
    return d/'prepared'

def test_training_with_empty_masks(healthy, tmp_path):
    log = train(healthy, tmp_path/'run', 'quick', size=SIZE, width=4, depth=2, bs=2, epochs=4,
                small=0.5)
    assert {'dice_region', 'false_alarm'} <= set(log) and np.isfinite(log.to_numpy(float)).all()
    assert log.false_alarm.between(0, 1).all()
    assert log.valid_loss.iloc[-1] < log.valid_loss.iloc[0]
    assert pd.read_csv(tmp_path/'run'/'log.csv').columns.tolist() == list(log)

@pytest.mark.parametrize('name', list(LOSSES))
def test_losses_of_a_batch_without_regions(name):
    for targ in (torch.zeros(3,16,16), torch.ones(3,16,16)):
        z = torch.randn(3,1,16,16, generator=torch.Generator().manual_seed(0)).requires_grad_()
        loss = get_loss(name)(z, targ)
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(z.grad).all()
        right = (targ[:,None]*2 - 1)*12
        assert get_loss(name)(right, targ) < loss, 'the right answer is the better one'

def test_only_healthy_to_validate(healthy, tmp_path):
    learn = get_learner(get_dls(healthy, size=SIZE, bs=4))
    assert [m.name for m in get_metrics(learn.dls)][-2:] == ['dice_region', 'false_alarm']
    cases = read_cases(healthy)
    with learn.no_bar(), learn.no_logging():
        values = learn.validate(dl=learn.dls.test_dl(cases[cases.area == 0], with_labels=True))
        assert values[-2] is None and values[-1] is not None
        values = learn.validate(dl=learn.dls.test_dl(cases[cases.area > 0], with_labels=True))
        assert values[-2] == values[1] and values[-1] is None

def test_figures_of_empties_by_hand():
    class Batch: to_detach = staticmethod(lambda t: t)
    rng = np.random.default_rng(0)
    targ = torch.tensor(rng.random((20,6,6)) < 0.5).float(); targ[::2] = 0
    z = torch.tensor(rng.normal(size=(20,1,6,6))) ; z[::4] = -1
    Batch.pred, Batch.y = z, targ
    ms = MeanDice(), RegionDice(), FalseAlarm()
    for m in ms: m.reset(); m.accumulate(Batch)
    tp, p, t = (n.numpy() for n in case_counts(z, targ))
    dice = np.array([2*a/(b+c) if b+c else 1. for a,b,c in zip(tp, p, t)])
    assert np.allclose([m.value for m in ms], [dice.mean(), dice[1::2].mean(), 0.5])

def test_heads_have_the_metrics_they_had(learn):
    names = [m.name for m in get_metrics(learn.dls)]
    assert names == ['dice', 'dice_pooled', 'dice_min', 'iou', 'iou_pooled']

def test_repeat_small_of_area_0():
    t = pd.DataFrame(dict(split='train', area=[0., 1e-9, 0.05]))
    assert repeat_small(t, 0.2).area.tolist() == [0.] + [1e-9]*4 + [0.05]*4

# Augmentation as an entry of the recipe

def test_true_is_what_it_was():
    r = get_recipe()
    assert r['augment'] is True and get_augment(r).args == Augment(scale=[0.6,1.65]).args
    assert get_augment(get_recipe(scale=(0.5,1.65))).args == Augment(scale=[0.5,1.65]).args
    assert get_augment(get_recipe(augment=False)) is None

def test_an_augment_is_used_and_recorded(prepared, tmp_path):
    kw = dict(preset='quick', size=SIZE, width=2, depth=2, bs=4, epochs=1)
    still = dict(flip_h=0, flip_v=0, degrees=0, shift=0, elastic_p=0, gain=0, gamma=0, depth=0,
                 shadow_p=0, speckle=0)
    train(prepared, tmp_path/'a', **kw, augment=Augment(**still, scale=(1,1)))
    train(prepared, tmp_path/'b', **kw, augment=still, scale=(1,1))
    train(prepared, tmp_path/'c', **kw)
    a, b, c = (pd.read_csv(tmp_path/n/'log.csv').train_loss[0] for n in 'abc')
    assert a == b != c
    setup = read_json(tmp_path/'a'/'train.json')['setup']
    assert setup == read_json(tmp_path/'b'/'train.json')['setup'] and setup['scale'] == [1,1]
    assert setup['augment'] == {k: v for k,v in Augment(**still).args.items() if k != 'scale'}
    assert read_json(tmp_path/'c'/'train.json')['setup']['augment'] is True
    with pytest.raises(InputError, match='it holds a run with augment'):
        train(prepared, tmp_path/'a', **kw, scale=(1, 1))
    # gone on with
    assert len(train(prepared, tmp_path/'a', **kw, augment=Augment(**still, scale=(1,1)))) == 1

@pytest.mark.parametrize('bad,match', [(dict(flipv=0), 'has no such argument'),
                                       (dict(flip_v=2), 'no probability'),
                                       (dict(degrees='a'), 'give a number'),
                                       (dict(scale=2), 'smallest'),
                                       (dict(scale=(2, 1)), 'smallest'),
                                       (lambda x: x, 'cannot be written'),
                                       ([Augment()], 'cannot be written'),
                                       ('yes', 'cannot be written'), (3, 'cannot be written')])
def test_bad_augment(bad, match):
    with pytest.raises(InputError, match=match): get_recipe(augment=bad)

def test_scale_is_said_once():
    with pytest.raises(InputError, match='give it once'):
        get_recipe(augment=Augment(), scale=(0.9, 1.1))
    assert get_recipe(augment=dict(scale=(0.9,1.1)))['scale'] == [0.9,1.1]
    assert get_recipe('lesions')['augment']['flip_v'] == 0
    assert get_recipe('lesions')['size'] == [192, 192]
