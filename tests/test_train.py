"Training where two callbacks meet, and a network that another run decides."
import numpy as np, pytest, torch
from fetal_seg.core import InputError

@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    from fetal_seg.phantom import write_phantoms
    from fetal_seg.preprocess import prepare
    d = tmp_path_factory.mktemp('train')
    prepare(write_phantoms(d/'raw', n=33, shape=(96,128)), d/'prepared', size=(96,128), fractions=(0.6,0.2,0.2))
    return d/'prepared'

def test_parts_of_a_batch_are_shrunk_once(prepared):
    "Where the memory runs out in the epochs of small pictures, every part has the same, once shrunk size."
    from fetal_seg.loaders import get_dls
    from fetal_seg.train import SmallFirst, get_learner
    from fetal_seg.unet import UNet
    seen = []
    class Small(UNet):
        def forward(self, x):
            if self.training and len(x) > 2: raise torch.OutOfMemoryError('too many')
            if self.training: seen.append(tuple(x.shape[-2:]))
            return super().forward(x)
    learn = get_learner(get_dls(prepared, size=(64,96), bs=8, device='cpu'), Small(width=2, depth=2, norm='group'), cbs=[SmallFirst(((1.0, 0.5),))])
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-3)
    assert learn.parts == 4 and len(seen) >= 8 and set(seen) == {(32, 48)}

def test_init_decides_the_network(prepared, tmp_path):
    from fetal_seg.core import read_json
    from fetal_seg.train import train
    kw = dict(epochs=1, size=(48,64), bs=4, depth=2)
    train(prepared, tmp_path/'first', 'quick', width=2, **kw)
    with pytest.raises(InputError, match='--width: 4, but .* has 2; leave it out'): train(prepared, tmp_path/'other', 'quick', init=tmp_path/'first', width=4, **kw)
    train(prepared, tmp_path/'second', 'quick', init=tmp_path/'first', **kw)
    assert read_json(tmp_path/'second'/'train.json')['setup']['width'] == 2

def test_the_hash_alone_gives_no_spacing_at_another_size():
    "A resized picture keeps its difference hash and not its pixel size."
    import pandas as pd
    from fetal_seg.data import match_table, provenance
    table = provenance()
    case = dict(image_sha256=None, annotation_sha256=None, dhash=table.dhash[500])
    m = match_table(pd.DataFrame([dict(case, height=540, width=800), dict(case, height=270, width=400)]), table)
    assert m.exam.tolist() == [table.exam[500]]*2 and m.exam_source.tolist() == ['table:dhash']*2
    assert m.spacing[0] == table.pixel_size_mm[500] and np.isnan(m.spacing[1])
