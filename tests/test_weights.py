"""Loading is exact, and nothing that is not the right file gets into a network."""

import argparse
import functools
import gzip
import hashlib
import http.server
import io
import json
import pickle
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import get_model

from config import ARCHS, UserError
from models import build_model, weights
from models.weights import fetch, load_exactly, public_weights, whose
from models.weights.caffe2 import read_caffe2_pickle
from models.weights.files import WRAPPERS, read_state
from models.weights.i3d import WEIGHTS, convert_piergiaj


def public_i3d(num_classes=4):
    """A state dict as the public file names its tensors, made from our own network by hand."""
    torch.manual_seed(0)
    ours = build_model("i3d", num_classes).state_dict()
    theirs = {}
    for key, value in ours.items():
        if key.startswith("head."):
            name = key.replace("head", "logits.conv3d")
            value = value.view(*value.shape, 1, 1, 1) if value.dim() == 2 else value
        else:
            name = key.removeprefix("features.").replace(".conv.", ".conv3d.")
            for a, b in [
                ("branch0", "b0"),
                ("branch1.0", "b1a"),
                ("branch1.1", "b1b"),
                ("branch2.0", "b2a"),
                ("branch2.1", "b2b"),
                ("branch3.1", "b3b"),
                ("mixed", "Mixed"),
                ("conv_1a", "Conv3d_1a_7x7"),
                ("conv_2b", "Conv3d_2b_1x1"),
                ("conv_2c", "Conv3d_2c_3x3"),
            ]:
                name = name.replace(a, b)
        theirs[name] = value
    return theirs, ours


def save(tmp_path, content):
    torch.save(content, tmp_path / "file.pt")
    return str(tmp_path / "file.pt")


@pytest.mark.parametrize("wrap", ["plain", "module", "state_dict", "model_state", "no counters"])
def test_every_usual_wrapping_loads_exactly(tmp_path, wrap):
    theirs, ours = public_i3d()
    if wrap == "module":
        theirs = {f"module.{key}": value for key, value in theirs.items()}
    elif wrap == "no counters":
        theirs = {k: v for k, v in theirs.items() if not k.endswith("num_batches_tracked")}
    elif wrap != "plain":
        theirs = {wrap: theirs, "epoch": 3}
    torch.manual_seed(1)
    model = build_model("i3d", 4, weights="i3d_rgb_piergiaj", weights_file=save(tmp_path, theirs))
    for key, value in model.state_dict().items():
        assert torch.equal(value, ours[key]), key


def test_a_head_of_another_class_count_is_replaced_and_said_so(tmp_path, caplog):
    theirs, ours = public_i3d(num_classes=9)
    with caplog.at_level("INFO", logger="video"):
        model = build_model(
            "i3d", 4, weights="i3d_rgb_piergiaj", weights_file=save(tmp_path, theirs)
        )
    assert "the head for 9 classes is replaced by a new one for 4" in caplog.text
    assert model.head.weight.shape == (4, 1024)
    assert torch.equal(
        model.state_dict()["features.conv_1a.conv.weight"], ours["features.conv_1a.conv.weight"]
    )


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.pop("Mixed_4c.b1b.bn.weight"), "tensors: 1 missing"),
        (lambda s: s.pop("logits.conv3d.bias"), "tensors: 1 missing"),
        (lambda s: s.update(extra=torch.zeros(1)), "1 left over"),
        (lambda s: s.update({"Mixed_3b.b0.bn.bias": torch.zeros(3)}), "has the shape"),
    ],
)
def test_any_other_difference_is_an_error(tmp_path, change, message):
    theirs, _ = public_i3d()
    change(theirs)
    with pytest.raises(UserError, match=message):
        build_model("i3d", 4, weights="i3d_rgb_piergiaj", weights_file=save(tmp_path, theirs))


@pytest.mark.parametrize("dims", [0, 1])
def test_tensors_of_too_few_dimensions_are_an_error_in_words(tmp_path, dims):
    theirs = {key: torch.zeros((2,) * dims) for key in public_i3d()[0]}
    with pytest.raises(UserError, match="has the shape"):
        build_model("i3d", 4, weights="i3d_rgb_piergiaj", weights_file=save(tmp_path, theirs))


