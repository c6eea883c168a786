"""What reads the hostile inputs: public functions and commands, each with the result that counts.

A target gets the folder of one input and the names of its files, and returns what a user would take
away, without paths and times, so that two results can be compared. Bad input is `Refused`.
"""
import contextlib, io, json, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import NamedTuple, Callable
import numpy as np
import world
from world import DEMO, FOLDS, SHAPE, TRAINING

class Refused(Exception):
    "One line for the user. `lines`: what stood before it."

class Target(NamedTuple):
    # folder, names of the files that were changed -> what the user takes away
    run: Callable
    parts: tuple = ()      # what is copied from the world
    writes: tuple = ()     # names in the folder that may change
    goes_on: bool = False  # it writes as it goes: there may be more than before, where it fails

def command(f, *argv, statuses=(0, 1)):
    "A console command in this process: (its status, what it prints)."
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try: rc = f([str(a) for a in argv])
        except SystemExit as e: rc = e.code
    if marks := controls(err.getvalue()):
        raise RuntimeError(f'control characters reach the terminal: {marks!a}')
    if rc not in statuses:
        last = err.getvalue().strip().splitlines() or ['']
        raise Refused(last[-1])
    return rc, out.getvalue()

def controls(text):
    "What would command the terminal."
    return ''.join(sorted({c for c in text if c not in '\n\r\t'
                           and (ord(c) < 32 or 126 < ord(c) < 160)}))

def rounded(o, digits=9):
    "Numbers to nine digits; what no number is stays."
    if isinstance(o, dict): return {str(k): rounded(v) for k, v in sorted(o.items())}
    if isinstance(o, (list, tuple)): return [rounded(v) for v in o]
    if isinstance(o, np.generic): o = o.item()
    if isinstance(o, float): return None if o != o else float(f'{o:.{digits}g}')
    return o

def rows(df, *without):
    "A table as rows, sorted by case."
    df = df.drop(columns=[c for c in without if c in df])
    if 'case' in df: df = df.sort_values('case')
    return rounded(json.loads(df.to_json(orient='records', double_precision=15)))

def tree(folder, *skip):
    "Name -> digest of all files in a folder."
    from fetal_seg.core import digest_file
    return {
        p.relative_to(folder).as_posix(): digest_file(p)
        for p in sorted(Path(folder).rglob('*'))
        if p.is_file() and p.name not in skip
    }

def pixels(a): return [list(a.shape), str(a.dtype), a.astype(float).sum(), hash_of(a)]
def hash_of(a):
    from fetal_seg.core import digest
    return digest(np.ascontiguousarray(a))

# Pictures

def read_picture(d, names):
    from fetal_seg.images import read_img
    return pixels(read_img(d/names[0]))

def read_mask(d, names):
    from fetal_seg.labels import read_annotation
    a = read_annotation(d/names[0])
    return pixels(np.asarray(a[0] if isinstance(a, tuple) else a))

def predict_picture(d, names):
    from fetal_seg import cli
    rc, out = command(cli.predict, d/names[0], '--weights', d/'run', '--out', d/'out', '--json')
    return predicted(out, d/'out')

def predicted(out, folder):
    t = json.loads(out)['predictions']
    keep = ('name', 'area', 'confidence', 'sdc', 'unlike', 'problem', 'spacing_mm', 'post')
    files = {n: h for n, h in tree(folder).items() if n.endswith(('_mask.png', '_heatmap.png'))}
    return [rounded({k: r[k] for k in keep}) for r in t], files

def predict_test(weights, out='out'):
    "Predict the pictures of the test split."
    def run(d, names):
        from fetal_seg import cli
        pictures = sorted((d/'prepared'/'test'/'images').iterdir())
        rc, text = command(cli.predict, *pictures, '--weights', d/weights, '--out', d/out, '--json')
        return predicted(text, d/out)
    return run

# A prepared folder and a run

