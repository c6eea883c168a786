"""The explorer where it meets the world: notes under several writers, the app's door, and both the
app and the evaluation report in a real browser.

Where there is no Voila, no Playwright or no Chromium these tests are skipped by name; with
FETAL_SEG_BROWSER=1 they fail instead.
"""
import csv, importlib.util, json, os, random, re, shutil, signal, socket, subprocess, sys, time
import urllib.error, urllib.request
from pathlib import Path
from types import SimpleNamespace
import numpy as np, pandas as pd, pytest
from fetal_seg.core import InputError, guard, unguard
from fetal_seg.explore import (
    Explorer, explore, keep_scores, kept_path, read_findings, read_kept, read_notes, save_note,
    scores_key, sort_keys)
from fetal_seg.metrics import read_scores
from fetal_seg.geometry import invert, warp
from fetal_seg.preprocess import PreparedCase, prepare, read_cases

here = Path(__file__).resolve().parent.parent
EVIL = '<img src=x onerror="window.pwned=1">'

def need(ok, what):
    "Skip by name, or fail where everything is meant to be there."
    if ok: return
    end = pytest.fail if os.environ.get('FETAL_SEG_BROWSER') == '1' else pytest.skip
    end(f'{what} is not installed')

class Greys:
    "A predictor without a network: what is bright."
    threshold = 0.4
    def __init__(self): self.calls = 0
    def heatmap(self, case):
        self.calls += 1
        return warp(case.canvas.astype(np.float32)/255, invert(case.affine), case.shape)

    def to_mask(self, heatmap, threshold=None):
        return (heatmap > (self.threshold if threshold is None else threshold)).astype(np.uint8)

@pytest.fixture(scope='module')
def job(tmp_path_factory):
    "A folder like a demo's: raw, prepared, and what verify found (with something evil in it)."
    from fetal_seg.phantom import write_phantoms
    from fetal_seg.verify import verify
    d = tmp_path_factory.mktemp('job')
    prepare(write_phantoms(d/'raw', n=24, shape=(270, 400)), d/'prepared', size=(270, 400),
            fractions=(0.4, 0.2, 0.4))
    v = verify(d/'prepared')
    v.save(d/'verify.json')
    found = json.loads((d/'verify.json').read_text())
    evil = dict(check='made_up', severity='warning', value=EVIL, remedy='', also=[])
    found['findings'] += [dict(evil, case=c) for c in read_cases(d/'prepared').case]
    (d/'verify.json').write_text(json.dumps(found))
    return d

@pytest.fixture(scope='module')
def trained(job):
    "The same with a run."
    from fetal_seg.train import train
    train(job/'prepared', job/'run', epochs=6, size=(68,100), width=8, bs=4)
    return job

# Notes

def test_text_survives_a_spreadsheet_cell():
    rng, signs = random.Random(0), "'=+-@\t\r\nab,\"<ü "
    for _ in range(3000):
        s = ''.join(rng.choice(signs) for _ in range(rng.randint(0, 6)))
        assert unguard(guard(s)) == s
        assert not guard(s)[:1] in set('=+-@\t\r')

