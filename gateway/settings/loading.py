"""Reads files and environment into ``Settings``, or says everything that is wrong with them.

pydantic judges one value at a time against its type; what lies between values (keys that belong together, files
that must exist, addresses taken twice) is judged here on the raw tree, so that one mistake never hides another.
What a file that cannot be read would have said is not guessed: no key is called absent that may stand there.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from gateway.settings.fields import FileRule, address, file_fault, is_open
from gateway.settings.models import OutboxSettings, PostgresSettings, Settings
from gateway.settings.section import Section
from security.errors import Broken

PREFIX: Final = "POTERNE_"
Keys = tuple[str, ...]

# The values that conf/poterne.toml shows where a site must write its own.
_PLACEHOLDER: Final = re.compile(r".*(\bexample\.org\b|à remplir).*|0{9}|2\.25\.[12]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake. ``file``: the file, or environment variable, to edit, "" when there is none; ``key``: dotted
    path, "" for the whole.
    """

    file: str
    key: str
    reason: str
    hint: str

    def __str__(self) -> str:
        said = ": ".join(part for part in (self.file, self.key, self.reason) if part)
        return f"{said} → {self.hint}" if self.hint else said


class ConfigurationError(Broken):
    """The configuration cannot be used. ``problems``: every mistake found, at least one."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(
            "\n".join(str(problem) for problem in self.problems),
            code="configuration",
            hint="correct every line above, then run: poterne check",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A usable configuration. ``warnings``: what is allowed and yet hardly meant, sorted by file and key."""

    settings: Settings
    warnings: tuple[Problem, ...]


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """The settings of ``path`` (None: no file), its ``conf.d/*.toml`` and the overrides in ``environ``.

    Raises:
        ConfigurationError: anything at all is wrong; it carries every problem, sorted by file and key.
    """
    return read(path, environ).settings


def read(path: Path | None, environ: Mapping[str, str]) -> Reading:
    """What ``load`` gives, with the warnings.

    Raises:
        ConfigurationError: as ``load``.
    """
    draft = _Draft(path)
    if path is not None:
        draft.add_files(path)
    draft.add_environment(environ)
    settings = draft.settings()
    return Reading(settings=settings, warnings=draft.warnings(settings))


def judge(model: type[Section], key: str, text: str) -> str:
    """Why ``text`` cannot be the value of ``key`` in ``model``, in one sentence; "" when it can."""
    annotation = get_type_hints(model, include_extras=True)[key]
    whole: Any = Annotated[annotation, model.model_fields[key]]
    try:
        TypeAdapter(whole).validate_python(_environment_value(annotation, text), strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)[0]
        context = details.get("ctx", {})
        if details["type"] == "rule":
            return f"{context['reason']} → {context['hint']}"
        return _REASONS.get(details["type"], details["msg"]).format_map(context)
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Origin:
    """Where a key was written: the name people know, and what a relative path there is relative to."""

    name: str
    folder: Path


