"A prepared folder from somebody else: hostile tables, journals and links; files that changed."
import io, json, os, random, re, shutil, subprocess, sys
from pathlib import Path
import pandas as pd, pytest
from fetal_seg.core import InputError, digest, to_csv, to_json
from fetal_seg.data import SPLITS
from fetal_seg.phantom import write_phantoms
from fetal_seg.preprocess import (AFFINE, FORMAT, KINDS, WORK, PreparedCase, case_path,
                                  check_digests, find_changes, prepare, read_about, read_cases,
                                  read_manifest, read_prepared, replay, to_line)
from fetal_seg.verify import verify

SIZE = (48, 64)
TABLES = ('cases.csv', 'manifest.jsonl', 'prepare.json')
OPTIONS = dict(size=SIZE, fractions=(0.5, 0.25, 0.25))

@pytest.fixture(scope='module')
def world(tmp_path_factory):
    "A raw folder and the folder that was prepared of it."
    d = tmp_path_factory.mktemp('world')
    write_phantoms(d/'raw', n=16, shape=SIZE, plain=True)
    prepare(d/'raw', d/'prepared', **OPTIONS)
    return d

@pytest.fixture
def folder(world, tmp_path):
    "A copy of the prepared folder, in a home whose other files must stay as they are."
    (tmp_path/'home').mkdir()
    (tmp_path/'home'/'notes.txt').write_text('mine')
    return Path(shutil.copytree(world/'prepared', tmp_path/'home'/'prepared'))

def snapshot(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes()
            for p in Path(folder).rglob('*') if p.is_file() and not p.is_symlink()}

def refused(f, *said):
    "`f` ends in one line that names what is said."
    with pytest.raises(InputError) as e: f()
    text = str(e.value)
    assert '\n' not in text.replace("\\n", '') and len(text) < 1000, text
    for s in said: assert s in text, (s, text)

def readers(folder):
    "Everything that reads the tables of a folder."
    return (lambda: read_cases(folder), lambda: read_prepared(folder), lambda: verify(folder),
            lambda: check_digests(folder))

def vouch(folder):
    "Make digest and key fit the tables, as somebody would who means harm."
    about = json.loads((folder/'prepare.json').read_text())
    about['digest'] = digest((folder/'manifest.jsonl').read_bytes())
    about['key'] = digest((folder/'cases.csv').read_bytes() + about['digest'].encode())
    (folder/'prepare.json').write_text(to_json(about))

# --- cases.csv

def rows(folder): return pd.read_csv(folder/'cases.csv', dtype=str, keep_default_na=False)
def save(folder, t, **kw): t.to_csv(folder/'cases.csv', index=False, lineterminator='\n', **kw)

BAD = {  # values that no row may have, by column
    'height': ('', '0', '-1', 'x', 'nan', 'inf', '1e12', '1000000000000', '3.5', '3.0', '1_0',
               '0x10', ' 48'), 'width': ('', '0', '99999999', 'True', 'NaN', '1e400', '٣', '+5'),
    'scale_row': ('', '0', '-1', '0.0', 'nan', '1e12', 'inf', '1,5', 'x', '1e-400', '1_0', ' 1',
                  '٣'), 'scale_col': ('0', '-0.0', '-inf', '1e300', 'none'),
    'offset_row': ('', '1e12', 'nan', '-inf', '--'), 'offset_col': ('x', '-1e9'),
    'spacing_row': ('0', '-0.2', 'inf', '1e12', 'mm'), 'spacing_col': ('0.0', 'NA', 'nan'),
    'area': ('1.01', '-0.1', 'x', 'inf', 'nan'), 'enclosed': ('2', '-1', 'a'),
    'disagreement': ('1.5', '9', '-1'), 'change': ('-3', 'inf', 'x'), 'bits': ('0', '65', 'x'),
    'split': ('', 'test ', 'validation', '..', '../train', '/etc', 'Train', '.'), 'exam': ('',),
    'image_sha256': ('x', 'A'*64, '0'*63), 'dhash': ('x', '0'*15, 'g'*16),
    'look': ('x', 'A'*255, ' '*256), 'case': ('', '.', '..', '../x', 'a/b', '/etc/passwd', 'x'*251,
                                              '../../../home/notes', 'train/images/x')
}

