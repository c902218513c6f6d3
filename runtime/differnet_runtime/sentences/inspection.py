"""What is said of frames, cameras and engines."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_FRAMES = {
    "frame_stale": "the frame is {age_s:.1f} s old (at most {most_s:g} s): look whether the device "
    "is overloaded, or the camera has stopped",
    "size_unknown": "the picture has {size} pixels, the model knows {known}: set the camera to a "
    "size that the model knows, or train or calibrate with pictures of this one. To accept every "
    'size: size = "any" in the camera\'s integrity table of a station, or '
    "`differnet run --any-size`",
    "size_changed": "the frame has {size} pixels, those before had {before}: set the camera's "
    "resolution back, or restart the station if the change is wanted",
    "picture_black": "the picture is black: its mean is {mean:.1f} of 255, at least {least:.1f} is "
    "expected. Look at the light and the lens cap",
    "picture_blown_out": "the picture is blown out: its mean is {mean:.1f} of 255, at most "
    "{most:.1f} is expected. Look at the exposure and for stray light",
    "picture_frozen": "the camera has given identical pixels for {unchanged_s:.1f} s: it is "
    "frozen, restart it. (A source that has no noise needs frozen_after_s = 0.)",
    "picture_blurred": "the picture is blurred: its sharpness is {sharpness:.3g}, at least "
    "{least:.3g} is expected. Look at the lens (focus, dirt) and for stray light",
    "stream_no_key_frame": "the stream has not given a key frame yet",
    "stream_frames_wait": "more than {most} frames in a row wait for a frame that does not arrive",
    "stream_jumped": "the stream's time stamps jump back; no key frame has come since",
    "stream_gap": "a part of the stream is missing ({passed_ms:.1f} ms between two frames, usually "
    "{usual}); no key frame has come since",
    "stream_after_damage": "no key frame has come since a damaged one ({why})",
    "stream_part_unreadable": "a part of the stream can't be read",
    "score_not_finite": "the score is not finite ({score})",
    "heads_not_finite": "the scores of the heads are not all finite ({scores})",
    "no_threshold": "the model has no threshold; run `differnet calibrate`",
    "threshold_not_finite": "the threshold is not a finite number ({threshold}); run `differnet "
    "calibrate`",
    "score_implausible": "the score {score:.4g} lies far below every good part's (the least "
    "plausible is {least:.4g}): look at the lens, the light and the camera",
    "verdict_late": "the verdict came {late_ms:.0f} ms after its deadline of {deadline_ms} ms",
    "picture_unscorable": "the engine failed {tries} times on this picture, the last time: {why}",
    "no_frame_in_time": "no frame came within {deadline_ms} ms of the command",
    "commands_too_fast": "more commands than max_commands_per_s = {most}: send fewer, or raise it",
    "commands_wait": "{count} commands wait for a verdict already",
    "station_stops": "the station stops",
    "bug": "an unexpected error, a bug: {error}",
}

_CAMERAS = {
    "of_camera": "camera {camera}: {what}",
    "camera_is_starting": "the camera is starting",
    "camera_is_stalled": "the camera is stalled",
    "camera_is_lost": "the camera is lost",
    "camera_not_opening": "{source} does not open for {waited_s:g} s",
    "camera_no_first_frame": "{source} opens, but gives no frame for {waited_s:g} s",
    "camera_no_new_frame": "{source} gives no new frame for {waited_s:g} s",
    "camera_decodes_long": "{source} does not decode a picture for {waited_s:g} s",
    "source_said": "{what} It said: {text}",
    "capture_failed": "the capture of {camera} failed ({error})",
    "capture_process": "the capture process of {camera}",
    "source_ended": "{source}: the source has ended",
    "source_late": "{source}: no new frame for {waited_s:.1f} s",
    "stream_not_opened": "{source}: the stream can't be opened ({why}). Look at address, user, "
    "password and network.",
    "stream_ended": "{source}: the stream stopped giving frames after {frames}. Look at the "
    "camera, its power and network.",
    "stream_slow": "{source}: the frames are {behind_s:.1f} s old when they are read. This machine "
    "decodes them too slowly: ask the camera for a smaller size or rate, or use a pipeline (gst:) "
    "with a hardware decoder.",
    "device_not_opened": "{source}: the camera can't be opened. Look whether it is listed "
    "(`ls /dev/v4l/by-id`), whether another program uses it, and whether you may read it (group "
    "video)",
    "device_late": "{source}: no new frame for {waited_s:.1f} s after {frames} frames. Look at the "
    "camera and its network, then open it again.",
    "device_ended": "{source}: the camera stopped giving frames after {frames}. Look at its cable, "
    "power and network, then open it again.",
    "pipeline_not_started": "{source}: the pipeline can't be started ({why}).",
    "pipeline_ended": "{source}: the pipeline stopped giving frames after {frames}",
    "folder_unreadable": "{folder}: {why}. Look whether it is there, mounted, and may be read.",
    "setting_other": "{name} {requested:g} was asked for, the camera reports {actual}",
    "setting_automatic": "the driver does not switch off automatic {name}",
    "setting_absent": "the camera reports no {name}",
    "setting_refused": "the driver refuses {name} {requested:g}",
    "pixel_format_other": "pixel format {requested!r} was asked for, the camera reports {actual}",
    "decoder_blind": "frames that were decoded only in part are not recognised, since PyAV is not "
    "installed; install it: {command}",
    "source_missing": "{source!r} does not exist. A source is {kinds}",
}

_ENGINES = {
    "engine_late": "the engine gave no score within the deadline",
    "engine_on_earlier": "the engine still works on an earlier frame",
    "engine_hangs": "the engine hangs on a frame",
    "engine_not_loaded": "the model was not loaded within {waited_s:g} s",
    "engine_busy": "the engine was busy with other cameras for {waited_s:g} s",
    "engine_was_stopped": "the engine was stopped",
    "engine_stopped_early": "the engine was stopped while it started",
    "engine_is_starting": "the engine is starting",
    "engine_is_ready": "the engine is ready",
    "engine_is_restarting": "the engine is restarting",
    "engine_is_failed": "the engine is failed",
    "engine_is_stopped": "the engine is stopped",
    "engine_is_no_model": "the engine is no_model",
    "engine_of_others": "the model of camera {camera} does not judge yet",
    "engine_process": "the engine process",
    "engine_falls_back": "{backend} runs: {why}",
    "process_ended": "{process} ended with code {status}",
    "process_killed": "{process} was ended by {signal}",
    "process_closed": "{process} closed its channel",
    "it_said": "it said: {text}",
    "gpu_unused": "there is {gpu}, but the CPU runs the model ({why}). `differnet doctor` and, for "
    "a service, `differnet doctor --unit` say what is missing. If this is intended, set backend = "
    "{cpu!r} in [model].",
    "install": "Install it with `{command}`.",
    "tensorrt_missing": "TensorRT is not installed. {advice}",
    "tensorrt_broken": "TensorRT is installed, but can't be loaded ({why}). {advice}",
    "onnxruntime_missing": "onnxruntime is not installed. {advice}",
    "onnxruntime_without": "this onnxruntime ({version}) is built without {provider}. {advice}",
    "onnxruntime_not_started": "ONNX Runtime can't start {provider}: {why}. {advice}",
    "onnxruntime_failed": "ONNX Runtime starts {provider}, but it fails on its first frame: {why}. "
    "{advice}",
    "needs_cuda": "It needs its own package, CUDA and cuDNN: `pip uninstall onnxruntime` first, "
    "for both packages hold the same module. {advice}",
    "needs_tensorrt": "Use `--backend tensorrt`, which needs no ONNX Runtime; or install "
    "onnxruntime-gpu and the TensorRT that it was built for (10, of 1.31) where the loader finds "
    "it (LD_LIBRARY_PATH).",
    "no_driver": "no NVIDIA driver is here ({why}). With an NVIDIA GPU, install its driver; start "
    "a container with `--gpus all`, on a Jetson with `--runtime nvidia`.",
    "no_gpu": "the NVIDIA driver finds no GPU (CUDA_VISIBLE_DEVICES?)",
    "driver_silent": "the NVIDIA driver does not answer: {function} says {why} (error {number}). "
    "Look at `nvidia-smi`; a driver that was just updated needs a restart.",
}

INSPECTION: Mapping[str, str] = MappingProxyType({**_FRAMES, **_CAMERAS, **_ENGINES})
