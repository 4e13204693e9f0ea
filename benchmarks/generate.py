"""A continuation of 200 words: this library's `generate` beside fastai's `LMLearner.predict`, in one run, with the same weights.

    python benchmarks/generate.py                        # 8 minutes; writes results/generate.json
    python benchmarks/generate.py --quick                # the small model only; prints, writes nothing

The weights are random, and the time does not depend on them: fastai's AWD_LSTM has them there, this library's AWD_LSTM here.
Both draw from the whole vocabulary at temperature 1 and show no bar. The prompt has three words, or as many as are written.
`reading` is the time in which the weights come from memory once for each word, and are only added up."""
import argparse, random, time
from pathlib import Path
from statistics import median

from lesson8nlp.core import hardware, result_row, save_results
from lesson8nlp import awdlstm
from lesson8nlp.codec import Codec
from lesson8nlp.generate import generate
import pandas as pd, torch
from fastai.text.all import (AWD_LSTM, ColReader, DataBlock, RandomSplitter, TextBlock, awd_lstm_lm_config, defaults,
                             language_model_learner, set_seed)

here, command = Path(__file__).resolve().parent, 'python benchmarks/generate.py'
sizes = {'full': (60_000, 400, 1152, 3), 'small': (8_000, 128, 256, 2)}
word = lambda i: 'w' + 'k'.join(chr(97 + int(d)) for d in str(i))  # of letters, no one twice in a row, or the tokenizer would cut it
words = 200
prompt, long = (' '.join(word(i) for i in range(n)) for n in (3, words))


def learner(vocab_sz, emb_sz, n_hid, n_layers):
    "fastai's learner with an untrained AWD-LSTM of this size."
    set_seed(42)
    vocab = defaults.text_spec_tok + [word(i) for i in range(vocab_sz - len(defaults.text_spec_tok))]
    df = pd.DataFrame({'text': [' '.join(random.choices(vocab[9:], k=100)) for _ in range(20)]})
    block = DataBlock(TextBlock.from_df('text', is_lm=True, vocab=vocab), get_x=ColReader('text'), splitter=RandomSplitter(.2, seed=42))
    config = dict(awd_lstm_lm_config, emb_sz=emb_sz, n_hid=n_hid, n_layers=n_layers)
    return language_model_learner(block.dataloaders(df, bs=2, seq_len=20), AWD_LSTM, config=config, pretrained=False)


def secs(f):
    begin = time.perf_counter()
    f()
    return time.perf_counter() - begin


def measure(size, rounds):
    "Rows for one size of model; ours and fastai by turns."
    learn = learner(*sizes[size])
    V, *dims = sizes[size]
    model = awdlstm.get_language_model(awdlstm.AWD_LSTM, V, dict(awdlstm.awd_lstm_lm_config, **dict(zip(('emb_sz', 'n_hid', 'n_layers'), dims))))
    model.load_state_dict(learn.model.state_dict())
    ours = lambda n=1, steps=words, prompt=prompt: generate(model, prompt, steps, n=n, stop=[], seed=42, codec=Codec(learn.dls.tokenizer, learn.dls.vocab))
    theirs = lambda steps=words, prompt=prompt: learn.predict(prompt, steps, no_bar=True)
    ours(steps=2), theirs(2) # warm up
    a, b = [], []
    for i in range(5):
        a.append(secs(ours))
        if i < rounds: b.append(secs(theirs))
    many = secs(lambda: ours(64))
    after, theirs_after = median(secs(lambda: ours(prompt=long)) for _ in range(3)), secs(lambda: theirs(prompt=long))
    reading = words*median(secs(lambda: [p.detach().sum() for p in model.parameters()]) for _ in range(9))
    name = 'AWD-LSTM {1}/{2}/{3}, vocab {0:,}'.format(*sizes[size])
    common = dict(peer='fastai LMLearner.predict', size=size, threads=torch.get_num_threads(), at_least='50×')
    row = lambda what, x, peer, **more: result_row(what, round(x, 4), 's', command, ratio=round(peer/x, 2), peer_value=round(peer, 3), reached=peer/x >= 50, **common, **more)
    return [row(f'{words} words, one text: {name}', median(a), median(b), kind='one', n_runs=len(a), reading=round(reading, 3),
                spread=[round(min(b)/max(a), 2), round(max(b)/min(a), 2)]),
            row(f'{words} words after {words}, one text: {name}', after, theirs_after, kind='long', n_runs=3, reading=round(reading, 3)),
            row(f'{words} words, 64 texts at once, per text: {name}', many/64, median(b), kind='many', n_runs=1, tokens_per_second=round(64*words/many))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--quick', action='store_true', help='the small model only, nothing is written')
    a = parser.parse_args()
    rows = [r for size, rounds in (('full', 1), ('small', 5)) if not (a.quick and size == 'full') for r in measure(size, rounds)]
    print(hardware())
    for r in rows: print(f'{r["what"]:<75}{r["ours"]:>9.3f} s   fastai {r["peer_value"]:>8.2f} s   {r["ratio"]:>6.1f}×')
    if not a.quick: save_results(here/'results'/'generate.json', rows)


if __name__ == '__main__': main()
