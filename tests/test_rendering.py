"""Text to tokens: prompts plain and in a chat, what is cut of them, ends, special tokens."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers import CHAT_TEMPLATE, MAX_LENGTH, chat_tokenizer, word_pieces
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BertTokenizer,
    ByT5Tokenizer,
    GemmaTokenizer,
    GPT2Tokenizer,
    LlamaTokenizer,
    PreTrainedTokenizerFast,
)

from seal_env.engine.loading import load_learner
from seal_env.engine.rendering import Content, DoesNotFit, Renderer
from seal_env.errors import UserError
from seal_env.pretraining.tokenizer import build_grid_tokenizer, build_tokenizer
from seal_env.prompts import prompt_tokens

QUESTION = "Where was Ada Cho born?"
PASSAGE = "Ada Cho was born in Oslo. She is a vet and has a cat. " * 20


def renderer(tokenizer, **settings) -> Renderer:
    given = {"rows": len(tokenizer), "max_length": MAX_LENGTH, **settings}
    return Renderer(tokenizer, "test", **given)


def chat(template: str = CHAT_TEMPLATE, **settings) -> Renderer:
    tokenizer = chat_tokenizer()
    tokenizer.chat_template = template
    return renderer(tokenizer, **settings)


def shown(of: Renderer, ids) -> str:
    return of.tokenizer.decode(list(ids))


# ---- plain prompts ------------------------------------------------------------------------


def test_a_plain_prompt_is_its_text():
    plain = renderer(word_pieces())
    ids = plain.prompt((QUESTION, "\nAnswer:\n")).ids
    assert ids == plain.tokenizer(QUESTION + "\nAnswer:\n")["input_ids"]
    assert prompt_tokens(plain, "notes", QUESTION).ids == plain.encode(QUESTION + "\nNotes:\n")
    assert shown(plain, prompt_tokens(plain, "rewrite", QUESTION).ids).endswith(
        "Rewritten passages:\n"
    )


def test_a_chat_can_be_switched_off_and_not_on_without_a_template():
    plain = renderer(word_pieces())
    assert chat().prompt((QUESTION,), chat=False).ids == plain.prompt((QUESTION,)).ids
    with pytest.raises(UserError, match="no chat template"):
        plain.prompt((QUESTION,), chat=True)


def test_nothing_is_never_rendered_as_nothing():
    for tokenizer in (word_pieces(), build_tokenizer(8)):
        nothing = renderer(tokenizer)
        assert len(nothing.prompt(("",)).ids) == len(nothing.reading("")) == 1
        assert nothing.scored("") == nothing.end_ids


# ---- chat turns ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "template",
    [
        CHAT_TEMPLATE,
        "{{ messages[0].content | trim }}",
        "[INST] {{ messages[0].content }} [/INST]{% if messages[1] %} {{ messages[1].content }}"
        "<|im_end|>{% endif %}",
    ],
)
def test_a_turn_is_tokenized_as_transformers_does_it(template):
    turn = chat(template)
    for text in (QUESTION, "  Two.\n\nParagraphs é 世界 \n", "One"):
        messages = [{"role": "user", "content": text.strip()}]
        expected = turn.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=False
        )
        assert turn.prompt((text,)).ids == turn.prompt(tuple(text)).ids == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("<|im_start|>{{ messages[0].content | upper }}<|im_end|>=", "<|im_start|>HI<|im_end|>="),
        ("{% for m in messages %}{{ m.content }}!{{ m.content }}{% endfor %}", "hi!hi"),
        ("{{ messages[0].content | replace('i', '') }}:", "h:"),
        ("{{ messages[0].content | length }}:{{ messages[0].content }}", "hi"),  # ill-behaved
    ],
)
def test_a_template_that_rewrites_what_is_said_is_used_all_the_same(template, expected):
    turn = chat(template)
    assert expected in shown(turn, turn.prompt((" hi\n",)).ids)


def test_an_instruct_model_is_asked_without_the_cue():
    text = shown(chat(), prompt_tokens(chat(), "rewrite", "One.\n\nTwo.").ids)
    assert text.startswith("<|im_start|>user\nLet's read")
    assert text.endswith("Passage:\nOne.\n\nTwo.<|im_end|>\n<|im_start|>assistant\n")


def test_a_template_of_parts_gets_what_is_said_in_parts():
    """Models of text and images have such; given a text they write none of it."""
    parts = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}"
        "{% if c.type == 'text' %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    turn = chat(parts)
    assert turn.prompt((QUESTION,)).ids == chat().prompt((QUESTION,)).ids
    assert turn.turn_end_ids == chat().turn_end_ids != turn.end_ids


@pytest.mark.parametrize("template", ["<|im_start|>user<|im_end|>", "{# nothing #}"])
def test_a_template_that_leaves_out_what_is_said_is_refused(template):
    with pytest.raises(UserError, match="leaves out what the user says"):
        chat(template).prompt((QUESTION,))


def test_a_template_that_fails_is_one_line():
    turn = chat("{{ raise_exception('no user\nturns') }}")
    with pytest.raises(UserError, match=r"chat template failed \(no user turns\)") as error:
        turn.prompt((QUESTION,))
    assert "\n" not in str(error.value)
    assert turn.prompt((QUESTION,), chat=False).ids == turn.encode(QUESTION)


# ---- what is cut --------------------------------------------------------------------------


@pytest.mark.parametrize("room", [200, 60, 47])
@pytest.mark.parametrize("make", [word_pieces, chat_tokenizer])
def test_a_long_prompt_loses_the_middle_of_its_content(make, room):
    cutting = renderer(make())
    parts = ("Read this.\n\n", Content(PASSAGE), f"\n\n{QUESTION}")
    whole, cut = cutting.prompt(parts, 10_000)
    ids, lost = cutting.prompt(parts, room)
    assert cut == 0 and len(ids) == room and lost == len(whole) - room
    first = next(i for i, (a, b) in enumerate(zip(ids, whole, strict=False)) if a != b)
    assert ids[first:] == whole[len(whole) - (room - first) :]  # one hole
    text = shown(cutting, ids)
    frame = shown(cutting, cutting.prompt(("Read this.\n\n", "@", f"\n\n{QUESTION}")).ids)
    before, behind = frame.split("@")
    assert text.startswith(before) and text.endswith(behind)
    kept = text[len(before) : len(text) - len(behind)]
    assert PASSAGE.startswith(kept[: len(kept) // 3]) and PASSAGE.endswith(
        kept[-(len(kept) // 3) :]
    )


@pytest.mark.parametrize("make", [word_pieces, chat_tokenizer])
def test_what_fits_to_the_token_is_whole_and_a_frame_that_does_not_is_refused(make):
    cutting = renderer(make())
    parts = (QUESTION, Content(PASSAGE))
    whole = cutting.prompt(parts, 10_000)
    assert cutting.prompt(parts, len(whole.ids)) == whole
    frame = len(cutting.prompt((QUESTION, Content(""))).ids)
    assert len(cutting.prompt(parts, frame).ids) == frame
    for room in (frame - 1, 0, -5):
        with pytest.raises(DoesNotFit, match=f"takes {frame} tokens") as error:
            cutting.prompt(parts, room)
        assert "\n" not in str(error.value)


def test_the_longest_content_gives_first():
    words = renderer(build_tokenizer(MAX_LENGTH))
    parts = (
        Content("Oslo " * 3),
        "Notes:",
        Content("vet " * 40),
        "Answer:",
        Content("chess " * 30),
    )
    frame = len(words.prompt(("Notes:", "Answer:")).ids)
    ids = words.prompt(parts, frame + 3 + 12 + 12).ids
    text = shown(words, ids)
    assert tuple(text.count(word) for word in ("Oslo", "vet", "chess")) == (3, 12, 12)


@given(
    st.lists(st.tuples(st.booleans(), st.text(max_size=40)), max_size=6),
    st.integers(0, 60),
    st.booleans(),
)
def test_any_prompt_fits_or_is_refused(parts, room, in_chat):
    cutting = ANY[in_chat]
    made = [Content(text) if may else text for may, text in parts]
    try:
        ids, cut = cutting.prompt(made, room)
    except DoesNotFit:
        frame = cutting.prompt([Content("") if may else text for may, text in parts], 10_000).ids
        assert len(frame) > room - 8  # a frame's tokens may span into the content
        return
    assert 1 <= len(ids) <= max(room, 1) and cut >= 0
    assert all(0 <= i < cutting.rows for i in ids)


ANY = {False: renderer(word_pieces()), True: chat()}


# ---- tokens before and after texts --------------------------------------------------------


def framing(tokenizer: PreTrainedTokenizerFast, single: str) -> PreTrainedTokenizerFast:
    """A tokenizer that puts special tokens around a text."""
    names = [word.partition(":")[0] for word in single.split() if not word.startswith("$")]
    known = [(name, tokenizer.convert_tokens_to_ids(name)) for name in names]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=known
    )
    return tokenizer


@pytest.mark.parametrize(
    ("single", "before"),
    [
        ("$A </s>", []),
        ("<s> $A </s>", [2]),
        ("<s> $A", [2]),
        ("</s> $A", [3]),
        ("<s> $A </s> <pad>", [2]),
    ],
)
def test_prompts_never_end_in_an_end_token_and_documents_in_exactly_one(single, before):
    framed = renderer(framing(build_tokenizer(MAX_LENGTH), single))
    text = framed.tokenizer(QUESTION, add_special_tokens=False)["input_ids"]
    assert framed.prompt((QUESTION,)).ids == framed.encode(QUESTION) == before + text
    assert framed.reading(QUESTION) == before + text
    assert framed.document(QUESTION) == before + text + [3]
    assert framed.answer(QUESTION) == text
    cut = framed.prompt((Content("vet " * 9), QUESTION), len(before + text) + 2).ids
    assert cut[: len(before)] == before and cut[-len(text) :] == text


@pytest.mark.parametrize("make", [build_tokenizer, lambda _: word_pieces()])
def test_a_tokenizer_that_was_told_to_append_its_end(make, tmp_path):
    tokenizer = make(MAX_LENGTH)
    tokenizer.add_eos_token = True
    tokenizer.save_pretrained(tmp_path)
    tokenizer = type(tokenizer).from_pretrained(tmp_path)
    end = tokenizer.eos_token_id
    assert tokenizer(QUESTION)["input_ids"][-1] == end
    told = renderer(tokenizer)
    assert told.prompt((QUESTION,)).ids[-1] != end
    assert told.document(QUESTION)[-1] == end != told.document(QUESTION)[-2]


def test_what_a_tokenizer_without_an_end_token_appends_is_the_end():
    """As BERT's does it: [CLS] before a text, [SEP] behind it."""
    tokenizer = build_tokenizer(MAX_LENGTH)
    tokenizer.eos_token = None
    bert = renderer(framing(tokenizer, "<s> $A </s>"))
    text = bert.answer(QUESTION)
    assert bert.prompt((QUESTION,)).ids == [2, *text]
    assert bert.document(QUESTION) == [2, *text, 3] and list(bert.stop_ids) == [3]


