"""Models on trial at a fake station."""

from __future__ import annotations

from differnet_runtime.errors import ModelStoreError
from differnet_runtime.web.control import Control
from differnet_runtime.web.model_views import Difference, ShadowView, Side


class FakeTrials(Control):
    """Answers what is asked of models on trial; they see no frame."""

    shadows: dict[str, ShadowView]

    def start_shadow(self, camera: str, model_hash: str) -> ShadowView:
        if model_hash not in {one.hash for one in self.models() if not one.active}:
            raise ModelStoreError(f"{model_hash[:16]} can't be tried on {camera}")
        self.shadows[camera] = ShadowView(
            camera=camera, model=model_hash, since="2026-11-22T08:00:00+00:00", state="running",
            judged=40, skipped=2, agree=39, only_live_rejects=1,
            differing=[
                Difference(
                    id="1", time="2026-11-22T08:05:00+00:00",
                    live=Side(verdict="DEFECT", score=1.6, threshold=1.35),
                    shadow=Side(verdict="GOOD", score=1.1, threshold=1.35),
                )
            ],
        )  # fmt: skip
        return self.shadows[camera]

    def shadow(self, camera: str) -> ShadowView | None:
        return self.shadows.get(camera)

    def stop_shadow(self, camera: str) -> bool:
        return self.shadows.pop(camera, None) is not None

    def shadow_picture(self, camera: str, number: str) -> bytes | None:
        shown = self.jpeg(camera, overlay=False)
        return shown.data if shown and camera in self.shadows and number == "1" else None
