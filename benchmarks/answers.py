"""25,000 answers of a classifier: `TextModel.predict` beside fastai's `get_preds`, in one run, with the same weights.

    python benchmarks/answers.py               # about 40 minutes on one core; writes results/answers.json
    python benchmarks/answers.py --n 500       # prints, writes nothing

The network has the shape of the model that ships and random weights: the time does not depend on them. fastai gets
the fastest way that it has: texts tokenized once, in one go, and batches of documents of about the same length (its own
`SortedDL`); its usual `test_dl` tokenizes each text again when it is its turn. Both read 64 documents at a time. On a
processor with units for bfloat16 both are measured in float32 and in bfloat16: `fast=True` here; `get_preds` knows only
float32, so there torch's autocast is put around it.

All take turns, 5,000 documents at a time. One thread works, and its processor time counts, so that other work on the
machine is no part of the result."""
import argparse, random

import torch
from common import Clock, results
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
        return SortedDL([(o, 0) for o in ids], res=[len(o) for o in ids], bs=bs, before_batch=Pad_Chunk(decode=False))

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
    "For each contestant and type: documents a second, and the probabilities of all texts."
    found = {(k, t): [] for t in types for k in who}
    for i in range(0, len(texts), n):
        for k, t in found: found[k, t].append(measure(who[k], texts[i:i+n], t))
        print(f'{min(i + n, len(texts)):,} of {len(texts):,} documents', flush=True)
    return {k: (len(texts)/sum(s for s, _ in o), torch.cat([p for _, p in o])) for k, o in found.items()}


def summary(rates, fastest, n, n_vocab):
    "How many times as fast as fastai: as each is called, and with autocast put around fastai."
    rows, more = [], dict(n=n, shape=shape, vocab=n_vocab, threads=1)
    peers = [(torch.float32, 'get_preds', 2)]
    if fastest != torch.float32: peers.append((fastest, 'get_preds inside autocast', None))
    for t, said, bar in peers:
        ratio = rates['ours', fastest]/rates['fastai', t]
        print(f'{hardware()}: predict(fast=True) is {ratio:.2f} times as fast as {said}.')
        reached = None if bar is None else ratio >= bar
        rows.append(result_row(f"{n:,} answers, predict(fast=True) against fastai's {said}", round(ratio, 2), '×',
                               command, at_least=bar, reached=reached, **more))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--n', type=int, default=25_000, help='how many of the test reviews')
    a = parser.parse_args()
    torch.set_num_threads(1)
    files = text_files(get_imdb(download=False)/'test')
    texts = [read_text(f) for f in random.Random(0).sample(files, min(a.n, len(files)))]
    codec = TextModel.pretrained().codec
    theirs = Fastai(list(codec.vocab))
    who = dict(fastai=theirs, ours=ours(theirs, codec))
    for f in who.values(): f(texts[:bs])  # warm up
    types = [torch.float32, *[torch.bfloat16]*(fast_dtype('cpu') == torch.bfloat16)]
    found = in_turns(who, texts, types)
    rows = []
    for (k, t), (rate, probs) in found.items():
        name, peer, exact = f'{str(t).removeprefix("torch.")}', found['fastai', t], found['fastai', torch.float32][1]
        same = 100*(probs.argmax(1) == exact.argmax(1)).float().mean().item()
        ratio = rate/peer[0]
        print(f'{k:<8}{name:<10}{rate:>8.1f} documents/s   {ratio:>5.2f}×   {same:.2f} % of the labels are fastai\'s')
        rows.append(result_row(f'{len(texts):,} answers, {k}, {name}', round(rate, 1), 'documents/s', command, who=k,
                               dtype=name, peer='fastai get_preds', peer_value=round(peer[0], 1), ratio=round(ratio, 2),
                               same_labels=round(same, 2)))
    rates = {k: o[0] for k, o in found.items()}
    rows += summary(rates, types[-1], len(texts), len(codec))
    if a.n >= 25_000: save_results(results/'answers.json', rows)


if __name__ == '__main__': main()
