"""`benchmarks.stream_agents`: figures by hand, and the settings of both agents."""

from dataclasses import replace

import pytest
from agent_fixtures import quiet

from benchmarks import stream_agents
from benchmarks.stream_agents import Args
from seal_env.config import EnvConfig
from seal_env.errors import UserError


def test_final_is_what_all_problems_of_a_stream_have_at_its_end():
    ends = [(0, 0.9, []), (1, 0.5, [0.1]), (0, 0.7, []), (1, 0.3, [0.5])]
    records = [
        {"step": t, "accuracy": own, "stream": {"accuracy": earlier}, "text": "a b" if t else None}
        for t, own, earlier in ends
    ]
    found = stream_agents.figures(records)
    assert found["final"] == pytest.approx((0.5 + 0.1 + 0.3 + 0.5) / 4)
    assert found["right_after"] == pytest.approx((0.9 + 0.5 + 0.7 + 0.3) / 4)
    assert found["words"] == 1


def test_the_difference_is_paired_by_seed():
    rows = {"single": [0.1, 0.5, 0.2], "stream": [0.2, 0.6, 0.3], "none": [0.0]}
    found = {name: {"final": f, "right_after": f, "words": f} for name, f in rows.items()}
    gap = stream_agents.summarize(found)["difference"]
    assert [gap["mean"], *gap["ci"]] == pytest.approx([0.1, 0.1, 0.1])
    assert "+0.100 [+0.100, +0.100]" in stream_agents.markdown(stream_agents.summarize(found))


def test_the_agents_differ_in_the_horizon_alone(tmp_path):
    args = Args(env=EnvConfig(horizon=4, stream="merge"))
    single, stream = (
        stream_agents._training(args, arm, 3, tmp_path) for arm in ("single", "stream")
    )
    assert (single.env.horizon, stream.env.horizon) == (1, 4)
    assert replace(single, env=stream.env) == stream and stream.env.stream == "merge"
    assert not stream.options.read_state and stream.seed == 3


@pytest.mark.parametrize(
    "args", [Args(env=EnvConfig(horizon=1)), Args(seeds=0), Args(env=EnvConfig(horizon=9))]
)
def test_settings_that_cannot_be_are_one_line(args, tmp_path):
    with pytest.raises(UserError, match="--horizon"):
        stream_agents.run(replace(args, out=tmp_path / "out"), quiet())
    assert not (tmp_path / "out").exists()
