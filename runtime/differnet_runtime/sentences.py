"""The sentences that the station says to people: each has a code and named values.

`sentence` writes one in English. As plain text it goes through errors, logs, other processes,
databases and files. Where it is shown, `said` recognises it and returns its code and values, by
which the page says it in its own language.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from string import Formatter
from types import MappingProxyType
from typing import NamedTuple

_TEXTS = {
    # Frames.
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
    # Cameras.
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
    # Engines.
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
    # Receivers and disks.
    "sink_silent": "it has confirmed no event for more than {after_s:g} s",
    "broker_not_yet": "not connected yet",
    "broker_took_none": "the broker did not take the events: {why}",
    "broker_refused_event": "the broker refused an event: {why}; look at its rights",
    "broker_refused": "the broker refused the connection: {why}",
    "broker_lost": "the connection was lost",
    "broker_ended": "the broker at {address} ended the connection without an answer ({why}); its "
    "log may say why: protocol, TLS, or the last will's QoS or retain",
    "broker_qos": "the broker takes QoS {qos} at most, and `qos = {asked}` is configured: events "
    "are sent with QoS {qos}; `qos = {qos}` in [mqtt] accepts that",
    "broker_qos_0": "the broker takes QoS {qos} at most, and `qos = {asked}` is configured: events "
    "are sent with QoS {qos}, and an outage may lose some; `qos = {qos}` in [mqtt] accepts that",
    "broker_no_retain": "the broker keeps no retained messages: whoever subscribes later sees "
    "neither state nor status; `retain = false` in [mqtt] accepts that",
    "broker_no_commands": "the broker refuses the subscription to {topic} ({why}), so no command "
    "can come; `commands = false` in [mqtt] accepts that",
    "broker_no_heartbeat": "no heartbeat is sent: with the names of its cameras it is larger than "
    "the broker's Maximum Packet Size ({packet} bytes)",
    "event_size": "larger than the broker's Maximum Packet Size ({size} bytes; {packet} fit)",
    "event_too_large": "1 event was not delivered; the last one is {why}",
    "events_too_large": "{count} events were not delivered; the last one is {why}",
    "unreachable": "{address} can't be reached",
    "no_acknowledgement": "no acknowledgement for {waited_s:g} s",
    "no_answer": "no answer: {why}",
    "answer_status": "the receiver answered {status}; expected 2xx",
    "answer_refused": "the receiver answered {status}; expected 2xx: it refuses these events; "
    "check its address, token and log",
    "certificate_invalid": "the server's certificate is not valid ({why})",
    "took_too_long": "it took too long",
    "disk_reserve": "{folder}: only {free} bytes are free, but {reserve} must stay free "
    "(evidence.min_free_bytes); make room",
    "database_full": "{path}: {why}; make room on that disk",
    "database_failed": "{path}: {why}; look at the disk and its permissions",
    # The system's own messages.
    "system_refused": "Connection refused",
    "system_reset": "Connection reset by peer",
    "system_timed_out": "Connection timed out",
    "system_no_route": "No route to host",
    "system_no_network": "Network is unreachable",
    "system_no_name": "Name or service not known",
    "system_no_file": "No such file or directory",
    "system_no_right": "Permission denied",
    "system_read_only": "Read-only file system",
    "system_full": "No space left on device",
    # Models and trials.
    "model_absent": "no model judges yet: {why}",
    "model_none_active": "{root} has models named {name!r}, but none of them is active. Activate "
    "one on the page or with `differnet models activate {name}`",
    "model_active_gone": "{root} has models named {name!r}, but the active one is gone. Activate "
    "one on the page or with `differnet models activate {name}`",
    "model_none": "{root} has no model named {name!r}{others}. Teach one on the page, or add one "
    "with `differnet models add FILE --name {name}` and `differnet models activate {name}`",
    "model_is_file": "{name} is a model file, not one of the store: give `store = NAME` in [{key}] "
    "to change models while the station runs",
    "model_other_name": "{model} judges parts {name!r}, but this station {known}",
    "model_no_previous": "{name} has no previous model to go back to",
    "model_which": "say which model to roll back: {names}",
    "model_not_used": "no camera of this station uses {name!r}; its models are {names}",
    "model_unknown": "{model!r} names no model in {root}; give a name ({names}) or a hash that "
    "`differnet models list` shows",
    "model_several": "{model!r} names several models in {root}; give a name ({names}) or a hash "
    "that `differnet models list` shows",
    "model_not_activated": "{model} was not activated, and nothing was changed: {why}",
    "model_refused": "{model} was refused: {why}",
    "model_failed": "{model} failed under load and was taken back: {why}",
    "model_unusable": "{model} can't be used: {why}",
    "model_only_cpu": "only the CPU runs {model}, and {backend} the present model, which judges on "
    "({why}). To have the CPU run it, name {cpu} as the backend.",
    "model_damaged": "{path} is not the model that its name says; add that model again",
    "model_no_room": "station.memory_mb: the models need {needed} ({shares}), but {allowed} MiB "
    "are allowed: allow more, or give cameras the same model",
    "machine_no_room": "the models need {needed} ({shares}), but this machine has {there}",
    "note_refused": "the note can't be kept: {why}",
    "other_part": "it may be for another part: {why}",
    "other_name": "its own name is {name!r}, that of the active model {present!r}",
    "other_size": "its pictures have the size {size}, those of the active model {present}",
    "other_region": "it judges the region {region} of a frame, the active model {present}",
    "other_darker": "all its good pictures are darker than those of the active model",
    "other_brighter": "all its good pictures are brighter than those of the active model",
    "trial_no_room": "there is too little memory for a trial: {why}",
    "trial_other_name": "model {model} is stored as {name!r}, but camera {camera} uses {own!r}: "
    "choose a model of that name",
    "trial_alone": "no model judges camera {camera} yet, so there is nothing to compare with: "
    "activate this model",
    "trial_of_live": "this model judges camera {camera} already",
    "trial_gave_way": "its memory was needed to change a live model; start the trial again",
    # Detection limits.
    "limit_none": "finds no painted defect of a sensible size",
    "limit_dark_spot": "dark spot from {size} px",
    "limit_dark_spot_at": "dark spot from {size} px at contrast {contrast}",
    "limit_dark_spot_missed": "dark spot not found",
    "limit_bright_spot": "bright spot from {size} px",
    "limit_bright_spot_at": "bright spot from {size} px at contrast {contrast}",
    "limit_bright_spot_missed": "bright spot not found",
    "limit_scratch": "scratch from {size} px",
    "limit_scratch_at": "scratch from {size} px at contrast {contrast}",
    "limit_scratch_missed": "scratch not found",
    "limit_missing_piece": "missing piece from {size} px",
    "limit_missing_piece_at": "missing piece from {size} px at contrast {contrast}",
    "limit_missing_piece_missed": "missing piece not found",
    "limit_stain": "stain from {size} px",
    "limit_stain_at": "stain from {size} px at contrast {contrast}",
    "limit_stain_missed": "stain not found",
    "limit_blur": "blurred area from {size} px",
    "limit_blur_at": "blurred area from {size} px at contrast {contrast}",
    "limit_blur_missed": "blurred area not found",
    # Operators.
    "camera_removed": "camera {camera} was just removed",
    "camera_gone": "there is no camera {camera!r} any more",
    "camera_unknown": "there is no camera {camera!r}",
    "no_such_camera": "there is no such camera",
    "no_such_picture": "there is no such picture (any more)",
    "no_such_model": "this station has no such model",
    "no_trial": "there is no trial on this camera",
    "runs_free": 'camera {camera} runs free: give `trigger = "command"` in its table to have it '
    "judge on command",
    "no_verdict": "camera {camera} gave no verdict within {within_s:g} s",
    "too_many_requests": "too many requests wait for a verdict",
    "picture_gone": "there is no picture {picture} (any more)",
    "index_not_open": "the pictures' index is not open yet: try again in a moment",
    "threshold_no_model": "no model judges camera {camera} yet, so it can have no threshold",
    "threshold_too_low": "{threshold:g} lies below every score that a good part can have "
    "({lowest:.4g}): no part would be judged good",
    "threshold_misses": "with {threshold:g}, {misses} parts that are labelled as defects would be "
    "judged good (now {before}); send `force` to set it anyway",
    "threshold_rejects": "{threshold:g} would reject {share:.0%} of the good parts that the model "
    "was calibrated with; send `force` to set it anyway",
    "threshold_not_set": "no threshold of camera {camera} that was set on the station is in use",
    "changes_off": "changes over HTTP are switched off",
    # Teaching.
    "teach_off": "teaching is switched off: set enabled = true in [teach]",
    "teach_unknown": "there is no data set {name!r}",
    "teach_exists": "there is a data set {name} already: use it, or delete it first",
    "teach_folder_used": "{folder} holds a data set that can't be read (the log says why): move "
    "the folder away, or choose another name",
    "teach_busy": "{name} is being trained: cancel the training first",
    "teach_one_at_a_time": "{name} is being trained: one training at a time",
    "teach_collects": "{name} is collecting from camera {camera}: switch that off first",
    "teach_no_picture": "{name} has no picture {picture}",
    "teach_no_pictures": "{name} has no pictures yet",
    "teach_no_report": "{name} has no report yet: it comes with the first training",
    "teach_no_frame": "camera {camera} has given no frame yet",
    "teach_old_frame": "camera {camera} has given no frame for {age_s:.0f} s",
    "teach_repeat": "it shows the same as a picture before",
    "teach_most_pictures": "a data set holds {most} pictures at most",
    "teach_deleted": "{name} was deleted",
    "teach_size_changed": "the camera's frames now have {size} pixels, but the pictures {before}: "
    "set the camera back, or start another data set",
    "teach_region_outside": "the region {region} (x,y,width,height) does not lie inside the "
    "camera's frame of {size} pixels",
    "teach_disk_full": "only {free} MiB of the disk are free, and {reserve} MiB must stay free "
    "(min_free_bytes in [evidence]): free some space",
    "teach_all_full": "all collected pictures together may take at most {most} MiB (max_bytes in "
    "[teach]): delete a data set that you no longer need",
    "teach_too_few": "too few different parts ({parts}): collect at least {least}, or better "
    "{goal}",
    "teach_not_training": "{name} is not being trained",
    "teach_no_memory": "a training needs {needed} MiB of free memory, and {free} MiB are free: "
    "close other programs, or train on another machine",
    "teach_not_installed": "training needs {packages}, which is not installed here. {advice} Or "
    "download the pictures, train on another machine, and upload the model.",
    "teach_stopped": "the station stopped during the training: start the training again",
    "teach_took_memory": "the training took more than {most} MiB of memory and was ended: allow "
    "more (memory_mib in [teach]), or teach with a smaller region",
    "teach_ended": "the training was ended: {why}",
    "teach_killed": "the training was killed by the system, most likely because memory ran out: "
    "close other programs, or teach with a smaller region",
    "teach_exit": "the training ended with exit code {status}",
    "teach_signal": "the training ended with {signal}",
    "last_line": "its last line: {text}",
    "teach_not_started": "the training can't be started: {why}",
    "teach_wrong_model": "the uploaded model is for another camera or region: {why}",
    "teach_wrong_size": "it knows the picture size {sizes}, but the camera's is {size}",
    "teach_model_file": "[{key}] names a model file, but a new model goes into the store, from "
    'which camera {camera} takes none: set store = "{name}" in [{key}] in place of path, and '
    "reload the station. The current model judges until one from the store is activated; a restart "
    "before that would leave the camera without a model",
    "teach_no_store": "[{key}] names no store, but a new model goes into the store, from which "
    'camera {camera} takes none: set store = "{name}" in [{key}] in place of path, and reload the '
    "station. The current model judges until one from the store is activated; a restart before "
    "that would leave the camera without a model",
    "look_constant": "constant: {seen}",
    "look_black": "black: {seen}",
    "look_blown_out": "blown out: {seen}",
    "look_mask": "mask: {seen}",
    "look_companion": "companion: {seen}",
    "look_blurred": "blurred: {seen}",
    "look_left_out": "{what}, left out",
    "seen_one_value": "all pixels have the same value",
    "seen_light": "mean grey level {mean:.1f} of 255, usual here is {usual:.0f}",
    "seen_sharpness": "sharpness {sharpness:.3g}, usual here is {usual:.3g}",
    "seen_strange": "unlike all others: its score lies {above:.1f} spreads above the usual one; up "
    "to {most:.1f} are expected",
    "seen_two_levels": "it has two grey levels only",
}

SENTENCES: Mapping[str, str] = MappingProxyType(_TEXTS)
"""The English text of each sentence by its code, with names of values as in `str.format`."""
ALSO, BECAUSE, AND = "also", "because", "and"
"""The codes of a text that joins two sentences."""

_BETWEEN = {"; ": ALSO, ": ": BECAUSE, ", ": AND}
_LONGEST, _MOST_JOINED = 4000, 16


@dataclass(frozen=True)
class Said:
    """A sentence, taken apart.

    Args:
        text: The sentence in English.
        code: A key of `SENTENCES`; or `ALSO`, `BECAUSE` or `AND` with the values `first` and
            `second`.
        values: The values by their names; a value may be a sentence itself.
    """

    text: str
    code: str
    values: dict[str, str | Said]


class _Form(NamedTuple):
    longest: str
    pieces: tuple[str, ...]
    code: str
    pattern: re.Pattern[str]


def sentence(code: str, **values: object) -> str:
    """Returns a sentence in English.

    Args:
        code: A key of `SENTENCES`.
        values: The values of all names in its text.
    """
    return SENTENCES[code].format(**values)


def said(text: str) -> Said | None:
    """Returns the code and the values of an English sentence; None if it is not known.

    Of a text such as "SENTENCE: cause" or "SENTENCE; more" one known part is enough.
    """
    found = _found(text)
    return found.said if found is not None else None


class _Recognised(NamedTuple):
    begin: int
    """Position of its first words; of nested sentences, the outer one begins first."""
    unknown: int
    """Number of characters that belong to values."""
    said: Said


@lru_cache(maxsize=2048)
def _found(text: str) -> _Recognised | None:
    if len(text) > _LONGEST:
        return None
    whole = min(_whole(text), key=_rank, default=None)
    if whole is not None and whole.begin == 0:
        return whole
    joined = _joined(text) if sum(map(text.count, _BETWEEN)) <= _MOST_JOINED else ()
    return min((*filter(None, (whole,)), *joined), key=_rank, default=None)


def _rank(found: _Recognised) -> tuple[int, int]:
    return found.begin, found.unknown


def _whole(text: str) -> Iterator[_Recognised]:
    for longest, pieces, code, pattern in _forms():
        if longest not in text or any(piece not in text for piece in pieces):
            continue
        if (match := pattern.fullmatch(text)) is not None:
            begin = 0 if pieces[0] else match.end(1)
            values = {name: said(of) or of for name, of in match.groupdict().items()}
            known = sum(map(len, pieces))
            yield _Recognised(begin, len(text) - known, Said(text, code, values))


def _joined(text: str) -> Iterator[_Recognised]:
    for between, code in _BETWEEN.items():
        for first, there, second in (text.partition(between), text.rpartition(between)):
            one, other = (_found(first), _found(second)) if there else (None, None)
            values = {
                "first": one.said if one else first,
                "second": other.said if other else second,
            }
            begin = one.begin if one else len(first)
            unknown = (one.unknown if one else len(first)) + len(between)
            unknown += other.unknown if other else len(second)
            enough = {ALSO: one, BECAUSE: one or other, AND: one and other}
            if enough[code] is not None:
                yield _Recognised(begin, unknown, Said(text, code, values))


def _form(code: str) -> _Form:
    pieces, pattern, names = [], "", set[str]()
    for literal, name, _, conversion in Formatter().parse(SENTENCES[code]):
        pieces.append(literal)
        pattern += re.escape(literal)
        if name is not None:
            quote = "['\"]" if conversion == "r" else ""
            pattern += quote + (f"(?P={name})" if name in names else f"(?P<{name}>.*?)") + quote
            names.add(name)
    longest = max(pieces, key=len)
    return _Form(longest, tuple(pieces), code, re.compile(pattern, re.DOTALL))


@cache
def _forms() -> tuple[_Form, ...]:
    """Returns how each sentence is recognised; most processes only write them."""
    return tuple(map(_form, SENTENCES))
