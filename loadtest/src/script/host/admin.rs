//! Programs that a script starts: what breaks a mesh on purpose is outside of it.

use std::cell::RefCell;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{FusedFuture, join};
use rquickjs::Object;
use rquickjs::prelude::{Async, Func};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

use super::Outcome;
use crate::script::timers::span;
use crate::script::vu::Vu;

/// Of what a program says on each of its outputs; the rest is read and forgotten.
const KEPT: usize = 64 << 10;

/// What it left running may hold its outputs open.
const AFTERWARDS: Duration = Duration::from_millis(500);

pub(super) fn install(host: &Object<'_>, vu: &Rc<Vu>) -> rquickjs::Result<()> {
    let user = Rc::clone(vu);
    let exec = move |program: String, arguments: Vec<String>, limit: f64| {
        let user = Rc::clone(&user);
        async move {
            let _working = user.busy.begin();
            let settings = user
                .shared
                .settings
                .get()
                .filter(|_| !user.is_loading.get());
            Outcome(match settings.map(|it| it.allow_exec) {
                None => {
                    Err("programs are started in functions, not in the init context".to_owned())
                }
                Some(false) => Err("scripts may start programs only with --allow-exec".to_owned()),
                Some(true) => run(&program, &arguments, span(limit)).await,
            })
        }
    };
    host.set("exec", Func::from(Async(exec)))
}

async fn run(program: &str, arguments: &[String], limit: Duration) -> Result<String, String> {
    let spawned = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = spawned.map_err(|error| format!("{program} cannot be started: {error}"))?;
    let (stdout, stderr) = (RefCell::default(), RefCell::default());
    let reading = join(
        keep(child.stdout.take(), &stdout),
        keep(child.stderr.take(), &stderr),
    );
    let mut reading = pin!(reading.fuse());
    let ended = timeout(limit, async {
        let ended: std::io::Result<ExitStatus> = tokio::select! {
            ended = child.wait() => ended,
            _ = &mut reading => child.wait().await,
        };
        if !reading.is_terminated() {
            let _ = timeout(AFTERWARDS, &mut reading).await;
        }
        ended
    });
    match ended.await {
        Err(_) => Err(format!(
            "{program} took longer than {limit:?}, and was killed"
        )),
        Ok(Err(error)) => Err(format!("{program}: {error}")),
        Ok(Ok(status)) => Ok(json!({
            // None if a signal ended it.
            "code": status.code(),
            "stdout": String::from_utf8_lossy(&stdout.borrow()),
            "stderr": String::from_utf8_lossy(&stderr.borrow()),
        })
        .to_string()),
    }
}

async fn keep(output: Option<impl AsyncRead + Unpin>, kept: &RefCell<Vec<u8>>) {
    let Some(mut output) = output else { return };
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = output.read(&mut buffer).await {
        let mut kept = kept.borrow_mut();
        let left = KEPT.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..count.min(left)]);
    }
}