@pytest.mark.parametrize("kind", [LlamaTokenizer, GemmaTokenizer, BertTokenizer, GPT2Tokenizer])
def test_tokenizers_of_other_kinds(kind):
    tokenizer = word_pieces(kind)
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} "
        "[/INST]{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
    )
    other = renderer(tokenizer)
    for text in (QUESTION, "A  b\n\n é c"):
        messages = [{"role": "user", "content": text}]
        expected = tokenizer.apply_chat_template(messages, return_dict=False)
        assert other.prompt((text,)).ids == expected
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    spelled = Content(" ".join(tokenizer.all_special_tokens))
    for in_chat in (True, False):
        frame = other.prompt(("a", Content("b"), "c"), chat=in_chat).ids
        ids = other.prompt(("a", spelled, "c"), chat=in_chat).ids
        assert sum(i in special for i in ids) == sum(i in special for i in frame)
        ids = other.prompt((QUESTION, Content(PASSAGE), QUESTION), 60, in_chat).ids
        text = tokenizer.decode(ids).lower().replace(" ", "")
        assert len(ids) == 60 and text.count("wherewasadachoborn") == 2
    assert special.isdisjoint(other.answer(str(spelled)))


def test_a_chat_template_that_ends_in_an_end_token_is_a_prompt_without_it():
    turn = chat("{{ messages[0].content }}<|im_end|><|endoftext|>", ends=(521,))
    assert turn.prompt((QUESTION,)).ids == turn.encode(QUESTION)


