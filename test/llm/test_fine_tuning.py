# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning on a tiny model of random weights: it learns, goes on, merges, answers, and is compared."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import make_tiny_model

from flow_rag_vla.core.goal import GOALS
from flow_rag_vla.llm import errors
from flow_rag_vla.llm.fine_tuning import checkpoint
from flow_rag_vla.llm.fine_tuning.comparing import compare, conversation_of, request_of, schema_of, table
from flow_rag_vla.llm.fine_tuning.conversations import (
    Conversation,
    Turn,
    read_conversations,
    split,
    write_conversations,
)
from flow_rag_vla.llm.fine_tuning.merging import CARD, merge
from flow_rag_vla.llm.fine_tuning.registration import VARIABLE, OwnModel, own_models, register, unregister
from flow_rag_vla.llm.fine_tuning.settings import TrainingSettings
from flow_rag_vla.llm.fine_tuning.tokens import IGNORED, example, padded
from flow_rag_vla.llm.fine_tuning.training import _adapted, load_base, rate_at, steps_of, train
from flow_rag_vla.llm.prompts import make_request
from flow_rag_vla.llm.provider import ProviderSettings
from flow_rag_vla.llm.providers.local import prompt_tokens
from flow_rag_vla.llm.registry import make_provider, provider_names
from flow_rag_vla.llm.request import Message, Sampling, deadline_in
from flow_rag_vla.llm.schemas import TaskPlan
from flow_rag_vla.llm.service import LanguageModel
from flow_rag_vla.llm.translation import TranslatingProvider

QUICK = TrainingSettings(
    rank=8, alpha=32, dropout=0.1, epochs=4, batch=2, accumulate=2, rate=2e-2, longest=400, save_every=2, device="cpu"
)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)


def talk(question, answer):
    return Conversation((Turn("user", question), Turn("assistant", answer)))


LESSONS = [talk(f"do {goal.instruction}", f"{goal.task} {goal.target}") for goal in GOALS]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    # Weights as wide as those of a trained model: the last layer, which an adapter leaves alone, must have a say.
    return make_tiny_model(tmp_path_factory.mktemp("base"), spread=0.4)


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    """A training in one go, its adapter merged."""
    folder = tmp_path_factory.mktemp("training")
    result = train(str(base), LESSONS, folder / "run", QUICK)
    merge(result.adapter, folder / "merged")
    return result, folder / "merged"


def state(folder):
    from safetensors.torch import load_file

    return load_file(folder / "adapter" / "adapter_model.safetensors")


def test_the_loss_goes_down_and_steps_are_counted(trained):
    result, _ = trained
    assert result.steps == len(result.losses) == steps_of(len(LESSONS), QUICK) == 8
    assert result.losses[-1] < 0.6 * result.losses[0]
    assert result.left_out == 0


def test_an_interrupted_training_goes_on_from_its_step_and_ends_with_the_same_weights(trained, base, tmp_path):
    whole, _ = trained
    first = train(str(base), LESSONS, tmp_path, QUICK, stop=lambda: True)
    assert first.steps == 1
    seen = []
    second = train(str(base), LESSONS, tmp_path, QUICK, on_step=lambda step, total, loss: seen.append(step))
    assert seen == list(range(2, 9))
    assert second.losses == pytest.approx(whole.losses, rel=1e-5)
    for name, weight in state(whole.adapter.parent).items():
        torch.testing.assert_close(state(tmp_path)[name], weight, rtol=1e-4, atol=1e-6)
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-000008"], "older checkpoints are gone"
    again = train(str(base), LESSONS, tmp_path, QUICK, on_step=lambda *_: pytest.fail("nothing is left to do"))
    assert again.steps == 8


@pytest.mark.parametrize(
    ("change", "said"),
    [({"rate": 1e-3}, "another settings"), ({"seed": 5}, "another settings"), ({"data": LESSONS[:3]}, "another data")],
)
def test_a_folder_of_another_training_is_refused(base, tmp_path, change, said):
    train(str(base), LESSONS, tmp_path, QUICK, stop=lambda: True)
    data = change.pop("data", LESSONS)
    with pytest.raises(errors.BadRequestError, match=said):
        train(str(base), data, tmp_path, replace(QUICK, **change))


def test_how_often_a_checkpoint_is_written_changes_nothing(base, tmp_path):
    train(str(base), LESSONS, tmp_path, QUICK, stop=lambda: True)
    assert train(str(base), LESSONS, tmp_path, replace(QUICK, save_every=99), stop=lambda: True).steps == 2


