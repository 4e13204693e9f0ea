"What is written is on the disk before it gets its name, and what was there stays until then."
import errno, os, signal, subprocess, sys, threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from lesson8nlp import store
from lesson8nlp.store import *
from lesson8nlp.store import one_at_a_time, read_whole


@pytest.fixture
def calls(monkeypatch):
    "What is brought to the disk, and what is renamed, in this order."
    found, sync, replace, rename = [], os.fsync, os.replace, os.rename
    def watch(f, name, path): return lambda *a: (found.append((name, path(*a))), f(*a))[1]
    monkeypatch.setattr(os, 'fsync', watch(sync, 'fsync', lambda fd: os.fstat(fd).st_ino))
    monkeypatch.setattr(os, 'replace', watch(replace, 'rename', lambda a, b: Path(b).name))
    monkeypatch.setattr(os, 'rename', watch(rename, 'rename', lambda a, b: Path(b).name))
    return found


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, calls):
    """Without fsync, the name may outlive a power failure and the bytes may not: nothing but the order of the calls
    shows it."""
    with atomic_file(tmp_path/'a.txt') as f: f.write('all of it')
    assert calls == [('fsync', (tmp_path/'a.txt').stat().st_ino), ('rename', 'a.txt')]


def test_all_bytes_of_a_file_are_in_it_when_it_is_brought_to_the_disk(tmp_path, monkeypatch):
    "What is still in Python's own buffer is not brought to the disk by fsync."
    sizes, sync = [], os.fsync
    monkeypatch.setattr(os, 'fsync', lambda fd: (sizes.append(os.fstat(fd).st_size), sync(fd)))
    with atomic_file(tmp_path/'a.txt') as f: f.write('all of it')
    with atomic_file(tmp_path/'b', 'wb') as f: f.write(b'bytes')
    assert sizes == [9, 5]


@pytest.mark.parametrize('replace', [False, True])
def test_every_file_of_a_folder_is_on_the_disk_before_the_folder_has_its_name(tmp_path, calls, replace):
    for _ in range(2 if replace else 1):
        calls.clear()
        with atomic_folder(tmp_path/'d', replace=replace) as d:
            (d/'sub').mkdir()
            for name in ('a', 'b', 'sub/c'): (d/name).write_text(name)
    first = next(i for i, (what, _) in enumerate(calls) if what == 'rename')
    inodes = {(tmp_path/'d'/name).stat().st_ino for name in ('a', 'b', 'sub/c')}
    assert {ino for what, ino in calls[:first]} == inodes and all(what == 'rename' for what, _ in calls[first:])


def test_what_fails_leaves_what_was_there(tmp_path):
    with atomic_file(tmp_path/'a') as f: f.write('old')
    with atomic_folder(tmp_path/'d') as d: (d/'x').write_text('old')
    with pytest.raises(ZeroDivisionError):
        with atomic_file(tmp_path/'a') as f: f.write('new'); 1/0
    with pytest.raises(ZeroDivisionError):
        with atomic_folder(tmp_path/'d', replace=True) as d: (d/'x').write_text('new'); 1/0
    assert ((tmp_path/'a').read_text() == (tmp_path/'d'/'x').read_text() == 'old'
            and sorted(p.name for p in tmp_path.iterdir()) == ['a', 'd'])


@pytest.mark.parametrize('kind', ['file', 'device'])
def test_what_is_no_folder_is_never_replaced_by_one(tmp_path, kind):
    "Root may rename a device: /dev/null of a whole machine became a saved model."
    path = tmp_path/'x'
    if kind == 'file': path.write_text('mine')
    elif not hasattr(os, 'mkfifo'): pytest.skip('POSIX')
    else: os.mkfifo(path)
    was = path.stat().st_mode
    for replace in (False, True):
        with pytest.raises(FileExistsError, match='x exists and is not a folder'):
            with atomic_folder(path, replace=replace): pass
    assert path.stat().st_mode == was and [p.name for p in tmp_path.iterdir()] == ['x']


def test_a_state_with_views_of_one_memory(tmp_path):
    "Slices and other shapes of a tensor are written too; the same tensor twice is written once."
    x = torch.arange(6.)
    state = dict(x=x, again=x, part=x[:2], shape=x.view(2, 3), t=x.view(2, 3).t(),
                 empty=[torch.ones(0), torch.ones(0, 3)])
    save_state(tmp_path/'s', state)
    back = load_state(tmp_path/'s')
    assert (all(torch.equal(back[k], state[k]) for k in ('x', 'again', 'part', 'shape', 't'))
            and back['again'] is back['x'])
    assert [list(o.shape) for o in back['empty']] == [[0], [0, 3]]


@pytest.mark.skipif(os.name != 'posix', reason='rights of POSIX')
def test_new_files_have_the_rights_of_any_other_and_the_umask_is_left_alone(tmp_path, monkeypatch):
    "The umask can be read only by setting it, for all threads at once: two that did so left it at 0."
    before = os.umask(0o027)
    try:
        monkeypatch.setattr(os, 'umask', None)  # whoever sets it fails
        with atomic_file(tmp_path/'f') as f: f.write('x')
        with atomic_file(tmp_path/'b', 'wb') as f: f.write(b'x')
        with atomic_folder(tmp_path/'d') as d: (d/'x').write_text('x')
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert [(tmp_path/o).stat().st_mode & 0o777 for o in ('f', 'b', 'd')] == [0o640, 0o640, 0o750]