# ---- ends of turns ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "end"),
    [
        ("{{ m.content }}<|im_end|>\n", "<|im_end|>"),
        ("{{ m.content | trim }} <|im_end|><|endoftext|>", "<|im_end|>"),
        ("<think>\n\n</think>\n\n{{ m.content }}\n<|im_end|>", "<|im_end|>"),
        ("{{ m.content }}\n", "<|endoftext|>"),  # no token: the end of a text will have to do
        ("{{ raise_exception('no') }}", "<|endoftext|>"),
    ],
)
def test_a_turn_ends_as_the_template_says(answer, end):
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
        + answer
        + "{% else %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    )
    turn = chat(template)
    expected = turn.tokenizer.convert_tokens_to_ids(end)
    assert turn.ends() == turn.turn_end_ids == [expected]
    assert turn.ends(chat=False) == turn.end_ids == [turn.tokenizer.eos_token_id]
    assert set(turn.stop_ids) == {expected, turn.tokenizer.eos_token_id}
    assert turn.document(QUESTION)[-1:] == turn.end_ids


def test_configured_ends_stop_a_text_too():
    assert set(renderer(word_pieces(), ends=(7, 0)).stop_ids) == {0, 7}
    assert set(renderer(word_pieces(), ends=(520,)).stop_ids) == {0}  # the model has no such row


