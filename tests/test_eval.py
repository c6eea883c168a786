"""Evaluation as people meet it: classes and kinds of two folders, several masks a picture,
options that have no effect, intervals that are none."""
import json, re, warnings
from pathlib import Path
import numpy as np, pandas as pd, pytest
from PIL import Image
from fetal_seg import cli
from fetal_seg.core import InputError
from fetal_seg.data import LAYOUTS
from fetal_seg.detect import Froc, count_lesions
from fetal_seg.eval import (detected_line, evaluate_folders, folder_kinds, headline, list_masks,
                            open_folders, save_report, shown_intervals, summary, summary_markdown)
from fetal_seg.metrics import interval_text, score_case
from fetal_seg.predict import postprocess

def write(path, a):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(a, np.uint8)).save(path)

def scored(folder, *options):
    "What fetal_seg_eval returns for the folders pred and truth."
    return cli.evaluate(['--pred', str(folder/'pred'), '--truth', str(folder/'truth'), *options])

def box(value, top=10, left=10, size=20, shape=(48, 64)):
    a = np.zeros(shape, np.uint8); a[top:top+size, left:left+size] = value
    return a

def ring(shape=(48, 64)):
    y, x = np.mgrid[:shape[0], :shape[1]]
    r = np.hypot(y-24, x-32)
    return ((r < 18) & (r > 16))*255

@pytest.fixture
def classes(tmp_path):
    "Annotations of the classes 1 and 2; the last of 1 alone."
    for i in range(4):
        write(tmp_path/'truth'/f'{i}.png', box(1) + (box(2, left=40) if i < 3 else 0))
    return tmp_path

# Which class

def test_one_other_class_is_empty_and_not_foreground(classes):
    for i in range(4):
        mask = [box(2, left=40), box(1), box(1) + box(2, left=40), box(1)][i]
        write(classes/'pred'/f'{i}.png', mask)
    s, problems = evaluate_folders(classes/'pred', classes/'truth', region=2)
    assert s.dice.tolist() == [1, 0, 1, 1] and s.area.tolist()[1] == 0 and problems.empty
    assert s.area_truth.tolist()[3] == 0 and s.lesions_truth.tolist() == [1, 1, 1, 0]

def test_predictions_of_one_other_class_only(classes):
    "No file is of two values (0 and 255): read by label, empty, and a warning."
    for i in range(4): write(classes/'pred'/f'{i}.png', box(1))
    with pytest.warns(UserWarning, match=r'No prediction has the class 2 \(they have: 1\)'):
        s, _ = evaluate_folders(classes/'pred', classes/'truth', region=2)
    assert (s.area == 0).all() and s.dice.tolist() == [0, 0, 0, 1]

@pytest.mark.parametrize('side', ['pred', 'truth'])
def test_two_values_stand_for_the_class(classes, side, capsys):
    "0 and 255 on one side, labels on the other; an empty file among them changes nothing."
    (classes/'truth').rename(classes/('truth' if side == 'pred' else 'pred'))
    for i in range(4): write(classes/side/f'{i}.png', box(255*(i < 3), left=40))
    with pytest.warns(UserWarning, match='of two values') as told:
        s, _ = evaluate_folders(classes/'pred', classes/'truth', region='2')
    assert (s.dice == 1).all() and sum('of two values' in str(w.message) for w in told) == 1
    capsys.readouterr()
    assert scored(classes, '--region', '2', '--out', str(classes/'out')) == 0
    out, err = capsys.readouterr()
    assert err.count('of two values') == 1 and 'for the class 2' in out
    assert 'the class 2 (' not in out

@pytest.mark.parametrize('values', [(1, 1), (255, 1), (255, 255), (1, 255)])
def test_a_class_that_no_file_holds_is_refused(tmp_path, values, capsys):
    for i in range(3):
        write(tmp_path/'pred'/f'{i}.png', box(values[0]))
        write(tmp_path/'truth'/f'{i}.png', box(values[1]))
    assert scored(tmp_path, '--region', '7') == 2
    err = capsys.readouterr().err.strip()
    assert '\n' not in err and '--region: no annotation has the class 7' in err
    assert f'annotations have: {values[1]}' in err and 'or any' in err

