"""Loading is exact, and nothing that is not the right file gets into a network."""

import functools
import hashlib
import http.server
import pickle
import threading
from dataclasses import replace

import pytest
import torch

from config import UserError
from models import build_model, weights
from models.weights import fetch, load_exactly, public_weights, read_state
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
        (lambda s: s.pop("Mixed_4c.b1b.bn.weight"), "1 tensors are missing"),
        (lambda s: s.pop("logits.conv3d.bias"), "1 tensors are missing"),
        (lambda s: s.update(extra=torch.zeros(1)), "1 are left over"),
        (lambda s: s.update({"Mixed_3b.b0.bn.bias": torch.zeros(3)}), "has the shape"),
    ],
)
def test_any_other_difference_is_an_error(tmp_path, change, message):
    theirs, _ = public_i3d()
    change(theirs)
    with pytest.raises(UserError, match=message):
        build_model("i3d", 4, weights="i3d_rgb_piergiaj", weights_file=save(tmp_path, theirs))


def test_a_checkpoint_of_another_network_lists_both_sides(tmp_path):
    other = torch.nn.Linear(3, 3).state_dict()
    with pytest.raises(UserError, match=r"missing \(features.*left over \("):
        build_model("i3d", 4, weights="i3d_rgb_piergiaj", weights_file=save(tmp_path, other))


class Danger:
    def __reduce__(self):
        return (open, ("i_was_here", "w"))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", ["html", "code", "list", "nothing", "missing"])
def test_a_file_that_is_no_state_dict_is_one_clear_error(tmp_path, content, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "file.pt"
    if content == "html":
        path.write_text("<html>404</html>")
    elif content == "code":
        path.write_bytes(pickle.dumps({"a": Danger()}))
    elif content == "list":
        torch.save([1, 2], path)
    elif content == "nothing":
        path.write_bytes(b"")
    with pytest.raises(UserError) as error:
        read_state(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "i_was_here").exists()


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

        def do_GET(self):  # cut.pt comes in two parts
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


def test_a_download_that_ends_early_goes_on_where_it_ended(tmp_path, server, folder):
    (tmp_path / "web" / "cut.pt").write_bytes(b"half of the weights")
    entry = entry_for(f"{server}/cut.pt", b"half of the weights")
    with pytest.raises(UserError, match="ended early|cannot download"):
        fetch(entry)
    assert [file.suffix for file in folder.iterdir()] == [".part"]  # never under the final name
    assert fetch(entry).read_bytes() == b"half of the weights"
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("url", ["{}/none.pt", "http://127.0.0.1:9/w.pt"])
def test_without_the_file_the_error_says_where_to_put_it(server, folder, url):
    with pytest.raises(UserError) as error:
        fetch(entry_for(url.format(server)))
    assert "cannot download" in str(error.value)
    assert str(folder) in str(error.value)
    assert list(folder.iterdir()) == []
