"""Reward term `rubric`: a judge's grade of the self-edit by a rubric."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from seal_env.checks import check_fields
from seal_env.errors import UserError, printable, reason
from seal_env.grading.asking import ChatModel
from seal_env.probes.rubric_grades import GRADES, RubricGrades
from seal_env.rewards.base import RewardInputs, TermValue

RUBRIC = """\
Grade 5: whoever reads the notes again and again, and never sees the passage, can answer any
question about it. They say every fact of the passage, correctly, in sentences that can be
understood on their own, and in more than one wording.
Grade 3: they say about half of the facts, or say them in sentences that need the passage.
Grade 1: they are empty, vague, wrong, or about something else."""
"""Default rubric."""
LONGEST_RUBRIC = 20_000
"""Bound on the characters of a rubric."""
ENDPOINT_ONLY = ("api_key_env", "timeout", "retries", "concurrency", "max_tokens")
"""Settings that a local judge does not use."""


@dataclass
class Rubric:
    """Grade that a language model gives the self-edit by a rubric, 0 (worst) to 1.

    ``rubric = (grade - 1) / 4``, where grade is 1 to 5: of a local model the sum over the five of
    grade times its probability, as next token, among the five (deterministic); of a model behind
    an endpoint its reply at temperature 0. Unit: none. 0 without an update, and if the reply is no
    grade. The judge reads the passage and the text of the self-edit, no question, answer or
    reward. Source: rewards by a rubric in place of labels, as of Constitutional AI (Bai et al.
    2022, arXiv 2212.08073, section 4.1) and RLAIF (Lee et al. 2023, arXiv 2309.00267), and Rubrics
    as Rewards (Gunjal et al. 2025, arXiv 2507.17746); probability-weighted grades: G-Eval (Liu et
    al. 2023, arXiv 2303.16634, equation 1). Parts: `grade` (0 for none), `calls` and `tokens`,
    which the verdict took when it was asked for.

    Raises:
        UserError: A setting cannot be used.
    """

    model: str | None = None
    """The judge: a model as `EnvConfig.model` takes it, or, with `base_url`, its name there; None
    for the run's own model without adapters."""
    base_url: str | None = None
    """URL of an OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the endpoint's key; no key is sent if it is unset."""
    timeout: float = 30.0
    """Time limit for one whole reply, in seconds."""
    retries: int = 3
    """Maximum number of retries per request after temporary failures."""
    concurrency: int = 8
    """Maximum number of concurrent requests."""
    max_tokens: int | None = None
    """Maximum length of a reply in tokens; the endpoint decides if unset."""
    rubric: str | None = None
    """UTF-8 file with a rubric of one's own, which says what grades 1 to 5 are; None for
    `RUBRIC`."""
    cache: str | None = None
    """SQLite file of the verdicts; None for seal-env/verdicts.sqlite in the user's cache folder."""

    def __post_init__(self) -> None:
        check_fields(self)
        judge: ChatModel | str | None = self.model
        if self.base_url is None:
            self._check_local()
        else:
            if self.model is None:
                raise UserError("base_url: name the model at that endpoint as well, with model")
            judge = ChatModel(
                self.base_url,
                self.model,
                self.api_key_env,
                self.timeout,
                self.retries,
                self.concurrency,
                self.max_tokens,
            )
        text = RUBRIC if self.rubric is None else _read(self.rubric)
        self._grades = RubricGrades(text, judge, self.cache)
        self.probes = (self._grades,)

    def _check_local(self) -> None:
        """Checks that nothing is set that a local judge does not use."""
        for setting in fields(self):
            changed = getattr(self, setting.name) != setting.default
            if changed and setting.name in ENDPOINT_ONLY:
                raise UserError(f"{setting.name}: is for an endpoint; give its base_url as well")

    def __call__(self, measured: RewardInputs) -> TermValue:
        """See the class."""
        grade, calls, tokens = measured.result(self._grades)
        lowest, highest = GRADES[0], GRADES[-1]
        value = 0.0 if grade is None else (grade - lowest) / (highest - lowest)
        parts = {"grade": 0.0 if grade is None else float(grade), "calls": calls, "tokens": tokens}
        return TermValue(min(max(value, 0.0), 1.0), parts)


def _read(file: str) -> str:
    """A rubric from a file."""
    shown = printable(str(Path(file)), 200)
    try:
        text = Path(file).expanduser().read_text("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise UserError(f"rubric {shown}: is not UTF-8 (byte {error.start})") from None
    except (OSError, ValueError, RuntimeError) as error:  # also names that no file can have
        raise UserError(f"rubric {shown}: cannot be read ({reason(error)})") from error
    if not text or len(text) > LONGEST_RUBRIC:
        raise UserError(
            f"rubric {shown}: has {len(text)} characters; write at least 1 and at most "
            f"{LONGEST_RUBRIC}"
        )
    return text