def test_without_a_region_nothing_of_this_happens(tmp_path):
    for i in range(3):
        write(tmp_path/'pred'/f'{i}.png', box(1))
        write(tmp_path/'truth'/f'{i}.png', box(255))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for region in (None, 'any'):
            s, _ = evaluate_folders(tmp_path/'pred', tmp_path/'truth', region=region)
            assert (s.dice == 1).all()

# Outlines or filled masks

def names(ending, n=3): return {str(i): (Path(f'{i}{ending}.png'),) for i in range(n)}

@pytest.mark.parametrize('pred,truth,annotation,kinds',
                         [('_mask', '_Annotation', 'auto', ('filled', 'outline')),
                          ('', '', 'auto', ('filled', 'filled')),
                          ('_Annotation', '_Annotation', 'auto', ('outline', 'outline')),
                          ('_mask', '', 'outline', ('filled', 'outline')),
                          ('', '', 'outline', ('outline', 'outline')),
                          ('', '_Annotation', 'ellipse', ('filled', 'ellipse')),
                          ('_mask', '_mask', 'filled', ('filled', 'filled')),
                          ('_Annotation', '_mask', 'filled', ('outline', 'filled'))])
def test_kinds_of_two_folders(pred, truth, annotation, kinds):
    assert tuple(k for k,_ in folder_kinds(names(pred), names(truth), annotation)) == kinds

def test_a_prediction_is_never_closed_or_fitted(tmp_path):
    "Thin, bent and hollow predictions beside outlines, declared or not."
    odd = [ring(), box(255, 5, 5, 3) + box(255, 40, 55, 3), np.eye(48, 64)*255,
           np.pad(ring()[:30], ((0, 18), (0, 0)))]
    for i, m in enumerate(odd):
        write(tmp_path/'pred'/f'{i}_mask.png', m)
        write(tmp_path/'truth'/f'{i}.png', ring())
    for annotation in ('auto', 'outline', 'ellipse', 'filled'):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            s, problems = evaluate_folders(tmp_path/'pred', tmp_path/'truth', annotation=annotation)
        assert problems.empty, annotation
        assert (s.tp + s.fp).tolist() == [np.count_nonzero(m) for m in odd], annotation

def test_outlines_against_themselves(tmp_path):
    for i in range(3):
        write(tmp_path/'raw'/f'{i}_Annotation.png', ring())
        write(tmp_path/'raw'/f'{i}.png', box(90))
        write(tmp_path/'plain'/f'{i}.png', ring())
    s, problems = evaluate_folders(tmp_path/'raw', tmp_path/'raw')
    # filled on both sides
    assert (s.dice == 1).all() and len(s) == 3 and problems.empty and (s.area > 0.3).all()
    s, _ = evaluate_folders(tmp_path/'plain', tmp_path/'plain', annotation='outline')
    assert (s.area > 0.3).all()

def test_kinds_are_printed_and_doubtful_ones_warned_of(tmp_path, capsys):
    for i in range(4):
        write(tmp_path/'pred'/f'{i}_mask.png', box(255, size=30))
        write(tmp_path/'truth'/f'{i}.png', ring())
    assert scored(tmp_path, '--out', str(tmp_path/'out')) == 0
    out, err = capsys.readouterr()
    lines = [l for l in out.splitlines() if l.startswith(('predictions: ', 'annotations: '))]
    assert len(lines) == 2 and all('filled masks' in l for l in lines)
    assert json.loads((tmp_path/'out'/'summary.json').read_text())['how_scored']['read_as'] == lines
    assert '4 of 4 annotations enclose more than they draw' in err and '--annotation outline' in err
    assert 'predictions enclose' not in err
    assert scored(tmp_path, '--annotation', 'outline') == 0
    out, err = capsys.readouterr()
    assert 'annotations: outlines' in out and 'predictions: filled' in out and 'warning' not in err
    with pytest.warns(UserWarning,
                      match='4 of 4 predictions enclose .* call their files NAME_Annotation'):
        evaluate_folders(tmp_path/'truth', tmp_path/'pred')
    says = 'Taken as outlines .* 4 of 4 annotations are solid.*--annotation filled'
    with pytest.warns(UserWarning, match=says):
        evaluate_folders(tmp_path/'truth', tmp_path/'pred', annotation='outline')

