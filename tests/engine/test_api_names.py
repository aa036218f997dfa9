"""Every name of the TensorRT API that our code uses exists in every version that we support.

The objects are typed Any, so this reads the source: HOLDS says what each Any of ours is, the table
says what each attribute gives, and from there the class of every expression follows. Not seen: a
name that is computed, as in getattr(flags, name), and what comes out of zip, with or a dict.

    python tests/engine/test_api_names.py MODULE    # which names of the table MODULE lacks
"""

import ast
import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PACKAGE = Path(__file__).parents[2] / "segdeploy"
SOURCES = sorted(
    [PACKAGE / "nvinfer.py", *PACKAGE.glob("engine/*.py"), *PACKAGE.glob("runtime/tensorrt*.py")]
)
LIBRARY = ""  # the class of the module itself: "" + "Builder" is the name Builder
# What is annotated Any or ModuleType: a parameter, a .field or the result of a function().
HOLDS = {
    "library": LIBRARY,
    "builder": "Builder",
    "cache": "ITimingCache",
    "config": "IBuilderConfig",
    "context": "IExecutionContext",
    "definition": "INetworkDefinition",
    "engine": "ICudaEngine",
    "enumeration": "BuilderFlag",  # or another one: of each the members alone are read
    "inspector": "EngineInspector",
    "log": "ILogger",
    "monitor": "IProgressMonitor",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
    "runtime": "Runtime",
    "severity": "ILogger.Severity",
    "tensor": "ITensor",
    ".definition": "INetworkDefinition",
    ".log": "ILogger",
    ".parser": "OnnxParser",
    ".plan": "IHostMemory",
    "_lean_runtime()": "Runtime",
    "_load_engine()": "ICudaEngine",
    "_log()": "ILogger",
    "_member()": "BuilderFlag",
    "load_library()": LIBRARY,
    "configure()": "IBuilderConfig",
    "make_monitor()": "IProgressMonitor",
    "open_log()": "ILogger",
}
OURS = {"ILogger.apart", "ILogger.lines"}  # our subclasses add these
OTHERS = {"images", "result", "stream"}  # Any, but of the caller's libraries
# Names that a version lacks and that no hasattr beside them guards, each with the reason.
GUARDED_ELSEWHERE: dict[str, str] = {}

NOT_AN_OBJECT = re.compile(r"(NDArray|np\.dtype)\[Any\]|[dD]ict\[str, Any\]")
SAME_ELEMENTS = {"enumerate", "iter", "list", "next", "reversed", "set", "sorted", "tuple"}


class Table:
    """What tensorrt_names.toml says."""

    def __init__(self, path: Path) -> None:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        self.versions: list[str] = content["versions"]
        self.gives: dict[str, str] = {}  # the class of a name's value, or of its elements
        self.names: set[str] = set()
        for owner, attributes in content["names"].items():
            prefix = "" if owner == "library" else f"{owner}."
            if prefix:
                self.names.add(owner)
                self.gives[owner] = owner
            for attribute in attributes:
                name, _, given = attribute.partition(" -> ")
                self.names.add(prefix + name)
                if given or name.isupper():  # a member of an enumeration is one of its values
                    self.gives[prefix + name] = given or owner
        self._lacking = [(set(group["names"]), group["versions"]) for group in content["lacking"]]
        self.lacked = set().union(*(names for names, _ in self._lacking))

    def lacking(self, name: str) -> set[str]:
        """The versions that lack `name` or the class that it belongs to."""
        owners = {name[: match.start()] for match in re.finditer(r"\.|$", name)}
        return {v for names, versions in self._lacking if names & owners for v in versions}


TABLE = Table(Path(__file__).with_name("tensorrt_names.toml"))


