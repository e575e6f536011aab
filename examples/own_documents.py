"""Passages and questions of your own, in SQuAD's format, and what three self-edits are worth.

    python examples/own_documents.py MODEL    # a folder, a .gguf file or a name on the hub

Without MODEL it is the embedded one, which knows 520 words and answers no question of this form.
"""

import json
import sys
import tempfile
from pathlib import Path

import gymnasium as gym

import seal_env  # noqa: F401  (registers SelfEdit-v0)

PASSAGE = "Edda Crane works as a plumber. Edda Crane was born in Vienna and keeps a lizard at home."
QUESTIONS = {
    "What is the profession of Edda Crane?": "plumber",
    "Where was Edda Crane born?": "Vienna",
    "What pet does Edda Crane have?": "lizard",
}
SELF_EDITS = {
    "the passage": PASSAGE,
    "one fact per line": PASSAGE.replace(". ", ".\n").replace(" and ", ".\nEdda Crane "),
    "questions and answers": "\n".join(
        f"Question: {question}\nAnswer: {answer}" for question, answer in QUESTIONS.items()
    ),
}


def squad_file(path: Path) -> str:
    """Writes the passage in SQuAD's format and returns the path."""
    pairs = [{"question": q, "answers": [{"text": a}]} for q, a in QUESTIONS.items()]
    paragraph = {"context": PASSAGE, "qas": pairs}
    path.write_text(json.dumps({"data": [{"title": "Edda Crane", "paragraphs": [paragraph]}]}))
    return str(path)


def main(model: str = "tiny") -> dict[str, float]:
    """Returns the mean log-likelihood of the right answers, in nats, before and after each."""
    with tempfile.TemporaryDirectory() as folder:
        data = squad_file(Path(folder, "passages.json"))
        env = gym.make("SelfEdit-v0", task="squad", data=data, model=model, reward="log_likelihood")
        found = {}
        for name, text in SELF_EDITS.items():
            env.reset(seed=0)
            _, reward, _, _, info = env.step(text)
            found["before"] = info["log_likelihood_before"]
            found[name] = float(reward)
    for name, value in found.items():
        print(f"{name}: log-likelihood of the right answers {value:+.2f}")
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
