"""Values to JSON and back, by the annotations of a function.

msgspec carries dataclass, Struct, datetime, UUID, Decimal, Enum, bytes, sets and tuples; a hook adds
paths.  What is not annotated comes back as plain JSON.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import msgspec

from taskqd.errors import BadArguments, DecodeError, EncodeError
from taskqd.jobs import key_templates as templates
from taskqd.jobs.annotations import hints_of

_INDEX = re.compile(r"`\$\[(\d+)\]")
"""How msgspec names a positional argument."""
_AT_ONCE_MAX = 32
"""So many positional arguments are decoded by one decoder, made once."""
_INJECTED = ("task", "job")
"""Parameter names that `context=True` fills in: Huey's spelling, and ours."""


def _enc_hook(value: Any) -> Any:
    if isinstance(value, PurePath):
        return str(value)
    raise EncodeError(
        f"cannot encode {type(value).__module__}.{type(value).__qualname__}; expected JSON types,"
        " dataclass, msgspec Struct, datetime, UUID, Decimal, Enum, Path or bytes"
    )


def _dec_hook(kind: type, value: Any) -> Any:
    if kind is object:
        return value
    if issubclass(kind, PurePath):
        return Path(value) if kind is PurePath else kind(value)
    raise DecodeError(f"cannot decode into {kind!r}")


encode_value = msgspec.json.Encoder(enc_hook=_enc_hook).encode


def encode_checked(value: Any, what: str) -> bytes:
    """Encode, with an EncodeError that says what it was."""
    try:
        return encode_value(value)
    except EncodeError as error:
        raise EncodeError(f"{what}: {error}") from None
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise EncodeError(f"{what}: {type(error).__name__}: {error}") from None


def make_decoder(kind: Any) -> Callable[[bytes], Any]:
    """Return a function from JSON to `kind`; kinds that msgspec cannot check come back as JSON."""
    try:
        return msgspec.json.Decoder(kind, dec_hook=_dec_hook).decode
    except TypeError:
        return msgspec.json.Decoder().decode


