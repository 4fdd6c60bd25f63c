"""The profiles of providers: data files that say how a server differs from OpenAI's shape, each field with a mark and a date.

A profile says only where a server differs from OpenAI's reference (platform.openai.com/docs/api-reference/batch). Marks: ``S`` sure
(the vendor's own page or SDK), ``L`` likely (third parties, or one step of inference), ``U`` unknown: the value is a guess.
"""

from __future__ import annotations

import datetime as dt
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    create_model,
)

from batchkit.child_environment import OWN_KEY_VARIABLE
from batchkit.errors import ConfigurationError
from batchkit.files.jsonl import dumps
from batchkit.lifecycle import LineCodes
from batchkit.models import BatchStatus
from batchkit.preflight.rules import (
    CHAT,
    CUSTOM_ID_MAX_CHARS,
    EMBEDDINGS,
    RESPONSES,
    SPEECH,
    TRANSCRIPTIONS,
    TRANSLATIONS,
    LineRules,
)
from batchkit.provider.dialect import (
    ApiShape,
    AuthStyle,
    Dialect,
    Hints,
    KeySource,
    ListStyle,
    ModelFacts,
    Prices,
    Retention,
)
from batchkit.provider.openai import lines
from batchkit.sharding import ShardLimits, Windows

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

_REFERENCE_DATE: Final = dt.date(2026, 11, 29)
_DEFAULT_BYTES: Final = 100_000_000
_PACKAGE: Final = "batchkit.provider.openai"
_FOLDER: Final = "profiles"
_ENDING: Final = ".toml"
_HOURS_PER_DAY: Final = 24


def _ordered(hours: tuple[int, int]) -> tuple[int, int]:
    if hours[0] > hours[1]:
        raise ValueError("write the shortest window first, then the longest one, in hours")
    return hours


def _of_lines(urls: tuple[str, ...]) -> tuple[str, ...]:
    if not urls or not all(url.startswith("/") for url in urls):
        raise ValueError(f"write the urls of lines, such as {CHAT}")
    return urls


Hours = Annotated[tuple[PositiveInt, PositiveInt], AfterValidator(_ordered)]
Urls = Annotated[tuple[str, ...], AfterValidator(_of_lines)]


class ModelPrice(BaseModel):
    """USD per million tokens of prompts and of completions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: NonNegativeFloat
    completion: NonNegativeFloat


TokenPrices = dict[str, ModelPrice]


class Fact(BaseModel, Generic[T]):
    """A value with its mark and the date on which it was read."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    value: T = Field(alias="is")
    mark: Literal["S", "L", "U"]
    date: dt.date


def _reference(value: T) -> Fact[T]:
    """Return a fact of OpenAI's own reference, which a server is taken to share unless its profile says otherwise."""
    return Fact(value=value, mark="L", date=_REFERENCE_DATE)


