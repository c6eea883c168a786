"""Write the site into _docs/ (`make docs`).

    python tools/docs.py [--out DIR]

nbdev prepares the pages in _proc/ (nbdev.yml and sidebar.yml in nbs/ are generated and ignored by
git), Quarto renders them. Nothing is installed. Pages show the outputs that `make book` stored;
only imports and exported cells are run, for the tables of parameters.
Exit status: 0 the site is there, 1 Quarto failed, 3 the pages are prepared, but there is no Quarto
to render them.
"""
import argparse, os, shutil, subprocess, sys
from pathlib import Path

top = Path(__file__).resolve().parent.parent

def reading_order(names):
    """The welcome page, then the rooms without a number (any room may use them), then the numbered
    ones."""
    return sorted(names, key=lambda n: (not n.startswith('index.'), n[0].isdigit(), n))

def write_sidebar(path):
    "nbdev's sidebar, in the order in which the notebooks are read."
    import yaml
    from nbdev.quarto import nbdev_sidebar
    nbdev_sidebar.__wrapped__(path=path)
    yml = path/'sidebar.yml'
    side = yaml.safe_load(yml.read_text(encoding='utf-8'))
    contents = side['website']['sidebar']['contents']
    pages, sections = [c for c in contents
                       if isinstance(c, str)], [c for c in contents if not isinstance(c, str)]
    side['website']['sidebar']['contents'] = reading_order(pages) + sections
    yml.write_text(yaml.safe_dump(side, sort_keys=False), encoding='utf-8')

def leave_flagged_cells_alone():
    """nbdev runs every cell with an import when it prepares a page; one that is flagged slow, cuda
    or data must not run here."""
    from nbdev import processors
    from nbdev.config import get_config
    flags, runs = set(get_config().tst_flags.split()), processors._do_eval
    processors._do_eval = lambda cell: None if flags & cell.directives_.keys() else runs(cell)

def prepare():
    "Everything that nbdev does before it calls Quarto; the folder of the prepared pages."
    from nbdev.config import get_config
    from nbdev.quarto import refresh_quarto_yml
    from nbdev.serve import proc_nbs
    nbs = get_config().nbs_path
    if not (nbs/'_quarto.yml').exists():
        sys.exit('nbs/_quarto.yml is missing: it is a symlink to ../_quarto.yml')
    # a page whose notebook is gone must not stay
    shutil.rmtree(top/'_proc', ignore_errors=True)
    # writes nbs/nbdev.yml; leaves a _quarto.yml that is there alone
    refresh_quarto_yml()
    write_sidebar(nbs)
    leave_flagged_cells_alone()
    try: cache = proc_nbs(nbs, n_workers=0)             # one process: the heavy imports happen once
    except Exception as e:
        sys.exit(f'{e}\n{type(e.__cause__).__name__}: {e.__cause__}' if e.__cause__ else repr(e))
    made = {p.stem for p in cache.rglob('*.ipynb')}
    lost = sorted(p.name
                  for p in nbs.rglob('*.ipynb')
                  if p.stem not in made and not p.name[0] in '._')
    if lost: sys.exit('not prepared: ' + ', '.join(lost))
    return cache

def render(cache, out):
    "Render the prepared pages and put the site at `out`."
    r = subprocess.run(['quarto', 'render', '--no-cache'], cwd=cache)
    if r.returncode:
        sys.exit(f'quarto render failed in {cache.name}/ with exit status {r.returncode}')
    shutil.rmtree(out, ignore_errors=True)
    shutil.move(cache/'_docs', out)
    print(f'The site is in {out}: open {out/"index.html"}')

def main(args=None):
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--out', type=Path, default=top/'_docs',
                   help='where the site goes (default: _docs)')
    a = p.parse_args(args)
    out = a.out.resolve()
    os.chdir(top)
    cache = prepare()
    n = len(list(cache.rglob('*.ipynb')))
    if shutil.which('quarto'): return render(cache, out)
    print(
        f'{n} pages are prepared in {cache.name}/, but not rendered: there is no `quarto` on the '
        f'PATH.\n'
        'Quarto is not a Python package: get it from https://quarto.org/docs/get-started/ and run '
        '`make docs` again.',
        file=sys.stderr)
    sys.exit(3)

if __name__ == '__main__': main()