def test_notes_of_hard_names_and_texts(tmp_path):
    f = tmp_path/'notes.csv'
    texts = {'NA': 'null', '007': 'a,b\n"c"', '=1+1': '-', 'ü<b>': "'=x",
             '10_HC': '\u2028 x \x00', ' sp ': '\r\nline'}
    for c,t in texts.items(): save_note(f, c, 'unsure', t)
    back = read_notes(f)
    want = {c: t.replace('\r\n', '\n').replace('\0', '') for c,t in texts.items()}
    assert dict(zip(back.case, back.note)) == want
    with open(f, newline='', encoding='utf-8') as g: rows = list(csv.reader(g))
    assert all(not cell[:1] in set('=+-@\t\r') for r in rows for cell in r)
    assert back.time.str.match(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$').all()

def test_writers_at_the_same_time_lose_nothing(tmp_path):
    code = ("import sys; from fetal_seg.explore import save_note\n"
            "for i in range(15): save_note(sys.argv[1], f'{sys.argv[2]}-{i}', 'right', 'x')")
    command = [sys.executable, '-c', code, str(tmp_path/'notes.csv')]
    ps = [subprocess.Popen([*command, str(k)], cwd=here) for k in range(3)]
    assert [p.wait(120) for p in ps] == [0]*3
    noted = set(read_notes(tmp_path/'notes.csv').case)
    assert noted == {f'{k}-{i}' for k in range(3) for i in range(15)}
    assert [p.name for p in tmp_path.iterdir()] == ['notes.csv']

def test_a_note_that_cannot_be_written_is_told(job, tmp_path):
    ex = explore(job/'prepared', notes=tmp_path/'notes.csv')
    (tmp_path/'notes.csv').write_text('something else\n')
    ex.ui.flag.value = 'wrong'
    assert 'name another file for the notes' in ex.message and 'fs-warn' in ex.ui.said.value
    assert (tmp_path/'notes.csv').read_text() == 'something else\n'
    with pytest.raises(InputError): ex.judge('wrong')

# The Explorer, without a browser

def test_heatmaps_are_lazy_and_kept(job, tmp_path):
    g = Greys()
    ex = Explorer(job/'prepared', g, notes=tmp_path/'n.csv', split='', keep=3)
    names = list(ex.listed.case)
    assert g.calls == 1
    for n in names[:3]: ex.case = n
    assert g.calls == 3
    for n in names[:3]: ex.case = n
    ex.threshold, ex.opacity, ex.layers = 0.7, 0.9, ('picture', 'error')
    assert g.calls == 3                     # kept, and no move of a slider predicts
    ex.case = names[3]; ex.case = names[0]
    assert g.calls == 5                     # three are kept, not more

def test_list_follows_filters_and_metrics(job, tmp_path):
    ex = explore(Greys(), job/'prepared', notes=tmp_path/'n.csv', split='')
    assert ex.ui.finding.options[1][1] == '*' and 'made_up' in [v for _,v in ex.ui.finding.options]
    ex.score_listed()
    assert not ex._unscored()
    for by in sort_keys(ex.table):
        ex.by = by
        for ex.descending in (False, True):
            values = ex.listed[by].dropna()
            if by != 'case':
                assert (values.is_monotonic_decreasing
                        if ex.descending else values.is_monotonic_increasing), by
            assert len(ex.listed) == len(ex.cases)
    for s in ('train', 'valid', 'test'):
        ex.split = s
        assert set(ex.listed.split) == {s} and ex.case in set(ex.listed.case)
    found = json.loads((job/'verify.json').read_text())['findings']
    check = next(f['check'] for f in found if f['case'] and f['check'] != 'made_up')
    ex.split, ex.finding = '', check
    named = [c for f in found if f['check'] == check for c in [f['case'], *f['also']] if c]
    assert set(ex.listed.case) == set(named)
    ex.finding = '-'
    assert ex.listed.empty and ex.case is None and ex.scores == {} and 'No case' in ex.ui.head.value
    with pytest.raises(InputError, match='no case is shown'): ex.figure()
    with pytest.raises(InputError, match='no case is shown'): ex.judge('wrong')
    ex.step()
    ex.finding = ''
    assert ex.case is not None
    ex.case = ex.listed.case.iloc[0]; ex.step(-1)
    assert ex.case == ex.listed.case.iloc[0]
    ex.step(); assert ex.case == ex.listed.case.iloc[1]
    ex.step(1000); assert ex.case == ex.listed.case.iloc[-1]

def test_columns_of_any_name(job, tmp_path):
    # itertuples renames some of them
    names = ['hd 95 %', 'class', '_private', '2nd', 'count', 'index', 'ü', 'a,b', '=1+1', 'note',
             'weights']
    cases = read_cases(job/'prepared')
    values = {c: np.random.default_rng(i).random(len(cases)) for i,c in enumerate(names)}
    table = pd.DataFrame(values).assign(case=cases.case, dice=0.5, method='ellipse')
    table.to_csv(tmp_path/'scores.csv', index=False)
    ex = explore(None, job/'prepared', notes=tmp_path/'n.csv', scores=tmp_path/'scores.csv')
    assert ex.table.method.eq('ellipse').all() and 'method' not in sort_keys(ex.table)
    for by in names:
        ex.by = by
        assert ex.listed[by].is_monotonic_increasing
        shown = [t.split()[-1] for t,_ in ex.ui.list.options]
        assert shown == [f'{v:.3f}' for v in table.set_index('case')[by].sort_values()]

def test_expected_dice(job, tmp_path):
    from fetal_seg.predict import soft_dice_confidence
    g = Greys()
    ex = explore(g, job/'prepared', notes=tmp_path/'n.csv', split='')
    for t in (0.2, 0.4, 0.7):
        ex.threshold = t
        assert ex.scores['sdc'] == soft_dice_confidence(ex.look.heat, ex.look.heat > t)
        assert f'>{ex.scores["sdc"]:.3f}<' in ex.ui.cards.value
    ex.score_listed()
    ex.by = 'sdc'
    assert ex.listed.sdc.is_monotonic_increasing and ex.listed.sdc.notna().all()
    ex.threshold = g.threshold
    assert ex.scores['sdc'] == ex.listed.sdc[list(ex.listed.case).index(ex.case)]

def test_scores_come_back(trained, tmp_path):
    from fetal_seg.predict import Predictor

    def opened(**kw):
        return explore(p, trained/'prepared', notes=tmp_path/'n.csv',
                       scores=kw.pop('scores', pd.DataFrame()), split='', **kw)
    p = Predictor(trained/'run')
    ex = opened()
    assert 'dice' not in ex.table and not kept_path(ex.notes_path).exists()
    ex.split = 'test'; ex.score_listed()
    n = len(ex.listed)
    again = opened()
    assert again.by == 'dice' and len(again._unscored()) == len(again.cases) - n > 0
    pd.testing.assert_frame_equal(ex.table, again.table, check_dtype=False, check_exact=True)
    again.split = 'valid'; again.score_listed()
    kept = set(read_kept(kept_path(tmp_path/'n.csv')).case)
    assert kept == set(ex.cases.case[ex.cases.split != 'train'])
    given = pd.DataFrame(dict(case=ex.listed.case[:1], dice=0.125))
    # what was given counts
    assert opened(scores=given).table.set_index('case').dice[given.case[0]] == 0.125
    key = scores_key(p, trained/'prepared')
    # another prediction: other scores
    p.threshold = 0.9
    assert scores_key(p, trained/'prepared') != key and 'dice' not in opened().table
    others = (Predictor(trained/'run'), Predictor(trained/'run', flips=True),
              Predictor([trained/'run']*2), Predictor())
    assert len({scores_key(q, trained/'prepared') for q in others}) == 4
    kept_path(tmp_path/'n.csv').write_text('case,dice\na,1\n')
    with pytest.raises(InputError, match='these scores are not of the explorer'): opened()

def test_scores_that_cannot_be_kept_are_told(trained, tmp_path):
    ex = explore(trained, notes=tmp_path/'n.csv', scores=pd.DataFrame())
    kept_path(tmp_path/'n.csv').write_text('something else\n')
    ex.ui.score.click()
    assert 'n-scores.csv' in ex.message and 'fs-warn' in ex.ui.said.value
    assert ex.listed.dice.notna().all()
    assert kept_path(tmp_path/'n.csv').read_text() == 'something else\n'

def test_scores_of_other_weights_are_told(job, tmp_path):
    cases = read_cases(job/'prepared')
    pd.DataFrame(dict(case=cases.case, exam=cases.exam, split=cases.split,
                      dice=0.99)).to_csv(tmp_path/'scores.csv', index=False)
    ex = explore(Greys(), job/'prepared', notes=tmp_path/'n.csv', scores=tmp_path/'scores.csv')
    assert 'the scores are of other weights' in ex.message
    (tmp_path/'bad.csv').write_text('x,y\n1,2\n')
    with pytest.raises(InputError, match='not case, dice'): read_scores(tmp_path/'bad.csv')

def test_a_picture_that_is_gone_is_told(job, tmp_path):
    shutil.copytree(job/'prepared', tmp_path/'prepared')
    ex = explore(Greys(), tmp_path/'prepared')
    name = ex.listed.case.iloc[-1]
    (tmp_path/'prepared'/ex.rows[name].split/'images'/f'{name}.png').unlink()
    ex.case = name
    assert name in ex.message and ex.look is None
    # nothing of the case before
    assert ex.mask is None and ex.scores == {}
    assert ex.ui.cards.value == '' and ex.ui.image.layout.display == 'none'
    ex.case = ex.listed.case.iloc[0]
    assert ex.look is not None and bytes(ex.ui.image.value[1:4]) == b'PNG'

@pytest.mark.parametrize('rows,text', [('a,Wrong,,', "the flag of a is 'Wrong'"),
                                       ('a,wrong,,\na,right,,', 'the case a twice')])
def test_notes_that_a_person_spoilt(tmp_path, rows, text):
    (tmp_path/'notes.csv').write_text(f'case,flag,note,time\n{rows}\n')
    with pytest.raises(InputError, match=text): read_notes(tmp_path/'notes.csv')

def test_notes_of_somebody_else_are_seen(job, tmp_path):
    ex = explore(Greys(), job/'prepared', notes=tmp_path/'n.csv')
    a, b = ex.listed.case.iloc[:2]
    ex.case = a
    save_note(tmp_path/'n.csv', b, 'wrong', 'by another')
    ex.case = b
    assert (ex.ui.flag.value, ex.ui.note.value) == ('wrong', 'by another')

@pytest.mark.parametrize('text,says', [
    ('case;flag;note;time\na;right;x;\n', 'semicolons between its columns'),
    ('case,flag,note,time\na,right\n', 'line 2 has 2 cells'), ('', 'no column case'),
    ('case,flag\n', 'no column note'), ('case,flag,note,time,more\n', 'its columns are'),
    ('case,flag,note,time\na,right,x,\0,\n', 'byte 30 is zero'), (b'\xff\xfec\0a\0', 'UTF-16')])
def test_notes_of_another_program(tmp_path, text, says):
    f = tmp_path/'notes.csv'
    data = text if isinstance(text, bytes) else text.encode()
    f.write_bytes(data)
    with pytest.raises(InputError, match=says) as e: save_note(f, 'a', 'right')
    assert '\n' not in str(e.value) and 'notes.csv' in str(e.value)
    assert f.read_bytes() == data   # somebody's file stays somebody's

def test_a_note_of_a_whole_book(tmp_path):
    with pytest.raises(InputError, match='200,000 characters'):
        save_note(tmp_path/'n.csv', 'a', 'right', 'x'*200_000)
    assert not (tmp_path/'n.csv').exists()

@pytest.mark.parametrize('change,says', [
    (dict(check=3), 'findings.0.check is 3'), (dict(severity='awful'), 'severity'),
    (dict(case=['a']), 'case'), (dict(value=None), 'value'), (dict(also='ab'), 'also'),
    (dict(also=[1]), 'also.0')])
def test_edited_findings(job, tmp_path, change, says):
    found = json.loads((job/'verify.json').read_text())
    found['findings'][0].update(change)
    (tmp_path/'v.json').write_text(json.dumps(found))
    with pytest.raises(InputError, match='v.json') as e: read_findings(tmp_path/'v.json')
    assert says in str(e.value) and '\n' not in str(e.value)

@pytest.mark.parametrize('row,says', [
    ('a,s,9,0.5,k', 'line 2: dice is'), ('a,s,nan,0.5,k', 'dice'), ('a,s,x,0.5,k', 'dice'),
    ('a,s,0.5,-1,k', 'sdc'), ('a,s,0.5,0.5,', 'key'), ('a,s,1,1,k\na,s,1,1,k', 'in line 2'),
    ('a,s,1', '3 cells|no CSV')])
def test_edited_scores(tmp_path, row, says):
    (tmp_path/'s.csv').write_text(f'case,split,dice,sdc,key\n{row}\n')
    with pytest.raises(InputError, match=says): read_kept(tmp_path/'s.csv')

def test_a_figure_stays_in_its_folder(job, tmp_path):
    ex = explore(Greys(), job/'prepared', notes=tmp_path/'deep'/'n.csv')
    for evil in ('../../gone', '/gone', 'a/b', '..'):
        with ex._quietly(): ex.ui.list.options, ex.ui.list.value = [(evil, evil)], evil
        assert ex.case == evil and ex.save().parent == tmp_path/'deep'/'figures'
    assert not (tmp_path/'gone.png').exists()

def test_figures_never_overwrite(job, tmp_path):
    ex = explore(Greys(), job/'prepared', notes=tmp_path/'n.csv')
    assert [ex.save().name, ex.save().name] == [f'{ex.case}.png', f'{ex.case}-2.png']

# The app's door

def start_app(cwd, **args):
    "The app in a process of its own: (process, URL)."
    need(importlib.util.find_spec('voila'), 'voila')
    code = ('import json, sys; from fetal_seg.explore import serve; '
            'serve(**json.loads(sys.argv[1]), say=lambda s: print(s, flush=True))')
    env = dict(os.environ, PYTHONPATH=str(here))
    # a shell's background job is deaf to Ctrl-C, and so would its children be
    hear = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    p = subprocess.Popen(
        [sys.executable, '-P', '-c', code, json.dumps(args)], cwd=cwd, env=env,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hear)
    for line in p.stdout:
        if m := re.search(r'http://\S+', line): return p, m[0]
    pytest.fail(f'the app did not start: {p.stderr.read()[-2000:]}')

def end_app(p):
    "Ctrl-C; what it said last."
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60)
    return p.returncode, out, err

