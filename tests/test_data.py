"What a notebook cannot show well about the data: downloads, two processes at once, kills, broken folders."
import io, os, subprocess, sys, tarfile, threading, time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np, pytest
from fastcore.test import expect_fail

from lesson8nlp.store import atomic_file, atomic_folder


def python(code, home, **kw):
    return subprocess.Popen([sys.executable, '-W', 'ignore', '-c', code],
        env=dict(os.environ, FASTAI_HOME=str(home)), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kw)


def test_two_processes_make_the_sample_at_once(tmp_path):
    code = ('from lesson8nlp.data import *\n'
            'p = get_imdb(download=False); print(sum(1 for _ in p.rglob("*.txt"))); human_numbers()')
    outs = [p.communicate(timeout=120) for p in [python(code, tmp_path) for _ in range(2)]]
    for out, err in outs: assert out.split()[-1] == '2000', err
    assert not [o for o in (tmp_path/'data').iterdir() if o.name.startswith('.')]


def test_a_kill_leaves_no_half_folder(tmp_path):
    "Stopped with SIGKILL while it writes, again and again; then it is whole."
    code = 'from lesson8nlp.data import *\nprint("go", flush=True)\nsample_reviews()'
    for i in range(4):
        p = python(code, tmp_path)
        p.stdout.readline()
        time.sleep(0.02 + 0.04*i)
        p.kill()
        p.communicate()
    out, err = python('from lesson8nlp.data import *\nprint(sum(1 for _ in sample_reviews().rglob("*.txt")))',
                      tmp_path).communicate(timeout=120)
    assert out.split()[-1] == '2000', err


def test_human_numbers_notices_a_changed_file(tmp_path):
    code = 'from lesson8nlp.data import *\np = human_numbers()\n(p/"valid.txt").write_text("nine \\n")\nhuman_numbers()'
    out, err = python(code, tmp_path).communicate(timeout=120)
    assert 'is not the expected file: remove the folder' in err


def tgz(path, names):
    with tarfile.open(path, 'w:gz') as t:
        for n in names:
            m = tarfile.TarInfo(n)
            m.size = 4
            t.addfile(m, io.BytesIO(b'Good'))


@pytest.mark.skipif(os.name == 'nt', reason='local server')
@pytest.mark.parametrize('extra, says', [([], 'the real IMDB, 5 of them'),
                                         (['imdb/../evil.txt'], 'the download failed: ValueError')])
def test_imdb_is_downloaded_checked_and_unpacked(tmp_path, extra, says):
    (tmp_path/'www').mkdir()
    tgz(tmp_path/'www'/'imdb.tgz',
        [f'imdb/{d}/0_1.txt' for d in ('train/pos', 'train/neg', 'test/pos', 'test/neg', 'unsup')] + extra)
    srv = ThreadingHTTPServer(('127.0.0.1', 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path/'www')))
    threading.Thread(target=srv.serve_forever, daemon=True).start()
    code = ('import lesson8nlp.data as d\n'
            f'd.URLs.IMDB = "http://127.0.0.1:{srv.server_port}/imdb.tgz"\n'
            'p = d.get_imdb()\nprint(p.name)')
    out, err = python(code, tmp_path/'home').communicate(timeout=120)
    srv.shutdown()
    assert says in out, out + err
    assert not list(tmp_path.rglob('evil.txt'))
    assert (tmp_path/'home'/'data'/'imdb').exists() == (not extra)


def test_an_incomplete_imdb_folder_is_named(tmp_path):
    (tmp_path/'data'/'imdb'/'train'/'pos').mkdir(parents=True)
    out, err = python('from lesson8nlp.data import *\nget_imdb()', tmp_path).communicate(timeout=120)
    assert 'is incomplete, it lacks train/neg, test/pos, test/neg, unsup' in err


