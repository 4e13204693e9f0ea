"""Train the language model that ships with the package, from the reviews of IMDB.

    python tools/pretrain.py                 # hours on one core; a run that was stopped goes on
    python tools/pretrain.py --stages 1 --out build/stage_1  # the first stage alone, beside the model that ships
    python tools/pretrain.py --twins         # count the test reviews whose text also stands in what is read
    python tools/pretrain.py --rounding      # what the perplexity would be if the weights were rounded more coarsely

It reads the 75,000 reviews of `train` and `unsup`, without labels, and no file of `test`. (IMDB holds some reviews
twice: `--twins` says how many.) Two parts are kept from it:
every hundredth review, to measure perplexity, and the last tenth of the films of `train`, to choose settings with.

The model was trained in stages. Each of them is a whole schedule, from a low learning rate up and down to zero, and
begins with the weights that the one before ended with, so after each there is a model that could ship.
"""
import argparse, io, runpy
from math import ceil
from pathlib import Path

import numpy as np, torch
from fastai.basics import Callback, CancelFitException, DataLoaders
from fastai.callback.schedule import ParamScheduler, SchedLin, SchedNo, combine_scheds
from fastai.callback.training import GradientClip

from lesson8nlp.awdlstm import *
from lesson8nlp.losses import *
from lesson8nlp.codec import *
from lesson8nlp.core import *
from lesson8nlp.corpus import *
from lesson8nlp.data import *
from lesson8nlp.dataloader import *
from lesson8nlp.learner import *
from lesson8nlp.resume import *
from lesson8nlp.store import fingerprint
from lesson8nlp.texts import *
from lesson8nlp.tokenizer import *
from lesson8nlp.ulmfit import *
from lesson8nlp.ulmfit import compact_arrays, load_compact

root = Path(__file__).resolve().parent.parent
results, shipped = root/'benchmarks'/'results', root/'lesson8nlp'/'pretrained'/'reviews'
real_reviews = runpy.run_path(str(root/'benchmarks'/'common.py'))['real_reviews']  # that folder is no package
shape = dict(emb_sz=400, n_hid=600, n_layers=2)
how = dict(bs=64, seq_len=64, lr=4e-3, clip=1.0, warm_up=0.03, vocab_size=30_000)
# Much as the shipped model was trained; how exactly, its row of results says (results/pretrained.json).
stages = [dict(tokens=17_900_000, drop_mult=0.2, decay=0.25, seed=42),
          dict(tokens=22_100_000, drop_mult=0.1, decay=0.25, seed=43),
          dict(tokens=27_000_000, drop_mult=0.1, decay=0.5, seed=44)]


def parts(path):
    "The files to read, those to measure perplexity on, and those to choose settings with."
    number = lambda p: int(p.stem.split('_')[0])
    files = text_files(path, folders=['train', 'unsup'])
    aside = [p for p in files if number(p) % 100 == 7]
    tune = [p for p in files if 'train' in p.relative_to(path).parts and number(p) >= 11_250]
    kept = {*aside, *tune}
    return [p for p in files if p not in kept], aside, tune


def twins(path):
    "Rows of results: how many reviews of other parts stand, word for word, among those that are read."
    words = lambda p: fingerprint(read_text(p).split())
    read, aside, tune = parts(path)
    known = {words(p) for p in read}
    return [result_row(f'{what} that also stand in what the pretrained model has read',
                       sum(words(p) in known for p in of), 'reviews', 'python tools/pretrain.py --twins', of=len(of))
            for what, of in (('test reviews', text_files(path/'test')), ('reviews set aside for perplexity', aside),
                             ('reviews to choose settings with', tune))]


def rounding(texts, fineness=(8, 5, 3, 1.5)):  # what ships is whole eighths: a half of them would often end in .5
    "Rows of results: megabytes and perplexity of the shipped model with fewer steps in a standard deviation."
    rows = []
    for n in fineness:
        lm = TextModel.load(shipped, 'cpu')
        np.savez_compressed(file := io.BytesIO(), **compact_arrays(lm.model, n))
        size = file.tell()/1e6
        file.seek(0)
        load_compact(lm.model, file)
        rows.append(result_row(f'shipped model, {n} steps in a standard deviation, {size:.1f} MB',
                               round(lm.perplexity(texts), 2), 'perplexity', 'python tools/pretrain.py --rounding',
                               steps=n, megabytes=round(size, 2), n_texts=len(texts)))
    return rows


def corpora(path, work):
    "What is read and what is set aside, with one vocab."
    read, aside, _ = parts(path)
    corpus = Corpus.from_files(read, max_vocab=how['vocab_size'], path=work/'corpus')
    return corpus, Corpus.from_files(aside, vocab=list(corpus.vocab), path=work/'aside')


def loaders(corpus, valid, work, seed):
    kw = dict(bs=how['bs'], seq_len=how['seq_len'])
    dls = DataLoaders(LMDataLoader(corpus, shuffle=True, seed=seed, **kw), LMDataLoader(valid, **kw), path=work,
                      device='cpu')
    dls.codec, dls.vocab = Codec(Tokenizer(), corpus.vocab), list(corpus.vocab)
    return dls


def learner(dls, counts, drop_mult):
    learn = language_model_learner(dls, AWD_LSTM, config=awd_lstm_lm_config | shape, drop_mult=drop_mult,
                                   pretrained=False, alpha=0., beta=0., moms=(0.8, 0.8, 0.8),
                                   loss_func=SampledCrossEntropy(counts), metrics=lm_metrics(),
                                   cbs=GradientClip(how['clip']))
    return learn.to_bf16() if fast_dtype('cpu') == torch.bfloat16 else learn


