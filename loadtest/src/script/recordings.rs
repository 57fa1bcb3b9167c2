//! Files of media that scripts publish: read once in a process, shared by all virtual users.

use std::sync::{Arc, Mutex, PoisonError};

use pipemesh_loadtest_client::Recording;

use super::files::Files;
use super::{FileError, chain};

#[derive(Default)]
pub(crate) struct Recordings {
    /// Locked while scripts are loaded, and for a look when one publishes.
    known: Mutex<Vec<Known>>,
}

struct Known {
    name: String,
    fps: u32,
    recording: Arc<Recording>,
}

impl Recordings {
    /// What is in a file of the script's folder, and by which number it is found again.
    pub(super) fn read(
        &self,
        files: &Files,
        path: &str,
        fps: u32,
    ) -> Result<(usize, Arc<Recording>), String> {
        let told = |error: FileError| chain(&error);
        let name = files.resolve(files.entry(), path).map_err(told)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |it: &Known| it.name == name && it.fps == fps;
        if let Some(place) = known.iter().position(same) {
            return Ok((place, Arc::clone(&known[place].recording)));
        }
        let bytes = files.read(&name).map_err(told)?;
        let recording = Recording::read(bytes, fps).map_err(|error| error.to_string())?;
        let recording = Arc::new(recording);
        known.push(Known {
            name,
            fps,
            recording: Arc::clone(&recording),
        });
        Ok((known.len() - 1, recording))
    }

    pub(super) fn get(&self, number: usize) -> Option<Arc<Recording>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(number).map(|it| Arc::clone(&it.recording))
    }
}
