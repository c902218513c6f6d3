"""The gate before scoring: each code for its reason, the first that applies, and no other."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from differnet_runtime.config.models import IntegrityConfig
from differnet_runtime.inspection.image_checks import (
    AppearanceLimits,
    IntegrityGate,
    Look,
    appearance_of,
    look,
)
from differnet_runtime.inspection.preprocess import preprocess
from differnet_runtime.model_file.contract import InputContract, PictureSizes
from differnet_runtime.model_file.metadata import Appearance, ModelMetadata
from differnet_runtime.records import Decision, Frame, Verdict
from tests.drawn import draw_part

SECOND_NS = 1_000_000_000
GOOD = Appearance(darkest=100, brightest=140, softest=0.004, images=1000)
Check = Callable[..., str | None]
Picture = NDArray[np.uint8]


def part(seed: int = 0, size: int = 64) -> Picture:
    """Draws a part; another seed is the same one with other noise."""
    noise = np.random.RandomState(seed).normal(0, 3, (size, size, 3))
    return np.clip(draw_part(1, size=size) + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def made(metadata: ModelMetadata) -> Callable[..., IntegrityGate]:
    def make(
        *,
        good: Appearance | None = GOOD,
        live: bool = True,
        stale_after_s: float = 1.0,
        sizes: PictureSizes | None = None,
        **config: Any,
    ) -> IntegrityGate:
        model = metadata.replaced(
            input=InputContract(size=64), appearance=good, picture_sizes=sizes
        )
        return IntegrityGate(
            IntegrityConfig(**config), model, live=live, stale_after_s=stale_after_s, one_size=True
        )

    return make


def decide(
    gate: IntegrityGate,
    image: Picture,
    at_s: float = 0.0,
    *,
    age_s: float = 0.0,
    damage: str | None = None,
    unchanged_s: float = 0.0,
) -> Decision | None:
    """Shows a gate one picture, captured at `at_s` and checked `age_s` later."""
    captured_ns = round(at_s * SECOND_NS)
    frame = Frame(image, "camera#0", 0, captured_ns, 0.0, None, damage, unchanged_s)
    prepared = preprocess(image, InputContract(size=64))
    return gate.check(frame, prepared, captured_ns + round(age_s * SECOND_NS))


def code(*arguments: object, **options: object) -> str | None:
    decision = decide(*arguments, **options)  # type: ignore[arg-type]
    if decision is None:
        return None
    assert decision.verdict is Verdict.NO_DECISION
    assert decision.reason
    return decision.code


def test_a_sound_frame_may_be_scored(made: Callable[..., IntegrityGate]) -> None:
    gate = made()
    assert [code(gate, part(k), k / 10) for k in range(200)] == [None] * 200


def test_a_frame_is_stale_when_it_is_older_than_allowed(
    made: Callable[..., IntegrityGate],
) -> None:
    gate = made(stale_after_s=1.0)
    assert code(gate, part(1), 5.0, age_s=1.0) is None
    assert code(gate, part(2), 6.0, age_s=1.001) == "stale"
    assert code(gate, part(3), 7.0, age_s=0.0) is None


def test_a_damaged_frame_says_why(made: Callable[..., IntegrityGate]) -> None:
    decision = decide(made(), part(), damage="a packet was lost before it")
    assert decision == Decision(Verdict.NO_DECISION, "a packet was lost before it", "damaged")


class TestSize:
    def test_it_must_stay_that_of_the_first_frame_that_could_be_judged(
        self, made: Callable[..., IntegrityGate]
    ) -> None:
        gate = made()
        assert code(gate, part(1, size=128), damage="lost") == "damaged"
        assert code(gate, part(2), 1.0) is None
        assert code(gate, part(3, size=128), 2.0) == "wrong_size"
        assert code(gate, part(4)[:, :60], 3.0) == "wrong_size"
        assert code(gate, part(5), 4.0) is None

    def test_the_reason_names_both(self, made: Callable[..., IntegrityGate]) -> None:
        gate = made()
        decide(gate, part(1))
        decision = decide(gate, part(2)[:48], 1.0)
        assert decision is not None
        assert "64 x 48 pixels, those before had 64 x 64" in str(decision.reason)

    def test_the_model_knows_it_before_the_first_frame(
        self, made: Callable[..., IntegrityGate]
    ) -> None:
        """A camera that wakes at another resolution is judged as soon as it gives its own."""
        gate = made(sizes=PictureSizes.of([(64, 64)] * 40))
        pictures = [part(1, size=32), part(2, size=32), part(3), part(4, size=32), part(5)]
        found = [code(gate, picture, k) for k, picture in enumerate(pictures)]
        assert found == ["wrong_size", "wrong_size", None, "wrong_size", None]

    def test_mixed_sizes_that_the_model_learned_from_are_accepted(
        self, made: Callable[..., IntegrityGate]
    ) -> None:
        gate = made(sizes=PictureSizes.of([(64, 64), (80, 80)] * 20))
        found = [code(gate, part(k, size=size), k) for k, size in enumerate((80, 64, 72, 80))]
        assert found == [None, None, "wrong_size", None]

    @pytest.mark.parametrize("known", [None, PictureSizes.of([(64, 64)])])
    def test_every_size_can_be_accepted(
        self, known: PictureSizes | None, made: Callable[..., IntegrityGate]
    ) -> None:
        gate = made(sizes=known, size="any")
        assert [code(gate, part(k, size=40 + k), k) for k in range(4)] == [None] * 4


class TestFrozen:
    def test_a_picture_that_has_not_changed_for_its_time_is_frozen(
        self, made: Callable[..., IntegrityGate]
    ) -> None:
        gate = made(frozen_after_s=2.0)
        found = [code(gate, part(7), unchanged_s=s) for s in (0, 1.9, 2.0, 60, 0)]
        assert found == [None, None, "frozen", "frozen", None]

    def test_the_first_frame_that_is_judged_may_be_frozen(
        self, made: Callable[..., IntegrityGate]
    ) -> None:
        assert code(made(frozen_after_s=2.0), part(), unchanged_s=2.0) == "frozen"

    def test_two_frames_that_are_alike_and_far_apart_say_nothing(
        self, made: Callable[..., IntegrityGate]
    ) -> None:
        """Between them the camera gave others."""
        gate = made(frozen_after_s=2.0)
        assert [code(gate, part(), at_s) for at_s in (0, 60)] == [None, None]

    @pytest.mark.parametrize("never", [{"live": False}, {"frozen_after_s": 0.0}])
    def test_files_do_not_freeze_and_it_can_be_switched_off(
        self, never: dict[str, float], made: Callable[..., IntegrityGate]
    ) -> None:
        assert code(made(**never), part(), unchanged_s=1000) is None


class TestLook:
    def test_brightness_is_the_mean_grey_level(self) -> None:
        assert look(np.full((64, 64, 3), 77, np.uint8)) == Look(77.0, 0.0)
        assert look(np.zeros((64, 64, 4), np.uint8)) == Look(0.0, 0.0)

    def test_a_fourth_channel_does_not_count(self) -> None:
        picture = part()
        noise = np.random.RandomState(0).randint(0, 256, (64, 64, 1)).astype(np.uint8)
        assert look(np.concatenate([picture, noise], axis=2)) == look(picture)

    @pytest.mark.parametrize("noise", [0, 6])
    def test_sharpness_falls_with_every_step_of_blur(self, noise: int) -> None:
        random, picture = np.random.RandomState(0), part(size=256).astype(np.float32)
        found = []
        for sigma in (0.3, 1, 2, 3, 5, 8):
            seen = cv2.GaussianBlur(picture, (0, 0), sigma) + random.normal(0, noise, picture.shape)
            found.append(look(seen.clip(0, 255).astype(np.uint8)).sharpness)
        assert found == sorted(found, reverse=True)
        assert found[3] < found[0] / 5

    @given(gain=st.floats(0.4, 1.2))
    def test_sharpness_does_not_depend_on_exposure(self, gain: float) -> None:
        picture = draw_part(1, size=64).astype(np.float32)
        exposed = (picture * gain).round().astype(np.uint8)
        assert look(exposed).sharpness == pytest.approx(
            look(picture.astype(np.uint8)).sharpness, rel=0.05
        )

    def test_sharpness_does_not_depend_on_the_pictures_size(self) -> None:
        random = np.random.RandomState(3)
        small = random.randint(60, 200, (128, 128, 3)).astype(np.uint8)
        tiled = np.tile(small, (2, 2, 1))
        assert look(tiled).sharpness == pytest.approx(look(small).sharpness, rel=0.03)

    def test_the_appearance_reaches_beyond_the_tenth_farthest_out(self) -> None:
        looks = [Look(100.0 + k, 0.02 * 1.1**k) for k in range(-10, 11)]
        found = appearance_of(looks)
        assert found.darkest == pytest.approx(100 * (92 / 100) ** 3)
        assert found.brightest == pytest.approx(255 - 155 * (147 / 155) ** 3)
        assert found.softest == pytest.approx(0.02 * 1.1 ** (-8 * 3))
        assert found.images == 21

    def test_a_few_wrong_pictures_hardly_change_the_appearance(self) -> None:
        random = np.random.RandomState(0)
        good = [Look(100 + 5 * a, 0.02 * np.exp(0.1 * b)) for a, b in random.randn(57, 2)]
        clean = AppearanceLimits.choose(IntegrityConfig(), appearance_of(good))
        wrong = [Look(0.5, 0.0), Look(254.0, 1e-5), Look(100.0, 1e-4)]
        found = AppearanceLimits.choose(IntegrityConfig(), appearance_of([*good, *wrong]))
        assert found.sharpness == pytest.approx(clean.sharpness, rel=0.25)
        assert wrong[0].brightness < found.black
        assert wrong[1].brightness > found.blown
        assert wrong[2].sharpness < found.sharpness


class TestLimits:
    def test_black_and_blown_out(self, made: Callable[..., IntegrityGate]) -> None:
        gate = made(sharpness=0.0)
        levels = [0, 5, 11, 12, 30, 225, 226, 255]
        found = [code(gate, np.full((64, 64, 3), level, np.uint8), level) for level in levels]
        assert found == ["black"] * 3 + [None] * 3 + ["blown_out"] * 2

    def test_a_blurred_picture(self, made: Callable[..., IntegrityGate]) -> None:
        good = [part(k, size=256) for k in range(50)]
        gate = made(good=appearance_of([look(picture) for picture in good]))
        for k, picture in enumerate(good):
            soft = cv2.GaussianBlur(picture, (0, 0), 12.0)
            assert code(gate, picture, 2 * k) is None
            assert code(gate, soft, 2 * k + 1) == "blurred"

    @pytest.mark.parametrize("spread", [0.02, 0.1, 0.4])
    @pytest.mark.parametrize("count", [10, 40, 300])
    def test_no_picture_that_they_come_from_is_outside(self, count: int, spread: float) -> None:
        for seed in range(20):
            random = np.random.RandomState(seed)
            factors = np.exp(spread * random.standard_normal((count, 2)))
            looks = [Look(min(50 * a, 220.0), 0.01 * b) for a, b in factors]
            limits = AppearanceLimits.choose(IntegrityConfig(), appearance_of(looks))
            for one in looks:
                assert limits.black <= one.brightness <= limits.blown
                assert limits.sharpness <= one.sharpness

    def test_few_pictures_leave_more_room(self) -> None:
        few = AppearanceLimits.choose(IntegrityConfig(), GOOD.model_copy(update={"images": 20}))
        many = AppearanceLimits.choose(IntegrityConfig(), GOOD)
        assert few.sharpness == pytest.approx(GOOD.softest / 3)
        assert many.sharpness == pytest.approx(GOOD.softest / 2, rel=0.02)

    def test_a_dark_scene_is_not_black(self) -> None:
        good = Appearance(darkest=6, brightest=9, softest=0, images=30)
        assert AppearanceLimits.choose(IntegrityConfig(), good).black == 3.0

    def test_a_model_that_knows_no_pictures_has_fixed_ones_and_no_sharpness(self) -> None:
        assert AppearanceLimits.choose(IntegrityConfig(), None) == AppearanceLimits(8.0, 247.0, 0.0)

    def test_the_station_has_the_last_word(self) -> None:
        config = IntegrityConfig(black=1.0, blown=254.0, sharpness=0.5)
        assert AppearanceLimits.choose(config, GOOD) == AppearanceLimits(1.0, 254.0, 0.5)
        assert AppearanceLimits.choose(
            IntegrityConfig(black=0.0, sharpness=0.0), GOOD
        ) == AppearanceLimits(0.0, 225.0, 0.0)


def test_the_cause_comes_before_its_consequences(made: Callable[..., IntegrityGate]) -> None:
    """A covered lens is black, not frozen; an old frame is stale, whatever it shows."""
    gate, black = made(frozen_after_s=1.0), np.zeros((64, 64, 3), np.uint8)
    assert code(gate, black, unchanged_s=5.0) == "black"
    assert code(gate, black, unchanged_s=5.0, damage="lost") == "damaged"
    assert code(gate, black, unchanged_s=5.0, damage="lost", age_s=2.0) == "stale"
