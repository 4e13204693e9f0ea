"""25,000 answers of a classifier: `TextModel.predict` beside fastai's `get_preds`, in one run, with the same weights.

    python benchmarks/answers.py               # about 40 minutes on one core; writes results/answers.json
    python benchmarks/answers.py --n 500       # prints, writes nothing

The network has the shape of the model that ships and random weights: the time does not depend on them. fastai gets
the fastest way that it has: texts tokenized once, in one go, and batches of documents of about the same length (its own
`SortedDL`); its usual `test_dl` tokenizes each text again when it is its turn. Both read 64 documents at a time. On a
processor with units for bfloat16 both are measured in float32 and in bfloat16: `fast=True` here; `get_preds` knows only
float32, so there torch's autocast is put around it.

All take turns, 5,000 documents at a time; after each turn the rows so far wait in answers.started until all is read.
One thread works (fastai's loader without worker processes), and its processor time counts, so that other work on the
machine is no part of the result."""
import argparse, random

import torch
from common import Clock, end_run, real_reviews, results, started
from fastai.text.all import (AWD_LSTM, CrossEntropyLossFlat, DataLoaders, L, Numericalize, Pad_Chunk, SortedDL,
                             TensorText, TokenizeWithRules, WordTokenizer, awd_lstm_clas_config,
                             text_classifier_learner)

from lesson8nlp import awdlstm
from lesson8nlp.classifier import get_text_classifier
from lesson8nlp.core import hardware, result_row, save_results
from lesson8nlp.data import get_imdb
from lesson8nlp.learner import fast_dtype
from lesson8nlp.texts import read_text, text_files
from lesson8nlp.ulmfit import TextModel

command, bs = 'python benchmarks/answers.py', 64
shape = dict(emb_sz=400, n_hid=600, n_layers=2)


class Fastai:
    "fastai's learner, with all that it needs to read a list of texts."
    def __init__(self, vocab):
        self.tokens, self.numbers = TokenizeWithRules(WordTokenizer()), Numericalize(vocab)
        dls = DataLoaders(self.loader([TensorText([2, 0])]), self.loader([TensorText([2, 0])]), device='cpu')
        dls.vocab = L([vocab, ['neg', 'pos']], use_list=None)
        config = awd_lstm_clas_config | shape
        self.learn = text_classifier_learner(dls, AWD_LSTM, config=config, pretrained=False, n_out=2,
                                             loss_func=CrossEntropyLossFlat())

    def loader(self, ids):
        "Batches in this process: the processor time of others would not be counted."
        return SortedDL([(o, 0) for o in ids], res=[len(o) for o in ids], bs=bs, num_workers=0,
                        before_batch=Pad_Chunk(decode=False))

    def __call__(self, texts):
        "Probabilities, (len(texts), 2), in the order of the texts."
        ids = [self.numbers(o) for o in self.tokens(texts)]
        with self.learn.no_bar(): return self.learn.get_preds(dl=self.loader(ids))[0]


def ours(theirs, codec):
    "A `TextModel` with the weights of fastai's learner, as a function from texts to probabilities."
    net = get_text_classifier(awdlstm.AWD_LSTM, len(codec), 2, config=awdlstm.awd_lstm_clas_config | shape)
    net.load_state_dict(theirs.learn.model.state_dict())
    model = TextModel(net, codec, labels=['neg', 'pos'])
    def answer(texts):
        fast = torch.is_autocast_enabled('cpu')
        return torch.tensor(model.predict(texts, bs=bs, all_labels=True, fast=fast)[['p(neg)', 'p(pos)']].to_numpy())
    return answer


def measure(who, texts, dtype):
    "Seconds of processor time, and the probabilities."
    with Clock() as c, torch.autocast('cpu', dtype, enabled=dtype != torch.float32): probs = who(texts)
    return c.cpu, probs.float()


def in_turns(who, texts, types, n=5_000):
    "After each turn, for each contestant and type: documents a second, and the probabilities of the texts so far."
    found = {(k, t): [] for t in types for k in who}
    for i in range(0, len(texts), n):
        for k, t in found: found[k, t].append(measure(who[k], texts[i:i+n], t))
        done = min(i + n, len(texts))
        print(f'{done:,} of {len(texts):,} documents', flush=True)
        yield {k: (done/sum(s for s, _ in o), torch.cat([p for _, p in o])) for k, o in found.items()}


def contestants(found):
    "A row for each contestant and type."
    rows = []
    for (k, t), (rate, probs) in found.items():
        name, peer, exact = f'{str(t).removeprefix("torch.")}', found['fastai', t], found['fastai', torch.float32][1]
        same = 100*(probs.argmax(1) == exact.argmax(1)).float().mean().item()
        rows.append(result_row(f'{len(probs):,} answers, {k}, {name}', round(rate, 1), 'documents/s', command, who=k,
                               dtype=name, peer='fastai get_preds', peer_value=round(peer[0], 1),
                               ratio=round(rate/peer[0], 2), same_labels=round(same, 2)))
    return rows


def summary(found, fastest, n_vocab):
    "How many times as fast as fastai: as each is called, and with autocast put around fastai."
    rates, n = {k: o[0] for k, o in found.items()}, len(found['fastai', torch.float32][1])
    rows, more = [], dict(n=n, shape=shape, vocab=n_vocab, threads=1)
    peers = [(torch.float32, 'get_preds', 2)]
    if fastest != torch.float32: peers.append((fastest, 'get_preds inside autocast', None))
    for t, said, bar in peers:
        ratio = rates['ours', fastest]/rates['fastai', t]
        reached = None if bar is None else ratio >= bar
        rows.append(result_row(f"{n:,} answers, predict(fast=True) against fastai's {said}", round(ratio, 2), '×',
                               command, at_least=bar, reached=reached, **more))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--n', type=int, default=25_000, help='how many of the test reviews')
    a = parser.parse_args()
    torch.set_num_threads(1)
    of_record, out = a.n >= 25_000, results/'answers.json'
    path = real_reviews(or_else=', or try it with --n 400') if of_record else get_imdb(download=False)
    files = text_files(path/'test')
    texts = [read_text(f) for f in random.Random(0).sample(files, min(a.n, len(files)))]
    codec = TextModel.pretrained().codec
    theirs = Fastai(list(codec.vocab))
    who = dict(fastai=theirs, ours=ours(theirs, codec))
    for f in who.values(): f(texts[:bs])  # warm up
    types = [torch.float32, *[torch.bfloat16]*(fast_dtype('cpu') == torch.bfloat16)]
    for found in in_turns(who, texts, types):
        rows = contestants(found), summary(found, types[-1], len(codec))
        if of_record: save_results(started(out), sum(rows, []))
    for r in rows[0]:
        print('{who:<8}{dtype:<10}{ours:>8.1f} documents/s   {ratio:>5.2f}×   '.format(**r)
              + f'{r["same_labels"]:.2f} % of the labels are fastai\'s')
    for r in rows[1]: print(f'{hardware()}: {r["what"]}: {r["ours"]:.2f}×')
    if of_record: end_run(out, sum(rows, []))


if __name__ == '__main__': main()
