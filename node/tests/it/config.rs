//! The binary and its configuration.

use std::process::Output;

use tokio::process::Command;

use crate::support::within;

/// `EX_CONFIG`.
const MISCONFIGURED: i32 = 78;

const LISTEN: (&str, &str) = ("CONTROL_LISTEN", "127.0.0.1:0");

fn command(settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pipemesh-node"));
    command.env_clear().kill_on_drop(true);
    for (name, value) in settings {
        command.env(format!("PIPEMESH_NODE_{name}"), value);
    }
    command
}

async fn ends(mut command: Command) -> (i32, Vec<String>) {
    let output = within("the process ends", command.output()).await;
    let Output {
        status,
        stdout,
        stderr,
    } = output.unwrap();
    let said = String::from_utf8([stdout, stderr].concat()).unwrap();
    let lines = said.lines().map(ToOwned::to_owned).collect();
    (status.code().expect("it is not killed"), lines)
}

#[tokio::test]
async fn every_mistake_is_told_at_once() {
    let mistakes = [
        LISTEN,
        ("MESH_REGION", "eu west"),
        ("MEDIA_SHARDS", "0"),
        ("SESSION_GRACE", "1h"),
    ];
    for check_only in [false, true] {
        let mut command = command(&mistakes);
        if check_only {
            command.arg("check-config");
        }
        let (code, lines) = ends(command).await;
        assert_eq!(code, MISCONFIGURED, "{lines:#?}");
        let about = |name: &str| lines.iter().filter(|line| line.contains(name)).count();
        for name in ["MESH_REGION", "MEDIA_SHARDS", "SESSION_GRACE"] {
            assert_eq!(about(name), 1, "{name}: {lines:#?}");
        }
        assert!(lines[0].contains("3 problems"), "{lines:#?}");
    }
}

/// Whether the kernel has any is another question.
#[tokio::test]
async fn memory_is_asked_for_in_huge_pages() {
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = port.local_addr().unwrap().port().to_string();
    let settings = [
        LISTEN,
        ("OPERATOR_LISTEN", "127.0.0.1:0"),
        ("MEDIA_BIND", "127.0.0.1"),
        ("MEDIA_PORT", &port),
        ("MEDIA_TCP_PORT", "off"),
        ("MESH_REGION", "eu-west"),
    ];
    let mut process = command(&settings).spawn().unwrap();
    let maps = format!("/proc/{}/smaps", process.id().unwrap());
    within("its heap is marked", async {
        loop {
            let flags = std::fs::read_to_string(&maps).unwrap();
            let mut flags = flags
                .lines()
                .filter_map(|line| line.strip_prefix("VmFlags:"));
            if flags.any(|flags| flags.split(' ').any(|flag| flag == "hg")) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    process.kill().await.unwrap();
}

#[tokio::test]
async fn a_good_configuration_is_shown_without_its_secret() {
    let secret = "5c1de0b4a7f93826e1c05b7d94f2a3688";
    let settings = [
        LISTEN,
        ("MESH_REGION", "eu"),
        ("MESH_NODE_ID", "node-a"),
        ("CONTROL_SECRET", secret),
    ];
    for arguments in [&["check-config"][..], &["print-config", "--redacted"]] {
        let mut command = command(&settings);
        command.args(arguments);
        let (code, lines) = ends(command).await;
        assert_eq!(code, 0, "{lines:#?}");
        let shown = lines.join("\n");
        assert!(!shown.contains(secret), "{shown}");
        if arguments.len() > 1 {
            assert!(shown.contains("node-a"), "{shown}");
        }
    }
}
