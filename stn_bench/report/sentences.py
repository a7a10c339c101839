"""What came of a question, in sentences made of what its files and its runs say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from stn_bench.analysis.summary import AblationSummary, ArmSummary, ConfirmationSummary, EffectSummary
from stn_bench.analysis.verdicts import ALL_ALIKE
from stn_bench.stats import ALPHA, FEWEST_SEEDS, Verdict
from stn_bench.system.format import Unit, counted, listed, p_value, setting_value

WORDS: tuple[Verdict, ...] = get_args(Verdict)
"""The six words, in the order in which arms are told."""

MOST_SETTINGS = 2
MOST_NAMED = 4
MOST_SEEDS = 100


def answer(ablation: AblationSummary, unit: Unit) -> str:
    """Return what came of a question in a line of Markdown: the most telling arm in words, the others by verdict."""
    arms = ranked(ablation)
    if not arms:
        return "No arm to compare."
    lead, others = arms[0], arms[1:]
    rest = [arm for arm in others if arm is not companion(lead, ablation)]
    parts = [f"**{_word(lead).capitalize()}**: {sentence(lead, ablation, unit)}."]
    for word in _words_from(_word(lead)):
        named = [arm for arm in rest if _word(arm) == word]
        also = "Also" if word == _word(lead) else f"**{word.capitalize()}**:"
        parts += [f"{also} {_in_short(named, unit)}."] if named else []
    if together := interplay(ablation, unit):
        parts.append(together)
    if ablation.confirmation is not None:
        parts.append(confirmed(ablation.confirmation, unit))
    return " ".join(parts)


def headline(ablation: AblationSummary, unit: Unit) -> str:
    """Return what came of a question at a glance: the most telling arm with its number, the others by name."""
    arms = ranked(ablation)
    if not arms:
        return "No arm to compare."
    lead, others = arms[0], arms[1:]
    subject = _subject(lead)
    parts = [f"**{_word(lead).capitalize()}**: {subject}, {_numbers(lead, unit)}"]
    for word in _words_from(_word(lead)):
        names = [arm.marked_name for arm in others if _word(arm) == word]
        more = [f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
        also = "also" if word == _word(lead) else f"{word}:"
        parts += [f"{also} {listed([*names[:MOST_NAMED], *more])}"] if names else []
    fresh = ablation.confirmation
    parts += [_at_a_glance(fresh)] if fresh else []
    if together := interplay(ablation, unit):
        parts.append(together[0].lower() + together[1:].rstrip("."))
    return f"{'; '.join(parts)}."


def told(ablation: AblationSummary, unit: Unit) -> list[str]:
    """Return a question and what came of it, in lines of plain text: the verdict of each arm, and the confirmation."""
    lines = [f"{arm.verdict}: {sentence(arm, ablation, unit)}" for arm in ranked(ablation)]
    lines += [confirmed(ablation.confirmation, unit)] if ablation.confirmation else []
    return [ablation.question, *(f"  {line}".replace("`", "") for line in lines)]


def suspected(ablation: AblationSummary) -> list[str]:
    """Return what makes the values of arms doubtful, in lines of plain text."""
    lines = [f"  ! {arm.plain_name} {caveat}" for arm in ablation.arms for caveat in arm.caveats]
    return [line.replace("`", "") for line in lines]


def ranked(ablation: AblationSummary) -> list[ArmSummary]:
    """Return the arms of a question: the one that it names as its answer, then the most telling first.

    These stand by verdict, then by the larger difference. An arm at the cost of the base completes the arm that it
    matches, and never stands before it.
    """

    def rank(arm: ArmSummary) -> tuple[bool, int, bool, float]:
        completes = any(companion(other, ablation) is arm for other in ablation.arms[1:])
        return arm.name != ablation.answer, WORDS.index(_word(arm)), completes, -abs(arm.difference or 0.0)

    return sorted(ablation.arms[1:], key=rank)


def companion(arm: ArmSummary, ablation: AblationSummary) -> ArmSummary | None:
    """Return the arm that makes the same change at the base's cost, or None."""
    if arm.match:
        return None
    return next((other for other in ablation.arms[1:] if other.match and other.moved == arm.set), None)


