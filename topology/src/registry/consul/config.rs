//! How the Consul agent is reached, read from the variables that Consul's own programs read.
//!
//! Pure: variables in, a configuration or every problem with them out. Opens no file.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use reqwest::Url;
use zeroize::Zeroizing;

/// Where an agent listens unless told otherwise.
const DEFAULT_ADDRESS: &str = "127.0.0.1:8500";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub address: Address,
    pub token: Token,
    pub login: Option<Login>,
    pub tls: Tls,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `http` or `https`, a host, and nothing behind it.
    Http(Url),
    Unix(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// The rights of anybody.
    Anonymous,
    Given(Secret),
    /// Read again with every request, so that it can be replaced.
    File(PathBuf),
}

/// HTTP basic authentication, for a proxy before the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub password: Secret,
}

/// Counts only for `https`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// `false` trusts anybody who answers.
    pub verify: bool,
    /// PEM files that take the place of the system's certificate authorities.
    pub authority_file: Option<PathBuf>,
    /// The same, a folder of them.
    pub authority_folder: Option<PathBuf>,
    pub identity: Option<Identity>,
    /// The name that the agent's certificate is for, if not that of the address.
    pub server_name: Option<String>,
}

/// What we show to an agent that asks who we are; PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Text that must not be seen.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A variable that cannot be used. Says nothing of the value of one that may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable} {problem}")]
pub struct Problem {
    pub variable: &'static str,
    pub problem: String,
}

/// Everything that is wrong with the variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Each variable and what is wrong with it.
    #[must_use]
    pub fn named(self) -> Vec<(&'static str, String)> {
        let problems = self.0.into_iter();
        problems.map(|it| (it.variable, it.problem)).collect()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl Config {
    /// Reads the variables whose names begin with `CONSUL_`. An empty one counts as absent.
    ///
    /// # Errors
    /// All problems at once.
    pub fn from_variables(variables: &BTreeMap<String, String>) -> Result<Self, Problems> {
        let mut read = Read {
            variables,
            problems: Vec::new(),
        };
        let config = Self {
            address: read.address(),
            token: read.token(),
            login: read.login(),
            tls: read.tls(),
        };
        if read.problems.is_empty() {
            Ok(config)
        } else {
            Err(Problems(read.problems))
        }
    }
}

struct Read<'a> {
    variables: &'a BTreeMap<String, String>,
    problems: Vec<Problem>,
}

impl<'a> Read<'a> {
    fn text(&self, variable: &str) -> Option<&'a str> {
        let text = self.variables.get(variable)?.trim();
        (!text.is_empty()).then_some(text)
    }

    fn path(&self, variable: &str) -> Option<PathBuf> {
        self.text(variable).map(PathBuf::from)
    }

    fn problem(&mut self, variable: &'static str, problem: impl Into<String>) {
        let problem = problem.into();
        self.problems.push(Problem { variable, problem });
    }

    fn flag(&mut self, variable: &'static str, default: bool) -> bool {
        match self.text(variable) {
            None => default,
            Some("1" | "t" | "T" | "true" | "True" | "TRUE") => true,
            Some("0" | "f" | "F" | "false" | "False" | "FALSE") => false,
            Some(other) => {
                self.problem(variable, format!("is {other:?}, expected true or false"));
                default
            }
        }
    }

    fn address(&mut self) -> Address {
        const VARIABLE: &str = "CONSUL_HTTP_ADDR";
        let ssl = self.flag("CONSUL_HTTP_SSL", false);
        let text = self.text(VARIABLE).unwrap_or(DEFAULT_ADDRESS);
        match address(text, ssl) {
            Ok(address) => address,
            Err(why) => {
                let expected = "host:port, http://host, https://host or unix:///path";
                self.problem(VARIABLE, format!("{why}, expected {expected}"));
                Address::Unix(PathBuf::new())
            }
        }
    }

    fn token(&mut self) -> Token {
        if let Some(path) = self.path("CONSUL_HTTP_TOKEN_FILE") {
            return Token::File(path);
        }
        let Some(text) = self.text("CONSUL_HTTP_TOKEN") else {
            return Token::Anonymous;
        };
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let problem = "has characters that a token cannot have";
            self.problem("CONSUL_HTTP_TOKEN", problem);
        }
        Token::Given(Secret::new(text))
    }

    fn login(&mut self) -> Option<Login> {
        const VARIABLE: &str = "CONSUL_HTTP_AUTH";
        let text = self.text(VARIABLE)?;
        let (user, password) = text.split_once(':').unwrap_or((text, ""));
        if user.is_empty() || text.chars().any(char::is_control) {
            self.problem(VARIABLE, "is not of the form user:password");
        }
        Some(Login {
            user: user.to_owned(),
            password: Secret::new(password),
        })
    }

    fn tls(&mut self) -> Tls {
        const CERTIFICATE: &str = "CONSUL_CLIENT_CERT";
        const KEY: &str = "CONSUL_CLIENT_KEY";
        let identity = match (self.path(CERTIFICATE), self.path(KEY)) {
            (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
            (Some(_), None) => {
                self.problem(KEY, format!("is missing, {CERTIFICATE} is set"));
                None
            }
            (None, Some(_)) => {
                self.problem(CERTIFICATE, format!("is missing, {KEY} is set"));
                None
            }
            (None, None) => None,
        };
        Tls {
            verify: self.flag("CONSUL_HTTP_SSL_VERIFY", true),
            authority_file: self.path("CONSUL_CACERT"),
            authority_folder: self.path("CONSUL_CAPATH"),
            identity,
            server_name: self.server_name(),
        }
    }

    fn server_name(&mut self) -> Option<String> {
        const VARIABLE: &str = "CONSUL_TLS_SERVER_NAME";
        let name = self.text(VARIABLE)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if name.parse::<IpAddr>().is_ok() || !name.chars().all(allowed) {
            self.problem(VARIABLE, format!("is {name:?}, expected a host name"));
        }
        Some(name.to_owned())
    }
}

/// `ssl` makes `https` of what does not say otherwise, and of `http` too, as in Consul's own programs:
/// who asks for encryption gets it. Errors say what is wrong with the text.
fn address(text: &str, ssl: bool) -> Result<Address, String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let scheme = match scheme {
        "unix" => {
            if !rest.starts_with('/') {
                return Err(format!("is {text:?}, whose path is not absolute"));
            }
            return Ok(Address::Unix(PathBuf::from(rest)));
        }
        "https" => "https",
        "" | "http" if ssl => "https",
        "" | "http" => "http",
        other => return Err(format!("has the unknown scheme {other:?}")),
    };
    if rest.contains('@') {
        return Err("has a user in it, which belongs into CONSUL_HTTP_AUTH".to_owned());
    }
    let url = Url::parse(&format!("{scheme}://{rest}"))
        .map_err(|error| format!("is {text:?} ({error})"))?;
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(format!("is {text:?}, which has something behind the host"));
    }
    let has_port = rest.trim_end_matches('/').rsplit_once(':');
    let has_port = has_port.is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if !text.contains("://") && !has_port {
        return Err(format!("is {text:?}, which has no port"));
    }
    Ok(Address::Http(url))
}