@pytest.mark.parametrize('column', BAD)
def test_values_that_no_row_may_have(folder, column):
    t = rows(folder)
    for n,value in enumerate(BAD[column]):
        bad = t.copy()
        bad.loc[n % len(t), column] = value
        save(folder, bad)
        line = '' if column == 'case' and value == '' else f'line {n % len(t) + 2}: {column} is '
        for f in readers(folder): refused(f, 'cases.csv', line, 'fetal_seg_prepare')

def no_columns(t, rng): return t.drop(columns=rng.choice(['case', 'split', 'exam', *AFFINE]))
def semicolons(t, rng): return t.to_csv(index=False, sep=';')
def tabs(t, rng): return t.to_csv(index=False, sep='\t')
def utf16(t, rng): return t.to_csv(index=False).encode('utf-16')
def latin(t, rng): return t.assign(label='ü').to_csv(index=False).encode('latin-1')
def twice(t, rng): return pd.concat([t, t.sample(1, random_state=rng.randrange(99))])
def one_name(t, rng): return t.assign(case=t.case[rng.randrange(len(t))])
def column_twice(t, rng): return t.to_csv(index=False).replace('width', 'height', 1)
def nothing(t, rng): return b''
def zeros(t, rng): return b'\0'*rng.randrange(1, 999)
def noise(t, rng): return rng.randbytes(2000)
def half(t, rng):
    text = t.to_csv(index=False)
    return text[:text.index('\n', len(text)//2) - 30].encode()
def more_cells(t, rng): return t.to_csv(index=False) + ',,,' + '\n'
def quotes(t, rng): return t.to_csv(index=False).replace(',', ',"', 40 + rng.randrange(40))
def not_a_table(t, rng): return rng.choice(['[]', 'null', '{"a": 1}', '<html>', 'PK\x03\x04'])
def one_long_line(t, rng): return 'x'*200_000
def quoted_without_end(t, rng): return t.to_csv(index=False) + '"' + 'x'*200_000

TABLE_FAULTS = (no_columns, semicolons, tabs, utf16, latin, twice, one_name, column_twice, nothing,
                zeros, noise, half, more_cells, quotes, not_a_table, one_long_line,
                quoted_without_end)

@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('fault', TABLE_FAULTS)
def test_a_table_that_is_none(folder, fault, seed):
    data = fault(rows(folder), random.Random(seed))
    if isinstance(data, pd.DataFrame): save(folder, data)
    else: (folder/'cases.csv').write_bytes(data if isinstance(data, bytes) else data.encode())
    for f in readers(folder): refused(f, 'cases.csv')

def test_semicolons_and_utf16_have_their_own_remedy(folder):
    t = rows(folder)
    save(folder, t, sep=';')
    refused(lambda: read_cases(folder), 'semicolons between its columns; save it with commas')
    save(folder, t, encoding='utf-16')
    refused(lambda: read_cases(folder), 'written in UTF-16; save it as UTF-8')

def test_a_mark_before_the_table_changes_no_value(folder, world):
    data = (folder/'cases.csv').read_bytes()
    (folder/'cases.csv').write_bytes(b'\xef\xbb\xbf' + data.replace(b'\n', b'\r\n'))
    pd.testing.assert_frame_equal(read_cases(folder), read_cases(world/'prepared'))
    assert find_changes(folder) == []   # as an editor may save it

def test_columns_of_the_users_own_are_read(folder):
    save(folder, rows(folder).assign(note="'=1", flag=['True', ''] + ['']*14, n=['1', '']*8))
    t = read_cases(folder)
    assert set(t.note) == {'=1'} and t.flag[0] is True and t.n.isna().sum() == 8

# --- prepare.json and the manifest

def deep(n=100_000): return '['*n + ']'*n
JSON_FAULTS = ('', 'null', '[]', '3', '"x"', '{', '{}', deep(), '{"a": ' + deep() + '}', 'NaN',
               '\0', b'\xff\xfe{\0}\0', b'\xff', '{"format": 3}')
CHANGES = [dict(format=v) for v in (99, 1, '3', None, [3], 3.5)] + [dict(size=v) for v in (
    None, [], [544], [0, 800], [-1, 5], ['544', '800'], [1e12, 1e12], [10**6, 10**6], [1, 2, 3],
    '544x800', {}, [True, True])] + [dict(mode=v) for v in (None, '', 'zoom', 3)] + [
    dict(digest=v) for v in (None, 3, 'x', '../x')] + [dict(key=v) for v in (None, [], 'x')] + [
    dict(left_out=v) for v in (None, {}, 'x', [1])] + [dict(seed='x'), dict(cases=-1)]

@pytest.mark.parametrize('text', JSON_FAULTS, ids=range(len(JSON_FAULTS)))
def test_a_damaged_prepare_json(folder, text):
    (folder/'prepare.json').write_bytes(text if isinstance(text, bytes) else text.encode())
    for f in (*readers(folder), lambda: read_about(folder)): refused(f, 'prepare.json')

@pytest.mark.parametrize('change', CHANGES, ids=str)
def test_entries_that_prepare_json_may_not_have(folder, change):
    about = json.loads((folder/'prepare.json').read_text())
    (folder/'prepare.json').write_text(json.dumps({**about, **change}))
    name = next(iter(change))
    for f in (*readers(folder), lambda: read_about(folder)): refused(f, 'prepare.json', name)
    if name in ('size', 'digest', 'key', 'mode'):
        (folder/'prepare.json').write_text(
            json.dumps({k: v for k,v in about.items() if k != name}))
        refused(lambda: read_about(folder), f'no {name}')

LINES = ('x', '[]', 'null', '3', deep(), '{}', '{"case": "../x"}', 'NaN')

@pytest.mark.parametrize('line', LINES, ids=range(len(LINES)))
def test_a_damaged_line_of_the_manifest(folder, line):
    path = folder/'manifest.jsonl'
    lines = path.read_text().splitlines(True)
    path.write_text(''.join([*lines[:3], line + '\n', *lines[4:]]))
    refused(lambda: check_digests(folder), 'manifest.jsonl', 'prepare.json was written with')
    assert list(verify(folder).findings.case[:1]) == ['manifest.jsonl']
    vouch(folder)
    for f in (lambda: read_manifest(folder), lambda: check_digests(folder), lambda: verify(folder)):
        refused(f, 'manifest.jsonl', 'line 4', 'fetal_seg_prepare')

@pytest.mark.parametrize('change', [dict(case='../../notes'), dict(case=3), dict(images='x'),
                                    dict(height='4'), dict(height=1e12), dict(scale_row=0),
                                    dict(area=7), dict(masks=None), dict(key=None)], ids=str)
def test_values_that_no_line_may_have(folder, change):
    path = folder/'manifest.jsonl'
    first, *lines = path.read_text().splitlines(True)
    path.write_text(''.join([to_line({**json.loads(first), **change}), *lines]))
    vouch(folder)
    refused(lambda: check_digests(folder), 'line 1', next(iter(change)))

@pytest.mark.parametrize('name', TABLES)
@pytest.mark.parametrize('what', ['missing', 'folder', 'fifo', 'device', 'link'])
def test_a_table_that_is_no_file(folder, name, what, tmp_path):
    path = folder/name
    kept = path.read_bytes()
    path.unlink()
    if what == 'folder': path.mkdir()
    elif what == 'fifo': os.mkfifo(path)
    elif what == 'device': path.symlink_to('/dev/zero')
    elif what == 'link':
        (tmp_path/'home'/'elsewhere').write_bytes(kept)
        path.symlink_to(tmp_path/'home'/'elsewhere')
    refused(lambda: check_digests(folder),
            '' if what == 'missing' and name == 'cases.csv' else name)
    if name != 'manifest.jsonl':
        for f in readers(folder)[:-1] if name == 'cases.csv' or what != 'missing' else ():
            refused(f)

# --- names that lead out

def test_a_row_never_leads_out_of_the_folder(folder, tmp_path):
    (tmp_path/'home'/'x.png').write_bytes(b'')
    row = next(read_cases(folder).itertuples())
    for change in (dict(case='../../../x'), dict(case='/etc/x'), dict(split='..'),
                   dict(split='/'), dict(split='../home'), dict(case='a\0')):
        for f in (case_path, lambda d,r: PreparedCase(d, r).path('masks')):
            refused(lambda: f(folder, row._replace(**change)), 'leads out of the folder')
    shutil.move(folder/'test'/'images', tmp_path/'home'/'images')
    (folder/'test'/'images').symlink_to(tmp_path/'home'/'images')
    case = read_prepared(folder, 'test')[0]
    refused(case.path, 'leads out of the folder')
    refused(lambda: check_digests(folder), 'leads out of the folder')

def test_a_folder_reached_through_a_link(world, folder, tmp_path):
    (tmp_path/'link').symlink_to(folder)
    check_digests(tmp_path/'link')
    assert len(read_prepared(tmp_path/'link')) == 16 and verify(tmp_path/'link').ok
    before = snapshot(folder)
    prepare(world/'raw', tmp_path/'link', **OPTIONS)
    assert snapshot(folder) == before and (tmp_path/'link').is_symlink()

HOSTILE = ('../notes.txt', '../../notes.txt', 'train/../../notes.txt', 'notes.txt', '.lock', '',
           '.', '..', 'train', 'train/images', 'train/images/', 'train/images/..png/x.png',
           'train/images/../../../notes.txt', f'{WORK}/../../notes.txt', f'{WORK}/..', f'{WORK}/',
           'train/images/notes.txt', 'other/images/x.png', 'train/other/x.png',
           'train/images/a\0.png', '/etc/hosts', 'cases.csv/', './cases.csv', '.work/a/b', 3, None,
           ['x'], {})

@pytest.mark.parametrize('where', ['drop', 'park', 'place'])
def test_a_hostile_journal_touches_nothing(world, folder, tmp_path, where):
    good = f'{WORK}/1', 'train/images/x.png'
    home = tmp_path/'home'
    names = [*HOSTILE, str(home/'notes.txt')]
    (folder/WORK).mkdir()
    for name in names:
        pairs = [[name, good[1]], [good[0], name], [name], [*good, name], name]
        for bad in [name] if where == 'drop' else pairs:
            own = 'train/images/' + next((folder/'train'/'images').iterdir()).name
            todo = dict(phase=1, park=[], drop=[own], place=[], **{})
            todo[where] = [*todo[where], bad]
            (folder/WORK/'journal.json').write_text(json.dumps(todo))
            before = snapshot(home)
            refused(lambda: replay(folder), 'journal.json')
            assert snapshot(home) == before, bad
    refused(lambda: prepare(world/'raw', folder, **OPTIONS), 'journal.json')
    assert (home/'notes.txt').read_text() == 'mine'

@pytest.mark.parametrize('text', [*JSON_FAULTS, '{"phase": 3, "park": [], "drop": [], "place": []}',
                                  '{"phase": 1, "park": {}, "drop": [], "place": []}',
                                  '{"phase": true, "park": [], "drop": [], "place": []}'])
def test_a_damaged_journal(folder, text):
    (folder/WORK).mkdir()
    (folder/WORK/'journal.json').write_bytes(text if isinstance(text, bytes) else text.encode())
    before = snapshot(folder)
    refused(lambda: replay(folder), 'journal.json')
    assert snapshot(folder) == before

def test_a_journal_through_a_link_touches_nothing(folder, tmp_path):
    away = tmp_path/'home'/'away'
    shutil.move(folder/'train'/'images', away)
    (folder/'train'/'images').symlink_to(away)
    (folder/WORK).mkdir()
    name = next(away.iterdir()).name
    todo = dict(phase=1, park=[], drop=[f'train/images/{name}'], place=[])
    (folder/WORK/'journal.json').write_text(json.dumps(todo))
    refused(lambda: replay(folder), 'leads out of the folder')
    assert (away/name).exists()

PLACES = (WORK, *SPLITS, *(f'{s}/{k}' for s in SPLITS for k in KINDS), *TABLES, '.lock')

@pytest.mark.parametrize('place', PLACES)
def test_prepare_writes_through_no_link(world, folder, tmp_path, place):
    away = tmp_path/'home'/'away'
    if (folder/place).exists(): shutil.move(folder/place, away)
    elif place == '.lock': away.write_text('precious')
    else: away.mkdir()
    (folder/place).symlink_to(away)
    before = snapshot(tmp_path/'home')
    for options in (OPTIONS, dict(OPTIONS, seed=5), dict(OPTIONS, size=(40, 40))):
        refused(lambda: prepare(world/'raw', folder, **options), place, 'this is a link')
        assert snapshot(tmp_path/'home') == before

def test_links_in_the_staging_folder(world, tmp_path):
    "The name of a staged picture can be known beforehand."
    out, target = tmp_path/'out', tmp_path/'precious'
    target.write_text('mine')
    key = next(iter(read_manifest(world/'prepared').values()))['key']
    (out/WORK).mkdir(parents=True)
    staged = out/WORK/f'{key}-images.png'
    staged.symlink_to(target)
    refused(lambda: prepare(world/'raw', out, **OPTIONS), 'this is a link')
    staged.unlink()
    os.link(target, staged)
    prepare(world/'raw', out, **OPTIONS)
    assert target.read_text() == 'mine' and snapshot(out) == snapshot(world/'prepared')

@pytest.mark.parametrize('place', PLACES[:-1])
def test_a_folder_for_a_file_and_a_file_for_a_folder(world, folder, tmp_path, place):
    path = folder/place
    if path.is_dir(): shutil.rmtree(path)
    elif path.exists(): path.unlink()
    if place in TABLES: path.mkdir()
    else: path.write_text('')
    before = snapshot(folder)
    refused(lambda: prepare(world/'raw', folder, **OPTIONS), place, 'in the place of a')
    assert snapshot(folder) == before

def test_a_folder_called_like_a_picture(world, folder):
    (folder/'train'/'images'/'x.png').mkdir()
    before = snapshot(folder)
    refused(lambda: prepare(world/'raw', folder, **OPTIONS), 'x.png', 'in the place of a file')
    assert snapshot(folder) == before

def test_a_pipe_called_like_a_picture(world, folder):
    path = next((folder/'train'/'images').iterdir())
    path.unlink()
    os.mkfifo(path)
    assert f'train/images/{path.name} is missing' in {found for _,found in find_changes(folder)}
    prepare(world/'raw', folder, **OPTIONS)
    assert snapshot(folder) == snapshot(world/'prepared')

# --- what changed

def test_every_byte_counts(folder):
    "A flipped bit anywhere in a file that matters is found, and its case is named."
    rng = random.Random(0)
    assert find_changes(folder) == [] and verify(folder).ok
    files = sorted(folder.rglob('*.png'))
    for path in rng.sample(files, 12):
        data = bytearray(path.read_bytes())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        kept = path.read_bytes()
        path.write_bytes(data)
        split, kind = path.parts[-3:-1]
        assert [name for name,_ in find_changes(folder)] == [path.stem]
        assert bool(find_changes(folder, [split], [kind]))
        assert not find_changes(folder, [s for s in SPLITS if s != split])
        assert not find_changes(folder, SPLITS, [k for k in KINDS if k != kind])
        refused(lambda: check_digests(folder), repr(path.stem), 'leave this check out')
        assert not verify(folder).ok
        path.write_bytes(kept)
    for name in TABLES[:2]:
        kept = (folder/name).read_bytes()
        (folder/name).write_bytes(kept + b'\n')
        assert [n for n,_ in find_changes(folder)] == [name]
        (folder/name).write_bytes(kept)

def test_a_changed_folder_is_neither_trained_on_nor_scored(folder):
    from fetal_seg.eval import Threshold, evaluate
    from fetal_seg.loaders import get_dls
    a, b = (c.path() for c in read_prepared(folder, 'test')[:2])
    a.write_bytes(b.read_bytes())
    get_dls(folder, SIZE, bs=2)   # the test pictures are not its own
    refused(lambda: evaluate(Threshold(0.5), folder), a.stem, 'is not the file that prepare wrote')
    assert len(evaluate(Threshold(0.5), folder, check=False)) == len(read_prepared(folder, 'test'))
    assert ('changed_file', a.stem) in set(
        verify(folder).findings[['check', 'case']].itertuples(index=False, name=None))
    save(folder, rows(folder).assign(method='holes', exam='e'))
    refused(lambda: get_dls(folder, SIZE), 'cases.csv', 'leave this check out')
    get_dls(folder, SIZE, bs=2, check=False)

def test_a_forged_manifest_is_not_taken_over(world, folder):
    "What somebody wrote into the manifest does not come into the next table."
    path = folder/'manifest.jsonl'
    first, *lines = path.read_text().splitlines(True)
    path.write_text(''.join([to_line({**json.loads(first), 'area': 0.9, 'scale_row': 3.}), *lines]))
    prepare(world/'raw', folder, **OPTIONS)
    assert snapshot(folder) == snapshot(world/'prepared')

def test_damaged_logs_of_a_killed_run(world, tmp_path):
    out = tmp_path/'out'
    (out/WORK).mkdir(parents=True)
    good = next(iter(read_manifest(world/'prepared').values()))
    odd = [to_line({**good, **change}) for change in (
        dict(case=[]), dict(case='../x'), dict(area='x'), dict(scale_row=0), dict(images=3))]
    text = '\n'.join([deep(), '[]', '3', 'NaN', *odd])
    (out/WORK/'done-x-1.jsonl').write_text(text)
    (out/WORK/'done-x-2.jsonl').write_bytes(b'\xff\0' + text.encode()[:999])
    prepare(world/'raw', out, **OPTIONS)
    assert snapshot(out) == snapshot(world/'prepared')

# --- names that a spreadsheet computes

def test_names_that_a_spreadsheet_would_compute(world, tmp_path):
    names = ['=1+1', '-2', '+3', '@SUM(A1)', "'=x", 'plain', "it's"]
    raw, images = tmp_path/'raw', sorted((world/'raw').rglob('*_HC.png'))
    for n,f in zip(names, images):
        ann = next((world/'raw').rglob(f'{f.stem}_Annotation.png'))
        to = raw/f.relative_to(world/'raw').parent
        to.mkdir(parents=True, exist_ok=True)
        shutil.copy(f, to/f'{n}.png')
        shutil.copy(ann, to/f'{n}_Annotation.png')
    with pytest.warns(UserWarning): cases = prepare(raw, tmp_path/'out', **OPTIONS)
    assert sorted(cases.case) == sorted(names)
    with open(tmp_path/'out'/'cases.csv') as f: cells = [l.split(',')[0] for l in f][1:]
    assert not [c for c in cells if c[:1] in '=+-@']
    assert find_changes(tmp_path/'out') == []
    assert all(c.path(k).exists() for c in read_prepared(tmp_path/'out') for k in KINDS)
    before = snapshot(tmp_path/'out')
    with pytest.warns(UserWarning): prepare(raw, tmp_path/'out', **OPTIONS)
    assert snapshot(tmp_path/'out') == before

def test_ordinary_tables_are_written_as_ever(world):
    t = read_cases(world/'prepared')
    plain = t.to_csv(index=False, lineterminator='\n')
    assert to_csv(t) == plain == (world/'prepared'/'cases.csv').read_text()

# --- earlier formats

def test_a_folder_of_the_format_before(folder):
    "Format 2 had fewer columns and another name for the kind of annotation."
    late = ['look', 'enclosed', 'change']
    save(folder, read_cases(folder).drop(columns=late))
    lines = [json.loads(l) for l in (folder/'manifest.jsonl').read_text().splitlines()]
    old = [{k: v for k,v in r.items() if k not in late} for r in lines]
    (folder/'manifest.jsonl').write_text(''.join(map(to_line, old)))
    about = json.loads((folder/'prepare.json').read_text())
    gone = ('annotation', 'annotation_by', 'region')
    about = {k: v for k,v in about.items() if k not in gone}
    (folder/'prepare.json').write_text(to_json(dict(about, format=2, outline='auto')))
    vouch(folder)
    assert FORMAT == 3 and read_about(folder)['outline'] == 'auto' and len(read_cases(folder)) == 16
    assert find_changes(folder) == [] and verify(folder).ok
    # without digests of the files: said, and no more
    bare = [{k: v for k,v in r.items() if k not in KINDS} for r in old]
    (folder/'manifest.jsonl').write_text(''.join(map(to_line, bare)))
    vouch(folder)
    check_digests(folder)
    found = verify(folder)
    assert found.ok and 'contents_unknown' in set(found.findings.check)

# --- a system that writes no more

FULL = '''
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), -1))
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from fetal_seg.cli import prepare
sys.exit(prepare(sys.argv[2:]))
'''
@pytest.mark.skipif(sys.platform != 'linux', reason='needs RLIMIT_FSIZE')
@pytest.mark.parametrize('most, fresh', [(100, False), (3000, False), (100, True), (900, True)])
def test_a_file_that_cannot_be_written(world, folder, most, fresh):
    "One line, and the folder is as it was; with room again the same call goes on."
    if fresh: shutil.rmtree(folder)
    before = snapshot(folder)
    argv = [world/'raw', folder, '--size', *SIZE, '--seed', 7, '--workers', 0]
    r = subprocess.run([sys.executable, '-c', FULL, str(most), *map(str, argv)],
                       capture_output=True, text=True)
    assert r.returncode == 2 and 'Traceback' not in r.stderr, r.stderr
    assert 'File too large' in r.stderr and (not fresh or str(folder) in r.stderr), r.stderr
    assert {k: v for k,v in snapshot(folder).items() if not k.startswith(WORK)} == before
    prepare(world/'raw', folder, SIZE, seed=7)
    assert find_changes(folder) == []
