"Recipes, loaders, seeds and tables of the experiments: the same runs as in the lessons, and rows that can be trusted."
import json, math, sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import sleep
from types import SimpleNamespace

import numpy as np, pytest
import torch
from fastcore.test import expect_fail
from matplotlib.text import Text

from lesson8nlp import experiments as ex
from lesson8nlp.dataloader import LMDataLoader
from lesson8nlp.experiments import *
from lesson8nlp.models import *

V = 20
results = Path(__file__).resolve().parent.parent/'benchmarks'/'results'
text = lambda n=6000: torch.randint(0, V, (n,), generator=torch.Generator().manual_seed(0))


def test_windows_and_chunks():
    x, y = word_windows(torch.arange(11), 3)
    assert x.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]] and y.tolist() == [3, 6, 9]
    assert word_windows(torch.arange(11), 3, every=True)[1].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    with expect_fail(ValueError, 'at least 5'): word_windows(torch.arange(4), 3)
    assert group_chunks(torch.arange(7), 2).tolist() == [0, 3, 1, 4, 2, 5]
    for bs in (8, 0):
        with expect_fail(ValueError, f'do not fill a batch of {bs}'): group_chunks(torch.arange(7), bs)
    for ids, sl in ((torch.arange(12).view(3, 4), 3), (torch.arange(12), 0)):
        with expect_fail(ValueError, 'one text of shape (n,)'): word_windows(ids, sl)


def test_human_ids():
    ids, vocab = human_ids()
    assert ids.shape == (63_095,) and ids.dtype == torch.int64 and len(vocab) == len(set(vocab)) == 30
    assert ' '.join(vocab[i] for i in ids[:4]) == 'one . two .' and ids.unique().tolist() == list(range(30))


@pytest.mark.parametrize('bs, sl', [(64, 16), (8, 5)])
def test_the_batches_are_those_of_the_data_loader(bs, sl):
    "Row i of each batch continues row i of the batch before; the targets are the inputs, shifted by one."
    ids = human_ids()[0]
    dls = stream_dls(ids, bs=bs, sl=sl)
    n = len(dls.train)*bs*sl
    theirs = list(LMDataLoader(ids[:n + 1], bs=bs, seq_len=sl))
    assert len(theirs) == len(dls.train)
    for (xa, ya), (xb, yb) in zip(dls.train, theirs): assert torch.equal(xa, xb) and torch.equal(ya, yb)


@pytest.mark.parametrize('valid', [(.8, 1.), (.6, .8), (.5, .7)])
def test_no_target_of_the_validation_part_was_trained_on(valid):
    ids = torch.arange(20_000)
    dls = stream_dls(ids, valid=valid, bs=8)
    train, val = (torch.cat([y.flatten() for _, y in dl]) for dl in dls)
    assert train.max() < val.min() and abs(val.min()/len(ids) - valid[0]) < .01 and val.max() <= valid[1]*len(ids)
    assert abs(len(val)/len(ids) - (valid[1] - valid[0])) < .02 and abs(len(train)/len(ids) - valid[0]) < .02


@pytest.mark.parametrize('k', range(1, 8))
def test_the_ladder_has_the_data_of_the_lesson(k):
    dls, ids = ladder_dls(k), human_ids()[0]
    x, y = dls.one_batch()
    assert x.shape == (64, 3 if k < 4 else 16) and y.shape == ((64,) if k < 4 else (64, 16))
    a, b = list(dls.train)[:2]
    if k < 3:
        assert torch.equal(x.flatten(), ids[:192]) and len(dls.train.dataset) == 263 and len(dls.valid.dataset) == 66
    else: assert all(torch.equal(i, j) for i, j in zip(b[0][:, 0], a[1][:, -1] if k > 3 else a[1])), 'row i goes on'
    if k > 3: assert torch.equal(x[:, 1:], y[:, :-1]) and (len(dls.train), len(dls.valid)) == (49, 12)


