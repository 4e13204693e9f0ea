"What all tests share: which of them read reviews, and what was skipped for want of a tool."
import functools, os, re, sys
from collections import Counter
from pathlib import Path

import pytest
import run_tests

root = Path(__file__).resolve().parent.parent
opened, unmarked = [], []


@pytest.fixture
def repo(): return root


@functools.cache
def readers(path): return run_tests.readers(path.read_text(encoding='utf-8'), run_tests.review_readers())


def pytest_collection_modifyitems(items):
    "Mark every test that leads to a review: `run_tests.py --offline` runs these once more."
    for item in items:
        if item.originalname in readers(item.path): item.add_marker(pytest.mark.reviews)


def watch(event, args, folder=re.compile(r'[\\/]data[\\/]imdb([\\/]|$)')):
    "Python calls this before it opens or lists something."
    if (event in ('open', 'os.listdir', 'os.scandir') and isinstance(args[0], (str, os.PathLike))
            and folder.search(os.fspath(args[0]))):
        opened.append(args[0])


def pytest_sessionstart(): sys.addaudithook(watch)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    "Notice a test that opens reviews and does not bear the mark."
    before = len(opened)
    result = yield
    if len(opened) > before and not item.get_closest_marker('reviews'): unmarked.append(item.nodeid)
    return result


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    "With pytest-xdist, each worker hands over what it noticed."
    unmarked.extend(getattr(node, 'workeroutput', {}).get('unmarked', []))


def pytest_sessionfinish(session):
    if hasattr(session.config, 'workeroutput'): session.config.workeroutput['unmarked'] = unmarked
    if unmarked: session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    "One line for each reason why tests were skipped."
    why = Counter(r.longrepr[2].removeprefix('Skipped: ') for r in terminalreporter.stats.get('skipped', []))
    for reason, n in why.items(): terminalreporter.line(f'{n} skipped: {reason}')
    for test in unmarked:
        terminalreporter.line(f'{test} read reviews, and readers() in tools/run_tests.py does not see it', red=True)