def test_layers_that_are_computed_again_give_the_same_losses_and_weights(trained, base, tmp_path):
    whole, _ = trained
    again = train(str(base), LESSONS, tmp_path, replace(QUICK, gradient_checkpointing=True))
    assert again.losses == pytest.approx(whole.losses, rel=1e-5)
    for name, weight in state(whole.adapter.parent).items():
        torch.testing.assert_close(state(tmp_path)[name], weight, rtol=1e-4, atol=1e-6)


def test_a_training_goes_on_with_layers_that_are_computed_again(trained, base, tmp_path):
    whole, _ = trained
    train(str(base), LESSONS, tmp_path, QUICK, stop=lambda: True)
    rest = train(str(base), LESSONS, tmp_path, replace(QUICK, gradient_checkpointing=True))
    assert rest.losses == pytest.approx(whole.losses, rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "times"), [({}, 1), ({"gradient_checkpointing": True}, 2), ({"quantized": True}, 2)]
)
def test_layers_are_computed_again_if_that_is_asked_for_and_always_under_a_quantized_base(base, changes, times):
    # The base itself is not quantized here, which needs a GPU: what is done to it afterwards is the same.
    model, tokenizer = load_base(str(base), QUICK)
    adapted = _adapted(model, replace(QUICK, **changes)).train()
    layers = model.model.layers
    assert [layer.gradient_checkpointing for layer in layers] == [times == 2] * len(layers)
    counted = []
    for layer in layers:
        layer.mlp.register_forward_hook(lambda *_: counted.append(1))
    inputs = padded([example(tokenizer, LESSONS[0])], tokenizer.pad_token_id, "cpu")
    inputs.pop("labels")
    adapted(**inputs).logits.sum().backward()
    assert len(counted) == times * len(layers)
    learned = [weight for weight in adapted.parameters() if weight.requires_grad]
    assert learned and all(weight.grad is not None for weight in learned)


def test_a_base_that_cannot_compute_its_layers_again_is_refused(base, monkeypatch):
    model, _ = load_base(str(base), QUICK)
    monkeypatch.setattr(type(model), "supports_gradient_checkpointing", False)
    with pytest.raises(errors.BadRequestError, match="train without --gradient-checkpointing"):
        _adapted(model, replace(QUICK, gradient_checkpointing=True))


@pytest.mark.parametrize("damage", ["record", "state"])
def test_a_damaged_checkpoint_is_named(base, tmp_path, damage):
    train(str(base), LESSONS, tmp_path, QUICK, stop=lambda: True)
    path = tmp_path / checkpoint.POINTER if damage == "record" else tmp_path / "step-000001" / "state.safetensors"
    path.write_bytes(b"{broken")
    with pytest.raises(errors.BadRequestError, match="remove the folder to begin anew"):
        train(str(base), LESSONS, tmp_path, QUICK)


def test_the_merged_model_says_what_the_adapter_says_and_not_what_the_base_says(trained, base):
    import peft
    from transformers import AutoModelForCausalLM

    result, merged = trained
    tokens = torch.arange(2, 60).reshape(1, -1)
    plain, _ = load_base(str(base), QUICK)
    with torch.inference_mode():
        before = plain(tokens).logits
        adapted = peft.PeftModel.from_pretrained(plain, str(result.adapter)).eval()(tokens).logits
        whole = AutoModelForCausalLM.from_pretrained(merged).eval()(tokens).logits
    torch.testing.assert_close(whole, adapted, rtol=1e-4, atol=1e-4)
    assert (before - adapted).abs().max() > 0.1
    card = json.loads((merged / CARD).read_text())
    assert card["base"] == str(base) and card["difference"] < 1e-3
    with pytest.raises(errors.BadRequestError, match="is there already"):
        merge(result.adapter, merged)
    with pytest.raises(errors.UnknownModelError, match="holds no adapter"):
        merge(merged, merged.parent / "elsewhere")


def test_only_the_answers_are_learned(base):
    _, tokenizer = load_base(str(base), QUICK)
    turns = (Turn("system", "You plan."), Turn("user", "one"), Turn("assistant", "first"), Turn("user", "two"),
             Turn("assistant", "second"))  # fmt: skip
    made = example(tokenizer, Conversation(turns))
    learned = tokenizer.decode([token for token, label in zip(made.tokens, made.labels, strict=True) if label >= 0])
    assert learned == "first</s>second</s>"
    batch = padded([made, example(tokenizer, talk("a", "b"))], tokenizer.pad_token_id, "cpu")
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape
    assert (batch["labels"][1][batch["attention_mask"][1] == 0] == IGNORED).all()


