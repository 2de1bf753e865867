"""Videos: their frames at a stride, listed without decoding one and decoded as they are asked for, by PyAV."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from heapq import heappop, heappush
from itertools import chain, dropwhile
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from ovsr_gpu.errors import ImageError, OvsrError
from ovsr_gpu.sources.decode import ImageBytes, open_bytes
from ovsr_gpu.sources.image_source import ImageSource, UnreadableImage
from ovsr_gpu.sources.locations import Location, absolute, is_url, open_binary

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".flv", ".ogv", ".3gp"),
)
"""Ends of the names of videos, in lower case."""

OPEN = 4
"""Videos that a process keeps open, besides those that a thread is reading in."""

KEPT = 8
"""Frames of an open video that are kept, as the decoder gives them, because they may be asked for soon.

Those that a thread waits for are kept besides.
"""

NEAR = 16
"""Frames that are decoded and passed over sooner than the decoder is stopped and started again at a later keyframe."""


class Place(NamedTuple):
    """Of a frame: how many are shown before it, and when it is shown, in the video's own unit of time."""

    number: int
    time: int


BEFORE_ALL, AFTER_ALL = Place(-1, -sys.maxsize), Place(sys.maxsize, sys.maxsize)


@dataclass(frozen=True)
class Frame(ImageSource):
    """One frame of a video.

    key: the last keyframe shown no later than it, which decoding may start from. stride: that of the listing.
    """

    video: Location
    place: Place
    key: Place
    stride: int

    @property
    def identity(self) -> str:
        return f"{absolute(self.video)}::{self.place.number}"

    @property
    def locator(self) -> dict[str, Any]:
        places = {"place": self.place, "key": self.key}
        return {"kind": "video", "video": absolute(self.video), **places, "stride": self.stride}

    @contextmanager
    def open(self) -> Iterator[ImageBytes]:
        """The frame as a PPM file, upright; reading and decoding go hand in hand, so all counts as decoding."""
        with open_bytes(str(self.path), self._read) as file:
            file.disk_seconds = 0.0
            yield file

    def _read(self) -> bytes:
        frame = _video_of(self).frame(self)
        if frame.is_corrupt:
            raise ImageError("the video is damaged there")
        pixels = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))
        height, width, _ = pixels.shape
        return b"".join([b"P6 %d %d 255\n" % (width, height), pixels.data])


def is_video_name(name: str) -> bool:
    return name.lower().endswith(VIDEO_SUFFIXES)


def video_frames(video: Location, relative: str, stride: int) -> Iterator[ImageSource]:
    """Each `stride`th frame of a video in the order they are shown, from the first on, named after it and the number.

    relative: the video's own path, from which the names are made. The file is read once for that, but not decoded.
    Frames that are marked as damaged or cut off, and what cannot be read, become one UnreadableImage at the end.

    Raises OvsrError where PyAV is not installed.
    """
    _pyav()  # else its absence would be taken for a fault of the video
    base = os.path.splitext(relative)[0]
    key, number, damaged, failure = BEFORE_ALL, -1, 0, None
    try:
        for number, shown in enumerate(_shown(video)):
            place = Place(number, shown.time)
            key = place if shown.is_key or number == 0 else key
            damaged += shown.is_damaged
            if number % stride == 0 and not shown.is_damaged:
                name = f"{number:06}"
                yield Frame(f"{video}::{name}", f"{base}/{name}", video, place, key, stride)
    except Exception as error:  # FFmpeg has errors of every kind, and so has every kind of storage
        failure = str(getattr(error, "strerror", None) or error)
    if number < 0:
        yield UnreadableImage(video, base, f"it is no video that FFmpeg reads ({failure or 'it holds no frames'})")
    elif failure is not None:
        yield UnreadableImage(video, base, f"what comes after frame {number} cannot be read ({failure})")
    elif damaged:
        yield UnreadableImage(video, base, f"it is truncated or broken: {damaged} of its frames are not whole")


class _Shown(NamedTuple):
    time: int
    is_key: bool
    is_damaged: bool


