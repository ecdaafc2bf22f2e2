"""Results as files, and data that stay hidden."""

from __future__ import annotations

import pickle

import coffea.util
import lz4.frame
import numpy as np
import pytest
import uproot
from made_results import result_of

from coffea_conserv import Blinding, load_result
from coffea_conserv.errors import ConfigurationError, InputError
from coffea_conserv.plotting import control_plot, correlation_plot
from coffea_conserv.results.store import FORMAT

RESULT = result_of()


def test_a_result_that_is_read_again_is_the_same(tmp_path):
    """Everything that JSON, histograms and templates hold is there, from the file or from its folder."""
    path = RESULT.save(tmp_path / "new" / "result.coffea")
    for place in (path, path.parent, str(path)):
        again = load_result(place)
        assert again.to_dict() == RESULT.to_dict()
        for name in ("x", "y", "total", "score"):
            assert again.hist(name) == RESULT.hist(name)
        assert again.verdict == RESULT.verdict
    assert coffea.util.load(str(path))["format"] == FORMAT
    assert [entry.name for entry in path.parent.iterdir()] == ["result.coffea"]
    with pytest.raises(InputError, match="function of watched quantity 'total' is not in the file"):
        again.settings.watched[0].function({})


def written(path, content):
    """A file as :func:`save_result` would write it."""
    with lz4.frame.open(path, "wb") as file:
        file.write(content)
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            pickle.dumps({"format": 0, "version": "0.0.1"}),
            r"written by coffea_conserv 0\.0\.1 in format 0, and",
        ),
        (pickle.dumps({"verdict": 1}), "holds no result of coffea_conserv; write it again with result.save"),
        (
            b"(dVformat\nI1\nsVversion\nV0.0.9\nsVresult\nccoffea_conserv.result\nResult\ns.",
            r"written by coffea_conserv 0\.0\.9 in format 1, and .* reads format 2; write it again",
        ),
        (pickle.dumps({"format": 1})[:-5], "cannot be read"),
        (
            b"cno_such_module\nthing\n.",
            "cannot be read .ModuleNotFoundError: No module named 'no_such_module'",
        ),
    ],
)
def test_files_that_cannot_be_used_are_errors(tmp_path, content, message):
    """An older format, another content, a damaged file: each with its remedy."""
    with pytest.raises(InputError, match=message):
        load_result(written(tmp_path / "result.coffea", content))


def test_what_is_no_file_is_named(tmp_path):
    """Neither a file nor a folder with one, and a file that is not compressed."""
    with pytest.raises(InputError, match=r"there is no file .*result.coffea; write it again"):
        load_result(tmp_path)
    (tmp_path / "result.coffea").write_text("text")
    with pytest.raises(InputError, match="cannot be read"):
        load_result(tmp_path)


def test_hidden_data_are_in_nothing(tmp_path):
    """Where the share of signal is above the threshold data are 0 in histograms, templates and files."""
    plain = RESULT.hist("score")
    nominal = {p: plain[p, "signal", "nominal", :].view(flow=True)["value"] for p in ("W", "Z", "QCD")}
    share = nominal["Z"] / np.maximum(sum(np.maximum(v, 0) for v in nominal.values()), 1e-9)
    cut = float(np.median(share[1:-1]))
    blind = result_of(blinding=Blinding("Z", above=cut))
    hidden = blind.hidden("score", "signal")
    total_b = np.maximum(nominal["W"] + nominal["QCD"], 0)
    np.testing.assert_array_equal(hidden, nominal["Z"] > cut * (nominal["Z"] + total_b))
    assert 0 < hidden.sum() < len(hidden)
    data = plain["data", "signal", "nominal", :].view(flow=True)
    shown = blind.hist("score")["data", "signal", "nominal", :].view(flow=True)
    for part in ("value", "variance"):
        np.testing.assert_array_equal(shown[part], np.where(hidden, 0, data[part]))
    by_dataset = blind.hist("score", process_axis=False)["Mu", "signal", "nominal", :].view(flow=True)
    np.testing.assert_array_equal(by_dataset["value"], shown["value"])
    for process in ("W", "Z", "QCD"):
        assert blind.hist("score")[process, "signal", :, :] == plain[process, "signal", :, :]
    with uproot.open(blind.templates().to_root(tmp_path / "t.root")) as file:
        assert not file["signal/data_obs"].values(flow=True)[hidden].any()
    with pytest.raises(InputError, match="correlations of data are hidden in region 'signal'"):
        blind.correlation("data", "signal", "nominal")
    assert len(correlation_plot(blind, "signal").axes) < len(correlation_plot(RESULT, "signal").axes)


def test_hidden_bins_have_no_points():
    """A control plot of hidden data has as many points as there are open bins."""
    blind = result_of(blinding=Blinding("Z", above=0.0))
    assert blind.hidden("score", "signal").any()
    points = [
        len(line.get_xdata())
        for result in (blind, RESULT)
        for line in control_plot(result, "score", "signal").axes[0].lines
        if line.get_marker() == "o"
    ]
    opened = ~blind.hidden("score", "signal")[1:-1]
    assert points[0] == opened.sum()
    assert points[1] == len(opened)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"signal": ""}, "signal='' must be the name of a process, or a list of such"),
        ({"signal": "Z", "above": 1.5}, "above=1.5 must be a share from 0 to 1"),
        ({"signal": "Z", "above": True}, "above=True must be a share from 0 to 1"),
    ],
)
def test_wrong_settings_are_refused(options, message):
    """Each error names the argument and what it may be."""
    with pytest.raises(ConfigurationError, match=message):
        Blinding(**options)


def test_blinding_with_what_is_no_process_is_refused():
    """Data, estimates and typos cannot be signal."""
    with pytest.raises(ConfigurationError, match="blinding: there is no simulated process QCD; there are"):
        result_of(blinding=Blinding("QCD"))
    with pytest.raises(ConfigurationError, match="blinding must be Blinding"):
        result_of(blinding="Z")