def test_a_checkpoint_of_another_network_lists_both_sides(tmp_path):
    other = torch.nn.Linear(3, 3).state_dict()
    with pytest.raises(UserError, match=r"missing \(features.*left over \("):
        build_model("i3d", 4, weights="i3d_rgb_piergiaj", weights_file=save(tmp_path, other))


STATE = {"features.conv.weight": torch.arange(6.0).view(2, 3), "head.bias": torch.ones(2)}


def beginning_with(prefix, state=STATE):
    return {prefix + key: value for key, value in state.items()}


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        *({name: STATE, "epoch": 3} for name in WRAPPERS),
        {"epoch": 3, "model": {"net": {"state_dict": STATE}}, "optimizer": {"state": {}}},
        {"state_dict": STATE, "model": {"depth": 50}},
        beginning_with("module."),
        beginning_with("module.module."),
        beginning_with("_orig_mod."),
        beginning_with("model."),
        {"net": {"state_dict": beginning_with("module._orig_mod.model.module.")}},
        {"features._orig_mod.conv.weight": STATE["features.conv.weight"]}
        | {"head.bias": STATE["head.bias"]},  # a part was compiled
        {"state_dict": STATE, "args": argparse.Namespace(lr=0.1), "best": np.float64(71.5)},
    ],
    ids=lambda content: ",".join(content)[:40],
)
def test_wrappers_and_prefixes_are_taken_off_however_often(tmp_path, content):
    state = read_state(Path(save(tmp_path, content)))
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[key], STATE[key]) for key in STATE)


class Danger:
    def __reduce__(self):
        return (open, ("i_was_here", "w"))


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__", "/"), text)
    return file.getvalue()


def saved(content, **how):
    file = io.BytesIO()
    torch.save(content, file, **how)
    return file.getvalue()


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


