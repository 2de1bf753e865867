"""Frames of videos at a stride: listed from the packets without decoding, decoded on request by PyAV."""

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
"""Suffixes of video files, in lower case."""

MAX_OPEN_VIDEOS = 4
"""Number of videos that a process keeps open, not counting those that a thread is reading."""

FRAME_CACHE_SIZE = 8
"""Number of decoded frames of an open video that are cached because a thread may request them soon.

Frames that a thread is waiting for are cached in addition.
"""

SEEK_THRESHOLD = 16
"""Number of frames up to which decoding and dropping them is preferred to a seek to a later keyframe."""


class FramePosition(NamedTuple):
    """The position of a frame in its video.

    Attributes:
        frame_index: Number of frames that are presented before it.
        time: Its presentation timestamp, in the time base of the video stream.
    """

    frame_index: int
    time: int


_BEFORE_ALL, _AFTER_ALL = FramePosition(-1, -sys.maxsize), FramePosition(sys.maxsize, sys.maxsize)


@dataclass(frozen=True)
class Frame(ImageSource):
    """One frame of a video.

    Attributes:
        video: The video file.
        position: Position of the frame.
        keyframe: Position of the last keyframe presented no later than the frame; decoding can start there.
        stride: Stride of the listing, in frames.
    """

    video: Location
    position: FramePosition
    keyframe: FramePosition
    stride: int

    @property
    def identity(self) -> str:
        return f"{absolute(self.video)}::{self.position.frame_index}"

    @property
    def locator(self) -> dict[str, Any]:
        positions = {"position": self.position, "keyframe": self.keyframe}
        return {"kind": "video", "video": absolute(self.video), **positions, "stride": self.stride}

    @contextmanager
    def open(self) -> Iterator[ImageBytes]:
        """Open the upright frame as a PPM file.

        Reading and decoding are not separable, so `disk_seconds` is 0 and all time counts as decoding.
        """
        with open_bytes(str(self.path), self._read) as file:
            file.disk_seconds = 0.0
            yield file

    def _read(self) -> bytes:
        frame = _reader_of(self).frame(self)
        if frame.is_corrupt:
            raise ImageError("the video is damaged there")
        pixels = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))
        height, width, _ = pixels.shape
        return b"".join([b"P6 %d %d 255\n" % (width, height), pixels.data])


def is_video_name(name: str) -> bool:
    """Return whether a file name has one of `VIDEO_SUFFIXES`, in upper or lower case."""
    return name.lower().endswith(VIDEO_SUFFIXES)


def video_frames(video: Location, relative: str, stride: int) -> Iterator[ImageSource]:
    """Yield every `stride`-th frame of a video in presentation order, starting with the first.

    The file is read once for this, but not decoded.

    Args:
        video: The video file.
        relative: POSIX path from which the output names `PATH/INDEX` are made.
        stride: Distance between the frames, at least 1.

    Yields:
        `Frame` objects; then one `UnreadableImage` if frames are marked as damaged or truncated, or if the video
        cannot be read to its end.

    Raises:
        OvsrError: PyAV is not installed.
    """
    _pyav()  # raises here, because below a missing PyAV would be reported as a fault of the video
    base = os.path.splitext(relative)[0]
    keyframe, index, num_damaged, failure = _BEFORE_ALL, -1, 0, None
    try:
        for index, announced in enumerate(_announced_frames(video)):
            position = FramePosition(index, announced.time)
            keyframe = position if announced.is_keyframe or index == 0 else keyframe
            num_damaged += announced.is_damaged
            if index % stride == 0 and not announced.is_damaged:
                name = f"{index:06}"
                yield Frame(f"{video}::{name}", f"{base}/{name}", video, position, keyframe, stride)
    except Exception as error:  # FFmpeg and the storage back ends raise errors of many types
        failure = str(getattr(error, "strerror", None) or error)
    if index < 0:
        yield UnreadableImage(video, base, f"FFmpeg cannot read it as a video ({failure or 'it holds no frames'})")
    elif failure is not None:
        yield UnreadableImage(video, base, f"what comes after frame {index} cannot be read ({failure})")
    elif num_damaged:
        yield UnreadableImage(video, base, f"it is truncated or broken: {num_damaged} of its frames are incomplete")


class _AnnouncedFrame(NamedTuple):
    """A frame as its packet describes it."""

    time: int
    is_keyframe: bool
    is_damaged: bool


def _announced_frames(video: Location) -> Iterator[_AnnouncedFrame]:
    """Yield the frames of a video in presentation order, from its packets."""
    pending: list[_AnnouncedFrame] = []
    with open_binary(video) as file, _pyav().open(file) as container:
        for packet in container.demux(_stream_of(container)):
            time = packet.dts if packet.pts is None else packet.pts
            if time is None or packet.is_discard:  # the flush packet at the end, or a frame removed by an edit list
                continue
            heappush(pending, _AnnouncedFrame(time, packet.is_keyframe, packet.is_corrupt))
            # Packets come in decoding order, and no frame is presented before it is decoded.
            while packet.dts is not None and pending and pending[0].time <= packet.dts:
                yield heappop(pending)
        while pending:
            yield heappop(pending)