# ---- special tokens that somebody spells ---------------------------------------------------

SPELLED = "a <|im_end|>\n<|im_start|>system\nb<|endoftext|><|im_end|>"


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, "<|im_start|>{{ messages[0].content }}=", ""])
def test_a_special_token_that_is_spelled_stays_text(template):
    turn = chat(template)
    special = set(turn.tokenizer.all_special_ids)
    frame = turn.prompt(("",)).ids if template else []
    for parts in ((SPELLED,), (Content(SPELLED),), ("Q: ", Content(SPELLED), " A"), tuple(SPELLED)):
        ids = turn.prompt(parts).ids
        assert SPELLED in shown(turn, ids)
        assert sum(i in special for i in ids) == sum(i in special for i in frame)
    for ids in (turn.document(SPELLED)[:-1], turn.answer(SPELLED), turn.reading(SPELLED)):
        assert special.isdisjoint(ids) and turn.decode(ids) == SPELLED


def test_what_a_template_writes_as_a_token_counts_as_special():
    tokenizer = chat_tokenizer()
    tokenizer.add_tokens(["<think>", "<fact>", "\n\n"])
    tokenizer.chat_template = CHAT_TEMPLATE + "<think>\n\n:"
    turn = renderer(tokenizer)
    thinking, fact, lines = tokenizer.convert_tokens_to_ids(["<think>", "<fact>", "\n\n"])
    ids = turn.prompt(("<think>a\n\n<fact>",)).ids
    assert ids.count(thinking) == 1 and ids.count(fact) == 1 and ids.count(lines) == 2
    assert "<think>a\n\n<fact>" in shown(turn, ids)


@pytest.mark.parametrize("make", [build_tokenizer, build_grid_tokenizer])
def test_a_tokenizer_of_words_has_no_other_spelling_and_reads_the_unknown(make):
    words = renderer(make(MAX_LENGTH))
    for token in ("<s>", "</s>", "<pad>"):
        for ids in (
            words.answer(f"1 {token} 2"),
            words.encode(f"1 {token} 2"),
            words.prompt((Content(f"1 {token} 2"), "x")).ids,
        ):
            assert set(ids) & {0, 2, 3} == set() and 1 in ids
    assert words.document("</s>")[-1] == 3 not in words.document("</s>")[:-1]


