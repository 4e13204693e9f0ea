"What leaves this library gives the same answers elsewhere; columns of other libraries come in as lists do."
import importlib, json, random

import pytest, torch
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from lesson8nlp.all import *
from lesson8nlp.interchange import HFTokenizer, OnnxGraph
from lesson8nlp.tokenizer import special_tokens
from lesson8nlp.ulmfit import random_model

texts = [f'{a} film number {n}, and {b} it!' for n in range(15)
         for a, b in (('A GREAT', 'I loved'), ('A dull', 'nobody liked'))]
words, chars = make_codec(texts, min_freq=1), make_codec(texts, 'characters', min_freq=1)
pieces = st.sampled_from([*special_tokens, 'film', 'Film', 'FILM', ' ', '  ', '\n', '\x1c', '\u3000', '!!!!', 'é', '😀',
                          'zz', "it's", '#'])


@given(st.lists(pieces | st.text(st.characters(exclude_characters='▁', exclude_categories=['Cs']), max_size=5),
                max_size=12).map(''.join))
@settings(max_examples=100, deadline=None)
def test_tokenizer_gives_the_ids_of_the_codec(text):
    assert hf_chars.tokenizer.encode(text).ids == chars.encode(text).tolist()
    assert hf_words.tokenizer.encode(words.tokens(text), is_pretokenized=True).ids == words.encode(text).tolist()

pytest.importorskip('tokenizers')
hf_words, hf_chars = hf_tokenizer(words), hf_tokenizer(chars)


def test_tokenizer_says_what_is_missing():
    assert 'codec.tokens' in hf_words.missing and 'special token' in hf_chars.missing
    assert 'codec.tokens' in repr(hf_words)
    # rules of ours come first: no longer exact from the text
    with_rules = Codec(Tokenizer(CharTokenizer()), chars.vocab)
    assert hf_tokenizer(with_rules).missing
    with pytest.raises(ValueError, match='xxunk'): hf_tokenizer(Codec(str.split, ['a', 'b']))


def test_saved_tokenizer_is_read_again(tmp_path):
    from tokenizers import Tokenizer as Theirs
    lm = TextModel(get_language_model(AWD_LSTM, len(words.vocab), dict(emb_sz=4, n_hid=4, n_layers=1)), words)
    hf = lm.to_hf_tokenizer()
    assert isinstance(hf, HFTokenizer) and hf.sentencepiece is None
    again = Theirs.from_file(str(hf.save(tmp_path/'tok')/'tokenizer.json'))
    assert again.encode(words.tokens(texts[0]), is_pretokenized=True).ids == words.encode(texts[0]).tolist()
    assert [p.name for p in (tmp_path/'tok').iterdir()] == ['tokenizer.json']


def classifier(n_class=3, n_layers=2, seed=0, **kw):
    torch.manual_seed(seed)
    config = awd_lstm_clas_config | dict(emb_sz=6, n_hid=10, n_layers=n_layers)
    net = get_text_classifier(AWD_LSTM, len(words.vocab), n_class, seq_len=7, config=config, **kw)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm1d):
            for o in (m.running_mean, m.weight, m.bias): nn.init.normal_(o)
            nn.init.uniform_(m.running_var, 0.5, 2)
    return TextModel(net, words)


@pytest.mark.parametrize('kw', [dict(), dict(n_class=2, n_layers=1, lin_ftrs=[]),
    dict(n_layers=3, lin_ftrs=[8, 5], ps=[0.1, 0.1]), dict(n_class=1, y_range=(-1, 3)), dict(n_class=1)], ids=str)
def test_onnx_gives_the_same_answers(kw, tmp_path):
    ort = pytest.importorskip('onnxruntime')
    pytest.importorskip('onnx')
    clf, rng = classifier(**kw), random.Random(1)
    session = ort.InferenceSession(str(clf.to_onnx(tmp_path/'clf.onnx')))
    for bs in (1, 2, 9):
        some = [' '.join(rng.choices(['film', 'A', 'dull', 'zzz', '!'], k=rng.choice([0, 1, 6, 7, 8, 40])))
                for _ in range(bs)]
        x = pad_sequence(clf.codec.encode_all(some), batch_first=True, padding_value=clf.codec.pad_id)
        theirs = torch.from_numpy(session.run(None, {'ids': x.numpy()})[0])
        assert torch.allclose(theirs, classify(clf, some), atol=2e-6, rtol=1e-4)
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about['labels']) == clf.labels and json.loads(about['pad_id']) == 1


