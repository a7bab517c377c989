"""Signal reading: the signals of a source's objects, checked. The one place that tells whose fault a failed read is.

What the object itself says (SignalError) goes into quarantine. A fault of the machine never does: it ends the run.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor

from inr_factory.errors import FactoryError, MissingExtraError, ResourceError, UsageError, machine_fault, one_line
from inr_factory.generation.augmentation import Drawn
from inr_factory.generation.execution.source_check import check_signal, check_stack, fact_kinds, is_given
from inr_factory.generation.fitting.tally import OnProgress, Tally
from inr_factory.generation.signals import Item, Signal, SignalError, Source
from inr_factory.generation.sources.changed_views import changed_signal
from inr_factory.storage.manifest import Quarantined, ViewKey

MAX_REASON = 2_000  # characters


@dataclass(frozen=True)
class ReadSignals:
    """The objects of a shard that have a signal, their keys and signals, and why others have none."""

    items: Sequence[Item]
    keys: Sequence[ViewKey]
    signals: Sequence[Signal]
    failed: Sequence[Quarantined] = ()


def read_signals(
    source: Source,
    indices: Sequence[int],
    view: int,
    on_progress: OnProgress | None = None,
    facts: Mapping[str, str] | None = None,
    change: Callable[[str], Drawn] = lambda _: {},
) -> ReadSignals:
    """The signals of some items for a view: as one stack where the source has it, else one by one.

    Args:
        source: where they come from.
        indices: rows of `source.items`.
        view: which view.
        on_progress: called before each object with an empty tally: it may raise, to end the reading.
        facts: the `expected_facts` of the source; None takes those of the first object.
        change: the numbers by which the signal of an object, given by name, is changed.

    Raises:
        UsageError: the source gives something that no shard can hold; the message names the object.
        ResourceError: the machine cannot read an object: memory, disk, limits, rights or network.
    """
    items = [source.items[index] for index in indices]
    changes = [change(item.object_id) for item in items]
    stack = None
    if hasattr(source, "signal_stack") and not any(changes):
        with contextlib.suppress(SignalError), _blaming(source, f"objects {items[0].object_id} and following"):
            stack = source.signal_stack(indices, view)  # where it fails, each object gives the reason for its record
    if stack is not None:
        check_stack(stack, source, items, facts)
        return ReadSignals(items, [ViewKey(item.object_id, view) for item in items], stack)
    read: list[tuple[Item, Signal]] = []
    failed = []
    in_range: Tensor | None = None  # a grid that many signals share is checked once
    for index, item, drawn in zip(indices, items, changes, strict=True):
        if on_progress is not None:
            on_progress(Tally())
        try:
            signal = read_signal(source, index, view, drawn)
        except SignalError as error:
            reason = str(error).encode(errors="backslashreplace").decode()[:MAX_REASON] or "it has no signal"
            failed.append(Quarantined(object_id=item.object_id, view=view, reason=reason))
            continue
        check_signal(signal, source, item.object_id, facts, in_range)
        facts, in_range = fact_kinds(signal) if facts is None else facts, signal.coords
        read.append((item, signal))
    keys = [ViewKey(item.object_id, view) for item, _ in read]
    return ReadSignals([item for item, _ in read], keys, [signal for _, signal in read], failed)


def read_signal(source: Source, index: int, view: int = 0, drawn: Drawn = MappingProxyType({})) -> Signal:
    """The signal of `source.items[index]`, changed by what was drawn, not checked.

    Raises:
        SignalError: the object itself has none.
        ResourceError: the machine cannot read it.
        UsageError: a Source written in Python raised something else.
    """
    with _blaming(source, f"object {source.items[index].object_id}"):
        return changed_signal(source, index, view, drawn)


def read_content(source: Source, index: int) -> bytes | str | int:
    """What `source.content(index)` gives, of a source that has it. Raises as `read_signal` does."""
    with _blaming(source, f"object {source.items[index].object_id}"):
        content: bytes | str | int = source.content(index)  # type: ignore[attr-defined]
        if not isinstance(content, bytes | str | int):
            raise TypeError(f"content() gives {type(content).__name__}, expected bytes, text or a whole number")
        return content


def expected_facts(source: Source, indices: Sequence[int]) -> Mapping[str, str] | None:
    """The facts that every signal of a Source written in Python must have: those of the first of these objects that
    has a signal. Every worker finds the same. None for sources of this package, whose facts are always the same."""
    if not is_given(source):
        return None
    for index in indices:
        with contextlib.suppress(SignalError):
            signal = read_signal(source, index)
            check_signal(signal, source, source.items[index].object_id, None)
            return fact_kinds(signal)
    return None


@contextlib.contextmanager
def _blaming(source: Source, subject: str) -> Iterator[None]:
    """Raise what a source's code raises as the error of the object, of the machine or of the source."""
    outer = sys.exception()  # of a caller that handles an error of its own
    try:
        yield
    except Exception as error:
        if (reason := machine_fault(error, outer)) is not None:
            remedy = (
                "use fewer --workers or free memory; source.max_pixels and source.max_bytes bound what an object takes"
                if "memory" in reason
                else "see to it"
            )
            raise ResourceError(
                f"{subject} cannot be read on this machine: {reason}; it was not put into quarantine: {remedy}, and run "
                "the same command again"
            ) from error
        if isinstance(error, SignalError) and not is_given(source) and _vanished(error):
            raise ResourceError(f"{subject} was listed, and its file is gone since; put it back, run again") from error
        if isinstance(error, SignalError | MissingExtraError):
            raise
        if isinstance(error, FactoryError):
            raise type(error)(f"{subject}: {error}") from error
        message = f"{subject}: signal() of the source {source.name} raised {type(error).__name__}: {one_line(error)}"
        failure: Exception = UsageError(message) if is_given(source) else RuntimeError(message)
        failure.add_note(traceback.format_exc())  # a process that sends an error loses its cause
        raise failure from error


def _vanished(error: SignalError) -> bool:
    """Whether the file of an object is gone. A link to nothing is not: it is listed as it is."""
    cause = error.__cause__ or error.__context__
    return isinstance(cause, FileNotFoundError | NotADirectoryError) and not os.path.islink(cause.filename or "")
