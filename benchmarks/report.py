"""The figures as a page of the manual."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.results import OURS, REFERENCE, SECTIONS, Comparison, Growth, Memory, Section

_INTRODUCTION = """\
# Performance

What pacsd reaches beside Orthanc and DCMTK on one machine, measured in turns. This page is written by `make bench`;
absolute figures differ from machine to machine, the ratios less so.
"""

_METHOD = """\
## How it is measured

- All servers are started fresh with an empty folder on the same file system, for each round of storing anew, and get a
  few objects to warm up. In each round they take turns case by case, the first of one round is the last of the next;
  a figure is the median over the rounds, a ratio the median of the ratios within each round, its range in brackets.
- Orthanc runs with its default index and durability (it syncs files), without plug-ins, and with `TCP_NODELAY=1` in
  its environment, its best case; in the cases "Nagle on" as it is installed. `storescp` writes files without sync or
  index: what DCMTK's network code can do at most, not a competitor.
- The clients are DCMTK's, with PDUs of 128 kB, on the same processor cores. The time that a client needs to start (the
  same command towards a port where nobody listens) is taken off; "with start" shows the rates without that.
- Store: each object is acknowledged by Success, and after each case a C-FIND for the images of the series must name
  every one. Headers have about 100 elements, pixels are noise.
- Retrieve: the study was just stored, so it comes from the page cache. What arrives is thrown away; before the timed
  runs each server gives back the study once by either way and every image's pixel data is compared. C-MOVE goes to a
  `storescp --ignore` that runs already.
- Query: {query}
- Memory: {memory}
"""

_QUERY = """\
two sites on SQLite, filled by `benchmarks/fill.py`, run side by side and are asked in turns over one open
  association each by a small client of our own; keys are drawn at random, the number of answers is the same at both
  sizes. The latency ends with the last byte of the final response."""

_MEMORY = """\
a client of our own streams ten objects at once, one association each. PSS counts pages shared by several
  processes once; it is sampled every 100 ms, summed over all processes of `pacsd run`. `VmHWM` is the kernel's record
  of each process' largest RSS since its start, added up: an upper bound that misses nothing."""


def page(sections: Mapping[str, Section]) -> str:
    """The whole page, in Markdown; a section that wasn't measured says so."""
    parts = [_INTRODUCTION, "## Goals and what was reached\n", _goals(sections)]
    for name, title in (("store", "Receiving"), ("retrieve", "Giving back")):
        if name in sections:
            parts += [f"## {title}\n", _figures(sections[name].comparisons)]
    if "query" in sections:
        parts += ["## Queries\n", _latencies(sections["query"].growths)]
    if "memory" in sections and (memory := sections["memory"].memory) is not None:
        parts += ["## Memory\n", _peaks(memory)]
    parts += [_METHOD.format(query=_QUERY, memory=_MEMORY), "## Commands\n", _commands(sections.values())]
    parts += ["## Conditions\n", _conditions(sections)]
    return "\n".join(parts)


def verdict(reached: float, least: float, aim: float, *, is_less_better: bool = False) -> str:
    """What a figure is worth beside its two goals."""
    if is_less_better:
        reached, least, aim = -reached, -least, -aim
    if reached >= aim:
        return "aim reached"
    return "reached" if reached >= least else "**short**"


def _goals(sections: Mapping[str, Section]) -> str:
    rows: list[tuple[str, ...]] = []
    for name in SECTIONS:
        section = sections.get(name)
        if section is None:
            rows.append((name, "", "", "not measured in this run", ""))
            continue
        rows += [_comparison_goal(one) for one in section.comparisons]
        rows += [_growth_goal(one) for one in section.growths]
        if section.memory is not None:
            rows.append(_memory_goal(section.memory))
    return _table(("work", "at least", "aim", "measured", ""), rows)