def test_a_lesson_is_asked_in_the_words_in_which_the_provider_asks(base):
    _, tokenizer = load_base(str(base), QUICK)
    request = make_request("open the drawer", deadline_in(9.0), TaskPlan, data=(Message("data", "a <label>", "x"),))
    lesson = conversation_of(request, "answer")
    made = example(tokenizer, lesson)
    asked = prompt_tokens(tokenizer, request)[0].tolist()
    assert list(made.tokens[: len(asked)]) == asked
    assert set(made.labels[: len(asked)]) == {IGNORED} and IGNORED not in made.labels[len(asked) :]


def test_the_registered_model_answers_as_a_provider(trained, tmp_path, monkeypatch):
    _, merged = trained
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert own_models() == {}
    path = register(OwnModel("robot-plans", str(merged), english_only=True), ("rules",))
    assert path.parent == tmp_path and "robot-plans" in provider_names()
    provider = make_provider("robot-plans", ProviderSettings(device="cpu"))
    assert (provider.name, provider.model, provider.english_only) == ("robot-plans", str(merged.resolve()), True)

    async def asked():
        model = LanguageModel(provider)
        try:
            lesson = LESSONS[0].turns[0].content
            return await model.ask(make_request(lesson, deadline_in(120.0), sampling=Sampling(max_tokens=40)))
        finally:
            await model.close()

    try:
        answer = asyncio.run(asked())
        assert answer.provider == "robot-plans" and answer.text
    except errors.TruncatedError:
        pass  # eight steps need not have taught it where to end
    unregister("robot-plans")
    assert "robot-plans" not in provider_names()
    with pytest.raises(errors.UnknownModelError, match="known: none"):
        unregister("robot-plans")


def test_bad_registrations_are_refused_and_broken_files_passed_over(trained, tmp_path, monkeypatch):
    _, merged = trained
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    for name in ("rules", "Upper", "", "../x", "a" * 80):
        with pytest.raises(errors.BadRequestError, match="cannot be a provider's name"):
            register(OwnModel(name, str(merged)), ("rules",))
    with pytest.raises(errors.UnknownModelError, match="holds no model"):
        register(OwnModel("mine", str(tmp_path)))
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "other.json").write_text('{"name": "rules", "folder": "/", "english_only": false}')
    assert own_models() == {}


def test_a_registered_model_that_reads_only_english_is_behind_its_own_translator(trained, tmp_path, monkeypatch):
    _, merged = trained
    monkeypatch.setenv(VARIABLE, str(tmp_path / "models"))
    words = tmp_path / "ko-en"
    words.mkdir()
    monkeypatch.chdir(tmp_path)
    register(OwnModel("small", str(merged), True, "ko-en", "a/hub-id", "kor_Hang eng_Latn"))
    monkeypatch.chdir("/")
    assert own_models()["small"] == OwnModel(
        "small", str(merged.resolve()), True, str(words.resolve()), "a/hub-id", "kor_Hang eng_Latn"
    )
    provider = make_provider("small", ProviderSettings(device="cpu"))
    assert isinstance(provider, TranslatingProvider)
    assert (provider.name, provider.model) == ("small", str(merged.resolve()))
    with pytest.raises(errors.BadRequestError, match="say --english-only too"):
        register(OwnModel("small", str(merged), False, "ko-en"))
    with pytest.raises(errors.BadRequestError, match="name one with --translator"):
        register(OwnModel("small", str(merged), True, "", "ko-en"))


def test_a_registration_of_an_earlier_version_is_still_read(trained, tmp_path, monkeypatch):
    _, merged = trained
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (tmp_path / "old.json").write_text(json.dumps({"name": "old", "folder": str(merged), "english_only": True}))
    assert own_models() == {"old": OwnModel("old", str(merged), english_only=True)}


def test_code_that_comes_with_a_base_is_never_run_and_nobody_is_asked(foreign_model, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_said: pytest.fail("somebody was asked whether it may run"))
    folder, ran = foreign_model
    with pytest.raises(errors.UnknownModelError, match=r"base '.*code of its own, which is never run"):
        load_base(str(folder), TrainingSettings(device="cpu"))
    assert not ran.exists()


