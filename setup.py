"""Hands the CMake build of genfast/_C to setuptools; all metadata lives in pyproject.toml.

scikit-build-core was weighed: its setuptools wrapper adds a dependency and an experimental layer for
what the thirty lines below do, and its own backend would leave no setup.py and no in-place build.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


class CMakeBuild(build_ext):
    """Builds the extension with CMake and Ninja; GENFAST_* environment variables become options."""

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        # One build directory per interpreter, kept between calls, so that rebuilds are incremental.
        build_dir = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"
        options = [
            f"-D{name}={value}" for name, value in os.environ.items() if name.startswith("GENFAST_")
        ]
        configure = [
            "cmake",
            "-S",
            ROOT,
            "-B",
            build_dir,
            "-G",
            "Ninja",
            f"-DCMAKE_MAKE_PROGRAM={shutil.which('ninja')}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DGENFAST_VERSION={self.distribution.get_version()}",
            *options,
        ]
        subprocess.run(configure, check=True)
        subprocess.run(["cmake", "--build", build_dir], check=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(build_dir / target.name, target)


setup(ext_modules=[Extension("genfast._C", [])], cmdclass={"build_ext": CMakeBuild})
