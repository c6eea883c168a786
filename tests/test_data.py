"Cases, exams and splits in bulk: random folders of every layout, and what must hold of them all."
import os, warnings
from pathlib import Path
import numpy as np, pandas as pd, pytest
from PIL import Image
from fetal_seg.core import InputError
from fetal_seg import data
from fetal_seg.data import (LAYOUTS, Layout, add_exams, add_fingerprints, add_layout, find_cases,
                            fold_cases, given_exams, hash_distances, join_exams, match_table,
                            provenance, read_pair, read_raw, split_cases, torn_exams)

# Random folders. Each maker gives the pairs that must be found, {image: annotation}, and the
# other files, {file: kind}; the oracle is how the folder was made.

def pick(rng, options): return options[rng.integers(len(options))]

def kaggle(rng):
    top, splits = pick(rng, ['', 'Data/Data/', 'a b/Datasets/']), ['train', 'validation', 'test']
    pairs, others = {}, {}
    for i in range(rng.integers(2, 30)):
        stem = f'{i}_{pick(rng, ["", "2", "3"])}HC'
        label = pick(rng, ['malignant', 'malignant', 'Benign', 'normal'])
        suffix = pick(rng, ['.png', '.PNG', '.jpg'])
        at = lambda split, end, ext=suffix: f'{top}{split}/{label}/{stem}{end}{ext}'
        one, two, three = (str(s) for s in rng.permutation(splits))
        kind = pick(rng, [
            'same', 'across', 'across', 'alone', 'orphan', 'twins', 'copy', 'unclear', 'whose',
            'which', 'overlay', 'foreign'
        ])
        pairs |= dict(same={at(one, ''): at(one, '_Annotation')},
                      across={at(one, ''): at(two, '_Annotation').replace(label, label.upper())},
                      copy={at(one, ''): at(two, '_Annotation')},
                      twins={at(s, ''): at(s, '_Annotation') for s in (one, two)},
                      overlay={at(one, ''): at(two, '_annotation')}).get(kind, {})
        others |= dict(
            alone={at(one, ''): 'unannotated'}, orphan={at(one, '_Annotation'): 'orphan'},
            copy={at('Copies', ''): 'unannotated'}, overlay={at(one, '_overlay'): 'overlay'},
            unclear=dict.fromkeys(
                [at(one, ''), at(one, '_Annotation'), at(one, '_Annotation', '.bmp')], 'ambiguous'),
            whose=dict.fromkeys([at(one, ''), at(two, ''), at(three, '_Annotation')], 'ambiguous'),
            which=dict.fromkeys(
                [at(one, ''), at(two, '_Annotation'), at(three, '_Annotation')], 'ambiguous'),
            foreign=dict.fromkeys([f'{top}{one}/{label}/benign ({i})_mask.png',
                                   f'{top}notes {i}.txt', f'cover {i}.png'],
                                  'foreign')).get(kind, {})
    return pairs, others

def hc18(rng):
    top, pairs, others = pick(rng, ['', 'HC18/']), {}, {'readme.md': 'foreign'}
    for i in range(rng.integers(2, 30)):
        stem = f'{i:03d}_{pick(rng, ["", "2"])}HC'
        if rng.random() < 0.7:
            pairs[f'{top}training_set/{stem}.png'] = f'{top}training_set/{stem}_Annotation.png'
        else: others[f'{top}{pick(rng, ["training_set", "test_set"])}/{stem}.png'] = 'unannotated'
        if rng.random() < 0.2: others[f'{top}test_set/{i:03d}_HC.png'] = 'unannotated'
    return pairs, others

def folders(rng):
    splits = pick(rng, [[''], ['train/', 'val/', 'test/'], ['Training/', 'validation/']])
    below, end = rng.random() < 0.5, pick(rng, ['', '_mask', '_label'])
    i_dir, a_dir = pick(rng, [('images', 'masks'), ('image', 'annotations'), ('imgs', 'labels')])
    at = (lambda role, s: f'{role}/{s}') if below else (lambda role, s: f'{s}{role}/')
    pairs, others = {}, {}
    for i in range(rng.integers(2, 30)):
        stem, s = pick(rng, ['p', 'scan ', 'x.y.'])+str(rng.integers(12)), pick(rng, splits)
        image, annotation = f'{at(i_dir, s)}{stem}.tif', f'{at(a_dir, s)}{stem}{end}.png'
        if image in pairs or image in others or annotation in others: continue
        kind = pick(rng, ['pair', 'pair', 'image', 'annotation'])
        if kind == 'pair': pairs[image] = annotation
        else: others |= {image: 'unannotated'} if kind == 'image' else {annotation: 'orphan'}
    return pairs, others

