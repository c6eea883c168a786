"""Write README.md from nbs/index.ipynb, without Quarto (`make readme`).

    python tools/readme.py [--check] [--nb NOTEBOOK] [--out FILE]

Markdown is taken as it is, code is fenced, text output stands in a fence of its own below its
code; pictures and HTML are left out. Links to notebooks become links to the site. `--check` writes
nothing and exits 1 if FILE is not what would be written.
"""
import argparse, difflib, json, re, sys
from configparser import ConfigParser
from pathlib import Path

top = Path(__file__).resolve().parent.parent
directive = re.compile(r'^\s*#\s*\|\s*(.*?)\s*$')
ansi = re.compile(r'\x1b\[[0-9;]*[A-Za-z]')

def text(o): return o if isinstance(o, str) else ''.join(o or [])

def site():
    "The address of the site, from `settings.ini`."
    cfg = ConfigParser(delimiters=['='])
    cfg.read(top/'settings.ini', encoding='utf-8')
    return (cfg['DEFAULT']['doc_host'] + cfg['DEFAULT']['doc_baseurl']).rstrip('/')

def page(path):
    """The page that nbdev makes of a notebook: lower case, the leading number stripped
    (`01_a/02a_Loaders.ipynb` -> `01_a/loaders.html`)."""
    folder, _, name = path.rpartition('/')
    return (folder + '/' if folder else '') + re.sub(r'^\d+[a-zA-Z0-9]*_', '',
                                                     name.lower()).removesuffix('.ipynb') + '.html'

def linked(md, base):
    """`md` as it reads from the top folder: links to notebooks go to the site, other relative ones
    to where the file lies."""
    def sub(m): return f'{m[1]}{base}/{page(m[2].removeprefix("./"))}{m[3] or ""}{m[4]}'
    md = re.sub(r'(\]\(\s*)((?!\w+:|/)[^)\s#]+\.ipynb)(#[^)\s]*)?([^)]*\))', sub, md)
    md = re.sub(r'(!\[[^\]]*\]\(\s*)(?!\w+:|/|\.\./)(?=[^)\s]+\.(?:png|svg|jpe?g|gif|webp))',
                r'\1nbs/', md)
    # nbs/../LICENSE is LICENSE
    md = re.sub(r'(\]\(\s*)\.\./', r'\1', md)
    return re.sub(r'^(\[[^\]]+\]:\s*)((?!\w+:|/)[^\s#]+\.ipynb)(#\S*)?(.*)$', sub, md, flags=re.M)

def fence(body, lang=''):
    "`body` in a fence that is longer than any fence inside it."
    ticks = '`' * max([3, *(len(t) + 1 for t in re.findall(r'`{3,}', body))])
    return f'{ticks}{lang}\n{body}\n{ticks}'

def split_directives(src):
    "The directives at the head of a code cell, as a dict, and the code without them."
    lines, found = src.splitlines(), {}
    while lines and (directive.match(lines[0]) or not lines[0].strip()):
        m = directive.match(lines.pop(0))
        if m and m[1]:
            key, _, value = m[1].replace(':', ' ', 1).partition(' ')
            found[key] = value.strip().lower()
    return found, '\n'.join(lines).strip('\n')

def output_texts(outputs):
    """The text of a cell's outputs; Markdown where there is some, else plain text; errors and
    standard error are left out."""
    for o in outputs:
        if o['output_type'] == 'stream' and o.get('name') != 'stderr':
            yield 'plain', text(o['text'])
        elif o['output_type'] in ('execute_result', 'display_data'):
            data = o['data']
            if 'text/markdown' in data: yield 'markdown', text(data['text/markdown'])
            elif 'text/plain' in data and not any(k.startswith('image/') for k in data):
                yield 'plain', text(data['text/plain'])

def code_blocks(cell, base):
    "The Markdown blocks of one code cell."
    found, src = split_directives(text(cell['source']))
    if found.keys() & {'hide', 'default_exp'} or found.get('include') == 'false': return
    if src and found.get('echo') != 'false' and 'hide_input' not in found:
        yield fence(src, 'bash' if src[0] in '!%' else 'python')
    if found.get('output') == 'false' or 'hide_output' in found: return
    plain = ''
    for kind, out in output_texts(cell.get('outputs', [])):
        if kind == 'plain': plain += out if out.endswith('\n') else out + '\n'
        else:
            if plain.strip(): yield fence(ansi.sub('', plain).strip('\n'))
            plain = ''
            yield linked(out.strip('\n'), base)
    if plain.strip(): yield fence(ansi.sub('', plain).strip('\n'))

def readme(nb, base):
    "The Markdown of a whole notebook."
    blocks = ['<!-- Written by tools/readme.py from nbs/index.ipynb: edit that, then run `make '
              'readme`. -->']
    for cell in nb['cells']:
        if cell['cell_type'] == 'markdown':
            blocks.append(linked(text(cell['source']).strip('\n'), base))
        elif cell['cell_type'] == 'code': blocks.extend(code_blocks(cell, base))
    return '\n\n'.join(b for b in blocks if b.strip()) + '\n'

def main(args=None):
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--check', action='store_true',
                   help='only say whether FILE is in step; exit status 1 if not')
    p.add_argument('--nb', type=Path, default=top/'nbs'/'index.ipynb',
                   help='the notebook (default: nbs/index.ipynb)')
    p.add_argument('--out', type=Path, default=top/'README.md',
                   help='the file to write (default: README.md)')
    a = p.parse_args(args)
    if not a.nb.exists(): sys.exit(f'{a.nb.name}: no such notebook; README.md is written from it')
    new = readme(json.loads(a.nb.read_text(encoding='utf-8')), site())
    old = a.out.read_text(encoding='utf-8') if a.out.exists() else ''
    if new == old: return print(f'{a.out.name} is in step with {a.nb.name}')
    if a.check:
        print(
            *list(
                difflib.unified_diff(old.splitlines(), new.splitlines(), a.out.name,
                                     f'from {a.nb.name}', lineterm='', n=1))[:30], sep='\n')
        sys.exit(f'{a.out.name} is not what {a.nb.name} says: run `make readme`')
    a.out.write_text(new, encoding='utf-8')
    print(f'{a.out.name} written')

if __name__ == '__main__': main()