# Several masks of a picture

@pytest.mark.parametrize('several', ['pred', 'truth', 'both'])
def test_masks_of_one_picture_are_united(tmp_path, several):
    a, b = box(255), box(255, 10, 40)
    for side in ('pred', 'truth'):
        folder = tmp_path/side/('benign' if side == 'truth' else '')
        if several in (side, 'both'):
            write(folder/'benign (1)_mask.png', a)
            write(folder/'benign (1)_mask_1.png', b)
        else: write(folder/'benign (1)_mask.png', a | b)
        write(folder/'benign (1).png', box(99))
    s, problems = evaluate_folders(tmp_path/'pred', tmp_path/'truth')
    assert s.case.tolist() == ['benign (1)'] and s.dice[0] == 1 and s.lesions_truth[0] == 2
    assert problems.empty

def test_masks_of_one_picture_in_two_sizes_and_in_two_folders(tmp_path):
    for d in ('pred', 'truth'):
        write(tmp_path/d/'x_mask.png', box(255))
        write(tmp_path/d/'y_mask.png', box(255))
    write(tmp_path/'pred'/'x_mask_1.png', np.zeros((8, 8)))
    s, problems = evaluate_folders(tmp_path/'pred', tmp_path/'truth')
    assert s.case.tolist() == ['y']
    says = 'x_mask_1.png: 8x8 pixels, but x_mask.png, a mask of the same picture, has 64x48'
    assert problems.reason[0].startswith(says)
    write(tmp_path/'truth'/'sub'/'x_mask_1.png', box(255))
    with pytest.raises(InputError, match='2 files stand for the case x'):
        list_masks(tmp_path/'truth', ('_mask', ''))

# What has no effect is refused

@pytest.mark.parametrize('option', [['--region', '2'], ['--annotation', 'filled']])
def test_options_of_folders_beside_a_run(option, capsys):
    assert cli.evaluate(['--run', 'run', '--prepared', 'prepared', *option]) == 2
    err = capsys.readouterr().err.strip()
    assert '\n' not in err and option[0] in err and 'give it to fetal_seg_prepare' in err

# FROC

def test_froc_does_not_know_the_steps():
    "Two candidates, of which every step after the threshold would drop one: the curve has both."
    heat = box(1)*0.95 + box(1, 2, 50, 6)*0.5
    truth = box(1, 2, 50, 6)
    for steps in (('sure:0.9',), ('largest',), ('specks:0.02',)):
        cut = Froc(lambda h, l: postprocess(h > l, steps, h)); cut.add(heat, truth, 'a')
        assert cut.figures()['candidates'] == 1 and cut.curve().sensitivity.iloc[-1] == 0
    froc = Froc(); froc.add(heat, truth, 'a')
    assert froc.figures()['candidates'] == 2 and froc.curve().sensitivity.iloc[-1] == 1

def lesions(n=12, exams=None):
    rows = []
    for i in range(n):
        t = box(1)*(i % 3 > 0) + box(1, 10, 40)*(i % 3 > 1)
        m = box(1)*(i % 4 > 0)
        rows.append(dict(case=f'c{i}', exam=f'e{i}' if exams is None else exams, heat_max=0.9,
                         **score_case(m, t), **count_lesions(m, t)))
    return pd.DataFrame(rows)

def test_the_report_says_what_the_curve_is_of(tmp_path):
    froc = Froc()
    for i in range(12): froc.add(box(1)*0.9, box(1)*(i % 2), f'e{i}')
    page = save_report(tmp_path/'r.html', lesions(), froc=froc).read_text()
    assert 'without the steps that follow the threshold' in page

# Intervals

