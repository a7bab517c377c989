"""Passed over: what lies in the folders of a collection and became no object, as the manifest of its set records it."""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

MOST_COUNTED, MOST_NAMED = 10, 5  # kinds that are counted one by one, names that are given


class PassedOver(BaseModel):
    """What the listing of a collection's folders passed over.

    Attributes:
        files: number of files that no object is made of: of other formats, in no class folder, no regular files.
        suffixes: these by the ends of their names, at most the MOST_COUNTED most frequent.
        folders: these by class folder, "." for the data root itself, as many.
        names: the first MOST_NAMED of these files, by their paths below the data root.
        leftovers: number of hidden files and folders, and of others that systems and tools leave behind.
        leftover_names: these by name, at most the MOST_COUNTED most frequent.
        empty_classes: classes whose folders hold no object; they keep their labels.
        remarks: what else is unusual about the folders, a sentence each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: int = Field(default=0, ge=0)
    suffixes: dict[str, int] = {}
    folders: dict[str, int] = {}
    names: tuple[str, ...] = ()
    leftovers: int = Field(default=0, ge=0)
    leftover_names: dict[str, int] = {}
    empty_classes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def lines(self) -> tuple[str, ...]:
        """What a user should know of it, a line each."""
        lines = []
        if self.files:
            folders = {"the data root itself" if name == "." else name: count for name, count in self.folders.items()}
            lines.append(
                f"passed over {self.files:,} {'file' if self.files == 1 else 'files'}: "
                f"{_counts(self.suffixes, self.files)}; {_counts(folders, self.files, 'in ')}; "
                f"first {', '.join(self.names)}"
            )
        if self.empty_classes:
            one = len(self.empty_classes) == 1
            lines.append(
                f"no object in the class {'folder' if one else 'folders'} {name_some(self.empty_classes)}: "
                f"{'the class keeps its label' if one else 'the classes keep their labels'}; move away what is no class"
            )
        if self.leftovers:
            lines.append(
                f"passed over {self.leftovers:,} hidden or left behind by other programs: "
                f"{_counts(self.leftover_names, self.leftovers)}"
            )
        return (*lines, *self.remarks)


def name_some(names: Sequence[str]) -> str:
    """The first of the names, and how many more there are."""
    rest = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {rest:,} more" if rest > 0 else "")


def _counts(counts: Mapping[str, int], total: int, before: str = "") -> str:
    """Such as `3 .avif, 2 .txt and 4 others`, with a word before each name."""
    rest = total - sum(counts.values())
    text = ", ".join(f"{count:,} {before}{name}" for name, count in counts.items())
    return f"{text} and {rest:,} others" if rest else text
