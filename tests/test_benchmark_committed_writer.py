"""`benchmarks.committed_writer`: writers after their own commits."""

import pytest
from agent_fixtures import quiet
from helpers import INNER

from benchmarks import committed_writer
from benchmarks.committed_writer import Args
from seal_agents.policies.options import PolicyOptions
from seal_env.config import EnvConfig
from seal_env.errors import UserError


@pytest.mark.slow
def test_the_writer_has_its_commits_and_the_learner_has_not(models, tmp_path, monkeypatch):
    env = EnvConfig(
        task="helpers:Parity",
        model=models["llama"],
        inner=INNER,
        split="validation",
        stream="merge",
    )
    options = PolicyOptions(max_new_tokens=8)
    args = Args((0, 1), seeds=1, problems=2, options=options, env=env, out=tmp_path)
    written, real = [], committed_writer.write_texts
    carried, loop_run = [], committed_writer.Episodes

    def writes(learner, prompts, sampling, seeds, batch, bank):
        written.append((bank is None, seeds))
        return real(learner, prompts, sampling, seeds, batch, bank)

    class Watched(loop_run):
        def __init__(self, *given):
            super().__init__(*given)
            run = self.loop.run
            self.loop.run = lambda requests: carried.append(requests) or run(requests)

    monkeypatch.setattr(committed_writer, "write_texts", writes)
    monkeypatch.setattr(committed_writer, "Episodes", Watched)
    found = committed_writer.run(args, quiet())
    assert [base for base, _ in written] == [True, False] and written[0][1] == written[1][1]
    measured = [requests for requests in carried if len(requests) == 2]
    assert len(measured) == 2 and all(r.start is None for some in measured for r in some)
    assert list(found) == ["0", "1"] and found["0"]["words"] > 0
    assert committed_writer.run(args, quiet()) == found and len(written) == 2  # known by now


def test_senseless_settings_are_one_line():
    with pytest.raises(UserError, match="--commits start at 0"):
        committed_writer.run(Args(commits=(-1,)), quiet())
