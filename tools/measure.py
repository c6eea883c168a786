"""The form of the house: how long cells, functions and lines are, beside fastai's (`make measure`).

    python tools/measure.py [--beside PACKAGE ...] [--problems]

A module that nbdev wrote keeps a mark for each cell of its notebook, so that an installed package
is measured as ours is. Exit status: 0 within the limits, 1 with what exceeds them listed.
"""
import argparse, ast, importlib.util, json, re, sys
from pathlib import Path
from statistics import median, quantiles

top = Path(__file__).resolve().parent.parent
MARK = re.compile(r'^# %% .*$', re.M)

CELL_LINES, WIDTH, FUNCTION_CHARACTERS = 30, 100, 1500
# What may exceed a limit, and why: 'module:name' for a cell or a function.
EXCEPTIONS = {
    'preprocess:prepare': 'fourteen parameters, each documented; the logic is fifteen lines',
    'pipeline:crossval': 'seventeen parameters, each documented; the logic is nine lines',
}
# Notebooks and files that are not yet in form; a name leaves this list and does not come back.
WAITING = set()

def definitions(tree):
    "The functions and classes at the top of a tree, `@patch`ed methods included."
    return [
        n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    ]

def is_patch(node):
    return any('patch' in ast.unparse(d) for d in node.decorator_list)

def functions(tree):
    "All functions and methods, nested ones left out."
    for n in definitions(tree):
        if isinstance(n, ast.ClassDef):
            yield from ((f'{n.name}.{m.name}', m)
                        for m in definitions(n)
                        if not isinstance(m, ast.ClassDef))
        else: yield n.name, n

def cells(path):
    """The exported cells of a module that nbdev wrote, as texts; the whole module where there is no
    mark."""
    text = Path(path).read_text(encoding='utf-8')
    return [c.strip('\n') for c in MARK.split(text)[1:]] or [text]

def lines_of(text):
    "The lines of a text that are not empty."
    return [l for l in text.splitlines() if l.strip()]

def characters(node, source):
    "The length of a function's source without indentation and what documents it."
    text = ast.get_source_segment(source, node) or ''
    return sum(len(re.split(r'\s# ', l)[0].strip()) + 1 for l in lines_of(text))

def module_facts(path):
    "What is counted in a module."
    out = dict(module=Path(path).stem, cells=[], several=0, functions=[], widths=[], public=0)
    for c in cells(path):
        out['widths'] += [len(l) for l in lines_of(c)]
        try: tree = ast.parse(c)
        except SyntaxError: continue   # IPython's own syntax in somebody's notebook
        found = definitions(tree)
        if not found: continue
        public = [n for n in found if not n.name.startswith('_')]
        out['cells'].append((found[0].name, len(lines_of(c))))
        out['several'] += len(found) > 1
        out.setdefault(
            'crowded',
            []).extend([[n.name
                         for n in public]] if len({n.name
                                                   for n in public
                                                   if not is_patch(n)}) > 1 else [])
        out['functions'] += [(name, len(lines_of(ast.get_source_segment(c, n)
                                                 or '')), characters(n, c))
                             for name, n in functions(tree)]
    out['public'] = len(public_names(path))
    return out

def public_names(path):
    "The names of a module's `__all__`."
    for n in ast.parse(Path(path).read_text(encoding='utf-8')).body:
        if isinstance(n, ast.Assign) and any(getattr(t, 'id', '') == '__all__' for t in n.targets):
            return ast.literal_eval(n.value)
    return []

def modules(folder):
    "The modules of a package that nbdev wrote, the index left out."
    return [
        p for p in sorted(Path(folder).rglob('*.py'))
        if p.name not in ('__init__.py',
                          '_modidx.py') and MARK.search(p.read_text(encoding='utf-8'))
    ]

def package_folder(name):
    "Where an installed package lies; None where it is not installed."
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None

def quantile(values, share):
    "A quantile of a list, in whole numbers."
    return round(quantiles(values, n=100, method='inclusive')[round(100*share) -
                                                              1]) if len(values) > 1 else max(
                                                                  values, default=0)

def summary(name, facts):
    "One row of the table."
    cell = [n for f in facts for _,n in f['cells']]
    function = [f for m in facts for f in m['functions']]
    wide = [w for f in facts for w in f['widths']]
    return {
        'package': name, 'modules': len(facts), 'cells': len(cell),
        'cell, median': round(median(cell)), 'cell, 90 %': quantile(cell,
                                                                    .9), 'cell, longest': max(cell),
        'several definitions, %': round(100*sum(f['several'] for f in facts)/len(cell)),
        'function, lines': round(median(f[1] for f in function)), 'function, characters': round(
            median(f[2] for f in function)), 'function, longest': max(f[2] for f in function),
        'lines over 100, %': round(100*sum(w > 100 for w in wide)/len(wide), 1),
        'over 120, %': round(100*sum(w > 120 for w in wide)/len(wide),
                             1), 'line, longest': max(wide),
        'public a module': round(median(f['public']
                                        for f in facts)), 'public, most': max(f['public']
                                                                              for f in facts)
    }