def status_of(url, **headers):
    request = urllib.request.Request(url, headers=headers)
    try: return urllib.request.urlopen(request, timeout=60).status
    except urllib.error.HTTPError as e: return e.code

@pytest.fixture(scope='module')
def app(trained, tmp_path_factory):
    "The app on the trained run; started in a folder with a configuration that it must not read."
    cwd = tmp_path_factory.mktemp('cwd')
    lines = ["open('read', 'w').close()", "c.Voila.ip = '0.0.0.0'", "c.Voila.token = ''", '']
    (cwd/'voila.py').write_text('\n'.join(lines))
    notes = cwd/'notes.csv'
    p, url = start_app(cwd, run_or_weights=str(trained), notes=str(notes), port=8870)
    yield SimpleNamespace(url=url, base=url.split('?')[0], port=int(re.search(r':(\d+)/', url)[1]),
                          process=p, notes=notes, cwd=cwd, job=trained)
    if p.poll() is None: end_app(p)

@pytest.mark.parametrize('path', [
    '', '?token=', '?token=wrong', 'login', 'voila/render/explore.ipynb',
    'api/kernels/11111111-1111-1111-1111-111111111111', 'voila/files/explore.ipynb',
    'voila/files/hc18-provenance.csv', 'voila/tree', 'voila/api/contents/'
])
def test_without_the_token_403(app, path): assert status_of(app.base + path) == 403

