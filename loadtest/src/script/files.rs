//! The files a script is made of: itself, what it imports and what it opens. Read once, shared by all
//! virtual users; nothing outside of the script's own folder.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{0} is outside of the script's folder")]
    Outside(String),
    #[error("{path} cannot be read")]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("{0} is no text in UTF-8")]
    NoText(String),
}

pub struct Files {
    folder: PathBuf,
    /// Name of the script in its folder.
    entry: String,
    /// Locked while scripts are loaded, never while they run.
    read: Mutex<HashMap<String, Arc<[u8]>>>,
}

impl Files {
    /// A script's file; `-` reads it from standard input.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(script: &str) -> Result<Self, FileError> {
        let failed = |source| FileError::Read {
            path: script.to_owned(),
            source,
        };
        if script == "-" {
            let mut source = Vec::new();
            io::stdin().read_to_end(&mut source).map_err(failed)?;
            return Ok(Self::from_source(Path::new("."), "-", source));
        }
        let path = Path::new(script);
        let source = fs::read(path).map_err(failed)?;
        let name = path.file_name().unwrap_or(path.as_os_str());
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
        Ok(Self::from_source(
            folder.unwrap_or(Path::new(".")),
            &name.to_string_lossy(),
            source,
        ))
    }

    /// A script that is no file.
    #[must_use]
    pub fn from_source(folder: &Path, name: &str, source: Vec<u8>) -> Self {
        let read = HashMap::from([(name.to_owned(), Arc::from(source))]);
        Self {
            folder: folder.to_path_buf(),
            entry: name.to_owned(),
            read: Mutex::new(read),
        }
    }

    #[must_use]
    pub fn entry(&self) -> &str {
        &self.entry
    }

    /// The name in the folder of what `base` calls `./name`.
    ///
    /// # Errors
    /// When it leads out of the folder.
    pub fn resolve(&self, base: &str, name: &str) -> Result<String, FileError> {
        let beside = Path::new(base).parent().unwrap_or(Path::new(""));
        let mut parts: Vec<String> = Vec::new();
        for component in beside.join(name).components() {
            match component {
                Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
                Component::CurDir => {}
                Component::ParentDir if !parts.is_empty() => {
                    parts.pop();
                }
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                    return Err(FileError::Outside(name.to_owned()));
                }
            }
        }
        Ok(parts.join("/"))
    }

    /// What is in a file of the folder.
    ///
    /// # Errors
    /// When there is none.
    pub fn read(&self, name: &str) -> Result<Arc<[u8]>, FileError> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = read.get(name) {
            return Ok(Arc::clone(known));
        }
        let failed = |source| FileError::Read {
            path: name.to_owned(),
            source,
        };
        let path = self.folder.join(name);
        // A link may lead anywhere.
        let (real, folder) = (
            path.canonicalize().map_err(failed)?,
            self.folder.canonicalize().map_err(failed)?,
        );
        if !real.starts_with(folder) {
            return Err(FileError::Outside(name.to_owned()));
        }
        let content: Arc<[u8]> = Arc::from(fs::read(path).map_err(failed)?);
        read.insert(name.to_owned(), Arc::clone(&content));
        Ok(content)
    }

    /// The same as text.
    ///
    /// # Errors
    /// When there is none, or it is no text.
    pub fn text(&self, name: &str) -> Result<String, FileError> {
        let content = self.read(name)?;
        let text = std::str::from_utf8(&content).map_err(|_| FileError::NoText(name.to_owned()))?;
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_the_folder() {
        let files = Files::from_source(Path::new("/nowhere"), "script.js", Vec::new());
        for (base, name, expected) in [
            ("script.js", "./users.json", Some("users.json")),
            ("script.js", "lib/./a.js", Some("lib/a.js")),
            ("lib/a.js", "../b.js", Some("b.js")),
            ("lib/a.js", "./c.js", Some("lib/c.js")),
            ("script.js", "../secret", None),
            ("script.js", "/etc/passwd", None),
            ("lib/a.js", "../../b.js", None),
        ] {
            let resolved = files.resolve(base, name).ok();
            assert_eq!(resolved.as_deref(), expected, "{name} from {base}");
        }
    }

    #[test]
    fn what_is_read_is_kept_and_what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.txt"), "one").unwrap();
        let files = Files::from_source(folder.path(), "script.js", b"export".to_vec());
        assert_eq!(files.text("a.txt").unwrap(), "one");
        std::fs::write(folder.path().join("a.txt"), "two").unwrap();
        assert_eq!(files.text("a.txt").unwrap(), "one");
        assert_eq!(files.text("script.js").unwrap(), "export");
        let error = files.text("b.txt").unwrap_err();
        assert!(error.to_string().contains("b.txt"), "{error}");
    }

    #[test]
    fn a_link_out_of_the_folder_is_not_followed() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(other.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink(other.path().join("secret"), folder.path().join("link"))
            .unwrap();
        let files = Files::from_source(folder.path(), "script.js", Vec::new());
        let read = files.read("link");
        assert!(matches!(read, Err(FileError::Outside(_))), "{read:?}");
    }
}
