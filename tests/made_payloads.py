"""Model files that somebody else has written: each would make a folder where it is read, or called."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
import warnings
import zipfile

import torch
from made_models import Net, exported, net


class Payload:
    """What makes a folder when it is unpickled."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def saved(content):
    """What torch.save writes."""
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def members(content):
    """Files of an archive by their name within its folder."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def archive(parts, root="model/"):
    """Make an archive."""
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as made:
        warnings.simplefilter("ignore", UserWarning)  # of two files of one name
        for name, content in parts.items() if isinstance(parts, dict) else parts:
            made.writestr(root + name, content)
    return stream.getvalue()


def state():
    """Parameters of the program in one file, which is not what ``state_dict()`` of a module gives."""
    return saved(dict(exported(net().eval()).state_dict))


def program(module=None):
    """Parts of an honest file of torch.export."""
    stream = io.BytesIO()
    torch.export.save(exported((net() if module is None else module).eval()), stream)
    return members(stream.getvalue())


def with_graph(change):
    """A file whose graph is changed."""

    def make(mark):
        parts = program()
        graph = json.loads(parts["models/model.json"])
        change(graph, str(mark))
        return archive(parts | {"models/model.json": json.dumps(graph).encode()})

    return make


def code(mark):
    """Python that makes the folder."""
    return f"__import__('os').mkdir({mark!r})"


def first_node(graph):
    """The first operator."""
    return graph["graph_module"]["graph"]["nodes"][0]


def sizes(graph, mark):
    """Put code into a symbolic size, which sympy evaluates."""
    for tensor in graph["graph_module"]["graph"]["tensor_values"].values():
        for size in tensor["sizes"]:
            if "as_expr" in size:
                size["as_expr"]["expr_str"] = code(mark)


def guards(graph, mark):
    """Put code into a guard, which is executed."""
    graph["guards_code"] = [f"{code(mark)} or True"]


def operator(name):
    """Let a node call something else."""

    def change(graph, mark):
        node = first_node(graph) | {"target": name, "outputs": [], "name": "extra"}
        node["inputs"] = [{"name": "", "arg": {"as_string": mark}, "kind": 1}]
        graph["graph_module"]["graph"]["nodes"].insert(0, node)

    return change


def callable_argument(graph, mark):
    """Give a node a function as its argument."""
    first_node(graph)["inputs"].append({"name": "f", "arg": {"as_operator": "torch.os.mkdir"}, "kind": 1})


def renamed(graph, mark):
    """Put code into the name of a node, which becomes a line of a function."""
    old = first_node(graph)["name"]
    new = json.dumps(f"{old} = {code(mark)}; {old}")
    text = json.dumps(graph).replace(json.dumps(old), new)
    graph.clear()
    graph.update(json.loads(text))


def parameter(graph, mark):
    """Put code into the name of a parameter, which becomes an attribute."""
    text = json.dumps(graph).replace("layers.0.weight", f'layers.0\\")+{code(mark)}+(\\"')
    graph.clear()
    graph.update(json.loads(text))


def argument(graph, mark):
    """Put code into the name of an argument of forward."""
    graph["graph_module"]["module_call_graph"][0]["signature"]["forward_arg_names"] = [f"x={code(mark)}"]


def structure(graph, mark):
    """Let the structure of the inputs import a module."""
    spec = {"type": None, "context": json.dumps({"__enum__": True, "fqn": "os:path", "name": "x"})}
    graph["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = json.dumps([1, spec])


def member(name, change=lambda mark: saved(Payload(mark))):
    """A file with a further or another member."""
    return lambda mark: archive(program() | {name: change(mark)})


def said_to_be_pickled(kind, prefix):
    """A file whose first tensor is said to be a pickle."""

    def make(mark):
        parts = program(Constant())
        config = f"data/{kind}/model_{kind}_config.json"
        described = json.loads(parts[config])
        entry = next(iter(described["config"].values()))
        name = f"{prefix}0"
        entry |= {"path_name": name, "use_pickle": True}
        content = pickle.dumps(Payload(mark)) if "opaque" in prefix else saved(Payload(mark))
        return archive(parts | {config: json.dumps(described).encode(), f"data/{kind}/{name}": content})

    return make


class Constant(Net):
    """A classifier that holds a tensor which is no parameter."""

    def __init__(self):
        super().__init__()
        self.shift = torch.tensor([0.1, 0.2, 0.3])

    def forward(self, x):
        """Give logits."""
        return super().forward(x + self.shift)


def old(spoilt):
    """A file as torch before 2.8 has written it."""

    def make(mark):
        parts = program()
        content = {
            "version": b"8.2",
            "serialized_exported_program.json": parts["models/model.json"],
            "serialized_state_dict.pt": state(),
            "serialized_constants.pt": saved({}),
            "serialized_example_inputs.pt": saved(((torch.ones(4, 3),), {})),
        }
        return archive(content | ({spoilt: saved(Payload(mark))} if spoilt else {}), root="")

    return make


def twice(mark):
    """A file with two members of one name, of which readers may take either."""
    parts = [*program().items(), ("DATA/weights/weight_0", saved(Payload(mark)))]
    return archive(parts)


REPLACED = {
    "example inputs": member("data/sample_inputs/model.pt"),
    "guards": with_graph(guards),
    "a file beside": member("extra/notes.pkl"),
    "example inputs of torch before 2.8": old("serialized_example_inputs.pt"),
}
"""Files that are read without what would run."""

REFUSED = {
    "weights": said_to_be_pickled("weights", "weight_"),
    "constants": said_to_be_pickled("constants", "tensor_"),
    "opaque constants": said_to_be_pickled("constants", "opaque_obj_"),
    "objects of TorchScript": said_to_be_pickled("constants", "custom_obj_"),
    "weights of torch 2.8": member("data/weights/model.pt"),
    "constants of torch 2.8": member("data/constants/model.pt"),
    "parameters of torch before 2.8": old("serialized_state_dict.pt"),
    "parameters of torch before 2.2": old("serialized_state_dict.json"),
    "constants of torch before 2.8": old("serialized_constants.pt"),
    "compiled code": member("data/aotinductor/model/m.so", lambda mark: b"\x7fELF"),
    "two of one name": twice,
    "sizes": with_graph(sizes),
    "a function of Python": with_graph(operator("torch.os.mkdir")),
    "a method of Python": with_graph(operator("_operator.methodcaller")),
    "an operator that writes": with_graph(operator("torch.ops.aten.save.default")),
    "an operator that reads": with_graph(operator("torch.ops.aten.from_file.default")),
    "an operator that loads": with_graph(operator("torch.ops.load_library.x.y")),
    "a function as argument": with_graph(callable_argument),
    "a name": with_graph(renamed),
    "a parameter": with_graph(parameter),
    "an argument": with_graph(argument),
    "structure": with_graph(structure),
}
"""Files that cannot do without what would run."""


class Writing(torch.nn.Module):
    """What TorchScript can do to files."""

    def __init__(self, mark):
        super().__init__()
        self.mark = str(mark)

    def forward(self, x):
        """Write a file."""
        torch.save(x, self.mark)
        return x.sum(1)


class Mapping(Writing):
    """The same with an operator that maps a file into memory, and makes it."""

    def forward(self, x):
        """Write a file."""
        return x.sum(1) + torch.from_file(self.mark, True, 4).sum()


def scripted(module):
    """TorchScript of a module."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(module.eval()).save_to_buffer()