def trapezoid(lr, warm_up, decay):
    "A schedule: up to `lr` at first, then constant, down to 0 at the end (Hu et al. 2024, arXiv 2404.06395)."
    return combine_scheds([warm_up, 1 - warm_up - decay, decay],
                          [SchedLin(lr/500, lr), SchedNo(lr, lr), SchedLin(lr, 0.)])


class StopAfter(Callback):
    "Let the schedule reach its end after `steps` batches, and stop there, also within an epoch."
    order = ParamScheduler.order - 1
    def __init__(self, steps): self.steps = steps
    def before_batch(self):
        if not self.training: return
        if self.train_iter >= self.steps: raise CancelFitException
        self.learn.pct_train = self.train_iter/self.steps


def run_stage(corpus, valid, stage, start, work):
    "Train through one stage, from the weights `start` or random ones: the learner, and how many seconds it took."
    dls, steps = loaders(corpus, valid, work, stage['seed']), stage['tokens']//(how['bs']*how['seq_len'])
    with temporary_seed(stage['seed']):
        learn = learner(dls, corpus.counts, stage['drop_mult'])
        if start is not None: learn.model.load_state_dict(start)
        schedule = ParamScheduler(dict(lr=trapezoid(how['lr'], how['warm_up'], stage['decay'])))
        checkpoint = CheckpointCallback(work, every=500)
        learn.fit(ceil(steps/len(dls.train)), how['lr'], wd=0.01, cbs=[StopAfter(steps), schedule, checkpoint])
    return learn, sum(checkpoint.secs)


def ship(model, codec, to, done, **info):
    "After the stages `done`, save the model in few bytes, and measure what rounding costs."
    lm = TextModel(model, codec)
    path = get_imdb()
    read, aside, _ = parts(path)
    texts, same = check_texts(aside), twins(path)[0]
    exact = lm.perplexity(texts)
    lm.info = dict(read=f'{len(read):,} film reviews of IMDB (train and unsup), without labels; no file of test, but '
                        f'{same["ours"]} of its {same["of"]:,} reviews also stand in what it has read', **info,
                   seeds=[o['seed'] for o in done],
                   not_for='facts, advice, or texts about people: it repeats what reviewers write',
                   cite='Maas et al., Learning Word Vectors for Sentiment Analysis, ACL 2011')
    lm.save(to, compact=True)
    rounded = TextModel.load(to, 'cpu').perplexity(texts)
    lm.info |= dict(perplexity=round(rounded, 2), perplexity_before_rounding=round(exact, 2),
                    measured_on=f'{len(texts):,} reviews of IMDB (train and unsup) that it has not read, over all '
                                'words of its vocab')
    lm.save(to, compact=True)
    size = sum(p.stat().st_size for p in Path(to).iterdir())
    rows = [result_row('pretrained model, perplexity on 750 reviews set aside', round(rounded, 2), 'perplexity',
                       'make pretrain', seeds=lm.info['seeds'], before_rounding=round(exact, 2),
                       megabytes=round(size/1e6, 2), settings=how | shape, stages=done, **info)]
    if len(done) == len(stages) and to == shipped: save_results(results/'pretrained.json', rows)
    print(f'Perplexity {exact:.2f}, rounded {rounded:.2f}, {size/1e6:.1f} MB in {to}.')


def parse():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--stages', type=int, choices=range(1, len(stages) + 1), default=len(stages),
                    help='how many to run')
    ap.add_argument('--out', type=Path, help='folder for the model; that of the model that ships without it')
    ap.add_argument('--twins', action='store_true', help='count reviews that stand twice, and train nothing')
    ap.add_argument('--rounding', action='store_true', help='measure coarser rounding, and train nothing')
    a = ap.parse_args()
    if a.stages < len(stages) and (not a.out or a.out.resolve() == shipped):
        ap.error(f'--stages {a.stages} would replace the model that ships, which has {len(stages)} stages: '
                 'give another folder, --out DIR')
    a.out = a.out or shipped
    return a


def main():
    a, path = parse(), real_reviews(download=True)
    if a.rounding: return save_results(results/'rounding.json', rounding(check_texts(parts(path)[1])))
    if a.twins: return save_results(results/'twins.json', twins(path))
    work, start, seconds = root/'build'/'pretrain', None, 0.
    corpus, valid = corpora(path, work)
    done = stages[:a.stages]
    for i, stage in enumerate(done, 1):
        print(f'Stage {i} of {a.stages}: {stage["tokens"]:,} tokens, dropout times {stage["drop_mult"]}.')
        learn, secs = run_stage(corpus, valid, stage, start, work/f'run_{i}')
        start, seconds = learn.model.state_dict(), seconds + secs
        after = TextModel(learn.model, learn.dls.codec).perplexity(check_texts(parts(path)[1]))
        done[i - 1] = stage | dict(schedule=f'up, constant, down to 0 over the last {stage["decay"]:.0%}',
                                   perplexity=round(after, 2))
    tokens = sum(o['tokens'] for o in done)
    ship(learn.model, learn.dls.codec, a.out, done, epochs=round(tokens/corpus.counts.sum().item(), 2),
         core_minutes=round(seconds/60), tokens=tokens)


if __name__ == '__main__': main()
