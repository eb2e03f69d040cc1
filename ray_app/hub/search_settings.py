"""What `make discover` looks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date


@dataclass(kw_only=True)
class SearchConfig:
    """Which models of the hub are taken as candidates; those most downloaded come first."""

    limit: int = 100
    """Most candidates."""
    most_looked_at: int = 2000
    """Most models of the hub's list that are looked at."""
    text: str | None = None
    """Part of the name; None: any."""
    author: str | None = None
    """Account or organisation; None: any."""
    languages: list[str] = field(default_factory=list)
    """Language codes (en, de), one of which the model's card must state; empty: any, stated or not."""
    licences: list[str] = field(default_factory=list)
    """Licences (apache-2.0, mit), one of which the card must state; empty: any, stated or not."""
    min_downloads: int = 0
    """Downloads in the last 30 days, as the hub counts them."""
    since: str | None = None
    """Earliest day of the last change, YYYY-MM-DD."""
    until: str | None = None
    """Latest day of the last change, YYYY-MM-DD."""
    max_parameters: int | None = None
    """Most parameters."""
    same_vocabulary: bool = True
    """Only models with as many token ids as the pretrained one."""

    def faults(self) -> list[str]:
        """Everything wrong with these settings."""
        found = []
        for name in ("limit", "most_looked_at", "max_parameters"):
            value = getattr(self, name)
            if value is not None and value < 1:
                found.append(f"{name}: {value}; it must be 1 or more")
        if self.min_downloads < 0:
            found.append(f"min_downloads: {self.min_downloads}; it must be 0 or more")
        days = {name: getattr(self, name) for name in ("since", "until") if getattr(self, name) is not None}
        for name, day in days.items():
            if not _is_day(day):
                found.append(f"{name}: {day!r}; write a day as YYYY-MM-DD")
        if len(days) == 2 and all(map(_is_day, days.values())) and self.since > self.until:  # type: ignore[operator]
            found.append(f"since: {self.since} is after until, {self.until}")
        return found


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
