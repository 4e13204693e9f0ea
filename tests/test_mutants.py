"The tests notice it when a condition or a default of the package changes."
import subprocess, types

import pytest
import mutate


@pytest.fixture
def pytest_ends(monkeypatch):
    "Let every run of pytest end with this status, and remember what it was given."
    def ends(status, ran=None):
        def python(*args, env, **kw):
            if args[0] == '-c': return types.SimpleNamespace(stdout=env['PYTHONPATH'])
            if isinstance(status, Exception): raise status
            if ran is not None: ran.append(args[-1])
            return types.SimpleNamespace(returncode=status, stdout='what pytest prints', stderr='')
        monkeypatch.setattr(mutate, 'python', python)
    return ends


def test_only_failed_tests_notice_a_mutant(pytest_ends):
    "And an endless loop; where pytest could not do its work, nothing is known."
    (module, mutant), = mutate.draw(1, seed=1)
    for status, noticed in {0: False, 1: True, subprocess.TimeoutExpired('pytest', 600): True}.items():
        pytest_ends(status)
        assert mutate.noticed(module, mutant) == noticed
    for status in (2, 3, 4, 5, -11):
        pytest_ends(status)
        with pytest.raises(RuntimeError, match=f'(?s)status {status} .*what pytest prints'):
            mutate.noticed(module, mutant)


def test_unchanged_modules_pass_their_tests_first(pytest_ends):
    pytest_ends(0, ran := [])
    assert len(mutate.survivors(4, seed=1)) == 4
    files = [f'tests/test_{m}.py' for m, _ in mutate.draw(4, seed=1)]
    assert ran == sorted(set(files)) + files
    pytest_ends(1)
    with pytest.raises(RuntimeError, match='fail without a change'): mutate.survivors(4, seed=1)
    pytest_ends(subprocess.TimeoutExpired('pytest', 600))
    with pytest.raises(subprocess.TimeoutExpired): mutate.survivors(4, seed=1)


def test_a_change_that_breaks_an_import_is_noticed(tmp_path, monkeypatch):
    "The tests of the module cannot be collected then, and they could before."
    for f, text in {'lesson8nlp/__init__.py': '', 'lesson8nlp/small.py': 'assert 1 < 2',
                    'tests/test_small.py': 'import lesson8nlp.small\ndef test_small(): pass\n'}.items():
        (tmp_path/f).parent.mkdir(exist_ok=True)
        (tmp_path/f).write_text(text, encoding='utf-8')
    monkeypatch.setattr(mutate, 'root', tmp_path)
    mutate.check_unchanged(['small'])
    assert mutate.noticed('small', (1, 9, 10, '>'))


@pytest.mark.slow
def test_tests_notice_mutants():
    """Twenty mutants, drawn with a seed. The survivors are printed (`make mutate`, or pytest -s), and most do not
    survive."""
    assert len(mutate.survivors(20, seed=42)) <= 10
