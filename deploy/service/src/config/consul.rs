//! How the Consul agent is reached: settings that have the variables of Consul's own programs.
//!
//! Owns what they are called and whether Consul is used at all. What a variable's text means is told by
//! whoever asks.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::{Setting, Values, parse};

const ADDRESS: &str = "consul.address";
const TOKEN: &str = "consul.token";
/// Read by whoever knows what a service may be called.
pub const SERVICE: &str = "consul.service";

/// What is said of every variable that is set, by name.
pub type Variables = BTreeMap<String, String>;

/// A variable, and what is wrong with it.
pub type Wrong = (&'static str, String);

pub const SETTINGS: &[Setting] = &[
    Setting::optional(
        ADDRESS,
        "The Consul agent of this machine: `host:port`, `http://host`, `https://host` or `unix:///path`. \
         If set, Consul says which nodes there are; what is below needs it.",
        "127.0.0.1:8500",
    )
    .shared("CONSUL_HTTP_ADDR"),
    Setting::optional(
        SERVICE,
        "What the nodes of this mesh are called in Consul; `pipemesh-node` if not set.",
        "pipemesh-node",
    )
    .shared("PIPEMESH_CONSUL_SERVICE"),
    Setting::optional(TOKEN, "The ACL token. A file is read again with each request.", "")
        .secret()
        .shared("CONSUL_HTTP_TOKEN"),
    Setting::optional("consul.login", "`user:password`, for a proxy before the agent.", "")
        .secret()
        .shared("CONSUL_HTTP_AUTH"),
    Setting::optional(
        "consul.ssl",
        "Whether to speak HTTPS, also where the address says http.",
        "true",
    )
    .shared("CONSUL_HTTP_SSL"),
    Setting::optional(
        "consul.ssl_verify",
        "Whether the agent has to show a certificate that can be trusted; it has to if not set.",
        "true",
    )
    .shared("CONSUL_HTTP_SSL_VERIFY"),
    Setting::optional(
        "consul.authority_file",
        "PEM file with the authorities that sign the agent's certificate. The system's if not set.",
        "/etc/consul/ca.pem",
    )
    .shared("CONSUL_CACERT"),
    Setting::optional(
        "consul.authority_folder",
        "A folder of such files.",
        "/etc/consul/ca",
    )
    .shared("CONSUL_CAPATH"),
    Setting::optional(
        "consul.certificate",
        "PEM file with the certificate shown to the agent.",
        "/etc/consul/client.pem",
    )
    .shared("CONSUL_CLIENT_CERT"),
    Setting::optional(
        "consul.key",
        "PEM file with its key.",
        "/etc/consul/client.key",
    )
    .shared("CONSUL_CLIENT_KEY"),
    Setting::optional(
        "consul.server_name",
        "Name in the agent's certificate, if it is not that of the address.",
        "server.dc1.consul",
    )
    .shared("CONSUL_TLS_SERVER_NAME"),
];

/// Reads [`SETTINGS`], the service's name aside: `Some(None)` if Consul is not used, `None` if there is
/// a problem. `parse` makes something of the variables, or says of each that is wrong what is.
pub fn read<C>(
    values: &mut Values<'_>,
    parse: impl FnOnce(&Variables) -> Result<C, Vec<Wrong>>,
) -> Option<Option<C>> {
    let variables = variables(values)?;
    if values.origin(ADDRESS).is_none() {
        let mut is_idle = true;
        for setting in SETTINGS {
            if values.origin(setting.key).is_some() {
                values.problem(setting.key, "has no effect without consul.address");
                is_idle = false;
            }
        }
        return is_idle.then_some(None);
    }
    match parse(&variables) {
        Ok(parsed) => Some(Some(parsed)),
        Err(problems) => {
            for (variable, what) in problems {
                values.problem(key_of(variable), what);
            }
            None
        }
    }
}

fn variables(values: &mut Values<'_>) -> Option<Variables> {
    let mut variables = Variables::new();
    let mut readable = true;
    for setting in SETTINGS.iter().filter(|it| it.is_foreign()) {
        let variable = setting.variable.expect("every one of them has one");
        let Some(text) = values.optional(setting.key, parse::text) else {
            readable = false;
            continue;
        };
        match (setting.key, values.file(setting.key)) {
            (TOKEN, Some(path)) => {
                let path = path.display().to_string();
                variables.insert(format!("{variable}_FILE"), path);
            }
            _ => variables.extend(text.map(|text| (variable.to_owned(), text))),
        }
    }
    readable.then_some(variables)
}

fn key_of(variable: &str) -> &'static str {
    let mut settings = SETTINGS.iter();
    let setting = settings.find(|setting| setting.variable == Some(variable));
    setting.map_or(ADDRESS, |setting| setting.key)
}