def test_no_name_but_this_machines(app):
    assert status_of(app.url, Host='evil.example') == 403

def test_it_listens_on_loopback_only(app):
    psutil = pytest.importorskip('psutil')
    server = psutil.Process(app.process.pid)
    listening = [c.laddr for q in [server, *server.children(recursive=True)]
                 for c in q.net_connections('inet') if c.status == 'LISTEN']
    assert {a.ip for a in listening} == {'127.0.0.1'} and app.port in {a.port for a in listening}
    addresses = {a.address for addrs in psutil.net_if_addrs().values()
                 for a in addrs if a.family == socket.AF_INET}
    for ip in addresses - {'127.0.0.1'}:
        with socket.socket() as s:
            s.settimeout(5)
            assert s.connect_ex((ip, app.port)) != 0, ip
    assert not (app.cwd/'read').exists()

def test_token_is_long_and_new_each_time(app, job, tmp_path):
    p, url = start_app(tmp_path, prepared=str(job/'prepared'), port=app.port)   # the port is taken
    rc, out, err = end_app(p)
    assert (rc, 'The explorer has ended.' in out, 'Traceback' in err) == (0, True, False), err
    assert int(re.search(r':(\d+)/', url)[1]) != app.port
    a, b = (u.split('token=')[1] for u in (app.url, url))
    assert a != b and len(a) == len(b) == 43

