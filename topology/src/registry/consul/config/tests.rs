use super::*;

fn read(variables: &[(&str, &str)]) -> Result<Config, Problems> {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::from_variables(&variables.collect())
}

fn http(url: &str) -> Address {
    Address::Http(url.parse().unwrap())
}

#[test]
fn without_variables_the_agent_is_on_this_machine() {
    let config = read(&[("CONSUL_HTTP_TOKEN", ""), ("PATH", "/bin")]).unwrap();
    let expected = Config {
        address: http("http://127.0.0.1:8500"),
        token: Token::Anonymous,
        login: None,
        tls: Tls {
            verify: true,
            authority_file: None,
            authority_folder: None,
            identity: None,
            server_name: None,
        },
    };
    assert_eq!(config, expected);
}

#[test]
fn addresses() {
    let check = |address: &str, ssl: &str, expected: Address| {
        let variables = [("CONSUL_HTTP_ADDR", address), ("CONSUL_HTTP_SSL", ssl)];
        assert_eq!(read(&variables).unwrap().address, expected, "{address}");
    };
    check("consul:8500", "", http("http://consul:8500"));
    check("[::1]:8500", "", http("http://[::1]:8500"));
    check("10.0.0.1:8501", "true", http("https://10.0.0.1:8501"));
    check("http://consul:80", "", http("http://consul"));
    check("http://consul:8501", "1", http("https://consul:8501"));
    check("https://consul", "", http("https://consul:443"));
    check("https://consul:8501/", "false", http("https://consul:8501"));
    check(
        "unix:///run/c.sock",
        "",
        Address::Unix("/run/c.sock".into()),
    );
}

#[test]
fn everything_that_can_be_set() {
    let config = read(&[
        ("CONSUL_HTTP_TOKEN", "t0ken"),
        ("CONSUL_HTTP_AUTH", "me:pass:word"),
        ("CONSUL_HTTP_SSL_VERIFY", "false"),
        ("CONSUL_CACERT", "/ca.pem"),
        ("CONSUL_CAPATH", "/cas"),
        ("CONSUL_CLIENT_CERT", "/c.pem"),
        ("CONSUL_CLIENT_KEY", "/k.pem"),
        ("CONSUL_TLS_SERVER_NAME", "server.dc1.consul"),
    ])
    .unwrap();
    assert_eq!(config.token, Token::Given(Secret::new("t0ken")));
    let login = Login {
        user: "me".to_owned(),
        password: Secret::new("pass:word"),
    };
    assert_eq!(config.login, Some(login));
    let tls = Tls {
        verify: false,
        authority_file: Some("/ca.pem".into()),
        authority_folder: Some("/cas".into()),
        identity: Some(Identity {
            certificate: "/c.pem".into(),
            key: "/k.pem".into(),
        }),
        server_name: Some("server.dc1.consul".to_owned()),
    };
    assert_eq!(config.tls, tls);
}

#[test]
fn a_token_file_goes_before_a_token() {
    let variables = [
        ("CONSUL_HTTP_TOKEN", "t0ken"),
        ("CONSUL_HTTP_TOKEN_FILE", "/run/token"),
    ];
    let config = read(&variables).unwrap();
    assert_eq!(config.token, Token::File("/run/token".into()));
}

#[test]
fn secrets_are_not_printed() {
    let variables = [
        ("CONSUL_HTTP_TOKEN", "s3cret-token"),
        ("CONSUL_HTTP_AUTH", "me:s3cret-word"),
    ];
    let printed = format!("{:?}", read(&variables).unwrap());
    assert!(!printed.contains("s3cret"), "{printed}");
    let bad = [
        ("CONSUL_HTTP_TOKEN", "s3cret token"),
        ("CONSUL_HTTP_AUTH", ":s3cret-word"),
        ("CONSUL_HTTP_ADDR", "http://me:s3cret@host:1"),
    ];
    let problems = read(&bad).unwrap_err();
    assert_eq!(problems.0.len(), 3);
    let printed = format!("{problems} {problems:?}");
    assert!(!printed.contains("s3cret"), "{printed}");
}

#[test]
fn what_cannot_be_used_is_named() {
    let check = |variable: &str, value: &str, part: &str| {
        let problems = read(&[(variable, value)]).unwrap_err().to_string();
        let named = problems.contains(variable) || problems.contains("_CERT is missing");
        assert!(named && problems.contains(part), "{problems}");
    };
    check("CONSUL_HTTP_ADDR", "consul", "no port");
    check("CONSUL_HTTP_ADDR", "consul:http", "invalid port");
    check(
        "CONSUL_HTTP_ADDR",
        "tcp://consul:1",
        "unknown scheme \"tcp\"",
    );
    check("CONSUL_HTTP_ADDR", "http://consul:1/x", "behind the host");
    check("CONSUL_HTTP_ADDR", "unix://run/c.sock", "not absolute");
    check("CONSUL_HTTP_SSL", "yes", "expected true or false");
    check("CONSUL_HTTP_SSL_VERIFY", "no", "expected true or false");
    check("CONSUL_HTTP_AUTH", ":word", "user:password");
    check(
        "CONSUL_CLIENT_CERT",
        "/c.pem",
        "CONSUL_CLIENT_KEY is missing",
    );
    check(
        "CONSUL_CLIENT_KEY",
        "/k.pem",
        "CONSUL_CLIENT_CERT is missing",
    );
    check("CONSUL_TLS_SERVER_NAME", "10.0.0.1", "expected a host name");
    let both = [("CONSUL_HTTP_SSL", "yes"), ("CONSUL_HTTP_ADDR", "consul")];
    assert_eq!(read(&both).unwrap_err().0.len(), 2);
}