def busi(rng):
    pairs, others = {}, {}
    for i in range(rng.integers(2, 20)):
        label = pick(rng, ['benign', 'malignant', 'normal'])
        at = lambda end, label=label: f'BUSI/{label}/{label} ({i}){end}.png'
        n = rng.integers(4)
        if n: pairs[at('')] = '|'.join(at('_mask' + (f'_{k}' if k else '')) for k in range(n))
        else: others[at('')] = 'unannotated'
    return pairs, others

def files_of(pairs, others):
    return [*pairs, *(a for aa in pairs.values() for a in aa.split('|')), *others]

MAKERS = dict(kaggle=kaggle, hc18=hc18, folders=folders, busi=busi)

def write_empty(folder, files):
    for f in files:
        (folder/f).parent.mkdir(parents=True, exist_ok=True)
        (folder/f).touch()

@pytest.mark.parametrize('layout', MAKERS)
@pytest.mark.parametrize('seed', range(40))
def test_every_file_is_somewhere_once(layout, seed, tmp_path):
    pairs, others = MAKERS[layout](np.random.default_rng([seed, len(layout)]))
    files = files_of(pairs, others)
    write_empty(tmp_path, files)
    if not pairs:
        with pytest.raises(InputError, match='no picture|no image with an annotation'):
            find_cases(tmp_path)
        return
    cases, left = find_cases(tmp_path)
    assert set(cases.layout) == {layout}
    assert dict(zip(cases.image, cases.annotation)) == pairs
    assert dict(zip(left.file, left.kind)) == others
    used = [*cases.image, *(a for aa in cases.annotation for a in aa.split('|')), *left.file]
    assert sorted(used) == sorted(files), 'a file is lost, or is there twice'
    assert len({c.lower() for c in cases.case}) == len(cases)
    assert all(left.reason) and all(left.remedy)
    assert list(cases.case) == sorted(cases.case, key=data.name_key)

@pytest.mark.parametrize('seed', range(20))
def test_mixed_layouts_lose_nothing(seed, tmp_path):
    "Whatever lies about: the layout with most pairs wins, and the files of the others are listed."
    rng = np.random.default_rng([seed, 77])
    files = [
        f'{i}/{f}' for i, m in enumerate(rng.permutation(list(MAKERS))[:3])
        for f in files_of(*MAKERS[m](rng))
    ]
    files += ['.DS_Store', 'Icon\r', 'a|b.png', '.1_HC.png']
    write_empty(tmp_path, files)
    counts = {
        l.name: len(data.pair_files(data.list_files(tmp_path), l)[0])
        for l in LAYOUTS.values()
    }
    cases, left = find_cases(tmp_path)
    assert len(cases) == max(counts.values()) and counts[cases.layout[0]] == len(cases)
    used = [*cases.image, *(a for aa in cases.annotation for a in aa.split('|')), *left.file]
    assert sorted(used) == sorted({f.replace('\r', '?') for f in files})

def test_same_name_everywhere(tmp_path):
    "A name in every folder, in capitals and not, with two endings: still one name a case."
    files = [
        f'{p}/{role}/{n}' for p in ('p1', 'p2', 'q/p1') for role in ('images', 'masks')
        for n in ('001.png', 'A.png', 'p1__001.png')
    ]
    files += ['p1/images/a.tif', 'p1/masks/a_mask.png']
    write_empty(tmp_path, files)
    cases, left = find_cases(tmp_path)
    assert len(cases) + len(left)//2 == len(files)//2
    assert len({c.lower() for c in cases.case}) == len(cases)

