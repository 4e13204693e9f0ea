"""Write constraints.txt anew: the newest versions that fit together, found by pip without installing them.

    python tools/lock.py                          # make lock
    python tools/lock.py --oldest --out old.txt   # the oldest versions that settings.ini allows, for a test of them
    python tools/lock.py --newest --out new.txt   # no pins at all
"""
import argparse, configparser, json, re, subprocess, sys, tempfile
from pathlib import Path

root = Path(__file__).resolve().parent.parent


def settings():
    ini = configparser.ConfigParser(delimiters=['='])
    ini.read(root/'settings.ini', encoding='utf-8')
    return ini['DEFAULT']


def requirements():
    "All requirements of the library and its extras, one string each."
    return [r for k, v in settings().items() if k.endswith('requirements') for r in v.split()]


def oldest():
    "The lower bounds of settings.ini as pins of their minor version: fastai>=2.8 becomes fastai==2.8.*"
    found = (re.fullmatch(r'([\w.-]+)>=([\d.]+)', r) for r in requirements())
    return [f'{m[1]}=={m[2]}.*' for m in found if m and m[1] not in ('setuptools',)]


def resolve(wanted):
    "Pins of all packages that pip would install, read from its report."
    with tempfile.TemporaryDirectory() as tmp:
        report = Path(tmp)/'report.json'
        cmd = [sys.executable, '-m', 'pip', 'install', '-q', '--dry-run', '--ignore-installed', '--report', report,
               *wanted]
        subprocess.run([str(o) for o in cmd], check=True, cwd=tmp)
        return pins(json.loads(report.read_text(encoding='utf-8')))


def pins(report):
    "name==version, sorted; without local parts such as +cpu, and without what CUDA builds bring along."
    rows = {o['metadata']['name']: o['metadata']['version'].split('+')[0] for o in report['install']}
    drop = re.compile(r'nvidia-|cuda-|triton', re.I)
    return sorted((f'{n}=={v}' for n, v in rows.items() if not drop.match(n)), key=str.lower)


def main():
    ap = argparse.ArgumentParser(description='Write the pins of all packages.')
    ap.add_argument('--out', type=Path, default=root/'constraints.txt')
    ap.add_argument('--oldest', action='store_true')
    ap.add_argument('--newest', action='store_true')
    args = ap.parse_args()
    lines = oldest() if args.oldest else [] if args.newest else resolve(requirements())
    args.out.write_text(''.join(f'{l}\n' for l in lines), encoding='utf-8', newline='\n')
    print(f'{len(lines)} pins in {args.out.name}')


if __name__ == '__main__': main()
