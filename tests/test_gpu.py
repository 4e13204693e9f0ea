"""The GPU benchmark runs on a processor at a small size, every piece of it; its rows are whole, its checks can fail,
and nothing of it needs a network or a tokenizer."""
import json, os, subprocess, sys
from pathlib import Path

import numpy as np, pytest, torch

root = Path(__file__).resolve().parent.parent


@pytest.fixture(scope='module')
def gpu():
    import gpu  # from benchmarks/, as pyproject.toml says
    return gpu


@pytest.fixture
def a(gpu, tmp_path):
    a = gpu.parse(['--small', '--rounds', '1', '--out', str(tmp_path)])
    a.text, a.command = gpu.read_texts(a), 'python benchmarks/gpu.py --small'
    return a


@pytest.fixture(scope='module')
def results(gpu, tmp_path_factory):
    "What all pieces wrote."
    out = tmp_path_factory.mktemp('gpu')
    gpu.main(['--small', '--rounds', '1', '--out', str(out)])
    return {f.stem[4:]: json.loads(f.read_text(encoding='utf-8')) for f in out.glob('gpu_*.json')}


def test_every_piece_writes_whole_rows(gpu, results):
    kind = 'gpu' if torch.cuda.is_available() else 'cpu'
    assert set(results) == set(gpu.pieces) - ({'sync'} if kind == 'cpu' else set())
    for piece, rows in results.items():
        assert rows and len({r['what'] for r in rows}) == len(rows)
        for r in rows:
            assert (r['kind'] == kind and r['piece'] == piece and r['machine']['torch'] == torch.__version__
                    and r['n_runs'] == len(r['runs']))
            assert np.isfinite(r['ours']) and r['spread'][0] <= r['ours'] <= r['spread'][1]
            assert r['command'] == f'python benchmarks/gpu.py --piece {piece} --small'


def test_everybody_took_part(gpu, results):
    assert {r['who'] for r in results['step']} == set(gpu.contestants)
    assert sum(r['what'] == 'the largest batch that helps' for r in results['step']) == 1
    assert {r['model'] for r in results['ladder']} == set(range(1, 8))
    assert {(r['who'], r['part']) for r in results['classifier']} == {
        (w, p) for w in ('fastai fp16', 'ours fp16', 'ours bf16') for p in ('training', 'reading')}
    assert {(r['who'], r['batch']) for r in results['generate']} == {('fastai', 1), ('ours', 1), ('ours', 64)}


def test_the_largest_batch_is_compared_with_fastais_best(gpu, a, monkeypatch):
    a.c |= dict(more_bs=(8, 16, 32, 64))
    a.rounds = 2
    def timed(learner, warm, steps):
        who, bs = learner()
        if who == 'fastai' and bs == 64: raise RuntimeError('CUDA out of memory')
        return (1. if who == 'fastai' or bs < 32 else 4.), None  # fastai gains up to 32 rows, ours up to 16
    monkeypatch.setattr(gpu, 'lm_learner', lambda who, prec, text, a, loader, bs: (who, bs))
    monkeypatch.setattr(gpu, 'timed', timed)
    rows = gpu.Rows('step', a)
    gpu.step(a, rows)
    tried = {who: [r['batch'] for r in rows.rows if r['who'] == who and r['what'].startswith('training')]
             for who in gpu.contestants}
    assert tried['fastai fp16'] == [4, 8, 16, 32] and tried['ours fp16'] == [4, 8, 16, 32]
    row = rows.rows[-1]
    assert (row['what'], row['batch'], row['peer_batch'], row['ratio']) == ('the largest batch that helps', 16, 32, 0.5)


def test_the_numbers_are_fastais(gpu, results):
    rows = {r['prec']: r for r in results['same'] if 'prec' in r}
    assert set(rows) == {'fp32', 'fp16', 'bf16'} and all(r['reached'] for r in rows.values())
    assert abs(rows['fp32']['loss'] - rows['fp32']['peer_loss']) < 1e-5
    for r in results['same']:
        if 'curves' in r: assert np.shape(r['curves']) == (gpu.small['seeds'], gpu.small['curve']) and r['apart'] < 0.1


