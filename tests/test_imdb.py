"""The path through IMDB runs at a small size: cut into slices it gives the same numbers, what travels is small and
whole, and the test reviews decide nothing."""
import json, shutil
from pathlib import Path

import numpy as np, pytest, torch
from fastcore.test import expect_fail

root = Path(__file__).resolve().parent.parent
LIMIT_FILE, LIMIT_ALL = 15_000_000, 60_000_000


@pytest.fixture(scope='module')
def imdb():
    import imdb  # from benchmarks/, as pyproject.toml says
    return imdb


@pytest.fixture(scope='module')
def texts():
    from lesson8nlp.data import sample_reviews
    return sample_reviews()


N = 80 # reviews of each part

def args(texts, out, *more):
    return ['--small', '--set', f'n={N}', '--texts', str(texts), '--out', str(out),
            '--results', str(out/'results'), *more]


@pytest.fixture(scope='module')
def whole(imdb, texts, tmp_path_factory):
    "A run from beginning to end."
    out = tmp_path_factory.mktemp('imdb')
    assert imdb.main(args(texts, out)) == 0
    return out


def rows(out):
    return {r['what'].removeprefix('Made-up reviews, '): r
            for r in json.loads((out/'results'/'imdb_small.json').read_text(encoding='utf-8'))}


def travel(out): return [f for f in (out/'travel').rglob('*') if f.is_file()]


def test_every_stage_leaves_its_figures(imdb, whole):
    got = rows(whole)
    for d in imdb.directions:
        lm = got[f'language model, perplexity, {d}']
        assert (2 < lm['ours'] < 1500 and len(lm['epochs']) == imdb.small['lm']['epochs']
                and lm['epochs'][-1]['perplexity'] == pytest.approx(lm['ours'], rel=1e-4))
        assert 2 < lm['by_review'] and lm['by_review_8_bits'] == pytest.approx(lm['by_review'], rel=0.02)
        assert len(lm['samples']) == (6 if d == 'forward' else 0)
    for name in (*imdb.directions, 'forward and backward'):
        r = got[f'classifier, accuracy, {name}']
        assert np.sum(r['confusion']) == r['n_test'] == N and r['low'] <= r['ours'] <= r['high']
        assert r['ours'] == pytest.approx(100*np.trace(r['confusion'])/r['n_test'], abs=0.01)
    assert {f'stage {s}' for s in imdb.stages[1:-1]} <= set(got)
    assert all(np.isfinite(r['ours']) and r['command'].startswith('python benchmarks/imdb.py --small --set n=80')
               for r in got.values())


def test_slices_give_the_same(imdb, texts, whole, tmp_path):
    shutil.copytree(whole/'bundle', tmp_path/'bundle')
    n = 0
    while imdb.main(args(texts, tmp_path, '--minutes', '0')) == 75:
        n += 1
        assert n < 200
        assert sum(f.stat().st_size for f in travel(tmp_path)) < LIMIT_ALL
    assert n > 20
    a, b = rows(whole), rows(tmp_path)
    assert set(a) == set(b)
    for k in a:
        if a[k]['unit'] != 'min':
            assert (a[k]['ours'] == b[k]['ours'] and a[k].get('losses') == b[k].get('losses')
                    and a[k].get('samples') == b[k].get('samples')), k
    assert any(r.get('slices', 1) > 1 for r in b.values())


def test_a_fresh_machine_goes_on_with_what_travels(imdb, texts, whole, tmp_path):
    assert imdb.main(args(texts, tmp_path/'one', '--bundle', str(whole/'bundle'), '--until', 'lm_forward')) == 0
    shutil.copytree(tmp_path/'one'/'travel', tmp_path/'two'/'travel') # without the checkpoints
    files = travel(tmp_path/'two')
    assert (any(f.name == 'weights-001.npz' for f in files)
            and max(f.stat().st_size for f in files) <= imdb.small['part'])
    assert imdb.main(args(tmp_path/'no texts here', tmp_path/'two', '--bundle', str(whole/'bundle'),
                          '--until', 'choose_forward')) == 0
    said = lambda out: json.loads((out/'travel'/'choose_forward.json').read_text(encoding='utf-8'))
    assert ({k: v for k, v in said(tmp_path/'two').items() if k != 'seconds'}
            == {k: v for k, v in said(whole).items() if k != 'seconds'})