class Profile(BaseModel):
    """One server.

    ``endpoints`` are those of batches, and the ordinary ones of ``sync_endpoints`` may be called as well. ``windows`` are hours, the shortest and the longest. ``metadata`` is what becomes of a batch's metadata: ``kept``, ``none``, or
    new names for the only pairs that are kept. ``token_prices`` are by model, and beat those of the catalogue ``prices``. ``ready``
    are the statuses of a file of which a batch may be created. Without ``one_model`` a file may have requests to several models.
    ``relayed`` are codes of lines that say only that the server behind this one refused, each with the words before that server's
    status in the message.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    page: str
    base_url: Fact[str] | None = None
    key_variable: str
    key_page: str | None = None
    auth: Fact[AuthStyle] = _reference(AuthStyle.BEARER)
    endpoints: Fact[Urls] = _reference((CHAT,))
    sync_endpoints: Fact[Urls] = _reference((CHAT, RESPONSES, EMBEDDINGS, SPEECH, TRANSCRIPTIONS, TRANSLATIONS))
    one_model: Fact[bool] = _reference(value=True)
    max_lines: Fact[PositiveInt] = _reference(50_000)
    max_bytes: Fact[PositiveInt] = _reference(200_000_000)
    max_line_bytes: Fact[PositiveInt] | None = None
    custom_id_chars: Fact[PositiveInt] | None = None
    windows: Fact[Hours] = _reference((24, 24))
    window_in_days: Fact[bool] | None = None
    purpose: Fact[str] = _reference("batch")
    ready: Fact[tuple[str, ...]] | None = None
    listing: Fact[ListStyle] = _reference(ListStyle.AFTER)
    page_size: Fact[PositiveInt] = _reference(100)
    ids_per_status_call: Fact[NonNegativeInt] | None = None
    files_per_lookup: Fact[NonNegativeInt] | None = None
    metadata: Fact[Literal["kept", "none"] | dict[str, str]] = _reference("kept")
    creation: Fact[dict[str, Any]] | None = None
    idempotency_field: Fact[str] | None = None
    statuses: Fact[dict[str, BatchStatus]] | None = None
    relayed: Fact[dict[str, str]] | None = None
    input_days: Fact[PositiveInt] | None = None
    output_days: Fact[PositiveInt] | None = None
    discount: Fact[float] | None = None
    free_request: Fact[tuple[str, str]] | None = None
    token_prices: Fact[TokenPrices] | None = None
    prices: str | None = None

    @property
    def dated(self) -> str:
        """When the profile was read, and how much of what it says is sure."""
        facts = [fact for name in self.model_fields_set if isinstance(fact := getattr(self, name), Fact)]
        if not facts:
            return "nothing is known of it: values of OpenAI's reference"
        newest = max(fact.date for fact in facts)
        sure = sum(fact.mark == "S" for fact in facts)
        return f"documentation of {newest:%Y-%m-%d}, {sure} of {len(facts)} values sure"


#: A user's profile may not say where the key comes from and where it goes: its file may have another author.
_NOT_OF_USERS: Final = frozenset({"base_url", "key_variable", "key_page", "title", "page", "prices"})


def _plain_fields() -> Iterator[tuple[str, Any]]:
    for name, field in Profile.model_fields.items():
        if name in _NOT_OF_USERS:
            continue
        annotation = field.annotation
        facts = [one for one in (annotation, *get_args(annotation)) if isinstance(one, type) and issubclass(one, Fact)]
        value = facts[0].model_fields["value"]
        kind: Any = Annotated[(value.annotation, *value.metadata)] if value.metadata else value.annotation
        yield name, (kind | None, None)


#: A profile of a user's own in short form: values without marks, and only those that differ.
PlainProfile: Final = create_model(
    "PlainProfile", __config__=ConfigDict(frozen=True, extra="forbid"), **dict(_plain_fields())
)
PLAIN_NAMES: Final = tuple(PlainProfile.model_fields)

#: OpenAI's reference at an address of the user's.
CUSTOM: Final = Profile(
    title="the custom provider", page="platform.openai.com/docs/guides/batch", key_variable=OWN_KEY_VARIABLE
)


def changed(profile: Profile, changes: BaseModel) -> Profile:
    """Return a profile with the values of a ``PlainProfile`` that are given."""
    given = {name: value for name, value in changes if value is not None}
    facts: dict[str, Any] = {name: Fact(value=value, mark="U", date=_REFERENCE_DATE) for name, value in given.items()}
    return profile.model_copy(update=facts)


def written(name: str, base_url: str, values: Mapping[str, object], *, note: str) -> str:
    """Return the text of a settings file with a profile in short form; a value that is None is left for the reader to fill in."""
    head = [f"# {note}", "[provider]", f"name = {_toml(name)}", f"base_url = {_toml(base_url)}", ""]
    lines = [
        f"{key} = {_toml(value)}" if None not in _parts(value) else f"# {key} = ...  # {_toml(value)}"
        for key, value in values.items()
    ]
    return "\n".join([*head, "[provider.profile]", *lines, ""])


def _parts(value: object) -> list[object]:
    return list(value.values()) if isinstance(value, Mapping) else [value]


def _toml(value: object) -> str:
    """Write a value; texts, numbers and lists of JSON are TOML as well."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_toml(key)} = {_toml(entry)}' for key, entry in value.items())} }}"
    return '"?"' if value is None else dumps(value).decode()


def names() -> tuple[str, ...]:
    """Return the names of the profiles that are part of this package."""
    files = resources.files(_PACKAGE).joinpath(_FOLDER).iterdir()
    found = sorted(file.name.removesuffix(_ENDING) for file in files if file.name.endswith(_ENDING))
    return tuple(sorted(found, key=lambda name: name != "openai"))


def profile_named(name: str) -> Profile:
    """Read a profile of this package."""
    return read_profile(_PACKAGE, _FOLDER, f"{name}{_ENDING}")


@cache  # a file of the package does not change
def read_profile(package: str, *path: str) -> Profile:
    """Read a profile that is a file of one of our packages."""
    file = resources.files(package).joinpath(*path)
    return parse(tomllib.loads(file.read_text("utf-8")), place="/".join(path))