def script_with(old_text, new_text):
    """TorchScript whose code is changed."""

    def make(mark):
        parts = members(scripted(Writing(mark)))
        changed = {
            name: part.replace(old_text, new_text) if name.endswith(".py") else part
            for name, part in parts.items()
        }
        assert changed != parts
        return archive(changed)

    return make


SCRIPTS = {
    "pickle": lambda mark: archive(members(scripted(net())) | {"data.pkl": pickle.dumps(Payload(mark))}),
    "constants": lambda mark: archive(
        members(scripted(net())) | {"constants.pkl": pickle.dumps(Payload(mark))}
    ),
    "save": lambda mark: scripted(Writing(mark)),
    "map": lambda mark: scripted(Mapping(mark)),
    "spaces": script_with(b"torch.save(", b"torch . save ("),
    "another name": script_with(b"torch.save(", b"ops.aten.save("),
    "by its name": script_with(b"torch.save(", b'getattr(torch, "\\163ave")('),
}
"""TorchScript that would write a file, or make the folder."""


def tar(mark):
    """An old container of torch with an archive at its end, which zipfile takes for an archive."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as made:
        for name in ("storages", "tensors", "pickle"):
            content = pickle.dumps(Payload(mark))
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return stream.getvalue() + saved({})


STATES = {
    "pickle": lambda mark: pickle.dumps(Payload(mark)),
    "archive": lambda mark: saved(Payload(mark)),
    "among tensors": lambda mark: saved({**net().state_dict(), "more": Payload(mark)}),
    "tar": tar,
    "TorchScript": lambda mark: scripted(Writing(mark)),
}
"""Files of parameters."""
