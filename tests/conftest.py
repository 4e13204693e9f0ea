from pathlib import Path

import pytest

root = Path(__file__).resolve().parent.parent


@pytest.fixture
def repo(): return root
