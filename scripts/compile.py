"""Copy the repository and compile to C in the copy what a backtest decides with: the same decisions, sooner.

`make compiled`; needs a C compiler. The copy is an import path of its own, so nothing else changes:
`PYTHONPATH=.hcp/compiled .venv/bin/hcp backtest`. It is meant for backtests: agents have not been tried on it.

Mypyc compiles the sources as they are but for three things. A frozen dataclass writes each field through
`object.__setattr__`, compiled or not; in the copy it gets an `__init__` that does what the generated one does, which
compiles to plain stores. A compiled class forgets the types of its fields: the copy says them again. And two modules
stay as they are: the C of one does not compile, a generic dataclass with slots in the other is not supported. What a
backtest does not import stays as it is, too.
"""

import ast
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPY = ROOT / ".hcp" / "compiled"
COMPILED = ("hcp.model", "streams")
AS_THEY_ARE = frozenset({"hcp/model/types.py", "hcp/model/steps.py"})
NEEDED = (
    "import sys, backtest.engine; print(*[m.__file__ for m in sys.modules.values() if getattr(m, '__file__', None)])"
)
SETUP = """
import sys
from mypyc.build import mypycify
from setuptools import setup

flags = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
setup(name="hcp-compiled", packages=[], py_modules=[], ext_modules=mypycify([*flags, *sys.argv[3:]]),
      script_args=sys.argv[1:3])
"""


def main() -> int:
    """Make the copy anew and compile in it; return the compiler's exit status."""
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        sys.stderr.write("compile: a C compiler must be on PATH (cc or gcc), was none: apt install gcc\n")
        return 2
    if find_spec("setuptools") is None:
        sys.stderr.write("compile: setuptools must be installed in .venv, was not: .venv/bin/pip install setuptools\n")
        return 2
    shutil.rmtree(COPY, ignore_errors=True)
    for name in tracked():
        if (ROOT / name).is_file():  # one that was deleted and not yet committed is listed too
            (COPY / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, COPY / name)
    sources = deciding()
    for name in sources:
        source = COPY / name
        source.write_text(with_plain_init(source.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"compiling {len(sources)} modules into {COPY.relative_to(ROOT)}, half a minute or more\n")
    sys.stdout.flush()
    aside = (COPY / "pyproject.toml").rename(COPY / "pyproject.aside")  # it says that another tool builds
    built = subprocess.run(
        [sys.executable, "-c", SETUP, "build_ext", "--inplace", *sources],
        cwd=COPY,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    aside.rename(COPY / "pyproject.toml")
    if built.returncode:
        sys.stderr.write(built.stdout)
    return built.returncode


def tracked() -> list[str]:
    """Return the files of the repository, those not yet committed too; none that git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return sorted({name for name in listed.stdout.split("\0") if name})


def deciding() -> list[str]:
    """Return the files to compile, from the root: what a backtest imports of the packages that decide."""
    listed = subprocess.run([sys.executable, "-c", NEEDED], cwd=COPY, check=True, capture_output=True, text=True)
    paths = [Path(name) for name in listed.stdout.split()]
    names = {path.relative_to(COPY).as_posix() for path in paths if path.is_relative_to(COPY)}
    folders = tuple(package.replace(".", "/") + "/" for package in COMPILED)
    return sorted(name for name in names - AS_THEY_ARE if name.startswith(folders))


def with_plain_init(source: str) -> str:
    """Return a module whose frozen dataclasses with keywords only write their fields plainly.

    A class that inherits, makes a default anew for each object or has an `__init__` or `__post_init__` stays as it is.
    """
    lines = source.splitlines()
    found = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    for node in sorted(found, key=lambda node: -node.lineno):
        decorator, fields = _frozen(node), _fields(node)
        if decorator is None or not fields or not _is_plain(node):
            continue
        arguments = ", ".join(_argument(field) for field in fields)
        init = ["", f"    def __init__(self, *, {arguments}) -> None:"]
        init += [f"        self.{_name(field)} = {_name(field)}  # type: ignore[misc]" for field in fields]
        last = _end_of(node, fields[-1])
        lines[last:last] = init
        at = decorator.lineno - 1
        lines[at] = lines[at].replace("frozen=True", "frozen=True, init=False")
    told = (f"setattr({node.name}, '__annotations__', {_types(node)!r})" for node in reversed(found) if _fields(node))
    return "\n".join([*lines, *told]) + "\n"


def _types(node: ast.ClassDef) -> dict[str, str]:
    """Return the types of a class's fields in words, which whoever asks for them reads as types."""
    return {_name(field): _said(field.annotation) for field in _fields(node)}


def _said(annotation: ast.expr) -> str:
    is_quoted = isinstance(annotation, ast.Constant) and isinstance(annotation.value, str)
    return str(annotation.value) if is_quoted and isinstance(annotation, ast.Constant) else ast.unparse(annotation)


def _frozen(node: ast.ClassDef) -> ast.Call | None:
    for each in node.decorator_list:
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id == "dataclass":
            said = {word.arg for word in each.keywords if ast.unparse(word.value) == "True"}
            return each if {"frozen", "kw_only"} <= said else None
    return None


def _is_plain(node: ast.ClassDef) -> bool:
    defined = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
    makes_anew = any(isinstance(field.value, ast.Call) for field in _fields(node))
    return not node.bases and not makes_anew and not defined & {"__init__", "__post_init__"}


def _fields(node: ast.ClassDef) -> list[ast.AnnAssign]:
    fields = [each for each in node.body if isinstance(each, ast.AnnAssign)]
    return [each for each in fields if "ClassVar" not in ast.unparse(each.annotation)]


def _name(field: ast.AnnAssign) -> str:
    return ast.unparse(field.target)


def _argument(field: ast.AnnAssign) -> str:
    annotation = field.annotation
    if (
        isinstance(annotation, ast.Subscript)
        and ast.unparse(annotation.value) == "Annotated"
        and isinstance(annotation.slice, ast.Tuple)
    ):
        annotation = annotation.slice.elts[0]
    default = "" if field.value is None else f" = {ast.unparse(field.value)}"
    return f"{_name(field)}: {_said(annotation)!r}{default}"


def _end_of(node: ast.ClassDef, field: ast.AnnAssign) -> int:
    """Return the last line of a field, the string that documents it included."""
    after = node.body[node.body.index(field) + 1 :][:1]
    documented = after and isinstance(after[0], ast.Expr) and isinstance(after[0].value, ast.Constant)
    end = (after[0] if documented else field).end_lineno
    assert end is not None
    return end


if __name__ == "__main__":
    sys.exit(main())