@pytest.mark.parametrize('k', range(1, 8))
def test_a_run_of_the_ladder_can_be_repeated(k):
    (learn, a), (_, b) = (train_ladder(k, 3, n_hidden=8, epochs=1) for _ in range(2))
    assert {n: a[n] for n in a if n != 'seconds'} == {n: b[n] for n in b if n != 'seconds'}
    assert type(learn.model).__name__ == f'LMModel{k}' and learn.model.config['n_hidden'] == 8
    assert a['params'] == sum(p.numel() for p in learn.model.parameters()) and len(learn.recorder.values) == 1
    loss, acc = learn.validate()
    assert math.isclose(loss, a['valid_loss'], rel_tol=1e-5) and math.isclose(100*acc, a['accuracy'], rel_tol=1e-5)


def test_another_seed_is_another_run():
    a, b = (train_ladder(4, s, n_hidden=8, epochs=1)[1] for s in (0, 1))
    assert a['valid_loss'] != b['valid_loss']


def test_the_last_epoch_counts_and_the_best_is_beside_it():
    learn, row = train_ladder(1, 3)
    accs = [100*v[2] for v in learn.recorder.values]
    assert len(accs) == ladder_recipes[1]['epochs'] == 4 and row['accuracy'] == accs[-1] and row['best'] == max(accs)


def test_the_recipes_reach_the_learner():
    """Rates, epochs, weight decay and dropout of the recipe are those of the run, so a changed recipe cannot go
    unnoticed."""
    learn, _ = train_ladder(7, 0, epochs=1)
    assert learn.opt.hypers[0]['wd'] == 0.1 and learn.model.drop.p == 0.4 and learn.model.rnn.num_layers == 2
    assert math.isclose(max(learn.recorder.lrs), 1e-2, rel_tol=.05) and learn.moms == (0.8, 0.7, 0.8)
    learn, _ = train_ladder(5, 0, epochs=1)
    assert math.isclose(max(learn.recorder.lrs), 3e-3, rel_tol=.05) and learn.opt.hypers[0]['wd'] != 0.1
    assert [(r['epochs'], r['lr'], r.get('wd')) for r in ladder_recipes.values()] == [
        (4, 1e-3, None), (4, 1e-3, None), (10, 3e-3, None), (15, 3e-3, None), (15, 3e-3, None), (15, 1e-2, None),
        (15, 1e-2, .1)]


@pytest.mark.parametrize('name', beyond_recipes)
def test_every_recipe_runs_on_another_text_and_can_be_repeated(name):
    ids = torch.randint(0, V, (6000,), generator=torch.Generator().manual_seed(0))
    ids[-1] = V - 1
    (learn, a), (_, b) = (train_beyond(name, seed=3, ids=ids, epochs=1) for _ in range(2))
    assert a['valid_loss'] == b['valid_loss'] and a['params'] == sum(p.numel() for p in learn.model.parameters())


def test_the_recipes_beyond_reach_the_learner():
    import inspect
    assert {n: (r['epochs'], r['lr'], r.get('alpha'), r.get('beta')) for n, r in beyond_recipes.items()} == {
        'LMModel7': (15, 1e-2, None, None), 'ContinuousCache': (15, 1e-2, None, None),
        'PointerSentinel': (8, 1e-2, None, None),
        'AttentionLSTM': (15, 1e-2, None, None), 'TransformerLM': (8, 5e-3, 0, 0),
        'PointerSentinel of a TransformerLM': (8, 5e-3, 0, 0)}
    assert inspect.signature(train_beyond).parameters['cache'].default == dict(window=128, theta=20., lam=.4)
    learn, _ = train_beyond('PointerSentinel of a TransformerLM', ids=text(), epochs=1)
    assert learn.opt.hypers[0]['wd'] == 0.1 and learn.lr == 5e-3
    assert not [cb for cb in learn.cbs if getattr(cb, 'alpha', 0) or getattr(cb, 'beta', 0)], 'no AR and TAR'
    assert (learn.model.window, learn.model.model.config) == (
        32, dict(vocab_sz=V, n_hidden=64, n_layers=2, p=0.1, heads=2, window=12))