def test_onnx_reads_in_the_direction_of_the_model(tmp_path):
    "Ids go in as the codec gives them, of one text or of several, with padding at their ends."
    ort = pytest.importorskip('onnxruntime')
    pytest.importorskip('onnx')
    one = classifier()
    back = TextModel(one.model, one.codec, one.labels, backwards=True)
    session = ort.InferenceSession(str(back.to_onnx(tmp_path/'back.onnx')))
    some = ['A dull film !', 'A film', 'film film dull ! ! A A film ! A dull A']
    x = pad_sequence(back.codec.encode_all(some), batch_first=True, padding_value=back.codec.pad_id)
    theirs, answers = torch.from_numpy(session.run(None, {'ids': x.numpy()})[0]), classify(back, some)
    assert torch.allclose(theirs, answers, atol=2e-6, rtol=1e-4) and not torch.allclose(answers, classify(one, some))


def test_onnx_refuses_what_would_differ(tmp_path):
    pytest.importorskip('onnx')
    lm = TextModel(get_language_model(AWD_LSTM, len(words.vocab), dict(emb_sz=4, n_hid=4, n_layers=1)), words)
    with pytest.raises(TypeError, match='needs a text_classifier'): lm.to_onnx(tmp_path/'lm.onnx')
    torch.manual_seed(0)
    config = awd_lstm_clas_config | dict(emb_sz=4, n_hid=4, n_layers=1, bidir=True)
    clf = TextModel(get_text_classifier(AWD_LSTM, len(words.vocab), 2, config=config), words)
    with pytest.raises(ValueError, match='bidir=False'): clf.to_onnx(tmp_path/'clf.onnx')
    for activation, why in (('none', 'several numbers'), ('sigmoid', 'can have several')):
        other = TextModel(clf.model, words, clf.labels, activation=activation)
        with pytest.raises(ValueError, match=why): other.to_onnx(tmp_path/'clf.onnx')
    assert not list(tmp_path.iterdir())
    assert OnnxGraph()('Relu', 'x') == 'Relu0_0'


def columns(name):
    m = importlib.import_module(name)
    if name == 'datasets':
        ds = m.Dataset.from_dict(dict(text=texts))
        return [ds['text'], ds.to_iterable_dataset()['text'], (r['text'] for r in ds)]
    if name == 'pyarrow':
        return [m.array(texts), m.chunked_array([texts[:9], texts[9:]]), m.table(dict(text=texts))['text']]
    if name == 'polars': return [m.Series(texts), m.DataFrame(dict(text=texts))['text']]
    return [m.Series(texts), m.DataFrame(dict(text=texts)).text, m.Series(texts, dtype='string')]


@pytest.mark.parametrize('name', ['datasets', 'pyarrow', 'polars', 'pandas'])
def test_columns_of_other_libraries(name, tmp_path):
    pytest.importorskip(name)
    plain = Corpus.from_texts(texts, path=tmp_path/'plain', progress=False)
    for i, column in enumerate(columns(name)):
        assert (Corpus.from_texts(column, path=tmp_path/str(i), progress=False).ids == plain.ids).all()
    lm = pretrain(texts, words, size=dict(emb_sz=4, n_hid=4, n_layers=1), epochs=1, bs=4, verbose=False)
    ours = finetune(texts, lm, epochs=1, bs=4, verbose=False)
    theirs = finetune(columns(name)[0], lm, epochs=1, bs=4, verbose=False)
    assert ours.fingerprint() == theirs.fingerprint()


@pytest.mark.parametrize('name', ['datasets', 'pyarrow', 'polars'])
def test_a_whole_table_is_refused(name):
    m = pytest.importorskip(name)
    table = (m.Dataset.from_dict(dict(text=texts)) if name == 'datasets' else
             m.table(dict(text=texts)) if name == 'pyarrow' else m.DataFrame(dict(text=texts)))
    with pytest.raises(TypeError, match="one column.*'text'"): Corpus.from_texts(table)


def test_a_tokenizer_is_saved_beside_a_model(tmp_path):
    "It replaced the folder, and with it the weights."
    pytest.importorskip('tokenizers')
    m = random_model(words, 'tiny')
    m.save(tmp_path/'m')
    m.to_hf_tokenizer().save(tmp_path/'m')
    assert (tmp_path/'m'/'tokenizer.json').is_file()
    assert TextModel.load(tmp_path/'m', 'cpu').fingerprint() == m.fingerprint()


def test_no_sentencepiece_model_of_an_earlier_tokenizer_stays(tmp_path):
    tokenizers = pytest.importorskip('tokenizers')
    new = tokenizers.Tokenizer(tokenizers.models.WordLevel({UNK: 0}, unk_token=UNK))
    names = lambda: sorted(p.name for p in tmp_path.iterdir())
    HFTokenizer(new, '', '', b'model').save(tmp_path)
    assert names() == ['sentencepiece.model', 'tokenizer.json']
    HFTokenizer(new, '', '').save(tmp_path)
    assert names() == ['tokenizer.json']
