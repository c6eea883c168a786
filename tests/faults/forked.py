"""Kill a command at chosen moments, quickly: one process imports everything once and forks a child
for each call.

A moment is counted in operations on the files of one folder (opened for writing, renamed, removed,
made), as Python's audit hooks tell them: the child is struck right before the k-th; or in the middle
of the k-th file that is written with `Path.write_bytes` or `write_text`; or after some seconds.
No thread may have been started before a fork, so the parent only imports.
"""
import os, signal, sys, time
from pathlib import Path

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
ONES = ('os.rename', 'os.remove', 'os.mkdir', 'os.rmdir', 'os.link', 'os.symlink', 'os.truncate')

def count_operations(folder, reached):
    "Call `reached(k)` right before the k-th operation on files below a folder."
    inside, n = str(folder), 0
    def hook(event, args):
        nonlocal n
        writes = event == 'open' and isinstance(args[2], int) and args[2] & WRITES
        if not (writes or event in ONES): return
        if not isinstance(args[0], (str, Path)) or not str(args[0]).startswith(inside): return
        n += 1
        reached(n)
    sys.addaudithook(hook)
    return lambda: n

def tear_writes(reached):
    "Call `reached(k)` when half of the k-th file is written."
    n = 0
    def torn(real):
        def write(self, data, *args, **kwargs):
            nonlocal n
            n += 1
            real(self, data[:len(data)//2], *args, **kwargs)
            reached(n)
            return real(self, data, *args, **kwargs)
        return write
    for name in ('write_bytes', 'write_text'): setattr(Path, name, torn(getattr(Path, name)))

def strike_at(k, sign):
    "What sends the signal at the k-th moment."
    def reached(n):
        if n == k: os.kill(os.getpid(), sign)
    return reached

def call(command, folder, said, moment=None, sign=signal.SIGKILL):
    """Fork a child that runs `command()`, and its number. `moment`: None, ('operation', k),
    ('torn', k) or ('seconds', s). What it says goes into the file `said`; last, the number of
    operations."""
    pid = os.fork()
    if pid: return pid
    status = 70
    try:
        with open(said, 'w') as f:
            os.dup2(f.fileno(), 1)
            os.dup2(f.fileno(), 2)
        kind, k = moment or ('operation', 0)
        total = count_operations(folder, strike_at(k if kind == 'operation' else 0, sign))
        if kind == 'torn': tear_writes(strike_at(k, sign))
        if kind == 'seconds':
            signal.signal(signal.SIGALRM, lambda *a: os.kill(os.getpid(), sign))
            signal.setitimer(signal.ITIMER_REAL, k)
        status = command()
        print('operations', total(), flush=True)
    except BaseException:
        import traceback
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status or 0)

def ended(pid, seconds=120):
    "The exit status of a child; minus the signal that ended it, or that stopped it."
    until = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
        if done: break
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise TimeoutError(f'process {pid} went on for {seconds} s')
        time.sleep(0.01)
    if os.WIFSTOPPED(status): return -os.WSTOPSIG(status)
    return os.waitstatus_to_exitcode(status)

def operations(said): return int(Path(said).read_text().splitlines()[-1].split()[-1])