class _Draft:
    """The configuration while it is read: one merged tree, the origin of every key, the problems so far."""

    def __init__(self, path: Path | None) -> None:
        self._tree: dict[str, Any] = {}
        self._origins: dict[Keys, _Origin] = {}
        self._problems: list[Problem] = []
        self._path_given = path is not None
        self._root = str(path) if path is not None else "environment"
        self._unread: set[Path] = set()

    def add_files(self, path: Path) -> None:
        """Merge the file and ``conf.d/*.toml`` beside it; without the file, what stands beside it says nothing."""
        self._add_file(path)
        if self._unread:
            return
        folder = path.parent / "conf.d"
        try:
            files = sorted(file for file in folder.iterdir() if file.suffix == ".toml")
        except FileNotFoundError:
            return
        except OSError as error:
            self._unreadable(folder, f"cannot be read: {error.strerror}", "check the folder and its rights")
            return
        for file in files:
            self._add_file(file)

    def _add_file(self, file: Path) -> None:
        try:
            table = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            self._unreadable(file, f"cannot be read: {error.strerror}", "check the path and its rights")
        except UnicodeDecodeError as error:
            self._unreadable(file, f"is not UTF-8 (byte {error.start})", "save the file as UTF-8")
        except tomllib.TOMLDecodeError as error:
            self._unreadable(file, f"is not TOML: {error}", "text stands in quotes, sections in [brackets]")
        else:
            self._merge(self._tree, table, (), _Origin(name=str(file), folder=file.parent.absolute()))

    def _unreadable(self, place: Path, reason: str, hint: str) -> None:
        self._unread.add(place)
        self._report((), reason, hint, str(place))

    def add_environment(self, environ: Mapping[str, str]) -> None:
        """Merge ``POTERNE_SECTION__KEY`` variables: case does not matter, ``_`` also stands for ``-`` in names."""
        # The kind of a PACS comes first: it decides which of the other keys are numbers.
        for name, text in sorted(environ.items(), key=lambda item: (not item[0].upper().endswith("__KIND"), item[0])):
            if not name.upper().startswith(PREFIX):
                continue
            parts = tuple(name[len(PREFIX) :].lower().split("__"))
            if len(parts) == 1:
                self._suspect(name, parts[0])
            elif not all(parts):
                self._report((), "is not a key", f"write {PREFIX}SECTION__KEY", name)
            else:
                keys = self._spelt(parts)
                value: Any = _environment_value(self._annotation(keys), text)
                for key in reversed(keys):
                    value = {key: value}
                self._merge(self._tree, value, (), _Origin(name=name, folder=Path.cwd()))

    def settings(self) -> Settings:
        """The finished settings.

        Raises:
            ConfigurationError: with every problem found since the first file.
        """
        if not self._path_given and not self._tree:
            self._report((), "no configuration: give --conf FILE", "", "")
        made = self._judged() if self._tree or not self._problems else None
        if self._problems or made is None:
            raise ConfigurationError(sorted(dict.fromkeys(self._problems), key=lambda p: (p.file, p.key)))
        return made

    def warnings(self, settings: Settings) -> tuple[Problem, ...]:
        """What ``settings`` allow and a site hardly means."""
        found: list[Problem] = []
        for name, tenant in settings.tenants.items():
            if not tenant.hl7.listen:
                silent = ("tenants", name, "hl7", "listen")
                found.append(self._problem(silent, "no report can arrive", "name the address the RIS sends to"))
        if settings.ops.console_key_file:
            retired = ("ops", "console_key_file")
            found.append(
                self._problem(
                    retired, "opens nothing any more", "take it out; make accounts: poterne accounts bootstrap"
                )
            )
        for keys, annotation, value in _walk(Settings, self._tree, ()):
            if _is_on_every_interface(_model(annotation, value), value):
                found.append(
                    self._problem(
                        (*keys, "interface"),
                        "is not set: hosts of every network of this machine reach the listener",
                        "name the interface of its zone, or load the rules of: poterne flows --rules",
                    )
                )
            if isinstance(value, str) and _PLACEHOLDER.fullmatch(value):
                found.append(self._problem(keys, "is still the example's value", "write the site's own"))
        return tuple(sorted(found, key=lambda p: (p.file, p.key)))

    def _judged(self) -> Settings | None:
        """The tree as settings, None when it is wrong; every mistake is reported."""
        made: Settings | None = None
        try:
            made = Settings.model_validate(self._with_paths(Settings, self._tree, ()))
        except ValidationError as error:
            for details in error.errors(include_url=False, include_input=False):
                self._explain(details)
        taken: dict[object, Keys] = {}
        for keys, annotation, value in _walk(Settings, self._tree, ()):
            model = _model(annotation, value)
            if model is not None and not self._unread:
                for key, reason, hint in _between(model, value):
                    self._report((*keys, *key.split(".")), reason, hint)
                self._check_patience(keys, model, value)
            self._check_file(keys, annotation, value)
            self._check_unshared(taken, keys, annotation, value)
            if model is PostgresSettings:
                self._check_own_database(taken, keys, value)
        if self._unread:
            return made
        if not self._tree.get("tenants") and "index_node" not in self._tree:
            self._report(("tenants",), "no legal entity is configured", "describe at least one in [tenants.<name>]")
        if self._tree.get("tenants") and "store" not in self._tree:
            self._report(("store",), _REASONS["missing"], Settings.model_fields["store"].description or "")
        return made

    def _merge(self, into: dict[str, Any], table: Mapping[str, Any], at: Keys, origin: _Origin) -> None:
        for key, value in table.items():
            here = (*at, key)
            if isinstance(value, Mapping):
                if not isinstance(into.get(key), dict):
                    into[key] = {}
                    self._origins[here] = origin
                self._merge(into[key], value, here, origin)
            else:
                into[key] = value
                self._origins[here] = origin

    def _report(self, keys: Keys, reason: str, hint: str, file: str | None = None) -> None:
        self._problems.append(self._problem(keys, reason, hint, file))

    def _problem(self, keys: Keys, reason: str, hint: str, file: str | None = None) -> Problem:
        known = keys
        while known and known not in self._origins:
            known = known[:-1]
        origin = self._origins[known].name if known else self._root
        return Problem(file=origin if file is None else file, key=".".join(keys), reason=reason, hint=hint)

    def _suspect(self, name: str, rest: str) -> None:
        """A variable without ``__`` is not ours, unless it starts like one of our sections."""
        section = next((s for s in Settings.model_fields if f"{rest}_".startswith(f"{s}_")), None)
        if section:
            meant = f"{PREFIX}{section}__{rest[len(section) + 1 :] or 'key'}".upper()
            self._report(
                (), "lacks the two underscores after its section, so it sets nothing", f"write {meant}", name
            )

    def _spelt(self, parts: Keys) -> Keys:
        """The names of tenants and PACS as the files spell them: a variable's name cannot hold ``-``."""
        spelt: list[str] = []
        for part in parts:
            table = self._value(tuple(spelt))
            known = table if isinstance(table, dict) else {}
            folded = part.replace("-", "_")
            spelt.append(next((key for key in known if key.replace("-", "_").lower() == folded), part))
        return tuple(spelt)

    def _value(self, keys: Keys) -> Any:
        value: Any = self._tree
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def _annotation(self, keys: Keys) -> Any:
        """The declared type of a key, None when no such key exists."""
        annotation: Any = Settings
        for depth, key in enumerate(keys):
            annotation = _child(annotation, self._value(keys[:depth]) or {}, key)
        return annotation

    def _path(self, keys: Keys, value: str) -> Path | None:
        """Absolute, from the file that names it; None for an empty text, which means not set."""
        return self._origins[keys].folder / value if value else None

    def _with_paths(self, annotation: Any, value: Any, at: Keys) -> Any:
        if isinstance(value, Mapping):
            return {k: self._with_paths(_child(annotation, value, k), v, (*at, k)) for k, v in value.items()}
        return self._path(at, value) if isinstance(value, str) and Path in _types(annotation) else value

    def _explain(self, details: ErrorDetails) -> None:
        """One error of pydantic in plain words."""
        keys = self._without_tags(details["loc"])
        entry = next((f"entry {part + 1} " for part in details["loc"] if isinstance(part, int)), "")
        kind, context = details["type"], details.get("ctx", {})
        if self._unread and kind in _ABSENT:
            return
        model = _model(self._annotation(keys[:-1]), self._value(keys[:-1]))
        if kind == "rule":
            reason, hint = context["reason"], context["hint"]
        elif kind == "extra_forbidden" and model is not None:
            reason, hint = "unknown key", _nearest(keys[-1], model)
        else:
            field = model.model_fields.get(keys[-1]) if model and keys else None
            reason = _REASONS.get(kind, details["msg"]).format_map(context)
            hint = (field.description or "") if field else ""
        if kind.startswith("union_tag"):
            keys, hint = (*keys, "kind"), "it says how this peer is asked"
        self._report(keys, entry + reason, hint)

    def _without_tags(self, loc: tuple[int | str, ...]) -> Keys:
        """An error's place without what is no key of the file: the kind of a PACS, the ``[key]`` of a bad name, the
        number of an entry in a list."""
        keys: Keys = ()
        for part in loc:
            if isinstance(part, int):
                continue
            kinds = {_kind(model) for model in _models(self._annotation(keys))}
            if part != "[key]" and part not in kinds - {""}:
                keys = (*keys, part)
        return keys

    def _check_file(self, keys: Keys, annotation: Any, value: Any) -> None:
        rule = _file_rule(annotation)
        path = self._path(keys, value) if rule and isinstance(value, str) else None
        fault = file_fault(rule, path) if rule and path else None
        if fault:
            self._report(keys, str(fault.args[0]), fault.hint)

    def _check_unshared(self, taken: dict[object, Keys], keys: Keys, annotation: Any, value: Any) -> None:
        """One listener per address (T63), one writer per database and folder. Port 0, a free one, never collides."""
        if not isinstance(value, str) or not value:
            return
        thing: object = None
        if keys[-1] == "listen":
            try:
                place = address(value)
            except ValueError:
                return  # reported by its type
            thing = place if place[1] else None
        elif _file_rule(annotation) in {FileRule.DATABASE, FileRule.FOLDER, FileRule.WITNESS}:
            thing = self._path(keys, value)
        if thing is not None and taken.setdefault(thing, keys) != keys:
            self._report(keys, f"is taken by {'.'.join(taken[thing])}", "give each its own")

    def _check_own_database(self, taken: dict[object, Keys], keys: Keys, table: Mapping[str, Any]) -> None:
        """One writer per database, also on a server."""
        port = _set_or_default(PostgresSettings, table, "port")
        server = (table.get("host"), port, table.get("database"))
        if taken.setdefault(server, keys) != keys:
            self._report((*keys, "database"), f"is taken by {'.'.join(taken[server])}", "give each its own")

    def _check_patience(self, keys: Keys, model: type[Section], table: Any) -> None:
        """A call ends by its own deadline, not by the engine cutting it off."""
        call = _set_or_default(OutboxSettings, self._value(("outbox",)) or {}, "lease_s")
        longest = _set_or_default(model, table, model.deadline) if model.deadline else None
        if _is_number(longest) and _is_number(call) and longest >= call:
            reason = f"{model.deadline} ({longest:g}) is not below outbox.lease_s ({call:g})"
            self._report((*keys, model.deadline), reason, "raise outbox.lease_s")


