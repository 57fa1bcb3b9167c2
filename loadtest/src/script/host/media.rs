//! Files of media, as scripts name them.

use std::rc::Rc;

use rquickjs::Object;
use rquickjs::prelude::Func;
use serde_json::json;

use super::Outcome;
use crate::script::vu::Vu;

pub(super) fn install(host: &Object<'_>, vu: &Rc<Vu>) -> rquickjs::Result<()> {
    let user = Rc::clone(vu);
    let file = move |path: String, fps: u32| {
        let read = read(&user, &path, fps);
        Outcome(read.map_err(|text| format!("media.file({path:?}): {text}")))
    };
    host.set("mediaFile", Func::from(file))
}

fn read(vu: &Vu, path: &str, fps: u32) -> Result<String, String> {
    if !vu.is_loading.get() {
        return Err("works in the init context only, at the top of the script".to_owned());
    }
    let shared = &vu.shared;
    let (number, recording) = shared.recordings.read(&shared.files, path, fps)?;
    let (width, height) = recording.size();
    Ok(json!({
        "file": number,
        "of": if recording.is_video() { "video" } else { "audio" },
        "codec": recording.codec(),
        "duration": recording.length().as_secs_f64() * 1_000.0,
        "frames": recording.frames(),
        "width": width,
        "height": height,
    })
    .to_string())
}
