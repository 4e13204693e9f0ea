"""Fill the dynamic fields of pyproject.toml from settings.ini, the version from the package, the description from
README.md."""
import re, shutil, tomllib
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
ini = ConfigParser(delimiters=["="])
ini.read(here / "settings.ini", encoding="utf-8")
cfg = ini["DEFAULT"]
name = cfg["lib_name"]
lines = lambda key: [o.strip() for o in cfg.get(key, "").splitlines() if o.strip()]
statuses = ["Planning", "Pre-Alpha", "Alpha", "Beta", "Production/Stable", "Mature", "Inactive"]
init = (here / name / "__init__.py").read_text(encoding="utf-8")
toml = tomllib.loads((here / "pyproject.toml").read_text(encoding="utf-8"))
repo = toml["project"]["urls"]["Repository"]

def whole(link):
    "The start of a link in README.md, with the address of the repository: PyPI shows it without the files beside it."
    return f"{link[1]}{repo}/{'raw' if link[1].startswith('!') else 'blob'}/main/"

class WithResults(build_py):
    "The wheel brings a copy of the measured rows, which lessons show where there is no checkout."
    def run(self):
        super().run()
        if self.editable_mode: return
        to = Path(self.build_lib) / name / "results"
        to.mkdir(parents=True, exist_ok=True)
        for f in (here / "benchmarks" / "results").glob("*.json"): shutil.copy(f, to)

setup(
    cmdclass={"build_py": WithResults},
    version=re.search(r'^__version__ = "(.+)"', init, re.M)[1],
    long_description=re.sub(r"(!?\[[^]]*\]\()(?![a-z]+:|#)", whole, (here / "README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
    install_requires=lines("requirements"),
    extras_require={k: lines(f"{k}_requirements") for k in ("dev", "docs", "cluster")},
    classifiers=[
        f"Development Status :: {cfg['status']} - {statuses[int(cfg['status']) - 1]}",
        f"Intended Audience :: {cfg['audience']}",
        "Programming Language :: Python :: 3 :: Only",
    ],
    entry_points={"console_scripts": lines("console_scripts"), "nbdev": [f"{name}={name}._modidx:d"]},
)