def sentence(arm: ArmSummary, ablation: AblationSummary, unit: Unit) -> str:
    """Return what came of an arm, and of its twin at equal FLOPs, without the verdict's word and a full stop."""
    subject = _subject(arm)
    if arm.verdict == "invalid":
        said = f"{subject} nothing can be said, {arm.reason}"
    elif arm.difference is None:
        said = f"{subject} no seed has finished yet that the base finished too"
    elif arm.lacks:
        said = f"{subject} {unit.name} moved by {unit.signed(arm.difference)}{unit.points} so far, {_first_look(arm)}"
    elif arm.verdict == "unreplicated":
        said = f"{subject} {_so_far(arm, unit)}"
    else:
        said = f"{subject} {_found(arm, unit)}{_stopped(arm)}"
    matched = companion(arm, ablation)
    return said if matched is None else f"{said}; {_at_equal_flops(arm, matched, unit)}"


def _words_from(first: Verdict) -> list[Verdict]:
    """Return the six words in the order in which arms are told beside one that has the first."""
    return sorted(WORDS, key=lambda word: word != first)


def _word(arm: ArmSummary) -> Verdict:
    return arm.verdict or "unreplicated"


def _subject(arm: ArmSummary) -> str:
    """Return what an arm changes, and its name: "without the transformer (`none`)"."""
    settings, at_cost = arm.moved, "at the base's FLOPs, " if arm.match else ""
    if len(settings) > MOST_SETTINGS:
        return f"{at_cost}with {arm.marked_name} ({len(settings)} settings)"
    gone = {path.rpartition(".")[0] for path in arm.without} - {""}  # what else is set of a part says nothing then
    left = [
        f"`{path}` = {setting_value(value)}"
        for path, value in settings.items()
        if path not in arm.without and path.rpartition(".")[0] not in gone
    ]
    without = f"without {listed(list(arm.without.values()))}" if arm.without else ""
    changes = list(filter(None, [without, f"with {listed(left)}" if left else ""]))
    return f"{at_cost}{listed(changes)} ({arm.marked_name})" if changes else f"{at_cost}with {arm.marked_name}"


def _found(arm: ArmSummary, unit: Unit) -> str:
    """Return a difference and its interval in words, and on how many seeds it has that sign."""
    difference = arm.difference or 0.0
    if arm.verdict in ("better", "worse"):
        count = arm.wins if arm.verdict == "better" else arm.losses
        return f"{_moves(arm, unit)} {unit.amount(difference, arm.interval)}, on {count} of {arm.pairs} seeds"
    ahead = f"{unit.change(difference, arm.interval)}, better on {arm.wins} of {arm.pairs} seeds"
    if arm.verdict == "equivalent":
        return f"{unit.name} stays within the margin: {ahead}"
    return f"no effect on {unit.name} could be shown: {ahead}; {_still_needed(arm)}"


def _moves(arm: ArmSummary, unit: Unit) -> str:
    """Return which way the metric of a better or worse arm goes; of a fraction of which more is better, in short."""
    rises = (arm.difference or 0.0) > 0
    if arm.set and unit.points and rises == (arm.verdict == "better"):
        return f"the model {'gains' if rises else 'loses'}"
    return f"{unit.name} {'rises' if rises else 'falls'} by"


def _first_look(arm: ArmSummary) -> str:
    return f"on {arm.seeds_of_first_look} of its first look"


def _so_far(arm: ArmSummary, unit: Unit) -> str:
    count = counted(arm.pairs or 0, "seed")
    return (
        f"{unit.name} moved by {unit.signed(arm.difference)}{unit.points} on {count}; a verdict needs {FEWEST_SEEDS}"
    )


def _still_needed(arm: ArmSummary) -> str:
    if arm.has_no_spread:
        return ALL_ALIKE
    if arm.more_seeds is None:
        return "a thousand more seeds might not decide it"
    return f"roughly {counted(arm.more_seeds, 'more seed')} would decide it"


def _stopped(arm: ArmSummary) -> str:
    return f", stopped at look {arm.look}" if arm.stopped else ""


def _at_equal_flops(arm: ArmSummary, matched: ArmSummary, unit: Unit) -> str:
    """Return what is left of an arm's difference at the base's FLOPs."""
    name, ours, theirs = f"({matched.marked_name})", arm.difference or 0.0, matched.difference or 0.0
    if matched.verdict in ("better", "worse"):
        amount = unit.amount(theirs, matched.interval)
        if matched.verdict == arm.verdict and abs(theirs) <= abs(ours):
            return f"of that, {amount} remain at equal FLOPs {name}"
        return f"at equal FLOPs {name} {_moves(matched, unit).replace('the model', 'it')} {amount}"
    if matched.verdict == "equivalent":
        nothing = "nothing beyond the margin remains" if arm.verdict in ("better", "worse") else "equivalent"
        return f"at equal FLOPs {name} {nothing}: {unit.change(theirs, matched.interval)}"
    colon = ":" * (matched.verdict == "undecided")
    return f"at equal FLOPs {name} {_word(matched)}{colon} {_numbers(matched, unit)}"