def _shown(video: Location) -> Iterator[_Shown]:
    """The frames of a video in the order they are shown, as its packets announce them."""
    waiting: list[_Shown] = []
    with open_binary(video) as file, _pyav().open(file) as container:
        for packet in container.demux(_stream_of(container)):
            time = packet.dts if packet.pts is None else packet.pts
            if time is None or packet.is_discard:  # the mark of the end, or a frame cut away by an edit
                continue
            heappush(waiting, _Shown(time, packet.is_keyframe, packet.is_corrupt))
            # Packets come in the order they are decoded in, and none is shown before it is decoded.
            while packet.dts is not None and waiting and waiting[0].time <= packet.dts:
                yield heappop(waiting)
        while waiting:
            yield heappop(waiting)


class _Video:
    """An open video that any thread asks for frames, in nearly their order."""

    def __init__(self, video: Location) -> None:
        self._video = video
        self._lock = threading.Lock()
        self._files = ExitStack()
        weakref.finalize(self, self._files.close)
        self._can_seek = True
        self._passed = AFTER_ALL
        self._coming: Iterator[tuple[int, VideoFrame]] = iter(())
        self._kept: dict[int, VideoFrame] = {}
        self._asked: set[int] = set()

    def frame(self, wanted: Frame) -> VideoFrame:
        """A frame as the decoder gives it. Raises ImageError where it gives none, OSError where there is no file."""
        self._asked.add(wanted.place.time)
        with self._lock:
            try:
                return self._kept.pop(wanted.place.time, None) or self._decode(wanted)
            except _pyav().FFmpegError as error:
                self._passed = AFTER_ALL
                raise ImageError(f"the video cannot be decoded ({error.strerror})") from error
            finally:
                self._asked.discard(wanted.place.time)

    def _decode(self, wanted: Frame) -> VideoFrame:
        self._approach(wanted)
        for number, frame in self._coming:
            self._passed = Place(number, _time(frame))
            if self._passed.time == wanted.place.time:
                return frame
            if number % wanted.stride == 0:
                self._kept[self._passed.time] = frame
                spare = [time for time in self._kept if time not in self._asked]
                if len(spare) > KEPT:
                    del self._kept[spare[0]]
            if self._passed.time > wanted.place.time:
                break
        else:
            self._passed = AFTER_ALL
        raise ImageError("no such frame can be decoded: the video is damaged there, or the times in it are wrong")

    def _approach(self, wanted: Frame) -> None:
        """Make sure that the wanted frame is among those to come."""
        if self._passed.time >= wanted.place.time:
            self._start()
        if self._can_seek and wanted.key.time > self._passed.time and wanted.place.number > self._passed.number + NEAR:
            self._container.seek(wanted.key.time, stream=_stream_of(self._container))
            frames = dropwhile(lambda frame: _time(frame) < wanted.key.time, _decoded(self._container))
            first = next(frames, None)
            if first is not None and _time(first) == wanted.key.time:
                self._coming = enumerate(chain([first], frames), wanted.key.number)
            else:  # the file has no index, or a wrong one
                self._can_seek = False
                self._start()

    def _start(self) -> None:
        self._passed = AFTER_ALL
        self._files.close()
        self._container = self._files.enter_context(_pyav().open(self._files.enter_context(open_binary(self._video))))
        _stream_of(self._container).thread_type = "AUTO"
        self._passed, self._coming = BEFORE_ALL, enumerate(_decoded(self._container))


_opening = threading.Lock()


@lru_cache(OPEN)
def _opened(video: Location, modified: int | None) -> _Video:
    return _Video(video)


def _video_of(frame: Frame) -> _Video:
    modified = None if is_url(frame.video) else os.stat(frame.video).st_mtime_ns
    with _opening:  # else two threads could open it twice
        return _opened(frame.video, modified)


def _decoded(container: InputContainer) -> Iterator[VideoFrame]:
    """What can be decoded from where the container stands on."""
    stream = _stream_of(container)
    for packet in container.demux(stream):
        if not packet.is_corrupt:
            with suppress(_pyav().FFmpegError):  # its frames will be missed when they are asked for
                yield from stream.decode(packet)


def _stream_of(container: InputContainer) -> VideoStream:
    stream = container.streams.best("video")
    if stream is None:
        raise ValueError("it holds no video stream")
    return cast("VideoStream", stream)


def _time(frame: VideoFrame) -> int:
    return BEFORE_ALL.time if frame.pts is None else frame.pts


def _pyav() -> ModuleType:
    try:
        import av  # an optional dependency
    except ImportError as error:
        raise OvsrError(
            f'reading videos needs PyAV, which cannot be imported ({error}): pip install "ovsr-gpu[video]"'
        ) from error
    return av
