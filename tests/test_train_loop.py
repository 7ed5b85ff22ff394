"""The loop: repeats itself to the bit, goes on to the bit, learns, and says what is wrong."""

from __future__ import annotations

import csv
import shutil
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from toy_crops import toy_data, toy_recipe

from defocus_ds.errors import ConfigError, DatasetError, InputError
from defocus_ds.store import sha256_file
from defocus_ds_train import loop
from defocus_ds_train.begin import resume_notes, start_notes
from defocus_ds_train.checkpoint import RunFolder, load_model, weights_record
from defocus_ds_train.data.source import TrainingData
from defocus_ds_train.failures import Diverged, OutOfMemory
from defocus_ds_train.loop import fit
from defocus_ds_train.losses import LossTerms, l1_q_loss, training_q
from defocus_ds_train.records import EpochReport, FitResult, StepReport

TIMES = ("crops_per_s", "seconds_left")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def table(run: Path) -> list[dict[str, str]]:
    """metrics.csv without what the clock decides."""
    with (run / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


def assert_same_run(one: Path, other: Path) -> None:
    """Weights, optimiser, state and table agree to the bit."""
    for name in ("best.safetensors", "last.safetensors", "recipe.toml", "run.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    a, b = RunFolder(one).load_state(), RunFolder(other).load_state()
    assert a is not None
    assert b is not None
    assert_equal(a, b)
    assert table(one) == table(other)


def assert_equal(a: object, b: object) -> None:
    if isinstance(a, dict):
        assert isinstance(b, dict)
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, torch.Tensor):
        assert isinstance(b, torch.Tensor)
        assert torch.equal(a, b)
    elif isinstance(a, list | tuple):
        assert isinstance(b, list | tuple)
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    else:
        assert a == b


def test_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert fit(toy_recipe(epochs=1), toy_data(), tmp_path / name, device="cpu").finished
    assert_same_run(tmp_path / "a", tmp_path / "b")


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    for seed in (0, 1):
        fit(toy_recipe(epochs=1, seed=seed), toy_data(), tmp_path / str(seed), device="cpu")
    one, other = ((tmp_path / str(s) / "last.safetensors").read_bytes() for s in (0, 1))
    assert one != other


class Stopper:
    """Presses Ctrl-C when the report of a step arrives; the next step is the last."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, report: StepReport | EpochReport) -> None:
        if isinstance(report, StepReport) and report.step == self.step:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("stop_after", "settings"), [(5, {}), (7, {}), (10, {"beta": 0.1, "accumulate": 2})]
)
def test_ten_steps_are_five_and_five_after_ctrl_c(
    tmp_path: Path, stop_after: int, settings: dict[str, float]
) -> None:
    recipe = toy_recipe(log_every=1, **settings)
    fit(recipe, toy_data(), tmp_path / "whole", device="cpu")
    run = tmp_path / "parts"
    first = fit(recipe, toy_data(), run, device="cpu", watch=Stopper(stop_after - 1))
    assert not first.finished
    assert first.steps == stop_after
    second = fit(recipe, toy_data(), run, device="cpu")
    assert second.finished
    assert_same_run(tmp_path / "whole", run)


class Crashed(Exception):
    pass


def test_a_crash_loses_only_the_steps_since_the_last_state(tmp_path: Path) -> None:
    recipe = toy_recipe(save_every=2, log_every=3)
    fit(recipe, toy_data(), tmp_path / "whole", device="cpu")
    run = tmp_path / "parts"
    for crash_at, saved in ((3, 2), (13, 11)):

        def crash(report: StepReport | EpochReport, at: int = crash_at) -> None:
            if report.step == at:
                raise Crashed

        with pytest.raises(Crashed):
            fit(recipe, toy_data(), run, device="cpu", watch=crash)
        state = RunFolder(run).load_state()
        assert state is not None
        assert state["epoch"] * 7 + state["step"] == saved
    assert fit(recipe, toy_data(), run, device="cpu").finished
    assert_same_run(tmp_path / "whole", run)


def test_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    recipe = toy_recipe(epochs=1)
    first = fit(recipe, toy_data(), tmp_path, device="cpu")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.name != ".lock"}
    again = fit(recipe, toy_data(), tmp_path, device="cpu")
    assert again == first
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.name != ".lock"} == before


@dataclass(frozen=True)
class Learned:
    """A run long enough to sharpen, its data, and its reports of epochs."""

    run: Path
    data: TrainingData
    result: FitResult
    epochs: list[EpochReport]


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Learned:
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("learned") / "l1"
    data = toy_data(120, validation=16)
    seen: list[EpochReport] = []
    recipe = toy_recipe(width=8, epochs=12, batch=8, first_rate=5e-3, start="identity")
    result = fit(
        recipe,
        data,
        run,
        device="cpu",
        watch=lambda r: seen.append(r) if isinstance(r, EpochReport) else None,
    )
    return Learned(run, data, result, seen)


def test_learns_to_sharpen(learned: Learned) -> None:
    """5x5 averages of unseen crops come back at least 1 dB closer to their sharp originals."""
    best = learned.result.best
    assert best is not None
    assert best.psnr > best.input_psnr + 1.0


def test_best_is_the_epoch_of_the_lowest_validation_loss(learned: Learned) -> None:
    losses = [report.scores.loss for report in learned.epochs]
    assert len(losses) == 12
    assert learned.result.best_epoch == 1 + losses.index(min(losses))
    assert [r.best for r in learned.epochs] == [
        loss < min(losses[:i], default=1) for i, loss in enumerate(losses)
    ]


def test_scores_are_those_of_the_saved_weights(learned: Learned) -> None:
    data, best = learned.data, learned.result.best
    assert best is not None
    assert data.validation.cache.blurred is not None
    blurred, sharp = (
        torch.from_numpy(pixels[data.validation.index][:, None] / 255).float()
        for pixels in (data.validation.cache.blurred, data.validation.cache.sharp)
    )
    with torch.no_grad():
        restored = load_model(learned.run)(blurred)
    assert float((restored - sharp).abs().mean()) == pytest.approx(best.l1, rel=1e-5)
    assert float(training_q(restored).mean()) == pytest.approx(best.q, rel=1e-4)
    for images, expected in ((restored.clamp(0, 1), best.psnr), (blurred, best.input_psnr)):
        error = (images - sharp).square().mean(dim=(1, 2, 3))
        assert float((-10 * error.log10()).mean()) == pytest.approx(expected, rel=1e-5)


def test_the_q_stage_starts_from_the_best_weights_and_raises_q(
    learned: Learned, tmp_path: Path
) -> None:
    recipe = toy_recipe(width=8, epochs=3, batch=8, beta=0.05, start="best", first_rate=1e-3)
    result = fit(recipe, learned.data, tmp_path / "q", device="cpu", start=learned.run)
    assert learned.result.best is not None
    assert result.best is not None
    assert result.best.q > 1.1 * learned.result.best.q
    assert result.best.psnr > result.best.input_psnr
    with (tmp_path / "q/metrics.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    # the first steps are as good as the l1 run ended, and not as bad as one from scratch begins
    assert float(first["l1"]) < 1.3 * learned.epochs[-1].scores.l1


def test_first_weights_are_asked_for_exactly_where_they_are_needed(
    learned: Learned, tmp_path: Path
) -> None:
    recipe = toy_recipe(width=8, beta=0.5, start="best")
    with pytest.raises(ConfigError, match="give --from RUN"):
        fit(recipe, learned.data, tmp_path / "a", device="cpu")
    with pytest.raises(InputError, match=r"no best\.safetensors"):
        fit(recipe, learned.data, tmp_path / "b", device="cpu", start=tmp_path)
    with pytest.raises(ConfigError, match="leave --from"):
        fit(toy_recipe(), learned.data, tmp_path / "c", device="cpu", start=learned.run)
    with pytest.raises(ConfigError, match=r"filters \(8,\)"):
        other = toy_recipe(start="best", width=3)
        fit(other, learned.data, tmp_path / "d", device="cpu", start=learned.run)


def test_a_second_stage_does_not_begin_from_another_task(tmp_path: Path) -> None:
    data, q = toy_data(), toy_recipe(start="best", beta=0.1)
    fit(toy_recipe(epochs=1), data, tmp_path / "l1", device="cpu")
    fit(toy_recipe(epochs=1), data, tmp_path / "high", device="cpu")
    for name, changes, words in (
        ("level", {"level": "high"}, "level 'low', the recipe 'high'"),
        ("blur", {"source": "images", "blur": "average", "blur_px": 5.0}, "source 'dataset', the"),
    ):
        with pytest.raises(ConfigError, match=f"weights of recipe toy do not begin toy .*{words}"):
            fit(
                toy_recipe(start="best", beta=0.1, **changes),
                data,
                tmp_path / name,
                device="cpu",
                start=tmp_path / "l1",
            )
    fit(q, data, tmp_path / "q", device="cpu", start=tmp_path / "l1")
    with pytest.raises(ConfigError, match=r"beta 0\.1, the first stage has 0"):
        fit(q, data, tmp_path / "qq", device="cpu", start=tmp_path / "q")
    record = weights_record(tmp_path / "q")
    assert record["start_sha256"] == sha256_file(tmp_path / "l1/best.safetensors")
    assert (record["seed"], record["held_out"], record["precision"]) == (0, 0.02, "fp32")
    assert not any("first weights" in n for n in RunFolder(tmp_path / "q").info()["notes"])


def test_first_weights_that_may_have_seen_what_is_held_out_are_noted(tmp_path: Path) -> None:
    data = toy_data()
    fit(toy_recipe(epochs=1), data, tmp_path / "l1", device="cpu")
    whole = data.validation
    other = replace(data, validation=replace(whole, index=whole.index[whole.index % 2 == 0]))
    q = toy_recipe(start="best", beta=0.1, epochs=1, seed=4)
    (note,) = start_notes(q, other, tmp_path / "l1")
    assert "held out other scenes or images (seed 0, now 4)" in note
    fit(q, other, tmp_path / "q", device="cpu", start=tmp_path / "l1")
    assert note in RunFolder(tmp_path / "q").info()["notes"]


def test_going_on_with_other_threads_or_versions_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(toy_recipe(epochs=1), toy_data(), tmp_path, device="cpu")
    assert resume_notes(RunFolder(tmp_path)) == ()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    (note,) = resume_notes(RunFolder(tmp_path))
    assert "threads 1, now 7: the last bits may differ" in note


@pytest.mark.parametrize("settings", [{"accumulate": 2}, {"channels_last": False}])
def test_parts_and_layout_leave_the_gradient_as_it_is(
    tmp_path: Path, settings: dict[str, int]
) -> None:
    """After one step Adam's first moment is a tenth of the gradient.  Parts have batch statistics
    of their own, hence four times the same crop."""
    data = toy_data(4)
    data.train.index[:] = 0
    moments = []
    for name, changes in (("plain", {}), ("other", settings)):
        fit(toy_recipe(epochs=1, augment=False, **changes), data, tmp_path / name, device="cpu")
        state = RunFolder(tmp_path / name).load_state()
        assert state is not None
        assert (state["epoch"], state["steps_per_epoch"]) == (1, 1)
        moments.append([entry["exp_avg"] for entry in state["optimiser"]["state"].values()])
    assert max(float(m.abs().max()) for m in moments[0]) > 1e-3
    for one, other in zip(*moments, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-6)


def poison(at_call: int) -> object:
    calls = 0

    def loss(restored: torch.Tensor, sharp: torch.Tensor, *, beta: float) -> LossTerms:
        nonlocal calls
        calls += 1
        terms = l1_q_loss(restored, sharp, beta=beta)
        if calls == at_call:
            return LossTerms(terms.total * float("nan"), terms.l1, terms.q)
        return terms

    return loss


def test_a_loss_that_is_not_finite_names_its_step_and_keeps_the_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = toy_recipe(save_every=3, log_every=5)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "l1_q_loss", poison(at_call=4))
        with pytest.raises(Diverged, match=r"not finite at step 4, learning rate 0\.0\d+.*resume"):
            fit(recipe, toy_data(), tmp_path / "run", device="cpu")
    state = RunFolder(tmp_path / "run").load_state()
    assert state is not None
    assert state["step"] == 3
    assert all(value.isfinite().all() for value in state["model"].values())
    fit(recipe, toy_data(), tmp_path / "run", device="cpu")
    fit(recipe, toy_data(), tmp_path / "whole", device="cpu")
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def poisoned_gradient(at_step: int) -> object:
    """The loss is finite, its gradient is not: what the step leaves are weights of NaN."""
    calls = 0

    def loss(restored: torch.Tensor, sharp: torch.Tensor, *, beta: float) -> LossTerms:
        nonlocal calls
        calls += 1
        if calls == at_step:
            restored.register_hook(lambda gradient: gradient * float("nan"))
        return l1_q_loss(restored, sharp, beta=beta)

    return loss


@pytest.mark.parametrize("save_every", [3, 7])
def test_weights_that_are_not_finite_are_never_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_every: int
) -> None:
    """Also where the saving step is the one that spoils them, and at the end of an epoch."""
    monkeypatch.setattr(loop, "l1_q_loss", poisoned_gradient(at_step=save_every))
    with pytest.raises(Diverged, match=f"a weight is not finite at step {save_every}, .*is kept"):
        fit(toy_recipe(save_every=save_every), toy_data(), tmp_path, device="cpu")
    state = RunFolder(tmp_path).load_state()
    assert state is not None
    assert state["step"] == 0
    assert all(value.isfinite().all() for value in state["model"].values())


def test_out_of_memory_names_the_batch_and_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_options: object) -> LossTerms:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(loop, "l1_q_loss", full)
    with pytest.raises(OutOfMemory, match=r"batch = 4 .*accumulate=2 or --set batch=2"):
        fit(toy_recipe(), toy_data(), tmp_path, device="cpu")


def test_going_on_with_other_data_recipe_or_weights_is_refused(tmp_path: Path) -> None:
    fit(toy_recipe(), toy_data(), tmp_path / "run", device="cpu", watch=Stopper(3))
    with pytest.raises(DatasetError, match="begun with other data"):
        fit(toy_recipe(), toy_data(seed=1), tmp_path / "run", device="cpu")
    with pytest.raises(ConfigError, match=r"another recipe \(beta: 0.0 -> 0.1; epochs: 2 -> 3\)"):
        fit(toy_recipe(epochs=3, beta=0.1), toy_data(), tmp_path / "run", device="cpu")
    # how it is computed may change
    assert fit(
        toy_recipe(channels_last=False, log_every=2), toy_data(), tmp_path / "run", device="cpu"
    ).finished


def test_other_starting_weights_on_going_on_are_refused(tmp_path: Path) -> None:
    for seed in (0, 1):
        fit(toy_recipe(epochs=1, seed=seed), toy_data(), tmp_path / f"l1-{seed}", device="cpu")
    recipe = toy_recipe(start="best", beta=0.1)
    run = tmp_path / "q"
    fit(recipe, toy_data(), run, device="cpu", start=tmp_path / "l1-0", watch=Stopper(3))
    with pytest.raises(InputError, match="other weights"):
        fit(recipe, toy_data(), run, device="cpu", start=tmp_path / "l1-1")
    # its own state is enough
    assert fit(recipe, toy_data(), run, device="cpu").finished


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty and not a run"):
        fit(toy_recipe(), toy_data(), tmp_path, device="cpu")


def test_two_trainings_in_one_folder_are_refused(tmp_path: Path) -> None:
    def intrude(_report: StepReport | EpochReport) -> None:
        with pytest.raises(InputError, match="another `train fit`"):
            fit(toy_recipe(), toy_data(), tmp_path, device="cpu")

    assert fit(toy_recipe(epochs=1), toy_data(), tmp_path, device="cpu", watch=intrude).finished


def test_bf16_learns_like_fp32(tmp_path: Path) -> None:
    """Final validation L1 within a tenth: 8 bits of mantissa in the convolutions."""
    data = toy_data(60, validation=12)
    scores = {}
    for precision in ("fp32", "bf16"):
        recipe = toy_recipe(precision=precision, epochs=2, beta=0.01)
        result = fit(recipe, data, tmp_path / precision, device="cpu")
        assert result.precision == precision
        assert result.best is not None
        scores[precision] = result.best.l1
    assert scores["bf16"] == pytest.approx(scores["fp32"], rel=0.1)
    assert scores["bf16"] != scores["fp32"]
    weights = load_model(tmp_path / "bf16").state_dict()
    assert all(w.dtype == torch.float32 for n, w in weights.items() if "tracked" not in n)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_compiled_steps_are_those_of_eager_ones(tmp_path: Path, mode: str) -> None:
    """Adam's first moment after one step, as in the test of parts."""
    if mode == "reduce-overhead" and not torch.cuda.is_available():
        pytest.skip("CUDA graphs need CUDA")
    moments = []
    for compile_mode in ("off", mode):
        recipe = toy_recipe(epochs=1, compile=compile_mode, beta=0.1, precision="fp32")
        fit(recipe, toy_data(4), tmp_path / compile_mode)
        state = RunFolder(tmp_path / compile_mode).load_state()
        assert state is not None
        moments.append([entry["exp_avg"] for entry in state["optimiser"]["state"].values()])
    for one, other in zip(*moments, strict=True):
        assert torch.allclose(one, other, rtol=1e-2, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("settings", [{}, {"precision": "fp16"}, {"accumulate": 2}])
def test_a_gpu_learns_what_a_cpu_learns(
    tmp_path: Path, settings: dict[str, str], learned: Learned
) -> None:
    recipe = toy_recipe(width=8, epochs=12, batch=8, first_rate=5e-3, start="identity", **settings)
    result = fit(recipe, learned.data, tmp_path, device="cuda")
    assert result.best is not None
    assert result.best.psnr > result.best.input_psnr + 1.0


def test_a_run_goes_on_in_the_precision_that_it_chose(tmp_path: Path) -> None:
    recipe = toy_recipe(precision="bf16")
    fit(recipe, toy_data(), tmp_path, device="cpu", watch=Stopper(3))
    assert fit(toy_recipe(), toy_data(), tmp_path, device="cpu").precision == "bf16"


def test_fp16_and_absent_devices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fp16 needs a GPU"):
        fit(toy_recipe(precision="fp16"), toy_data(), tmp_path / "a", device="cpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="device cuda"):
            fit(toy_recipe(), toy_data(), tmp_path / "b", device="cuda")


def test_tensorboard_on_request(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    fit(toy_recipe(epochs=1), toy_data(), tmp_path / "a", device="cpu", tensorboard=True)
    assert list((tmp_path / "a/tensorboard").glob("events.*"))
    fit(toy_recipe(epochs=1), toy_data(), tmp_path / "b", device="cpu")
    assert not (tmp_path / "b/tensorboard").exists()
