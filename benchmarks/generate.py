"""A continuation of 200 words: `generate` beside fastai's `LMLearner.predict`, in one run, with the same weights.

    python benchmarks/generate.py                        # 8 minutes; writes results/generate.json
    python benchmarks/generate.py --quick                # the small model only; prints, writes nothing

The weights are random, and the time does not depend on them: fastai's AWD_LSTM has them there, this library's here.
Both draw from the whole vocab at temperature 1 and show no bar. The prompt has three words, or as many as are
written. `reading` is the time in which the weights come from memory once for each word, and are only added up."""
import argparse, random
from statistics import median

import pandas as pd, torch
from common import end_run, made_up_words, results, seconds, started
from fastai.text.all import (AWD_LSTM, ColReader, DataBlock, RandomSplitter, TextBlock, awd_lstm_lm_config, defaults,
                             language_model_learner, set_seed)

from lesson8nlp import awdlstm
from lesson8nlp.codec import Codec
from lesson8nlp.core import hardware, result_row, save_results
from lesson8nlp.generate import generate

command, words = 'python benchmarks/generate.py', 200
sizes = {'full': (60_000, 400, 1152, 3), 'small': (8_000, 128, 256, 2)}
prompt, long = (' '.join(made_up_words(n)) for n in (3, words))


def learner(vocab_sz, emb_sz, n_hid, n_layers):
    "fastai's learner with an untrained AWD-LSTM of this size."
    set_seed(42)
    vocab = defaults.text_spec_tok + made_up_words(vocab_sz - len(defaults.text_spec_tok))
    df = pd.DataFrame({'text': [' '.join(random.choices(vocab[9:], k=100)) for _ in range(20)]})
    block = DataBlock(TextBlock.from_df('text', is_lm=True, vocab=vocab), get_x=ColReader('text'),
                      splitter=RandomSplitter(.2, seed=42))
    config = dict(awd_lstm_lm_config, emb_sz=emb_sz, n_hid=n_hid, n_layers=n_layers)
    return language_model_learner(block.dataloaders(df, bs=2, seq_len=20), AWD_LSTM, config=config, pretrained=False)


def measure(size, rounds):
    "Rows for one size of model; ours and fastai by turns."
    learn = learner(*sizes[size])
    V, *dims = sizes[size]
    config = awdlstm.awd_lstm_lm_config | dict(zip(('emb_sz', 'n_hid', 'n_layers'), dims))
    model = awdlstm.get_language_model(awdlstm.AWD_LSTM, V, config)
    model.load_state_dict(learn.model.state_dict())
    how = dict(stop=[], seed=42, codec=Codec(learn.dls.tokenizer, learn.dls.vocab))
    ours = lambda n=1, steps=words, prompt=prompt: generate(model, prompt, steps, n=n, **how)
    theirs = lambda steps=words, prompt=prompt: learn.predict(prompt, steps, no_bar=True)
    ours(steps=2), theirs(2) # warm up
    a, b = [], []
    for i in range(5):
        a += seconds(ours)
        if i < rounds: b += seconds(theirs)
    many, = seconds(lambda: ours(64))
    after, (theirs_after,) = median(seconds(lambda: ours(prompt=long), 3)), seconds(lambda: theirs(prompt=long))
    reading = words*median(seconds(lambda: [p.detach().sum() for p in model.parameters()], 9))
    name = 'AWD-LSTM {1}/{2}/{3}, vocab {0:,}'.format(*sizes[size])
    common = dict(peer='fastai LMLearner.predict', size=size, threads=torch.get_num_threads(), at_least='50×')
    def row(what, x, peer, **more):
        return result_row(f'{words} words{what}: {name}', round(x, 4), 's', command, ratio=round(peer/x, 2),
                          peer_value=round(peer, 3), reached=peer/x >= 50, **common, **more)
    spread, reading = [round(min(b)/max(a), 2), round(max(b)/min(a), 2)], round(reading, 3)
    return [row(', one text', median(a), median(b), kind='one', n_runs=len(a), reading=reading, spread=spread),
            row(f' after {words}, one text', after, theirs_after, kind='long', n_runs=3, reading=reading),
            row(', 64 texts at once, per text', many/64, median(b), kind='many', n_runs=1,
                tokens_per_second=round(64*words/many))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--quick', action='store_true', help='the small model only, nothing is written')
    a = parser.parse_args()
    todo = {'small': 5} if a.quick else {'full': 1, 'small': 5}
    rows, out = [], results/'generate.json'
    for size, rounds in todo.items():
        rows += measure(size, rounds)
        if not a.quick: save_results(started(out), rows)
    print(hardware())
    for r in rows:
        print(f'{r["what"]:<75}{r["ours"]:>9.3f} s   fastai {r["peer_value"]:>8.2f} s   {r["ratio"]:>6.1f}×')
    if not a.quick: end_run(out, rows)


if __name__ == '__main__': main()
