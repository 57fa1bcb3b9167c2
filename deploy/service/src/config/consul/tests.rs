use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use expect_test::expect;

use super::*;
use crate::config::{Outcome, Program, run};

const PROGRAM: Program = Program {
    name: "pipemesh-test",
    about: "Something to configure.",
    version: "1.2.3",
    settings: &[SETTINGS],
};

/// What is read, or what is said instead.
fn read_with(
    arguments: &[&str],
    environment: &[(&str, &str)],
    parse: fn(&Variables) -> Result<Variables, Vec<Wrong>>,
) -> Result<Option<Variables>, String> {
    let arguments = ["pipemesh-test"].iter().chain(arguments);
    let environment = environment
        .iter()
        .map(|&(name, value)| (OsString::from(name), value.into()));
    let read = |values: &mut Values<'_>| {
        values.optional(SERVICE, parse::text);
        read(values, parse)
    };
    match run(&PROGRAM, arguments.map(OsString::from), environment, read) {
        Outcome::Run { config, .. } => Ok(config),
        Outcome::Exit { err, .. } => Err(err),
    }
}

fn variables(arguments: &[&str], environment: &[(&str, &str)]) -> Option<Variables> {
    read_with(arguments, environment, |given| Ok(given.clone())).unwrap()
}

#[test]
fn consul_is_used_when_its_address_is_known() {
    assert_eq!(variables(&[], &[]), None);
    let environment = [
        ("CONSUL_HTTP_ADDR", "127.0.0.1:8500"),
        ("CONSUL_HTTP_TOKEN", "t"),
        ("CONSUL_HTTP_SSL", ""),
        ("CONSUL_NAMESPACE", "of a later Consul"),
        ("PIPEMESH_CONSUL_SERVICE", "another-mesh"),
    ];
    let given = [
        ("CONSUL_HTTP_ADDR", "127.0.0.1:8500"),
        ("CONSUL_HTTP_TOKEN", "t"),
    ];
    let given = given.map(|(name, text)| (name.to_owned(), text.to_owned()));
    assert_eq!(variables(&[], &environment), Some(given.into()));
    let flag = variables(&["--consul-address", "[::1]:1"], &environment).unwrap();
    assert_eq!(flag["CONSUL_HTTP_ADDR"], "[::1]:1", "flags win");
}

#[test]
fn an_empty_address_is_none() {
    assert_eq!(variables(&[], &[("CONSUL_HTTP_ADDR", "")]), None);
}

#[test]
fn the_file_of_a_token_is_left_to_be_read_again() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, "first").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let path = file.path().to_str().unwrap();
    let environment = [
        ("CONSUL_HTTP_ADDR", "a:1"),
        ("CONSUL_HTTP_TOKEN_FILE", path),
    ];
    let given = variables(&[], &environment).unwrap();
    assert_eq!(given["CONSUL_HTTP_TOKEN_FILE"], path);
    assert!(!given.contains_key("CONSUL_HTTP_TOKEN"));
}

#[test]
fn what_is_wrong_is_said_of_the_setting_and_never_what_is_secret() {
    let wrong = [("CONSUL_HTTP_ADDR", "a"), ("CONSUL_HTTP_TOKEN", "t t")];
    let said = read_with(&[], &wrong, |_| {
        Err(vec![
            ("CONSUL_HTTP_ADDR", "is \"a\", which has no port".to_owned()),
            ("CONSUL_HTTP_TOKEN", "has a space".to_owned()),
        ])
    });
    expect![[r#"
        error: the configuration is not valid (2 problems)
          CONSUL_HTTP_ADDR = "a"     is "a", which has no port  [from environment]
          CONSUL_HTTP_TOKEN = "***"  has a space; it may also come from a file: CONSUL_HTTP_TOKEN_FILE  [from environment]
          hint: pipemesh-test print-config --redacted shows where each value comes from
    "#]]
    .assert_eq(&said.unwrap_err());
}

#[test]
fn what_has_no_effect_is_no_secret() {
    let environment = [
        ("CONSUL_HTTP_TOKEN", "t"),
        ("PIPEMESH_CONSUL_SERVICE", "another-mesh"),
    ];
    let said = read_with(&[], &environment, |_| panic!("Consul is not used"));
    expect![[r#"
        error: the configuration is not valid (2 problems)
          PIPEMESH_CONSUL_SERVICE = "another-mesh"  has no effect without consul.address  [from environment]
          CONSUL_HTTP_TOKEN = "***"                 has no effect without consul.address; it may also come from a file: CONSUL_HTTP_TOKEN_FILE  [from environment]
          hint: pipemesh-test print-config --redacted shows where each value comes from
    "#]]
    .assert_eq(&said.unwrap_err());
}