def test_what_travels_at_full_size_is_small_enough(imdb):
    from lesson8nlp import awdlstm
    c = imdb.full
    model = awdlstm.get_language_model(awdlstm.AWD_LSTM, c['max_vocab'], awdlstm.awd_lstm_lm_config | c['model'])
    from lesson8nlp.ulmfit import compact_arrays
    assert sum(a.nbytes for a in compact_arrays(model).values()) < LIMIT_ALL - 10_000_000 and c['part'] < LIMIT_FILE


def test_a_model_in_parts(imdb, tmp_path):
    from lesson8nlp import awdlstm
    torch.manual_seed(0)
    model = awdlstm.get_language_model(awdlstm.AWD_LSTM, 90,
                                       awdlstm.awd_lstm_lm_config | dict(emb_sz=12, n_hid=20, n_layers=2))
    vocab = ['xxunk', 'xxpad', *(f'w{i}' for i in range(88))]
    imdb.save_in_parts(tmp_path/'w', imdb.TextModel(model, imdb.Codec(None, vocab)), 1000)
    assert max(f.stat().st_size for f in (tmp_path/'w').glob('*-0*')) == 1000
    back = imdb.load_from_parts(tmp_path/'w')
    assert list(back.codec.vocab) == vocab
    for (k, w), v in zip(model.state_dict().items(), back.model.state_dict().values(), strict=True):
        assert ((v - w).abs() <= w.std()/4).all() and v.shape == w.shape, k
    assert back.model[1].decoder.weight is back.model[0].encoder.weight
    part = tmp_path/'w'/'weights-001.npz'
    part.write_bytes(part.read_bytes()[:-1] + b'?')
    with expect_fail(ValueError, 'weights-001.npz'): imdb.load_from_parts(tmp_path/'w')