def evaluate(*more):
    def run(d, names):
        from fetal_seg import cli
        rc, out = command(cli.evaluate, '--run', d/'run', '--prepared', d/'prepared', '--out',
                          d/'out', '--json', *[d/m if i % 2 else m for i, m in enumerate(more)])
        s = json.loads(out)
        return rounded(dict(scores=s['scores'], dice=s['dice'], against=s.get('against'),
                            warnings=s.get('warnings')))
    return run

def verify(d, names):
    from fetal_seg import cli
    rc, out = command(cli.verify, d/'prepared', '--workers', '0', '--json')
    v = json.loads(out)
    return dict(rc=rc, findings=sorted(f'{f.get("check")} {f.get("case")}' for f in v['findings']),
                cases=v['facts']['cases'])

def train(run='run', **changes):
    def go(d, names):
        from fetal_seg.train import train
        with contextlib.redirect_stderr(io.StringIO()):
            log = train(d/'prepared', d/run, **{**TRAINING, **changes})
        return rows(log, 'seconds'), tree(d/run).get('weights.safetensors')
    return go

def card(d, names):
    from fetal_seg.card import save_card
    save_card(d/'run', d/'prepared')
    return (d/'run'/'card.md').read_text(encoding='utf-8')

SHOWN = ('case', 'split', 'exam', 'dice', 'iou', 'sdc', 'area_truth', 'findings')

def explore(scores='scores.csv', **named):
    def run(d, names):
        from fetal_seg import explore as room
        files = dict(notes=d/'notes.csv', scores=d/scores if scores else None,
                     findings=d/'verify.json')
        e = room.explore(d/'run', d/'prepared', **files)
        heard = [w for w in (getattr(e.ui, 'message', None),) if w is not None]
        t = e.table[[c for c in SHOWN if c in e.table]]
        return rows(t), rows(e.notes), [str(getattr(w, 'value', '')) for w in heard]
    return run

def prepare_again(d, names):
    from fetal_seg.preprocess import prepare
    from fetal_seg.core import read_json
    prepare(d/'raw', d/'prepared', size=SHAPE, fractions=(0.5, 0.2, 0.3))
    about = read_json(d/'prepared'/'prepare.json')
    return tree(d/'prepared', 'prepare.json'), about['key'], about['digest']

def prepare_with(option, raw='raw'):
    "Prepare with a table that says the exams, the spacing or the split."
    def run(d, names):
        from fetal_seg.preprocess import prepare
        how = {option: d/names[0]} if option else {}
        t = prepare(d/raw, d/'out', size=SHAPE, **how)
        keep = ['case', 'exam', 'split', 'spacing_row', 'spacing_col', 'area', 'image_sha256']
        files = {n: h for n, h in tree(d/'out').items() if n.endswith('.png')}
        return rows(t[keep]), files
    return run

def crossval(d, names):
    from fetal_seg.pipeline import crossval
    with contextlib.redirect_stderr(io.StringIO()):
        t = crossval(world.PLACE/'raw', d/'folds', **FOLDS)
    return rows(t.reset_index())

def demo(d, names):
    "The demo, as far as it looks whether the folder is its own."
    from unittest.mock import patch
    from fetal_seg import pipeline
    class Reached(Exception): pass
    def reached(*args): raise Reached
    with patch.object(pipeline, '_data_steps', reached):
        try: pipeline.demo(None, d, DEMO['epochs'], DEMO['size'], n=DEMO['n'], shape=DEMO['shape'])
        except Reached: return 'goes on'

def summary_text(d, names):
    from fetal_seg.cli import scores_text
    from fetal_seg.eval import read_summary
    return scores_text(read_summary(d/'summary.json'))

# Archives and downloads

def unpack(d, names):
    from fetal_seg.download import extract_zip
    return tree(extract_zip(d/names[0], d/'out'))