def test_no_space_leaves_the_old_file(tmp_path):
    resource = pytest.importorskip('resource')
    code = ('import resource, signal\n'
            'from lesson8nlp.store import *\n'
            'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
            f'p = Path({str(tmp_path/"f.txt")!r})\n'
            'with atomic_file(p) as f: f.write("old")\n'
            'resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n'
            'try:\n    with atomic_file(p) as f: f.write("x"*100_000)\n'
            'except OSError as e: print(type(e).__name__)\n'
            'print(p.read_text())')
    out, err = python(code.replace('from lesson8nlp.store import *',
                                   'from lesson8nlp.store import *\nfrom pathlib import Path'),
                      tmp_path/'home').communicate(timeout=120)
    assert out.split() == ['OSError', 'old'], err
    assert [o.name for o in tmp_path.iterdir() if o.name.startswith('.')] == []


def test_a_folder_that_fails_leaves_nothing(tmp_path):
    with expect_fail(ZeroDivisionError):
        with atomic_folder(tmp_path/'new') as d:
            (d/'one.txt').write_text('1')
            1/0
    assert list(tmp_path.iterdir()) == []


def test_written_files_have_ordinary_permissions(tmp_path):
    with atomic_file(tmp_path/'a.txt') as f: f.write('a')
    (tmp_path/'b.txt').write_text('b')
    assert (tmp_path/'a.txt').stat().st_mode == (tmp_path/'b.txt').stat().st_mode


def test_one_flipped_bit_of_an_archive_is_noticed(tmp_path):
    "tarfile stops at its own end, before the checksum of what it was packed in."
    from lesson8nlp.data import extract_folder
    folder = tmp_path/'src'/'one'
    folder.mkdir(parents=True)
    (folder/'a.bin').write_bytes(os.urandom(20_000))
    for ext, way in (('tgz', 'w:gz'), ('txz', 'w:xz')):
        archive = tmp_path/f'one.{ext}'
        with tarfile.open(archive, way) as t: t.add(folder, 'one')
        whole = archive.read_bytes()
        for i in range(300, len(whole) - 300, 2_999):
            archive.write_bytes(whole[:i] + bytes([whole[i] ^ 4]) + whole[i+1:])
            with expect_fail(ValueError, 'is damaged'): extract_folder(archive, tmp_path/f'{ext}{i}'/'one')
        archive.write_bytes(whole)
        out = extract_folder(archive, tmp_path/ext/'one')
        assert (out/'a.bin').read_bytes() == (folder/'a.bin').read_bytes()


def test_a_damaged_block_of_bzip2_is_said_as_well(tmp_path):
    "After the first 900 KB its error is a bare OSError."
    from lesson8nlp.data import extract_folder
    (tmp_path/'a.bin').write_bytes(os.urandom(1_200_000))
    with tarfile.open(archive := tmp_path/'one.tar.bz2', 'w:bz2') as t: t.add(tmp_path/'a.bin', 'one/a.bin')
    data = archive.read_bytes()
    archive.write_bytes(data[:-9_000] + bytes([data[-9_000] ^ 4]) + data[-8_999:])
    with pytest.raises(ValueError, match='one.tar.bz2 is damaged'): extract_folder(archive, tmp_path/'out'/'one')
    with pytest.raises(FileNotFoundError): extract_folder(tmp_path/'none.tar.bz2', tmp_path/'out'/'one')


@pytest.mark.parametrize('value', [Path('a'), {'file': Path('a')}, np.arange(3)], ids=['path', 'inside', 'array'])
def test_a_row_of_results_holds_plain_values(tmp_path, value):
    from lesson8nlp.core import result_row, save_results
    row = result_row('one plus one', np.float32(2), 'apples', 'python -c "print(1+1)"')
    save_results(tmp_path/'sums.json', [row])
    with pytest.raises(TypeError, match=r"Row 1 has .* as 'seeds', a .*: a row holds text, numbers"):
        save_results(tmp_path/'sums.json', [row, row | dict(seeds=value)])
    assert len((tmp_path/'sums.json').read_text()) > 50
