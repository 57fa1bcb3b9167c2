//! What scripts can import: the modules that are built in, and files of their own folder.

use std::sync::Arc;

use rquickjs::loader::{ImportAttributes, Loader, Resolver};
use rquickjs::module::Declared;
use rquickjs::{Ctx, Error, Module, Result};

use super::files::Files;

/// For scripts.
const MODULES: [(&str, &str); 9] = [
    ("k6", include_str!("modules/k6.js")),
    ("k6/metrics", include_str!("modules/metrics.js")),
    ("k6/execution", include_str!("modules/execution.js")),
    ("k6/data", include_str!("modules/data.js")),
    ("k6/http", include_str!("modules/http.js")),
    ("k6/crypto", include_str!("modules/crypto.js")),
    ("k6/encoding", include_str!("modules/encoding.js")),
    ("k6/timers", include_str!("modules/timers.js")),
    ("sfu", include_str!("modules/sfu.js")),
];

/// For those modules.
const INNER: [(&str, &str); 2] = [
    ("pipemesh:turn", include_str!("modules/turn.js")),
    ("pipemesh:bytes", include_str!("modules/bytes.js")),
];

/// Run before every script.
pub(super) const GLOBALS: &str = include_str!("modules/globals.js");
pub(super) const GLOBALS_NAME: &str = "pipemesh:globals";

/// Whether a name in a stack trace is one of ours, not of the script.
pub(super) fn is_ours(name: &str) -> bool {
    let modules = MODULES.iter().chain(&INNER).map(|(name, _)| *name);
    modules.chain([GLOBALS_NAME]).any(|it| it == name)
}

fn source(name: &str) -> Option<&'static str> {
    let mut known = MODULES.iter().chain(&INNER);
    known.find(|(it, _)| *it == name).map(|(_, source)| *source)
}

pub(super) struct Imports(pub(super) Arc<Files>);

impl Resolver for Imports {
    fn resolve<'js>(
        &mut self,
        _ctx: &Ctx<'js>,
        base: &str,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<String> {
        let refused = |why: String| Error::new_resolving_message(base, name, why);
        if MODULES.iter().any(|(it, _)| *it == name) {
            return Ok(name.to_owned());
        }
        if INNER.iter().any(|(it, _)| *it == name) && is_ours(base) {
            return Ok(name.to_owned());
        }
        if name.starts_with("./") || name.starts_with("../") {
            let resolved = self.0.resolve(base, name);
            return resolved.map_err(|error| refused(error.to_string()));
        }
        if name.contains("://") {
            return Err(refused(
                "modules are not fetched from the network; put the file beside the script".into(),
            ));
        }
        let existing: Vec<&str> = MODULES.iter().map(|(name, _)| *name).collect();
        Err(refused(format!(
            "there is no such module; there are {}, and files that begin with ./",
            existing.join(", ")
        )))
    }
}

impl Loader for Imports {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<Module<'js, Declared>> {
        if let Some(source) = source(name) {
            return Module::declare(ctx.clone(), name, source);
        }
        let text = self.0.text(name);
        let text = text.map_err(|error| Error::new_loading_message(name, super::chain(&error)))?;
        if name.ends_with(".json") {
            return Module::declare(ctx.clone(), name, format!("export default {text};"));
        }
        Module::declare(ctx.clone(), name, text)
    }
}
