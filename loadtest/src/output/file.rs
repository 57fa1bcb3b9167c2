//! A file that an output is written to, compressed if its name ends with `.gz`.

use std::fs;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

#[derive(Debug)]
pub struct File {
    writer: Writer,
}

#[derive(Debug)]
enum Writer {
    Plain(BufWriter<fs::File>),
    // As large as its tables.
    Compressed(Box<GzEncoder<BufWriter<fs::File>>>),
}

impl File {
    /// Creates the file, or empties it.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = BufWriter::new(fs::File::create(path)?);
        let is_compressed = path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
        let writer = if is_compressed {
            Writer::Compressed(Box::new(GzEncoder::new(file, Compression::default())))
        } else {
            Writer::Plain(file)
        };
        Ok(Self { writer })
    }

    /// Writes through to the file, so that who follows it sees whole batches.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.writer {
            Writer::Plain(file) => {
                file.write_all(bytes)?;
                file.flush()
            }
            // Flushing each batch would compress badly; what is inside is written at the end.
            Writer::Compressed(encoder) => encoder.write_all(bytes),
        }
    }

    /// Writes what is left. A compressed file is whole only after this.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(self) -> io::Result<()> {
        match self.writer {
            Writer::Plain(mut file) => file.flush(),
            Writer::Compressed(encoder) => encoder.finish()?.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Plain and compressed.

    use std::io::Read as _;

    use super::*;

    #[test]
    fn files_hold_what_was_written() {
        let directory =
            std::env::temp_dir().join(format!("pipemesh-output-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        for name in ["a.json", "a.json.gz"] {
            let path = directory.join(name);
            let mut file = File::create(&path).unwrap();
            file.write(b"one\n").unwrap();
            file.write(b"two\n").unwrap();
            file.finish().unwrap();
            let mut bytes = fs::read(&path).unwrap();
            if name.ends_with("gz") {
                let mut text = Vec::new();
                flate2::read::GzDecoder::new(&bytes[..])
                    .read_to_end(&mut text)
                    .unwrap();
                bytes = text;
            }
            assert_eq!(bytes, b"one\ntwo\n");
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