def parse(values: dict[str, Any], *, place: str) -> Profile:
    """Check the values of a profile. Raises ``ConfigurationError`` with each problem, and ``place``."""
    try:
        return Profile.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors(include_url=False)
        )
        raise ConfigurationError(f"the profile {place} is wrong: {problems}") from None


def dialect_of(name: str, profile: Profile, shape: type[ApiShape] = ApiShape) -> Dialect:
    """Return a profile as a dialect, whose calls have OpenAI's shape or another one."""
    kept = profile.metadata.value
    shortest, longest = profile.windows.value
    in_days = profile.window_in_days is not None and profile.window_in_days.value
    days = range(1, longest // _HOURS_PER_DAY + 1) if in_days else ()
    return Dialect(
        name=name,
        title=profile.title,
        verified=profile.dated,
        base_url=_value(profile.base_url),
        key=KeySource(variables=(profile.key_variable,), page=profile.key_page, auth=profile.auth.value),
        rules=LineRules(
            page=profile.page,
            as_of=f"{profile.endpoints.date:%Y-%m}",
            endpoints=profile.endpoints.value,
            sync_endpoints=profile.sync_endpoints.value,
            check_body=lines.check_body,
            are_plain=lines.are_plain,
            plain_parameters=lines.PLAIN_PARAMETERS,
            has_one_model=profile.one_model.value,
            max_line_bytes=_value(profile.max_line_bytes),
            max_custom_id_chars=_value(profile.custom_id_chars) or CUSTOM_ID_MAX_CHARS,
        ),
        limits=ShardLimits(
            max_lines=profile.max_lines.value,
            max_bytes=profile.max_bytes.value,
            default_bytes=min(_DEFAULT_BYTES, profile.max_bytes.value),
            min_default_lines=min(1_000, profile.max_lines.value),
            polled_batches=profile.page_size.value,
        ),
        windows=Windows(
            shortest_hours=shortest,
            longest_hours=longest,
            spellings=tuple((day * _HOURS_PER_DAY, f"{day}d") for day in days),
        ),
        api=shape(
            purpose=profile.purpose.value,
            ready_statuses=frozenset(() if profile.ready is None else profile.ready.value),
            ids_per_status_call=_value(profile.ids_per_status_call) or 0,
            files_per_lookup=_value(profile.files_per_lookup) or 0,
            listing=profile.listing.value,
            page_size=profile.page_size.value,
            metadata_names=None if kept == "kept" else {} if isinstance(kept, str) else kept,
            creation={} if profile.creation is None else profile.creation.value,
            idempotency_field=_value(profile.idempotency_field),
        ),
        hints=_hints(profile),
        statuses={} if profile.statuses is None else profile.statuses.value,
        codes=LineCodes(relayed={} if profile.relayed is None else profile.relayed.value),
        models=ModelFacts(schema=None, strict_schema=None),
        prices=_prices(profile),
        retention=Retention(input_days=_value(profile.input_days), output_days=_value(profile.output_days)),
        free_request=_value(profile.free_request),
    )


def read(name: str) -> Dialect:
    """Return the dialect of a profile of this package."""
    return dialect_of(name, profile_named(name))


def _prices(profile: Profile) -> Prices:
    """Return the prices; those of the user's own are what a batch costs, unless a discount is given with them."""
    own = {model: (price.prompt, price.completion) for model, price in (_value(profile.token_prices) or {}).items()}
    discount = _value(profile.discount)
    return Prices(catalogue=profile.prices, own=own, discount=0.0 if own and discount is None else discount)


def _value(fact: Fact[T] | None) -> T | None:
    return None if fact is None else fact.value


def _hints(profile: Profile) -> Hints:
    where = f" ({profile.key_page})" if profile.key_page else ""
    address = f": the one of {profile.title} is {profile.base_url.value}" if profile.base_url else ""
    return Hints(
        address=f"check the base URL (BATCHKIT_BASE_URL){address}; and check that no proxy or login page answers in its place",
        account=f"{profile.title} refuses the account itself, whatever it sends: check its billing and its limits, then run the same"
        " command again",
        by_status={
            401: f"the key is missing, wrong or revoked: check {profile.key_variable}{where}",
            403: "this key may not do that: check its project and its permissions",
            404: "it is gone, it belongs to another key's organisation, or the base URL lacks its /v1",
            413: f"cut the file smaller: {profile.max_lines.value:,} lines and {profile.max_bytes.value:,} bytes at most",
        },
    )
