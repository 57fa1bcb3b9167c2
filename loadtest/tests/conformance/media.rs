//! Files of media: what a script learns of them, and what is wrong with those that cannot be published.

use crate::bench::Bench;

const RAW: [&str; 3] = ["-q", "--log-format", "raw"];

/// Inputs of the client's fuzzer: a byte for the frame rate, then a file.
const SAMPLES: [(&str, &[u8]); 6] = [
    (
        "talk.ivf",
        include_bytes!("../../client/fuzz/corpus/recording/vp8"),
    ),
    (
        "vp9.ivf",
        include_bytes!("../../client/fuzz/corpus/recording/vp9"),
    ),
    (
        "av1.ivf",
        include_bytes!("../../client/fuzz/corpus/recording/av1"),
    ),
    (
        "talk.h264",
        include_bytes!("../../client/fuzz/corpus/recording/h264"),
    ),
    (
        "speech.ogg",
        include_bytes!("../../client/fuzz/corpus/recording/opus"),
    ),
    (
        "cut.ivf",
        include_bytes!("../../client/fuzz/corpus/recording/cut_off"),
    ),
];

fn bench(script: &str) -> Bench {
    let bench = Bench::new(&format!("import {{ media }} from 'sfu';\n{script}"));
    for (name, sample) in SAMPLES {
        bench.write(name, &sample[1..]);
    }
    bench.write("talk.mp4", b"\0\0\0\x18ftypmp42");
    bench
}

#[test]
fn files_are_told_apart_by_what_is_in_them() {
    let ran = bench(
        "const names = ['talk.ivf', './vp9.ivf', 'av1.ivf', 'talk.h264', 'speech.ogg'];
        const all = names.map((name) => media.file(name, { loop: name === 'talk.ivf', fps: 25 }));
        export default function () {
          for (const it of all) console.log(it.codec, it.of, it.duration, it.frames, it.width, it.height, it.loop);
          try { media.file('talk.ivf'); } catch (error) { console.log(error.message); }
        }",
    )
    .run(&RAW);
    ran.exits(0);
    assert_eq!(
        ran.lines(),
        [
            "vp8 video 480 12 320 180 true",
            "vp9 video 480 12 320 180 false",
            "av1 video 480 12 320 180 false",
            "h264 video 480 12 320 180 false",
            "opus audio 80 4 0 0 false",
            "media.file(\"talk.ivf\"): works in the init context only, at the top of the script",
        ],
        "{ran}"
    );
}

#[test]
fn what_cannot_be_published_is_refused_with_the_file_and_the_reason() {
    for (call, messages) in [
        (
            "media.file('talk.mp4')",
            &["talk.mp4", "neither IVF nor Ogg nor H.264"][..],
        ),
        (
            "media.file('cut.ivf')",
            &["cut.ivf", "frame 12 at byte", "is cut off"],
        ),
        (
            "media.file('absent.ivf')",
            &["absent.ivf", "cannot be read"],
        ),
        (
            "media.file('../talk.ivf')",
            &["../talk.ivf", "outside of the script's folder"],
        ),
        (
            "media.file('talk.h264', { fps: 0 })",
            &["talk.h264", "0 is no frame rate"],
        ),
    ] {
        let ran = bench(&format!("{call};\nexport default function () {{}}")).run(&[]);
        ran.exits(107).says("script.js:2");
        for message in messages {
            ran.says(message);
        }
    }
}
