"The tests notice it when a condition or a default of the package changes."
import pytest
import mutate


@pytest.mark.slow
def test_tests_notice_mutants():
    """Twenty mutants, drawn with a seed. The survivors are printed (`make mutate`, or pytest -s), and most do not
    survive."""
    assert len(mutate.survivors(20, seed=42)) <= 10