def test_a_recipe_of_ones_own():
    class Count(ex.Callback):
        epochs = 0
        def after_train(self): Count.epochs += 1
    recipe = dict(make=lambda n: LMModel7(n, 8, 1, 0.), epochs=2, lr=1e-2, cbs=Count)
    learn, row = train_beyond('mine', ids=text(), recipe=recipe)
    assert row['model'] == 'mine' and Count.epochs == 2 and row['params'] == V*8 + V + 4*8*18
    assert recipe.keys() == {'make', 'epochs', 'lr', 'cbs'}, 'a recipe is not used up'
    assert math.isclose(row['perplexity'], math.exp(row['valid_loss']))


def test_the_cache_is_put_around_the_trained_model():
    learn, row = train_beyond('ContinuousCache', ids=text(), epochs=1, cache=dict(window=7, theta=2., lam=.3))
    assert (learn.model.window, learn.model.theta, learn.model.lam) == (7, 2., .3)
    plain = train_beyond('LMModel7', ids=text(), epochs=1)[1]
    assert row['params'] == plain['params'] and row['valid_loss'] != plain['valid_loss']


def test_hits_are_in_the_order_of_the_text():
    "A model that always says the same word is right exactly where the text has that word."
    class Constant(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.p = torch.nn.Parameter(torch.zeros(1))
        def forward(self, x): return torch.nn.functional.one_hot(torch.full_like(x, 3), V).float()
    ids = text(3000)
    dls = stream_dls(ids, bs=8)
    ok = hits(ex.Learner(dls, Constant(), loss_func=ex.CrossEntropyLossFlat()))
    start, n = int(len(word_windows(ids, 16)[0])*.8)*16, ok.shape[1]
    want = torch.stack([ids[start + r*n + 1:start + (r + 1)*n + 1] == 3 for r in range(8)])
    assert ok.shape == (8, len(dls.valid)*16) and torch.equal(ok, want) and ok.any() and not ok.all()


def test_a_row_sums_up_its_runs():
    made = lambda seed: (None, dict(accuracy=50. + seed, best=60. + seed, params=7, valid_loss=1 + seed/10, seconds=2.))
    r = seed_row('x', made, 'this test', seeds=(0, 2, 4), page=41.)
    assert (r['ours'], r['sd'], r['each'], r['best_epoch'], r['seeds']) == (
        52., 2., [50., 52., 54.], [60., 62., 64.], [0, 2, 4])
    assert (r['params'], r['valid_loss'], r['seconds'], r['page'], r['unit'], r['command']) == (
        7, 1.2, 2., 41., '%', 'this test')
    one = seed_row('x', made, 'this test', seeds=[1], value='valid_loss', unit='nats')
    assert one['ours'] == 1.1 and 'sd' not in one and one['unit'] == 'nats'
    assert {type(r[k]) for k in ('ours', 'sd', 'valid_loss', 'seconds')} == {float} and type(r['params']) is int
    json.dumps([r, one])


def test_the_saved_rows_are_those_of_the_recipes():
    rows = ladder_rows(results)
    assert [r['what'] for r in rows] == [f'LMModel{k}' for k in ladder_recipes] + list(beyond_recipes)[1:]
    for k, r in zip(ladder_recipes, rows): assert dict(page=r['page'], book=r['book']) == published[k]
    for r in rows: assert abs(sum(r['each'])/len(r['each']) - r['ours']) < .06 and len(r['each']) == len(r['seeds'])
    table = ladder_markdown(rows, each=True).splitlines()
    assert len(table) == 2 + len(rows) and len({l.count('|') for l in table}) == 1
    assert '8,030' in table[2] and '46.3 45.3' in table[2] and '46.3 45.3' not in ladder_markdown(rows)


def test_wrong_arguments_are_explained():
    for k in (0, 8, '7'):
        with expect_fail(ValueError, 'LMModel1 to LMModel7'): ladder_dls(k)
        with expect_fail(ValueError, 'LMModel1 to LMModel7'): train_ladder(k)
    for bad in ((.8,), (0, 1), (.9, .8), (.5, 1.1)):
        with expect_fail(ValueError, 'fractions'): stream_dls(torch.arange(5000) % V, valid=bad)
    with expect_fail(ValueError, 'not a model of this lesson'): train_beyond('LMModel8')
    with expect_fail(FileNotFoundError, 'ladder.json'): ladder_rows('nowhere')


def few_rows():
    "Made-up rows of the experiment with few labels, as benchmarks/few_labels.py writes them."
    sizes = {50: 5, 100: 5, 5000: 2}
    return [dict(what=f'{way}, {n} labels', way=way, n_labels=n, ours=60 + 10*i, sd=None if k < 5 else 1.5,
                 n_test=25_000, tested_on='test', seeds=list(range(k)), hardware='2 CPU cores', date='2026-11-26',
                 command='python benchmarks/few_labels.py --test test')
            for way in ex._curves for i, (n, k) in enumerate(sizes.items())]


def test_few_labels_are_drawn_when_there_are_rows(tmp_path):
    assert few_labels_rows(tmp_path) == [] and few_labels_figure([]) is None
    (tmp_path/'few_labels.json').write_text(json.dumps(few_rows()), encoding='utf-8')
    rows = few_labels_rows(tmp_path)
    ax = few_labels_figure(rows)
    assert ax.get_xscale() == 'log' and [t.get_text() for t in ax.get_xticklabels()] == ['50', '100', '5,000']
    assert len(ax.lines) == len(ex._curves) and all(l.get_ydata().tolist() == [60, 70, 80] for l in ax.lines)
    said = few_labels_caption(rows)
    for o in ('25,000 test reviews', '5 with 50, 100 labels; 2 with 5,000 labels', '2 CPU cores (2026-11-26)',
              '--test test`'):
        assert o in said, said


def test_names_of_curves_do_not_cover_each_other():
    "Five curves that end at the same point; the highest curve has the highest name."
    rows = few_rows()
    for r in rows:
        if r['way'] == 'random': r['ours'] -= .1
    ax = few_labels_figure(rows)
    ax.figure.canvas.draw()
    boxes = sorted((Text.get_window_extent(t) for t in ax.texts), key=lambda b: b.y0)  # without the lines to the curves
    assert len(boxes) == len(ex._curves) and all(a.y1 <= b.y0 + 1 for a, b in zip(boxes, boxes[1:]))
    assert (boxes[-1].y1 <= ax.get_window_extent().y1 + 20
            and min(ax.texts, key=lambda t: t.get_position()[1]).get_text() == 'random weights')


def test_the_command_writes_rows_that_can_be_drawn(tmp_path):
    import few_labels
    begun = lambda: few_labels.load_results(p) if (p := tmp_path/'rows.started').exists() else []
    assert set(few_labels.ways) == set(ex._curves)
    for i, accuracy in enumerate((60., 61., 65., 62., 62.)):
        assert (not few_labels_rows(tmp_path, 'rows')
                and [r['each'] for r in begun()] == [[60., 61., 65., 62.][:i]]*(i > 0))
        few_labels.add_draw(tmp_path/'rows.json', 'bag', 50, i, accuracy, 30, 'test', 25_000, lm=None)
    few_labels.add_draw(tmp_path/'rows.json', 'ratios', 50, 0, 70., 30, 'test', 25_000, lm=None)
    rows = few_labels_rows(tmp_path, 'rows')
    assert [(r['ours'], r['sd'], r['each'], r['seeds'], r['minutes']) for r in rows] == [
        (62., 1.87, [60., 61., 65., 62., 62.], [0, 1, 2, 3, 4], 2.5)]
    assert [(r['way'], r['ours'], r['sd']) for r in begun()] == [('ratios', 70., None)]
    assert few_labels_figure(rows) is not None and '(5 with 50 labels)' in few_labels_caption(rows)


def test_rows_are_kept_for_the_model_that_they_were_measured_with(tmp_path, monkeypatch):
    import few_labels
    monkeypatch.setattr(few_labels, 'start_of', lambda way, n, lm: None if way == 'bag' else lm)
    out, kept = tmp_path/'rows.json', lambda *args: {
        k: r['start'] for k, r in few_labels.measured(tmp_path/'rows.json', *args).items()}
    for way, n in (('pretrained', 5000), ('bag', 5000), ('pretrained', 50), ('bag', 50)):
        few_labels.add_draw(out, way, n, 0, 70., 1., 'test', 5_000, 'a')
    assert [(r['way'], r['n_labels']) for r in few_labels.load_results(tmp_path/'rows.started')] == [
        ('bag', 50), ('bag', 5000), ('pretrained', 50), ('pretrained', 5000)]
    assert kept('test', 5_000, 'a') == {
        ('bag', 50): None, ('bag', 5000): None, ('pretrained', 50): 'a', ('pretrained', 5000): 'a'}
    assert kept('test', 5_000, 'b') == {('bag', 50): None, ('bag', 5000): None}
    assert (kept('tune', 5_000, 'a') == kept('test', 1_000, 'a')
            == few_labels.measured(tmp_path/'none.json', 'test', 5_000, 'a') == {})
    few_labels.add_draw(out, 'pretrained', 50, 0, 80., 1., 'test', 5_000, 'b')  # the rows of another model go
    assert kept('test', 5_000, 'b') == {('bag', 50): None, ('bag', 5000): None, ('pretrained', 50): 'b'}


class Pretrained:
    "What few_labels.py asks a language model for that nobody trains."
    config, codec = {}, SimpleNamespace(fingerprint=lambda: 'codec')
    def fingerprint(self): return 'a language model'


def test_an_experiment_that_was_stopped_goes_on_with_the_draws_that_are_left(tmp_path, monkeypatch, capsys):
    import few_labels
    asked = []
    def run(way, n, seed, reviews, start):
        asked.append((way, n, seed))
        if len(asked) == 3: raise KeyboardInterrupt
        return 70. + seed, 6.
    for name, o in dict(run=run, results=tmp_path, Reviews=lambda *_: SimpleNamespace(test=[None]*5_000),
                        TextModel=SimpleNamespace(pretrained=Pretrained)).items():
        monkeypatch.setattr(few_labels, name, o)
    monkeypatch.setattr('sys.argv', ['few_labels.py', '--test', 'test', '--ways', 'random', '--sizes', '50', '5000'])
    with pytest.raises(KeyboardInterrupt): few_labels.main()
    few_labels.main()
    assert asked == [('random', 50, i) for i in (0, 1, 2, 2, 3, 4)] + [('random', 5000, i) for i in (0, 1)]
    assert [(r['n_labels'], r['each']) for r in few_labels_rows(tmp_path)] == [
        (50, [70., 71., 72., 73., 74.]), (5000, [70., 71.])]
    few_labels.main()
    assert len(asked) == 8 and 'go from' not in capsys.readouterr().out
    # rows of another test are dropped only where somebody said so
    monkeypatch.setattr(few_labels, 'Reviews', lambda *_: SimpleNamespace(test=[None]*300))
    with pytest.raises(SystemExit, match='(?s)would go.*random weights, 5000 labels: 5,000 test.*--replace'):
        few_labels.main()
    assert len(asked) == 8 and [r['n_labels'] for r in few_labels_rows(tmp_path)] == [50, 5000]
    monkeypatch.setattr('sys.argv', [*sys.argv, '--replace'])
    few_labels.main()
    assert len(asked) == 15 and (
        '2 rows of another model, or of another number of test reviews, go from few_labels.json'
    ) in capsys.readouterr().out


def test_draws_of_two_processes_are_all_kept_with_their_seeds(tmp_path, monkeypatch):
    import few_labels
    out, load = tmp_path/'rows.json', few_labels.load_results
    def slowly(path):
        rows = load(path)
        sleep(0.05)
        return rows
    monkeypatch.setattr(few_labels, 'load_results', slowly)
    def add(seed): few_labels.add_draw(out, 'bag', 50, seed, 70. + seed, 6., 'test', 5_000, lm=None)
    add(3)
    with ThreadPoolExecutor(3) as pool: list(pool.map(add, (4, 0, 2)))
    row, = load(out.with_suffix('.started'))
    assert (row['seeds'], row['each'], row['minutes']) == ([0, 2, 3, 4], [70., 72., 73., 74.], 0.4)


def test_a_published_row_stays_until_it_has_more_draws(tmp_path, monkeypatch):
    "With more draws asked for than it has, the figure would lose its point meanwhile."
    import few_labels
    out = tmp_path/'rows.json'
    few_labels.save_results(out, [few_labels.row_of('bag', 5000, {0: 80.}, {}, 1., 'test', 8, None)])
    few_labels.add_draw(out, 'bag', 50, 0, 70., 6., 'test', 8, None)
    assert [r['n_labels'] for r in few_labels.load_results(out)] == [5000]
    few_labels.add_draw(out, 'bag', 5000, 1, 82., 6., 'test', 8, None)
    assert [(r['n_labels'], r['each']) for r in few_labels.load_results(out)] == [(5000, [80., 82.])]
    assert [r['n_labels'] for r in few_labels.load_results(out.with_suffix('.started'))] == [50]


def test_only_draws_that_are_missing_are_measured(tmp_path, monkeypatch):
    import few_labels
    asked, out = [], tmp_path/'few_labels.json'
    for seed in (0, 3): few_labels.add_draw(out, 'bag', 50, seed, 70., 6., 'test', 5_000, lm=None)
    for name, o in dict(run=lambda *args: asked.append(args[2]) or (71., 6.), results=tmp_path,
                        Reviews=lambda *_: SimpleNamespace(test=[None]*5_000),
                        TextModel=SimpleNamespace(pretrained=Pretrained)).items():
        monkeypatch.setattr(few_labels, name, o)
    monkeypatch.setattr('sys.argv', ['few_labels.py', '--test', 'test', '--ways', 'bag', '--sizes', '50'])
    few_labels.main()
    assert asked == [1, 2, 4] and few_labels_rows(tmp_path)[0]['each'] == [70., 71., 71., 70., 71.]


def test_with_all_labels_all_reviews_are_answered_too(tmp_path, monkeypatch):
    "The accuracy on those of the other points, and beside it on all; a draw that was made before has only the first."
    import few_labels
    out, labels = tmp_path/'few_labels.json', dict(a=['pos', 'neg']*4, b=['pos', 'pos', 'pos', 'neg']*2)
    files = [Path(f'{name}{i}') for name in labels for i in range(8)]
    reviews = SimpleNamespace(whole=files, test=files[:8], pool=range(2), sample=lambda *_: [])
    monkeypatch.setattr(few_labels, 'texts_of', lambda files: (
        [str(f) for f in files], [labels[f.name[0]][int(f.name[1:])] for f in files]))
    monkeypatch.setattr(few_labels, 'answers', lambda way, n, train, test, seed, lm: np.array(['pos']*len(test)))
    assert few_labels.run('bag', 50, 0, reviews, None)[::2] == (50.,)
    accuracy, seconds, on_all = few_labels.run('bag', 25000, 0, reviews, None)
    assert (accuracy, on_all) == (50., 62.5)
    few_labels.add_draw(out, 'bag', 25000, 1, 50., 1., 'test', 8, None)
    few_labels.add_draw(out, 'bag', 25000, 0, 50., 1., 'test', 8, None, on_all)
    row, = few_labels.load_results(out)
    assert row['on_all'] == [62.5, None] and row['each'] == [50., 50.]


def test_names_of_short_curves_are_in_no_curve_s_way():
    "One that ends early among the upper ones is named above it, one among the lower ones below it."
    rows = [r | dict(ours=dict(pretrained=80., finetuned=81., random=40.).get(r['way'], 60.) + r['n_labels']**.25)
            for r in few_rows() if r['n_labels'] < 5000 or r['way'] not in ('random', 'finetuned')]
    ax = few_labels_figure(rows)
    ax.figure.canvas.draw()
    of = {t.get_text(): t for t in ax.texts}
    box, end = (lambda s: Text.get_window_extent(of[s])), lambda y: ax.transData.transform((100, y))[1]
    assert box('pretrained, fine-tuned').y0 > end(81 + 100**.25) and box('random\nweights').y1 < end(40 + 100**.25)


def test_a_row_of_one_seed():
    learn = lambda seed: (None, dict(accuracy=50., params=3, valid_loss=1., seconds=2.))
    row = ex.seed_row('m', learn, 'python x', seeds=(i for i in [7]))
    assert row['seeds'] == [7] and 'sd' not in row and '**50.0** |' in ladder_markdown([row])
