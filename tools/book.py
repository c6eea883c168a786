"""Run notebooks from top to bottom and store their outputs (`make book`), without Jupyter and
without Quarto.

    python tools/book.py [NOTEBOOK ...]     default: every notebook of nbs/

Cells flagged `slow`, `cuda` or `data` are left alone, outputs included: their figures come from
elsewhere. Exit status 1 if a notebook fails; that notebook's file is left as it was.
"""
import base64, os, re, subprocess, sys, time, warnings
from io import BytesIO
from pathlib import Path

os.environ.setdefault('MPLBACKEND', 'module://matplotlib_inline.backend_inline')
# they name paths
for kind in (FutureWarning, DeprecationWarning): warnings.filterwarnings('ignore', category=kind)
top = Path(__file__).resolve().parent.parent
flagged = re.compile(r'^#\s*\|\s*(slow|cuda|data)\b', re.M)
evaluated_never = re.compile(r'^#\s*\|\s*eval:\s*false', re.M)

def smaller(png):
    """A PNG of at most 256 colours (base64), or the one given where that is not smaller: figures
    here are greys and a few colours."""
    from PIL import Image
    f = BytesIO()
    im = Image.open(BytesIO(base64.b64decode(png))).convert('RGB')
    im.quantize(256, dither=Image.Dither.NONE).save(f, 'PNG', optimize=True)
    out = base64.b64encode(f.getvalue()).decode()
    return out if len(out) < len(png) else png

def shrink(nb):
    "Make the pictures among the outputs smaller, in place."
    for cell in nb.cells:
        for o in cell.get('outputs', []):
            data = o.get('data', {})
            if 'image/png' in data:
                png = data['image/png']
                data['image/png'] = smaller(png if isinstance(png, str) else ''.join(png))

def run(path):
    "Execute one notebook in this process; raise at its first failing cell."
    from execnb.nbio import read_nb, write_nb
    from execnb.shell import CaptureShell
    nb, shell = read_nb(path), CaptureShell(path, mpl_format='png')
    os.chdir(path.parent)

    def skip(cell):
        return cell.cell_type == 'code' and bool(
            flagged.search(cell.source) or evaluated_never.search(cell.source))
    for cell in nb.cells:
        if cell.cell_type == 'code' and not skip(cell): cell.outputs = []
    shell.run_all(nb, exc_stop=True, preproc=skip)
    shrink(nb)
    write_nb(nb, path)

def main(args):
    if args[:1] == ['--one']: return run(Path(args[1]).resolve())
    paths = [Path(a) for a in args] or sorted(
        p for p in (top/'nbs').glob('**/*.ipynb') if not p.name.startswith('.'))
    failed = []
    for p in paths:
        t = time.time()
        # A process of its own, so that no state leaks from one notebook to the next.
        r = subprocess.run([sys.executable, __file__, '--one', str(p)])
        print(f'{"ok" if r.returncode == 0 else "FAILED"}  {p.name}  {time.time()-t:.0f} s',
              flush=True)
        if r.returncode: failed.append(p.name)
        else: subprocess.run(['nbdev_clean', '--fname', str(p)], check=True)
    if failed: sys.exit('failed: ' + ', '.join(failed))

if __name__ == '__main__': main(sys.argv[1:])
