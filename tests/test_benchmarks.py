"""What the benchmarks share: results of record come from the real reviews, a failed process says why, rows that are
measured are kept."""
import importlib.util, json, sys
from pathlib import Path
from types import SimpleNamespace

import pytest

root = Path(__file__).resolve().parent.parent


@pytest.fixture
def made_up(monkeypatch):
    "A machine without the real reviews."
    from lesson8nlp import data
    monkeypatch.setattr(data, 'get_imdb', lambda download=True: data.sample_reviews())


@pytest.mark.parametrize('name, args', [
    ('step', []), ('answers', []), ('first_answer', []), ('baseline', []), ('few_labels', []), ('bench', []),
    ('bench', ['--out', str(root/'benchmarks'/'results')]), ('pretrain', ['--twins']), ('pretrain', ['--rounding']),
    ('pretrain', [])])
def test_results_of_record_need_the_real_reviews(made_up, monkeypatch, name, args):
    "Without them the program ends before it works or writes."
    from lesson8nlp import core
    module = importlib.import_module(name)
    def work(*args, **kwargs): raise AssertionError('it went on without the real reviews')
    for o in ('save_results', 'run', 'rounds_of', 'Fastai', 'seconds', 'lay_out', 'parts', 'corpora'):
        if hasattr(module, o): monkeypatch.setattr(module, o, work)
    monkeypatch.setattr(core, 'save_results', work)
    monkeypatch.setattr('sys.argv', [f'{name}.py', *args])
    with pytest.raises(SystemExit, match='need the real reviews of IMDB'):
        module.main(module.parse()) if name in ('step', 'bench') else module.main()


def test_made_up_reviews_are_measured_into_another_folder(made_up, monkeypatch, tmp_path):
    import bench
    def work(path, *args): raise KeyboardInterrupt(path.name)
    monkeypatch.setattr(bench, 'lay_out', work)
    with pytest.raises(KeyboardInterrupt, match='lesson8_reviews'):
        bench.main(SimpleNamespace(out=tmp_path, quick=False))


def test_a_failed_process_says_why():
    import common
    assert common.output([sys.executable, '-c', 'print(3)'], 'It').strip() == '3'
    with pytest.raises(RuntimeError, match='(?s)This one failed with status 1.*no such word'):
        common.output([sys.executable, '-c', 'raise SystemExit("no such word")'], 'This one')


def test_rows_of_a_step_are_kept_when_the_rest_fails(made_up, monkeypatch, tmp_path):
    import step
    def one(who, threads, size): return dict(s=1., cpu_s=1., mb=10., losses=[1.])
    def perplexity(who, c, seed): raise KeyboardInterrupt
    for o in (one, perplexity): monkeypatch.setattr(step, 'run' if o is one else o.__name__, o)
    args = SimpleNamespace(out=tmp_path, quick=True, threads=[1], rounds=1)
    with pytest.raises(KeyboardInterrupt): step.main(args)
    assert len(json.loads((tmp_path/'step.started').read_text(encoding='utf-8'))) == 7
    monkeypatch.setattr(step, 'perplexity', lambda who, c, seed: 50.)
    step.main(args)
    assert len(json.loads((tmp_path/'step.json').read_text(encoding='utf-8'))) == 8
    assert not (tmp_path/'step.started').exists()


def test_as_many_reviews_are_read_as_the_row_says(made_up, monkeypatch):
    import step
    from lesson8nlp import dataloader
    read = []
    def stop(texts, **kwargs):
        read.extend(texts)
        raise KeyboardInterrupt
    monkeypatch.setattr(dataloader, 'lm_dataloaders', stop)
    with pytest.raises(KeyboardInterrupt): step.perplexity('fastai', step.small | dict(n_reviews=300), 0)
    assert len(set(read)) == len(read) == 300
    with pytest.raises(ValueError, match='3000 files were asked for'): step.perplexity('fastai', step.small, 0)


def test_answers_come_from_one_process_and_are_kept_after_each_turn(monkeypatch):
    import answers, torch
    dl = answers.Fastai(['xxunk', 'xxpad', *'abcdefgh']).loader([answers.TensorText([2, 3])])
    assert dl.fake_l.num_workers == dl.new(shuffle=False).fake_l.num_workers == 0
    ticks = iter((1., 2., 1., 2., 2., 4.))
    monkeypatch.setattr(answers, 'measure', lambda f, texts, dtype: (next(ticks), torch.eye(2)[[0]*len(texts)]))
    turns = list(answers.in_turns(dict(fastai=None, ours=None), ['a']*5, [torch.float32], n=2))
    rows = [answers.contestants(o) + answers.summary(o, torch.float32, 10) for o in turns]
    assert [o[0]['what'].split(',')[0] for o in rows] == ['2 answers', '4 answers', '5 answers']
    assert [o[0]['ours'] for o in rows] == [2., 2., 1.2] and rows[-1][2]['ours'] == 0.5


def test_rows_of_one_size_are_kept_when_the_next_fails(monkeypatch, tmp_path):
    import generate
    row = generate.result_row('words', 1., 's', 'here', peer_value=2., ratio=2.)
    def measure(size, rounds):
        if size == 'small': raise KeyboardInterrupt
        return [row]
    for name, o in dict(measure=measure, results=tmp_path).items(): monkeypatch.setattr(generate, name, o)
    monkeypatch.setattr('sys.argv', ['generate.py'])
    with pytest.raises(KeyboardInterrupt): generate.main()
    assert [f.name for f in tmp_path.iterdir()] == ['generate.started']
    monkeypatch.setattr(generate, 'measure', lambda size, rounds: [row])
    generate.main()
    assert [f.name for f in tmp_path.iterdir()] == ['generate.json']