def test_bad_input_is_told_before_anything_starts(job, tmp_path):
    from fetal_seg.explore import serve
    for kw, text in [(dict(run_or_weights=str(tmp_path/'none'),
                           prepared=str(job/'prepared')), 'no such run folder'),
                     (dict(prepared=str(tmp_path)), 'no prepared folder'),
                     (dict(), 'no folder was named')]:
        with pytest.raises(InputError, match=text): serve(**kw, say=pytest.fail)

# In a real browser

NAMES = ('chromium', 'chromium-browser', 'google-chrome')
CHROMIUM = next(filter(None, [os.environ.get('CHROMIUM'), *map(shutil.which, NAMES)]), None)
SWITCHES = ('--headless --no-sandbox --disable-gpu --disable-quic --no-first-run '
            '--disable-background-networking --disable-component-update --disable-sync').split()

@pytest.fixture(scope='module')
def chromium(tmp_path_factory):
    need(importlib.util.find_spec('playwright'), 'playwright')
    need(CHROMIUM, 'Chromium')
    from playwright.sync_api import sync_playwright
    with sync_playwright() as pw:
        def launch(**kw):
            how = dict(executable_path=CHROMIUM, args=SWITCHES,
                       viewport=dict(width=1280, height=900))
            profile = str(tmp_path_factory.mktemp('profile'))
            return pw.chromium.launch_persistent_context(profile, **{**how, **kw})
        yield launch