def test_a_damaged_bundle_is_refused(imdb, whole, tmp_path):
    b = imdb.Bundle(whole/'bundle')
    assert (len(b.ids) == b.offsets[-1] == b.info['n_tokens'] and len(b.part) == 3*N
            and set(b.labels[b.part == 2]) == {255})
    with expect_fail(FileNotFoundError, 'no bundle'): imdb.Bundle(tmp_path)
    assert set(b.files) == {'ids.xz', 'reviews.npz', 'vocab.json', 'info.json'}
    for name in b.files:
        bad = tmp_path/name.partition('.')[0]
        shutil.copytree(whole/'bundle', bad)
        data = bytearray((bad/name).read_bytes())
        data[len(data)//2] ^= 1
        (bad/name).write_bytes(data)
        with expect_fail(ValueError, name): imdb.Bundle(bad)
        (bad/name).unlink()
        with expect_fail(ValueError, name): imdb.Bundle(bad)


def test_the_other_benchmark_reads_the_bundle(imdb, whole):
    import gpu
    b = imdb.Bundle(whole/'bundle')
    text = gpu.read_texts(gpu.parse(['--small', '--corpus', str(whole/'bundle'), '--out', str(whole)]))
    assert np.array_equal(text.ids, b.ids) and np.array_equal(text.offsets, b.offsets) and 'bundle' in text.said


def test_the_test_reviews_decide_nothing(imdb, texts, whole, tmp_path, monkeypatch):
    "With other labels of the test reviews, everything before the last look is as it was."
    asked = []
    numbers = imdb.Bundle.numbers
    def watched(self, part):
        asked.append(part)
        if part == 'test': raise AssertionError('the test reviews were asked for')
        return numbers(self, part)
    monkeypatch.setattr(imdb.Bundle, 'numbers', watched)
    assert imdb.main(args(texts, tmp_path, '--bundle', str(whole/'bundle'), '--until', 'choose_forward')) == 0
    assert asked and set(asked) == {'train'}
    train, valid = imdb.holdout(type('Run', (), dict(c=imdb.small | dict(n=N)))(), b := imdb.Bundle(whole/'bundle'))
    assert (not set(train) & set(valid) and sorted([*train, *valid]) == numbers(b, 'train').tolist()
            and len(set(b.labels[valid])) == 2)
    with pytest.raises(AssertionError, match='asked for'):
        imdb.main(args(texts, tmp_path, '--bundle', str(whole/'bundle'), '--until', 'clas_forward'))


def test_other_settings_are_another_run(imdb, texts, whole, capsys):
    with expect_fail(SystemExit, 'lm.lr was'): imdb.main(args(texts, whole, '--set', 'lm.lr=0.5'))
    for wrong, said in (('lm.speed=3', 'lm.speed=3: it is NAME=VALUE'), ('lm=3', 'it is NAME=VALUE'),
                        ('lm.lr', 'it is NAME=VALUE'), ('lm.lr=fast', 'neither a number')):
        with pytest.raises(SystemExit): imdb.parse(['--small', '--set', wrong])
        assert said in capsys.readouterr().err


def test_a_bundle_of_other_reviews_or_words_is_refused(imdb, texts, whole, tmp_path):
    "Before any work: the same folder then takes the settings of the bundle."
    asked = lambda *more: args(texts, tmp_path/'run', '--bundle', str(whole/'bundle'), '--until', 'prepare', *more)
    with expect_fail(SystemExit, 'max_vocab was 1500 and is 900'): imdb.main(asked('--set', 'max_vocab=900'))
    with expect_fail(SystemExit, f'n was {N} and is 40'): imdb.main(asked('--set', 'n=40'))
    assert imdb.main(asked()) == 0


def test_tried_runs_are_compared(imdb, whole, tmp_path, capsys):
    imdb.main(['--tried', str(whole), str(tmp_path), '--results', str(tmp_path)])
    row, = json.loads((tmp_path/'imdb_tried.json').read_text(encoding='utf-8'))
    assert ('lm.epochs was 16 and is 3' in row['what'] and row['perplexity'] > 1
            and 'choose_forward is not done' in capsys.readouterr().out)
    with expect_fail(SystemExit, 'None of these'): imdb.main(['--tried', str(tmp_path)])


@pytest.mark.skipif(torch.cuda.is_available(), reason='with a GPU the full path is allowed')
def test_the_full_path_needs_a_gpu(imdb, capsys):
    with pytest.raises(SystemExit): imdb.parse([])
    assert 'add --small' in capsys.readouterr().err


def test_measures(imdb):
    y = np.array([0]*50 + [1]*50)
    p = np.stack([1 - np.linspace(0.01, 0.99, 100), np.linspace(0.01, 0.99, 100)], 1)
    m = imdb.measured(p, y)
    assert m['accuracy'] == 100 and m['f1'] == 1 and m['confusion'] == [[50, 0], [0, 50]] and m['low'] < 100
    flipped = imdb.measured(p, 1 - y)
    assert flipped['accuracy'] == 0 and flipped['f1'] == 0 and flipped['ece'] > m['ece']
    assert imdb.log_loss(y, imdb.temper(p, 2.)) > imdb.log_loss(y, p)
    by_hand = float(-np.log(p[np.arange(100), y]).mean())
    assert m['log_loss'] == pytest.approx(by_hand, abs=1e-4) and len(m['reliability']) == 10
    np.testing.assert_allclose(imdb.temper(p, 1.), p, atol=1e-6)