WHOLE = saved(STATE)
OLD = saved(STATE, _use_new_zipfile_serialization=False)
OURS = {"arch": "i3d", "class_names": ["a"], "preprocessing": {}, "model": STATE, "epoch": 3}


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is empty"),
        (b"\n <!DOCTYPE html><html>Quota exceeded</html>", "is a web page"),
        (b'{"error": "not found"}', "a server's answer"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\n", "git lfs pull"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "is a file of Keras"),
        (zipped(**{"model.weights.h5": "", "config.json": "{}"}), "is a file of Keras"),
        (zipped(**{"a.npy": "", "b.npy": ""}), "is an archive of numpy"),
        (zipped(script__constants__pkl=""), "is an archive; unpack it"),
        (zipped(**{"script/constants.pkl": "", "script/data.pkl": ""}), "is TorchScript"),
        (zipped(**{"net/archive_format": "pt2"}), "is a program of torch.export"),
        (zipped(weights__net="", readme=""), "weight file that is in it: weights/net, readme"),
        (zipped(), "nothing at all"),
        (gzip.compress(WHOLE), "is an archive; unpack it"),
        (bytes(257) + b"ustar" + bytes(300), "is an archive; unpack it"),
        (WHOLE[: len(WHOLE) // 2], "is cut off or damaged"),
        (WHOLE[:-1], "is cut off or damaged"),
        (OLD[: len(OLD) // 2], "is cut off or damaged"),
        (flipped(WHOLE, WHOLE.index(STATE["head.bias"].numpy().tobytes())), "wrong checksum"),
        (bytes(1000), "is cut off or damaged, or no file of tensors"),
        (pickle.dumps({"a": 1}, protocol=2), "no file of tensors"),
        (pickle.dumps({"a": Danger()}, protocol=2), "open, which only its own code can read"),
        (saved({"a": Danger()}), "open, which only its own code can read"),
        (saved(torch.nn.Linear(2, 2)), "torch.nn.modules.linear.Linear, which only its own code"),
        (saved([1, 2]), "holds no state dict but list"),
        (saved({}), "holds no state dict but dict"),
        (saved({"epoch": 3, "weights": STATE}), "by an unknown name: epoch, weights"),
        (saved(STATE | beginning_with("module.")), "holds two networks in one state dict"),
        (saved(OURS), "start from it with --pretrained {path} and without --pretrained-file"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_file_of_something_else_is_named_as_what_it_is(tmp_path, content, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "file.pt"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_state(path)
    assert str(error.value).startswith(str(path)) and message.format(path=path) in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "i_was_here").exists()


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    for read in (read_state, read_caffe2_pickle):
        with pytest.raises(UserError, match="no weight file none.pt"):
            read(Path("none.pt"))
        with pytest.raises(UserError, match=f"^{tmp_path} is a folder; name a file$"):
            read(tmp_path)


def test_the_reader_of_caffe2_names_other_files_too(tmp_path):
    (tmp_path / "page.pkl").write_text("<html>404</html>")
    with pytest.raises(UserError, match="page.pkl is a web page"):
        read_caffe2_pickle(tmp_path / "page.pkl")


def safetensors(header, tensors=b"", size=None):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(header) if size is None else size).to_bytes(8, "little") + header + tensors


def entry_of(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


TENSORS = np.arange(6, dtype="<f4").tobytes() + b"\x80\x3f" + b"\1\0" + np.int64(7).tobytes()
HEADER = {
    "__metadata__": {"format": "pt"},
    "model.weight": entry_of("F32", [2, 3], 0, 24),
    "model.half": entry_of("BF16", [1], 24, 26),
    "model.mask": entry_of("BOOL", [2], 26, 28),
    "model.count": entry_of("I64", [], 28, 36),
    "model.none": entry_of("F32", [0, 3], 36, 36),
}


@pytest.mark.parametrize("padding", range(8))  # of the header: tensors need not be aligned
def test_safetensors_are_read(tmp_path, padding):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors(json.dumps(HEADER).encode() + b" " * padding, TENSORS))
    state = read_state(path)
    assert torch.equal(state["weight"], torch.arange(6.0).view(2, 3))
    assert torch.equal(state["half"], torch.ones(1, dtype=torch.bfloat16))
    assert state["mask"].tolist() == [True, False]
    assert state["count"] == 7 and state["count"].dtype == torch.int64
    assert state["none"].shape == (0, 3)


@pytest.mark.parametrize(
    "content",
    [
        safetensors({"a": {}}),
        safetensors({"a": 1}),
        safetensors(b"{]"),
        safetensors(b"{} "),
        safetensors(HEADER, TENSORS[:-1]),
        safetensors(HEADER, TENSORS + b"x"),
        safetensors(HEADER, TENSORS, size=10**7),
        safetensors({"a": entry_of("F32", [2, 2], 0, 24)}, TENSORS[:24]),
        safetensors({"a": entry_of("F8_E5M2", [36], 0, 36)}, TENSORS),
        safetensors({"a": entry_of("F32", [9], -36, 0)}, TENSORS),
        safetensors({"a": entry_of("F32", ["9"], 0, 36)}, TENSORS),
    ],
)
def test_damaged_safetensors_are_one_sentence(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is cut off or damaged|holds no state dict"):
        read_state(path)


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(UserError, match="no weights 'x' for i3d; there are i3d_rgb_piergiaj"):
        build_model("i3d", weights="x")
    with pytest.raises(UserError, match="unknown architecture 'nothing'; there are .*i3d"):
        build_model("nothing")


@pytest.mark.parametrize(
    "arch, asked, found",
    [
        ("tsn", {}, "imagenet_bninception"),  # the paper's
        ("tsn", {"backbone": "resnet34", "consensus": "max"}, "imagenet_resnet34"),
        ("resnet3d", {}, "imagenet"),
        ("resnet3d", {"depth": 101}, "imagenet101"),
    ],
)
def test_imagenet_is_that_of_the_network_asked_for(arch, asked, found):
    assert weights.find("imagenet", arch, asked) is public_weights(arch)[found]


def test_conversion_names_every_tensor_once():
    theirs, ours = public_i3d()
    assert convert_piergiaj(theirs).keys() == ours.keys()


def test_load_exactly_takes_its_own_state(tmp_path):
    model, other = build_model("i3d", 4), build_model("i3d", 4)
    load_exactly(other, model.state_dict())
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True)
    )


@pytest.fixture
def server(tmp_path):
    """An HTTP server for the files of tmp_path/web."""
    (tmp_path / "web").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):  # cut.pt comes in two parts, bare.pt whole and without its length
            if self.path.endswith("bare.pt"):
                self.send_response(200)
                self.end_headers()
                self.wfile.write((tmp_path / "web" / "bare.pt").read_bytes())
                self.close_connection = True
                return None
            if not self.path.endswith("cut.pt"):
                return super().do_GET()
            content = (tmp_path / "web" / "cut.pt").read_bytes()
            start = int(self.headers.get("Range", "bytes=0-")[6:-1])
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:] if start else content[:7])
            self.close_connection = True
            return None

    handler = functools.partial(Quiet, directory=tmp_path / "web")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "pretrained")
    (tmp_path / "pretrained").mkdir()
    return tmp_path / "pretrained"


