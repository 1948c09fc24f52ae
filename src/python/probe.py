# Tells what an interpreter is; runs under any Python, so that a wrong one can be named.
import json
import sys

NAMES = json.loads(sys.argv[1])


def facts():
    import importlib.util
    import os
    import site
    import sysconfig
    from importlib import metadata

    packages = {}
    for name in NAMES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
    paths = sysconfig.get_paths()
    folders = [paths["purelib"], paths["platlib"]] + site.getsitepackages()
    return {
        "home": sys.base_prefix,
        "exec_home": sys.base_exec_prefix,
        "site": [f for i, f in enumerate(folders) if f not in folders[:i] and os.path.isdir(f)],
        "has_ensurepip": importlib.util.find_spec("ensurepip") is not None,
        "packages": packages,
    }


told = {"version": "%d.%d.%d" % sys.version_info[:3], "executable": sys.executable}
if sys.version_info >= (3, 8):
    told.update(facts())
print(json.dumps(told))