@dataclass
class Reader:
    """The names that one module uses: `(line, name, whether a hasattr beside it guards it)`."""

    source: str
    uses: list[tuple[int, str, bool]] = field(default_factory=list)
    undeclared: set[str] = field(default_factory=set)
    _attributes: dict[str, str] = field(default_factory=dict)  # self.x, in all methods

    def __post_init__(self) -> None:
        scopes = list(_scopes(ast.parse(self.source)))
        local: list[dict[str, str]] = [{} for _ in scopes]
        for _ in range(4):  # a name may be read, in the order of the walk, before it is bound
            for scope, types in zip(scopes, local, strict=True):
                for node in ast.walk(scope):
                    self._bind(node, types)
        for scope, types in zip(scopes, local, strict=True):
            self._collect(scope, types)

    def _bind(self, node: ast.AST, types: dict[str, str]) -> None:
        match node:
            case ast.arg(arg=name, annotation=annotation) if _is_object(annotation):
                self._declare(name, name, types)
            case ast.FunctionDef(name=name, returns=annotation) if _is_object(annotation):
                self._declare(f"{name}()", f"{name}()", types)
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=None):
                if _is_object(annotation):
                    self._declare(f".{name}", f".{name}", types)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._assign(target, value, types)
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    self._assign(target, value, types)
            case ast.NamedExpr(target=target, value=value):
                self._assign(target, value, types)
            case ast.For(target=target, iter=value) | ast.comprehension(target=target, iter=value):
                self._assign(target, value, types)

    def _declare(self, key: str, name: str, types: dict[str, str]) -> None:
        if name in HOLDS:
            types[key] = HOLDS[name]
        elif name not in OTHERS:
            self.undeclared.add(name)

    def _assign(self, target: ast.expr, value: ast.expr, types: dict[str, str]) -> None:
        match target, value:
            case ast.Tuple(elts=targets), ast.Tuple(elts=values) if len(targets) == len(values):
                for one, its in zip(targets, values, strict=True):
                    self._assign(one, its, types)
            case ast.Tuple(elts=targets), _:
                for one in targets:
                    self._assign(one, value, types)
            case _, _ if (owner := self._class(value, types)) is not None:
                if isinstance(target, ast.Name):
                    types[target.id] = owner
                elif isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                    self._attributes[target.attr] = owner

    def _class(self, node: ast.expr, types: dict[str, str]) -> str | None:
        """The TensorRT class of an expression, or of its elements; None: it is none of those."""
        match node:
            case ast.Name(id=name):
                return types.get(name)
            case ast.Attribute(value=value, attr=attribute):
                owner = self._class(value, types)
                if owner is not None:
                    return TABLE.gives.get(_join(owner, attribute))
                if ast.unparse(value) == "self":
                    return self._attributes.get(attribute)
                return HOLDS.get(f".{attribute}")
            case ast.Call(func=ast.Name(id=name), args=[value, *_]) if name in SAME_ELEMENTS:
                return self._class(value, types)
            case ast.Call(func=ast.Name(id=name)) if f"{name}()" in HOLDS:
                return HOLDS[f"{name}()"]
            case ast.Call(func=value) | ast.Subscript(value=value) | ast.NamedExpr(value=value):
                return self._class(value, types)
            case ast.ListComp(elt=value) | ast.GeneratorExp(elt=value) | ast.SetComp(elt=value):
                return self._class(value, types)
            case ast.IfExp(body=first, orelse=second):
                owner = self._class(first, types)
                return self._class(second, types) if owner is None else owner
        return None

    def _collect(self, scope: ast.AST, types: dict[str, str]) -> None:
        uses: list[tuple[int, str]] = []
        guards: set[str] = set()
        for node in ast.walk(scope):
            match node:
                case ast.Attribute(value=value, attr=attribute):
                    owner = self._class(value, types)
                    if owner is not None and not attribute.startswith("__"):
                        uses.append((node.lineno, _join(owner, attribute)))
                case ast.ClassDef(bases=bases, body=body):  # what we override must be there
                    for owner in filter(None, (self._class(base, types) for base in bases)):
                        methods = (item for item in body if isinstance(item, ast.FunctionDef))
                        uses += [
                            (method.lineno, _join(owner, method.name))
                            for method in methods
                            if not method.name.startswith("_")
                        ]
                case ast.Call(
                    func=ast.Name(id=function),
                    args=[value, ast.Constant(value=str(attribute)), *default],
                ) if function == "hasattr" or (function == "getattr" and default):
                    owner = self._class(value, types)
                    if owner is not None:
                        guards.add(_join(owner, attribute))
        for line, name in uses:
            lacking = TABLE.lacking(name)
            guarded = any(lacking <= TABLE.lacking(guard) for guard in guards)
            self.uses.append((line, name, guarded))
        self.uses += [(getattr(scope, "lineno", 0), name, True) for name in guards]


def _scopes(tree: ast.Module) -> Iterator[ast.AST]:
    """Functions and methods, with what they nest; and the rest, a statement each."""
    for statement in tree.body:
        yield from statement.body if isinstance(statement, ast.ClassDef) else [statement]


def _join(owner: str, attribute: str) -> str:
    return f"{owner}.{attribute}" if owner else attribute