def entry_for(url, content=b""):
    sha = hashlib.sha256(content).hexdigest() if content else ""
    return replace(WEIGHTS["i3d_rgb_piergiaj"], url=url, sha256=sha)


def test_a_download_is_checked_and_kept(tmp_path, server, folder):
    (tmp_path / "web" / "w.pt").write_bytes(b"weights")
    entry = entry_for(f"{server}/w.pt", b"weights")
    assert fetch(entry).read_bytes() == b"weights"
    (tmp_path / "web" / "w.pt").unlink()
    assert fetch(entry) == folder / "w.pt"  # no second download


def test_a_wrong_checksum_leaves_no_file(tmp_path, server, folder):
    (tmp_path / "web" / "w.pt").write_bytes(b"other")
    with pytest.raises(UserError, match="another checksum"):
        fetch(entry_for(f"{server}/w.pt", b"weights"))
    assert list(folder.iterdir()) == []


def test_a_file_that_is_there_is_checked_too(tmp_path, server, folder):
    """The oldest format of torch, that of many public files, has no checksum of its own."""
    (folder / "w.pt").write_bytes(b"weightS")
    with pytest.raises(UserError, match="pretrained/w.pt has another checksum .* remove it"):
        fetch(entry_for(f"{server}/w.pt", b"weights"))
    assert (folder / "w.pt").exists()


def test_a_download_that_ends_early_goes_on_where_it_ended(tmp_path, server, folder):
    (tmp_path / "web" / "cut.pt").write_bytes(b"half of the weights")
    entry = entry_for(f"{server}/cut.pt", b"half of the weights")
    with pytest.raises(UserError, match="ended early|cannot download"):
        fetch(entry)
    assert [file.suffix for file in folder.iterdir()] == [".part"]  # never under the final name
    assert fetch(entry).read_bytes() == b"half of the weights"
    assert len(list(folder.iterdir())) == 1


def test_a_server_that_sends_all_again_without_its_length_gives_the_file(tmp_path, server, folder):
    (tmp_path / "web" / "bare.pt").write_bytes(b"weights")
    (folder / "bare.part").write_bytes(b"wei")
    assert fetch(entry_for(f"{server}/bare.pt")).read_bytes() == b"weights"


@pytest.mark.parametrize("url", ["{}/none.pt", "http://127.0.0.1:9/w.pt"])
def test_without_the_file_the_error_says_where_to_put_it(server, folder, url):
    with pytest.raises(UserError) as error:
        fetch(entry_for(url.format(server)))
    assert "cannot download" in str(error.value)
    assert str(folder) in str(error.value)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "asked, theirs, what",
    [
        ("mvit_v1_b", "mvit_v2_s", "--arch mvit --variant mvit_v2_s --pretrained mvit_v2_s_torch"),
        ("r2plus1d_r50", "mc3_18", "--arch videoresnet --variant mc3_18 --pretrained mc3_18_torc"),
        ("mvit_v1_b", "resnet18", ""),  # of no architecture that is looked at here
    ],
)
def test_a_file_of_other_public_weights_is_named(asked, theirs, what, monkeypatch):
    archs = {arch: ARCHS[arch] for arch in ("r2plus1d", "videoresnet", "mvit")}
    monkeypatch.setattr(whose, "ARCHS", archs)
    arch = "mvit" if asked.startswith("mvit") else "r2plus1d"
    (entry,) = (one for name, one in public_weights(arch).items() if name.startswith(asked))
    with torch.device("meta"):
        state = get_model(theirs, weights=None).state_dict()
        model = build_model(arch, 7, **entry.arch_args)
    said = whose.right_options(state, entry, model)
    assert said.startswith(f"it fits {what}") if what else not said


def test_options_that_make_another_network_of_right_weights_are_named():
    with torch.device("meta"):
        model, theirs = build_model("s3d", 7, gating=True), build_model("s3d", 7)
    entry = replace(public_weights("s3d")["s3d_kylemin"], convert=dict, arch_args={})
    entry = replace(entry, read=lambda _: theirs.state_dict())
    with pytest.raises(UserError, match="x.pth is not of the network .*: leave --gating to the w"):
        weights.load(model, entry, "x.pth")
