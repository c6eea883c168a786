"Files of results: what others wrote stays, and what a hand has changed is one line."
import json, os, random, re
from pathlib import Path
import pandas as pd, pytest
from fetal_seg.core import InputError, read_json, to_csv, write_json, write_text
from fetal_seg.eval import read_summary, save_report, summary, summary_markdown
from fetal_seg.metrics import read_scores, score_case
from fetal_seg.pipeline import CrossvalFile, DemoFile, FoldFile, SplitRow, _settle
from fetal_seg.results import EVALUATION, check_ours, results_folder
from fetal_seg.schema import read_record, read_rows

def table():
    rng, rows = random.Random(0), []
    for i in range(6):
        a, b = ([[int(rng.random() < .5) for _ in range(9)] for _ in range(9)] for _ in 'ab')
        rows.append(dict(case=f'c{i}', exam=f'e{i//2}', spacing=0.1, **score_case(a, b, (.1, .1))))
    return pd.DataFrame(rows)

@pytest.fixture
def scores(tmp_path): return write_text(tmp_path/'scores.csv', to_csv(table()))

def one_line(call, path, *says):
    with pytest.raises(InputError) as e: call(path)
    text = str(e.value)
    assert '\n' not in text and text.startswith(str(path)), text
    for s in says: assert s in text, text

def test_the_table_that_is_written_is_read(scores):
    pd.testing.assert_frame_equal(read_scores(scores), table(), check_dtype=False)

@pytest.mark.parametrize('column,value', [
    ('dice', '9'), ('dice', 'NaN'), ('dice', '-0.1'), ('dice', 'inf'), ('dice', 'good'),
    ('dice', '1e999'), ('iou', '1.5'), ('precision', '-1'), ('recall', '2'), ('hd95', '-1'),
    ('hd95', 'nan'), ('hd95_mm', '-0.5'), ('assd', '1e12'), ('tp', '-3'), ('fn', 'many'),
    ('area', '345'), ('area_truth', '-1'), ('area_error', '-2'), ('spacing', '0'),
    ('spacing', '-1'), ('nsd', '7'), ('missed', 'maybe'), ('missed', '2'), ('case', '')])
def test_a_cell_that_cannot_be(scores, column, value):
    t = pd.read_csv(scores, dtype=str, keep_default_na=False)
    t.loc[3, column] = value
    t.to_csv(scores, index=False)
    one_line(read_scores, scores, f'line 5: {column} is {value!r}')

def test_a_table_that_is_none(scores):
    good = scores.read_text()
    lines = good.splitlines()
    for bad,says in ((good.replace(',', ';'), 'not case, dice'), ('', 'not case, dice'),
                     (good.replace('dice', 'score', 1), 'not case, dice'),
                     ('\n'.join([*lines, lines[2]]), "line 8: case 'c1' is in line 3 already"),
                     ('\n'.join([*lines, 'c9,e9']), 'line 8 has 2 cells'),
                     (good.replace('exam', 'case', 1), 'the column case twice'),
                     (good + '"', 'is no CSV')):
        scores.write_text(bad)
        one_line(read_scores, scores, says)
    for bad,says in ((good.encode('utf-16'), 'UTF-16'), (b'\xff' + good.encode(), 'no UTF-8')):
        scores.write_bytes(bad)
        one_line(read_scores, scores, says)
    scores.unlink()
    os.mkfifo(scores)
    one_line(read_scores, scores, 'no regular file')

def test_tables_of_users(tmp_path):
    f = write_text(tmp_path/'t.csv', 'dice,case,remark,mine\n0.5,a,good,1\n,b,,\n-,c,x,-4\n')
    t = read_scores(f)
    assert t.dice.isna().tolist() == [False, True, True] and t.mine.tolist()[::2] == [1, -4]
    f.write_bytes(b'\xef\xbb\xbf' + f.read_bytes())
    pd.testing.assert_frame_equal(read_scores(f), t)

# Records

DEMO = dict(raw=None, epochs=3, size=[32, 48], seed=0, n=9, shape=[48, 64], layout='kaggle')
CV = dict(raw='raw', k=3, valid=.05, exams=None, layout=None, seed=0, canvas=[64, 96], epochs=3)
FOLD = dict(flips=False, post=None, data='d', weights='a'*64, scores='b'*64)
BAD = [(DemoFile, DEMO, k, v) for k,v in dict(
    raw=3, epochs='3', size=[32], seed=.5, n=-1, shape=[0, 4]).items()] + [
    (DemoFile, DEMO, 'size', [32, 10**9]), (DemoFile, DEMO, 'epochs', 10**12)] + [
    (CrossvalFile, CV, k, v) for k,v in dict(
        raw=None, k=1, valid=7, exams=[], seed='0', canvas='big').items()] + [
    (FoldFile, FOLD, k, v) for k,v in dict(
        flips='no', post='fill', data=1, weights='../x', scores=7).items()]

@pytest.mark.parametrize('schema,good,key,value', BAD)
def test_records(tmp_path, schema, good, key, value):
    f = write_json(tmp_path/'r.json', good)
    assert read_record(f, schema) == good
    write_json(f, {**good, key: value})
    one_line(lambda f: read_record(f, schema), f, key)

