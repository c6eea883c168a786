"""What the hostile inputs are made from: simulated pictures, a small run, what comes of it.

    python tests/faults/world.py FOLDER

The folder then holds `raw`, `prepared`, `run`, `scores.csv`, `summary.json`, `verify.json`,
`demo.json`, `half` (a run that was
interrupted), `net.onnx` with its contract, `folds` (a cross-validation, one fold finished),
`notes.csv`, `predictions`, and the layouts `coco` and `nnunet` of the same pictures.
"""
import os
os.environ.setdefault('OMP_NUM_THREADS', '1')
import json, shutil, sys
from pathlib import Path
import numpy as np
from PIL import Image

PLACE = None   # of the world, once it is made
SHAPE, SIZE, N = (64, 96), (32, 48), 24
TRAINING = dict(size=SIZE, width=4, bs=4, epochs=12)
FOLDS = dict(k=3, canvas=SHAPE, size=SIZE, epochs=1, width=4, bs=4, folds=[0])
DEMO = dict(raw=None, epochs=1, size=list(SIZE), seed=0, n=N, shape=list(SHAPE))

def make_world(out):
    "Make the folder."
    import matplotlib
    matplotlib.use('agg')
    from fetal_seg import cli
    from fetal_seg.calibration import calibrate
    from fetal_seg.phantom import write_phantoms
    from fetal_seg.pipeline import crossval
    from fetal_seg.predict import export
    from fetal_seg.preprocess import prepare
    from fetal_seg.train import train
    out = Path(out)
    write_phantoms(out/'raw', n=N, shape=SHAPE)
    prepare(out/'raw', out/'prepared', size=SHAPE, fractions=(0.5, 0.2, 0.3))
    train(out/'prepared', out/'run', **TRAINING)
    calibrate(out/'run', out/'prepared')
    interrupt(out)
    cli.verify([str(out/'prepared'), '--out', str(out/'verify.json')])
    cli.evaluate(['--run', str(out/'run'), '--prepared', str(out/'prepared'), '--out', str(out)])
    export(out/'run', out/'net.onnx')
    crossval(out/'raw', out/'folds', **FOLDS)
    tested = sorted((out/'prepared'/'test'/'images').iterdir())
    cli.predict([*map(str, tested), '--weights', str(out/'run'), '--out', str(out/'predictions')])
    notes = [f'{p.stem},wrong,look,2026-01-01T00:00:00' for p in tested[:2]]
    (out/'notes.csv').write_text('\n'.join(['case,flag,note,time', *notes, '']))
    (out/'demo.json').write_text(json.dumps(DEMO))
    some = sorted((out/'prepared').glob('*/images/*.png'))[:8]
    make_coco(out, some)
    make_nnunet(out, some)

def interrupt(out):
    "A training that ended with Ctrl-C after half of its epochs."
    from fastai.callback.core import Callback
    from fetal_seg.train import train
    class Stop(Callback):
        order = 90
        def after_epoch(self):
            if self.epoch == TRAINING['epochs']//2: raise KeyboardInterrupt
    try: train(out/'prepared', out/'half', cbs=[Stop()], **TRAINING)
    except KeyboardInterrupt: pass

def make_coco(out, pictures):
    "The pictures with a rectangle each, as COCO instances."
    (out/'coco').mkdir()
    doc = dict(images=[], annotations=[], categories=[dict(id=1, name='region')])
    for i, p in enumerate(pictures, 1):
        shutil.copy(p, out/'coco')
        doc['images'].append(dict(id=i, file_name=p.name, width=SHAPE[1], height=SHAPE[0]))
        doc['annotations'].append(dict(id=i, image_id=i, category_id=1, iscrowd=0, area=600,
                                       bbox=[20, 20, 30, 20],
                                       segmentation=[[20, 20, 50, 20, 50, 40, 20, 40]]))
    (out/'coco'/'instances.json').write_text(json.dumps(doc))

def make_nnunet(out, pictures):
    "The pictures and their masks as nnU-Net wants them."
    raw = out/'nnunet'
    for d in ('imagesTr', 'labelsTr'): (raw/d).mkdir(parents=True)
    for p in pictures:
        shutil.copy(p, raw/'imagesTr'/f'{p.stem}_0000.png')
        mask = np.array(Image.open(p.parent.parent/'masks'/p.name)) > 0
        Image.fromarray(mask.astype(np.uint8)).save(raw/'labelsTr'/p.name)
    about = dict(channel_names={'0': 'ultrasound'}, labels=dict(background=0, region=1),
                 numTraining=len(pictures), file_ending='.png')
    (raw/'dataset.json').write_text(json.dumps(about))

if __name__ == '__main__': make_world(sys.argv[1])