@pytest.mark.parametrize('name', ['flat', 'one name', 'one group'])
def test_ten_thousand_files(name, tmp_path):
    "Every one is paired with its own and has a name of its own, even where all files share a name."
    n = 5000
    if name == 'flat':
        files = [
            f for i in range(n)
            for f in (f'train/malignant/{i}_HC.png', f'test/malignant/{i}_HC_Annotation.png')
        ]
    elif name == 'one name':
        files = [f for i in range(n) for f in (f'p{i}/images/1.png', f'p{i}/masks/1.png')]
    else:
        files = [
            f for i in range(n)
            for f in (f's{i}/malignant/1_HC.png', f's{i}/malignant/1_HC_Annotation.png')
        ]
    write_empty(tmp_path, files)
    cases, left = find_cases(tmp_path)
    assert (len(cases), len(left)) == (n, 0) and cases.case.is_unique

def test_links(tmp_path):
    "A folder that a link leads to is read; a link back to the top ends nowhere."
    write_empty(tmp_path/'elsewhere', ['images/a.png', 'masks/a.png'])
    (tmp_path/'raw').mkdir()
    (tmp_path/'raw'/'data').symlink_to(tmp_path/'elsewhere')
    (tmp_path/'elsewhere'/'back').symlink_to(tmp_path/'raw')
    cases, left = find_cases(tmp_path/'raw')
    assert (list(cases.image), len(left)) == (['data/images/a.png'], 0)

@pytest.mark.skipif(os.name == 'nt' or not hasattr(os, 'geteuid') or os.geteuid() == 0,
                    reason='may read everything')
def test_folder_that_may_not_be_read(tmp_path):
    write_empty(tmp_path, ['images/a.png', 'masks/a.png', 'locked/b.png'])
    (tmp_path/'locked').chmod(0)
    try:
        with pytest.raises(InputError, match='cannot be listed'): find_cases(tmp_path)
    finally: (tmp_path/'locked').chmod(0o755)

def test_own_layout_wins_ties_and_can_be_replaced(tmp_path):
    write_empty(tmp_path, ['images/a.png', 'masks/a.png'])
    before = dict(LAYOUTS)
    try:
        add_layout(Layout('mine', '', r'images/(?P<stem>.+)', r'masks/(?P<stem>.+)',
                          exam=r'/(.)\.'))
        assert set(find_cases(tmp_path)[0].layout) == {'mine'}
        assert set(find_cases(tmp_path, 'folders')[0].layout) == {'folders'}
        cases = find_cases(tmp_path)[0].assign(image_sha256='', annotation_sha256='', dhash='5'*16)
        assert set(add_exams(cases).exam) == {'name-a'}
        add_layout(Layout('mine', '', r'x/(?P<stem>.+)', r'y/(?P<stem>.+)'))
        assert set(find_cases(tmp_path)[0].layout) == {'folders'} and len(LAYOUTS) == 10
    finally:
        LAYOUTS.clear()
        LAYOUTS.update(before)

# Reading a pair

def save(path, img, **kw):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(img).save(path, **kw)
    return path

def test_pair_reads_each_file_once(tmp_path, monkeypatch):
    img = np.random.default_rng(0).integers(0, 256, (20,30), dtype=np.uint8)
    a, b = np.zeros((2,20,30), np.uint8)
    a[:5], b[10:] = 255, 1
    save(tmp_path/'x.png', img)
    save(tmp_path/'x_mask.png', a)
    save(tmp_path/'x_mask_1.png', b)
    save(tmp_path/'x_mask_2.png', a)
    (case,), _ = (o.to_dict('records') for o in find_cases(tmp_path))
    reads, decodes = [], []
    read_bytes, read_picture = data.read_bytes, data.read_picture
    monkeypatch.setattr(data, 'read_bytes', lambda p, *a: (reads.append(p.name), read_bytes(p))[1])
    read_classed = data.read_classed
    monkeypatch.setattr(data, 'read_picture', lambda p, d=None:
                        (decodes.append(p.name), read_picture(p, d))[1])
    monkeypatch.setattr(
        data, 'read_classed', lambda p, d=None, r=None:
        (decodes.append(p.name), read_classed(p, d, r))[1])
    got, ann, facts = read_pair(tmp_path, case)
    assert sorted(reads) == sorted(decodes) == [
        'x.png', 'x_mask.png', 'x_mask_1.png', 'x_mask_2.png'
    ]
    assert (got == img).all() and (ann == (a | b > 0)).all()
    one = read_pair(tmp_path, dict(image='x.png', annotation='x_mask.png'))[2]
    assert facts['image_sha256'] == one['image_sha256']
    assert facts['annotation_sha256'] != one['annotation_sha256']