def test_parts_make_a_step(results):
    for who in ('fastai fp16', 'ours fp16', 'ours bf16'):
        rows = [r for r in results['profile'] if r.get('who') == who and 'part' in r]
        names = {r['part'] for r in rows}
        for part in ('loader', 'Learner', 'optimizer', 'embedding, forward', 'embedding, backward', 'LSTM 1, forward',
                     'LSTM 2, backward', 'decoder and loss, forward', 'decoder and loss, backward',
                     'AR and TAR, forward', 'AR and TAR, backward'):
            assert part in names, f'{part} of {who}'
        whole = next(sum(r['runs']) for r in rows if r['part'] == 'all')
        assert sum(sum(r['runs']) for r in rows if r['part'] != 'all') == pytest.approx(whole, rel=.01)


def test_marks_change_no_gradient(gpu, a):
    def grads(watched):
        learn = gpu.lm_learner('ours', 'fp32', a.text, a)
        clock = gpu.Marks()
        clock.on = True
        if watched: gpu.watch(learn.model, clock)
        loss, g = gpu.grab(learn)
        assert bool(clock.marks) == watched
        return loss, g
    (l1, g1), (l2, g2) = grads(False), grads(True)
    assert l1 == l2 and gpu.distance(g2, g1)[0] == 0


def test_distance_sees_what_differs(gpu):
    ref = {'a': torch.ones(3), 'b': torch.ones(1)}
    far, (worst, d) = gpu.distance({'a': torch.ones(3), 'b': torch.zeros(1)}, ref)
    assert far == pytest.approx(.5) and (worst, d) == ('b', 1)
    with pytest.raises(RuntimeError, match='other weights'): gpu.distance({'a': torch.ones(3)}, ref)


def test_a_wrong_gradient_is_reported(gpu, a, monkeypatch):
    grab = gpu.grab
    def wrong(learn):
        loss, g = grab(learn)
        if isinstance(learn, gpu.ours.LMLearner): g = {n: 1.1*o for n, o in g.items()}
        return loss, g
    monkeypatch.setattr(gpu, 'grab', wrong)
    monkeypatch.setattr(gpu, 'curves', lambda *args: np.zeros(6))
    rows = gpu.Rows('same', a)
    gpu.same(a, rows)
    assert not any(r['reached'] for r in rows.rows if 'prec' in r)


def test_rows_of_the_other_machine_stay(gpu, a):
    rows = gpu.Rows('ladder', a)
    rows.put([dict(rows.add('one', [3., 1., 2.], 's'), kind='other'), dict(rows.add('old', 1., 's'))])
    rows = gpu.Rows('ladder', a)
    assert rows.add('one', 5., 's')['spread'] == [5, 5]
    rows.done()
    saved = json.loads(rows.path.read_text(encoding='utf-8'))
    assert {(r['kind'], r['what'], r['ours']) for r in saved} == {('other', 'one', 2.), (a.kind, 'one', 5.)}


def test_a_broken_piece_stops_no_other(gpu, tmp_path, monkeypatch, capsys):
    def broken(a, rows):
        "Breaks."
        rows.add('first', 1., 's')
        raise KeyError('here')
    monkeypatch.setattr(gpu, 'pieces', dict(floor=broken, same=lambda a, rows: rows.add('second', 2., 's')))
    gpu.pieces['same'].__doc__ = 'Works.'
    with pytest.raises(SystemExit, match='Not finished: floor'): gpu.main(['--small', '--out', str(tmp_path)])
    assert {json.loads(f.read_text())[0]['what'] for f in tmp_path.glob('*.json')} == {'first', 'second'}


def test_the_made_up_stream_has_imdbs_statistics(gpu):
    c = dict(gpu.full, n_docs=3000)
    ids, offsets = gpu.made_up(c)
    lens = np.diff(offsets)
    assert abs(lens.mean() - 301) < 12 and abs(np.median(lens) - 239) < 12 and lens.max() <= 3426
    assert ids.dtype == np.uint16 and (ids[offsets[:-1]] == 2).all() and ids.max() < 60_000
    share = np.sort(np.bincount(ids[ids > 8], minlength=60_000)/len(ids))[::-1]
    assert abs(share[0] - .0626) < .005 and share[:1000].sum() > .7
    assert (gpu.made_up(c)[0] == ids).all()