def _is_object(annotation: ast.expr | None) -> bool:
    text = NOT_AN_OBJECT.sub("", ast.unparse(annotation)) if annotation else ""
    return re.search(r"\b(Any|ModuleType)\b", text) is not None


def find(library: ModuleType, name: str) -> Any:
    """The value of a name of the table; None where the library lacks it."""
    value: Any = library
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


def missing(library: ModuleType) -> set[str]:
    return {name for name in TABLE.names if find(library, name) is None}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_name_is_in_the_table(source: Path) -> None:
    reader = Reader(source.read_text(encoding="utf-8"))

    assert not reader.undeclared, "say in HOLDS which class of TensorRT each of these is"
    unknown = [(line, name) for line, name, _ in reader.uses if name not in TABLE.names | OURS]
    assert not unknown, "add these to tensorrt_names.toml, with the versions that lack them"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_name_that_a_version_lacks_has_a_hasattr_beside_it(source: Path) -> None:
    reader = Reader(source.read_text(encoding="utf-8"))

    unguarded = {
        (line, name): sorted(TABLE.lacking(name))
        for line, name, guarded in reader.uses
        if TABLE.lacking(name) and not guarded and name not in GUARDED_ELSEWHERE
    }
    assert not unguarded


def test_names_are_found_through_locals_fields_loops_and_subclasses() -> None:
    source = """
class Session:
    def __init__(self, library: Any, log: Any) -> None:
        self._engine = library.Runtime(log).deserialize_cuda_engine(b"")
    def read(self, network: Network, unheard_of: Any) -> str:
        layers = [network.definition.get_layer(i) for i in range(2)]
        for index, layer in enumerate(layers):
            layer.get_output(index).dtype.no_such_1
        context, _ = self._engine.create_execution_context(), 0
        return context.no_such_2
def make(library: ModuleType) -> None:
    interface: Any = library.IProgressMonitor
    class Monitor(interface):
        def no_such_3(self) -> None: ...
    library.no_such_4
    """

    reader = Reader(source)

    assert {name for _, name, _ in reader.uses} - TABLE.names == {
        "DataType.no_such_1",
        "IExecutionContext.no_such_2",
        "IProgressMonitor.no_such_3",
        "no_such_4",
    }
    assert reader.undeclared == {"unheard_of"}


@pytest.mark.parametrize(
    ("guard", "guarded"),
    [
        pytest.param("hasattr(library, 'ComputeCapability')", True, id="missing-in-the-same"),
        pytest.param("hasattr(library, 'RuntimePlatform')", False, id="missing-in-fewer"),
        pytest.param("True", False, id="none"),
    ],
)
def test_a_guard_must_be_missing_wherever_the_name_is(guard: str, guarded: bool) -> None:
    source = f"def f(library: Any, config: Any):\n if {guard}: config.num_compute_capabilities = 1"

    reader = Reader(source)

    assert (2, "IBuilderConfig.num_compute_capabilities", guarded) in reader.uses


@pytest.mark.parametrize("module", ["tensorrt", "tensorrt_rtx"])
def test_the_table_tells_the_truth_of_the_installed_library(module: str) -> None:
    library = pytest.importorskip(module, exc_type=ImportError)
    flavour = "rtx-" if module == "tensorrt_rtx" else ""
    row = flavour + ".".join(library.__version__.split(".")[:3])

    lacked = missing(library)

    if row in TABLE.versions:
        assert lacked == {name for name in TABLE.names if row in TABLE.lacking(name)}
    else:  # a version without a row lacks nothing that we do not know how to do without
        assert lacked <= {name for name in TABLE.names if TABLE.lacking(name)}
    for name in TABLE.names - lacked:
        value = find(library, name)
        signature = getattr(value, "fget", value).__doc__ or ""  # pybind11 puts it there
        given = re.findall(r"-> (?:list\[)?(?:\w+\.|nvinfer1::)*(\w+)", signature)
        if not isinstance(value, type) and given and given[0] in TABLE.names:
            assert TABLE.gives.get(name) == given[0], name


def test_the_table_lists_what_is_lacking_among_its_names_and_versions() -> None:
    assert TABLE.lacked <= TABLE.names
    assert all(TABLE.lacking(name) < set(TABLE.versions) for name in TABLE.names)
    assert set(TABLE.gives.values()) <= TABLE.names


if __name__ == "__main__":
    print(*sorted(missing(importlib.import_module(sys.argv[1]))), sep="\n")