def test_same_pixels_in_other_files(tmp_path):
    "One picture in five formats has one digest of pixels; 0/1 and 0/255 are one annotation."
    img = np.random.default_rng(1).integers(0, 256, (20,30), dtype=np.uint8)
    ann = np.zeros((20,30), np.uint8); ann[4:9] = 1
    save(tmp_path/'a.png', img)
    save(tmp_path/'b.tif', img)
    save(tmp_path/'c.bmp', img)
    save(tmp_path/'d.png', np.stack([img]*3, 2))
    save(tmp_path/'e.webp', np.stack([img]*3, 2), lossless=True)
    save(tmp_path/'one.png', ann)
    save(tmp_path/'two.png', ann*255)
    save(tmp_path/'three.png', ann > 0)
    facts = [
        read_pair(tmp_path, dict(image=i, annotation=a))[2]
        for i in ('a.png', 'b.tif', 'c.bmp', 'd.png', 'e.webp')
        for a in ('one.png', 'two.png', 'three.png')
    ]
    n = {k: len({f[k] for f in facts}) for k in facts[0] if k.endswith('sha256')}
    assert n == dict(image_sha256=1, annotation_sha256=1, image_file_sha256=5,
                     annotation_file_sha256=3)

def test_faulty_files_are_one_error(tmp_path):
    for i in range(9):
        save(tmp_path/f'images/{i}.png', np.zeros((8, 8), np.uint8))
        save(tmp_path/f'masks/{i}.png', np.zeros((8, 8), np.uint8))
    cases, _ = find_cases(tmp_path)
    (tmp_path/'images'/'2.png').unlink()
    save(tmp_path/'masks'/'4.png', np.zeros((8, 9), np.uint8))
    (tmp_path/'masks'/'7.png').write_bytes(b'')
    with pytest.raises(InputError,
                       match='2.png.*no such file.*2 more files have faults: 4.png, 7.png'):
        add_fingerprints(cases, tmp_path)

# Exams

def strangers(n, rng):
    "Cases that no table knows."
    hashes = rng.integers(0, 256, (n,8), dtype=np.uint8)
    return pd.DataFrame(
        dict(case=[f'c{i}' for i in range(n)], image=[f'p{i//3}/c{i}.png' for i in range(n)],
             image_sha256=[f'{i:064x}' for i in range(n)], annotation_sha256='',
             dhash=[h.tobytes().hex() for h in hashes]))

def test_hash_distances_by_counting_bits():
    rng = np.random.default_rng(0)
    a, b = ([h.tobytes().hex() for h in rng.integers(0, 256, (n, 8), dtype=np.uint8)]
            for n in (40, 30))
    bits = lambda x, y: bin(int(x, 16) ^ int(y, 16)).count('1')
    assert (hash_distances(a, b) == [[bits(x, y) for y in b] for x in a]).all()

def test_match_by_hash_against_brute_force():
    "Each row, with 0 to 8 bits turned over: found at up to 3, unless two exams are that near."
    rng, table = np.random.default_rng(0), provenance()
    flips = rng.integers(0, 9, len(table))
    turned = [
        f'{int(h, 16) ^ sum(1 << int(b) for b in rng.choice(64, n, replace=False)):016x}'
        for h, n in zip(table.dhash, flips)
    ]
    m = match_table(pd.DataFrame(dict(image_sha256='', annotation_sha256='', dhash=turned)), table)
    for h,exam,source in zip(turned, m.exam, m.exam_source):
        near = {
            e
            for e, t in zip(table.exam, table.dhash)
            if bin(int(h, 16) ^ int(t, 16)).count('1') <= 3
        }
        assert (exam, source) == ((near.pop(), 'table:dhash') if len(near) == 1 else (None, None))
    assert (m.exam[flips <= 3] == table.exam[flips <= 3]).all()

def test_a_hash_near_two_exams_says_nothing():
    table = provenance().iloc[:3].assign(exam=['1', '1', '2'],
                                         dhash=[f'{h:016x}' for h in (0, 0b1, 0b11111)])
    # the third is 3, 2 and 2 bits away: of which exam is it?
    hashes = [f'{h:016x}' for h in (0, 1<<63, 0b111, 0xff, 2**64-1)]
    m = match_table(pd.DataFrame(dict(image_sha256='', annotation_sha256='', dhash=hashes)), table)
    assert m.exam.tolist() == ['1', '1', None, '2', None]

