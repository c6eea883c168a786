"The house around the library: metadata, commands, pins, what an import costs."
import ast, importlib, importlib.util, os, re, subprocess, sys
from configparser import ConfigParser
from pathlib import Path
import pytest

here = Path(__file__).resolve().parent.parent
heavy = ('torch', 'fastai', 'matplotlib', 'pandas')

def settings():
    cfg = ConfigParser(delimiters=['='])
    cfg.read(here/'settings.ini', encoding='utf-8')
    return cfg['DEFAULT']

lines = [l.strip() for l in settings()['console_scripts'].splitlines()]
scripts = dict(l.split('=') for l in lines if l)

def canonical(name): return re.sub(r'[-_.]+', '-', name).lower()

def pins():
    "Name -> version, as `constraints.txt` says."
    text = (here/'constraints.txt').read_text(encoding='utf-8')
    lines = [l.split(';')[0].strip() for l in text.splitlines()]
    found = [l.split('==') for l in lines if l and not l.startswith('#')]
    return {canonical(n): v for n,v in found}

def python(code, **kw):
    "Run `code` in a fresh Python, away from the project's folder."
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120,
                          **kw)

@pytest.mark.parametrize('name,target', scripts.items(), ids=list(scripts))
def test_script_resolves_to_a_callable(name, target):
    module, func = target.split(':')
    assert module == 'fetal_seg.cli'
    assert callable(getattr(importlib.import_module(module), func))

@pytest.mark.parametrize('name', scripts)
def test_help(name, tmp_path):
    exe = Path(sys.executable).parent/name
    assert exe.exists(), f'{name} is not installed: run `make .venv`'
    r = subprocess.run([exe, '--help'], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert r.returncode == 0, r.stderr
    assert 'usage:' in r.stdout.lower() and name in r.stdout
    assert not list(tmp_path.iterdir()), 'asking for help wrote a file'

@pytest.mark.parametrize('module', ['fetal_seg', 'fetal_seg.cli'])
def test_import_is_light(module, tmp_path):
    r = python(f'import sys, {module}; print(*[m for m in {heavy} if m in sys.modules])',
               cwd=tmp_path)
    assert r.returncode == 0, r.stderr
    assert r.stdout.strip() == '', f'import {module} imports {r.stdout.strip()}'

def test_training_needs_no_extra(tmp_path):
    "fastai.distributed cannot be imported without accelerate; training on one process must be."
    extras = ('accelerate tensorboard wandb voila ipyevents onnx onnxruntime monai skimage pydicom '
              'distributed').split()
    rooms = [f'fetal_seg.{m}' for m in 'train explore pipeline card verify download'.split()]
    missing = f'import sys; sys.modules.update(dict.fromkeys({extras}))'
    r = python(f'{missing}; import {", ".join(rooms)}', cwd=tmp_path)
    assert r.returncode == 0, r.stderr

def test_every_asset_is_packaged():
    "What `setup.py` takes into a wheel are all files that lie in the assets."
    package, text = here/'fetal_seg', (here/'setup.py').read_text(encoding='utf-8')
    said = re.search(r"package_data=\{'fetal_seg': (\[.*?\])\}", text)[1]
    taken = {f for g in ast.literal_eval(said) for f in package.glob(g) if f.is_file()}
    typed = {package/'py.typed', *package.glob('*.pyi')}
    assert taken == typed | {f for f in (package/'assets').rglob('*') if f.is_file()}
    assert {'report.css', 'report.js', 'report.html'} < {f.name for f in taken}

def test_version_is_said_once():
    import fetal_seg
    assert fetal_seg.__version__ == settings()['version']

def test_quarto_yml_is_a_symlink():
    link = here/'nbs'/'_quarto.yml'
    assert link.is_symlink() and os.readlink(link) == '../_quarto.yml' and link.exists()

def test_quarto_yml_reads_what_nbdev_writes():
    yaml = pytest.importorskip('yaml')
    cfg = yaml.safe_load((here/'_quarto.yml').read_text(encoding='utf-8'))
    assert cfg['metadata-files'] == ['nbdev.yml', 'sidebar.yml']
    assert cfg['format']['html']['css'] == 'styles.css' and (here/'nbs'/'styles.css').exists()

def test_setup_has_no_pkg_resources():
    tree = ast.parse((here/'setup.py').read_text(encoding='utf-8'))
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert not {'pkg_resources', 'distutils'} & {n.split('.')[0] for n in names}

def test_constraints_hold_every_requirement():
    req = pytest.importorskip('packaging.requirements')
    pinned, cfg = pins(), settings()
    for r in map(req.Requirement, (cfg['requirements'] + ' ' + cfg['dev_requirements']).split()):
        name = canonical(r.name)
        assert name in pinned, f'{r.name} has no pin in constraints.txt'
        assert pinned[name] in r.specifier, f'{r} does not allow {pinned[name]}'

def test_constraints_hold_what_breaks():
    names = ('nbdev', 'fastcore', 'execnb', 'plum-dispatch')
    pinned = {n: tuple(int(p) for p in v.split('.')[:2]) for n,v in pins().items() if n in names}
    assert pinned['nbdev'] == (2, 4) and pinned['fastcore'] < (2, 0)
    assert pinned['execnb'] < (0, 2) and pinned['plum-dispatch'] < (2, 10)

def test_attribution_is_shipped():
    notice = (here/'NOTICE').read_text(encoding='utf-8')
    for doi in ('10.17632/yrzzw9m6kk', '10.5281/zenodo.1327317'): assert doi in notice
    table = here/'fetal_seg'/'assets'/'hc18-provenance.csv'
    for column in table.read_text(encoding='utf-8').split('\n', 1)[0].split(','):
        assert column == 'image' or column in notice, f'NOTICE does not say what {column} is'

# tools/readme.py

@pytest.fixture(scope='module')
def readme():
    spec = importlib.util.spec_from_file_location('readme', here/'tools'/'readme.py')
    mod = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mod)
    return mod