def test_two_providers_are_compared_on_the_same_sample():
    rules = make_provider("rules")
    sample = [
        conversation_of(make_request(goal.instruction, deadline_in(9.0), TaskPlan), plan)
        for goal in GOALS[:3]
        for plan in [TaskPlan(steps=[{"task": goal.task, "target": goal.target}], refusal="none", reason="")]
    ]
    assert all(schema_of(one) is TaskPlan for one in sample)
    assert schema_of(LESSONS[0]) is None
    asked = request_of(sample[0], 9.0)
    assert asked.schema is TaskPlan and "JSON" not in asked.messages[0].text and asked.question == GOALS[0].instruction
    sample.append(LESSONS[0])

    class Wrong:
        name, model, deterministic = "wrong", "m", True

        async def answer(self, request, emit=None):
            raise errors.UnsupportedSchemaError("cannot")

        async def close(self):
            pass

    both = asyncio.run(compare(LanguageModel(rules), LanguageModel(Wrong()), sample, 30.0))
    assert (both[0].asked, both[0].valid, both[0].right, both[0].alike) == (4, 4, 3, 0)
    assert (both[1].valid, both[1].right) == (0, 0) and both[1].failed == {"unsupported_schema": 4}
    alike = asyncio.run(compare(LanguageModel(rules), LanguageModel(rules), sample, 30.0))
    assert alike[0].alike == 4
    assert "unsupported_schema 4" in table(both) and "none" in table(alike)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=20))
def test_conversations_survive_their_file_and_the_sample_stays_the_same(tmp_path_factory, pairs):
    path = tmp_path_factory.mktemp("file") / "lessons.jsonl"
    lessons = [talk(question, answer) for question, answer in pairs]
    count = write_conversations(path, lessons)
    found = read_conversations(path)
    assert len(found) == count == len({one.key for one in lessons})
    assert {one.key for one in found} == {one.key for one in lessons}
    seen, kept = split(found, 0.5)
    assert {one.key for one in seen} | {one.key for one in kept} == {one.key for one in found}
    assert split([*found, talk("one more", "x")], 0.5)[1][: len(kept)] == kept


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "lessons.jsonl:2: no conversation"),
        ('{"conversations": 3}', "no conversation"),
        ('{"conversations": []}', "expected an optional system turn"),
        ('{"conversations": [{"role": "user", "content": "x"}]}', "the last of the assistant"),
        ('{"conversations": [{"role": "robot", "content": "x"}]}', "role 'robot'"),
        (
            '{"conversations": [{"role": "user", "content": " "}, {"role": "assistant", "content": "x"}]}',
            "expected words",
        ),
        (
            '{"conversations": [{"role": "user", "content": 3}, {"role": "assistant", "content": "x"}]}',
            "expected words",
        ),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line, said):
    path = tmp_path / "lessons.jsonl"
    path.write_text(f"{LESSONS[0].to_json()}\n{line}\n")
    with pytest.raises(errors.BadRequestError, match=said):
        read_conversations(path)
    path.write_text("\n")
    with pytest.raises(errors.BadRequestError, match="no conversation"):
        read_conversations(path)
    with pytest.raises(errors.BadRequestError, match="cannot be read"):
        read_conversations(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "numbers", [{"rank": 0}, {"epochs": 0}, {"rate": 0.0}, {"dropout": 1.0}, {"device": "tpu"}, {"rate": float("nan")}]
)
def test_settings_out_of_range_are_refused(numbers):
    with pytest.raises(ValueError, match="expected"):
        TrainingSettings(**numbers)


def test_what_cannot_be_trained_says_why(base, tmp_path):
    with pytest.raises(errors.MissingPackageError, match="without --quantized"):
        train(str(base), LESSONS, tmp_path, replace(QUICK, quantized=True))
    with pytest.raises(errors.UnknownModelError, match="neither a folder"):
        train(str(tmp_path), LESSONS, tmp_path, QUICK)
    with pytest.raises(errors.BadRequestError, match="longer than 8 tokens"):
        train(str(base), LESSONS, tmp_path, replace(QUICK, longest=8))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200), st.floats(0.0, 0.9))
def test_the_rate_rises_once_and_never_leaves_its_bounds(total, warm_up):
    used = TrainingSettings(warm_up=warm_up)
    rates = [rate_at(step, total, used) for step in range(total)]
    peak = rates.index(max(rates))
    assert all(0.0 < rate <= used.rate for rate in rates)
    assert rates[: peak + 1] == sorted(rates[: peak + 1]) and rates[peak:] == sorted(rates[peak:], reverse=True)