def test_match_table_finds_999_among_ten_thousand():
    rng, table = np.random.default_rng(0), provenance()
    cases = strangers(10_000, rng)
    known = rng.choice(10_000, 999, replace=False)
    cases.loc[known[:333], 'image_sha256'] = table.pixels_sha256[:333].tolist()
    cases.loc[known[333:666], 'annotation_sha256'] = table.annotation_sha256[333:666].tolist()
    cases.loc[known[666:], 'dhash'] = table.dhash[666:].tolist()
    m = match_table(cases, table)
    assert m.exam[known].tolist() == table.exam.tolist() and m.exam.notna().sum() == 999
    by = ['table:image']*333 + ['table:annotation']*333 + ['table:dhash']*333
    assert m.exam_source[known].tolist() == by
    order = rng.permutation(10_000)
    pd.testing.assert_frame_equal(match_table(cases.iloc[order], table), m.iloc[order])

def test_missing_fingerprints_match_nothing():
    cases = pd.DataFrame(
        dict(case=['a', 'b'], image=['a.png', 'b.png'], image_sha256=[None, np.nan],
             annotation_sha256=[None, np.nan], dhash=[None, np.nan]))
    with pytest.warns(UserWarning, match='cannot be ruled out'):
        assert list(add_exams(cases).exam) == ['case-a', 'case-b']

@pytest.mark.parametrize('seed', range(30))
def test_no_exam_is_torn_by_a_second_rule(seed):
    "The unknown of a group join a known exam of it; what was known stays, in any order of rows."
    rng = np.random.default_rng(seed)
    n = 60
    group = [pick(rng, [None, *'abcdefgh']) for _ in range(n)]
    exam = [f'hc18-{g}{rng.integers(2)}' if g and rng.random() < 0.3 else None for g in group]
    source = [e and 'table:image' for e in exam]
    names = [f'{i}_HC' for i in rng.permutation(n)]
    got, how = join_exams(exam, source, 'csv', group, names)
    for g in 'abcdefgh':
        rows = [i for i in range(n) if group[i] == g]
        known = {exam[i] for i in rows} - {None}
        for i in rows:
            if exam[i]: assert (got[i], how[i]) == (exam[i], 'table:image')
            elif known: assert got[i] in known and how[i] == 'table:csv'
            else: assert (got[i], how[i]) == (g, 'csv')
    assert all(got[i] is None and how[i] is None for i in range(n) if group[i] is None)
    order = rng.permutation(n)
    again = join_exams(*([o[i] for i in order] for o in (exam, source)), 'csv',
                       *([o[i] for i in order] for o in (group, names)))
    assert again[0] == [got[i] for i in order]

def test_a_strangers_exam_does_not_depend_on_its_name():
    cases = strangers(50, np.random.default_rng(0))
    renamed = cases.assign(case=cases.case.str[::-1], image='z/' + cases.image).iloc[::-1]
    with pytest.warns(UserWarning, match='The exam of 50 of 50 cases is not known'):
        a, b = add_exams(cases), add_exams(renamed)
    assert list(a.exam) == list(b.exam[::-1]) and set(a.exam_source) == {'none'}

def test_exams_csv_as_people_write_them(tmp_path):
    cases = strangers(30, np.random.default_rng(0))
    exams = [f'{i//3:03d}' for i in range(30)]
    rows = pd.DataFrame(dict(image=cases.image, exam=exams, note='x, y'))
    for i, (t, kw) in enumerate([
        (rows, {}), (rows.sample(frac=1, random_state=0), {}), (pd.concat([rows, rows]), {}),
        (rows, dict(encoding='utf-8-sig')),
        (rows.assign(image=cases.image.str.replace('/', '\\')), {}),
        (rows.assign(image=cases.image.str.split('/').str[1]), {}),
        (rows.rename(columns=dict(image='case', note=' note ')).assign(case=cases.case + ' '), {})
    ]):
        t.to_csv(tmp_path/f'{i}.csv', index=False, **kw)
        assert given_exams(cases, str(tmp_path/f'{i}.csv')) == ('csv', [f'csv-{e}' for e in exams])
    rows.iloc[:10].to_csv(tmp_path/'part.csv', index=False)
    with pytest.warns(UserWarning, match='The exam of 20 of 30 cases'):
        part = add_exams(cases, exams=tmp_path/'part.csv')
    assert part.exam_source.value_counts().to_dict() == dict(none=20, csv=10)