def _comparison_goal(one: Comparison) -> tuple[str, ...]:
    ratios = one.ratios()
    ratio = _median(ratios)
    measured = f"{ratio:.2f} × Orthanc ({min(ratios):.2f} to {max(ratios):.2f})"
    return one.title, f"{one.least:g} ×", f"{one.aim:g} ×", measured, verdict(ratio, one.least, one.aim)


def _growth_goal(one: Growth) -> tuple[str, ...]:
    title = f"{one.title}: p95 at {one.n_large:,} studies against {one.n_small:,}"
    word = verdict(one.ratio, one.least, one.aim, is_less_better=True)
    return title, f"< {one.least:g} ×", f"flat (< {one.aim:g} ×)", f"{one.ratio:.2f} ×", word


def _memory_goal(one: Memory) -> tuple[str, ...]:
    title = f"{one.n_objects} objects of {one.object_bytes / 1e9:.2f} GB at once, peak of all processes"
    word = verdict(one.peak_pss, one.least, one.aim, is_less_better=True)
    return title, f"< {_mb(one.least)}", f"< {_mb(one.aim)}", f"{_mb(one.peak_pss)} (PSS)", word


def _figures(comparisons: Sequence[Comparison]) -> str:
    rows = []
    for one in comparisons:
        for server in sorted(one.samples, key=[OURS, REFERENCE, "storescp"].index):
            values = sorted(sample.value for sample in one.samples[server])
            rows.append((
                one.title if server == OURS else "", server, f"{one.median(server):,.0f}",
                f"{values[0]:,.0f} to {values[-1]:,.0f}", f"{one.median_with_start(server):,.0f}",
            ))  # fmt: skip
    notes = "\n".join(f"- {one.title}: {one.about}" for one in comparisons)
    unit = comparisons[0].unit if comparisons else ""
    return f"{_table(('work', 'server', unit, 'range', 'with start'), rows)}\n{notes}\n"


def _latencies(growths: Sequence[Growth]) -> str:
    rows = [
        (one.title, f"{one.n_answers:.1f}", f"{one.p50_small_ms:.2f}", f"{one.p95_small_ms:.2f}",
         f"{one.p50_large_ms:.2f}", f"{one.p95_large_ms:.2f}", f"{one.ratio:.2f} ×")
        for one in growths
    ]  # fmt: skip
    small, large = (f"{growths[0].n_small:,}", f"{growths[0].n_large:,}") if growths else ("", "")
    heads = ("query", "answers", f"p50 ms, {small}", f"p95 ms, {small}", f"p50 ms, {large}", f"p95 ms, {large}", "p95")
    return _table(heads, rows)


def _peaks(memory: Memory) -> str:
    rows = [
        ("PSS before", _mb(memory.idle_pss)), ("peak of PSS", _mb(memory.peak_pss)),
        ("peak of RSS, summed", _mb(memory.peak_rss)), ("VmHWM, summed", _mb(memory.high_water_rss)),
        ("processes", str(memory.n_processes)), ("all objects stored within", f"{memory.seconds:.0f} s"),
    ]  # fmt: skip
    return _table(("figure", ""), rows)


def _commands(sections: Iterable[Section]) -> str:
    found: dict[str, None] = {}
    for section in sections:
        for one in section.comparisons:
            found.update(dict.fromkeys(one.commands))
    return "\n".join(["```", "make bench", "pacsd init --state site --open", *found, "```\n"])


def _conditions(sections: Mapping[str, Section]) -> str:
    """What all parts have in common, then what differs, a column for each."""
    held = [section.conditions for section in sections.values()]
    names = list(dict.fromkeys(name for conditions in held for name in conditions))
    common = [(name, held[0][name]) for name in names if len({one.get(name) for one in held}) == 1]
    parts = [_table(("all", ""), common)]
    differing = [
        (name, *(one.get(name, "") for one in held)) for name in names if len({one.get(name) for one in held}) > 1
    ]
    if differing:
        parts.append(_table(("", *sections), differing))
    return "\n".join(parts)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _mb(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.0f} MB"
