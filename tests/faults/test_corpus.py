"A twentieth of the hostile inputs; `make faults` runs all of them."
import subprocess, sys
from pathlib import Path

corpus = Path(__file__).with_name('corpus.py')

def test_a_twentieth_of_the_hostile_inputs():
    r = subprocess.run([sys.executable, str(corpus), '--every', '20', '--offset', '11'],
                       capture_output=True, text=True, timeout=600)
    assert r.returncode == 0, r.stdout[-8000:] + r.stderr[-2000:]
    assert 'inputs in' in r.stdout
