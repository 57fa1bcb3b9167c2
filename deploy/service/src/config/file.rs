//! The TOML file, flattened to dotted keys, and the files that hold secrets.
//!
//! Knows nothing of settings: which keys exist is judged by the caller.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

/// A key of the file with its value as text; `None` for what no setting can be.
pub(super) type Entry = (String, Option<Zeroizing<String>>);

/// # Errors
/// A sentence about the file, without its name.
pub(super) fn entries(path: &Path) -> Result<Vec<Entry>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| cannot_read(&error))?;
    let text = Zeroizing::new(text);
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error
            .span()
            .map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        // The message, not the error: that one quotes the line, which may hold a secret.
        format!(
            "is not valid TOML: line {line}: {}",
            error.message().replace('\n', ", ")
        )
    })?;
    let mut entries = Vec::new();
    flatten("", table, &mut entries);
    Ok(entries)
}

fn flatten(prefix: &str, table: toml::Table, entries: &mut Vec<Entry>) {
    for (name, value) in table {
        let key = if prefix.is_empty() {
            name
        } else {
            format!("{prefix}.{name}")
        };
        match value {
            toml::Value::Table(table) => flatten(&key, table, entries),
            value => entries.push((key, text(value).map(Zeroizing::new))),
        }
    }
}

/// Lists are written with commas in every layer.
fn text(value: toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(value) => Some(value.to_string()),
        toml::Value::Array(items) => {
            let items: Option<Vec<String>> = items.into_iter().map(text).collect();
            items.map(|items| items.join(","))
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

/// What a secret's file holds, without the newline that editors put at its end.
pub(super) struct SecretFile {
    pub(super) text: Zeroizing<String>,
    pub(super) warning: Option<String>,
}

/// Everybody may write it: refused, the secret may be anybody's. Everybody may read it: a warning
/// only, because that is how Kubernetes mounts secrets unless told otherwise.
///
/// # Errors
/// A sentence about the file, without its name.
pub(super) fn secret(path: &Path) -> Result<SecretFile, String> {
    let mode = std::fs::metadata(path)
        .map_err(|error| cannot_read(&error))?
        .permissions()
        .mode();
    if mode & 0o002 != 0 {
        return Err(format!(
            "may be written by everybody (mode {:04o})",
            mode & 0o7777
        ));
    }
    let warning = (mode & 0o004 != 0).then(|| {
        format!(
            "{} may be read by everybody (mode {:04o})",
            path.display(),
            mode & 0o7777
        )
    });
    let mut text =
        Zeroizing::new(std::fs::read_to_string(path).map_err(|error| cannot_read(&error))?);
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    Ok(SecretFile { text, warning })
}

fn cannot_read(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "does not exist".to_owned(),
        io::ErrorKind::InvalidData => "is not UTF-8 text".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}