def test_intervals_that_are_none(tmp_path):
    s = lesions(n=9)
    none = {'one exam': s.assign(exam='a'), 'one case': s[:1],
            'all equal': s.assign(dice=0.5, iou=0.25)}
    for kind, t in none.items():
        t = t.reset_index(drop=True)
        m = summary(t)
        texts = [cli.scores_text(json.loads(json.dumps(m))),
                 save_report(tmp_path/'r.html', t).read_text(), summary_markdown(m),
                 ' '.join(str(c) for c in headline(m))]
        says = 'no interval: one exam'
        if kind == 'all equal': says = 'every draw of exams gives the same'
        for text in texts:
            assert 'nan to nan' not in text, kind
            assert not re.search(r'(?:interval|exams) 0\.50+ to 0\.50+\b', text), kind
        for text in (texts[0], texts[1], texts[3]):
            assert says in text, kind
    assert interval_text(1., 1.) == 'no interval: every draw of exams gives the same'
    assert interval_text(.25, .5, '.2f', 'from ') == 'from 0.25 to 0.50'
    t = shown_intervals(pd.DataFrame(dict(low=[.1, .5, None], high=[.2, .5, None])))
    assert t.low.notna().tolist() == [True, False, False]
    assert t.high.notna().tolist() == [True, False, False]

def test_one_is_no_plural(tmp_path, capsys):
    write(tmp_path/'pred'/'x.png', box(255)); write(tmp_path/'truth'/'x.png', box(255))
    assert scored(tmp_path, '--out', str(tmp_path/'out')) == 0
    files = [(tmp_path/'out'/n).read_text() for n in ('report.html', 'summary.md')]
    plural = r'(?<![\d.])1 (cases|exams|pictures|seen cases|test cases)\b'
    for text in (capsys.readouterr().out, *files):
        assert not re.search(plural, text) and '1 case of 1 exam' in text

# Detection

def test_detection_is_in_the_summary_and_at_the_end():
    m = json.loads(json.dumps(summary(lesions())))
    d = m['detection']
    assert {'sensitivity', 'specificity', 'false_positives', 'lesions', 'lesions_found'} <= set(d)
    want = (f'{d["lesions_found"]} of {d["lesions"]} found, {d["false_positives"]["mean"]:.2f} '
            f'false a picture; sensitivity {d["sensitivity"]["mean"]:.2f} over 8 pictures; '
            'specificity')
    assert detected_line(d).startswith(want)
    assert cli.scores_text(m).splitlines()[-1].startswith('lesions: ' + want)

# Helps

@pytest.mark.parametrize('command', ['demo', 'prepare', 'verify', 'crossval', 'train', 'evaluate'])
def test_helps_list_what_there_is(command, monkeypatch):
    from fetal_seg.train import PRESETS
    made, real = [], cli.get_parser
    monkeypatch.setattr(cli, 'get_parser', lambda *a: made.append(real(*a)) or made[-1])
    with pytest.raises(SystemExit): getattr(cli, command)(['--help'])
    helps = {o: a.help for a in made[0]._actions for o in a.option_strings}
    layouts = ('kaggle', 'hc18', 'folders', 'busi', 'nnunet', 'labelme', 'coco', 'via', 'cvat')
    assert set(layouts) <= set(LAYOUTS) and {'--layout', '--preset', '--region'} & set(helps)
    if '--layout' in helps: assert all(l in helps['--layout'] for l in layouts)
    if '--preset' in helps: assert all(p in helps['--preset'] for p in PRESETS)
    if '--region' in helps:
        assert 'a value such as 2' in helps['--region'] and 'or any' in helps['--region']
        assert "label's name" in helps['--region'] or command == 'evaluate'

# Which files of a folder are masks

@pytest.mark.parametrize('files,cases', [
    ('a b c d_mask', 'abcd'), ('a_mask b_mask c d_Annotation', 'abcd'),
    ('a b c d e f g h i p_mask', 'abcdefghip'), ('a b', 'ab'), ('a_mask a b_mask b', 'ab')])
def test_names_may_be_mixed(tmp_path, files, cases, capsys):
    for side in ('pred', 'truth'):
        for name in files.split(): write(tmp_path/side/f'{name}.png', box(255))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        s, problems = evaluate_folders(tmp_path/'pred', tmp_path/'truth')
        assert ''.join(sorted(s.case)) == cases and (s.dice == 1).all() and problems.empty
    s, problems = evaluate_folders(tmp_path/'truth', tmp_path/'truth')
    assert ''.join(sorted(s.case)) == cases and problems.empty