@pytest.mark.parametrize('text', ['[]', 'null', '{', '{"epochs": NaN}', '['*100_000, ''])
def test_records_that_are_none(tmp_path, text):
    f = write_text(tmp_path/'demo.json', text)
    one_line(lambda f: _settle(tmp_path, DEMO), f)
    assert f.read_text() == text
    f = f.rename(tmp_path/'summary.json')
    one_line(read_summary, f)

def test_splits(tmp_path):
    f = tmp_path/'split.csv'
    read = lambda f: read_rows(f, SplitRow, 'split', '', ['case'])
    assert len(read(write_text(f, 'case,split\na,train\nb,test\n'))) == 2
    for bad,says in (('a,train\na,test', 'in line 2 already'), ('a,later', "split is 'later'"),
                     (',test', "case is ''"), ('a', '1 cells')):
        one_line(read, write_text(f, f'case,split\n{bad}\n'), says)

@pytest.mark.parametrize('key,value', [('cases', -1), ('missed', '3'), ('how_scored', []),
                                       ('dice', 5), ('strata', {}), ('folds', 1)])
def test_summaries(tmp_path, key, value):
    f = write_json(tmp_path/'summary.json', summary(table(), split='test'))
    assert read_summary(f) == read_json(f)
    write_json(f, {**read_json(f), key: value})
    one_line(read_summary, f, key)

# Whose file

def test_ours_and_theirs(tmp_path, scores):
    s = summary(table())
    write_json(tmp_path/'summary.json', s)
    write_text(tmp_path/'summary.md', summary_markdown(s))
    save_report(tmp_path/'report.html', table())
    for name,kind in EVALUATION.items():
        f = tmp_path/name
        assert check_ours(f, kind) == f
        for text in ('{"a": 1}', '<!DOCTYPE html><title>fetal_seg</title>', 'case,dice\na,1\n'):
            f.write_text(text)
            one_line(lambda f: check_ours(f, kind), f, 'was not written by this command')
        f.rename(tmp_path/'theirs')
        f.symlink_to(tmp_path/'theirs')
        one_line(lambda f: check_ours(f, kind), f, 'link')
        with pytest.raises(InputError, match=re.escape(f'{f}: this is a link')):
            with results_folder(tmp_path): raise ValueError
        f.unlink()
    with pytest.raises(InputError, match='not written'):
        save_report(write_text(tmp_path/'report.html', '<p>mine'), table())

def test_nothing_is_left_of_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError):
        with results_folder(tmp_path/'out') as new: write_text(new/'scores.csv', str(1/0))
    assert not list(tmp_path.iterdir())
    for name in ('.results', '.results-placing'):
        (tmp_path/'out').mkdir(exist_ok=True)
        (tmp_path/'out'/name).symlink_to(tmp_path)
        with pytest.raises(InputError, match='no folder of ours'):
            with results_folder(tmp_path/'out'): pass
        (tmp_path/'out'/name).unlink()
    assert Path(tmp_path).exists()

def test_a_mask_of_another_size_is_drawn_as_missing(tmp_path, capsys):
    import numpy as np
    from PIL import Image
    from fetal_seg import cli
    for side,shape in (('truth', (48, 64)), ('pred', (48, 64))):
        (tmp_path/side).mkdir()
        for i in range(3):
            a = np.zeros(shape if i or side == 'truth' else (40, 40), np.uint8)
            a[10:30, 10:30] = 255
            Image.fromarray(a).save(tmp_path/side/f'{i}.png')
    argv = ['--pred', f'{tmp_path}/pred', '--truth', f'{tmp_path}/truth', '--count-missing',
            '--out', f'{tmp_path}/out']
    assert cli.evaluate(argv) == 1
    assert read_scores(tmp_path/'out'/'scores.csv').dice.tolist() == [0, 1, 1]
    for p in (tmp_path/'pred').iterdir(): p.write_bytes(b'no picture')
    capsys.readouterr()
    assert cli.evaluate(argv[:4] + ['--out', f'{tmp_path}/none']) == 2
    assert capsys.readouterr().err.count('\n') == 1 and not (tmp_path/'none').exists()
    assert json.loads((tmp_path/'out'/'summary.json').read_text())['cases'] == 3

@pytest.mark.parametrize('name', ['v.html', 'v.json'])
def test_verify_leaves_what_others_wrote(tmp_path, name, capsys):
    from fetal_seg import cli
    from fetal_seg.phantom import write_phantoms
    raw, f = write_phantoms(tmp_path/'raw', n=4,
                            shape=(32, 48)), write_text(tmp_path/name, '{"x":1}')
    argv = [str(raw), '--out', str(f), '--workers', '0']
    assert cli.verify(argv) == 2 and f.read_text() == '{"x":1}'
    assert f'{f}: this file was not written' in capsys.readouterr().err
    f.unlink()
    assert [cli.verify(argv), cli.verify(argv)] != [2, 2] and f.stat().st_size > 9
