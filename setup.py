"Package metadata: everything comes from `settings.ini`, so that nothing is said twice."
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

here = Path(__file__).parent
cfg = ConfigParser(delimiters=['='])
cfg.read(here/'settings.ini', encoding='utf-8')
cfg = cfg['DEFAULT']

extras = {
    k.removesuffix('_requirements'): v.split()
    for k, v in cfg.items()
    if k.endswith('_requirements')
}
extras['all'] = sorted({r for k,v in extras.items() if k != 'dev' for r in v})
statuses = [
    '1 - Planning', '2 - Pre-Alpha', '3 - Alpha', '4 - Beta', '5 - Production/Stable', '6 - Mature',
    '7 - Inactive'
]

setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=(here/'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author=cfg['author'],
    author_email=cfg['author_email'],
    url=cfg['git_url'],
    license='Apache-2.0',
    license_files=['LICENSE', 'NOTICE'],
    keywords=cfg['keywords'].split(),
    classifiers=[
        f"Development Status :: {statuses[int(cfg['status'])-1]}",
        f"Intended Audience :: {cfg['audience']}",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
        *(f'Programming Language :: Python :: 3.{v}' for v in (11, 12, 13))
    ],
    packages=find_packages(include=['fetal_seg', 'fetal_seg.*']),
    package_data={'fetal_seg': ['py.typed', '*.pyi', 'assets/*', 'assets/*/*']},
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg['requirements'].split(),
    extras_require=extras,
    entry_points={
        'console_scripts': [l.strip() for l in cfg['console_scripts'].splitlines() if l.strip()],
        'nbdev': [f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"]
    },
    zip_safe=False,
)