@pytest.fixture
def page(chromium):
    "A page that notes every request and every error."
    context = chromium()
    p = context.pages[0]
    p.set_default_timeout(90000)
    p.asked, p.errors = [], []
    p.on('request', lambda r: p.asked.append(r.url))
    p.on('websocket', lambda w: p.asked.append(w.url))
    p.on('pageerror', lambda e: p.errors.append(str(e)))
    yield p
    context.close()

def wait_until(f, seconds=60):
    "The first true answer."
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if got := f(): return got
        time.sleep(0.1)
    pytest.fail('waited in vain')

def opened(page, app):
    page.goto(app.url)
    page.wait_for_selector('.fs-frame img[src]')

def listed(page):
    texts = page.locator('.fs-list select option').all_text_contents()
    return [t.replace('\xa0', ' ') for t in texts]

def slider(page, name):
    return page.locator('.widget-slider', has=page.get_by_text(name, exact=True))

def test_explorer_in_a_browser(page, app):
    from fetal_seg.eval import evaluate, score
    from fetal_seg.predict import Predictor, soft_dice_confidence
    from fetal_seg.explore import look_at
    opened(page, app)
    page.get_by_role('button', name=re.compile(r'Score \d+ cases')).click()
    wait_until(lambda: re.search(r' 0\.\d{3}$', listed(page)[0]))
    predictor = Predictor(app.job/'run')
    truth = evaluate(predictor, app.job/'prepared').sort_values('dice')
    # sorted by Dice, the worst first
    assert [t.split()[-1] for t in listed(page)] == [f'{d:.3f}' for d in truth.dice]
    page.locator('.fs-list select').select_option(index=0)
    name, dice = truth.case.iloc[0], page.locator('.fs-dice')
    page.wait_for_function('n => document.querySelector(".fs-case b").textContent === n', arg=name)
    wait_until(lambda: dice.text_content() == f'{truth.dice.iloc[0]:.3f}')

    # the threshold: by keyboard, thirty steps of 0.01
    before = page.locator('.fs-frame img').get_attribute('src')
    slider(page, 'Threshold').locator('.noUi-handle').focus()
    for _ in range(30): page.keyboard.press('ArrowRight')
    row = next(r for r in read_cases(app.job/'prepared').itertuples() if r.case == name)
    look = look_at(PreparedCase(app.job/'prepared', row), predictor)
    mask = predictor.to_mask(look.heat, round(predictor.threshold + 0.3, 2))
    moved, expected = score(mask, look.truth)['dice'], soft_dice_confidence(look.heat, mask)
    assert f'{moved:.3f}' != f'{truth.dice.iloc[0]:.3f}'
    wait_until(lambda: dice.text_content() == f'{moved:.3f}')
    wait_until(lambda: page.locator('.fs-sdc').text_content() == f'{expected:.3f}')
    wait_until(lambda: page.locator('.fs-frame img').get_attribute('src') != before)

    # zoom around the pointer, layers, a figure
    page.locator('.fs-frame img').hover(position=dict(x=200, y=100))
    page.mouse.wheel(0, -100)
    wait_until(lambda: slider(page, 'Zoom').locator('.widget-readout').text_content() not in
               ('1.0', ''))
    page.locator('.fs-layers button', has_text='Error').click()
    page.get_by_role('button', name='Save PNG').click()
    wait_until(lambda: (app.cwd/'figures'/f'{name}.png').exists())

    # a judgement and a note, in the file at once
    page.locator('.widget-toggle-buttons button', has_text='wrong').click()
    page.locator('.fs-explore textarea').fill(EVIL)
    def noted():
        if not app.notes.exists(): return []
        return read_notes(app.notes)[['case','flag','note']].values.tolist()
    wait_until(lambda: noted() == [[name, 'wrong', EVIL]])
    page.reload()
    page.wait_for_selector('.fs-frame img[src]')
    # the scores are there again too: sorted by Dice
    assert [t.split()[:2] for t in listed(page)][0] == ['✗', name]
    assert [t.split()[-1] for t in listed(page)] == [f'{d:.3f}' for d in truth.dice]
    at = next(i for i,t in enumerate(listed(page)) if name in t.split())
    page.locator('.fs-list select').select_option(index=at)
    wait_until(lambda: page.locator('.fs-explore textarea').input_value() == EVIL)
    wrong = page.locator('.widget-toggle-buttons button', has_text='wrong')
    assert 'mod-active' in wrong.get_attribute('class')

    # the filter by finding, and what is evil stays text
    page.get_by_label('Finding').select_option(
        label=f'made up ({len(read_cases(app.job/"prepared"))})')
    wait_until(lambda: EVIL in page.locator('.fs-findings').inner_text())
    assert page.evaluate('window.pwned') is None and page.locator('img[src="x"]').count() == 0

    # no other host, not even where a script asks for one
    hosts = {re.sub(r'^(?:blob:)?\w+://([^/]*).*', r'\1', u)
             for u in page.asked if not u.startswith('data:')}
    assert hosts == {f'127.0.0.1:{app.port}'}
    fetched = page.evaluate("fetch('http://example.com').then(() => 'got', () => 'refused')")
    assert fetched == 'refused'
    assert page.errors == []