_REASONS: Final = {
    "missing": "this key is required and absent",
    "string_type": "must be text in quotes",
    "path_type": "must be a path in quotes",
    "is_instance_of": "must be a path in quotes",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "list_type": "must be a list in brackets",
    "string_pattern_mismatch": "has not the form it must have",
    "literal_error": "must be one of {expected}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "model_type": "must be a section, not a single value",
    "dict_type": "must be a section, not a single value",
    "too_short": "must hold at least one entry",
    "too_long": "must hold at most {max_length} entries",
    "union_tag_not_found": "this key is required and absent",
    "union_tag_invalid": "must be one of {expected_tags}",
}

_ABSENT: Final = frozenset({"missing", "too_short", "union_tag_not_found"})


def _types(annotation: Any) -> tuple[Any, ...]:
    """The types an annotation allows, without markers and None."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _types(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return tuple(t for part in get_args(annotation) for t in _types(part))
    return () if annotation in (None, NoneType) else (annotation,)


def _file_rule(annotation: Any) -> FileRule | None:
    if isinstance(annotation, FileRule):
        return annotation
    parts = get_args(annotation) if get_origin(annotation) in (Annotated, Union, UnionType) else ()
    return next((rule for part in parts if (rule := _file_rule(part))), None)


def _models(annotation: Any) -> list[type[Section]]:
    return [t for t in _types(annotation) if isinstance(t, type) and issubclass(t, Section)]


def _kind(model: type[Section]) -> str:
    """The value of the key ``kind`` that selects this model, "" when it has none."""
    field = model.model_fields.get("kind")
    return str(get_args(field.annotation)[0]) if field else ""


def _usual(model: type[Section]) -> str | None:
    """The kind that a table without ``kind`` is of, None where it must be stated."""
    field = model.model_fields.get("kind")
    return None if field is None or field.is_required() else str(field.default)


def _model(annotation: Any, value: Any) -> type[Section] | None:
    """The model of a table, None when the value is no table or names no known kind."""
    if not isinstance(value, Mapping):
        return None
    models = _models(annotation)
    return next((m for m in models if len(models) == 1 or _kind(m) == value.get("kind", _usual(m))), None)


def _child(annotation: Any, value: Any, key: str) -> Any:
    """The declared type of ``key`` in a table, None when it is unknown."""
    model = _model(annotation, value)
    if model is not None:
        return get_type_hints(model, include_extras=True)[key] if key in model.model_fields else None
    return next((get_args(t)[1] for t in _types(annotation) if get_origin(t) is dict), None)


def _walk(annotation: Any, value: Any, at: Keys) -> Iterator[tuple[Keys, Any, Any]]:
    """Every table and every value of the tree with its keys and declared type."""
    yield at, annotation, value
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _walk(_child(annotation, value, key), inner, (*at, key))


def _set_or_default(model: type[Section], table: Any, key: str) -> Any:
    return table.get(key, model.model_fields[key].default) if isinstance(table, Mapping) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _between(model: type[Section], table: Any) -> Iterator[tuple[str, str, str]]:
    """Key, reason and hint of each broken rule between the keys of one table."""
    for group in model.together:
        absent = [key for key in group if table.get(key, "") == ""]
        for key in absent if len(absent) < len(group) else ():
            yield key, "is absent though a key that needs it is set", "set all or none of " + ", ".join(group)
    for group in model.one_of:
        given = [key for key in group if table.get(key, "") != ""]
        if not given:
            yield group[0], "is required and absent", "set one of " + ", ".join(group)
        for key in given[1:]:
            yield key, f"is set beside {given[0]}", "set exactly one of " + ", ".join(group)
    for low, high in model.rising:
        first, last = (_set_or_default(model, table, key) for key in (low, high))
        if _is_number(first) and _is_number(last) and first > last:
            key = low if low in table else high
            yield key, f"{low} ({first:g}) is above {high} ({last:g})", f"make {high} at least {low}"
    yield from model.between(table)


def _is_on_every_interface(model: type[Section] | None, table: Any) -> bool:
    """Whether ``table`` is a listener that others reach, whichever interface they come from (T63)."""
    if model is None or "interface" not in model.model_fields:
        return False
    return is_open(table.get("listen")) and not table.get("interface")


def _nearest(key: str, model: type[Section]) -> str:
    near = difflib.get_close_matches(key.lower(), model.model_fields, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else "known keys: " + ", ".join(model.model_fields)


def _environment_value(annotation: Any, text: str) -> Any:
    """The value a variable states: as it stands for text and paths, else in the syntax of JSON or TOML."""
    plain = annotation is None or any(t in (str, Path) or get_origin(t) is Literal for t in _types(annotation))
    if plain and not text.startswith('"'):
        return text
    for read in (json.loads, lambda raw: tomllib.loads(f"value = {raw}")["value"]):
        try:
            return read(text)
        except ValueError:
            continue
    return text
