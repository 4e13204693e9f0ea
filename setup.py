"Fill the dynamic fields of pyproject.toml from settings.ini, and the version from the package."
import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

here = Path(__file__).parent
ini = ConfigParser(delimiters=["="])
ini.read(here / "settings.ini", encoding="utf-8")
cfg = ini["DEFAULT"]
name = cfg["lib_name"]
lines = lambda key: [o.strip() for o in cfg.get(key, "").splitlines() if o.strip()]
statuses = ["Planning", "Pre-Alpha", "Alpha", "Beta", "Production/Stable", "Mature", "Inactive"]
init = (here / name / "__init__.py").read_text(encoding="utf-8")

setup(
    version=re.search(r'^__version__ = "(.+)"', init, re.M)[1],
    install_requires=lines("requirements"),
    extras_require={k: lines(f"{k}_requirements") for k in ("dev", "docs", "cluster")},
    classifiers=[
        f"Development Status :: {cfg['status']} - {statuses[int(cfg['status']) - 1]}",
        f"Intended Audience :: {cfg['audience']}",
        "Programming Language :: Python :: 3 :: Only",
    ],
    entry_points={"console_scripts": lines("console_scripts"), "nbdev": [f"{name}={name}._modidx:d"]},
)