class CallCodec:
    """Encodes and decodes the arguments and results of one function."""

    def __init__(self, function: Callable[..., Any], label: str, *, context: bool = False) -> None:
        self._function = function
        self._label = label
        self.injected = self._find_injected(function) if context else None
        self._signature = self._public_signature(function)
        self._read_shape()
        self._hints: dict[str, Any] | None = None
        self._is_typed: bool | None = None
        self._positional: dict[int, Callable[[bytes], Any] | None] = {}
        self._keywords: Callable[[bytes], Any] | None = None
        self._result: Callable[[bytes], Any] | None = None

    @staticmethod
    def _find_injected(function: Callable[..., Any]) -> str | None:
        names = inspect.signature(function).parameters
        return next((name for name in _INJECTED if name in names), None)

    def _public_signature(self, function: Callable[..., Any]) -> inspect.Signature:
        signature = inspect.signature(function)
        if self.injected is None:
            return signature
        kept = [p for p in signature.parameters.values() if p.name != self.injected]
        return signature.replace(parameters=kept)

    def _read_shape(self) -> None:
        """Learn which plain positional calls are right without binding them."""
        parameters = list(self._signature.parameters.values())
        positional = [
            p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        required_keywords = any(
            p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters
        )
        self._args_min = sum(p.default is p.empty for p in positional)
        self._args_max = len(positional) if not required_keywords else -1

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(self._signature.parameters)

    # -- calls -------------------------------------------------------------------------------

    def encode_call(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[bytes | None, bytes | None]:
        """Return (positional, keyword) arguments as JSON, None where empty.

        Raises BadArguments where they do not fit the signature or the annotations, EncodeError
        where a value has no JSON form.
        """
        if kwargs or not self._args_min <= len(args) <= self._args_max:
            self.check(args, kwargs)
        positional = encode_checked(args, f"{self._label}: arguments") if args else None
        keyword = encode_checked(kwargs, f"{self._label}: arguments") if kwargs else None
        if self._typed():
            try:
                self.decode_call(positional, keyword)
            except DecodeError as error:
                raise BadArguments(str(error)) from None
        return positional, keyword

    def encode_partial(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[bytes | None, bytes | None]:
        """`encode_call` for a call that gets more arguments later; names are checked."""
        self.check(args, kwargs, partial=True)
        positional = encode_checked(args, f"{self._label}: arguments") if args else None
        keyword = encode_checked(kwargs, f"{self._label}: arguments") if kwargs else None
        return positional, keyword

    def check(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], *, partial: bool = False
    ) -> None:
        """Raise BadArguments where the call does not fit the signature.

        `partial`: it gets more arguments later.
        """
        bind = self._signature.bind_partial if partial else self._signature.bind
        try:
            bind(*args, **kwargs)
        except TypeError as error:
            raise BadArguments(
                f"{self._label}{self._signature}: {error}; nothing was enqueued"
            ) from None

    def decode_call(
        self, positional: bytes | None, keyword: bytes | None
    ) -> tuple[list[Any] | tuple[Any, ...], dict[str, Any]]:
        """Raises DecodeError where the JSON does not fit the annotations."""
        try:
            args = self._decode_positional(positional) if positional else ()
            kwargs = self._keyword_decoder()(keyword) if keyword else {}
        except Exception as error:  # annotations run a user's code (`__post_init__`)
            text = _INDEX.sub(self._name_of_index, str(error))
            raise DecodeError(f"{self._label}{self._signature}: {text}") from None
        return args, kwargs

    def _name_of_index(self, found: re.Match[str]) -> str:
        names = [p.name for p in self._signature.parameters.values() if p.kind <= p.VAR_POSITIONAL]
        return "`" + names[min(int(found[1]), len(names) - 1)]

    def fill(self, template: str, args: Any, kwargs: dict[str, Any]) -> str:
        """Return `template` with the arguments of a call in it: "user:{user_id}".

        Raises ConfigError for a name that is no parameter.
        """
        if "{" not in template:
            return template
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return templates.fill(self._label, template, bound.arguments)

    def fits(self, args: list[Any] | tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        """Return why decoded arguments cannot be passed (the function has changed), None if they can."""
        if not kwargs and self._args_min <= len(args) <= self._args_max:
            return None
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            return f"{self._label}{self._signature}: {error}"
        return None

    def _decode_positional(self, data: bytes) -> Any:
        if not self._typed():
            return _plain(data)
        raws = _plain_raw(data)
        count = len(raws)
        if count > _AT_ONCE_MAX:
            return self._decode_many(raws)
        decode = self._positional.get(count)
        if decode is None:
            decode = make_decoder(_tuple_of(self._types_of(count)))
            self._positional[count] = decode
        return decode(data)

    def _decode_many(self, raws: list[msgspec.Raw]) -> list[Any]:
        """Decode one by one: a decoder for each number of arguments would cost what callers like."""
        named = self._types_of(_AT_ONCE_MAX)
        rest = next(
            (p for p in self._signature.parameters.values() if p.kind is p.VAR_POSITIONAL), None
        )
        decode = make_decoder(Any if rest is None else self._all_hints().get(rest.name, Any))
        first = [make_decoder(kind)(bytes(raw)) for kind, raw in zip(named, raws, strict=False)]
        return first + [decode(bytes(raw)) for raw in raws[_AT_ONCE_MAX:]]

    def _typed(self) -> bool:
        """Return whether any parameter's values are checked against an annotation."""
        if self._is_typed is None:
            hints = self._all_hints().items()
            self._is_typed = any(kind is not Any for name, kind in hints if name != "return")
        return self._is_typed

    def _types_of(self, count: int) -> list[Any]:
        hints = self._all_hints()
        kinds: list[Any] = []
        for p in self._signature.parameters.values():
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
                kinds.append(hints.get(p.name, Any))
            elif p.kind is p.VAR_POSITIONAL:
                kinds += [hints.get(p.name, Any)] * max(0, count - len(kinds))
        kinds += [Any] * max(0, count - len(kinds))
        return kinds[:count]

    def _keyword_decoder(self) -> Callable[[bytes], Any]:
        if self._keywords is None:
            hints = self._all_hints()
            names = [
                p.name
                for p in self._signature.parameters.values()
                if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
            ]
            fields = {name: hints.get(name, Any) for name in names}
            self._keywords = _keywords_decoder(fields)
        return self._keywords

    # -- results -----------------------------------------------------------------------------

    def decode_result(self, data: bytes) -> Any:
        """Decode a result by the return annotation.  Raises DecodeError."""
        if self._result is None:
            kind = self._all_hints().get("return", Any)
            self._result = make_decoder(None if kind is type(None) else kind)
        try:
            return self._result(data)
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
            raise DecodeError(f"{self._label}: result: {error}") from None

    def _all_hints(self) -> dict[str, Any]:
        if self._hints is None:
            self._hints = hints_of(self._function)
        return self._hints


def _tuple_of(kinds: list[Any]) -> Any:
    return tuple.__class_getitem__(tuple(kinds)) if kinds else list


def _keywords_decoder(fields: dict[str, Any]) -> Callable[[bytes], Any]:
    """Decode keyword arguments; unknown names are kept, so that `fits` can name them."""
    decoders = {name: make_decoder(kind) for name, kind in fields.items() if kind is not Any}
    if not decoders:
        return _plain

    def decode(data: bytes) -> dict[str, Any]:
        raw: dict[str, msgspec.Raw] = _raw_object(data)
        return {
            name: _decode_named(name, decoders.get(name, _plain), bytes(value))
            for name, value in raw.items()
        }

    return decode


def _decode_named(name: str, decode: Callable[[bytes], Any], data: bytes) -> Any:
    try:
        return decode(data)
    except Exception as error:  # annotations run a user's code (`__post_init__`)
        text = str(error)
        where = text.replace("`$", f"`{name}", 1) if "`$" in text else f"{text} - at `{name}`"
        raise DecodeError(where) from None


decode_plain = _plain = msgspec.json.Decoder().decode
_plain_raw = msgspec.json.Decoder(list[msgspec.Raw]).decode
_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