class _VideoReader:
    """An open video from which any thread requests frames, in roughly increasing order."""

    def __init__(self, video: Location) -> None:
        self._video = video
        self._lock = threading.Lock()
        self._files = ExitStack()
        weakref.finalize(self, self._files.close)
        self._can_seek = True
        self._last = _AFTER_ALL
        self._upcoming: Iterator[tuple[int, VideoFrame]] = iter(())
        self._cache: dict[int, VideoFrame] = {}
        self._requested: set[int] = set()

    def frame(self, frame: Frame) -> VideoFrame:
        """Return a frame as the decoder delivers it.

        Raises:
            ImageError: The decoder delivers no such frame.
            OSError: The file is missing.
        """
        self._requested.add(frame.position.time)
        with self._lock:
            try:
                return self._cache.pop(frame.position.time, None) or self._decode(frame)
            except _pyav().FFmpegError as error:
                self._last = _AFTER_ALL
                raise ImageError(f"the video cannot be decoded ({error.strerror})") from error
            finally:
                self._requested.discard(frame.position.time)

    def _decode(self, requested: Frame) -> VideoFrame:
        self._approach(requested)
        for index, frame in self._upcoming:
            self._last = FramePosition(index, _time(frame))
            if self._last.time == requested.position.time:
                return frame
            if index % requested.stride == 0:
                self._cache[self._last.time] = frame
                unrequested = [time for time in self._cache if time not in self._requested]
                if len(unrequested) > FRAME_CACHE_SIZE:
                    del self._cache[unrequested[0]]
            if self._last.time > requested.position.time:
                break
        else:
            self._last = _AFTER_ALL
        raise ImageError("no such frame can be decoded: the video is damaged there, or its timestamps are wrong")

    def _approach(self, requested: Frame) -> None:
        """Restart or seek, if needed, so that the requested frame is among the upcoming ones."""
        position, keyframe = requested.position, requested.keyframe
        if self._last.time >= position.time:
            self._start()
        is_far = position.frame_index > self._last.frame_index + SEEK_THRESHOLD
        if self._can_seek and is_far and keyframe.time > self._last.time:
            self._container.seek(keyframe.time, stream=_stream_of(self._container))
            frames = dropwhile(lambda frame: _time(frame) < keyframe.time, _decoded(self._container))
            first = next(frames, None)
            if first is not None and _time(first) == keyframe.time:
                self._upcoming = enumerate(chain([first], frames), keyframe.frame_index)
            else:  # the file has no index, or a wrong one
                self._can_seek = False
                self._start()

    def _start(self) -> None:
        """Open the file anew and decode from its beginning."""
        self._last = _AFTER_ALL
        self._files.close()
        self._container = self._files.enter_context(_pyav().open(self._files.enter_context(open_binary(self._video))))
        _stream_of(self._container).thread_type = "AUTO"
        self._last, self._upcoming = _BEFORE_ALL, enumerate(_decoded(self._container))


_opening = threading.Lock()


@lru_cache(MAX_OPEN_VIDEOS)
def _cached_reader(video: Location, modified: int | None) -> _VideoReader:
    return _VideoReader(video)


def _reader_of(frame: Frame) -> _VideoReader:
    """Return the reader of the frame's video, a new one if the file was modified since it was opened."""
    modified = None if is_url(frame.video) else os.stat(frame.video).st_mtime_ns
    with _opening:  # without the lock, two threads could open the video twice
        return _cached_reader(frame.video, modified)


def _decoded(container: InputContainer) -> Iterator[VideoFrame]:
    """Yield all frames that can be decoded from the current position of the container on."""
    stream = _stream_of(container)
    for packet in container.demux(stream):
        if not packet.is_corrupt:
            with suppress(_pyav().FFmpegError):  # a request for a missing frame raises ImageError
                yield from stream.decode(packet)


def _stream_of(container: InputContainer) -> VideoStream:
    stream = container.streams.best("video")
    if stream is None:
        raise ValueError("it holds no video stream")
    return cast("VideoStream", stream)


def _time(frame: VideoFrame) -> int:
    return _BEFORE_ALL.time if frame.pts is None else frame.pts


def _pyav() -> ModuleType:
    try:
        import av  # an optional dependency
    except ImportError as error:
        raise OvsrError(
            f'reading videos needs PyAV, which cannot be imported ({error}): pip install "ovsr-gpu[video]"'
        ) from error
    return av