def _in_short(arms: Sequence[ArmSummary], unit: Unit) -> str:
    """Return some arms of one verdict, each with its number."""
    named = [f"{arm.marked_name} {_known(arm, unit)}" for arm in arms[:MOST_NAMED]]
    more = len(arms) - len(named)
    return listed([*named, f"{more} more"] if more else named)


def _numbers(arm: ArmSummary, unit: Unit) -> str:
    """Return an arm's difference, and how many more seeds might decide it."""
    note = f" (roughly {counted(arm.more_seeds, 'more seed')})" if arm.more_seeds and not arm.lacks else ""
    return f"{_known(arm, unit)}{note}"


def _known(arm: ArmSummary, unit: Unit) -> str:
    """Return an arm's difference, or in brackets why there is none to speak of."""
    if arm.verdict == "invalid":
        return f"({arm.reason})"
    if arm.lacks:
        return f"({arm.seeds_of_first_look})"
    if arm.difference is None or arm.verdict == "unreplicated":
        return f"({len(arm.seeds)} of {arm.planned} seeds finished)"
    return unit.change(arm.difference, arm.interval)


def interplay(ablation: AblationSummary, unit: Unit) -> str:
    """Return which factors act together, the largest interaction first; "" where there are no two."""
    if len(ablation.factors) < 2:
        return ""
    if ablation.no_effects:
        return f"Whether the factors act together cannot be told: {ablation.no_effects}."
    both = sorted((one for one in ablation.effects if len(one.levels) == 2), key=lambda one: -abs(one.value))
    shown = [effect for effect in both if effect.p_adjusted is not None and effect.p_adjusted <= ALPHA]
    if not shown:
        return "That the factors act together could not be shown."
    return f"The factors act together: {'; '.join(_interaction(effect, unit) for effect in shown[:2])}."


def _interaction(effect: EffectSummary, unit: Unit) -> str:
    return (
        f"{effect_name(effect)}: {unit.change(effect.value, effect.interval)}, adjusted p {p_value(effect.p_adjusted)}"
    )


def effect_name(effect: EffectSummary) -> str:
    """Return the levels of an effect: "`a` = x" for a main effect, joined by "×" for an interaction."""
    return " × ".join(f"`{path}` = {setting_value(level)}" for path, level in effect.levels.items())


def confirmed(found: ConfirmationSummary, unit: Unit) -> str:
    """Return what fresh seeds say of the best arm, beside what the seeds said that chose it."""
    seeds = f"{counted(len(found.seeds), 'fresh seed')} ({seeds_in_words(found.seeds)})"
    chosen = f"chosen at {unit.change(found.selected_difference, found.selected_interval)}"
    fresh = f"{unit.change(found.difference, found.interval)}, better on {found.wins} of {len(found.seeds)}"
    agrees = f"{seeds} {'bear' if found.agrees else 'do not bear'} that out"
    said = f"of {seeds} nothing can be said, {found.reason}" if found.reason else agrees
    failed = "".join(f" Fresh seed {seed} failed: {why}." for seed, why in found.failed.items())
    return f"{found.words or f'`{found.arm}`'} was {chosen}; {said}: {fresh}, p {p_value(found.p)}.{failed}"


def _at_a_glance(fresh: ConfirmationSummary) -> str:
    if fresh.reason:
        return f"fresh seeds say nothing of the best of them, {fresh.reason}"
    return f"fresh seeds {'bear' if fresh.agrees else 'do not bear'} the best of them out"


def seeds_in_words(seeds: Sequence[int]) -> str:
    """Return seeds in short: "1–5" where they follow one another."""
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}–{seeds[-1]}"
    if len(seeds) > MOST_SEEDS:
        return f"{len(seeds):,} from {min(seeds)} to {max(seeds)}"
    return ", ".join(map(str, seeds))


def each(noun: str) -> str:
    """Return a noun with its article: "a picture", "an example"."""
    return f"{'an' if noun[:1].lower() in tuple('aeiou') else 'a'} {noun}"