class Server:
    "A server on this machine that answers with what `answer` gives: (status, headers, pieces)."
    def __init__(self, answer):
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args): pass
            def do_GET(self):
                status, headers, pieces = answer(self.path)
                self.send_response(status)
                for k, v in headers.items(): self.send_header(k, v)
                self.end_headers()
                try:
                    for p in pieces: self.wfile.write(p)
                except OSError: pass
        self.server = HTTPServer(('127.0.0.1', 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.base = f'http://127.0.0.1:{self.server.server_port}'

def download(d, names):
    "HC18 from a server of ours that serves what lies in the folder."
    from fetal_seg.download import download_hc18
    import downloads
    answer = downloads.answers(d)
    server = Server(answer)
    answer.host = server.base.removeprefix('http://')
    source = d/'out.download'/'SOURCE.json'
    before = source.read_bytes() if source.exists() else b''
    here = before.replace(downloads.BASE.encode(), server.base.encode())
    if before: source.write_bytes(here)   # the address of this server
    try: download_hc18(d/'out', 'train', server.base, desc=None, tries=2, sleep=lambda s: None)
    finally:
        if before and source.exists() and source.read_bytes() == here: source.write_bytes(before)
    return tree(d/'out')

def shown(d, names):
    "The report of verify on a console that knows ASCII only, byte for byte."
    import sys
    from fetal_seg import cli
    raw = io.BytesIO()
    console = io.TextIOWrapper(raw, encoding='ascii', errors='strict', write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), encoding='ascii', errors='strict', write_through=True)
    old = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = console, err
    try: rc = cli.verify([str(d/'raw'), '--workers', '0'])
    finally: sys.stdout, sys.stderr = old
    both = raw.getvalue() + err.buffer.getvalue()
    bad = sorted({b
                  for b in both
                  if b < 32 and b not in (9, 10, 13)} | {b
                                                         for b in both
                                                         if b == 127})
    if rc == 2: raise Refused(both.decode('ascii', 'replace').strip().splitlines()[-1])
    return dict(control=bad)

RUN, DATA = ('run', 'prepared'), ('prepared',)
TARGETS = dict(
    picture=Target(read_picture), mask=Target(read_mask),
    predict_picture=Target(predict_picture, ('run',), ('out',)),
    predict=Target(predict_test('run'), RUN, ('out',)),
    predict_onnx=Target(predict_test('net.onnx'), ('net.onnx', 'net.json', *DATA), ('out',)),
    predict_more=Target(predict_test('run', 'predictions'), (*RUN, 'predictions'),
                        ('predictions',), True),
    evaluate=Target(evaluate(), RUN, ('out',)),
    against=Target(evaluate('--against', 'scores.csv'), (*RUN, 'scores.csv'), ('out',)),
    verify=Target(verify, DATA),
    train_more=Target(train(), RUN, ('run',), True),
    resume=Target(train('half'), ('half', *DATA), ('half',), True),
    train_new=Target(train('new', epochs=1), DATA, ('new',)),
    card=Target(card, RUN, ('run',)),
    explore=Target(explore(), (*RUN, 'scores.csv', 'notes.csv', 'verify.json')),
    prepare_again=Target(prepare_again, ('raw', *DATA), ('prepared',)),
    exams=Target(prepare_with('exams'), ('raw',), ('out',)),
    spacing=Target(prepare_with('spacing'), ('raw',), ('out',)),
    split=Target(prepare_with('split'), ('raw',), ('out',)),
    coco=Target(prepare_with(None, 'coco'), ('coco',), ('out',)),
    nnunet=Target(prepare_with(None, 'nnunet'), ('nnunet',), ('out',)),
    crossval=Target(crossval, ('folds',), ('folds',)),
    demo=Target(demo, ('demo.json',), ('demo.json',)),
    summary=Target(summary_text, ('summary.json',)),
    unpack=Target(unpack, (), ('out',)),
    download=Target(download, (), ('out', 'out.download')),
    shown=Target(shown, ('raw',)),
)
