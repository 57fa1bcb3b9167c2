use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use expect_test::{Expect, expect, expect_file};

use super::*;
use crate::Secret;

const PROGRAM: Program = Program {
    name: "pipemesh-test",
    about: "Something to configure.",
    version: "1.2.3",
    settings: &[&[
        Setting::required("node.region", "Where this node runs.", "eu-west-1"),
        Setting::optional("node.id", "Its name; made up if not set.", "node-a"),
        Setting::with_default("media.udp_port", "Port of the first shard.", "7882"),
        Setting::with_default("drain.grace", "How long a drain may take.", "3h"),
        Setting::switch("http.demo", "Hand out tokens to anybody."),
        Setting::required("auth.secret", "Signs tokens.", "").secret(),
    ]],
};

#[derive(Debug, PartialEq)]
struct Config {
    region: String,
    id: Option<String>,
    port: u16,
    grace: Duration,
    demo: bool,
    secret: Secret,
}

fn read(values: &mut Values<'_>) -> Option<Config> {
    let region = values.required("node.region", parse::text);
    let id = values.optional("node.id", parse::text);
    let port = values.required("media.udp_port", parse::port);
    let grace = values.required("drain.grace", parse::duration);
    let demo = values.required("http.demo", parse::boolean);
    let secret = values.required("auth.secret", parse::secret);
    Some(Config {
        region: region?,
        id: id?,
        port: port?,
        grace: grace?,
        demo: demo?,
        secret: secret?,
    })
}

const SECRET: &str = "8d1f0a3c5b7e9d2f4a6c8e0b1d3f5a79";
const REGION: (&str, &str) = ("PIPEMESH_TEST_NODE_REGION", "eu-west-1");
const AUTH: (&str, &str) = ("PIPEMESH_TEST_AUTH_SECRET", SECRET);

fn run_with(arguments: &[&str], environment: &[(&str, &str)]) -> Outcome<Config> {
    let arguments = ["pipemesh-test"]
        .iter()
        .chain(arguments)
        .map(OsString::from);
    let environment = environment
        .iter()
        .map(|&(name, value)| (name.into(), value.into()));
    super::run(&PROGRAM, arguments, environment, read)
}

fn config(arguments: &[&str], environment: &[(&str, &str)]) -> Config {
    match run_with(arguments, environment) {
        Outcome::Run { config, .. } => config,
        Outcome::Exit { out, err, code } => panic!("ended with {code}: {out}{err}"),
    }
}

fn exit(arguments: &[&str], environment: &[(&str, &str)]) -> (String, String, u8) {
    match run_with(arguments, environment) {
        Outcome::Run { config, .. } => panic!("would run with {config:?}"),
        Outcome::Exit { out, err, code } => (out, err, code),
    }
}

/// A directory for files of one test, and the path of a file in it.
fn file(text: &str, mode: u32) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (directory, path)
}