def test_layout_at_three_widths(page, app):
    opened(page, app)
    for width in (1280, 800, 480):
        page.set_viewport_size(dict(width=width, height=900))
        page.wait_for_timeout(300)
        # nothing to scroll sideways
        assert page.evaluate('document.documentElement.scrollWidth') <= width
        page.get_by_role('button', name='Save PNG').scroll_into_view_if_needed()
        # what does not fit is reached
        assert 0 < page.get_by_role('button', name='Save PNG').bounding_box()['y'] < 900
        box = {k: page.locator(f'.fs-{k}').bounding_box() for k in ('list', 'frame', 'control')}
        end = {k: b['x'] + b['width'] for k,b in box.items()}
        assert all(b['x'] >= 0 and end[k] <= width for k,b in box.items())
        assert box['frame']['width'] >= {1280: 600, 800: 500, 480: 400}[width]
        assert (end['list'] <= box['frame']['x']) == (width > 480)
        assert (box['control']['x'] > end['frame']) == (width == 1280)

def test_a_left_page_ends_its_kernel_and_ctrl_c_the_rest(app, page):
    psutil = pytest.importorskip('psutil')
    opened(page, app)
    def command(q):
        try: return q.cmdline()
        except psutil.Error: return []   # it has just ended

    def kernels():
        children = psutil.Process(app.process.pid).children(recursive=True)
        return [q for q in children if any('ipykernel_launcher' in c for c in command(q))]
    mine = kernels()
    assert mine
    page.goto('about:blank')
    wait_until(lambda: len(kernels()) < len(mine))
    opened(page, app)
    rest = kernels()
    folders = [Path(c).parent for q in rest for c in command(q) if c.endswith('.json')]
    assert rest and folders and all(f.exists() and f.stat().st_mode & 0o077 == 0 for f in folders)
    rc, out, err = end_app(app.process)
    assert (rc, 'The explorer has ended.' in out, 'Traceback' in err) == (0, True, False), err
    assert not any(q.is_running() and q.status() != 'zombie'
                   for q in rest) and not any(f.exists() for f in folders)