def prose_share(folder):
    "The share of characters in a folder's notebooks that is prose."
    n = dict(markdown=0, code=0)
    for p in Path(folder).glob('*.ipynb'):
        for c in json.loads(p.read_text(encoding='utf-8'))['cells']:
            if c['cell_type'] in n: n[c['cell_type']] += len(''.join(c['source']))
    return n['markdown']/max(sum(n.values()), 1)

def print_table(rows):
    "A table with a package a column."
    keys = list(rows[0])
    for k in keys: print(f'{k:24}' + ''.join(f'{str(r[k]):>13}' for r in rows))

def wide_lines(paths=None):
    "Lines of code that are too wide, in notebooks, library, tests and tools: (place, width)."
    for p in sorted((top/'nbs').glob('*.ipynb')):
        for i,c in enumerate(json.loads(p.read_text(encoding='utf-8'))['cells']):
            if c['cell_type'] != 'code': continue
            for l in ''.join(c['source']).splitlines():
                if l.startswith('#| fig-alt:'): continue   # prose that nbdev wants on one line
                if len(l) > WIDTH:
                    yield p.name, f'{p.name} [{i}]: {len(l)} characters: {l.strip()[:60]}…'
    for folder in ('tests', 'tools'):
        for p in sorted((top/folder).glob('*.py')):
            for i,l in enumerate(p.read_text(encoding='utf-8').splitlines(), 1):
                if len(l) > WIDTH:
                    yield p.name, f'{folder}/{p.name}:{i}: {len(l)} characters: {l.strip()[:60]}…'

def undocumented(path):
    "Public functions' parameters without a comment beside them or on the line above."
    text, public = Path(path).read_text(encoding='utf-8'), set(public_names(path))
    lines = text.splitlines()
    for n in definitions(ast.parse(text)):
        inits = [m for m in definitions(n)
                 if m.name == '__init__'] if isinstance(n, ast.ClassDef) else [n]
        if n.name not in public: continue
        for f in inits:
            args = [*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs]
            for a in args:
                said = '#' in lines[a.end_lineno -
                                    1][a.end_col_offset:] or lines[a.lineno -
                                                                   2].strip().startswith('#')
                if a.arg not in ('self', 'cls') and not said: yield f'{n.name}: {a.arg}'

def notebook_of(path):
    "The notebook that a module is written from."
    text = Path(path).read_text(encoding='utf-8')
    found = re.search(r'AUTOGENERATED.*File to edit: \.\./nbs/(\S+)\.$', text, re.M)
    return found[1] if found else Path(path).name

def arrows():
    "For each module the modules of the package that it imports when it is imported itself."
    out = {}
    for p in modules(top/'fetal_seg'):
        tree = ast.parse(p.read_text(encoding='utf-8'))
        found = [n for n in tree.body if isinstance(n, ast.ImportFrom) and n.level]
        out[p.stem] = sorted({n.module for n in found if n.module})
    return out

def circle(imports):
    "Modules that import each other in a circle; () where there is none."
    left = dict(imports)
    while free := [m for m,needs in left.items() if not set(needs) & set(left)]:
        for m in free: del left[m]
    return tuple(left)

def problems():
    "What exceeds the limits, one line each."
    out, owners = [], {}
    for p in modules(top/'fetal_seg'):
        f, nb = module_facts(p), notebook_of(p)
        for name in public_names(p): owners.setdefault(name, []).append(p.stem)
        if nb in WAITING: continue
        out += [
            f'{nb}: the cell of {n} has {k} lines' for n, k in f['cells']
            if k > CELL_LINES and f'{p.stem}:{n}' not in EXCEPTIONS
        ]
        out += [
            f'{nb}: {n} has {k} characters' for n, _, k in f['functions']
            if k > FUNCTION_CHARACTERS and f'{p.stem}:{n}' not in EXCEPTIONS
        ]
        out += [
            f'{nb}: one cell defines {", ".join(names)}' for names in f.get('crowded', [])
            if f'{p.stem}:{names[0]}' not in EXCEPTIONS
        ]
        out += [f'{nb}: no word on the parameter {n}' for n in undocumented(p)]
    if found := circle(arrows()): out.append(f'a circle of imports among {", ".join(found)}')
    out += [l for name,l in wide_lines() if name not in WAITING]
    out += [f'{n} is public in {" and ".join(m)}' for n,m in owners.items() if len(m) > 1]
    return out

def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--beside', nargs='*', default=['fastai', 'fastcore', 'nbdev'],
                   metavar='PACKAGE')
    p.add_argument('--problems', action='store_true', help='list only what exceeds the limits')
    args = p.parse_args(argv)
    if not args.problems:
        rows = [summary('fetal_seg', [module_facts(m) for m in modules(top/'fetal_seg')])]
        for name in args.beside:
            if folder := package_folder(name):
                rows.append(summary(name, [module_facts(m) for m in modules(folder)]))
        print_table(rows)
        n = arrows()
        print(f'{sum(map(len, n.values()))} arrows between {len(n)} modules')
        print(f'prose in our notebooks: {100*prose_share(top/"nbs"):.0f} % of the characters')
    found = problems()
    print('\n'.join(found) or 'All within the limits.')
    return int(bool(found))

if __name__ == '__main__': sys.exit(main())
