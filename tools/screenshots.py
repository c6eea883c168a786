"""Write nbs/images/explorer.jpg and nbs/images/report.jpg, the explorer and the evaluation report
as a browser shows them, from the folder of a demo on simulated pictures.

    python tools/screenshots.py [demo] [--only explorer|report] [--theme light|dark] [--out FOLDER]

The explorer is the real app, on the case with the lowest Dice of the test split; its notes go to a
temporary folder. The report is the top of report.html. Needs Playwright and Chromium (named by the
variable CHROMIUM, or found on the path).
"""
import argparse, json, os, re, shutil, signal, subprocess, sys, tempfile
from contextlib import contextmanager
from pathlib import Path

top = Path(__file__).resolve().parent.parent
SHOTS, WIDTH, LIMIT = ('explorer', 'report'), 1280, 150_000   # pixels; bytes of a file
SWITCHES = ('--headless --no-sandbox --disable-gpu --disable-quic --no-first-run '
            '--disable-background-networking --disable-component-update --disable-sync').split()

def get_args():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('demo', nargs='?', type=Path, default=Path('demo'),
                   help='the folder of the demo (default: %(default)s)')
    p.add_argument('--only', choices=SHOTS, help='one of the two (default: both)')
    p.add_argument('--theme', choices=('light', 'dark'), default='light',
                   help='(default: %(default)s)')
    p.add_argument('--out', type=Path, default=top/'nbs'/'images',
                   help='where they go (default: nbs/images)')
    return p.parse_args()

def check_simulated(demo):
    "End unless the pictures of the demo are simulated."
    from fetal_seg.core import InputError, check_exists, read_json
    try:
        about, _ = read_json(demo/'demo.json',
                             'folder of a demo'), check_exists(demo/'report.html', 'report')
    except InputError as e: sys.exit(str(e))
    if about.get('raw', 'unknown') is not None:
        sys.exit(f'{demo}: made from real pictures, which never enter the project; run `make demo`')

@contextmanager
def browser_page(theme, height):
    "A page of Chromium."
    try: from playwright.sync_api import sync_playwright
    except ImportError: sys.exit('playwright is not installed: pip install playwright')
    chromium = next(
        filter(None, [
            os.environ.get('CHROMIUM'), *map(shutil.which,
                                             ('chromium', 'chromium-browser', 'google-chrome'))
        ]), None)
    if not chromium: sys.exit('no Chromium: install it, or name it: CHROMIUM=/path/to/chromium')
    with sync_playwright() as pw, tempfile.TemporaryDirectory() as d:
        context = pw.chromium.launch_persistent_context(d, executable_path=chromium, args=SWITCHES,
                                                        viewport=dict(width=WIDTH, height=height),
                                                        color_scheme=theme)
        try: yield context.pages[0]
        finally: context.close()

@contextmanager
def app(demo, notes, theme):
    "The explorer as an app: its address."
    code = ('import json, sys; from fetal_seg.explore import serve; '
            'serve(**json.loads(sys.argv[1]), say=lambda s: print(s, flush=True))')
    args = dict(run_or_weights=str(demo.absolute()), notes=str(notes), port=8890, theme=theme)
    p = subprocess.Popen([sys.executable, '-c', code, json.dumps(args)], cwd=top,
                         stdout=subprocess.PIPE, text=True)
    try:
        url = next((m[0] for line in p.stdout if (m := re.search(r'http://\S+', line))), None)
        yield url or sys.exit('the app did not start; its message is above')
    finally:
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=60)

def shoot(page, path, **kw):
    "A JPEG file of at most `LIMIT` bytes."
    for quality in range(88, 40, -6):
        page.screenshot(path=path, type='jpeg', quality=quality, **kw)
        if path.stat().st_size <= LIMIT: break
    print(f'{path.name} written, {path.stat().st_size//1000} KB, JPEG quality {quality}')

def show_explorer(demo, path, theme):
    "The app on the case with the lowest Dice."
    with tempfile.TemporaryDirectory() as d, app(demo,
                                                 Path(d)/'notes.csv',
                                                 theme) as url, browser_page(theme, 690) as page:
        page.goto(url)
        page.wait_for_selector('.fs-frame img[src]', timeout=120000)
        page.wait_for_selector('.fs-dice')
        page.wait_for_timeout(1000)   # fonts, and the last of the layout
        shoot(page, path)

def show_report(demo, path, theme):
    "The top of the page."
    with browser_page(theme, 900) as page:
        page.goto((demo/'report.html').absolute().as_uri())
        page.wait_for_timeout(500)
        shoot(page, path)

def main():
    a = get_args()
    check_simulated(a.demo)
    a.out.mkdir(parents=True, exist_ok=True)
    for name, show in dict(explorer=show_explorer, report=show_report).items():
        if a.only in (None, name): show(a.demo, a.out/f'{name}.jpg', a.theme)

if __name__ == '__main__': main()