@pytest.mark.parametrize('text,said',
                         [('', 'no readable CSV'), ('\0\1\2', 'byte 0 is zero'),
                          ('case|exam\nc1|1\n', 'it needs exam, and commas'),
                          ('exam\n1\n', 'it needs case'), ('case,exam\n', 'none of its 0 rows'),
                          ('case,exam\nc1,\n', 'none of its 1 rows'),
                          ('case,exam\nc1,1\nc1,2\n', 'twice, with different exam .first: c1')])
def test_exams_csv_that_cannot_be_used(text, said, tmp_path):
    (tmp_path/'exams.csv').write_text(text)
    with pytest.raises(InputError, match=said) as e:
        add_exams(strangers(5, np.random.default_rng(0)), exams=str(tmp_path/'exams.csv'))
    assert e.value.path == str(tmp_path/'exams.csv') and '\n' not in str(e.value)

def test_exams_csv_in_another_encoding(tmp_path):
    (tmp_path/'exams.csv').write_bytes('case,exam\nc1,Müller\n'.encode('latin-1'))
    with pytest.raises(InputError, match='byte 14 is no UTF-8; save it as UTF-8'):
        add_exams(strangers(5, np.random.default_rng(0)), exams=tmp_path/'exams.csv')

def test_regex_exams_of_paths():
    cases = add_exams(strangers(30, np.random.default_rng(0)), exams=r'^(p\d+)/')
    assert cases.exam.nunique() == 10 and set(cases.exam_source) == {'regex'}

# Splits and folds

def exams_table(n, rng, start=0):
    exam = rng.integers(start, start + n, int(1.2*n))
    return pd.DataFrame(
        dict(case=[f'{start}-{i}' for i in range(len(exam))], exam=[f'e{e}' for e in exam]))

@pytest.mark.parametrize('seed', range(25))
def test_hash_split_is_disjoint_and_stable(seed):
    rng = np.random.default_rng(seed)
    # some new cases are of old exams
    old, new = exams_table(200, rng), exams_table(300, rng, start=100)
    # no split so small that exams are lent to it: see test_splits
    fractions = (rng.dirichlet([8,1,1]) + 0.1)/1.3
    both = pd.concat([new, old]).sample(frac=1, random_state=seed)
    for f, by in ((lambda c: split_cases(c, tuple(fractions), seed), 'split'),
                  (lambda c: fold_cases(c, 4, seed), 'fold')):
        a, b = f(old), f(both)
        assert not len(torn_exams(a, by)) and not len(torn_exams(b, by))
        assert dict(zip(a.case, a[by])).items() <= dict(zip(b.case, b[by])).items()
    assert (split_cases(both, seed=seed).split != split_cases(both, seed=seed+1).split).any()

@pytest.mark.parametrize('seed', range(6))
def test_area_split_is_disjoint_and_alike(seed):
    rng = np.random.default_rng(seed)
    cases = exams_table(300, rng).assign(area=rng.beta(2.8, 2.9, 360).round(2))     # with ties
    s = split_cases(cases, seed=seed, how='area')
    wanted = pd.Series(dict(train=0.8, valid=0.1, test=0.1))
    assert not len(torn_exams(s))
    assert s.split.value_counts(normalize=True).sub(wanted).abs().max() < 0.02
    f = fold_cases(cases, 5, seed, how='area')
    spread = lambda folds: folds.groupby('fold').area.mean().std()
    assert not len(torn_exams(f, 'fold')) and spread(f) < spread(fold_cases(cases, 5, seed)) + 0.01
    assert f.fold.value_counts().between(65, 79).all()
    order = rng.permutation(len(cases))
    again = split_cases(cases.iloc[order], seed=seed, how='area')
    assert list(again.split) == [s.split.iloc[i] for i in order]

def test_folds_say_nothing_of_splits():
    "Within each split the folds are of equal size, up to chance."
    c = fold_cases(split_cases(pd.DataFrame(dict(exam=[f'e{i}' for i in range(20_000)]))), 5)
    shares = pd.crosstab(c.split, c.fold, normalize='index')
    assert (shares - 0.2).abs().to_numpy().max() < 0.03