def test_operations_by_hand(gpu):
    lstm, dec = gpu.operations(dict(emb_sz=2, n_hid=3, n_layers=2, vocab_sz=5))
    assert lstm == 3*(2*4*3*(2 + 3) + 2*4*2*(3 + 2)) and dec == 3*2*2*5


def test_texts_come_from_a_corpus_too(gpu, tmp_path):
    ids, offsets = gpu.made_up(gpu.small, seed=1)
    np.savez(tmp_path/'ids.npz', ids=ids, offsets=offsets)
    a = gpu.parse(['--small', '--corpus', str(tmp_path/'ids.npz'), '--out', str(tmp_path)])
    text = gpu.read_texts(a)
    assert (text.ids == ids).all() and 'a ready corpus' in text.said
    corpus = gpu.Corpus.from_texts(['one two three four'*50, 'five six seven'*50], path=tmp_path/'corpus', min_freq=1,
                                   progress=False)
    a = gpu.parse(['--small', '--corpus', str(tmp_path/'corpus'), '--out', str(tmp_path)])
    assert gpu.read_texts(a).offsets.tolist() == corpus.offsets.tolist() and a.c['vocab_sz'] == 1000
    np.savez(tmp_path/'few.npz', ids=ids[:50], offsets=np.array([0, 50]))
    with pytest.raises(SystemExit, match='50 tokens'):
        gpu.read_texts(gpu.parse(['--small', '--corpus', str(tmp_path/'few.npz'), '--out', str(tmp_path)]))


@pytest.mark.parametrize('args, says', [
    (['--corpus', 'a', '--texts', 'b', '--small'], 'not both'), (['--rounds', '0', '--small'], 'at least 1'),
    (['--piece', 'nothing'], 'invalid choice')])
def test_what_cannot_be_asked(gpu, capsys, args, says):
    with pytest.raises(SystemExit): gpu.parse(args)
    assert says in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason='a processor alone')
def test_full_sizes_need_a_gpu(gpu, capsys):
    with pytest.raises(SystemExit): gpu.parse([])
    assert 'add --small' in capsys.readouterr().err


def test_it_runs_without_tokenizers(tmp_path):
    "spaCy and sentencepiece are not needed: a machine without them can measure."
    code = f'''
import importlib.util, sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('spacy', 'sentencepiece'): raise ModuleNotFoundError(name)
real, names = importlib.util.find_spec, ('spacy', 'sentencepiece')
importlib.util.find_spec = lambda name, *args: None if name in names else real(name, *args)
sys.meta_path.insert(0, Missing())
import gpu
gpu.small.update(words=2)
gpu.main(['--small', '--rounds', '1', '--out', {str(tmp_path)!r}, '--piece', 'generate'])
try: gpu.main(['--small', '--out', {str(tmp_path)!r}, '--texts', '.'])
except SystemExit as e: assert 'needs spaCy' in str(e)
else: raise AssertionError('texts without a tokenizer')
'''
    env = os.environ | dict(PYTHONPATH=os.pathsep.join([str(root/'benchmarks'), os.environ.get('PYTHONPATH', '')]))
    subprocess.run([sys.executable, '-c', code], check=True, timeout=120, capture_output=True, env=env)
    assert len(json.loads((tmp_path/'gpu_generate.json').read_text(encoding='utf-8'))) == 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason='nobody to wait for on a processor')
@pytest.mark.parametrize('prec', ['fp16', 'bf16'])
def test_no_step_waits_for_the_card(gpu, a, prec):
    learn = gpu.lm_learner('ours', prec, a.text, a)
    try:
        gpu.run(learn, 2, 3, lambda: torch.cuda.set_sync_debug_mode('error'),
                lambda: torch.cuda.set_sync_debug_mode('default'))
    finally: torch.cuda.set_sync_debug_mode('default')
