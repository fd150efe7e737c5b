"""Where the development data lies, and the marks that skip a test, by name, on a machine without it."""

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"
DATA = Path(os.environ.get("HFTCL_TEST_DATA", _BESIDE))
REAL_BARS = DATA / "real" / "bars"
DIRTY = DATA / "dirty"
POLYGON = DATA / "polygon"
FIELD = DATA / "field"
SPLIT_2020 = DATA / "real" / "split_2020"

needs_real_bars = pytest.mark.skipif(not REAL_BARS.is_dir(), reason="the real bars are not on this machine")
needs_dirty_bars = pytest.mark.skipif(not DIRTY.is_dir(), reason="the dirty bars are not on this machine")
needs_polygon_samples = pytest.mark.skipif(not POLYGON.is_dir(), reason="the Polygon samples are not on this machine")
needs_split_bars = pytest.mark.skipif(
    not SPLIT_2020.is_dir(), reason="the bars of the 2020 splits are not on this machine"
)
needs_field_inputs = pytest.mark.skipif(not FIELD.is_dir(), reason="the folders of the field are not on this machine")
