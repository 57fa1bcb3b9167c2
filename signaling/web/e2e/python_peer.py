"""A participant made with LiveKit's Python SDK, driven by lines of JSON.

Started with the server's address and a token. Publishes a moving picture and a tone, counts what it
receives and says so about twice a second. Judges nothing: the test that started it does.
"""

import asyncio
import json
import math
import sys

from livekit import rtc

WIDTH, HEIGHT, FRAME_RATE = 640, 360, 15
SAMPLE_RATE, TONE = 48_000, 440


def say(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


class Counters:
    def __init__(self) -> None:
        self.frames: dict[str, int] = {}
        self.samples: dict[str, int] = {}
        self.loudest: dict[str, int] = {}

    async def watch(self, track: rtc.Track, identity: str) -> None:
        async for _ in rtc.VideoStream(track):
            self.frames[identity] = self.frames.get(identity, 0) + 1

    async def listen(self, track: rtc.Track, identity: str) -> None:
        async for event in rtc.AudioStream(track):
            data = event.frame.data
            self.samples[identity] = self.samples.get(identity, 0) + len(data)
            peak = max((abs(sample) for sample in data), default=0)
            self.loudest[identity] = max(self.loudest.get(identity, 0), peak)


async def show(source: rtc.VideoSource) -> None:
    """A bar that moves, so that no two frames are alike."""
    count = 0
    while True:
        frame = bytearray(WIDTH * HEIGHT * 4)
        left = count * 8 % (WIDTH - 64)
        row = bytearray(b"\x20\x40\x60\xff" * WIDTH)
        row[left * 4 : (left + 64) * 4] = b"\xf0\xf0\x40\xff" * 64
        for line in range(HEIGHT):
            frame[line * WIDTH * 4 : (line + 1) * WIDTH * 4] = row
        source.capture_frame(rtc.VideoFrame(WIDTH, HEIGHT, rtc.VideoBufferType.RGBA, frame))
        count += 1
        await asyncio.sleep(1 / FRAME_RATE)


async def sing(source: rtc.AudioSource) -> None:
    per_frame = SAMPLE_RATE // 100
    count = 0
    while True:
        frame = rtc.AudioFrame.create(SAMPLE_RATE, 1, per_frame)
        for index in range(per_frame):
            angle = 2 * math.pi * TONE * (count + index) / SAMPLE_RATE
            frame.data[index] = int(8000 * math.sin(angle))
        count += per_frame
        await source.capture_frame(frame)


async def commands() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def main(url: str, token: str) -> None:
    room = rtc.Room()
    counters = Counters()
    tasks: set[asyncio.Task] = set()

    def keep(coroutine) -> None:
        task = asyncio.create_task(coroutine)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    @room.on("track_subscribed")
    def on_track(track, publication, participant) -> None:
        watch = track.kind == rtc.TrackKind.KIND_VIDEO
        keep((counters.watch if watch else counters.listen)(track, participant.identity))

    @room.on("data_received")
    def on_data(packet: rtc.DataPacket) -> None:
        sender = packet.participant.identity if packet.participant else ""
        text = packet.data[:64].decode(errors="replace")
        say("data", **{"from": sender}, topic=packet.topic or "", text=text, length=len(packet.data))

    @room.on("participant_disconnected")
    def on_left(participant) -> None:
        say("left", identity=participant.identity)

    await room.connect(url, token)
    say("connected", identity=room.local_participant.identity)

    video = rtc.VideoSource(WIDTH, HEIGHT)
    audio = rtc.AudioSource(SAMPLE_RATE, 1)
    keep(show(video))
    keep(sing(audio))
    publish = room.local_participant.publish_track
    await publish(
        rtc.LocalVideoTrack.create_video_track("picture", video),
        rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_CAMERA),
    )
    await publish(
        rtc.LocalAudioTrack.create_audio_track("tone", audio),
        rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE),
    )
    say("published")

    async def report() -> None:
        while True:
            say(
                "counters",
                frames=counters.frames,
                samples=counters.samples,
                loudest=counters.loudest,
                participants=sorted(room.remote_participants),
            )
            await asyncio.sleep(0.5)

    keep(report())
    reader = await commands()
    while line := await reader.readline():
        command = json.loads(line)
        if command["do"] == "leave":
            break
        if command["do"] == "send":
            await room.local_participant.publish_data(
                command["text"] * command.get("times", 1),
                reliable=command["reliable"],
                destination_identities=command.get("to", []),
                topic=command["topic"],
            )
    for task in tasks:
        task.cancel()
    await room.disconnect()


asyncio.run(main(sys.argv[1], sys.argv[2]))