@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_report_in_a_browser(chromium, trained, tmp_path, scheme):
    from fetal_seg.calibration import Calibration, Sweep
    from fetal_seg.eval import evaluate, save_report
    from fetal_seg.predict import Predictor
    predictor = Predictor(trained/'run')
    judges = dict(calibration=Calibration(2.), sweep=Sweep(predictor.to_mask))
    scores = evaluate(predictor, trained/'prepared', watch=judges.values())
    report = save_report(tmp_path/'report.html', scores, predictor, trained/'prepared',
                         against=evaluate(predictor, trained/'prepared', post=()), **judges)
    context = chromium(color_scheme=scheme)
    page, asked, errors = context.pages[0], [], []
    page.on('request', lambda r: asked.append(r.url))
    page.on('pageerror', lambda e: errors.append(str(e)))
    page.goto(report.absolute().as_uri())
    def colour(name):
        rgb = page.evaluate(f'getComputedStyle(document.body).{name}')
        return [int(v) for v in re.findall(r'\d+', rgb)[:3]]
    grey, ink = colour('backgroundColor'), colour('color')
    if scheme == 'dark': assert max(grey) < 60 and min(ink) > 180
    else: assert min(grey) > 220 and max(ink) < 80

    # sort the table of every case by Dice, both ways
    dice = re.compile('^dice$')
    table = page.locator('table.sortable').filter(has=page.locator('th button', has_text=dice))
    button, head = table.locator('th button', has_text=dice), table.locator('thead th')
    column = next(i for i in range(head.count()) if head.nth(i).inner_text().strip() == 'dice')

    def column_values():
        cells = table.locator(f'tbody tr > :nth-child({column+1})')
        return [float(v) for v in cells.evaluate_all('cells => cells.map(c => c.dataset.v)')]
    for ascending in (True, False):
        button.click()
        values = column_values()
        assert len(values) == len(scores) and values == sorted(values, reverse=not ascending)
        order = table.locator('th[aria-sort]').get_attribute('aria-sort')
        assert order == ('ascending' if ascending else 'descending')

    # a click shows a case large, another closes it
    small = page.locator('.gallery .zoom').first
    small.click()
    large = page.locator('dialog[open] img')
    assert large.bounding_box()['width'] > 1.5*small.bounding_box()['width']
    caption = page.locator('.gallery figcaption').first.inner_text()
    assert page.locator('dialog[open] p').inner_text() == caption
    page.keyboard.press('Escape')
    assert page.locator('dialog[open]').count() == 0

    # so does a click on its name in the table: the best case stands first, as it is sorted now
    first = table.locator('tbody th .open').first
    best = scores.sort_values('dice').case.iloc[-1]
    if scores.dice.nunique() < len(scores): best = first.inner_text()
    first.click()
    said = f'{best}: Dice {scores.set_index("case").dice[best]:.3f}'
    assert page.locator('dialog[open] p').inner_text().startswith(said)
    page.get_by_role('button', name='Close').click()
    assert page.locator('dialog[open]').count() == 0
    assert table.locator('tbody th .open').count() == len(scores)
    for text in ('Beside the other run', 'By group', 'How far the heatmap can be believed'):
        assert page.get_by_role('heading', name=text).is_visible()
    for width in (1240, 700, 390):
        page.set_viewport_size(dict(width=width, height=900))
        assert page.evaluate('document.documentElement.scrollWidth') <= width
    page.emulate_media(media='print')
    # A4 with its margins: nothing is cut off
    page.set_viewport_size(dict(width=720, height=1000))
    assert page.evaluate('document.documentElement.scrollWidth') <= 720
    assert [u for u in asked if not u.startswith(('data:', 'file:'))] == [] and errors == []
    context.close()