@pytest.mark.parametrize('name', ['00_data.ipynb', '02a_loaders.ipynb', 'core.ipynb',
                                  'more/09_CLI.ipynb'])
def test_page_is_nbdevs(readme, name):
    doclinks = pytest.importorskip('nbdev.doclinks')
    assert readme.page(name) == doclinks._nbpath2html(Path(name)).as_posix()

@pytest.mark.parametrize('md,expected', [
    ('[d](00_data.ipynb)', '[d](https://x/data.html)'),
    ('[d](./02a_loaders.ipynb#get_dls "t")', '[d](https://x/loaders.html#get_dls "t")'),
    ('[r]: 09_cli.ipynb', '[r]: https://x/cli.html'),
    ('[l](../LICENSE), [e](https://a.b/00_data.ipynb)',
     '[l](LICENSE), [e](https://a.b/00_data.ipynb)'),
    ('![p](images/p.png)', '![p](nbs/images/p.png)'),
])
def test_links(readme, md, expected): assert readme.linked(md, 'https://x') == expected

def test_readme_of_a_notebook(readme):
    def code(src, *outputs):
        return dict(cell_type='code', source=src.splitlines(True), outputs=list(outputs))

    def said(s): return dict(output_type='stream', name='stdout', text=[s])

    figure = {'image/png': 'xx', 'text/plain': '<Figure>'}
    cells = [
        dict(cell_type='markdown', source=['# Title']),
        code('#| hide\n1'),
        code('#| echo: false\nf()', said('quiet\n')),
        code('1+1', said('a\n'), dict(output_type='execute_result', data={'text/plain': ['2']})),
        code('show()', dict(output_type='display_data', data=figure))
    ]
    text = readme.readme(dict(cells=cells), 'https://x')
    fence = '```'
    parts = ['# Title', f'{fence}\nquiet\n{fence}', f'{fence}python\n1+1\n{fence}',
             f'{fence}\na\n2\n{fence}', f'{fence}python\nshow()\n{fence}\n']
    assert text.split('\n\n', 1)[1] == '\n\n'.join(parts)