def test_what_is_passed_over_is_named(tmp_path, capsys):
    for name in ('a_mask', 'b_mask'): write(tmp_path/'truth'/f'{name}.png', box(255))
    for name in ('a', 'a_mask', 'b', 'c'): write(tmp_path/'pred'/f'{name}.png', box(255))
    assert scored(tmp_path) == 1
    out, err = capsys.readouterr()
    assert '1 case of 1 exam' in out and 'Passed over in' in err and '2 files (b.png, c.png)' in err
    assert '2 cases: passed over among the predictions' in out and '(b, c)' in out

def test_annotations_beside_predictions_are_no_predictions(tmp_path):
    "Predictions written into a dataset: what is not predicted yet is not scored against itself."
    for i in range(3):
        write(tmp_path/'raw'/f'{i}.png', box(90))
        write(tmp_path/'raw'/f'{i}_Annotation.png', ring())
    write(tmp_path/'raw'/'0_mask.png', box(255))
    with pytest.warns(UserWarning, match='Passed over'):
        s, problems = evaluate_folders(tmp_path/'raw', tmp_path/'raw')
    assert s.case.tolist() == ['0'] and {'1', '2'} == set(problems.case)

# Classes, one a file

@pytest.mark.parametrize('side', ['pred', 'truth'])
def test_classes_one_a_file_are_refused(tmp_path, side, capsys):
    other = 'truth' if side == 'pred' else 'pred'
    for i in range(6):
        write(tmp_path/side/f'{i}.png', box(1 + i % 2))
        write(tmp_path/other/f'{i}.png', box(255))
    assert scored(tmp_path) == 2
    err = capsys.readouterr().err.strip()
    assert '\n' not in err and f'{side}: 2 classes over the dataset, one a file' in err
    assert '--region any' in err and scored(tmp_path, '--region', 'any') == 0

def test_several_classes_beside_one_are_refused(tmp_path, capsys):
    for i in range(8):
        write(tmp_path/'pred'/f'{i}.png', box(2, left=40))
        write(tmp_path/'truth'/f'{i}.png', box(1) + (box(2, left=40) if i < 4 else 0))
    assert scored(tmp_path) == 2
    err = capsys.readouterr().err.strip()
    assert 'truth: 4 of 8 annotations with several classes (1, 2)' in err and '--region 2' in err
    assert scored(tmp_path, '--region', '2') == 0

# A dataset in the place of its masks

@pytest.mark.parametrize('kinds,masks', [(('images', 'masks'), 'masks'),
                                         (('images', 'masks', 'full_masks'), 'full_masks')])
@pytest.mark.parametrize('side', ['pred', 'truth'])
def test_the_folder_of_the_masks_is_named(tmp_path, kinds, masks, side, capsys):
    for i in range(2):
        for d in ('pred', 'truth'):
            for k in kinds if d == side else ['']: write(tmp_path/d/k/f'p{i}.png', box(255))
    assert scored(tmp_path) == 2
    err = capsys.readouterr().err.strip()
    assert err.endswith(f'name the folder of the masks: {tmp_path/side/masks}')
    assert 'keep one' not in err

# English

def test_one_is_no_plural_in_messages(tmp_path, capsys):
    write(tmp_path/'pred'/'x_Annotation.png', box(255))
    write(tmp_path/'truth'/'x.png', ring())
    assert scored(tmp_path) == 0
    err = capsys.readouterr().err
    assert '1 of 1 prediction is solid' in err
    assert '1 of 1 annotation encloses more than it draws' in err
    assert cli.evaluate([]) == 2
    assert capsys.readouterr().err.count('fetal_seg_eval: ') == 1

def test_heatmaps_beside_masks_are_no_masks(tmp_path):
    "What `predict_files` writes: only the masks are scored, and nothing is said of the others."
    for f in ('pred', 'truth'): (tmp_path/f).mkdir()
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 5:20] = 255
    for name in ('a', 'b'):
        Image.fromarray(mask).save(tmp_path/'truth'/f'{name}.png')
        for kind in ('mask', 'heatmap', 'overlay'):
            Image.fromarray(mask).save(tmp_path/'pred'/f'{name}_{kind}.png')
    scores, problems = evaluate_folders(tmp_path/'pred', tmp_path/'truth')
    assert (len(scores), len(problems), scores.dice.min()) == (2, 0, 1)