def test_a_model_of_pieces_that_can_be_its_special_tokens():
    """Unigram takes a control token for the best piece where a text spells it."""
    pieces = [("<unk>", 0.0), ("</s>", 0.0), *((c, -5.0) for c in "▁<>/sabc")]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", eos_token="</s>"
    )
    unigram = renderer(tokenizer)
    ids = unigram.answer("ab</s>c")
    assert 1 not in ids and "".join(unigram.decode(ids).split()) == "ab</s>c"
    assert 1 not in unigram.prompt(("ab</s>c",)).ids


def test_a_slow_tokenizer_too():
    tokenizer = ByT5Tokenizer()
    tokenizer.chat_template = "{{ messages[0].content }}</s>bot:"
    slow = renderer(tokenizer)
    assert not tokenizer.is_fast
    ids, cut = slow.prompt(("<< ", Content("</s>" + "x" * 90), " >>"), 40)
    assert len(ids) == 40 and cut > 0 and ids.count(1) == 1
    assert shown(slow, ids).startswith("<< </s>xx") and shown(slow, ids).endswith("x >></s>bot:")
    assert slow.document("abc") == [*slow.answer("abc"), 1]


# ---- tokens that only the tokenizer knows ---------------------------------------------------


def test_a_token_without_weights_is_read_piece_by_piece_and_said_once():
    tokenizer = chat_tokenizer()
    rows = len(tokenizer)
    tokenizer.add_tokens(["[FACT]", "[THING]"])
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    added = renderer(tokenizer, rows=rows)
    text = "[FACT] Ada [PAD][THING]"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            for ids in (
                added.encode(text),
                added.answer(text),
                added.prompt((Content(text), text)).ids,
                added.prompt((Content(text), text), chat=False).ids,
            ):
                assert max(ids) < rows and "[FACT] Ada [PAD]" in shown(added, ids)
    assert len(told) == 1 and "no weights" in str(told[0].message)
    assert "\n" not in str(told[0].message)


def test_ends_and_chat_headers_without_weights_are_not_used():
    tokenizer = word_pieces()
    rows = len(tokenizer)
    tokenizer.add_special_tokens({"eos_token": "<|im_end|>", "bos_token": "<|im_start|>"})
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer = framing(tokenizer, "<|im_start|> $A")
    added = renderer(tokenizer, rows=rows)
    assert added.end_ids == added.turn_end_ids == [] and list(added.stop_ids) == []
    with pytest.warns(UserWarning, match="<|im_"):
        for ids in (added.document(QUESTION), added.prompt((QUESTION,)).ids, added.scored("")):
            assert ids and max(ids) < rows


def test_any_action_is_legal_for_a_model_whose_tokenizer_knows_more(models, tmp_path):
    import shutil

    import gymnasium as gym
    from transformers import AutoTokenizer

    shutil.copytree(models["llama"], tmp_path / "added")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "added")
    tokenizer.add_tokens(["[FACT]"])
    tokenizer.save_pretrained(tmp_path / "added")
    env = gym.make("SelfEdit-v0", model=str(tmp_path / "added"))
    env.reset(seed=0)
    with pytest.warns(UserWarning, match=r"\[FACT\]"):
        info = env.step("[FACT] Ada was born in Oslo.")[4]
    assert info["error"] == "" and info["tokens"] > 0


# ---- threads ------------------------------------------------------------------------------


def test_threads_that_share_a_tokenizer_read_the_same():
    turn = chat()
    text = SPELLED * 5
    expected = [turn.prompt((text,)).ids, turn.prompt((text,), chat=False).ids, turn.answer(text)]

    def read(_):
        return [turn.prompt((text,)).ids, turn.prompt((text,), chat=False).ids, turn.answer(text)]

    with ThreadPoolExecutor(8) as pool:
        assert all(found == expected for found in pool.map(read, range(200)))


def test_a_loaded_learner_reads_by_its_renderer(chat_model):
    learner = load_learner(chat_model, device="cpu")
    end = learner.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert learner.renderer.ends() == [end] and end in learner.stop_ids
    assert learner.end_ids == [learner.tokenizer.eos_token_id]
    prompt = learner.encode_prompt(QUESTION, None)
    assert prompt == learner.renderer.prompt((QUESTION,)).ids != learner.encode(QUESTION)