def test_writers_of_one_folder_wait_for_each_other(tmp_path):
    "The second one removed the folder into which the first one was writing, and both used the same hidden names."
    def write(i):
        for _ in range(5):
            with atomic_folder(tmp_path/'d[1]', replace=True) as d:
                for name in 'abc': (d/name).write_text(str(i))
    with ThreadPoolExecutor(6) as pool: list(pool.map(write, range(6)))
    assert len({p.read_text() for p in (tmp_path/'d[1]').iterdir()}) == 1
    assert [p.name for p in tmp_path.iterdir()] == ['d[1]']


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    for name in ('.d.new', '.d.old', '.d.new.0123', '.other.new.0123'):
        (tmp_path/name).mkdir()
        (tmp_path/name/'x').write_text('left')
    (tmp_path/'d').mkdir()
    with atomic_folder(tmp_path/'d', replace=True) as d: (d/'x').write_text('new')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['.other.new.0123', 'd']
    assert (tmp_path/'d'/'x').read_text() == 'new'


@contextmanager
def held_elsewhere(path, **how): # the lock, by another thread
    ready, done = threading.Event(), threading.Event()
    def hold():
        with one_at_a_time(path, **how): ready.set(); done.wait(60)
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(hold)
        assert ready.wait(60)
        try: yield
        finally: done.set()
        job.result()


@pytest.mark.skipif(not hasattr(signal, 'setitimer'), reason='signals of POSIX')
def test_a_time_limit_ends_the_wait_for_a_lock(tmp_path):
    "The TimeoutError of a signal handler was taken for a lock that cannot be made: the block ran without one."
    def late(*args): raise TimeoutError('too late')
    was, ran = signal.signal(signal.SIGALRM, late), []
    try:
        with held_elsewhere(tmp_path/'d'):
            signal.setitimer(signal.ITIMER_REAL, .2)
            with pytest.raises(TimeoutError, match='too late'):
                with one_at_a_time(tmp_path/'d'): ran.append(1)
    finally: signal.signal(signal.SIGALRM, was)
    assert not ran


@pytest.mark.parametrize('number, runs', [(errno.EROFS, 1), (errno.ENOSPC, 1), (errno.EACCES, 1), (errno.EIO, 0)])
def test_where_no_lock_can_be_made_nobody_waits(tmp_path, monkeypatch, number, runs):
    def acquire(self, **how): raise OSError(number, os.strerror(number))
    monkeypatch.setattr(store.FileLock, 'acquire', acquire)
    ran = []
    for beside in (False, True):
        try:
            with one_at_a_time(tmp_path/'d', beside=beside): ran.append(1)
        except OSError as e: assert e.errno == number and not runs
    assert len(ran) == 2*runs


def test_a_lock_beside_the_folder_is_seen_with_another_tmpdir(tmp_path):
    "Jobs with a TMPDIR of their own did not see each other's lock."
    code = 'import sys; from lesson8nlp.store import one_at_a_time\nwith one_at_a_time(sys.argv[1], "busy", True): pass'
    (tmp_path/'other').mkdir()
    with one_at_a_time(tmp_path/'d', beside=True):
        p = subprocess.run([sys.executable, '-c', code, tmp_path/'d'], capture_output=True, text=True,
                           env=dict(os.environ, TMPDIR=str(tmp_path/'other')))
    assert p.returncode == 1 and 'BlockingIOError: busy' in p.stderr


def test_a_lock_that_may_not_be_beside_the_folder_is_elsewhere(tmp_path, monkeypatch):
    make = Path.mkdir
    def mkdir(self, *args, **how):
        if self == tmp_path: raise PermissionError(errno.EACCES, 'not here')
        make(self, *args, **how)
    monkeypatch.setattr(Path, 'mkdir', mkdir)
    with held_elsewhere(tmp_path/'d', beside=True):
        with pytest.raises(BlockingIOError, match='busy'):
            with one_at_a_time(tmp_path/'d', 'busy', beside=True): pass
    assert not (tmp_path/'.d.lock').exists()


def test_what_is_read_comes_from_one_folder(tmp_path):
    "Two files of two versions, where the folder is replaced between them; an error of such a mix counts for nothing."
    def write(text):
        with atomic_folder(tmp_path/'d', replace=True) as d:
            for name in 'ab': (d/name).write_text(text)
    def read(fail=False):
        a = (tmp_path/'d'/'a').read_text()
        if a == 'old': write('new')
        if (b := (tmp_path/'d'/'b').read_text()) != a and fail: raise ValueError(f'{a} and {b}')
        return a + b
    for fail in (False, True):
        write('old')
        assert read_whole(tmp_path/'d', lambda: read(fail)) == 'newnew'


@pytest.mark.skipif(os.name == 'nt', reason='readers wait, since no folder with an open file can be renamed')
def test_a_reader_waits_only_if_the_folder_is_replaced(tmp_path):
    "One that was stopped made all others wait for good."
    (tmp_path/'d').mkdir()
    def broken(): raise CorruptedError('it is')
    with ThreadPoolExecutor(1) as pool, one_at_a_time(tmp_path/'d'):
        assert pool.submit(read_whole, tmp_path/'d', lambda: 3).result(30) == 3
        with pytest.raises(CorruptedError, match='it is'): pool.submit(read_whole, tmp_path/'d', broken).result(30)
