import subprocess
import sys

import ccreid


def test_import_is_light():
    heavy = "{'torch', 'lightning', 'hydra', 'torchvision'} & set(sys.modules)"
    code = f"import sys, ccreid; assert not {heavy}, {heavy}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_torchvision_is_importable_after_ccreid_alone():
    code = "import ccreid, torchvision; from torchvision.transforms import v2; v2.Resize(3)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_lists_what_conf_offers():
    assert {"baseline", "fire2"} <= set(ccreid.list_methods())
    assert {"virtual", "prcc"} <= set(ccreid.list_benchmarks())
    assert not any(name.startswith("_") for name in ccreid.list_benchmarks())