@pytest.mark.parametrize('k', [0, 1, 4])
def test_folds_that_cannot_be(k):
    with pytest.raises(InputError, match=f'{k} folds of 3 exams'):
        fold_cases(pd.DataFrame(dict(exam=list('abc'))), k)

def test_a_given_split_is_taken_as_it_is(tmp_path):
    rng = np.random.default_rng(0)
    cases = exams_table(50, rng)
    wanted = rng.choice(['train', 'valid', 'test'], len(cases))
    pd.DataFrame(dict(case=cases.case, split=wanted)).to_csv(tmp_path/'split.csv', index=False)
    with pytest.warns(UserWarning, match='pictures of one exam in two parts'):
        s = split_cases(cases, how=str(tmp_path/'split.csv'))
    assert list(s.split) == list(wanted)
    assert set(torn_exams(s).exam) == {e for e,g in s.groupby('exam') if g.split.nunique() > 1}
    whole = split_cases(cases)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert list(split_cases(cases.assign(given_split=whole.split),
                                how='given').split) == list(whole.split)

def test_a_split_of_folders_through_read_raw(tmp_path):
    rng = np.random.default_rng(0)
    for i,s in enumerate(('train', 'train', 'val', 'test')):
        save(tmp_path/s/'images'/f'{i}.png', rng.integers(0, 256, (16, 16), dtype=np.uint8))
        save(tmp_path/s/'masks'/f'{i}.png',
             np.eye(16, dtype=np.uint8)*255)
    with pytest.warns(UserWarning, match='The exam of 4 of 4 cases is not known'):
        cases, left = read_raw(tmp_path, how='given')
    assert list(cases.split) == ['train', 'train', 'valid', 'test'] and not len(left)

# Real data

@pytest.mark.data
def test_exams_of_real_pictures_whatever_they_are_called(raw, tmp_path):
    "Renamed, moved and encoded anew, pictures are still known, with their exams and splits."
    cases, _ = find_cases(raw)
    table = provenance().assign(case=lambda t: t.image.str.removesuffix('.png')).set_index('case')
    exam = cases.case.map(table.exam)
    rng = np.random.default_rng(0)
    several = exam[exam.duplicated(keep=False)].index
    chosen = cases.loc[[
        *rng.choice(several, 30, replace=False),
        *rng.choice(cases.index.difference(several), 30, replace=False)
    ]]
    hows, truth = ('bytes', 'tiff', 'jpeg', 'sixteen', 'rgb'), {}
    (tmp_path/'images').mkdir()
    for k,c in enumerate(chosen.to_dict('records')):
        img, ann, _ = read_pair(raw, c)
        how, name = hows[k % 5], f'{rng.integers(10**9):09d}'
        truth[name] = how, 'hc18-' + table.exam[c['case']]
        # where the annotation differs, only the picture's hash is left
        drawn = ann if how in ('bytes', 'tiff') else np.roll(ann, 1, 0)
        save(tmp_path/'masks'/f'{name}.png', drawn*np.uint8(255))
        path = tmp_path/'images'/name
        if how == 'bytes': path.with_suffix('.png').write_bytes((raw/c['image']).read_bytes())
        if how == 'tiff': save(path.with_suffix('.tif'), img)
        if how == 'jpeg': save(path.with_suffix('.jpg'), img, quality=85)
        if how == 'sixteen': save(path.with_suffix('.png'), img.astype(np.uint16)*257)
        if how == 'rgb': save(path.with_suffix('.bmp'), np.stack([img]*3, 2))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        again, left = read_raw(tmp_path)
    assert len(again) == 60 and not len(left) and set(again.layout) == {'folders'}
    assert dict(zip(again.case, again.exam)) == {n: e for n,(_,e) in truth.items()}
    for n,source in zip(again.case, again.exam_source):
        if truth[n][0] in ('bytes', 'tiff'): assert source in ('table:image', 'table:annotation')
        else: assert source in ('table:image', 'table:dhash')
    assert not len(torn_exams(again))
    assert list(again.split) == list(
        split_cases(pd.DataFrame(dict(exam=[truth[n][1] for n in again.case]))).split)