#[test]
fn three_mistakes_are_three_lines_and_exit_code_78() {
    let environment = [
        ("PIPEMESH_TEST_AUTH_SECRET", "secret"),
        ("PIPEMESH_TEST_MEDIA_UDP_PORT", "77x"),
    ];
    for arguments in [&[][..], &["run"], &["check-config"]] {
        let (out, err, code) = exit(arguments, &environment);
        assert_eq!((out.as_str(), code), ("", 78), "{arguments:?}");
        expect![[r#"
            error: the configuration is not valid (3 problems)
              PIPEMESH_TEST_NODE_REGION             is missing; example: eu-west-1
              PIPEMESH_TEST_MEDIA_UDP_PORT = "77x"  is not a port number (1-65535)  [from environment]
              PIPEMESH_TEST_AUTH_SECRET = "***"     is 6 bytes, needs at least 32; it may also come from a file: PIPEMESH_TEST_AUTH_SECRET_FILE  [from environment]
              hint: pipemesh-test print-config --redacted shows where each value comes from
        "#]]
        .assert_eq(&err);
    }
}

#[test]
fn unknown_names_get_a_suggestion() {
    let (_directory, path) = file("[media]\nudp_prot = 1\n[other]\nthing = 1\n", 0o600);
    let environment = [
        REGION,
        AUTH,
        ("PIPEMESH_TEST_DRAIN_GRACES", "1s"),
        ("PIPEMESH_TEST_WHATEVER", "1s"),
        ("PIPEMESH_OTHER_DRAIN_GRACE", "of another process"),
    ];
    let (_, err, code) = exit(&["--config", &path], &environment);
    assert_eq!(code, 78);
    expect![[r#"
        error: the configuration is not valid (4 problems)
          PIPEMESH_TEST_DRAIN_GRACES  is not a known variable; did you mean PIPEMESH_TEST_DRAIN_GRACE?  [from environment]
          PIPEMESH_TEST_WHATEVER      is not a known variable  [from environment]
          media.udp_prot              is not a known key; did you mean media.udp_port?  [from FILE]
          other.thing                 is not a known key  [from FILE]
          hint: pipemesh-test print-config --redacted shows where each value comes from
    "#]]
    .assert_eq(&err.replace(&path, "FILE"));
}

#[test]
fn a_kubernetes_service_of_the_same_name_is_no_typo() {
    let links = [
        REGION,
        AUTH,
        ("PIPEMESH_TEST_SERVICE_HOST", "10.0.0.1"),
        ("PIPEMESH_TEST_SERVICE_PORT_HTTP", "7880"),
        ("PIPEMESH_TEST_PORT", "tcp://10.0.0.1:7880"),
        ("PIPEMESH_TEST_PORT_7880_TCP", "tcp://10.0.0.1:7880"),
        ("PIPEMESH_TEST_PORT_7880_TCP_ADDR", "10.0.0.1"),
    ];
    assert_eq!(config(&[], &links).region, "eu-west-1");
}

#[test]
fn the_higher_layer_wins() {
    let (_directory, path) = file("[media]\nudp_port = 3\n[drain]\ngrace = \"3s\"\n", 0o644);
    let port = "PIPEMESH_TEST_MEDIA_UDP_PORT";
    let flag = "--media-udp-port=1";
    let check = |arguments: &[&str], environment: &[(&str, &str)], expected: u16| {
        let environment = [&[REGION, AUTH], environment].concat();
        assert_eq!(
            config(arguments, &environment).port,
            expected,
            "{arguments:?}"
        );
    };
    check(&[], &[], 7882);
    check(&["--config", &path], &[], 3);
    check(&["--config", &path], &[(port, "2")], 2);
    check(&["--config", &path, flag], &[(port, "2")], 1);
    check(&["run", flag], &[(port, "2")], 1);
    check(&[flag, "run"], &[(port, "2")], 1);
    check(&[], &[("PIPEMESH_CONFIG_FILE", &path)], 3);
}

#[test]
fn a_higher_layer_hides_a_mistake_below() {
    let environment = [REGION, AUTH, ("PIPEMESH_TEST_DRAIN_GRACE", "soon")];
    assert_eq!(
        config(&["--drain-grace", "5s"], &environment).grace,
        Duration::from_secs(5)
    );
}

#[test]
fn switches_need_no_value() {
    let environment = [REGION, AUTH];
    assert!(!config(&[], &environment).demo);
    assert!(config(&["--http-demo"], &environment).demo);
    assert!(config(&["--http-demo", "run"], &environment).demo);
    assert!(!config(&["--http-demo=false"], &environment).demo);
}

#[test]
fn a_secret_comes_from_a_file_in_every_layer() {
    let (_directory, secret) = file(&format!("{SECRET}\n"), 0o600);
    let (_other, toml) = file(&format!("[auth]\nsecret_file = {secret:?}\n"), 0o600);
    let check = |arguments: &[&str], environment: &[(&str, &str)]| {
        let environment = [&[REGION], environment].concat();
        assert_eq!(
            config(arguments, &environment).secret.expose(),
            SECRET,
            "{arguments:?}"
        );
    };
    check(&["--auth-secret-file", &secret], &[]);
    check(&[], &[("PIPEMESH_TEST_AUTH_SECRET_FILE", &secret)]);
    check(&["--config", &toml], &[]);
}

#[test]
fn files_of_secrets_are_looked_at() {
    let check = |text: &str, mode: u32, expected: Expect| {
        let (_directory, path) = file(text, mode);
        let environment = [REGION, ("PIPEMESH_TEST_AUTH_SECRET_FILE", path.as_str())];
        let said = match run_with(&[], &environment) {
            Outcome::Run { notes, .. } => notes.warnings.join("\n"),
            Outcome::Exit { err, .. } => err.lines().nth(1).unwrap().to_owned(),
        };
        expected.assert_eq(&said.replace(&path, "FILE"));
    };
    check(SECRET, 0o600, expect![""]);
    check(
        SECRET,
        0o644,
        expect!["FILE may be read by everybody (mode 0644)"],
    );
    check(
        SECRET,
        0o666,
        expect![
            "  PIPEMESH_TEST_AUTH_SECRET  cannot be taken from its file, which may be written by everybody (mode 0666)  [from environment, FILE]"
        ],
    );
    check(
        "\n",
        0o600,
        expect![
            "  PIPEMESH_TEST_AUTH_SECRET  cannot be taken from its file, which is empty  [from environment, FILE]"
        ],
    );
    check(
        "short",
        0o600,
        expect![[
            r#"  PIPEMESH_TEST_AUTH_SECRET = "***"  is 5 bytes, needs at least 32  [from environment, FILE]"#
        ]],
    );
}

#[test]
fn a_secret_given_twice_is_a_problem() {
    let (_directory, path) = file(SECRET, 0o600);
    let environment = [
        REGION,
        AUTH,
        ("PIPEMESH_TEST_AUTH_SECRET_FILE", path.as_str()),
    ];
    let (_, err, _) = exit(&[], &environment);
    assert!(
        err.contains("is given twice, as itself and as a file"),
        "{err}"
    );
}

#[test]
fn a_file_that_cannot_be_used_hides_nothing_but_itself() {
    let check = |path: &str, expected: Expect| {
        let environment = [("PIPEMESH_TEST_MEDIA_UDP_PORT", "0")];
        let (_, err, code) = exit(&["--config", path], &environment);
        assert_eq!(code, 78);
        expected.assert_eq(&err.replace(path, "FILE"));
    };
    check(
        "/nowhere/at-all.toml",
        expect![[r#"
            error: the configuration is not valid (2 problems)
              PIPEMESH_CONFIG_FILE = "FILE"  does not exist
              PIPEMESH_TEST_MEDIA_UDP_PORT = "0"             is not a port number (1-65535)  [from environment]
              hint: pipemesh-test print-config --redacted shows where each value comes from
        "#]],
    );
    let (_directory, path) = file(&format!("[auth]\nsecret = \"{SECRET}\" oops\n"), 0o600);
    check(
        &path,
        expect![[r#"
            error: the configuration is not valid (2 problems)
              PIPEMESH_CONFIG_FILE = "FILE"  is not valid TOML: line 2: unexpected key or value, expected newline, `#`
              PIPEMESH_TEST_MEDIA_UDP_PORT = "0"             is not a port number (1-65535)  [from environment]
              hint: pipemesh-test print-config --redacted shows where each value comes from
        "#]],
    );
}

#[test]
fn print_config_shows_origins_and_no_secret() {
    let (_directory, path) = file("[drain]\ngrace = \"1h\"\n", 0o600);
    let environment = [
        AUTH,
        ("PIPEMESH_TEST_MEDIA_UDP_PORT", "77x"),
        ("RUST_LOG", "debug"),
    ];
    let (out, err, code) = exit(
        &[
            "print-config",
            "--redacted",
            "--config",
            &path,
            "--http-demo",
        ],
        &environment,
    );
    expect![[r#"
        [auth]
        secret = "***"                                    # environment

        [drain]
        grace = "1h"                                      # FILE

        [http]
        demo = "true"                                     # --http-demo

        [log]
        format = "text"                                   # default
        filter = "debug"                                  # environment

        [media]
        udp_port = "77x"                                  # environment

        [node]
        # region                                          # not set
        # id                                              # not set
    "#]]
    .assert_eq(&out.replace(&path, "FILE"));
    expect![[r#"
        error: the configuration is not valid (1 problem)
          PIPEMESH_TEST_NODE_REGION  is missing; example: eu-west-1
          hint: pipemesh-test print-config --redacted shows where each value comes from
    "#]]
    .assert_eq(&err);
    assert_eq!(code, 78);
    assert!(out.parse::<toml::Table>().is_ok(), "{out}");
}

#[test]
fn other_ways_to_end() {
    let check = |arguments: &[&str], code: u8, expected: &str| {
        let (out, err, actual) = exit(arguments, &[REGION, AUTH]);
        assert!((out + &err).contains(expected), "{arguments:?}");
        assert_eq!(actual, code, "{arguments:?}");
    };
    check(&["check-config"], 0, "the configuration is valid\n");
    check(&["--version"], 0, "pipemesh-test 1.2.3\n");
    check(&["--help"], 0, "[required, example: eu-west-1]");
    check(&["--help"], 0, "PIPEMESH_TEST_AUTH_SECRET[_FILE]");
    check(&["--media-udp-prot", "1"], 2, "--media-udp-port");
}

#[test]
fn the_reference_is_markdown() {
    expect_file!["tests/reference.md"].assert_eq(&markdown(&PROGRAM));
}

#[test]
fn secrets_are_in_nothing_that_is_printed() {
    match run_with(&[], &[REGION, AUTH]) {
        Outcome::Run { config, notes, .. } => {
            assert!(!format!("{config:?} {notes:?}").contains(SECRET));
        }
        Outcome::Exit { err, .. } => panic!("{err}"),
    }
}

#[test]
fn values_knows_what_was_never_asked_for() {
    let mut values = Values::load(&PROGRAM, BTreeMap::new(), None, []);
    values.optional("node.id", parse::text);
    assert!(values.unread().contains(&"drain.grace"));
    assert!(!values.unread().contains(&"node.id"));
}

#[test]
fn what_is_tried_and_fails_is_reported_with_its_causes() {
    #[derive(Debug, thiserror::Error)]
    #[error("the file is odd")]
    struct Odd(#[source] std::fmt::Error);

    let environment = [REGION, AUTH].map(|(name, value)| (name.into(), value.into()));
    let mut values = Values::load(&PROGRAM, BTreeMap::new(), None, environment);
    assert_eq!(values.check("node.region", Ok::<_, Odd>(1)), Some(1));
    assert_eq!(
        values.check("node.region", Err::<(), _>(Odd(std::fmt::Error))),
        None
    );
    let problems = values.into_problems().unwrap();
    let problem = problems.iter().next().unwrap();
    expect!["cannot be used: the file is odd: an error occurred when formatting an argument"]
        .assert_eq(&problem.what);
}

#[test]
fn texts_become_types() {
    fn check<T: std::fmt::Debug + PartialEq>(
        parse: impl Fn(&str) -> Result<T, String>,
        rows: &[(&str, Option<T>)],
    ) {
        for (text, expected) in rows {
            assert_eq!(parse(text).ok().as_ref(), expected.as_ref(), "{text:?}");
        }
    }
    let (seconds, millis) = (Duration::from_secs, Duration::from_millis);
    check(
        parse::duration,
        &[
            ("5s", Some(seconds(5))),
            ("100ms", Some(millis(100))),
            ("2m", Some(seconds(120))),
            ("1h30m", Some(seconds(5400))),
            ("0s", Some(Duration::ZERO)),
            ("", None),
            ("5", None),
            ("s", None),
            ("-5s", None),
            ("5 s", None),
            ("99999999999999999999s", None),
            ("9999999999999999999h", None),
        ],
    );
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    check(
        parse::socket_addrs,
        &[
            ("127.0.0.1:1", Some(vec![address("127.0.0.1:1")])),
            (
                "127.0.0.1:1, [::1]:2",
                Some(vec![address("127.0.0.1:1"), address("[::1]:2")]),
            ),
            ("127.0.0.1", None),
            ("127.0.0.1:1,", None),
        ],
    );
    check(
        parse::port,
        &[
            ("1", Some(1)),
            ("65535", Some(65535)),
            ("0", None),
            ("65536", None),
        ],
    );
    check(
        parse::whole(1..=64_u32),
        &[("1", Some(1)), ("64", Some(64)), ("65", None), ("-1", None)],
    );
    check(
        parse::fraction(0.0..=1.0),
        &[("0.5", Some(0.5)), ("1", Some(1.0)), ("NaN", None)],
    );
    check(
        parse::boolean,
        &[("true", Some(true)), ("false", Some(false)), ("yes", None)],
    );
    check(
        parse::one_of(&[("a", 1), ("b", 2)]),
        &[("b", Some(2)), ("c", None)],
    );
    check(parse::path, &[("/a/b", Some(PathBuf::from("/a/b")))]);
    check(parse::from_str::<u8>, &[("7", Some(7)), ("x", None)]);
    check(
        parse::secret,
        &[(SECRET, Secret::new(SECRET, 32).ok()), ("short", None)],
    );
}

#[test]
fn an_item_of_a_list_is_named_in_its_error() {
    expect![[r#"has "x", which is not a port number (1-65535)"#]]
        .assert_eq(&parse::list(parse::port)("1, x").unwrap_err());
}

#[test]
fn toml_values_of_all_kinds_are_text() {
    let (_directory, path) = file(
        "a = 1\n[b]\nc = [\"x\", \"y\"]\nd = true\n[b.e]\nf = 1979-05-27\n",
        0o600,
    );
    let entries = super::file::entries(Path::new(&path)).unwrap();
    let mut shown: Vec<String> = entries.iter().map(|(k, v)| format!("{k}={v:?}")).collect();
    shown.sort();
    expect![
        "a=Some(Zeroizing { .. }) b.c=Some(Zeroizing { .. }) b.d=Some(Zeroizing { .. }) b.e.f=None"
    ]
    .assert_eq(
        &shown
            .join(" ")
            .replace("Zeroizing(\"", "\"")
            .replace("\"))", "\")"),
    );
}
