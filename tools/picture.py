"""Write nbs/images/demo.jpg, the picture of the README, from the folder of a demo on simulated
pictures.

    python tools/picture.py [demo]
"""
import sys
from pathlib import Path
import numpy as np
from PIL import Image
from fetal_seg.core import read_json
from fetal_seg.predict import Predictor
from fetal_seg.preprocess import PreparedCase, read_cases
from fetal_seg.report import overlay

def main(demo):
    if read_json(demo/'demo.json')['raw'] is not None:
        sys.exit(f'{demo}: made from real pictures, which never enter the project; run `make demo`')
    cases, predictor, tiles = read_cases(demo/'prepared'), Predictor(demo/'run'), []
    test = cases[(cases.split == 'test') & (cases.height == 540) & (cases.width == 800)]
    for r in test.iloc[:3].itertuples():
        case = PreparedCase(demo/'prepared', r)
        heat, img = predictor.heatmap(case), case.original()
        rgb = overlay(img, heatmap=heat, mask=predictor.to_mask(heat), annotation=case.full_mask)
        tiles += [np.repeat(img[...,None], 3, 2), rgb]
    rows = [
        np.hstack([np.pad(t, [(4, 4), (4, 4), (0, 0)], constant_values=255)
                   for t in tiles[i::2]])
        for i in (0, 1)
    ]
    out = Path(__file__).resolve().parent.parent/'nbs'/'images'/'demo.jpg'
    out.parent.mkdir(exist_ok=True)
    im = Image.fromarray(np.vstack(rows))
    im.resize((1200, round(im.height*1200/im.width)),
              Image.Resampling.LANCZOS).save(out, quality=82)
    print(f'{out.name} written, {out.stat().st_size//1024} KB')

if __name__ == '__main__': main(Path(sys.argv[1] if len(sys.argv) > 1 else 'demo'))
