"""Train the small LSTM that the site draws, and write its weights: `python docs/train_lstm.py` (about half a minute).

LMModel6 with 32 units in one layer, on Human Numbers; the weights are rounded to half precision."""
import base64, json
from pathlib import Path

import lesson8nlp.core # noqa: F401
import numpy as np, torch
from fastai.text.all import CrossEntropyLossFlat, DataLoaders, Learner, accuracy, set_seed
import fastai.callback.schedule # noqa: F401 (adds fit_one_cycle)
from lesson8nlp.dataloader import LMDataLoader
from lesson8nlp.experiments import human_ids
from lesson8nlp.learner import ModelResetter
from lesson8nlp.models import LMModel6

root = Path(__file__).resolve().parent.parent
n_hidden, n_layers, epochs, seed = 32, 1, 30, 0


def main():
    ids, vocab = human_ids()
    cut = int(len(ids)*0.8)
    set_seed(seed, reproducible=True)
    dls = DataLoaders(LMDataLoader(ids[:cut], bs=64, seq_len=16), LMDataLoader(ids[cut:], bs=64, seq_len=16))
    learn = Learner(dls, LMModel6(len(vocab), n_hidden, n_layers), loss_func=CrossEntropyLossFlat(), metrics=accuracy,
                    cbs=[ModelResetter])
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(epochs, 1e-2, wd=0.1)
    with learn.no_bar(), learn.no_logging(): acc = float(learn.validate()[1])
    flat = torch.cat([p.detach().flatten() for p in learn.model.parameters()]).numpy().astype(np.float16)
    named = [(n, list(p.shape)) for n, p in learn.model.named_parameters()]
    data = dict(vocab=vocab, n_hidden=n_hidden, n_layers=n_layers, params=named, accuracy=round(acc, 4), seed=seed,
        epochs=epochs, torch=torch.__version__.split('+')[0], weights=base64.b64encode(flat.tobytes()).decode())
    (root/'docs'/'state_model.json').write_text(json.dumps(data) + '\n', encoding='utf-8')
    print(f'validation accuracy {acc:.4f}, {len(flat):,} parameters, {named}')


if __name__ == '__main__': main()
